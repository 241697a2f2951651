//! Tensors in every number format, and what happens to one that an operation does not expect.

use std::panic::{AssertUnwindSafe, catch_unwind};

use calame::ops::{self, Device, Isa, Precision};
use calame::rng::{Key, Sequence};
use calame::tensor::{Alloc, NumberFormat, Storage, Tensor};
use calame_kernels::formats;
use half::{bf16, f16};

use crate::support::{host, tensor};

/// Divisible by the blocks of every format.
const DIMS: [usize; 2] = [3, 512];

fn random_bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut random = Sequence::new(Key::from_seed(seed));
    (0..n).map(|_| random.below(256) as u8).collect()
}

/// The bits of the tensor's values in f32.
fn dequantized(dev: &Device, x: &Tensor) -> Vec<u32> {
    let mut y = Alloc::on_host().zeros(x.dims());
    ops::fill(dev, f32::NAN, &mut y);
    ops::dequantize(dev, x, &mut y);
    ops::read(dev, &y).into_iter().map(f32::to_bits).collect()
}

#[test]
fn every_format_is_dequantized_to_its_definition() {
    let dev = Device::cpu(2, Isa::detect(), Precision::F32);
    for (seed, format) in (0..).zip(NumberFormat::ALL) {
        let n_elements: usize = DIMS.iter().product();
        let bytes = random_bytes(n_elements / format.block_len() * format.block_bytes(), seed);
        let mut expected = vec![0.0; n_elements];
        formats::dequantize(format, &bytes, &mut expected);
        let expected: Vec<u32> = expected.into_iter().map(f32::to_bits).collect();
        let mut x = Tensor::new(Storage::Blocks { format, bytes: bytes.clone() }, DIMS);
        assert_eq!(x.capacity(), n_elements, "{format}");
        assert!(dequantized(&dev, &x) == expected, "{format}");
        // As a loader fills what the allocator has made.
        let mut written = Alloc::on(&dev).zeros_as(DIMS, format);
        ops::write_raw(&dev, &bytes, &mut written);
        assert!(dequantized(&dev, &written) == expected, "{format}, written");
        // Fewer rows than the storage holds.
        x.set_rows(2);
        assert!(dequantized(&dev, &x) == expected[..2 * DIMS[1]], "{format}, two rows");
        // The formats of single numbers have storage of their own.
        let pairs = || bytes.as_chunks().0.iter();
        let storage = match format {
            NumberFormat::F16 => Storage::F16(pairs().map(|pair| f16::from_le_bytes(*pair)).collect()),
            NumberFormat::Bf16 => Storage::Bf16(pairs().map(|pair| bf16::from_le_bytes(*pair)).collect()),
            _ => continue,
        };
        assert!(dequantized(&dev, &Tensor::new(storage, DIMS)) == expected, "{format}, number by number");
    }
}

#[test]
fn zeros_of_every_format_take_its_bytes_and_are_zero() {
    let dev = host();
    for format in NumberFormat::ALL {
        let mut alloc = Alloc::on(&dev);
        let x = alloc.zeros_as(DIMS, format);
        let n_bytes = DIMS[0] * DIMS[1] / format.block_len() * format.block_bytes();
        assert_eq!((x.dims(), alloc.bytes()), (&DIMS[..], n_bytes as u64), "{format}");
        let fits = match x.storage() {
            Storage::F32(_) => format == NumberFormat::F32,
            Storage::F16(_) => format == NumberFormat::F16,
            Storage::Bf16(_) => format == NumberFormat::Bf16,
            Storage::Blocks { format: found, bytes } => *found == format && bytes.len() == n_bytes,
            Storage::U32(_) | Storage::Packed(_) | Storage::Gpu(_) => false,
        };
        assert!(fits, "{format} is stored as {:?}", x.storage());
        assert!(dequantized(&dev, &x).into_iter().all(|bits| f32::from_bits(bits) == 0.0), "{format}");
        let mut counted = Alloc::counting();
        assert!(counted.zeros_as(DIMS, format).is_empty() && counted.bytes() == alloc.bytes(), "{format}");
    }
}

fn panic_message(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("a wrong use panics");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn wrong_uses_panic_with_the_operation_and_the_storage() {
    let dev = host();
    let mut alloc = Alloc::on_host();
    let mut halves = alloc.zeros_as([2, 32], NumberFormat::F16);
    let mut blocks = alloc.zeros_as([2, 32], NumberFormat::Q4_0);
    let (mut ids, mut numbers) = (alloc.ids([4]), tensor([4], &[1.0; 4]));
    let wanted = "expected f32 in this machine's memory";
    let found = panic_message(|| ops::fill(&dev, 1.0, &mut halves));
    assert_eq!(found, format!("Tensor::host: [2, 32] is stored as 64 × f16, {wanted}"));
    let found = panic_message(|| ops::scale(&dev, 2.0, &mut blocks));
    assert_eq!(found, format!("Tensor::host: [2, 32] is stored as 64 × Q4_0, {wanted}"));
    let found = panic_message(|| drop(ops::read(&dev, &ids)));
    assert_eq!(found, format!("Tensor::host: [4] is stored as 4 × u32, {wanted}"));
    let found = panic_message(|| ops::write_ids(&dev, &[1; 4], &mut numbers));
    assert_eq!(found, "Tensor::host_ids: [4] is stored as 4 × f32, expected u32");
    let found = panic_message(|| ops::dequantize(&dev, &ids, &mut numbers));
    assert_eq!(found, "dequantize: Tensor[4] is stored as 4 × u32");
    let found = panic_message(|| ops::dequantize(&dev, &blocks, &mut numbers));
    assert!(found.contains("dequantize: Tensor[2, 32] into so many elements"), "{found}");
    let found = panic_message(|| ops::write_ids(&dev, &[1; 3], &mut ids));
    assert!(found.contains("ops::write_ids: 3 ids for Tensor[4]"), "{found}");
    let found = panic_message(|| drop(Alloc::on_host().zeros_as([2, 33], NumberFormat::Q4_0)));
    assert_eq!(found, "[2, 33]: rows are not whole blocks of Q4_0");
    let storage = Storage::Blocks { format: NumberFormat::Q4_0, bytes: vec![0; 36] };
    let found = panic_message(|| drop(Tensor::new(storage, [3, 32])));
    assert_eq!(found, "Tensor::new: [3, 32] in storage for 64 elements");
}
