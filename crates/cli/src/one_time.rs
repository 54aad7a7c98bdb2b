//! A key for one login: made for each `vsm connect`, told to the broker, good at the session host once and for a short
//! time. With it come the host's own keys, so that the user is asked neither for a second password nor about a host
//! that they have never seen.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;
use uuid::Uuid;
use vsm_core::SshKey;

use crate::viewer;

/// File of the secret half; the public one is beside it.
const SECRET: &str = "key";
/// What the folders of keys begin with.
const PREFIX: &str = "key-";
/// No key is good for longer than ten minutes: a folder that is older was left by a process that was killed.
const STALE: Duration = Duration::from_secs(3600);
/// Making a key takes some milliseconds; a machine without entropy is no reason to wait for long.
const MAKE_MAX: Duration = Duration::from_secs(10);
/// The name under which the host is known for this once.
const ALIAS: &str = "vsm-session-host";

/// For the login with the key alone: nobody is asked anything, nothing of the user's is offered, and no other
/// connection is taken or left, as this one may do nothing else.
const LOGIN: [&str; 10] = [
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "PreferredAuthentications=publickey",
    "BatchMode=yes",
    "ControlMaster=no",
    "ControlPath=none",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
];

/// So that nothing but the keys that the broker told counts, and nothing of them is kept.
const HOSTS: [&str; 4] = [
    "GlobalKnownHostsFile=none",
    "StrictHostKeyChecking=yes",
    "CheckHostIP=no",
    "UpdateHostKeys=no",
];

/// As arguments of ssh.
fn options(all: &[&str]) -> impl Iterator<Item = OsString> {
    all.iter().flat_map(|text| ["-o".into(), (*text).into()]).collect::<Vec<_>>().into_iter()
}

/// A folder that goes with the value.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // What is left of it is good for nothing, and swept later.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A key pair in a folder of its own, which goes with the value.
#[derive(Debug)]
pub struct OneTimeKey {
    folder: Folder,
    public: SshKey,
}

impl OneTimeKey {
    /// Makes one; none = this machine cannot, and the user logs in at the session host as well.
    pub async fn make() -> Option<Self> {
        let all = viewer::socket_dir().ok()?;
        sweep(&all);
        let dir = all.join(format!("{PREFIX}{}", Uuid::new_v4().simple()));
        DirBuilder::new().mode(0o700).create(&dir).ok()?;
        let folder = Folder(dir);
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(folder.0.join(SECRET));
        keygen.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let done = tokio::time::timeout(MAKE_MAX, keygen.status()).await.ok()?.ok()?;
        if !done.success() {
            return None;
        }
        Some(Self { public: public(&folder.0).ok()?, folder })
    }

    /// Takes over the folder of a key that another process has made and left.
    ///
    /// # Errors
    /// If there is no key in it.
    pub fn take(dir: PathBuf) -> io::Result<Self> {
        Ok(Self { public: public(&dir)?, folder: Folder(dir) })
    }

    /// Leaves the folder to another process.
    #[must_use]
    pub fn leave(mut self) -> PathBuf {
        std::mem::take(&mut self.folder.0)
    }

    /// The half that the broker is told.
    #[must_use]
    pub fn public(&self) -> &SshKey {
        &self.public
    }

    /// Notes the keys by which the session host is to be known. Where there are none, or they are not keys, it is known
    /// as always.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn know(&self, host_keys: &[String]) -> io::Result<()> {
        let lines = host_keys.iter().filter_map(|key| key.parse::<SshKey>().ok());
        let text: String = lines.map(|key| format!("{ALIAS} {key}\n")).collect();
        if text.is_empty() { Ok(()) } else { fs::write(self.known_hosts(), text) }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Arguments of ssh for a login with this key and nothing else. They stand before the user's, and so go before
    /// them.
    #[must_use]
    pub fn login(&self) -> Vec<OsString> {
        let key = ["-i".into(), self.folder.0.join(SECRET).into()];
        key.into_iter().chain(options(&LOGIN)).collect()
    }

    /// Arguments of ssh by which the session host is known; none where its keys are not.
    #[must_use]
    pub fn hosts(&self) -> Vec<OsString> {
        if !self.known_hosts().is_file() {
            return Vec::new();
        }
        let file = format!("UserKnownHostsFile={}", quoted(&self.known_hosts()));
        let alias = format!("HostKeyAlias={ALIAS}");
        options(&[&[file.as_str(), &alias], &HOSTS[..]].concat()).collect()
    }

    fn known_hosts(&self) -> PathBuf {
        self.folder.0.join("known_hosts")
    }
}

/// ssh splits the value at blanks and replaces what stands behind a percent sign.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

fn public(dir: &Path) -> io::Result<SshKey> {
    let line = fs::read_to_string(dir.join(SECRET).with_extension("pub"))?;
    SshKey::of_line(&line).map_err(io::Error::other)
}

/// Removes what processes that were killed have left.
fn sweep(all: &Path) {
    let is_stale = |entry: &fs::DirEntry| {
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = modified.and_then(|time| time.elapsed().ok());
        entry.file_name().to_string_lossy().starts_with(PREFIX)
            && age.is_some_and(|age| age > STALE)
    };
    for entry in fs::read_dir(all).into_iter().flatten().flatten().filter(is_stale) {
        let _ = fs::remove_dir_all(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_handed_on_and_goes_with_its_last_owner() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("a key 100%");
        fs::create_dir(&own).unwrap();
        assert!(OneTimeKey::take(own.clone()).is_err());
        // That failed attempt has not taken it away.
        fs::write(own.join("key.pub"), "ssh-ed25519 AAAAC3Nz me@here\n").unwrap();
        let key = OneTimeKey::take(own.clone()).unwrap();
        assert_eq!(key.public().as_str(), "ssh-ed25519 AAAAC3Nz");
        let known = |key: &OneTimeKey| {
            key.hosts().iter().any(|word| word.to_string_lossy().starts_with("UserKnownHostsFile="))
        };
        key.know(&["no key".to_owned()]).unwrap();
        assert!(!known(&key));
        key.know(&["ssh-ed25519 BBBB".to_owned(), "x\ny".to_owned()]).unwrap();
        assert!(known(&key));
        assert!(quoted(&own).ends_with("a key 100%%\""));
        let text = fs::read_to_string(own.join("known_hosts")).unwrap();
        assert_eq!(text, "vsm-session-host ssh-ed25519 BBBB\n");
        let key = OneTimeKey::take(key.leave()).unwrap();
        drop(key);
        assert!(!own.exists());
    }
}
