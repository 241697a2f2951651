//! Conversion to number formats, compared with llama.cpp's reference quantization.

use std::fs;
use std::path::Path;

use calame_kernels::formats::{NumberFormat, dequantize, quantize};

use crate::support::{numbers, words};

/// Takes a number from the front of the golden file.
fn take_u32(bytes: &mut &[u8]) -> u32 {
    u32::from_le_bytes(bytes.split_off(..4).unwrap().try_into().unwrap())
}

/// The elements of the golden file, and the blocks of each format.
fn golden() -> (Vec<f32>, Vec<(NumberFormat, Vec<u8>)>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/quantize_blocks.bin");
    let file = fs::read(path).unwrap();
    let mut rest = &file[..];
    let n = take_u32(&mut rest) as usize;
    let elements = (0..n).map(|_| f32::from_bits(take_u32(&mut rest))).collect();
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let format = NumberFormat::of_ggml_type(take_u32(&mut rest)).unwrap();
        let n_bytes = n / format.block_len() * format.block_bytes();
        blocks.push((format, rest.split_off(..n_bytes).unwrap().to_vec()));
    }
    (elements, blocks)
}

fn quantized(format: NumberFormat, elements: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0xa5; elements.len() / format.block_len() * format.block_bytes()];
    quantize(format, elements, &mut bytes);
    bytes
}

#[test]
fn formats_quantize_to_the_bytes_of_the_reference() {
    let (elements, blocks) = golden();
    assert_eq!(blocks.len(), NumberFormat::ALL.len() - 1, "all but F32");
    for (format, expected) in blocks {
        let bytes = quantized(format, &elements);
        let pairs = bytes.chunks(format.block_bytes()).zip(expected.chunks(format.block_bytes()));
        for (i, (got, want)) in pairs.enumerate() {
            let x = &elements[i * format.block_len()..][..format.block_len()];
            assert_eq!(got, want, "{format}, block {i}: {x:?}");
        }
    }
    let bits: Vec<u8> = elements.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(quantized(NumberFormat::F32, &elements), bits);
}

/// Distance of neighbouring values in a block whose elements reach from −1 to 1.
fn step(format: NumberFormat) -> f32 {
    match format {
        NumberFormat::F32 => 0.0,
        NumberFormat::F16 => 1.0 / 2048.0,
        NumberFormat::Bf16 => 1.0 / 256.0,
        NumberFormat::Q8_0 => 1.0 / 127.0,
        NumberFormat::Q4_0 => 1.0 / 8.0,
        NumberFormat::Q4_1 | NumberFormat::Q4K => 2.0 / 15.0,
        NumberFormat::Q5_0 => 1.0 / 16.0,
        NumberFormat::Q5_1 | NumberFormat::Q5K => 2.0 / 31.0,
        // The widest of the uneven steps.
        NumberFormat::Iq4Nl | NumberFormat::Iq4Xs => 24.0 / 127.0,
        NumberFormat::Q2K => 2.0 / 3.0,
        NumberFormat::Q3K => 1.0 / 4.0,
        NumberFormat::Q6K => 1.0 / 32.0,
        NumberFormat::Tq1_0 | NumberFormat::Tq2_0 => 1.0,
    }
}

#[test]
fn formats_keep_elements_within_a_step() {
    let elements = numbers(31, 1 << 16);
    for format in NumberFormat::ALL {
        let mut values = vec![f32::NAN; elements.len()];
        dequantize(format, &quantized(format, &elements), &mut values);
        let (mut largest, mut sum) = (0.0f32, 0.0);
        for (x, value) in elements.iter().zip(&values) {
            largest = largest.max((x - value).abs());
            sum += f64::from(x - value).powi(2);
        }
        // Elements at the end without a code are off by a step, or a little more if the scale itself was rounded up. The
        // others have errors up to half a step, evenly distributed: 1/√12 = 0.29 of it.
        let root_mean_square = (sum / elements.len() as f64).sqrt();
        let step = step(format);
        assert!(largest <= 1.1 * step, "{format}: error {largest}, step {step}");
        assert!(root_mean_square <= 0.31 * f64::from(step), "{format}: error {root_mean_square}, step {step}");
    }
}

#[test]
fn formats_accept_elements_that_are_not_finite() {
    let mut elements: Vec<f32> = words(32, 1024).iter().map(|&bits| f32::from_bits(bits as u32)).collect();
    elements[300] = f32::INFINITY;
    elements[556..812].fill(f32::NAN);
    elements[812..].fill(f32::NEG_INFINITY);
    for format in NumberFormat::ALL {
        quantized(format, &elements);
    }
}

#[test]
#[should_panic(expected = "quantize: 33 elements to 34 bytes, blocks of 32 in 34")]
fn formats_quantize_whole_blocks() {
    quantize(NumberFormat::Q8_0, &[0.0; 33], &mut [0; 34]);
}

#[test]
#[should_panic(expected = "quantize: 512 elements to 84 bytes, blocks of 256 in 84")]
fn formats_quantize_into_as_many_blocks() {
    quantize(NumberFormat::Q2K, &[0.0; 512], &mut [0; 84]);
}
