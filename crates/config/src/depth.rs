//! How deep a YAML text nests, before the parser sees it: that takes time with the square of the depth, and a minute
//! for half a megabyte of `[`.

/// Deepest nesting that is read; the schema needs four.
const NESTED_MAX: usize = 64;

/// The line, from 1, on which a text nests deeper than anything that is read; none = it does not. Judged by characters:
/// in a text that is no YAML the parser says so.
pub(crate) fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    for (line, content) in text.lines().enumerate() {
        if !content.starts_with([' ', '\t']) {
            // No quoted text goes on at the margin: an apostrophe in a text of several lines ends here at the latest.
            quote = None;
        }
        if dashes(content) > NESTED_MAX {
            return Some(line + 1);
        }
        let (mut before, mut escaped) = ('\n', false);
        for c in content.chars() {
            match (quote, c) {
                (Some('"'), _) if escaped => escaped = false,
                (Some('"'), '\\') => escaped = true,
                (Some(open), _) if open == c => quote = None,
                (Some(_), _) => {}
                (None, '#') if before == ' ' || before == '\n' => break,
                (None, '"' | '\'') if matches!(before, '\n' | ' ' | '[' | '{' | ',' | ':') => {
                    quote = Some(c);
                }
                (None, '[' | '{') => depth += 1,
                (None, ']' | '}') => depth = depth.saturating_sub(1),
                (None, _) => {}
            }
            if depth > NESTED_MAX {
                return Some(line + 1);
            }
            before = c;
        }
    }
    None
}

/// Lists and keys that begin within each other at the beginning of a line: `- - ? - x`.
fn dashes(line: &str) -> usize {
    line.split_ascii_whitespace().take_while(|word| matches!(*word, "-" | "?")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_texts_are_found_and_others_are_not() {
        for deep in ["[", "{a: ", "[\"]\", ", "[ # ]\n ", "- ", "? - "] {
            let text = format!("a: 1\nb:\n  {}", deep.repeat(100_000));
            assert!(too_deep(&text).is_some_and(|line| line >= 3), "{deep}");
        }
        let many = "a: [b, {c: d}]\n".repeat(1000) + "e: it's [fine\nf: \"[[[\"\ng: '[[['\n";
        assert_eq!(too_deep(&many), None);
        assert_eq!(too_deep(&format!("a: \"{}\"\nb: '{}'", "[".repeat(99), "{".repeat(99))), None);
    }
}
