//! Why a user does not get what they asked for: one line for them, a stable reason for programs, a gRPC code. And why
//! the broker cannot run.
//!
//! The reason travels in the metadata key `vsm-reason`. docs/errors.md lists them all.

use tonic::{Code, Status};
use vsm_core::{AgentName, Rejected, SessionId, UserName, WebKeyId};
use vsm_daemon::{duty, grpc, socket::SocketError, tls::TlsError};
use vsm_sync::{ProposeError, StoreError};

use crate::users::LookupError;

/// A refusal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// The uid behind the connection is nobody.
    #[error("{0}")]
    UnknownUser(LookupError),
    /// NSS does not answer.
    #[error("{0}; try again in a moment")]
    UsersDown(LookupError),
    /// Not in an allowed group.
    #[error("{0} is in none of the groups that may use this service (/vsmserver/allowed_groups)")]
    NotAllowed(UserName),
    /// Not in the list of those who may.
    #[error("{0} may not shadow anybody (/shadowing/allowed_shadowers)")]
    MayNotShadow(UserName),
    /// There is no desktop to shadow.
    #[error("{0} has no such desktop")]
    NothingToShadow(UserName),
    /// The desktop, or its user, said no.
    #[error("the desktop of {user} cannot be shadowed now: {why}")]
    ShadowRefused {
        /// Whose.
        user: UserName,
        /// Why not.
        why: String,
    },
    /// The desktop is on an agent that is silent.
    #[error("the desktop of {user} is on {agent}, which does not answer ({why})")]
    ShadowUnreachable {
        /// Whose.
        user: UserName,
        /// Agent.
        agent: AgentName,
        /// Why.
        why: String,
    },
    /// A command was asked for instead of the full desktop.
    #[error(
        "only whole desktops are given here, no start commands (/vsmserver/allow_start_command)"
    )]
    NoStartCommand,
    /// No subcluster takes the user.
    #[error("no subcluster takes {0} (/vsmserver/subclusters)")]
    NoSubcluster(UserName),
    /// The user's groups lead to two subclusters.
    #[error(
        "{user} belongs to two subclusters: /vsmserver/subclusters/{one} has their group {by}, and /vsmserver/subclusters/{other} their group {other_by}"
    )]
    AmbiguousSubcluster {
        /// User.
        user: UserName,
        /// One.
        one: String,
        /// By this group.
        by: String,
        /// The other.
        other: String,
        /// By this group.
        other_by: String,
    },
    /// Which limits the user's desktops have is not clear.
    #[error(
        "the limits of {user} are not clear: /vsmserver/limits/{one} has their group {by}, and /vsmserver/limits/{other} their group {other_by}"
    )]
    AmbiguousLimits {
        /// User.
        user: UserName,
        /// One.
        one: String,
        /// By this group.
        by: String,
        /// The other.
        other: String,
        /// By this group.
        other_by: String,
    },
    /// No agent can be asked.
    #[error("no session host can take a new desktop now: {0}")]
    NoAgent(String),
    /// The end cannot be put off.
    #[error("it cannot be extended: {0}")]
    NotExtended(String),
    /// The limit is reached.
    #[error("{user} has {cap} desktop(s) already, which is the limit")]
    AtLimit {
        /// User.
        user: UserName,
        /// Limit.
        cap: u32,
    },
    /// The user's session is on an agent that is silent.
    #[error(
        "your desktop is on {agent}, which does not answer ({why}); it may come back: try again{later}"
    )]
    Unreachable {
        /// Agent.
        agent: AgentName,
        /// Why.
        why: String,
        /// When a new one is possible.
        later: String,
    },
    /// The user's session is on an agent whose host lets in nobody but root.
    #[error("your desktop is on {agent}, which is in maintenance{text}")]
    Maintenance {
        /// Agent.
        agent: AgentName,
        /// What the host says, behind a colon; may be empty.
        text: String,
    },
    /// Only a session whose agent is silent can be given up.
    #[error("your desktop {0} is on {1}, which answers: connect to it, or end it")]
    Reachable(SessionId, AgentName),
    /// Every agent that was tried failed.
    #[error("your desktop could not be started: {0}")]
    StartFailed(String),
    /// No agent that was tried has the profile for this user.
    #[error("your desktop could not be started: {0}")]
    NoProfile(String),
    /// Too many logins are under way.
    #[error("too many desktops are being started at the moment; try again in a moment")]
    Busy,
    /// Too many logins of one user are under way.
    #[error("{0} of your logins are under way already; try again when they are done")]
    BusyWith(usize),
    /// The request has made a session already, which cannot be handed out now.
    #[error("this request has made desktop {0} already, and that is being ended or started")]
    Repeated(SessionId),
    /// A program of the administrator's said no.
    #[error(
        "your desktop is not handed out, as a program for logins on the broker did not agree: {0}"
    )]
    HookFailed(String),
    /// It started and ended at once.
    #[error("your desktop ended right after it started: {0}")]
    EndedAtOnce(String),
    /// No such session of this user.
    #[error("you have no desktop {0}")]
    NoSession(String),
    /// Several, and none was named.
    #[error("you have several desktops; name one: {0}")]
    WhichSession(String),
    /// No such web key, or not of this user.
    #[error("there is no login by browser {0}")]
    NoWebKey(WebKeyId),
    /// All users together have as many as are kept.
    #[error("too many browsers are logged in; try again later, or log out elsewhere")]
    TooManyWebKeys,
    /// A login by browser is not prolonged by itself.
    #[error("this login by browser cannot allow another one: log in again")]
    NotByWebKey,
    /// It took too long.
    #[error("this took longer than {0} s and was given up; try again")]
    TooLong(u64),
    /// The table cannot be written.
    #[error("the broker cannot record new desktops ({0}); existing ones can be reached")]
    Storage(String),
    /// Another broker became active while this was under way; the same request there finds what came of it.
    #[error("failover is in progress; try again in a moment")]
    Replaced,
    /// The pair is cut in pieces, and this one may not make new sessions.
    #[error(
        "this broker reaches neither the other one nor enough of the session hosts to record a change, such as a new desktop; existing ones can be reached"
    )]
    NoVotes,
    /// This broker is not active and the active one cannot be reached.
    #[error("this broker is not active ({0}); try again in a moment")]
    Standby(String),
    /// The broker goes down.
    #[error("the broker is stopping; try again in a moment")]
    Stopping,
    /// Something that should not be.
    #[error("the broker met an error: {0}")]
    Internal(String),
}

