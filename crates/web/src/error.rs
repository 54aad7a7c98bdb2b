//! Why something was not done for a user.

use std::net::IpAddr;

use axum::http::StatusCode;
use tonic::Code;
use uuid::Uuid;

use crate::words::{OpenIdWords, Words};

/// What a page or a WebSocket tells, in the user's language. The log has more, under the same number.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The broker's host, or a session's, cannot be reached.
    #[error("{host} cannot be reached: {why}")]
    NoRoute { host: String, why: String },
    /// Somebody else answers there.
    #[error("{host} shows another key than it should")]
    StrangeHost { host: String },
    /// sshd does not let the user in.
    #[error("sshd refuses the login")]
    NotLetIn,
    /// The form was left for too long, or sent twice.
    #[error("there is no such login under way")]
    TooLate,
    /// There were too many attempts.
    #[error("too many attempts")]
    TooOften,
    /// There are too many logins under way.
    #[error("too many logins are under way")]
    Busy,
    /// The login is not valid any more.
    #[error("the web key is not accepted")]
    LoggedOut,
    /// The other side of the subsystem said no.
    #[error("{0}")]
    Subsystem(String),
    /// The broker said no.
    #[error("{code:?}: {text}")]
    Broker { code: Code, text: String },
    /// The session host did not take the one-time key.
    #[error("the session host {0} takes no one-time key")]
    NoKey(String),
    /// A login by OpenID Connect came to nothing.
    #[error("{text}")]
    OpenId { why: NotVouched, text: String },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broke(String),
    /// Files go along with a desktop that is shown.
    #[error("the desktop is not shown any more")]
    NotShown,
    /// As many files go at a time as may.
    #[error("too many files are on their way")]
    ManyFiles,
    /// There is no such file, or it is none.
    #[error("there is no such file")]
    NoSuchFile,
    /// The user may not, or the site forbids it.
    #[error("the host does not allow it")]
    NoPermission,
    /// It would be in the place of another.
    #[error("there is a file of this name")]
    FileExists,
    /// Something else, as a full disk.
    #[error("the host says: {0}")]
    File(String),
}

/// Why a login by OpenID Connect came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotVouched {
    /// No provider is set.
    Off,
    /// The provider cannot be asked.
    Provider,
    /// It does not let the user in, or the login is not one that was begun here.
    Declined,
    /// The broker does not believe what it says.
    Token,
    /// Somebody's clock is wrong.
    Clock,
    /// It was used before, or may have been.
    Again,
    /// It means nobody here.
    User,
}

impl NotVouched {
    /// By the broker's reason; none = it has nothing to do with that.
    pub(crate) fn of(reason: &str) -> Option<Self> {
        Some(match reason {
            "OPENID_OFF" => Self::Off,
            "OPENID_PROVIDER" => Self::Provider,
            "OPENID_TOKEN" => Self::Token,
            "OPENID_CLOCK" => Self::Clock,
            "OPENID_AGAIN" => Self::Again,
            "OPENID_USER" => Self::User,
            _ => return None,
        })
    }

    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Off => StatusCode::NOT_FOUND,
            Self::Provider | Self::Clock => StatusCode::BAD_GATEWAY,
            Self::Declined | Self::Token | Self::Again | Self::User => StatusCode::UNAUTHORIZED,
        }
    }

    const fn words(self, words: &OpenIdWords) -> &'static str {
        match self {
            Self::Off => words.off,
            Self::Provider => words.away,
            Self::Declined => words.declined,
            Self::Token => words.token,
            Self::Clock => words.clock,
            Self::Again => words.again,
            Self::User => words.user,
        }
    }
}

impl Refused {
    /// Whether trying again by itself may help, as while the other broker takes over.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::NoRoute { .. } | Self::Broke(_) => true,
            Self::Subsystem(line) => !["refused", "spent", "bad-request"].contains(&code_of(line)),
            Self::Broker { code, .. } => {
                matches!(code, Code::Unavailable | Code::Aborted | Code::Cancelled | Code::Unknown)
            }
            Self::StrangeHost { .. }
            | Self::NotLetIn
            | Self::TooLate
            | Self::TooOften
            | Self::Busy
            | Self::LoggedOut
            | Self::OpenId { .. }
            | Self::NoKey(_)
            | Self::NotShown
            | Self::ManyFiles
            | Self::NoSuchFile
            | Self::NoPermission
            | Self::FileExists
            | Self::File(_) => false,
        }
    }

    /// Puts it into the log; its number there, which the user is told.
    pub(crate) fn told(&self, address: IpAddr, user: Option<&str>) -> String {
        let reference = Uuid::new_v4().simple().to_string().split_off(24);
        tracing::warn!(reference, %address, user, error = %self, "refused");
        reference
    }

    /// For the user.
    pub(crate) fn words(&self, words: &Words) -> String {
        match self {
            Self::Subsystem(line) if !self.may_pass() => {
                line.splitn(3, ' ').nth(2).unwrap_or(line).to_owned()
            }
            Self::NoRoute { .. } | Self::Broke(_) | Self::Subsystem(_) => words.no_route.to_owned(),
            Self::StrangeHost { .. } => words.strange_host.to_owned(),
            Self::NotLetIn => words.not_let_in.to_owned(),
            Self::TooLate => words.too_late.to_owned(),
            Self::TooOften => words.too_often.to_owned(),
            Self::Busy => words.busy.to_owned(),
            Self::LoggedOut => words.logged_out.to_owned(),
            Self::NoKey(_) => words.no_key.to_owned(),
            Self::NotShown => words.not_shown.to_owned(),
            Self::ManyFiles => words.many_files.to_owned(),
            Self::NoSuchFile => words.no_such_file.to_owned(),
            Self::NoPermission => words.no_permission.to_owned(),
            Self::FileExists => words.file_exists.to_owned(),
            Self::File(_) => words.file_failed.to_owned(),
            Self::OpenId { why, .. } => why.words(&words.openid).to_owned(),
            // The broker's own sentence; it is for users.
            Self::Broker { text, .. } => text.clone(),
        }
    }
}

/// What `vsm-login` calls its reason: the second word of `error CODE TEXT`.
fn code_of(line: &str) -> &str {
    line.split(' ').nth(1).unwrap_or_default()
}

impl From<tonic::Status> for Refused {
    fn from(status: tonic::Status) -> Self {
        Self::Broker { code: status.code(), text: status.message().to_owned() }
    }
}

impl From<russh::Error> for Refused {
    fn from(error: russh::Error) -> Self {
        Self::Broke(error.to_string())
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self::Broke(error.to_string())
    }
}
