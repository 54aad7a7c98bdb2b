//! From a spec to a desktop that can be viewed, or to a refusal with nothing left behind.
//!
//! The first act is to make the session's folder, which fails where it is there already: so two starts of one id can
//! never run side by side, and whatever is left of a start that was cut short is found by its folder. The last one here
//! is to start the X server; [`Preparing`] waits for it.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
        net::UnixListener,
    },
};

use nix::{
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::setsid,
};
use vsm_core::{Resources, Session, State};
use vsm_daemon::process as process_settings;

use super::{
    account::Account,
    desktop::{self, Desktop, Place, Program},
    given::Own,
    keyboard::Keyboard,
    leftovers::Leftovers,
    monitor::Monitor,
    notices::Notices,
    output::Log,
    peers::Peers,
    preparing::Preparing,
    profile,
    running::Ready,
    xserver::{self, Paths},
};
use crate::{
    cgroup::Cgroup,
    control, displays,
    process::{self, Process},
    record::{Record, Store, VERSION},
    refusal::{Refusal, Refused},
    spec::{Reply, Spec},
};

fn internal(what: &str) -> impl FnOnce(io::Error) -> Refused {
    move |error| Refused::new(Refusal::Internal, format!("cannot {what}: {error}"))
}

/// Prepares this process: its own process session, orphans of the desktop come to it, signals by descriptor.
fn become_monitor() -> Result<SignalFd, Refused> {
    // Fails only if it leads one already.
    let _ = setsid();
    let errno = |error: nix::Error| io::Error::from(error);
    prctl::set_child_subreaper(true).map_err(errno).map_err(internal("look after orphans"))?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)
        .and_then(|()| {
            SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        })
        .map_err(errno)
        .map_err(internal("take signals"))
}

/// Fails where the folder is somebody else's: on a broker's host the broker, which is not root, may make some beside
/// it.
fn roots(dir: &std::path::Path) -> io::Result<()> {
    let found = fs::symlink_metadata(dir)?;
    let own = rustix::process::geteuid().as_raw();
    if found.is_dir() && (found.uid() == 0 || found.uid() == own) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not root's"))
}

/// Makes the session's folder and its control socket; the folder is root's, and only passed through by others.
fn open_socket(dir: &std::path::Path) -> Result<UnixListener, Refused> {
    let named = |what: &'static str| {
        move |error| {
            Refused::new(Refusal::Internal, format!("cannot {what} {}: {error}", dir.display()))
        }
    };
    if let Some(parent) = dir.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(parent)
            .and_then(|()| roots(parent))
            // One that was made under another mask.
            .and_then(|()| fs::set_permissions(parent, fs::Permissions::from_mode(0o711)))
            .map_err(named("make the folder of"))?;
    }
    fs::DirBuilder::new().mode(0o711).create(dir).map_err(named("make"))?;
    let listen = || {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711))?;
        let path = control::socket(dir);
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|error| {
        // It was just made by us.
        let _ = fs::remove_dir_all(dir);
        named("open the socket in")(error)
    })
}

/// Starts the session; it can be viewed then, and nothing but its X server runs.
pub(super) fn start(spec: Spec) -> Result<Ready, Reply> {
    process_settings::set_descriptors(spec.descriptors);
    // The mask that the agent was started with is nothing to a desktop, but PAM's is.
    process_settings::plain_modes();
    let signals = become_monitor()?;
    let dir = control::session_dir(&spec.settings.run_dir, spec.session.id);
    let listener = open_socket(&dir)?;
    let mut leftovers =
        Leftovers { dir, id: spec.session.id, cgroup: None, names: None, unlimited: Vec::new() };
    let mut log = Log::open(Store::at(&spec.settings.state_dir).log(spec.session.id));
    match prepare(&spec, &mut leftovers, &mut log) {
        Ok((desktop, x_server, record)) => {
            let monitor = Monitor {
                desktop,
                x_server,
                x_server_ended: None,
                record,
                log,
                spec,
                leftovers,
                signals,
                peers: Peers::new(listener),
                notices: Notices::default(),
                keyboard: Keyboard::new(),
                asked: None,
            };
            Preparing::new(monitor).run()
        }
        Err(reply) => {
            drop((listener, signals, log));
            leftovers.undo(&Store::at(&spec.settings.state_dir));
            Err(reply)
        }
    }
}

