//! Giving the broker's account what the broker needs as its own, before it starts: its table, the folder of its
//! sockets, the right to read its keys. A broker of version 0.1 was root and left all of that root's; an administrator
//! copies keys and brings tables back from backups as root.
//!
//! Root does this in folders that the account may write to. So no link is followed, and nothing is given away that has
//! a second name elsewhere. Where the things are says the configuration, in parameters that no other node can set.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use vsm_config::{Config, keys};
use vsm_daemon::{account::Account, grant, log::LogSettings, one_time, socket};

/// The folder that broker and agent have their sockets in: both may make some there, and neither touches the other's.
const RUN_DIR: &str = "/run/vsm";
const RUN_MODE: u32 = 0o1775;
/// The broker's sockets and files there besides those that have a parameter.
const BESIDE: [&str; 3] = [one_time::BROKER_SOCKET, "vsmserver-relay.sock", "vsmserver.health"];
/// Files of a state directory that are looked at; a table has three, and those that were set aside are few.
const FILES_MAX: usize = 1000;

/// What could not be given.
#[derive(Debug, thiserror::Error)]
#[error("cannot give {path} to the user vsmserver: {source}")]
pub struct PrepareError {
    path: PathBuf,
    source: io::Error,
}

/// Gives the account all that.
///
/// # Errors
/// Names the file.
pub fn all(config: &Config, account: Account) -> Result<(), PrepareError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        |source| PrepareError { path, source }
    };
    let run = Path::new(RUN_DIR);
    run_dir(run, account).map_err(at(run))?;
    let user_socket: PathBuf = config.get(&keys::vsmserver::USER_SOCKET);
    let beside = BESIDE.map(|name| user_socket.with_file_name(name));
    let admin_socket: PathBuf = config.get(&keys::vsmserver::ADMIN_SOCKET);
    for path in [user_socket, admin_socket].into_iter().chain(beside) {
        left_behind(&path, account).map_err(at(&path))?;
    }
    let state: PathBuf = config.get(&keys::vsmserver::STATE_DIR);
    state_dir(&state, account).map_err(at(&state))?;
    own_keys(config, account)?;
    if let Some(path) = LogSettings::vsmserver(config, &[]).file() {
        grant::log_file(path, account).map_err(at(path))?;
    }
    Ok(())
}

/// Lets the account read the keys that the configuration names. An administrator copies new ones at any time.
///
/// # Errors
/// Names the file.
pub fn own_keys(config: &Config, account: Account) -> Result<(), PrepareError> {
    // Root needs no leave.
    if account.uid == 0 {
        return Ok(());
    }
    // This host's is an agent's too, where it is one; the issuer's is the broker's alone.
    let own = (config.get(&keys::tls::KEY_FILE), account.key_group());
    for (path, group) in [own, (config.get(&keys::tls::ISSUER_KEY_FILE), account.gid)] {
        if let Err(source) = grant::readable(&path, group) {
            return Err(PrepareError { path, source });
        }
    }
    Ok(())
}

fn run_dir(dir: &Path, account: Account) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let dir = File::open(dir)?;
    fchown(&dir, Some(0), Some(account.gid))?;
    dir.set_permissions(Permissions::from_mode(RUN_MODE))
}

/// What a broker of root's has left in a folder where nobody can remove what is another's: a socket that nobody serves
/// goes; a file that others watch stays and changes its owner.
fn left_behind(path: &Path, account: Account) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if found.uid() == account.uid {
        return Ok(());
    }
    let kind = found.file_type();
    if kind.is_file() {
        return grant::own(path, account);
    }
    let is_served = || {
        let connected = socket::connect_now(path);
        connected.map_or_else(|error| error.kind() == io::ErrorKind::TimedOut, |_| true)
    };
    if kind.is_socket() && !is_served() {
        return fs::remove_file(path);
    }
    Ok(())
}

/// The folder and the files in it, which has no folders.
fn state_dir(dir: &Path, account: Account) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    // A link is root's own way to another disk: it lies in a folder of root's.
    let folder = File::open(dir)?;
    let files: Vec<_> = fs::read_dir(dir)?.take(FILES_MAX).collect::<io::Result<_>>()?;
    for file in files {
        if file.file_type()?.is_file() {
            grant::own(&file.path(), account)?;
        }
    }
    if folder.metadata()?.uid() == 0 {
        fchown(&folder, Some(account.uid), Some(account.gid))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    const ACCOUNT: Account = Account { name: "nobody", uid: 65_533, gid: 65_533 };

    fn of(path: &Path) -> (u32, u32, u32) {
        let found = fs::symlink_metadata(path).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    }

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    fn file(path: &Path, mode: u32) {
        fs::write(path, "x").unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_table_of_roots_becomes_the_accounts_and_nothing_that_a_link_leads_to() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (state, other) = (dir.path().join("state"), dir.path().join("shadow"));
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, Permissions::from_mode(0o700)).unwrap();
        for path in [&state.join("vsm.db"), &state.join("vsm.db-wal"), &other] {
            file(path, 0o600);
        }
        symlink(&other, state.join("link")).unwrap();
        fs::hard_link(&other, state.join("second-name")).unwrap();
        fs::create_dir(state.join("folder")).unwrap();
        state_dir(&state, ACCOUNT).unwrap();
        assert_eq!(of(&state), (ACCOUNT.uid, ACCOUNT.gid, 0o700));
        for name in ["vsm.db", "vsm.db-wal"] {
            assert_eq!(of(&state.join(name)), (ACCOUNT.uid, ACCOUNT.gid, 0o600), "{name}");
        }
        for path in [&other, &state.join("second-name"), &state.join("folder")] {
            assert_eq!(of(path).0, 0, "{}", path.display());
        }
        // What a backup brings back into a folder that is the account's already.
        file(&state.join("vsm.db"), 0o600);
        std::os::unix::fs::chown(state.join("vsm.db"), Some(0), Some(0)).unwrap();
        state_dir(&state, ACCOUNT).unwrap();
        assert_eq!(of(&state.join("vsm.db")).0, ACCOUNT.uid);
    }

    #[test]
    fn what_a_broker_of_roots_left_is_given_or_goes_and_what_is_served_stays() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        file(&at("vsmserver.health"), 0o644);
        let live = UnixListener::bind(at("live.sock")).unwrap();
        drop(UnixListener::bind(at("stale.sock")).unwrap());
        symlink("/etc/shadow", at("link.sock")).unwrap();
        for name in ["vsmserver.health", "live.sock", "stale.sock", "link.sock", "none.sock"] {
            left_behind(&at(name), ACCOUNT).unwrap();
        }
        assert_eq!(of(&at("vsmserver.health")).0, ACCOUNT.uid);
        assert!(at("live.sock").exists() && !at("stale.sock").exists());
        assert_eq!(fs::metadata("/etc/shadow").unwrap().uid(), 0);
        drop(live);
        run_dir(&at("run"), ACCOUNT).unwrap();
        run_dir(&at("run"), ACCOUNT).unwrap();
        assert_eq!(of(&at("run")), (0, ACCOUNT.gid, RUN_MODE));
    }
}
