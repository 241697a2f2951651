//! Names of ggml's number formats, including those that are not read.

/// The name of the format with this number (`enum ggml_type` of ggml.h); `None` if ggml has none or gave it up.
pub(super) fn name(ggml_type: u32) -> Option<&'static str> {
    const NAMES: [&str; 42] = [
        "F32",
        "F16",
        "Q4_0",
        "Q4_1",
        "Q4_2",
        "Q4_3",
        "Q5_0",
        "Q5_1",
        "Q8_0",
        "Q8_1",
        "Q2_K",
        "Q3_K",
        "Q4_K",
        "Q5_K",
        "Q6_K",
        "Q8_K",
        "IQ2_XXS",
        "IQ2_XS",
        "IQ3_XXS",
        "IQ1_S",
        "IQ4_NL",
        "IQ3_S",
        "IQ2_S",
        "IQ4_XS",
        "I8",
        "I16",
        "I32",
        "I64",
        "F64",
        "IQ1_M",
        "BF16",
        "Q4_0_4_4",
        "Q4_0_4_8",
        "Q4_0_8_8",
        "TQ1_0",
        "TQ2_0",
        "IQ4_NL_4_4",
        "IQ4_NL_4_8",
        "IQ4_NL_8_8",
        "MXFP4",
        "NVFP4",
        "Q1_0",
    ];
    NAMES.get(usize::try_from(ggml_type).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::name;
    use crate::quant::NumberFormat;

    #[test]
    fn every_format_that_is_read_has_its_name() {
        for format in NumberFormat::ALL {
            assert_eq!(name(format.ggml_type()), Some(format.name()));
        }
        assert_eq!((name(39), name(16), name(1000)), (Some("MXFP4"), Some("IQ2_XXS"), None));
    }
}
