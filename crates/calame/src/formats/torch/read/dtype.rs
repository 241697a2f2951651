//! The number formats of PyTorch's storages.

use std::fmt;

use half::f16;

/// Number format of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorchDtype {
    /// 32-bit float, PyTorch's `float32`.
    F32,
    /// 64-bit float, PyTorch's `float64`.
    F64,
    /// 16-bit IEEE 754 float, PyTorch's `float16`.
    F16,
    /// The upper half of a 32-bit float, PyTorch's `bfloat16`.
    Bf16,
    /// Signed 64-bit integer, PyTorch's `int64`.
    I64,
    /// Signed 32-bit integer, PyTorch's `int32`.
    I32,
    /// Signed 16-bit integer, PyTorch's `int16`.
    I16,
    /// Signed 8-bit integer, PyTorch's `int8`.
    I8,
    /// Unsigned 8-bit integer, PyTorch's `uint8`.
    U8,
    /// Boolean in one byte, 0 or 1.
    Bool,
    /// Complex number of two 32-bit floats.
    C64,
    /// Complex number of two 64-bit floats.
    C128,
}

impl TorchDtype {
    /// The format of PyTorch's storage type with this name; `None` for other names.
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

    /// Size of one element in bytes.
    pub fn n_bytes(self) -> usize {
        match self {
            TorchDtype::I8 | TorchDtype::U8 | TorchDtype::Bool => 1,
            TorchDtype::F16 | TorchDtype::Bf16 | TorchDtype::I16 => 2,
            TorchDtype::F32 | TorchDtype::I32 => 4,
            TorchDtype::F64 | TorchDtype::I64 | TorchDtype::C64 => 8,
            TorchDtype::C128 => 16,
        }
    }

    /// Whether the format can be converted to f32.
    pub fn is_float(self) -> bool {
        matches!(self, TorchDtype::F32 | TorchDtype::F64 | TorchDtype::F16 | TorchDtype::Bf16)
    }

    /// Converts one little-endian element to f32; zero if the format is not a float.
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
    /// Writes the name that PyTorch uses, such as `float32`.
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
