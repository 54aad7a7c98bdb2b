//! The pipe through ssh: `ssh -s HOST vsm` runs `vsm-login` there, which joins it to the broker or to a session after
//! one line each way. ssh does the authentication; it asks on the terminal itself.

pub mod fixed;
mod reason;
mod running;
mod words;

use std::{
    ffi::OsString,
    fmt,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll},
    time::Duration,
};

use clap::Args;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use self::{
    reason::{LastWords, SPENT},
    running::{Exit, Running},
    words::Words,
};
use crate::{
    exit::{Failure, NOT_FOUND, Retry, SOFTWARE, SSH},
    output,
    patience::Patience,
    retry,
};

/// Name of the sshd subsystem.
const SUBSYSTEM: &str = "vsm";
/// Logging in includes a person who types a password or a code.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// From the login to the answer: nobody has anything to type then, but PAM opens a session, which a directory or a home
/// that is slow may delay.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a session host is asked again that cannot be reached, at most.
pub const TRY_HOST_MAX: Duration = Duration::from_secs(20);
/// Longest answer to the preface.
const ANSWER_MAX: u64 = 4096;
/// How long ssh may take to end once the pipe is closed.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// For the broker only: one that dies while it is connected is noticed in a few seconds. The keep-alives have its
/// kernel answer, which [`Running`] looks at; that its sshd answers none is waited for almost as long as
/// [`JOIN_TIMEOUT`]. What the user gives with `-o` goes before them.
const TO_BROKER: [&str; 2] = ["ServerAliveInterval=1", "ServerAliveCountMax=57"];
/// For the session host and the way there: a network that is gone without a word is noticed within a minute, an sshd
/// that is busy opening the session is not taken for that, and what stands between has no reason to forget a desktop at
/// which nothing moves.
const TO_HOST: [&str; 3] = ["ServerAliveInterval=5", "ServerAliveCountMax=11", "TCPKeepAlive=yes"];
/// And for a host that is reached directly: the kernel by itself would try for two minutes, in steps that get longer,
/// and miss that the network is back. It bounds what comes before the login as well, for which a busy sshd takes
/// seconds; on a way through others a person may have a password to type within that time.
const DIRECTLY: &str = "ConnectTimeout=10";
/// So that ssh tells when the login is done, and says why it fails whatever the user's files say of it.
const SPEAK: &str = "LogLevel=VERBOSE";

/// Options that are passed on to ssh, for the broker and the session host alike.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options for ssh")]
pub struct SshOptions {
    /// Port of sshd, on the broker and the session hosts
    #[arg(short, long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Identity file (private key)
    #[arg(short, long, value_name = "FILE")]
    pub identity: Option<OsString>,
    /// Any option of ssh_config(5), as KEY=VALUE; may be repeated
    #[arg(short = 'o', long = "ssh-option", value_name = "KEY=VALUE")]
    pub options: Vec<OsString>,
    /// Configuration file of ssh
    #[arg(short = 'F', long, value_name = "FILE")]
    pub ssh_config: Option<OsString>,
    /// Jump host
    #[arg(short = 'J', long, value_name = "[USER@]HOST")]
    pub jump: Option<OsString>,
    /// The ssh program
    #[arg(
        long,
        value_name = "PROGRAM",
        default_value = "ssh",
        env = "VSM_SSH",
        hide_env_values = true
    )]
    pub ssh: OsString,
}

impl SshOptions {
    /// As arguments of ssh, and of `vsm` itself.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let port = self.port.map(|port| OsString::from(port.to_string()));
        let single =
            [("-p", &port), ("-i", &self.identity), ("-F", &self.ssh_config), ("-J", &self.jump)];
        let single = single.into_iter().filter_map(|(flag, value)| Some((flag, value.clone()?)));
        let options = self.options.iter().map(|option| ("-o", option.clone()));
        single.chain(options).flat_map(|(flag, value)| [flag.into(), value]).collect()
    }
}

/// `[USER@]HOST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Login name; none = ssh decides.
    pub user: Option<String>,
    /// Host.
    pub host: String,
}

