//! Why a certificate, key or authority is not used.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::account;

/// The parameter that names the private key.
pub(super) const KEY: &str = "/tls/key_file";

/// A certificate, key or authority that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path} ({parameter}): {source}{}", readable(parameter, source))]
    Read {
        /// File.
        path: PathBuf,
        /// Parameter that names it.
        parameter: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner could read a private key.
    #[error("{path} ({parameter}): {open}")]
    Open {
        /// File.
        path: PathBuf,
        /// Parameter that names it.
        parameter: &'static str,
        /// Its mode, and what mends it.
        open: OpenKey,
    },
    /// What it holds cannot be used: a private key of another certificate, say.
    #[error("{path} ({parameter}) cannot be used: {why}")]
    Unusable {
        /// File.
        path: PathBuf,
        /// Parameter that names it.
        parameter: &'static str,
        /// Why, in the words of the TLS library.
        why: String,
    },
    /// A file is not what it should be.
    #[error("{path} ({parameter}) holds no PEM {what}")]
    NotPem {
        /// File.
        path: PathBuf,
        /// Parameter that names it.
        parameter: &'static str,
        /// What was expected.
        what: &'static str,
    },
}

impl TlsError {
    /// Whether it may pass without a change of the configuration: the files are between two of a renewal, the key was
    /// put there as root's and is made readable within seconds, or an administrator makes a file readable. Whoever
    /// started the daemon is to try again.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unusable { .. } => true,
            Self::Read { source, .. } => is_denied(source),
            Self::Open { .. } | Self::NotPem { .. } => false,
        }
    }
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// What makes a file readable for a daemon that is not root.
fn readable(parameter: &str, error: &io::Error) -> &'static str {
    if !is_denied(error) {
        ""
    } else if parameter == KEY {
        "; vsm-root on a broker, and vsmagent on a session host, make a key of root's with mode 0600 readable within seconds: see ls -l, and that it runs"
    } else {
        "; it is no secret: chmod 644, and its folders 755"
    }
}

/// A private key that is none, as others than its owner can read or change it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "mode {mode:04o}: others than its owner could have this private key; it is not used before: chmod {mend} {path}"
)]
pub struct OpenKey {
    path: PathBuf,
    mode: u32,
    /// The mode that is right: where a daemon has an account of its own, that reads the key by its group.
    mend: &'static str,
}

impl OpenKey {
    /// The file of a private key is its owner's alone, as ssh wants it too: whoever else has it can be this host. One
    /// of root's may be read by the group of the daemons' accounts, which have no other way to it.
    ///
    /// # Errors
    /// If the group or others may do anything with it. One that cannot be looked at is for the caller to fail on.
    pub fn check(path: &Path) -> Result<(), Self> {
        let Ok(file) = fs::metadata(path) else { return Ok(()) };
        let mode = file.permissions().mode() & 0o7777;
        let is_ours = || file.uid() == 0 && account::key_groups().contains(&file.gid());
        let mend = match mode & 0o077 {
            0 => return Ok(()),
            _ if !is_ours() => "600",
            0o040 => return Ok(()),
            _ => "640",
        };
        Err(Self { path: path.to_owned(), mode, mend })
    }
}
