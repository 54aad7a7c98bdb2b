//! What ssh says on standard error. It passes through to the user, but for the lines that say that there is no
//! connection: those tell whether trying again may help, and are told once, at the end. Nothing passes of an attempt
//! that may well fail.

use std::{io::Write, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{io::AsyncReadExt, process::ChildStderr, sync::Notify, task::JoinHandle};

use super::reason::{self, LastWords, Reason};
use crate::exit::Retry;

/// Longest line; a longer one is passed on in pieces.
const LINE_MAX: usize = 4096;
/// A connection that is shared stays open behind our back, and with it standard error.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// What is known of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// The host is not there, or the connection broke.
    Away,
    /// The host is there, and hung up or said nothing before the login began.
    TurnedAway,
    /// The host does not know the connection any more: mostly its address has moved to another one.
    Reset,
    /// The other side hung up before it said who it is, or for reasons of its own.
    HungUp,
    /// A refusal, which stays.
    Refused,
    /// The login is done; with it come figures that nobody has asked for.
    In,
    Figures,
    /// Words of the program that leads the way.
    OnTheWay,
    /// Anything else.
    Other,
}

/// No connection: mostly a host that died, or an address that is just moving.
const AWAY: [&str; 14] = [
    // Whatever the system says about it: while two hosts hold one address, also that it was reset.
    "connect to host ",
    "Connection refused",
    "Connection timed out",
    "Operation timed out",
    "No route to host",
    "Network is unreachable",
    "Host is down",
    "ssh_dispatch_run_fatal:",
    "client_loop: ",
    "Timeout, server ",
    " closed by remote host",
    "Broken pipe",
    "stdio forwarding failed",
    // What leads the way has ended.
    " UNKNOWN port 65535",
];

/// sshd has more connections than it takes at a time (`MaxStartups`), or has not got round to this one.
const TURNED_AWAY: [&str; 2] = ["kex_exchange_identification:", "banner exchange"];

/// A server hangs up so while it stops, and also when an account rule forbids the log-in.
const HUNG_UP: [&str; 2] = ["Connection closed by ", "Connection to "];

const RESET: &str = "Connection reset by ";

/// Also: what answers is no sshd.
const REFUSED: [&str; 13] = [
    "Permission denied",
    "Host key verification failed",
    "REMOTE HOST IDENTIFICATION HAS CHANGED",
    "Too many authentication failures",
    "No supported authentication methods",
    "no matching ",
    "Could not resolve hostname",
    "Bad configuration option",
    "ccount has expired",
    "banner line ",
    "No SSH version received",
    "invalid format",
    "Protocol major versions differ",
];

/// `LogLevel=VERBOSE`, which tells of the login, tells this as well.
const FIGURES: [&str; 2] = ["Transferred: sent ", "Bytes per second: sent "];

/// Of `vsm relay`.
const ON_THE_WAY: &str = "vsm: ";

fn kind(line: &str) -> Line {
    let any = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if line.starts_with("debug") {
        Line::Other
    } else if line.starts_with("Authenticated to ") {
        Line::In
    } else if FIGURES.iter().any(|word| line.starts_with(word)) {
        Line::Figures
    } else if line.starts_with(ON_THE_WAY) {
        Line::OnTheWay
    } else if any(&REFUSED) {
        Line::Refused
    } else if any(&TURNED_AWAY) {
        Line::TurnedAway
    } else if any(&AWAY) {
        Line::Away
    } else if line.starts_with(RESET) {
        Line::Reset
    } else if HUNG_UP.iter().any(|word| line.starts_with(word)) {
        Line::HungUp
    } else {
        Line::Other
    }
}

#[derive(Debug, Default)]
struct Heard {
    refused: bool,
    away: bool,
    turned_away: bool,
    reset: bool,
    last: Option<String>,
    reason: Option<&'static Reason>,
    on_the_way: Option<String>,
    /// Told once the login is done.
    is_in: Arc<Notify>,
}

impl Heard {
    /// Takes in a line; whether the user is to see it now.
    fn take(&mut self, line: &str) -> bool {
        let kind = kind(line);
        // The first one is the cause of the others.
        self.reason = self.reason.or_else(|| reason::in_words(line));
        match kind {
            Line::In => {
                self.is_in.notify_one();
                return false;
            }
            Line::Figures => return false,
            Line::OnTheWay => {
                self.on_the_way = line.trim().strip_prefix(ON_THE_WAY).map(str::to_owned);
                return false;
            }
            Line::Refused => self.refused = true,
            Line::Away | Line::TurnedAway | Line::Reset | Line::HungUp => {
                self.away |= kind == Line::Away;
                self.turned_away |= kind == Line::TurnedAway;
                self.reset |= kind == Line::Reset;
                self.last = Some(line.trim().to_owned());
                return false;
            }
            Line::Other => {}
        }
        true
    }

    fn retry(&self) -> Retry {
        if self.refused || self.last.is_none() {
            Retry::Never
        } else if self.away {
            // With a host on the way both are heard: what lies behind it is away.
            Retry::Patiently
        } else if self.turned_away {
            Retry::Busy
        } else if self.reset {
            Retry::Patiently
        } else {
            Retry::Briefly
        }
    }
}

