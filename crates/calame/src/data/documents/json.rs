//! JSON as other programs write it.

use std::borrow::Cow;

/// Numbers that Python and others write, which JSON does not have.
const ODD: [&[u8]; 4] = [b"-Infinity", b"Infinity", b"NaN", b"-NaN"];

/// The same JSON with `NaN`, `Infinity` and `-Infinity` outside strings replaced by `null` and spaces. Positions stay
/// the same.
pub(super) fn without_odd_numbers(json: &[u8]) -> Cow<'_, [u8]> {
    let is_odd = |at: usize| ODD.iter().find(|odd| json[at..].starts_with(odd));
    let mut replaced = Cow::Borrowed(json);
    let (mut at, mut is_string) = (0, false);
    while at < json.len() {
        match json[at] {
            b'"' => is_string = !is_string,
            // The escaped character is not the end of the string.
            b'\\' if is_string => at += 1,
            b'N' | b'I' | b'-' if !is_string => {
                if let Some(odd) = is_odd(at) {
                    let place = &mut replaced.to_mut()[at..at + odd.len()];
                    place.fill(b' ');
                    // `NaN` is shorter than `null`, but not than a zero.
                    let value: &[u8] = if odd.len() < 4 { b"0" } else { b"null" };
                    place[..value.len()].copy_from_slice(value);
                    at += odd.len() - 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_numbers_outside_strings_are_replaced() {
        for (json, expected) in [
            (r#"{"a": NaN, "b": [-Infinity, Infinity]}"#, r#"{"a": 0  , "b": [null     , null    ]}"#),
            (r#"{"a": "NaN \" NaN", "b": -1}"#, r#"{"a": "NaN \" NaN", "b": -1}"#),
            (r#"{"a": "\\", "b": NaN}"#, r#"{"a": "\\", "b": 0  }"#),
            ("\"\\", "\"\\"),
            ("-", "-"),
        ] {
            assert_eq!(without_odd_numbers(json.as_bytes()), expected.as_bytes(), "{json}");
        }
    }
}
