//! `vsmctl agent`: the agents as the broker sees them; emptying them, and forgetting one that is gone.

use clap::Args;
use serde::Serialize;
use tonic::{Code, Status};
use vsm_daemon::clock;
use vsm_proto::{
    admin::v1::{self as pb, agents_client::AgentsClient},
    sync::v1::Drain,
};

use super::{
    AdminOptions, DEADLINE, confirm,
    select::{Selector, seconds},
};
use crate::{
    broker::with_deadline,
    exit::{Failure, NOT_FOUND, USAGE},
    output::{self, Cells, Columns},
    said,
    trouble::{self, Trouble},
};

/// An administrator's mark; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct DrainRecord {
    by: String,
    why: String,
    since: Option<String>,
    until: Option<String>,
}

impl From<Drain> for DrainRecord {
    fn from(drain: Drain) -> Self {
        Self {
            since: output::time(drain.since_unix_ms),
            until: output::time(drain.until_unix_ms),
            by: drain.by,
            why: drain.why,
        }
    }
}

impl DrainRecord {
    /// `by root until …: new kernel`.
    fn words(&self) -> String {
        let until = self.until.as_ref().map(|until| format!(" until {until}")).unwrap_or_default();
        let why = if self.why.is_empty() { String::new() } else { format!(": {}", self.why) };
        format!("by {}{until}{why}", self.by)
    }
}

/// An agent as `vsmctl agent list` prints it; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct AgentRow {
    agent: String,
    state: &'static str,
    detail: String,
    since: Option<String>,
    public_name: String,
    version: String,
    users: u32,
    sessions: u32,
    weight: u32,
    max_users: u32,
    draining: bool,
    drained_by_configuration: bool,
    drain: Option<DrainRecord>,
    maintenance: Option<String>,
    penalised_until: Option<String>,
    subclusters: Vec<String>,
    troubles: Vec<Trouble>,
    #[serde(skip)]
    age: String,
}

impl AgentRow {
    fn new(agent: pb::AgentView, now: u64) -> Self {
        Self {
            state: state_word(&agent),
            since: output::time(agent.since_unix_ms),
            age: output::age(agent.since_unix_ms, now),
            penalised_until: output::time(agent.penalised_until_unix_ms),
            agent: agent.name,
            detail: agent.detail,
            public_name: agent.public_name,
            version: agent.version,
            users: agent.users,
            sessions: agent.sessions,
            weight: agent.weight,
            max_users: agent.max_users,
            draining: agent.draining,
            drained_by_configuration: agent.drained_by_configuration,
            drain: agent.drain.map(Into::into),
            maintenance: agent.maintenance,
            subclusters: agent.subclusters,
            troubles: agent.troubles.into_iter().map(Into::into).collect(),
        }
    }
}

impl Columns for AgentRow {
    const HEADINGS: &'static [&'static str] =
        &["AGENT", "STATE", "FOR", "USERS", "SESSIONS", "WEIGHT", "NOTE"];

    fn cells(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.drain {
            Some(drain) => notes.push(format!("draining {}", drain.words())),
            None if self.draining => notes.push("draining".to_owned()),
            None => {}
        }
        match self.maintenance.as_deref() {
            Some("") => notes.push("in maintenance".to_owned()),
            Some(text) => notes.push(format!("in maintenance: {text}")),
            None => {}
        }
        if self.subclusters.is_empty() {
            notes.push("in no subcluster".to_owned());
        }
        notes.extend(
            self.penalised_until
                .as_ref()
                .map(|until| format!("failed a start, last in the queue until {until}")),
        );
        if !self.detail.is_empty() {
            notes.push(self.detail.clone());
        }
        vec![
            self.agent.clone(),
            self.state.to_owned(),
            self.age.clone(),
            self.users.to_string(),
            self.sessions.to_string(),
            self.weight.to_string(),
            notes.join("; "),
        ]
    }
}

