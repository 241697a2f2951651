//! GPT-2's spelling of bytes as printable characters, used in its vocabulary files.
//!
//! A printable byte of Latin-1 is spelled as the character with the same number; the other 68 are spelled U+0100,
//! U+0101, … in order. A space is thus `Ġ` and a line feed `Ċ`.
//! Source: `bytes_to_unicode` in `encoder.py` of openai/gpt-2.

/// One more than the highest character of the spelling: 256 plus the 68 unprintable bytes.
const N_CHARS: usize = 256 + 68;

/// The character number of each byte.
const SPELLING: [u16; 256] = spelling();

/// The byte of each character below [`N_CHARS`], or [`NO_BYTE`].
const BYTES: [u16; N_CHARS] = bytes();

const NO_BYTE: u16 = u16::MAX;

const fn spelling() -> [u16; 256] {
    let mut chars = [0; 256];
    let mut next = 256;
    let mut byte = 0;
    while byte < 256 {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        if printable {
            chars[byte] = byte as u16;
        } else {
            chars[byte] = next;
            next += 1;
        }
        byte += 1;
    }
    chars
}

const fn bytes() -> [u16; N_CHARS] {
    let mut bytes = [NO_BYTE; N_CHARS];
    let mut byte = 0;
    while byte < 256 {
        bytes[SPELLING[byte] as usize] = byte as u16;
        byte += 1;
    }
    bytes
}

/// Spells bytes as characters.
pub(super) fn spell(bytes: &[u8]) -> String {
    bytes.iter().filter_map(|&byte| char::from_u32(u32::from(SPELLING[usize::from(byte)]))).collect()
}

/// Converts a spelling back to bytes. The error is the first character that is not part of the spelling.
pub(super) fn unspell(text: &str) -> Result<Vec<u8>, char> {
    text.chars().map(|c| BYTES.get(c as usize).and_then(|&byte| u8::try_from(byte).ok()).ok_or(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let all: Vec<u8> = (0..=255).collect();
        let spelled = spell(&all);
        assert_eq!(spelled.chars().count(), 256);
        assert_eq!(unspell(&spelled).unwrap(), all);
    }

    #[test]
    fn known_spellings() {
        assert_eq!(spell(b" the\n"), "\u{120}the\u{10a}");
        assert_eq!(spell(&[0, 0x7f, 0xa0, 0xad, 0xff]), "\u{100}\u{121}\u{142}\u{143}\u{ff}");
    }

    #[test]
    fn a_character_outside_is_named() {
        assert_eq!(unspell("a b"), Err(' '));
        assert_eq!(unspell("\u{144}"), Err('\u{144}'));
        assert_eq!(unspell("a\u{4e94}"), Err('\u{4e94}'));
    }
}
