//! `/proc/self/mountinfo`, in which users name folders: what they mount, and what root then takes away.

use std::path::{Component, Path};

use vsm_agent::{
    folders::decoded,
    fuzzing::{cgroup_mount, mounts_below},
};

const DIR: &str = "/run/vsm/sessions/one two";

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let below = mounts_below(text, Path::new(DIR));
    assert!(below.len() <= text.lines().count());
    for path in &below {
        let inner = !path.as_os_str().is_empty() && path.is_relative();
        assert!(inner && path.components().all(|part| part != Component::RootDir), "{path:?}");
    }
    if cgroup_mount(text).is_some() {
        assert!(text.contains(" - cgroup2 "));
    }
    for field in text.split([' ', '\n']) {
        let path = decoded(field);
        assert!(path.as_os_str().len() <= field.len());
        assert!(field.contains('\\') || path == Path::new(field));
    }
    assert_eq!(decoded(&encoded(bytes)).as_os_str().as_encoded_bytes(), bytes);
}

/// As the kernel writes it.
fn encoded(path: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'!'..=b'[' | b']'..=b'~' => char::from(*byte).to_string(),
        other => format!("\\{other:03o}"),
    };
    path.iter().map(one).collect()
}
