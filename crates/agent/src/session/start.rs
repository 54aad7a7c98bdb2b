//! From a spec to a desktop that can be viewed, or to a refusal with nothing left behind.
//!
//! The first act is to make the session's folder, which fails where it is there already: so two starts of one id can
//! never run side by side, and whatever is left of a start that was cut short is found by its folder. The record is
//! written while the X server starts up, so that its fsync costs nothing.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt, chown},
        net::UnixListener,
    },
    time::Duration,
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
use vsm_daemon::{clock, process as process_settings};

use super::{
    account::Account,
    desktop::{self, Desktop, Place, Program},
    given::Own,
    launch::{self, EXIT_HOME, EXIT_PROGRAM},
    leftovers::Leftovers,
    monitor::Monitor,
    output::Log,
    profile,
    xserver::{self, Greeting, Paths},
};
use crate::{
    cgroup::Cgroup,
    control, displays,
    process::{self, Process},
    record::{Record, Store, VERSION},
    refusal::{Refusal, Refused},
    spec::{Reply, Spec},
};

impl From<Refused> for Reply {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

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

/// Starts the session.
pub(super) fn start(spec: Spec) -> Result<Monitor, Reply> {
    process_settings::set_descriptors(spec.descriptors);
    // The mask that the agent was started with is nothing to a desktop, but PAM's is.
    process_settings::plain_modes();
    let signals = become_monitor()?;
    let dir = control::session_dir(&spec.settings.run_dir, spec.session.id);
    let listener = open_socket(&dir)?;
    let mut leftovers =
        Leftovers { dir, id: spec.session.id, cgroup: None, names: None, unlimited: Vec::new() };
    let mut log = Log::open(Store::at(&spec.settings.state_dir).log(spec.session.id));
    let result =
        prepare(&spec, &mut leftovers, &mut log).and_then(|(desktop, x_server, record)| {
            let mut monitor = Monitor::new(desktop, x_server, listener, signals, log);
            let viewed = first_view(&mut monitor, record, &spec);
            match viewed.and_then(|()| publish(&monitor, &leftovers, &spec)) {
                Ok(()) => Ok(monitor),
                Err(reply) => {
                    monitor.log.note(&format!("the start failed: {reply:?}"));
                    Err(reply)
                }
            }
        });
    match result {
        Ok(mut monitor) => {
            monitor.keep(spec, leftovers);
            Ok(monitor)
        }
        Err(reply) => {
            leftovers.kill();
            Store::at(&spec.settings.state_dir).remove_record(spec.session.id);
            leftovers.remove();
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

/// Puts the display where clients look for it.
fn publish(monitor: &Monitor, leftovers: &Leftovers, spec: &Spec) -> Result<(), Reply> {
    let Some((place, stage)) = &leftovers.names else { return Ok(()) };
    let uid = monitor.desktop.account.uid;
    place.publish(stage, spec.display, uid, monitor.x_server.pid).map_err(|error| {
        let agent = &spec.session.agent;
        let detail = format!("the display cannot be offered on {agent}: {error}");
        Refused::new(Refusal::Internal, detail).into()
    })
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

/// Makes the record durable and waits for the greeting of the X server.
fn first_view(monitor: &mut Monitor, record: Record, spec: &Spec) -> Result<(), Reply> {
    let settings = &spec.settings;
    let deadline = clock::now() + Duration::from_millis(settings.x_timeout_ms);
    Store::at(&settings.state_dir).save_record(&record).map_err(|error| {
        Refused::new(Refusal::Storage, format!("{error} on {}", spec.session.agent))
    })?;
    monitor.record = Some(record);
    let mut greeting = Greeting::default();
    while !greeting.is_complete(&monitor.desktop.paths, &monitor.desktop.account) {
        // Connecting has to be tried again; a connection tells by itself.
        let wait = Duration::from_millis(if greeting.stream().is_some() { 50 } else { 1 });
        monitor.turn(wait, greeting.stream());
        if monitor.asked_to_end() {
            return Err(Refused::new(Refusal::Cancelled, "the start was cancelled").into());
        }
        if let Some(status) = monitor.x_server_status {
            return Err(x_server_failed(monitor, status, spec));
        }
        if clock::now() > deadline {
            let detail = format!(
                "the X server on {} was not ready within {} s (/vsmagent/xvnc_start_timeout); its last words: {}",
                spec.session.agent,
                settings.x_timeout_ms / 1000,
                xserver::reason(&monitor.x_server.output.text())
            );
            return Err(Refused::new(Refusal::XServer, detail).into());
        }
    }
    Ok(())
}

fn x_server_failed(monitor: &mut Monitor, status: std::process::ExitStatus, spec: &Spec) -> Reply {
    monitor.drain_output();
    let words = monitor.x_server.output.text();
    if xserver::says_display_taken(&words) {
        return Reply::DisplayTaken;
    }
    let last = xserver::reason(&words);
    let agent = &spec.session.agent;
    let home = status.code() == Some(EXIT_HOME.into());
    let (reason, detail) = if home {
        (Refusal::Home, format!("user {} on {agent}: {last}", spec.session.user))
    } else if status.code() == Some(EXIT_PROGRAM.into()) {
        (Refusal::XServer, format!("{last} on {agent} (/vsmagent/xserver)"))
    } else {
        (
            Refusal::XServer,
            format!("the X server on {agent} ended at once ({}): {last}", launch::describe(status)),
        )
    };
    Refused::new(reason, detail).into()
}