impl Refusal {
    /// The stable reason and the gRPC code.
    #[must_use]
    pub const fn code(&self) -> (&'static str, Code) {
        match self {
            Self::UnknownUser(_) => ("UNKNOWN_USER", Code::PermissionDenied),
            Self::UsersDown(_) => ("USERS_DOWN", Code::Unavailable),
            Self::NotAllowed(_) => ("NOT_ALLOWED", Code::PermissionDenied),
            Self::MayNotShadow(_) => ("MAY_NOT_SHADOW", Code::PermissionDenied),
            Self::NothingToShadow(_) => ("NOTHING_TO_SHADOW", Code::NotFound),
            Self::ShadowRefused { .. } => ("SHADOW_REFUSED", Code::PermissionDenied),
            Self::NoStartCommand => ("NO_START_COMMAND", Code::PermissionDenied),
            Self::NoSubcluster(_) => ("NO_SUBCLUSTER", Code::PermissionDenied),
            Self::AmbiguousSubcluster { .. } => ("AMBIGUOUS_SUBCLUSTER", Code::PermissionDenied),
            Self::AmbiguousLimits { .. } => ("AMBIGUOUS_LIMITS", Code::PermissionDenied),
            Self::NotExtended(_) => ("NOT_EXTENDED", Code::FailedPrecondition),
            Self::NoAgent(_) => ("NO_AGENT", Code::Unavailable),
            Self::AtLimit { .. } => ("AT_LIMIT", Code::ResourceExhausted),
            Self::Unreachable { .. } | Self::ShadowUnreachable { .. } => {
                ("UNREACHABLE", Code::Unavailable)
            }
            Self::Maintenance { .. } => ("MAINTENANCE", Code::Unavailable),
            Self::Reachable(..) => ("REACHABLE", Code::FailedPrecondition),
            Self::StartFailed(_) => ("START_FAILED", Code::FailedPrecondition),
            Self::NoProfile(_) => ("NO_PROFILE", Code::NotFound),
            Self::Busy | Self::BusyWith(_) => ("BUSY", Code::ResourceExhausted),
            Self::Repeated(_) => ("REPEATED", Code::Aborted),
            Self::HookFailed(_) => ("HOOK_FAILED", Code::FailedPrecondition),
            Self::EndedAtOnce(_) => ("ENDED_AT_ONCE", Code::FailedPrecondition),
            Self::NoSession(_) => ("NO_SESSION", Code::NotFound),
            Self::WhichSession(_) => ("WHICH_SESSION", Code::InvalidArgument),
            Self::NoWebKey(_) => ("NO_WEB_KEY", Code::NotFound),
            Self::TooManyWebKeys => ("TOO_MANY_WEB_KEYS", Code::ResourceExhausted),
            Self::NotByWebKey => ("NOT_BY_WEB_KEY", Code::PermissionDenied),
            Self::TooLong(_) => ("TOO_LONG", Code::DeadlineExceeded),
            Self::Storage(_) => ("STORAGE", Code::ResourceExhausted),
            Self::Replaced => ("REPLACED", Code::Unavailable),
            Self::NoVotes => ("NO_VOTES", Code::Unavailable),
            Self::Standby(_) => ("STANDBY", Code::Unavailable),
            Self::Stopping => ("STOPPING", Code::Unavailable),
            Self::Internal(_) => ("INTERNAL", Code::Internal),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let (reason, code) = refusal.code();
        grpc::with_reason(Self::new(code, refusal.to_string()), reason)
    }
}

impl From<LookupError> for Refusal {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Unknown(_) | LookupError::BadName(_) => Self::UnknownUser(error),
            LookupError::Down(_) => Self::UsersDown(error),
        }
    }
}

