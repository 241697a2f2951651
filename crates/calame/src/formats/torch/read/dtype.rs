//! The number formats of PyTorch's storages.

use std::fmt;

use half::f16;

/// The format of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorchDtype {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 16-bit float of IEEE 754.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 8 bits.
    U8,
    /// One byte, 0 or 1.
    Bool,
    /// Two 32-bit floats.
    C64,
    /// Two 64-bit floats.
    C128,
}

impl TorchDtype {
    /// The format of PyTorch's storage type of this name; None for what is no such type.
    pub(in crate::formats) fn of_storage(name: &str) -> Option<TorchDtype> {
        Some(match name {
            "FloatStorage" => TorchDtype::F32,
            "DoubleStorage" => TorchDtype::F64,
            "HalfStorage" => TorchDtype::F16,
            "BFloat16Storage" => TorchDtype::Bf16,
            "LongStorage" => TorchDtype::I64,
            "IntStorage" => TorchDtype::I32,
            "ShortStorage" => TorchDtype::I16,
            "CharStorage" => TorchDtype::I8,
            "ByteStorage" => TorchDtype::U8,
            "BoolStorage" => TorchDtype::Bool,
            "ComplexFloatStorage" => TorchDtype::C64,
            "ComplexDoubleStorage" => TorchDtype::C128,
            _ => return None,
        })
    }

    /// Bytes of one element.
    pub fn n_bytes(self) -> usize {
        match self {
            TorchDtype::I8 | TorchDtype::U8 | TorchDtype::Bool => 1,
            TorchDtype::F16 | TorchDtype::Bf16 | TorchDtype::I16 => 2,
            TorchDtype::F32 | TorchDtype::I32 => 4,
            TorchDtype::F64 | TorchDtype::I64 | TorchDtype::C64 => 8,
            TorchDtype::C128 => 16,
        }
    }

    /// Whether it can be read as f32.
    pub fn is_float(self) -> bool {
        matches!(self, TorchDtype::F32 | TorchDtype::F64 | TorchDtype::F16 | TorchDtype::Bf16)
    }

    /// One element, little-endian, rounded to f32; zero where the format is no float.
    pub(super) fn decode(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (TorchDtype::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (TorchDtype::F64, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
            (TorchDtype::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
            (TorchDtype::Bf16, &[a, b]) => f32::from_le_bytes([0, 0, a, b]),
            _ => 0.0,
        }
    }
}

impl fmt::Display for TorchDtype {
    /// PyTorch's own name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TorchDtype::F32 => "float32",
            TorchDtype::F64 => "float64",
            TorchDtype::F16 => "float16",
            TorchDtype::Bf16 => "bfloat16",
            TorchDtype::I64 => "int64",
            TorchDtype::I32 => "int32",
            TorchDtype::I16 => "int16",
            TorchDtype::I8 => "int8",
            TorchDtype::U8 => "uint8",
            TorchDtype::Bool => "bool",
            TorchDtype::C64 => "complex64",
            TorchDtype::C128 => "complex128",
        })
    }
}
