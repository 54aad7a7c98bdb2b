//! What is wrong with a configuration, in the words in which it is told.

use std::{fmt, path::PathBuf};

/// Most problems that are kept; a file of nonsense should not fill the log.
const PROBLEMS_MAX: usize = 200;

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the directory where it cannot be read.
    pub file: PathBuf,
    /// The line, from 1; 0 where there is none to name.
    pub line: usize,
    /// The parameter or folder; empty where the file as a whole is meant.
    pub path: String,
    /// What is wrong, what is allowed, and the nearest known name.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.text)
    }
}

/// Why a configuration was refused: all of its problems, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl std::error::Error for LoadError {}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().take(PROBLEMS_MAX).enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        match self.problems.len().checked_sub(PROBLEMS_MAX) {
            Some(more) if more > 0 => write!(f, "\n... and {more} more"),
            _ => Ok(()),
        }
    }
}