/// The agents as `vsmctl agent list` has them, and what is to do.
pub(crate) fn cells(agents: Vec<pb::AgentView>, now: u64) -> (Cells, Vec<String>) {
    let rows: Vec<AgentRow> = agents.into_iter().map(|agent| AgentRow::new(agent, now)).collect();
    let of = |row: &'_ AgentRow| (row.agent.clone(), row.troubles.clone());
    let all: Vec<_> = rows.iter().map(of).collect();
    let to_do = trouble::lines(all.iter().map(|(name, troubles)| (name.as_str(), &troubles[..])));
    (Cells::of(&rows), to_do)
}

/// What `vsmctl agent show` prints of one.
pub(crate) fn fields(agent: pb::AgentView, now: u64) -> Vec<(String, String)> {
    output::fields(&AgentRow::new(agent, now))
}

pub(crate) async fn agents(options: &AdminOptions) -> Result<Vec<pb::AgentView>, Failure> {
    let request = with_deadline(pb::ListAgentsRequest {}, DEADLINE);
    let answer = options.dial().await?.list_agents(request).await?;
    output::say_if_stale(&answer);
    Ok(answer.into_inner().agents)
}

/// The agent of this name.
pub(super) async fn agent(options: &AdminOptions, name: &str) -> Result<pb::AgentView, Failure> {
    let found = agents(options).await?.into_iter().find(|agent| agent.name == name);
    found.ok_or_else(|| Failure::new(NOT_FOUND, format!("there is no agent {name}")))
}

pub(super) fn state_word(agent: &pb::AgentView) -> &'static str {
    match agent.state() {
        pb::AgentState::Up => "up",
        pb::AgentState::Down | pb::AgentState::Unspecified => "down",
    }
}

/// `vsmctl agent list`.
///
/// # Errors
/// If the broker cannot be asked; with `exit_code` also if something is to do.
pub async fn agent_list(options: &AdminOptions, exit_code: bool) -> Result<(), Failure> {
    let now = clock::unix_millis().0;
    let agents = agents(options).await?.into_iter();
    let rows: Vec<AgentRow> = agents.map(|agent| AgentRow::new(agent, now)).collect();
    let to_do = trouble::lines(rows.iter().map(|row| (row.agent.as_str(), &row.troubles[..])));
    output::report(options.output, &rows, |rows| output::table(rows) + &trouble::section(&to_do))?;
    trouble::end(exit_code, !to_do.is_empty())
}

/// `vsmctl agent show`.
///
/// # Errors
/// If the broker cannot be asked, or there is no such agent.
pub async fn agent_show(options: &AdminOptions, name: &str) -> Result<(), Failure> {
    let row = AgentRow::new(agent(options, name).await?, clock::unix_millis().0);
    output::value(options.output, &row)
}

/// Which agent is to be drained, and how.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Agent
    name: String,
    /// Reason, in one line; shown to other administrators
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// When the drain ends by itself: a time such as 2026-03-01T09:00:00Z, or a duration such as 30m, 2h or 1d
    #[arg(long, value_name = "TIME|DURATION")]
    until: Option<String>,
    /// Drain it even if it is the last agent of a subcluster that takes new sessions
    #[arg(long)]
    force: bool,
}

/// `vsmctl agent drain`.
///
/// # Errors
/// If the broker cannot be asked or refuses.
pub async fn agent_drain(options: &AdminOptions, arguments: DrainArgs) -> Result<(), Failure> {
    let until = arguments.until.as_deref().map(|text| until(text, clock::unix_millis().0));
    let DrainArgs { name, reason, force, .. } = arguments;
    let request = pb::DrainRequest {
        agent: name.clone(),
        reason,
        until_unix_ms: until.transpose()?.unwrap_or(0),
        force,
    };
    let mut client = AgentsClient::new(options.channel().await?);
    let answer = client.drain(with_deadline(request, DEADLINE)).await.map_err(refused)?;
    let drain = DrainRecord::from(answer.into_inner().drain.unwrap_or_default());
    output::report(options.output, &drain, |drain| {
        format!("{name} takes no new sessions, {}.\n", drain.words())
    })
}

