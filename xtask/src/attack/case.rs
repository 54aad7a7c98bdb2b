//! What a case is: who attacks, what for, by what means, and where the same means must succeed.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::stage::Stage;
use crate::command::capture;

/// The program that does what an attacker with a shell does.
const TOOL: &str = concat!(include_str!("tools/calls.py"), include_str!("tools/tool.py"));
/// The account of what brokers speak to on a session host. It is none of the people of the cluster.
pub(super) const NET: &str = "vsmagent";
/// What makes root this account, as somebody has it who has taken over that program.
const AS_NET: [&str; 7] = [
    "setpriv",
    "--reuid=vsmagent",
    "--regid=vsmagent",
    "--init-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--no-new-privs",
];

/// Who attacks, as docs/threat-model.md has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum By {
    /// Anybody on the network.
    Network,
    /// A user of a session host.
    Neighbour,
    /// A user of a broker.
    BrokerUser,
    /// A malicious client or viewer.
    Client,
    /// Whoever has a certificate that is not theirs, or counts no more.
    Certificate,
    /// Whoever takes over what brokers speak to on a session host.
    TakenOver,
    /// Root on a session host.
    SessionHost,
    /// An administrator who wants to be root.
    Administrator,
    /// Garbage and floods.
    Flood,
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Network => "anybody on the network",
            Self::Neighbour => "a user of a session host",
            Self::BrokerUser => "a user of a broker",
            Self::Client => "a malicious client",
            Self::Certificate => "a stolen certificate",
            Self::TakenOver => "vsm-agent-net taken over",
            Self::SessionHost => "root on a session host",
            Self::Administrator => "an administrator",
            Self::Flood => "a flood",
        })
    }
}

/// What came of doing something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// It got what it is for.
    Won(String),
    /// It was refused.
    Lost(String),
}

impl Seen {
    /// Won if `is` holds.
    pub(super) fn won_if(is: bool, said: impl Into<String>) -> Self {
        if is { Self::Won(said.into()) } else { Self::Lost(said.into()) }
    }
}

/// Does something on the stage. An error is a fault of the means, and no refusal.
pub(super) type Act = Box<dyn Fn(&Stage<'_>) -> Result<Seen>>;

/// An attempt and its control.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) by: By,
    /// What the attacker gets where it works.
    pub(super) gets: String,
    pub(super) attempt: Act,
    /// The same means where it must succeed.
    pub(super) control: Act,
    /// Calls of methods in it; none = it is of another kind.
    pub(super) calls: usize,
}

/// Where somebody does something: host, user, and the words of the tool.
pub(super) type At = (&'static str, &'static str, &'static [&'static str]);

/// A case whose attempt and control are a run of the tool each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) gets: &'static str,
    pub(super) attempt: At,
    pub(super) control: At,
}

impl Row {
    /// The case.
    pub(super) fn by(self, by: By) -> Case {
        case(self.name, by, self.gets, self.attempt, self.control)
    }
}

/// What can be done on the stage.
pub(super) trait Does {
    fn act(self) -> Act;
}

impl Does for At {
    fn act(self) -> Act {
        let (host, user, words) = self;
        Box::new(move |stage| tool(stage, host, user, words))
    }
}

impl<F: Fn(&Stage<'_>) -> Result<Seen> + 'static> Does for F {
    fn act(self) -> Act {
        Box::new(self)
    }
}

/// A case of any means.
pub(super) fn case(
    name: impl Into<String>,
    by: By,
    gets: impl Into<String>,
    attempt: impl Does,
    control: impl Does,
) -> Case {
    let (name, gets) = (name.into(), gets.into());
    Case { name, by, gets, attempt: attempt.act(), control: control.act(), calls: 0 }
}

/// The tool as somebody, after these words.
fn command_of(
    stage: &Stage<'_>,
    host: &str,
    user: &str,
    before: &[&str],
    words: &[&str],
) -> Result<Command> {
    let words: Vec<_> = words.iter().map(|word| stage.fill(word)).collect::<Result<_>>()?;
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let is_net = user == NET;
    let account: &[&str] = if is_net { &AS_NET } else { &[] };
    let all = [account, before, &["python3", "-c", TOOL], &words[..]].concat();
    let user = if is_net { "root".to_owned() } else { stage.fill(user)? };
    stage.cluster.command(&stage.fill(host)?, &user, &all)
}

/// Runs the tool.
pub(super) fn tool(stage: &Stage<'_>, host: &str, user: &str, words: &[&str]) -> Result<Seen> {
    let mut command = command_of(stage, host, user, &["timeout", "90"], words)?;
    let output = capture(command.stdin(Stdio::null()))?;
    let (said, why) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = said.lines().last().unwrap_or_default().trim();
    match (output.status.success(), line.split_once(' ').unwrap_or((line, ""))) {
        (true, ("won", said)) => Ok(Seen::Won(said.to_owned())),
        (true, ("lost", said)) => Ok(Seen::Lost(said.to_owned())),
        _ => bail!("{user} on {host}: {words:?}: {line} {}", last(&why)),
    }
}

/// The tool as something that stays until its input ends, and the rest of the line by which it says that it is there.
pub(super) fn stays(
    stage: &Stage<'_>,
    host: &str,
    user: &str,
    words: &[&str],
) -> Result<(Staying, String)> {
    Staying::begin(command_of(stage, host, user, &[], words)?)
}

/// A program that goes on until it is dropped.
#[derive(Debug)]
pub(super) struct Staying(std::process::Child);

impl Staying {
    /// Starts one that says `all` first.
    pub(super) fn begin(mut command: Command) -> Result<(Self, String)> {
        use std::io::BufRead as _;
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start")?;
        let output = child.stdout.take().context("it has no output")?;
        let begun = Self(child);
        let mut line = String::new();
        std::io::BufReader::new(output).read_line(&mut line)?;
        match line.strip_prefix("all") {
            Some(rest) => Ok((begun, rest.trim().to_owned())),
            None => bail!("it has not begun: {line:?}"),
        }
    }

    /// One that says nothing of its own.
    pub(super) fn silent(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn();
        Ok(Self(child.context("cannot start")?))
    }

    /// Whether it still runs.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        // Its input's end is its own.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn last(text: &str) -> String {
    let lines: Vec<_> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" | ")
}
