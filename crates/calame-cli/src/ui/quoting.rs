//! Words for a shell, in the commands that the program suggests.

/// A word quoted for a shell, if it needs quotes.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A token's text as a table shows it: white space and control characters escaped, quotation marks as they are.
pub fn visible(text: &str) -> String {
    let escaped = |c: char| if matches!(c, '"' | '\'') { c.to_string() } else { c.escape_debug().to_string() };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_visible() {
        assert_eq!(visible(",\""), ",\"");
        assert_eq!(visible(" it's\n\t"), " it's\\n\\t");
        assert_eq!(visible("é"), "é");
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("runs/2026-11-23-book"), "runs/2026-11-23-book");
        assert_eq!(quoted("Every effort"), "'Every effort'");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