impl From<ProposeError> for Refusal {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Rejected(Rejected::AtLimit { user, cap }) => Self::AtLimit { user, cap },
            ProposeError::Rejected(Rejected::NoAgent) => Self::NoAgent("all are full".into()),
            ProposeError::Rejected(Rejected::Repeated(id)) => Self::Repeated(id),
            ProposeError::Rejected(Rejected::UnknownSession(id)) => Self::NoSession(id.to_string()),
            ProposeError::Rejected(Rejected::TooManyWebKeys) => Self::TooManyWebKeys,
            ProposeError::Rejected(Rejected::UnknownWebKey { id, .. }) => Self::NoWebKey(id),
            ProposeError::Rejected(
                rejected @ (Rejected::GivenUp(_)
                | Rejected::AlreadyRunning(_)
                | Rejected::IdUsed(_)
                | Rejected::NotGiven { .. }),
            ) => Self::Internal(rejected.to_string()),
            ProposeError::Store(error) => Self::Storage(error.to_string()),
            ProposeError::NotActive | ProposeError::Unknown => Self::Replaced,
            ProposeError::NoVotes | ProposeError::PeerAway => Self::NoVotes,
            ProposeError::Busy => Self::Busy,
            ProposeError::Stopping => Self::Stopping,
        }
    }
}

/// Why the broker cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration means nothing that the broker can do.
    #[error("{0}")]
    Config(String),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The session table.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A unix socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The port.
    #[error("cannot listen on port {port} (/vsmserver/listen_port): {source}")]
    Listen {
        /// Port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// gRPC.
    #[error("cannot serve: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// A task that the broker cannot be without; see the log.
    #[error("{0}")]
    Duty(#[from] duty::Failed),
    /// Reflection.
    #[error("cannot serve reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl ServeError {
    /// The exit code of `vsmserver`: 78 for bad configuration, 75 where another one runs here, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Tls(error) if error.may_pass() => 1,
            Self::Config(_) | Self::Tls(_) => 78,
            Self::Store(StoreError::Locked(_)) | Self::Socket(SocketError::InUse(_)) => 75,
            Self::Store(_)
            | Self::Socket(_)
            | Self::Listen { .. }
            | Self::Serve(_)
            | Self::Duty(_)
            | Self::Reflection(_) => 1,
        }
    }
}

/// The ids as a list for a person.
pub(crate) fn list(ids: impl IntoIterator<Item = SessionId>) -> String {
    ids.into_iter().map(|id| id.to_string()).collect::<Vec<_>>().join(", ")
}