impl std::str::FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, host) = match text.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host.to_owned()),
            None => (None, text.to_owned()),
        };
        // ssh would take it for an option.
        let bad = host.is_empty()
            || host.starts_with('-')
            || user.as_ref().is_some_and(|u| u.is_empty() || u.starts_with('-'));
        if bad { Err("give it as HOST or USER@HOST".into()) } else { Ok(Self { user, host }) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(user) => write!(f, "{user}@{}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl Destination {
    /// The same host, with the login name by which it knows the user; empty = not known. What was typed, or stands in
    /// the user's ssh_config for that host alone, may be another one.
    #[must_use]
    pub fn known_as(&self, user: &str) -> Self {
        let known = (!user.is_empty() && !user.starts_with('-')).then(|| user.to_owned());
        Self { user: known.or_else(|| self.user.clone()), host: self.host.clone() }
    }

    /// The same user at another host.
    #[must_use]
    pub fn at(&self, host: &str) -> Self {
        Self { user: self.user.clone(), host: host.to_owned() }
    }
}

/// What to be joined to.
#[derive(Debug, Clone)]
pub enum Target {
    /// The broker's user socket, by a network that may stall for so long.
    Broker(Patience),
    /// The desktop of this session.
    Session(String),
    /// Somebody else's desktop, by this right.
    Shadow {
        /// Session.
        session: String,
        /// Right.
        right: String,
    },
    /// The sshd of the host of this session, through the broker's host.
    Relay(String),
}

/// How a pipe to a desktop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// The viewer left, or the user has logged out, or nobody knows.
    Plain,
    /// ssh has lost its connection.
    Lost,
    /// The user or an administrator has disconnected it.
    Disconnected,
    /// Another viewer came.
    Replaced,
    /// The desktop has ended, and not by a log-out.
    Ended,
    /// Nobody was at it for longer than is allowed.
    Idle,
}

/// A pipe that was joined.
#[derive(Debug)]
pub struct Pipe {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Killed when the pipe is dropped.
    ssh: Running,
}

impl Pipe {
    /// Closes our end and learns why the other side has closed its own, by the exit code of `vsm-login`.
    pub async fn finish(mut self) -> Farewell {
        drop(self.stdin);
        // One that takes longer, on a line that is dead, is killed.
        let ended = tokio::time::timeout(FAREWELL_MAX, self.ssh.ended()).await;
        match ended.ok().and_then(|exit| exit.code) {
            Some(3) => Farewell::Disconnected,
            Some(4) => Farewell::Replaced,
            Some(5) => Farewell::Ended,
            Some(6) => Farewell::Idle,
            Some(255) | None => Farewell::Lost,
            Some(_) => Farewell::Plain,
        }
    }
}

/// Runs ssh and has the other side join the pipe to the target.
///
/// # Errors
/// If ssh cannot be run, connect or log in, or the other side refuses.
pub async fn open(
    options: &SshOptions,
    to: &Destination,
    target: &Target,
) -> Result<Pipe, Failure> {
    open_by(options, to, target, &[], true).await
}

/// How to get in at a host.
#[derive(Debug)]
pub struct Way<'a> {
    /// Options of ssh for the login by a one-time key; none = there is no key.
    pub key: Option<Vec<OsString>>,
    /// Options that go before the user's own.
    pub first: &'a [OsString],
    /// How long to try again while the host cannot be reached.
    pub patience: Duration,
}

/// Goes there by a one-time key where there is one. Where that is not taken, by whatever other means the user has. A
/// host that was not reached, or that hung up before the login, has not refused the key: it is asked again.
///
/// # Errors
/// As [`open`].
pub async fn open_once(
    options: &SshOptions,
    to: &Destination,
    target: &Target,
    Way { key, first, patience }: Way<'_>,
) -> Result<Pipe, Failure> {
    if let Some(key) = key {
        let with_key = [&key, first].concat();
        let attempt = async || open_by(options, to, target, &with_key, false).await;
        match retry::at_host(patience, &to.host, attempt).await {
            Err(failure)
                if failure.code == SPENT
                    || failure.code == SSH && failure.retry == Retry::Never =>
            {
                output::progress(&format!("{} wants a login of its own ...", to.host));
            }
            done => return done,
        }
    }
    let attempt = async || open_by(options, to, target, first, true).await;
    retry::at_host(patience, &to.host, attempt).await
}