/// Everything up to the running X server process.
fn prepare(
    spec: &Spec,
    leftovers: &mut Leftovers,
    log: &mut Log,
) -> Result<(Desktop, Program, Record), Reply> {
    let Spec { session, display, settings, limits, .. } = spec;
    let agent = session.agent.as_str();
    let account = Account::look_up(spec)?;
    if !settings.script.is_file() {
        let script = settings.script.display();
        let detail = format!("{script} is missing on {agent} (/vsmagent/session_script)");
        return Err(Refused::new(Refusal::Internal, detail).into());
    }
    let x_program = xserver::find(settings.xserver.as_deref(), agent)?;
    let own = Own::look();
    let pam = account.open(&settings.pam_service, *display)?;
    let given = own.keep();
    account.check_home(settings.make_home_mode, agent)?;
    let paths = Paths::new(leftovers.dir.clone());
    let mut entry = desktop::prepare(spec, &paths, &account)?;
    // It is the end of its entry.
    let cookie = entry.split_off(entry.len().saturating_sub(xserver::COOKIE_LEN));
    chown(control::socket(&paths.dir), Some(account.uid), Some(account.gid))
        .map_err(internal("give the control socket to the user"))?;
    leftovers.cgroup = Cgroup::create(session.id);
    limit(spec, leftovers, log)?;
    let mut environment = desktop::environment(spec, &account, &paths, pam.environment());
    let cgroup = leftovers.cgroup.as_ref();
    let place =
        Place { account: &account, cgroup, environment: &environment, tmp: None, given: &given };
    let chosen = profile::choose(spec, &place, &paths.dir, log);
    // What a test has left running is in nobody's way any more.
    leftovers.kill();
    environment.extend(chosen?);
    let tmp = Some(open_names(spec, &account, leftovers, log)?);
    let place =
        Place { account: &account, cgroup: None, environment: &environment, tmp, given: &given };
    let x_server = place.spawn(&x_program, xserver::arguments(spec, &paths)).map_err(|error| {
        Refused::new(Refusal::XServer, format!("cannot start {}: {error}", x_program.display()))
    })?;
    if let Some(cgroup) = &leftovers.cgroup {
        // The kernel takes milliseconds over it, so it is done while the X server begins; whatever that has started
        // until then ends before it greets, and nothing of the user's own runs yet.
        cgroup.take(x_server.pid).map_err(internal("put the X server into its cgroup"))?;
    }
    let record = Record {
        version: VERSION,
        session: Session { state: State::Running { display: *display }, ..session.clone() },
        boot_id: process::boot_id(),
        uid: account.uid,
        monitor: Process::own(),
        x_server: Process::of(x_server.pid).unwrap_or(Process { pid: x_server.pid, start: 0 }),
        cgroup: leftovers.cgroup.as_ref().map(|cgroup| cgroup.dir().to_owned()),
        limits: limits.clone(),
    };
    Ok((Desktop { account, pam, paths, environment, given, cookie }, x_server, record))
}

/// Makes sure that nobody else can have the display's names, and makes the X server's `/tmp`, which it gives.
fn open_names<'a>(
    spec: &Spec,
    account: &Account,
    leftovers: &'a mut Leftovers,
    log: &mut Log,
) -> Result<&'a std::path::Path, Refused> {
    let (id, agent) = (spec.session.id, &spec.session.agent);
    let failed = |error: io::Error| {
        let detail = format!("no display can be had on {agent}: {error}");
        Refused::new(Refusal::Internal, detail)
    };
    let place = displays::Place::open().map_err(failed)?;
    for moved in &place.moved {
        log.note(moved);
    }
    let stage = place.stage(id, account.uid, account.gid).map_err(failed)?;
    Ok(&leftovers.names.insert((place, stage)).1.dir)
}

/// Holds the session to what it may take of the host. One that cannot be held to it is started all the same, unless the
/// administrator asks for more.
fn limit(spec: &Spec, leftovers: &mut Leftovers, log: &mut Log) -> Result<(), Refused> {
    if spec.resources == Resources::default() {
        return Ok(());
    }
    leftovers.unlimited = match &leftovers.cgroup {
        Some(cgroup) => cgroup.limit(spec.resources).iter().map(ToString::to_string).collect(),
        None => vec!["there is no cgroup v2 here that can be written".to_owned()],
    };
    for why in &leftovers.unlimited {
        log.note(&format!("a limit of the subcluster does not hold: {why}"));
    }
    if let (Some(why), true) = (leftovers.unlimited.first(), spec.settings.require_limits) {
        let agent = &spec.session.agent;
        let detail = format!(
            "{agent} cannot hold a session to its limits: {why} (/vsmagent/require_limits)"
        );
        return Err(Refused::new(Refusal::Internal, detail));
    }
    Ok(())
}
