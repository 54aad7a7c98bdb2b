//! What it means that ssh ended, or that something else than the answer came: each has its own reason and next step.

use crate::exit::{
    CONFIG, Failure, NOT_ALLOWED, NOT_FOUND, Retry, SOFTWARE, SSH, UNAVAILABLE, USAGE,
};

/// A one-time key that is good no more; never an exit code, as another way is taken then.
pub(super) const SPENT: u8 = 1;
/// Longest piece of a foreign line that is shown.
const SHOWN_MAX: usize = 60;

/// What one finds among the words of ssh, or at the beginning of the pipe; the code; the reason, with `HOST` in it.
pub(super) type Reason = (&'static str, u8, &'static str);

const EXPIRED: &str =
    "your password at HOST has expired: change it there (ssh HOST in a terminal), then come back";
const ACCOUNT: &str = "your account at HOST has expired: ask its administrator";
const SUBSYSTEM: &str =
    "HOST does not offer this service (no sshd subsystem \"vsm\", or vsm-login is missing)";

/// What stands between the login and the service. Which of them it is cannot be seen from here.
const INSTEAD: &str = "a start-up file of your shell there (~/.bashrc, ~/.cshrc or the like), or what its sshd runs in place of the \
                       service (ForceCommand in sshd_config, command= in authorized_keys),";

/// In ssh's words on standard error, which the user has seen.
const ON_STDERR: [Reason; 16] = [
    ("Password change required", NOT_ALLOWED, EXPIRED),
    ("password has expired", NOT_ALLOWED, EXPIRED),
    // PAM's modules, each in its own words.
    ("You must change your password", NOT_ALLOWED, EXPIRED),
    ("required to change your password", NOT_ALLOWED, EXPIRED),
    ("assword expired", NOT_ALLOWED, EXPIRED),
    ("ccount has expired", NOT_ALLOWED, ACCOUNT),
    ("ubsystem request failed", UNAVAILABLE, SUBSYSTEM),
    ("vsm-login: not found", UNAVAILABLE, SUBSYSTEM),
    ("vsm-login: No such file", UNAVAILABLE, SUBSYSTEM),
    ("exec request failed", UNAVAILABLE, "HOST lets you run nothing: its sshd refuses it"),
    (
        "PTY allocation request failed",
        UNAVAILABLE,
        "ssh asks HOST for a terminal, which is refused: take RequestTTY out of your options",
    ),
    (
        "Session open refused",
        UNAVAILABLE,
        "HOST allows no session on this connection (MaxSessions in its sshd_config)",
    ),
    (
        "Cannot execute command-line and remote command",
        CONFIG,
        "your ssh options for HOST have a RemoteCommand: take it out",
    ),
    (
        "Cannot specify",
        CONFIG,
        "two of your ssh options for HOST forbid each other, as ssh says above",
    ),
    ("ad configuration option", CONFIG, "your ssh options for HOST are wrong, as ssh says above"),
    ("Could not create directory", UNAVAILABLE, "HOST has no home for you, or not a usable one"),
];

/// In what came through the pipe before the answer.
const ON_PIPE: [Reason; 9] = [
    ("password has expired", NOT_ALLOWED, EXPIRED),
    ("change your password", NOT_ALLOWED, EXPIRED),
    ("assword expired", NOT_ALLOWED, EXPIRED),
    ("Password change required", NOT_ALLOWED, EXPIRED),
    ("ccount has expired", NOT_ALLOWED, ACCOUNT),
    (
        "account is currently not available",
        NOT_ALLOWED,
        "HOST lets you in nowhere: your login shell there is nologin",
    ),
    (
        "sftp connections only",
        NOT_ALLOWED,
        "HOST lets you transfer files only (ForceCommand in its sshd_config)",
    ),
    (
        "PTY allocation request failed",
        UNAVAILABLE,
        "something at HOST asks for a terminal before the service begins",
    ),
    (
        "SSH-2.0-",
        UNAVAILABLE,
        "HOST answers as another sshd: a ForceCommand or start-up file leads elsewhere",
    ),
];

/// The reason in a line on standard error.
pub(super) fn in_words(line: &str) -> Option<&'static Reason> {
    ON_STDERR.iter().find(|(needle, ..)| line.contains(needle))
}

fn failure((_, code, text): &Reason, host: &str) -> Failure {
    Failure::new(*code, text.replace("HOST", host))
}

/// What was heard of an ssh that has ended.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    /// Whether trying again may help.
    pub(super) retry: Retry,
    /// Its reason, where that was not shown.
    pub(super) why: Option<String>,
    /// What is known of it.
    pub(super) reason: Option<&'static Reason>,
    /// What `vsm relay` on the way said: that has tried again already.
    pub(super) on_the_way: Option<String>,
}

/// ssh ended with this code (none = by a signal) and nothing came through the pipe.
pub(super) fn of_exit(code: Option<i32>, host: &str, words: LastWords) -> Failure {
    if let Some(reason) = words.reason {
        return failure(reason, host);
    }
    match code {
        Some(255) | None => {
            if let Some(why) = words.on_the_way {
                return Failure::new(UNAVAILABLE, format!("the way to {host} is closed: {why}"));
            }
            let why = words.why.map(|why| format!(": {why}")).unwrap_or_default();
            let what = match words.retry {
                Retry::Busy => format!(
                    "{host} hangs up, or says nothing, before the login: too many connect at once, or it refuses this address{why}"
                ),
                Retry::Never | Retry::Briefly | Retry::Patiently => {
                    format!("ssh to {host} failed{why}")
                }
            };
            Failure::new(SSH, what).retry(words.retry)
        }
        Some(126 | 127) => Failure::new(UNAVAILABLE, SUBSYSTEM.replace("HOST", host)),
        Some(64) => Failure::new(
            UNAVAILABLE,
            format!("the sshd subsystem \"vsm\" of {host} is called with wrong arguments"),
        ),
        Some(code) => Failure::new(
            UNAVAILABLE,
            format!(
                "{host} let you in and ended at once (code {code}): {INSTEAD} ends before the service begins, or vsm-login \
                 cannot run"
            ),
        ),
    }
}

