//! `vsm-login`: the sshd subsystem of brokers and agents.
//!
//! It runs as the user who logged in, with that user's rights and no others: who they are is known to the other side
//! of the socket by its peer credentials. It joins standard input and output to one of six places:
//!
//! ```text
//! client: vsm/1 broker\n          the broker's user socket
//! client: vsm/1 admin\n           the broker's socket for administrators, if the user may open it
//! client: vsm/1 session UUID\n    the desktop of a session on this host
//! client: vsm/1 files UUID\n      the files of the user, as SFTP, as far as the session's host allows it
//! client: vsm/1 shadow UUID RIGHT\n  somebody else's desktop, by a right that the broker has got
//! client: vsm/1 relay UUID\n      the sshd of a session's host, for users who cannot reach that by themselves
//! answer: ok\n                    from here on it is a plain pipe
//!     or: error CODE TEXT\n       CODE is no-broker, no-session, no-host, refused, spent, bad-request or internal
//! ```
//!
//! Who has logged in by a web key gets to the broker and to the sshd of a session's host, for as long as that is good.
//! The broker knows by which key an administrator comes, and lets an old one change nothing.
//!
//! Why a viewer was dropped is told by the exit code, which ssh passes on; a subsystem's standard error it does not.

mod attach;
mod files;
mod line;
mod one_time;
mod preface;
mod pump;
mod relay;
mod shadow;
mod web;

use std::{
    cell::Cell,
    env,
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
};

use attach::Cause;
use preface::{Code, Failure, Target};
use uuid::Uuid;
use vsm_core::WebKeyId;
use vsm_daemon::{
    one_time::{AGENT_SOCKET, BROKER_SOCKET, Grant},
    socket,
};

/// Wrong usage, as sysexits.h numbers it.
const EXIT_USAGE: u8 = 64;
/// The socket for administrators where nothing else is said: beside the users' one.
const ADMIN_SOCKET: &str = "vsmserver-admin.sock";

const HELP: &str = "\
Joins standard input and output to the VSM broker or to a desktop on this host.
Run by sshd as the user: Subsystem vsm /usr/bin/vsm-login

Usage: vsm-login [--broker-socket PATH] [--admin-socket PATH] [--run-dir DIR]
                 [--one-time ID | --web ID]

Options:
  --broker-socket PATH  the broker's user socket [env VSM_BROKER_SOCKET]
                        [default: /run/vsm/vsmserver.sock]
  --admin-socket PATH   its socket for administrators [env VSM_ADMIN_SOCKET]
                        [default: vsmserver-admin.sock beside the other]
  --run-dir DIR         the agent's run directory [env VSM_RUN_DIR]
                        [default: /run/vsm]
  --one-time ID         the login used a one-time key: allow only its desktop
  --web ID              the login used a web key: allow what a browser needs, as
                        long as the key is good
  --help                print this
  --version             print the version

It then reads one line from standard input: `vsm/1 broker`, `vsm/1 admin`, `vsm/1 session UUID`,
`vsm/1 files UUID`, `vsm/1 relay UUID` or `vsm/1 shadow UUID RIGHT`.
";

/// Where things are.
struct Options {
    broker_socket: PathBuf,
    /// None = beside the other.
    admin_socket: Option<PathBuf>,
    run_dir: PathBuf,
    /// What the user has logged in with, where it does not let them do all that they may.
    grant: Option<Grant>,
}

enum Wish {
    Run(Options),
    Say(String),
    Usage(String),
}

fn options() -> Wish {
    let from_env = |name: &str, default: &str| {
        env::var_os(name).map_or_else(|| PathBuf::from(default), PathBuf::from)
    };
    let mut options = Options {
        broker_socket: from_env("VSM_BROKER_SOCKET", "/run/vsm/vsmserver.sock"),
        admin_socket: env::var_os("VSM_ADMIN_SOCKET").map(PathBuf::from),
        run_dir: from_env("VSM_RUN_DIR", "/run/vsm"),
        grant: None,
    };
    let mut arguments = env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let place = match argument.to_str() {
            Some("--help" | "-h") => return Wish::Say(HELP.to_owned()),
            Some("--version" | "-V") => {
                return Wish::Say(format!("vsm-login {}\n", vsm_daemon::VERSION));
            }
            Some("--broker-socket") => Some(&mut options.broker_socket),
            Some("--admin-socket") => Some(options.admin_socket.get_or_insert_default()),
            Some("--run-dir") => Some(&mut options.run_dir),
            Some("--one-time" | "--web") => None,
            _ => return Wish::Usage(format!("unknown argument {}", argument.display())),
        };
        let Some(value) = arguments.next() else {
            return Wish::Usage(format!("{} wants a value", argument.display()));
        };
        match (place, value.to_str().map(Uuid::try_parse)) {
            (Some(place), _) => *place = PathBuf::from(value),
            (None, Some(Ok(id))) if argument == "--web" => {
                options.grant = Some(Grant::Web(WebKeyId::new(id)));
            }
            (None, Some(Ok(right))) => options.grant = Some(Grant::OneTime(right)),
            (None, _) => return Wish::Usage(format!("{} is no UUID", value.display())),
        }
    }
    Wish::Run(options)
}

