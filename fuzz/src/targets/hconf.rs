//! A file of the other product's configuration, and what is taken over from it.

use vsm_config::{
    ToolError,
    fuzzing::{fits, imported, read},
};

pub(crate) fn run(bytes: &[u8]) {
    globs(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // What it mounts would be files of this machine.
    if text.contains("%mount") {
        return;
    }
    let taken = match imported(text) {
        Ok((taken, _)) => taken,
        Err(ToolError::Bad(_)) => return,
        Err(other) => unreachable!("a file of our own cannot be edited: {other}"),
    };
    match read(&taken) {
        // Good or not: that is told in words.
        Ok(config) => drop(config.check()),
        Err(problems) => {
            for (_, problem) in problems {
                let ours = ["not readable", "given twice", "no such parameter", "is a folder"];
                assert!(!ours.iter().any(|fault| problem.contains(fault)), "{problem}\n{taken}");
            }
        }
    }
}

/// A pattern and a name, the first two lines, against the definition of a match.
fn globs(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| &line[..line.len().min(12)]);
    if let (Some(pattern), Some(name)) = (lines.next(), lines.next()) {
        assert_eq!(fits(pattern, name), by_definition(pattern, name), "{pattern:?} {name:?}");
    }
}

fn by_definition(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((b'*', after)), rest) => {
            by_definition(after, name) || rest.is_some_and(|(_, left)| by_definition(pattern, left))
        }
        (Some((one, after)), Some((first, left))) => {
            (*one == b'?' || one == first) && by_definition(after, left)
        }
        (Some(_), None) => false,
    }
}