/// The host acknowledged nothing any more.
pub(super) fn of_unanswered(host: &str) -> Failure {
    Failure::new(SSH, format!("ssh to {host} failed: {host} is gone, or the network to it"))
        .retry(Retry::Patiently)
}

/// Nothing came for so many seconds after the login.
pub(super) fn of_silence(host: &str, seconds: u64) -> Failure {
    Failure::new(
        UNAVAILABLE,
        format!(
            "{host} let you in and then said nothing for {seconds} s: {INSTEAD} waits or runs another program (exec), or \
             your home there or what else its sshd opens a session with does not answer"
        ),
    )
}

/// Reads `error CODE TEXT`, or what came in its place.
pub(super) fn of_answer(answer: &str, host: &str) -> Failure {
    let Some(rest) = answer.strip_prefix("error ") else {
        if let Some(reason) = ON_PIPE.iter().find(|(needle, ..)| answer.contains(needle)) {
            return failure(reason, host);
        }
        let said: String = answer.chars().take(SHOWN_MAX).collect();
        return Failure::new(
            SOFTWARE,
            format!(
                "{host} said {said:?} instead of joining the pipe: {INSTEAD} prints it; let a start-up file print in \
                 terminals only, and ask the administrator of {host} for the other"
            ),
        );
    };
    let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let code = match word {
        "no-broker" | "no-host" => UNAVAILABLE,
        "no-session" => NOT_FOUND,
        "refused" => NOT_ALLOWED,
        "spent" => SPENT,
        "bad-request" => USAGE,
        _ => SOFTWARE,
    };
    // The daemon is gone and the host is not yet: soon the address moves, or the daemon is back.
    let retry = if word == "no-broker" { Retry::Patiently } else { Retry::Never };
    Failure::new(code, format!("{host}: {text}")).retry(retry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_codes() {
        let failure = of_answer("error no-broker the broker does not run", "h");
        assert_eq!(
            (failure.code, failure.text.as_str()),
            (UNAVAILABLE, "h: the broker does not run")
        );
        assert_eq!(failure.retry, Retry::Patiently);
        let refused = of_answer("error refused not yours", "h");
        assert_eq!((refused.code, refused.retry), (NOT_ALLOWED, Retry::Never));
    }

    #[test]
    fn what_comes_in_place_of_the_answer_has_its_reason() {
        for (said, code, words) in [
            ("Welcome!", SOFTWARE, "start-up file"),
            ("This is no machine for you", SOFTWARE, "ForceCommand in sshd_config"),
            ("This account is currently not available.", NOT_ALLOWED, "nologin"),
            ("This service allows sftp connections only.", NOT_ALLOWED, "files only"),
            ("WARNING: Your password has expired.", NOT_ALLOWED, "has expired: change it"),
        ] {
            let failure = of_answer(said, "h");
            assert_eq!(failure.code, code, "{said}");
            assert!(failure.text.contains(words) && failure.text.contains('h'), "{failure}");
        }
    }

    #[test]
    fn each_exit_has_its_reason() {
        for (code, line, wanted, words) in [
            (
                Some(1),
                "WARNING: Your password has expired.",
                NOT_ALLOWED,
                "password at h has expired",
            ),
            (Some(1), "Password change required but no TTY available.", NOT_ALLOWED, "expired"),
            (
                Some(1),
                "You are required to change your password immediately (administrator enforced).",
                NOT_ALLOWED,
                "expired",
            ),
            (Some(1), "Password expired. Change your password now.", NOT_ALLOWED, "expired"),
            (Some(255), "subsystem request failed on channel 0", UNAVAILABLE, "no sshd subsystem"),
            (Some(255), "PTY allocation request failed on channel 0", UNAVAILABLE, "RequestTTY"),
            (Some(255), "/x/config: line 3: Bad configuration option: prt", CONFIG, "are wrong"),
            (Some(127), "", UNAVAILABLE, "vsm-login is missing"),
            (Some(1), "", UNAVAILABLE, "code 1"),
            (Some(0), "", UNAVAILABLE, "code 0"),
            (Some(1), "", UNAVAILABLE, "start-up file of your shell"),
            (Some(0), "", UNAVAILABLE, "ForceCommand in sshd_config"),
            (Some(64), "", UNAVAILABLE, "arguments"),
            (Some(255), "", SSH, "ssh to h failed"),
            (None, "", SSH, "ssh to h failed"),
        ] {
            let heard = LastWords { reason: in_words(line), ..LastWords::default() };
            let failure = of_exit(code, "h", heard);
            assert_eq!(failure.code, wanted, "{code:?} {line}: {failure}");
            assert!(failure.text.contains(words), "{code:?} {line}: {failure}");
        }
        let silence = of_silence("h", 30).text;
        assert!(silence.contains("30 s") && silence.contains("ForceCommand"), "{silence}");
    }
}