/// `vsmctl agent undrain`.
///
/// # Errors
/// If the broker cannot be asked or refuses.
pub async fn agent_undrain(options: &AdminOptions, name: &str) -> Result<(), Failure> {
    let request = pb::UndrainRequest { agent: name.to_owned() };
    let mut client = AgentsClient::new(options.channel().await?);
    let answer = client.undrain(with_deadline(request, DEADLINE)).await.map_err(refused)?;
    let answer = answer.into_inner();
    let record = UndrainRecord {
        agent: name.to_owned(),
        was: answer.drain.map(Into::into),
        drained_by_configuration: answer.drained_by_configuration,
    };
    output::report(options.output, &record, |record| {
        said::undrained(name, record.drained_by_configuration) + "\n"
    })
}

/// What `vsmctl agent undrain` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct UndrainRecord {
    agent: String,
    was: Option<DrainRecord>,
    drained_by_configuration: bool,
}

/// Which agent is to be forgotten, and whether it has been thought over.
#[derive(Debug, Args)]
pub struct ForgetArgs {
    /// Agent
    name: String,
    /// Do not ask for confirmation
    #[arg(short = 'y', long)]
    assume_yes: bool,
}

/// What `vsmctl agent forget` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct ForgetRecord {
    agent: String,
    sessions: u32,
    given_up: u32,
    was_drained: bool,
}

/// `vsmctl agent forget`: shows what is lost, asks, forgets.
///
/// # Errors
/// If the broker cannot be asked or refuses, or the answer is no.
pub async fn agent_forget(options: &AdminOptions, arguments: &ForgetArgs) -> Result<(), Failure> {
    let name = &arguments.name;
    if !arguments.assume_yes {
        let selector = Selector { agent: name.clone(), ..Selector::default() };
        let rows = selector.sessions(&mut options.dial().await?).await?;
        let question = format!(
            "Forget {name} and its {} session(s)? They are out of reach until it returns.",
            rows.len()
        );
        confirm(&output::table(&rows), &question)?;
    }
    let request = pb::ForgetRequest { agent: name.clone() };
    let mut client = AgentsClient::new(options.channel().await?);
    let answer = client.forget(with_deadline(request, DEADLINE)).await.map_err(refused)?;
    let pb::ForgetResponse { sessions, given_up, was_drained } = answer.into_inner();
    let record = ForgetRecord { agent: name.clone(), sessions, given_up, was_drained };
    output::report(options.output, &record, |record| said::forgotten(name, record.sessions) + "\n")
}

/// A refusal by the state that things are in is no error of anything: nothing was done.
pub(super) fn refused(status: Status) -> Failure {
    if status.code() == Code::FailedPrecondition {
        Failure::new(1, status.message())
    } else {
        status.into()
    }
}

/// A moment in milliseconds since 1970: an RFC 3339 time, or so long from now.
pub(crate) fn until(text: &str, now: u64) -> Result<u64, Failure> {
    let bad = || {
        let text: String = text.chars().take(40).collect();
        let what = "a time such as 2026-03-01T09:00:00Z, or a duration such as 30m, 2h or 1d";
        Failure::new(USAGE, format!("--until {text:?}: it is {what}"))
    };
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return u64::try_from(time.as_millisecond()).map_err(|_| bad());
    }
    let ms = seconds(text).ok().and_then(|seconds| seconds.checked_mul(1000));
    Ok(now + ms.filter(|ms| *ms <= UNTIL_MAX_MS).ok_or_else(bad)?)
}

/// Longest time that can be said as a duration: ten years.
const UNTIL_MAX_MS: u64 = 10 * 366 * 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_is_a_time_or_a_duration() {
        let ms = |text| until(text, 1_000).unwrap();
        assert_eq!(
            (ms("5s"), ms("30m"), ms("2h"), ms("1d")),
            (6_000, 1_801_000, 7_201_000, 86_401_000)
        );
        assert_eq!(ms("2027-01-15T08:00:00Z"), 1_800_000_000_000);
        for bad in ["", "5", "h", "5x", "-5m", "tomorrow", "99999999999999999999d", "9999999d"] {
            let failure = until(bad, 0).unwrap_err();
            assert_eq!(failure.code, USAGE);
            assert!(failure.text.contains(&format!("{bad:?}")), "{failure}");
        }
    }
}
