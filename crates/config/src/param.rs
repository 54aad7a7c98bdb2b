//! One row of the schema, the typed key made from it, and how paths find their row.

use std::marker::PhantomData;

use crate::{kind::Kind, value::Value};

/// What root runs on a broker. On session hosts the programs of parameters run as users.
const ROOTS_PROGRAMS: [&str; 3] =
    ["/vsmserver/mail_program", "/vsmserver/hooks/startup_dir", "/vsmserver/hooks/reconnect_dir"];

/// Parameters that are a node's own in a pair, by the beginning of their path: where its things are, and what root does
/// there.
const NODES_OWN: [&str; 9] = [
    "/tls/",
    "/vsmagent/",
    "/vsmserver/logging/",
    "/vsmserver/state_dir",
    "/vsmserver/user_socket",
    "/vsmserver/admin_socket",
    "/vsmserver/web_socket",
    "/vsmserver/trail/",
    "/vsmagent-logging/",
];

/// Whether a parameter is a node's own: the other node's value means nothing here, and is not taken.
#[must_use]
pub fn is_nodes_own(path: &str) -> bool {
    NODES_OWN.iter().any(|start| path.starts_with(start))
}

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

    /// Whether `parts` is the path of this parameter.
    pub(crate) fn matches(&self, parts: &[&str]) -> bool {
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

/// Whether this part of a row's path is, or stands for, this part of a path.
pub(crate) fn part_matches(own: &str, part: &str) -> bool {
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
#[must_use]
pub fn canonical(path: &str) -> String {
    let parts: Vec<&str> = segments(path).collect();
    let moved = matches!(parts.first(), Some(&("HA" | "subclusters" | "agents")));
    let prefix = if moved { "/vsmserver" } else { "" };
    format!("{prefix}/{}", parts.join("/"))
}
