//! One row of the schema, the typed key made from it, and how paths find their row.

use std::marker::PhantomData;

use crate::{keys::PARAMS, kind::Kind, value::Value};

/// What root runs on a broker. On session hosts the programs of parameters run as users.
const ROOTS_PROGRAMS: [&str; 3] =
    ["/vsmserver/mail_program", "/vsmserver/hooks/startup_dir", "/vsmserver/hooks/reconnect_dir"];

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// At the next reload.
    Reload,
    /// When the service is started again.
    Restart,
}

/// Everything known about one parameter.
#[derive(Debug)]
pub struct Param {
    /// Its path; a part in angle brackets stands for any name, as in `/vsmserver/subclusters/<name>/agents`.
    pub path: &'static str,
    /// What is allowed.
    pub kind: Kind,
    /// The value where none is set, as one would write it.
    pub default: &'static str,
    /// When a change takes effect.
    pub apply: Apply,
    /// What it means, one paragraph.
    pub meaning: &'static str,
    /// Whether the Rust type of the key takes a normalised value.
    pub(crate) accepts: fn(&Value) -> bool,
}

impl Param {
    /// Checks a value and returns it normalised.
    pub(crate) fn normalise(&self, value: &Value) -> Result<Value, String> {
        let normal = self.kind.normalise(value)?;
        if (self.accepts)(&normal) {
            Ok(normal)
        } else {
            Err(format!("{value} does not fit; allowed: {}", self.kind.allowed()))
        }
    }

    /// The default as written in the schema.
    pub(crate) fn default_value(&self) -> Value {
        Value::Text(self.default.to_owned())
    }

    /// Whether the path has a part that stands for any name.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.path.contains('<')
    }

    /// Whether a process of root's runs a program that the value names, on a broker. Nobody but root says which.
    #[must_use]
    pub fn names_roots_program(&self) -> bool {
        ROOTS_PROGRAMS.contains(&self.path)
    }

    fn matches(&self, parts: &[&str]) -> bool {
        let own: Vec<&str> = segments(self.path).collect();
        own.len() == parts.len() && own.iter().zip(parts).all(|(own, part)| part_matches(own, part))
    }

    /// Whether `parts` is a folder above this parameter.
    pub(crate) fn is_below(&self, parts: &[&str]) -> bool {
        let own: Vec<&str> = segments(self.path).collect();
        own.len() > parts.len() && own.iter().zip(parts).all(|(own, part)| part_matches(own, part))
    }
}

/// A parameter with the Rust type that it is read as.
#[derive(Debug)]
pub struct Key<T: 'static> {
    /// The row of the schema.
    pub param: Param,
    pub(crate) marker: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// The path of the parameter.
    #[must_use]
    pub fn path(&self) -> &'static str {
        self.param.path
    }
}

fn part_matches(own: &str, part: &str) -> bool {
    match own {
        "<VAR>" => is_identifier(part),
        _ if own.starts_with('<') => is_name(part),
        _ => own == part,
    }
}

/// Whether a text can name an environment variable.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b))
}

/// The parts of a path; blanks between slashes do not count.
pub(crate) fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// The path as the schema spells it: no trailing slash, and the newer spellings brought home.
pub(crate) fn canonical(path: &str) -> String {
    let parts: Vec<&str> = segments(path).collect();
    let moved = matches!(parts.first(), Some(&("HA" | "subclusters" | "agents")));
    let prefix = if moved { "/vsmserver" } else { "" };
    format!("{prefix}/{}", parts.join("/"))
}

/// The parameter at a canonical path.
pub(crate) fn find(path: &str) -> Option<&'static Param> {
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
            .map(
                |(i, own)| {
                    if own.starts_with('<') { parts.get(i).copied().unwrap_or(own) } else { own }
                },
            )
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
        assert_eq!(nearest("/vsmsrver").as_deref(), Some("/vsmserver"));
        assert_eq!(nearest("/zzzzzzzzzzzz/qqqqqqqq"), None);
        assert_ne!(nearest("/vsmagent/sub").as_deref(), Some("/vsmagent"));
    }
}
