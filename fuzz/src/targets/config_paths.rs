//! A path as somebody types it, with a value behind `=`.

use vsm_config::{
    Config, doc,
    fuzzing::{normal, place},
};

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, value) = text.split_once('=').unwrap_or((text, ""));
    let found = place(path);
    assert!(found.canonical.starts_with('/') && !found.canonical.contains("//"));
    let again = place(&found.canonical);
    assert_eq!(again.canonical, found.canonical, "one spelling");
    assert!(!(found.is_parameter && found.is_folder));
    assert_eq!((again.is_parameter, again.is_folder), (found.is_parameter, found.is_folder));
    if found.is_parameter || found.is_folder {
        assert!(doc::text(path).is_some(), "what there is has a description");
    }
    if let Some(nearest) = found.nearest {
        // The row itself, where what was typed cannot be a name.
        assert!(doc::text(&nearest).is_some(), "{nearest}");
    }
    let config = Config::defaults();
    let _ = (config.folder(path), config.names(path));
    assert!(config.value(path).is_none() || found.is_parameter);
    assert!(normal(path, value).is_none() || found.is_parameter);
}