fn main() -> ExitCode {
    match options() {
        Wish::Say(text) => {
            // Nobody reads it: nothing to be done.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Wish::Usage(error) => {
            report(&format!("{error}; see vsm-login --help"));
            ExitCode::from(EXIT_USAGE)
        }
        Wish::Run(options) => match serve(&options) {
            Ok(dropped) => ExitCode::from(dropped.map_or(0, exit_code)),
            Err(failure) => {
                // The client may be gone.
                let _ = say(&format!("error {failure}\n"));
                ExitCode::FAILURE
            }
        },
    }
}

#[expect(clippy::print_stderr, reason = "standard error is for the user, over ssh")]
fn report(line: &str) {
    eprintln!("vsm-login: {line}");
}

/// The exit code for the client whose viewer was dropped.
const fn exit_code(cause: Cause) -> u8 {
    match cause {
        Cause::Disconnected => 3,
        Cause::Replaced => 4,
        Cause::Ended => 5,
        Cause::Idle => 6,
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn serve(options: &Options) -> Result<Option<Cause>, Failure> {
    let input = io::stdin();
    let beside = |name| options.broker_socket.with_file_name(name);
    let target = preface::read(input.as_fd())?;
    let web = match options.grant {
        Some(Grant::OneTime(right)) => {
            take_up(options, right, &target)?;
            None
        }
        Some(Grant::Web(id)) => {
            web::check(&target)?;
            web::stay(beside(BROKER_SOCKET), id)?;
            Some(id)
        }
        None => None,
    };
    match target {
        Target::Broker => begin(&broker(&options.broker_socket, web)?, None),
        Target::Admin => {
            let socket = options.admin_socket.clone().unwrap_or_else(|| beside(ADMIN_SOCKET));
            begin(&broker(&socket, web)?, None)
        }
        Target::Session(id) => {
            let (control, desktop) = attach::attach(&options.run_dir, &id, &viewer_address())?;
            begin(&desktop, Some(&control))
        }
        Target::Files(id) => begin(&files::serve(&options.run_dir, &id)?, None),
        Target::Shadow(id, right) => {
            let (control, desktop) =
                shadow::join(&options.run_dir, &id, &right, &viewer_address())?;
            begin(&desktop, Some(&control))
        }
        Target::Relay(id) => begin(&relay::lead(&beside(relay::SOCKET), &id)?, None),
    }
}

/// Takes up the right of a one-time login, which is for its desktop only.
fn take_up(options: &Options, right: Uuid, target: &Target) -> Result<(), Failure> {
    let (socket, id) = match target {
        Target::Broker | Target::Admin => {
            let why = "a one-time login is for a desktop only";
            return Err(Failure::new(Code::Refused, why));
        }
        Target::Session(id) | Target::Files(id) | Target::Shadow(id, _) => {
            (options.run_dir.join(AGENT_SOCKET), id)
        }
        Target::Relay(id) => (options.broker_socket.with_file_name(BROKER_SOCKET), id),
    };
    one_time::redeem(&socket, right, *id)
}

fn begin(target: &UnixStream, control: Option<&UnixStream>) -> Result<Option<Cause>, Failure> {
    say("ok\n").map_err(|error| Failure::new(Code::Internal, format!("cannot answer: {error}")))?;
    let dropped = Cell::new(None);
    let line = line::Line::new(&env::var("SSH_CONNECTION").unwrap_or_default());
    if let Err(error) = pump::run(target, control, line, |cause| dropped.set(Some(cause))) {
        report(&format!("the connection broke: {error}"));
    }
    Ok(dropped.get())
}

fn broker(socket: &Path, web: Option<WebKeyId>) -> Result<UnixStream, Failure> {
    connect(socket, web).map_err(|error| {
        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            Failure::new(Code::NoBroker, "no VSM broker runs on this host")
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            Failure::new(Code::Refused, "you may not use the VSM broker of this host")
        } else {
            Failure::new(Code::Internal, format!("the VSM broker cannot be reached: {error}"))
        }
    })
}

/// Connects with a socket whose own name tells where the user is, and by which web key they came.
fn connect(socket: &Path, web: Option<WebKeyId>) -> io::Result<UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
    let flags = SocketFlags::CLOEXEC;
    let own = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // An address of one link has the link's name behind it.
    let named = |name: &str| -> io::Result<()> {
        Ok(bind(&own, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?)
    };
    match (viewer_address().split('%').next().unwrap_or_default().parse().ok(), web) {
        // What a browser's login may not do depends on it. Nobody can guess the name, and take it first.
        (address, Some(id)) => named(&socket::web_name(address, Uuid::new_v4().as_fields().0, id))?,
        // Without a name the broker does not know the address, which is all.
        (Some(address), None) => {
            let _ = named(&socket::address_name(address, std::process::id()));
        }
        (None, None) => {}
    }
    rustix::net::connect(&own, &SocketAddrUnix::new(socket)?)?;
    Ok(UnixStream::from(own))
}

/// Where the user is, as sshd saw it: the first word of SSH_CONNECTION.
fn viewer_address() -> String {
    let connection = env::var("SSH_CONNECTION").unwrap_or_default();
    let address = connection.split(' ').next().unwrap_or_default();
    address
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '%' | '-'))
        .take(64)
        .collect()
}