/// `shown`: the user sees what ssh says.
async fn open_by(
    options: &SshOptions,
    to: &Destination,
    target: &Target,
    first: &[OsString],
    shown: bool,
) -> Result<Pipe, Failure> {
    let mut child = spawn(options, to, target, first)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Failure::new(SOFTWARE, "ssh has no pipes"));
    };
    let words = child.stderr.take().map(|stderr| Words::listen(stderr, shown));
    let mut ssh = Running::new(child, bound(options, target));
    let preface = match target {
        Target::Broker(_) => "vsm/1 broker\n".to_owned(),
        Target::Session(id) => format!("vsm/1 session {id}\n"),
        Target::Shadow { session, right } => format!("vsm/1 shadow {session} {right}\n"),
        Target::Relay(id) => format!("vsm/1 relay {id}\n"),
    };
    let mut stdout = BufReader::new(stdout);
    // An ssh that ends at once takes the line with it; what it answered, or did not, tells.
    let _ = stdin.write_all(preface.as_bytes()).await;
    let mut answer = Vec::new();
    let read = async { (&mut stdout).take(ANSWER_MAX).read_until(b'\n', &mut answer).await };
    tokio::select! {
        biased;
        // An error is an answer that is empty.
        _ = read => {}
        () = silence(words.as_ref()) => {
            let silence = reason::of_silence(&to.host, JOIN_TIMEOUT.as_secs());
            // A broker's host may have died right after the login; once more tells.
            let again = matches!(target, Target::Broker(_));
            return Err(if again { silence.retry(Retry::Briefly) } else { silence });
        }
        () = tokio::time::sleep(ANSWER_TIMEOUT) => {
            let seconds = ANSWER_TIMEOUT.as_secs();
            return Err(Failure::new(SSH, format!("{} did not answer within {seconds} s", to.host)));
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    match answer.trim_end() {
        "ok" => Ok(Pipe { stdin, stdout, ssh }),
        "" => {
            let Exit { code, given_up } = ssh.ended().await;
            if given_up {
                if let Target::Broker(patience) = target {
                    patience.longer();
                }
                return Err(reason::of_unanswered(&to.host));
            }
            let words = match words {
                Some(words) => words.last().await,
                None => LastWords::default(),
            };
            Err(reason::of_exit(code, &to.host, words))
        }
        other => Err(reason::of_answer(other, &to.host)),
    }
}

/// How long the host may acknowledge nothing; none = that is not looked at. Who gives keep-alives of their own has
/// thought of how long their network may stall.
fn bound(options: &SshOptions, target: &Target) -> Option<Duration> {
    let own = |option: &OsString| {
        let option = option.to_string_lossy().trim_start().to_ascii_lowercase();
        option.starts_with("serveralive") || option.starts_with("tcpkeepalive")
    };
    let Target::Broker(patience) = target else { return None };
    (!options.options.iter().any(own)).then(|| patience.bound())
}

/// Over when the login is done and the answer is late.
async fn silence(words: Option<&Words>) {
    match words {
        Some(words) => words.logged_in().await,
        None => std::future::pending().await,
    }
    tokio::time::sleep(JOIN_TIMEOUT).await;
}

fn spawn(
    options: &SshOptions,
    to: &Destination,
    target: &Target,
    first: &[OsString],
) -> Result<Child, Failure> {
    let own = if matches!(target, Target::Broker(_)) { &TO_BROKER[..] } else { &TO_HOST };
    let is_proxy = |option: &OsString| option.as_encoded_bytes().starts_with(b"ProxyCommand=");
    let directly = options.jump.is_none() && !first.iter().any(is_proxy);
    let own = own.iter().chain(directly.then_some(&DIRECTLY)).chain([&SPEAK]);
    let own = own.flat_map(|option| ["-o".into(), (*option).into()]);
    let given = options.arguments().into_iter().chain(own).collect();
    let mut command = Command::new(&options.ssh);
    command.args(first).args(fixed::pipe(given));
    if let Some(user) = &to.user {
        command.arg("-l").arg(user);
    }
    command.args(["-s", "--", &to.host, SUBSYSTEM]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().map_err(|error| {
        Failure::new(NOT_FOUND, format!("cannot run {}: {error}", options.ssh.display()))
    })
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stdin).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_user_and_host() {
        let parsed: Destination = "me@dom@host".parse().unwrap();
        assert_eq!((parsed.user.as_deref(), parsed.host.as_str()), (Some("me@dom"), "host"));
        for bad in ["", "a@", "@h", "-oProxyCommand=x", "-l@h", "u@-h"] {
            assert!(bad.parse::<Destination>().is_err(), "{bad}");
        }
    }
}
