//! The user on this host: account, PAM session, home directory.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, lchown, symlink},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::unistd::{Gid, Uid, User, initgroups};
use vsm_pam::{Item, Pam, PamError};

use crate::{
    refusal::{Refusal, Refused},
    spec::Spec,
};

/// Linux-PAM's codes for the two refusals that have words of their own.
const ACCOUNT_EXPIRED: i32 = 13;
const NEW_PASSWORD_REQUIRED: i32 = 12;
/// What a new home directory is filled from.
const SKELETON: &str = "/etc/skel";
/// Deepest folder in the skeleton; one that is deeper is a loop or a mistake.
const SKELETON_DEPTH_MAX: u32 = 16;
/// How long the home may take to be found: an automounter has enough of it, a file server that is gone would take for
/// ever.
const HOME_MAX: Duration = Duration::from_secs(10);

/// A user as the host's name service knows them.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: PathBuf,
    pub(super) shell: PathBuf,
}

impl Account {
    /// Looks the user up.
    pub(super) fn look_up(spec: &Spec) -> Result<Self, Refused> {
        let (name, agent) = (spec.session.user.as_str(), &spec.session.agent);
        let user = User::from_name(name)
            .map_err(|error| {
                Refused::new(
                    Refusal::Internal,
                    format!("cannot look up user {name} on {agent}: {error}"),
                )
            })?
            .ok_or_else(|| {
                Refused::new(Refusal::UnknownUser, format!("{agent} does not know user {name}"))
            })?;
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        Ok(Self { name: user.name, uid, gid, home: user.dir, shell: user.shell })
    }

    /// Checks the account, sets the groups of this process, and opens the PAM session.
    pub(super) fn open(&self, service: &str, display: u32) -> Result<Pam, Refused> {
        let refuse = |error: PamError| self.refusal(&error);
        let mut pam = Pam::start(service, &self.name).map_err(refuse)?;
        pam.set(Item::Tty, &format!(":{display}")).map_err(refuse)?;
        pam.check_account().map_err(refuse)?;
        // Before the credentials: modules such as pam_group add to what is set here.
        let name = std::ffi::CString::new(self.name.as_str()).unwrap_or_default();
        initgroups(&name, Gid::from_raw(self.gid)).map_err(|error| {
            Refused::new(
                Refusal::Internal,
                format!("cannot set the groups of {}: {error}", self.name),
            )
        })?;
        pam.establish_credentials().map_err(refuse)?;
        pam.open_session().map_err(refuse)?;
        Ok(pam)
    }

    fn refusal(&self, error: &PamError) -> Refused {
        let name = &self.name;
        let detail = match error.code {
            ACCOUNT_EXPIRED => format!("the account of {name} has expired"),
            NEW_PASSWORD_REQUIRED => {
                format!("the password of {name} has expired and must be changed")
            }
            _ => format!("the account of {name} is refused: {error}"),
        };
        Refused::new(Refusal::Account, detail)
    }

    /// Makes sure that the home directory is there and theirs; makes it if `mode` says how.
    pub(super) fn check_home(&self, mode: Option<u32>, agent: &str) -> Result<(), Refused> {
        let (name, home) = (&self.name, self.home.display());
        let refuse = |detail: String| Err(Refused::new(Refusal::Home, detail));
        match look_at(self.home.clone(), HOME_MAX) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let within = HOME_MAX.as_secs();
                refuse(format!(
                    "the home of {name}, {home} on {agent}, hangs: no answer within {within} s"
                ))
            }
            Ok(found) if !found.is_dir() => {
                refuse(format!("the home of {name}, {home} on {agent}, is no directory"))
            }
            Ok(found) if found.uid() != self.uid => {
                let owner = User::from_uid(Uid::from_raw(found.uid())).ok().flatten();
                let owner = owner.map_or_else(|| found.uid().to_string(), |user| user.name);
                refuse(format!("{home} on {agent} is owned by {owner}, not by {name}"))
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match mode {
                Some(mode) => self.make_home(mode).or_else(|error| {
                    refuse(format!(
                        "cannot make home directory {home} of {name} on {agent}: {error}"
                    ))
                }),
                None => refuse(format!("user {name} has no home directory {home} on {agent}")),
            },
            // Root may not look into some network homes: whether the user may is seen when their programs start.
            Err(_) => Ok(()),
        }
    }

    /// Root owns it until it is complete, so that nothing can be put in the way of the copy.
    fn make_home(&self, mode: u32) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(&self.home)?;
        if Path::new(SKELETON).is_dir() {
            self.copy(Path::new(SKELETON), &self.home, 0)?;
        }
        fs::set_permissions(&self.home, fs::Permissions::from_mode(mode))?;
        chown(&self.home, Some(self.uid), Some(self.gid))
    }

    fn copy(&self, from: &Path, to: &Path, depth: u32) -> io::Result<()> {
        if depth > SKELETON_DEPTH_MAX {
            return Err(io::Error::other(format!("{} is too deep", from.display())));
        }
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
            if kind.is_dir() {
                fs::create_dir(&target)?;
                fs::set_permissions(&target, entry.metadata()?.permissions())?;
                self.copy(&entry.path(), &target, depth + 1)?;
            } else if kind.is_symlink() {
                symlink(fs::read_link(entry.path())?, &target)?;
            } else if kind.is_file() {
                fs::copy(entry.path(), &target)?;
            } else {
                continue;
            }
            lchown(&target, Some(self.uid), Some(self.gid))?;
        }
        Ok(())
    }
}

/// Looks at a file that may be on a file server that does not answer. A thread that hangs there goes with this process.
fn look_at(path: PathBuf, max: Duration) -> io::Result<fs::Metadata> {
    let (tell, told) = mpsc::sync_channel(1);
    // Fails where nobody waits any more.
    thread::Builder::new().spawn(move || drop(tell.send(fs::metadata(path))))?;
    told.recv_timeout(max).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(home: PathBuf, uid: u32) -> Account {
        Account { name: "carol".to_owned(), uid, gid: uid, home, shell: "/bin/sh".into() }
    }

    #[test]
    fn a_home_is_checked_and_made() {
        let dir = tempfile::tempdir().unwrap();
        let own = nix::unistd::getuid().as_raw();
        assert!(account(dir.path().to_owned(), own).check_home(None, "a").is_ok());
        let other = account(dir.path().to_owned(), own + 1).check_home(None, "agent1").unwrap_err();
        assert_eq!(other.reason, Refusal::Home);
        assert!(
            other.detail.contains("is owned by") && other.detail.ends_with("not by carol"),
            "{other}"
        );
        let missing = account(dir.path().join("carol"), own);
        let refused = missing.check_home(None, "agent1").unwrap_err();
        assert!(refused.detail.starts_with("user carol has no home directory"), "{refused}");
        missing.check_home(Some(0o750), "agent1").unwrap();
        assert_eq!(fs::metadata(&missing.home).unwrap().permissions().mode() & 0o777, 0o750);
        let deep = account(dir.path().join("no/carol"), own)
            .check_home(Some(0o700), "agent1")
            .unwrap_err();
        assert!(deep.detail.starts_with("cannot make home directory"), "{deep}");
    }

    #[test]
    fn refusals_name_the_account() {
        let error =
            |code| PamError { step: "account check", code, text: "text".into(), messages: vec![] };
        let carol = account("/".into(), 0);
        assert_eq!(
            carol.refusal(&error(ACCOUNT_EXPIRED)).detail,
            "the account of carol has expired"
        );
        assert_eq!(
            carol.refusal(&error(6)).detail,
            "the account of carol is refused: PAM account check: text"
        );
    }
}
