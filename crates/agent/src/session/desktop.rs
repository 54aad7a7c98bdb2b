//! What runs for the user: how the X server and the session script are started, and with which environment.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
};

use vsm_pam::Pam;

use super::{
    account::Account,
    given::Given,
    launch::Order,
    locale,
    output::Stream,
    xserver::{self, Paths, SEARCH_PATH},
};
use crate::{
    cgroup::Cgroup,
    params,
    process::SESSION_VARIABLE,
    refusal::{Refusal, Refused},
    spec::Spec,
};

/// A child of the monitor. Its end is told by `SIGCHLD`.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) pid: i32,
    pub(super) output: Stream,
}

/// Makes the user's folder of the session with the X cookie in it, and the file with the session's parameters; the
/// cookie's entry.
pub(super) fn prepare(spec: &Spec, paths: &Paths, account: &Account) -> Result<Vec<u8>, Refused> {
    let Spec { session, display, .. } = spec;
    let make = || {
        params::write(&paths.dir, &params::of(session, *display, &session.params), account.uid)?;
        fs::DirBuilder::new().mode(0o700).create(&paths.user)?;
        let entry = xserver::write_cookie(&paths.cookie, *display)?;
        chown(&paths.cookie, Some(account.uid), Some(account.gid))?;
        chown(&paths.user, Some(account.uid), Some(account.gid))?;
        Ok(entry)
    };
    make().map_err(|error: io::Error| {
        Refused::new(Refusal::Storage, format!("cannot make {}: {error}", paths.dir.display()))
    })
}

/// The bus of all of a user's logins, which pam_systemd names: not a desktop's.
const USER_BUS: &str = "DBUS_SESSION_BUS_ADDRESS";

/// Where the user's programs keep sockets and such: `/run/user/UID` where logind has made it, as in every other login
/// of theirs; else the session's own.
fn runtime_dir(pam: &BTreeMap<String, String>, uid: u32, own: &Path) -> PathBuf {
    let is_theirs = |path: &&String| {
        fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == uid)
    };
    pam.get("XDG_RUNTIME_DIR").filter(is_theirs).map_or_else(|| own.to_owned(), PathBuf::from)
}

/// The session's environment. The administrator's variables win over PAM's, the client's language, where this host has
/// it, over both, and what makes the session work over all.
pub(super) fn environment(
    spec: &Spec,
    account: &Account,
    paths: &Paths,
    pam: Vec<(String, String)>,
) -> BTreeMap<String, String> {
    let params = &spec.session.params;
    let mut all = BTreeMap::from([("PATH".to_owned(), SEARCH_PATH.to_owned())]);
    let mut pam = BTreeMap::from_iter(pam);
    // The desktop has a bus of its own, whose programs are on its display, in its cgroup, and end with it.
    pam.remove(USER_BUS);
    let runtime = runtime_dir(&pam, account.uid, &paths.user);
    all.extend(pam);
    all.extend(spec.settings.environment.clone());
    if locale::is_here(&params.language) {
        all.insert("LANG".to_owned(), params.language.clone().into());
    }
    if !params.start_command.is_empty() {
        all.insert("VSM_COMMAND".to_owned(), params.start_command.clone().into());
    }
    let text = |path: &Path| path.display().to_string();
    let fixed = [
        ("HOME", text(&account.home)),
        ("USER", account.name.clone()),
        ("LOGNAME", account.name.clone()),
        ("SHELL", text(&account.shell)),
        ("DISPLAY", format!(":{}", spec.display)),
        ("XAUTHORITY", text(&paths.cookie)),
        ("XDG_RUNTIME_DIR", text(&runtime)),
        ("VSM_SESSION_DIR", text(&paths.user)),
        ("XDG_SESSION_TYPE", "x11".to_owned()),
        (SESSION_VARIABLE, spec.session.id.to_string()),
        ("VSM_RUN_DIR", text(&spec.settings.run_dir)),
    ];
    all.extend(fixed.map(|(name, value)| (name.to_owned(), value)));
    all
}

/// The user's side of a session.
#[derive(Debug)]
pub(super) struct Desktop {
    pub(super) account: Account,
    pub(super) pam: Pam,
    pub(super) paths: Paths,
    pub(super) environment: BTreeMap<String, String>,
    /// What PAM has set for its programs.
    pub(super) given: Given,
    /// The X cookie itself.
    pub(super) cookie: Vec<u8>,
}

impl Desktop {
    /// Where its programs run, in this cgroup.
    pub(super) const fn place<'a>(&'a self, cgroup: Option<&'a Cgroup>) -> Place<'a> {
        let Self { account, environment, given, .. } = self;
        Place { account, cgroup, environment, tmp: None, given }
    }
}

/// Who runs a program and where it belongs.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) account: &'a Account,
    pub(super) cgroup: Option<&'a Cgroup>,
    pub(super) environment: &'a BTreeMap<String, String>,
    /// A `/tmp` of its own, which X servers have.
    pub(super) tmp: Option<&'a Path>,
    /// Its mask of modes and its limits.
    pub(super) given: &'a Given,
}

impl Place<'_> {
    /// Starts a program as the user, in their home directory, with its output going to a stream.
    pub(super) fn spawn(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>,
    ) -> io::Result<Program> {
        let (output, writer) = Stream::new()?;
        let order = self.order(program, arguments);
        let child = order.command()?.stdout(writer.try_clone()?).stderr(writer).spawn()?;
        Ok(Program { pid: i32::try_from(child.id()).unwrap_or(0), output })
    }

    /// What it takes to run a program so.
    pub(super) fn order(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>,
    ) -> Order {
        let Account { uid, gid, home, .. } = self.account;
        Order {
            cgroup: self.cgroup.map(|cgroup| cgroup.dir().to_owned()),
            uid: *uid,
            gid: *gid,
            dir: home.clone(),
            tmp: self.tmp.map(Path::to_owned),
            program: program.to_owned(),
            arguments: arguments.into_iter().map(|word| word.as_ref().to_owned()).collect(),
            environment: self.environment.clone(),
            given: self.given.clone(),
        }
    }
}
