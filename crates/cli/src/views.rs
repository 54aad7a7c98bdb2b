//! What an administrator is shown, as texts: `vsmctl` prints them, and the pages of `vsm-web` show the same.

use vsm_proto::{admin::v1 as pb, session::v1::Epoch};

pub use crate::{admin::Explanation, ha::PairShown, output::Cells};
use crate::{
    admin::{agent, config, identities, load, renew, select, session},
    desktops::SessionRow,
    ha, output,
};

/// The pair, as `vsmctl ha status` has it; `now_unix_ms` is by the clock here.
#[must_use]
pub fn pair(nodes: Vec<pb::NodeView>, now_unix_ms: u64) -> PairShown {
    PairShown::new(nodes, now_unix_ms)
}

/// What would become of the pair, as `vsmctl ha simulate` has it. `solo_create`: desktops are made without votes.
///
/// # Errors
/// In words, where this broker is not one of a pair.
pub fn forecast(
    nodes: Vec<pb::NodeView>,
    agents: &[pb::AgentView],
    solo_create: bool,
) -> Result<Cells, NotShown> {
    ha::forecast(nodes, agents, solo_create).map_err(|failure| NotShown(failure.text))
}

/// Why something cannot be shown, or is not understood; for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotShown(pub String);

/// A reign: `COUNTER@NODE`.
#[must_use]
pub fn epoch(epoch: &Epoch) -> String {
    format!("{}@{}", epoch.counter, epoch.node)
}

/// The agents, as `vsmctl agent list` has them, and what is to do.
#[must_use]
pub fn agents(agents: Vec<pb::AgentView>, now_unix_ms: u64) -> (Cells, Vec<String>) {
    agent::cells(agents, now_unix_ms)
}

/// An agent's fields, as `vsmctl agent show` has them.
#[must_use]
pub fn agent(agent: pb::AgentView, now_unix_ms: u64) -> Vec<(String, String)> {
    agent::fields(agent, now_unix_ms)
}

/// A session's fields, as `vsmctl session show` has them.
#[must_use]
pub fn session(row: &SessionRow) -> Vec<(String, String)> {
    output::fields(row)
}

/// The text of a session's log.
#[must_use]
pub fn log_text(bytes: &[u8]) -> String {
    session::log_text(bytes)
}

/// What came of ending sessions.
#[must_use]
pub fn terminated(all: Vec<pb::Terminated>) -> Cells {
    session::terminated_cells(all)
}

/// How busy the agents are, as `vsmctl load list` has it.
#[must_use]
pub fn load(agents: Vec<pb::AgentView>) -> Cells {
    load::cells(agents)
}

/// The subclusters, as `vsmctl load subclusters` has them.
#[must_use]
pub fn subclusters(all: Vec<pb::SubclusterView>) -> Cells {
    load::subcluster_cells(all)
}

/// Where the nodes' configurations differ, as `vsmctl config diff` has it.
#[must_use]
pub fn differences(answer: pb::CompareResponse) -> Cells {
    config::cells(answer)
}

/// The identities of hosts, as `vsmctl pki list` has them.
#[must_use]
pub fn identities(all: Vec<pb::IdentityStatus>, now_unix_ms: u64) -> Cells {
    identities::cells(all, now_unix_ms)
}

/// What came of asking agents to renew their certificates.
#[must_use]
pub fn renewed(agents: Vec<pb::RenewedAgent>) -> Cells {
    renew::cells(agents)
}

/// The command that gets a host its first certificate.
#[must_use]
pub fn enrol_command(invited: &pb::InviteResponse) -> String {
    identities::command(invited)
}

/// A moment in milliseconds since 1970: an RFC 3339 time, or so long from now, such as `2h`.
///
/// # Errors
/// If it is neither.
pub fn until(text: &str, now_unix_ms: u64) -> Result<u64, NotShown> {
    agent::until(text, now_unix_ms).map_err(|failure| NotShown(failure.text))
}

/// A duration as seconds: `30m`, `2d 12h`.
///
/// # Errors
/// If it is none.
pub fn seconds(text: &str) -> Result<u64, NotShown> {
    select::seconds(text).map_err(NotShown)
}

/// How long an invitation may count, in seconds.
pub const INVITATION_S: std::ops::RangeInclusive<u64> = identities::VALID_S;
