//! Texts that others wrote and that people read on a terminal: without what a terminal would obey.

/// Stands for a character that is not shown.
const REPLACEMENT: char = '\u{fffd}';
/// Longest text of another host's, in bytes: one line for people.
const LINE_MAX: usize = 1024;

/// A character that a terminal obeys instead of showing it, or that makes text read in another order than it stands.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// One line of another host's: each character that cannot be shown is replaced, and what is too long is cut.
#[must_use]
pub fn printable(text: &str) -> String {
    let end = text.floor_char_boundary(LINE_MAX);
    text[..end].chars().map(|c| if is_unprintable(c) { REPLACEMENT } else { c }).collect()
}

/// The same of a text of several lines, whose line ends and tabs stay.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    let show =
        |c: char| if is_unprintable(c) && !matches!(c, '\n' | '\t') { REPLACEMENT } else { c };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let evil = "a\x1b]0;title\x07b\u{9b}2J\r\nc\u{202e}d ü 山";
        let shown = printable(evil);
        assert!(!shown.chars().any(is_unprintable), "{shown:?}");
        assert!(shown.starts_with('a') && shown.ends_with("d ü 山"));
        assert_eq!(printable_lines("a\tb\n\x1bc\r\n"), "a\tb\n\u{fffd}c\u{fffd}\n");
        assert_eq!(printable(&"ü".repeat(LINE_MAX)).len(), LINE_MAX);
    }
}
