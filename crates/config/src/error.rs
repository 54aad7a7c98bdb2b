//! Why reading, setting or taking over parameters failed, with the exit code that `vsm-config` makes of it.

use crate::{problem::LoadError, schema};

/// Why `vsm-config` failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// There is no such parameter or folder; exit code 1.
    #[error("{0}")]
    NoSuch(String),
    /// A bad value, bad usage, or a configuration that cannot be used; exit code 2. May have several lines.
    #[error("{0}")]
    Bad(String),
    /// A file cannot be written, or not safely; exit code 3.
    #[error("{0}")]
    Write(String),
}

impl ToolError {
    /// The exit code that scripts rely on.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::NoSuch(_) => 1,
            Self::Bad(_) => 2,
            Self::Write(_) => 3,
        }
    }

    /// The same with lines that stand before the refusal; its own is the last.
    pub(crate) fn with_lines(self, lines: &[String]) -> Self {
        let with =
            |text: String| [lines, &[text, "nothing was taken".to_owned()]].concat().join("\n");
        match self {
            Self::NoSuch(text) => Self::NoSuch(with(text)),
            Self::Bad(text) => Self::Bad(with(text)),
            Self::Write(text) => Self::Write(with(text)),
        }
    }

    pub(crate) fn no_such(path: &str) -> Self {
        if schema::is_folder(path) {
            return Self::NoSuch(format!(
                "{path}: is a folder, not a parameter; list it with -a {path}"
            ));
        }
        let near = schema::nearest(path)
            .map_or_else(String::new, |near| format!("; did you mean {near}?"));
        Self::NoSuch(format!("{path}: no such parameter{near}"))
    }
}

impl From<LoadError> for ToolError {
    fn from(error: LoadError) -> Self {
        Self::Bad(error.to_string())
    }
}
