//! A parameter that is set in a file which others have written. The first line is the assignment, the rest the file.

use vsm_config::fuzzing::{normal, removed, scalar_read_back, set, values};

pub(crate) fn run(bytes: &[u8]) {
    let Ok(all) = std::str::from_utf8(bytes) else { return };
    let (assignment, text) = all.split_once('\n').unwrap_or((all, ""));
    let (path, value) = assignment.split_once('=').unwrap_or((assignment, ""));
    if !value.contains('\0') {
        assert_eq!(scalar_read_back(value).as_deref(), Some(value));
    }
    // Nothing compares what it makes before its callers do.
    let _ = removed(text, path);
    let Ok((edited, path)) = set(text, path, value) else { return };
    let (before, after) = (values(text).expect("it was"), values(&edited).expect("it is"));
    assert!(normal(&path, value).is_some() && after.contains_key(&path));
    assert!(before.iter().all(|(key, value)| *key == path || after.get(key) == Some(value)));
    let mut lines = edited.lines();
    for comment in text.lines().filter(|line| line.trim_start().starts_with('#')) {
        assert!(lines.any(|line| line == comment), "{comment:?} is not in\n{edited}");
    }
    let again = set(&edited, &path, value);
    assert!(again.is_ok_and(|(again, _)| again == edited), "set once more, it changes nothing");
}
