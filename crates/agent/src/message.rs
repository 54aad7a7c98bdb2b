//! What goes through the socket between `vsmagent`, which is root and keeps the desktops, and `vsm-agent-net`, which
//! brokers speak to and is not: one call for each connection, a line of JSON each way, or many lines back where
//! something is told as it happens. All bounds are here.
//!
//! Root believes nothing of what it is asked: each value is checked as if it came from the network, and none is a path,
//! a program, a user id or an environment.

mod install;
mod values;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vsm_core::{
    Ended, Epoch, Fence, IdentityName, Limits, LineageId, Resources, Session, SessionId, SshKey,
    Standing, StartParams, UnixMillis, UserName, Viewer,
};
use vsm_daemon::{grpc, trouble::Trouble};
use vsm_proto::{convert::Invalid, session::v1 as pb};

pub use install::{Better, Install};
pub use values::{InvalidNotice, InvalidTime, Notice, Secret, Valid};

use crate::refusal::Refused;

/// The version of this protocol. Both come in one package; a difference is an upgrade that is half done.
pub const VERSION: u32 = 1;
/// Longest call, in bytes: a start with the largest parameters, or [`PART_MAX`] sessions with their limits.
pub const CALL_MAX: u64 = 256 << 10;
/// Longest answer: all troubles of a host.
pub const ANSWER_MAX: u64 = 4 << 20;
/// Bytes that follow a line: what a broker and a witness say to each other, or the end of a log.
pub const BYTES_MAX: u64 = grpc::WINDOW_MAX as u64;
/// Sessions, or identities, in one call. What concerns more goes in several.
pub const PART_MAX: usize = 256;
/// So often whoever follows hears that root is there.
pub const BEAT_EVERY: Duration = Duration::from_secs(2);
/// After so long without it root counts as gone: as long as a connection of another host may be silent.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Longest certificate with those above it, and longest key.
const PEM_MAX: usize = 64 << 10;

/// The folder of the socket, in the run directory, which the account of `vsm-agent-net` alone can enter.
#[must_use]
pub fn folder(run_dir: &Path) -> PathBuf {
    run_dir.join("agent")
}

/// The socket.
#[must_use]
pub fn socket(run_dir: &Path) -> PathBuf {
    folder(run_dir).join("vsmagent.sock")
}

/// A session that is to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// By what right.
    pub fence: Fence,
    /// Which.
    pub session: Session,
    /// Limits of its life.
    pub limits: Limits,
    /// What it may take of the host.
    pub resources: Resources,
}

/// A key that a broker announces: it lets the owner of a session in once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announced {
    /// Whose session.
    pub session: SessionId,
    /// Whom the broker takes for its owner.
    pub user: UserName,
    /// The key.
    pub key: SshKey,
    /// How long it is good.
    pub valid: Valid,
}

/// Who wants to shadow which desktop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Which.
    pub session: SessionId,
    /// Who.
    pub by: UserName,
    /// Not only look.
    pub control: bool,
    /// Lets them in at this host.
    pub key: Option<SshKey>,
    /// How long the right is good, and the key.
    pub valid: Valid,
}

/// What is asked for. Who asks is a broker whom `vsm-agent-net` has let in, and whose own the epoch is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// Start a session.
    Start(Box<Start>),
    /// Whether a session lives; its client is told to it if the broker may act.
    Verify {
        /// Which.
        id: SessionId,
        /// The client that asks for it.
        client: Option<Box<StartParams>>,
        /// Whether the session is to be asked how it stands against its limits.
        standing: bool,
        /// By what right; none = by that of everybody, to ask.
        fence: Option<Fence>,
    },
    /// End a session.
    Terminate {
        /// By what right.
        fence: Fence,
        /// Which.
        id: SessionId,
        /// The broker's name, for people.
        broker: String,
    },
    /// Drop the viewer of a session.
    Disconnect {
        /// By what right.
        fence: Fence,
        /// Which.
        id: SessionId,
        /// Shown to the viewer.
        reason: String,
    },
    /// Give sessions other limits.
    SetLimits {
        /// By what right.
        fence: Fence,
        /// Which, and what they are.
        sessions: Vec<(SessionId, Limits)>,
    },
    /// Keep which certificates count no more.
    Revoke {
        /// By what right.
        fence: Fence,
        /// Whose, up to which moment.
        identities: Vec<(IdentityName, UnixMillis)>,
    },
    /// Put off what a limit would do next.
    Extend {
        /// By what right.
        fence: Fence,
        /// Of which session.
        id: SessionId,
    },
    /// Show a text on desktops.
    Notify {
        /// By what right.
        fence: Fence,
        /// Which.
        ids: Vec<SessionId>,
        /// What.
        text: Notice,
    },
    /// The end of a session's log, which follows the answer.
    Log {
        /// By what right.
        fence: Fence,
        /// Which.
        id: SessionId,
        /// At most so much of it.
        bytes: u64,
    },
    /// Let a user in by a key, once.
    AcceptKey {
        /// By what right.
        fence: Fence,
        /// Whom, and where to.
        announced: Announced,
    },
    /// Let somebody shadow a desktop.
    Shadow {
        /// By what right.
        fence: Fence,
        /// Whom, and which.
        wish: Wish,
    },
    /// Never run a session.
    Cancel {
        /// By what right.
        fence: Fence,
        /// Which.
        id: SessionId,
    },
    /// A broker's message to the witness that this host is: so many bytes, which follow once they are asked for.
    Witness {
        /// How many.
        bytes: u64,
    },
    /// Set the promise aside if its journal has gone back in time.
    Quarantine {
        /// By what right.
        fence: Fence,
        /// Whose table.
        lineage: LineageId,
        /// Which journal.
        journal_id: u64,
        /// Up to where it is known.
        journal: u64,
    },
    /// Put a new certificate and its key in place of those of this host.
    Install(Box<Install>),
    /// Trust of the authorities those no more that are not among these, PEM.
    Forget(String),
    /// All that runs, then what changes: answered by [`Told`], line after line.
    Report,
    /// What is to be known here before brokers are let in, then what is to be done: answered by [`Order`].
    Follow,
}