/// Listens to one ssh.
#[derive(Debug)]
pub(super) struct Words {
    heard: Arc<Mutex<Heard>>,
    is_in: Arc<Notify>,
    listener: JoinHandle<()>,
}

impl Words {
    /// Listens as long as ssh speaks; the user sees what is not kept if they are to.
    pub(super) fn listen(stderr: ChildStderr, shown: bool) -> Self {
        let is_in = Arc::new(Notify::new());
        let heard = Arc::new(Mutex::new(Heard { is_in: Arc::clone(&is_in), ..Heard::default() }));
        let listener = tokio::spawn(listen(stderr, Arc::clone(&heard), shown));
        Self { heard, is_in, listener }
    }

    /// Waits until the login is done; for ever where ssh is not to tell.
    pub(super) async fn logged_in(&self) {
        self.is_in.notified().await;
    }

    /// Once ssh has ended: what it had to say.
    pub(super) async fn last(mut self) -> LastWords {
        // What is not said by then is not waited for.
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.listener).await;
        let heard = self.heard.lock();
        LastWords {
            retry: heard.retry(),
            why: heard.last.clone(),
            reason: heard.reason,
            on_the_way: heard.on_the_way.clone(),
        }
    }
}

async fn listen(mut stderr: ChildStderr, heard: Arc<Mutex<Heard>>, shown: bool) {
    let mut waiting = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let read = stderr.read(&mut chunk).await.unwrap_or(0);
        waiting.extend_from_slice(&chunk[..read]);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            pass(&line, &heard, shown);
        }
        if !waiting.is_empty() && (read == 0 || waiting.len() > LINE_MAX) {
            pass(&std::mem::take(&mut waiting), &heard, shown);
        }
        if read == 0 {
            return;
        }
    }
}

fn pass(line: &[u8], heard: &Mutex<Heard>, shown: bool) {
    let show = heard.lock().take(&String::from_utf8_lossy(line));
    if show && shown {
        // A user who cannot see it cannot be told.
        let _ = std::io::stderr().write_all(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str]) -> (Retry, Vec<String>) {
        let mut heard = Heard::default();
        let shown = lines.iter().filter(|line| heard.take(line)).map(ToString::to_string);
        let shown = shown.collect();
        (heard.retry(), shown)
    }

    #[test]
    fn a_host_that_is_away_is_worth_another_try() {
        for line in [
            "ssh: connect to host tlha port 22: Connection refused",
            "ssh: connect to host 10.0.0.4 port 22: No route to host",
            "ssh: connect to host tlha port 22: Connection timed out",
            "ssh: connect to host tlha port 22: Connection reset by peer",
            "Timeout, server tlha not responding.",
            "client_loop: send disconnect: Broken pipe",
            "Connection to tlha closed by remote host.",
            "Connection reset by 10.0.0.4 port 22",
        ] {
            assert_eq!(after(&[line]), (Retry::Patiently, Vec::new()), "{line}");
        }
    }

    #[test]
    fn a_host_that_turns_connections_away_is_busy_and_one_behind_a_jump_host_is_away() {
        for line in [
            "Connection timed out during banner exchange",
            "kex_exchange_identification: Connection closed by remote host",
            "kex_exchange_identification: read: Connection reset by peer",
        ] {
            let lines = [line, "Connection reset by 10.0.0.4 port 22"];
            assert_eq!(after(&lines), (Retry::Busy, Vec::new()), "{line}");
            let behind =
                ["stdio forwarding failed", line, "Connection closed by UNKNOWN port 65535"];
            assert_eq!(after(&behind).0, Retry::Patiently, "{line}");
            // A command that leads the way may end without a word.
            assert_eq!(after(&behind[1..]).0, Retry::Patiently, "{line}");
        }
    }

    #[test]
    fn a_refusal_is_shown_and_final() {
        for line in [
            "alice@tlha: Permission denied (publickey,password).",
            "Host key verification failed.",
            "ssh: Could not resolve hostname tlha: Name or service not known",
            "kex_exchange_identification: banner line contains invalid characters",
            "banner exchange: Connection to 10.0.0.4 port 80: invalid format",
        ] {
            let lines = [line, "Connection closed by 10.0.0.4 port 22"];
            assert_eq!(after(&lines), (Retry::Never, vec![line.to_owned()]), "{line}");
        }
    }

    #[test]
    fn a_server_that_hangs_up_is_asked_again_for_a_moment_only() {
        assert_eq!(after(&["Connection closed by 10.0.0.4 port 22"]).0, Retry::Briefly);
        assert_eq!(after(&["Confirm user presence for key"]).0, Retry::Never);
        assert_eq!(after(&[]).0, Retry::Never);
    }

    #[test]
    fn what_only_we_asked_for_is_not_shown() {
        let lines = [
            "Authenticated to tlha ([10.0.0.4]:22) using \"publickey\".",
            "Transferred: sent 3096, received 3076 bytes, in 0.1 seconds",
            "Bytes per second: sent 24105.1, received 23949.4",
            "vsm: tlha: agent1 does not answer",
        ];
        assert_eq!(after(&lines), (Retry::Never, Vec::new()));
        let debug = "debug1: read_passphrase: Broken pipe";
        assert_eq!(after(&[debug]), (Retry::Never, vec![debug.to_owned()]));
    }
}
