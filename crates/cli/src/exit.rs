//! One line for the person, one code for the script (sysexits.h where it has a fitting one).

use std::{fmt, process::ExitCode};

use tonic::{Code, Status};
use vsm_daemon::grpc;

/// Bad usage.
pub const USAGE: u8 = 64;
/// There is no such session, file or host.
pub const NOT_FOUND: u8 = 66;
/// Something that is needed does not answer: the broker, an agent.
pub const UNAVAILABLE: u8 = 69;
/// An error inside the service, or a desktop that cannot start.
pub const SOFTWARE: u8 = 70;
/// A file cannot be written.
pub const CANNOT_WRITE: u8 = 73;
/// Not now: a limit is reached, or it took too long.
pub const TRY_LATER: u8 = 75;
/// Not allowed.
pub const NOT_ALLOWED: u8 = 77;
/// Bad configuration.
pub const CONFIG: u8 = 78;
/// ssh could not connect or log in; its own words stand above.
pub const SSH: u8 = 255;

/// The table of codes for `--help`.
pub const HELP: &str = "Exit codes: 0 done, 64 bad usage, 66 no such desktop or profile, 69 broker or session host does not answer, \
70 the desktop cannot start, 73 cannot write a file, 75 a limit is reached or it took too long, 77 not allowed, \
255 ssh could not connect or log in";

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// One line; empty = what was printed says it.
    pub text: String,
    /// Whether trying again may help.
    pub retry: Retry,
}

/// Whether trying again may help: while a broker takes over from another one it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retry {
    /// A refusal, or a fault that stays.
    #[default]
    Never,
    /// For a few seconds: mostly it is a fault that stays.
    Briefly,
    /// As long as the user waits.
    Patiently,
    /// For minutes: the host is there, and turns connections away as too many come at once.
    Busy,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), retry: Retry::Never }
    }

    /// The same, with whether trying again may help.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// The answer is no, and it stands on standard output already.
    #[must_use]
    pub const fn silent(code: u8) -> Self {
        Self { code, text: String::new(), retry: Retry::Never }
    }

    /// Adds the reference under which the broker's log has the details.
    #[must_use]
    pub fn with_reference(self, request: uuid::Uuid) -> Self {
        let reference = request.simple().to_string();
        Self { text: format!("{} (ref {})", self.text, &reference[..8]), ..self }
    }

    /// Prints the line and gives the code.
    #[expect(clippy::print_stderr, reason = "this is where a command's error goes")]
    #[must_use]
    pub fn report(&self, program: &str) -> ExitCode {
        if !self.text.is_empty() {
            // Some of the words are a host's.
            eprintln!("{program}: {}", vsm_core::printable_lines(&self.text));
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let reason = grpc::reason(&status);
        let code = match status.code() {
            Code::InvalidArgument => USAGE,
            Code::NotFound => NOT_FOUND,
            Code::PermissionDenied | Code::Unauthenticated => NOT_ALLOWED,
            Code::ResourceExhausted | Code::DeadlineExceeded => TRY_LATER,
            Code::Unavailable => UNAVAILABLE,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss => SOFTWARE,
        };
        if reason.is_some() || code == USAGE {
            let retry = match reason {
                Some("STANDBY" | "REPLACED" | "STOPPING") => Retry::Patiently,
                // Of a pair the other node takes over where one cannot write.
                Some("NO_VOTES" | "STORAGE") => Retry::Briefly,
                _ => Retry::Never,
            };
            return Self::new(code, status.message()).retry(retry);
        }
        // The connection broke under the call: the transport's own words help nobody.
        let broken = matches!(
            status.code(),
            Code::Unknown | Code::Cancelled | Code::Internal | Code::Unavailable
        );
        if broken {
            return Self::new(
                UNAVAILABLE,
                format!("the connection to the broker broke: {}", cause(&status)),
            )
            .retry(Retry::Patiently);
        }
        Self::new(code, status.message())
    }
}

/// The last cause of a failed call, which says most.
pub(crate) fn cause(status: &Status) -> String {
    plain(vsm_daemon::cause::of(status))
}

/// What the transport calls an end without an error helps nobody.
pub(crate) fn plain(text: String) -> String {
    let is_end = ["not a result of an error", "operation was canceled", "stream closed"]
        .iter()
        .any(|words| text.contains(words));
    if is_end { "it was closed at the other end".to_owned() } else { text }
}

/// What a program's main does: parse, run, report.
pub fn main<A: clap::Parser>(
    program: &str,
    run: impl FnOnce(A) -> Result<(), Failure>,
) -> ExitCode {
    let arguments = match A::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where standard output is gone there is nobody to tell.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(program),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: Code, reason: &'static str) -> Failure {
        grpc::with_reason(Status::new(code, "no"), reason).into()
    }

    #[test]
    fn only_what_a_failover_heals_is_tried_again() {
        for reason in ["STANDBY", "REPLACED", "STOPPING"] {
            let failure = refused(Code::Unavailable, reason);
            assert_eq!((failure.code, failure.retry), (UNAVAILABLE, Retry::Patiently), "{reason}");
        }
        assert_eq!(refused(Code::Unavailable, "NO_VOTES").retry, Retry::Briefly);
        for (code, reason) in [
            (Code::Unavailable, "NO_AGENT"),
            (Code::Unavailable, "UNREACHABLE"),
            (Code::PermissionDenied, "NOT_ALLOWED"),
            (Code::ResourceExhausted, "AT_LIMIT"),
        ] {
            assert_eq!(refused(code, reason).retry, Retry::Never, "{reason}");
        }
        assert_eq!(Failure::from(Status::unknown("h2 went away")).retry, Retry::Patiently);
        assert_eq!(Failure::from(Status::invalid_argument("field id")).retry, Retry::Never);
        let closed = Status::unknown("connection error received: not a result of an error");
        let text = Failure::from(closed).text;
        assert_eq!(text, "the connection to the broker broke: it was closed at the other end");
    }
}
