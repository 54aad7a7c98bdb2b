//! All parameters, and how paths find theirs.

use crate::{
    keys::PARAMS,
    param::{Param, part_matches, segments},
};

/// The parameter at a canonical path.
#[must_use]
pub fn find(path: &str) -> Option<&'static Param> {
    let parts: Vec<&str> = segments(path).collect();
    PARAMS.iter().copied().find(|param| param.matches(&parts))
}

/// Whether a canonical path is a folder of the schema.
pub(crate) fn is_folder(path: &str) -> bool {
    let parts: Vec<&str> = segments(path).collect();
    PARAMS.iter().any(|param| param.is_below(&parts))
}

/// The known path that is spelled most like `path`, if any is like it at all.
pub(crate) fn nearest(path: &str) -> Option<String> {
    let parts: Vec<&str> = segments(path).collect();
    let candidates = PARAMS.iter().flat_map(|param| {
        let own: Vec<&str> = segments(param.path).collect();
        let named: Vec<&str> = own
            .iter()
            .enumerate()
            .map(|(i, own)| {
                // A name that cannot be one is no advice.
                let name = parts.get(i).copied().filter(|part| part_matches(own, part));
                name.filter(|_| own.starts_with('<')).unwrap_or(own)
            })
            .collect();
        (1..=named.len()).map(move |n| format!("/{}", named[..n].join("/")))
    });
    // What is longer than any name is no slip of the hand, and would be slow to compare.
    let limit = if path.len() > 256 { 0 } else { 1 + path.len() / 4 };
    candidates
        // A folder above it is no news.
        .filter(|candidate| limit > 0 && !path.starts_with(&format!("{candidate}/")))
        .map(|candidate| (strsim::levenshtein(path, &candidate), candidate))
        .filter(|(distance, _)| (1..=limit).contains(distance))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::param::canonical;

    #[test]
    fn every_row_is_sound() {
        for (i, param) in PARAMS.iter().enumerate() {
            assert!(param.normalise(&param.default_value()).is_ok(), "{}: bad default", param.path);
            assert!(
                param.meaning.len() > 20 && param.meaning.ends_with('.'),
                "{}: says too little",
                param.path
            );
            assert!(
                !PARAMS[..i].iter().any(|other| other.path == param.path),
                "{}: twice",
                param.path
            );
            assert_eq!(canonical(param.path), param.path);
        }
    }

    #[test]
    fn paths_find_their_row() {
        let path = |p: &str| find(&canonical(p)).map(|param| param.path);
        assert_eq!(path("/vsmserver/listen_port/"), Some("/vsmserver/listen_port"));
        assert_eq!(path("/HA/enabled"), Some("/vsmserver/HA/enabled"));
        assert_eq!(
            path("/agents/weights/a1.example.org"),
            Some("/vsmserver/agents/weights/<hostname>")
        );
        assert_eq!(path("/vsmagent/default_environment/1A"), None);
        assert!(
            is_folder("/vsmserver/HA") && is_folder("/") && !is_folder("/vsmserver/listen_port")
        );
    }

    #[test]
    fn the_nearest_name_is_found_or_none() {
        assert_eq!(nearest("/vsmserver/listenport").as_deref(), Some("/vsmserver/listen_port"));
        assert_eq!(
            nearest("/vsmserver/subclusters/lab/agent").as_deref(),
            Some("/vsmserver/subclusters/lab/agents")
        );
        // What cannot be a name is not repeated.
        assert_eq!(
            nearest("/vsmserver/subclusters/lab\u{1}/agents").as_deref(),
            Some("/vsmserver/subclusters/<name>/agents")
        );
        assert_eq!(nearest("/vsmsrver").as_deref(), Some("/vsmserver"));
        assert_eq!(nearest("/zzzzzzzzzzzz/qqqqqqqq"), None);
        assert_ne!(nearest("/vsmagent/sub").as_deref(), Some("/vsmagent"));
    }
}