/// A call as it is sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    version: u32,
    call: Call,
}

/// Why a call is none.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Another version of the protocol.
    #[error(
        "it is of version {0}, and this is {VERSION}: vsmagent and vsm-agent-net are not of one package; systemctl restart vsmagent"
    )]
    Version(u32),
    /// A value that no broker may give either.
    #[error(transparent)]
    Value(#[from] Invalid),
    /// Too much at a time.
    #[error("it has more than {PART_MAX} sessions or identities")]
    TooMany,
    /// Too long.
    #[error("it brings {0} bytes, and may bring {1}")]
    TooLong(u64, u64),
}

impl Call {
    /// Reads a call, with its line's end, and checks it.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let request: Request = serde_json::from_slice(line)?;
        if request.version != VERSION {
            return Err(Malformed::Version(request.version));
        }
        request.call.check()?;
        Ok(request.call)
    }

    /// The line that asks for it.
    ///
    /// # Errors
    /// Never for one that is made of texts; what the library says.
    pub fn line(self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(&Request { version: VERSION, call: self })?;
        line.push(b'\n');
        Ok(line)
    }

    /// What the types of the values do not hold by themselves.
    fn check(&self) -> Result<(), Malformed> {
        let bound = |bytes: u64, most: u64| {
            if bytes > most { Err(Malformed::TooLong(bytes, most)) } else { Ok(()) }
        };
        match self {
            Self::Start(start) => {
                holds::<_, pb::Session>(&start.session)?;
                Ok(holds::<_, pb::Limits>(&start.limits)?)
            }
            Self::Verify { client: Some(client), .. } => {
                Ok(holds::<_, pb::StartParams>(client.as_ref())?)
            }
            Self::SetLimits { sessions, .. } => {
                few(sessions)?;
                let each = |(_, limits): &(SessionId, Limits)| holds::<_, pb::Limits>(limits);
                Ok(sessions.iter().try_for_each(each)?)
            }
            Self::Revoke { identities, .. } => few(identities),
            Self::Notify { ids, .. } => few(ids),
            Self::Witness { bytes } => bound(*bytes, BYTES_MAX),
            Self::Install(install) => bound(install.longest(), PEM_MAX as u64),
            Self::Forget(authorities) => bound(authorities.len() as u64, PEM_MAX as u64),
            Self::Verify { .. }
            | Self::Terminate { .. }
            | Self::Disconnect { .. }
            | Self::Extend { .. }
            | Self::Log { .. }
            | Self::AcceptKey { .. }
            | Self::Shadow { .. }
            | Self::Cancel { .. }
            | Self::Quarantine { .. }
            | Self::Report
            | Self::Follow => Ok(()),
        }
    }
}

const fn few<T>(all: &[T]) -> Result<(), Malformed> {
    if all.len() > PART_MAX { Err(Malformed::TooMany) } else { Ok(()) }
}

/// A value is as a broker's own would have to be.
fn holds<T, P>(value: &T) -> Result<(), Invalid>
where
    P: for<'a> From<&'a T>,
    T: TryFrom<P, Error = Invalid>,
{
    T::try_from(P::from(value)).map(drop)
}

