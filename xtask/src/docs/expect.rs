//! Whether what a command printed is what the guide says.

/// Stands for any text within a line, with the blanks beside it, and alone on a line for any lines.
const ANY: &str = "…";

/// Whether the lines are those that are expected; empty lines and the width of blanks do not count.
pub(crate) fn fits(expected: &[String], actual: &str) -> bool {
    let tight = |line: String| line.replace(" …", ANY).replace("… ", ANY);
    let expected: Vec<_> = expected.iter().map(|line| tight(squeezed(line))).collect();
    let expected: Vec<_> = expected.iter().map(String::as_str).filter(|l| !l.is_empty()).collect();
    let actual: Vec<_> = actual.lines().map(squeezed).filter(|line| !line.is_empty()).collect();
    // Whether the pattern up to here fits the first so many lines, for each number of lines.
    let mut fits = vec![false; actual.len() + 1];
    fits[0] = true;
    for line in expected {
        let mut next = vec![false; actual.len() + 1];
        if line == ANY {
            let mut before = false;
            for (at, fit) in fits.iter().enumerate() {
                before |= fit;
                next[at] = before;
            }
        } else {
            for (at, text) in actual.iter().enumerate() {
                next[at + 1] = fits[at] && line_fits(line, text);
            }
        }
        fits = next;
    }
    fits[actual.len()]
}

fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn line_fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split(ANY);
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        last = Some(part);
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    // The last part may also stand further on, at the end.
    last.map_or(rest.is_empty(), |last| rest.is_empty() || rest.ends_with(last))
}

/// The session ids in some output, as administrators' lists have them: the last twelve digits of a UUID.
pub(crate) fn sessions(output: &str) -> Vec<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    let id = |text: &str| {
        let parts: Vec<_> = text.split('-').collect();
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        let hex = parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let whole = lengths == [8, 4, 4, 4, 12] || lengths == [12];
        parts.last().filter(|_| hex && whole).map(|last| (*last).to_owned())
    };
    let mut all: Vec<_> = output.split(word).filter_map(id).collect();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(expected: &str, actual: &str) -> bool {
        fits(&expected.lines().map(str::to_owned).collect::<Vec<_>>(), actual)
    }

    #[test]
    fn lines_fit_with_their_gaps() {
        assert!(fit("a   b\n\nc", "a b\nc\n"));
        assert!(fit("a…z", "a and z"));
        assert!(fit("…-…-z", "1-2-z and 3-z"));
        assert!(fit("a…", "a"));
        assert!(fit("a   …", "a"));
        assert!(fit("… a", "a"));
        assert!(!fit("a…z", "a and y"));
        assert!(!fit("ab…b", "ab"));
        assert!(!fit("a", "ab"));
        assert!(!fit("a", "a\nb"));
        assert!(!fit("a\nb", "a"));
    }

    #[test]
    fn any_lines_may_stand_for_one_that_is_a_gap() {
        assert!(fit("a\n…\nz", "a\nz"));
        assert!(fit("a\n…\nz", "a\nb\nz\nc\nz"));
        assert!(fit("…\nz", "z"));
        assert!(!fit("a\n…\nz", "a\nb"));
        assert!(!fit("…\nz", "z\na"));
    }

    #[test]
    fn sessions_are_found_in_words_and_paths() {
        let id = "01980f2e-aaaa-7bbb-8ccc-0123456789ab";
        let text = format!("(session {id})\n/run/x/{id}.sock not-an-id 1-2\n0123456789ab  alice\n");
        assert_eq!(sessions(&text), ["0123456789ab"]);
        assert!(sessions("0123456789xy c94bcb6668b38c57 a-0123456789ab\n").is_empty());
    }
}
