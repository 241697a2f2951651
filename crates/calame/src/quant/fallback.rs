//! The format of matrices whose rows are not whole blocks of the one that was asked for.

use super::NumberFormat;

/// The format in which rows of `row_len` elements are stored where `format` was asked for: itself, or else the one that
/// llama.cpp falls back to (`tensor_type_fallback`), which has shorter blocks and no fewer bits; f16 if those do not fit
/// either.
pub fn format_for_rows(format: NumberFormat, row_len: usize) -> NumberFormat {
    use NumberFormat::{F16, Iq4Nl, Iq4Xs, Q2K, Q3K, Q4_0, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, Tq1_0, Tq2_0};
    let fallback = match format {
        Iq4Xs => Iq4Nl,
        Q2K | Q3K | Tq1_0 | Tq2_0 => Q4_0,
        Q4K => Q5_0,
        Q5K => Q5_1,
        Q6K => Q8_0,
        other => other,
    };
    let fits = |format: &NumberFormat| row_len.is_multiple_of(format.block_len());
    [format, fallback].into_iter().find(fits).unwrap_or(F16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_blocks_are_used_where_rows_need_them() {
        for format in NumberFormat::ALL {
            assert_eq!(format_for_rows(format, 768), format);
            let odd = format_for_rows(format, 65);
            assert!(odd == if format.block_len() == 1 { format } else { NumberFormat::F16 });
            // gpt2-xl: 1600 is a multiple of 32, not of 256.
            let xl = format_for_rows(format, 1600);
            assert!(xl.block_len() <= 32 && (xl == format) == (format.block_len() <= 32), "{format}: {xl}");
        }
        assert_eq!(format_for_rows(NumberFormat::Q4K, 1600), NumberFormat::Q5_0);
    }
}
