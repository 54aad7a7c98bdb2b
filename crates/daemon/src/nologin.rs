//! Whether a host lets in nobody but root: `/run/nologin` or `/etc/nologin` is there, as `pam_nologin` looks for them.

use std::{fs::File, io::Read};

/// As `pam_nologin` looks for them.
const FILES: [&str; 2] = ["/run/nologin", "/etc/nologin"];
/// Most bytes that are read: it is shown in a line.
const TEXT_MAX: u64 = 2048;

/// What it says to those who want to log in, perhaps nothing; none = it lets them in.
#[must_use]
pub fn text() -> Option<String> {
    look(&FILES)
}

/// The text of the first of these files that can be opened.
fn look(files: &[&str]) -> Option<String> {
    let file = files.iter().find_map(|path| File::open(path).ok())?;
    let mut text = Vec::new();
    // What cannot be read is in the way of logins all the same.
    let _ = file.take(TEXT_MAX).read_to_end(&mut text);
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_is_told_and_an_empty_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["run", "etc"].map(|name| dir.path().join(name).display().to_string());
        let [run, etc] = [paths[0].as_str(), paths[1].as_str()];
        assert_eq!(look(&[run, etc]), None);
        std::fs::write(etc, "").unwrap();
        assert_eq!(look(&[run, etc]).as_deref(), Some(""));
        std::fs::write(run, "back at noon\n").unwrap();
        assert_eq!(look(&[run, etc]).as_deref(), Some("back at noon\n"));
    }
}