/// Why a call did nothing, by what the caller is to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It makes no sense.
    Invalid,
    /// There is no such session.
    NoSession,
    /// It is not for this one to ask.
    NotAllowed,
    /// Not while things are as they are here.
    NotNow,
    /// There is no room.
    Full,
    /// It is under way: ask again.
    UnderWay,
    /// Whoever would do it does not answer.
    Away,
    /// Something else.
    Broken,
}

/// Why a call did nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// Of which kind.
    pub kind: Kind,
    /// In a line.
    pub text: String,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// To a higher epoch was promised.
    Fenced(Epoch),
    /// It did nothing, or did not come to its end.
    Failed(Failure),
    /// The session runs.
    Started(Box<Session>),
    /// The session does not run, and never will.
    Refused(Refused),
    /// The session lives.
    Alive(Box<Live>),
    /// How the session ended.
    Ended(Ended),
    /// The viewer is gone.
    Disconnected {
        /// Whether there was one.
        was_connected: bool,
    },
    /// It is done but for these, each with a reason.
    AllBut(Vec<(SessionId, String)>),
    /// A limit was put off.
    Extended {
        /// Which, in words.
        limit: String,
        /// How long there is now, in milliseconds.
        left_ms: u64,
        /// How often it can be done again.
        more: u32,
    },
    /// No limit is put off, and why.
    NotExtended(String),
    /// So many bytes follow; none = there is nothing.
    Bytes(Option<u64>),
    /// The bytes of the call are waited for.
    Go,
    /// By which keys this host is known.
    HostKeys(Vec<String>),
    /// Nobody shadows, and why.
    NotShadowed(String),
    /// Somebody may shadow, once.
    Shadow {
        /// Not only look.
        control: bool,
        /// What they show.
        right: Uuid,
        /// By which keys this host is known to whom the key lets in; none = no key was taken.
        host_keys: Option<Vec<String>>,
    },
    /// It is in force until a restart, and cannot be kept beyond.
    NotKept(String),
    /// Whether it was so, and is done.
    Was(bool),
}

/// A session as reports tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Which.
    pub session: Session,
    /// Who views it.
    pub viewer: Option<Viewer>,
    /// The machine from which it was asked for last, where it is not the one that started it; else empty.
    pub last_client: String,
    /// Who shadows it.
    pub shadowers: Vec<String>,
    /// How it stands against its limits; none = it has none.
    pub standing: Option<Arc<Standing>>,
}

/// How busy the host is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Running plus waiting processes per the 1-minute load average, in thousandths.
    pub load1_milli: u32,
    /// Number of CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_total_mib: u32,
    /// Memory that could be given to new processes, in MiB.
    pub memory_available_mib: u32,
    /// Share of time in which some process waited for a CPU, over 10 s, in thousandths.
    pub cpu_pressure_milli: u32,
    /// Share of the time of all CPUs in which they worked, over some 10 s, in thousandths.
    pub cpu_busy_milli: u32,
    /// Processes that run or wait for a CPU, over some 10 s, in thousandths.
    pub run_queue_milli: u32,
    /// Share of time in which some process waited for memory, over 10 s, in thousandths.
    pub memory_pressure_milli: u32,
}

/// What a host says of itself when a report begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Sessions that follow.
    pub sessions: usize,
    /// The boot of the host.
    pub boot_id: String,
    /// The version of what keeps the desktops.
    pub version: String,
    /// The highest epoch that was promised to.
    pub promised: Option<Epoch>,
    /// Of which table.
    pub lineage: Option<LineageId>,
    /// Records that there ever were in the journal of promises.
    pub journal: u64,
    /// Which journal.
    pub journal_id: u64,
    /// What the host says while it is in maintenance; none = it is not.
    pub maintenance: Option<String>,
    /// What is wrong.
    pub troubles: Vec<Trouble>,
    /// How busy it is.
    pub load: Load,
}

/// A line of a report: first the host, then as many sessions as it says, then what changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The host.
    Host(Box<Host>),
    /// A session that is new, or changed.
    Live(Box<Live>),
    /// One that ended.
    Ended(Ended),
    /// How busy the host is.
    Load(Load),
    /// Whether it is in maintenance.
    Maintenance(Option<String>),
    /// All that is wrong.
    Troubles(Vec<Trouble>),
    /// So many changes were missed: the report is over.
    Behind(u64),
}

/// A line for whoever follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The first.
    Hello {
        /// The boot of the host.
        boot_id: String,
    },
    /// Whose certificates count no more, up to which moment; in parts.
    Revoked(Vec<(IdentityName, UnixMillis)>),
    /// All is told: let brokers in.
    Ready,
    /// Nothing is new.
    Beat,
    /// Read the configuration again.
    Reload,
    /// Root was told to stop: stop as well.
    Stop,
}

#[cfg(test)]
mod tests;
