//! Conversions between the generated types and the domain: everything from outside is parsed here, once.

mod limits;

use std::str::FromStr;

use tonic::Status;
use vsm_core::{
    Change, EndReason, Ended, Epoch, Event, Fence, Geometry, Incarnation, PROFILE_KEY_MAX,
    Resources, Session, StartParams, State, UnixMillis, Viewer, check_client_params, printable,
};

use crate::{session::v1 as pb, sync::v1 as log};

/// Longest text that a client may give with a start: a command line, a language, a name.
const TEXT_MAX: usize = 4096;

/// A message that cannot be what it says; names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {why}")]
pub struct Invalid {
    /// Field, as the proto file spells it.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl Invalid {
    pub(crate) fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into() }
    }
}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Self {
        Self::invalid_argument(invalid.to_string())
    }
}

/// Parses a text field into an id or a name.
///
/// # Errors
/// Names the field and says what is wrong with the text.
pub fn text<T: FromStr<Err: ToString>>(field: &'static str, value: &str) -> Result<T, Invalid> {
    value.parse().map_err(|error: T::Err| Invalid::new(field, error.to_string()))
}

/// Takes a message field that has to be there.
///
/// # Errors
/// If it is unset.
pub fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| Invalid::new(field, "is missing"))
}

pub(crate) fn bounded(field: &'static str, value: String) -> Result<String, Invalid> {
    if value.len() > TEXT_MAX {
        return Err(Invalid::new(field, format!("is longer than {TEXT_MAX} bytes")));
    }
    if value.contains('\0') {
        return Err(Invalid::new(field, "holds a NUL character"));
    }
    Ok(value)
}

/// A key that no agent has is refused there, with those that it has.
fn profile(key: String) -> Result<String, Invalid> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if key.len() > PROFILE_KEY_MAX || !key.bytes().all(plain) {
        let why = format!("a key is at most {PROFILE_KEY_MAX} of a-z A-Z 0-9 _ - .");
        return Err(Invalid::new("params.profile", why));
    }
    Ok(key)
}

impl TryFrom<pb::StartParams> for StartParams {
    type Error = Invalid;

    fn try_from(params: pb::StartParams) -> Result<Self, Invalid> {
        let geometry = params
            .geometry
            .map(|g| Geometry::new(g.width, g.height))
            .transpose()
            .map_err(|error| Invalid::new("params.geometry", error.to_string()))?;
        let client = params.client.into_iter().collect();
        check_client_params(&client)
            .map_err(|error| Invalid::new("params.client", error.to_string()))?;
        Ok(Self {
            geometry,
            start_command: bounded("params.start_command", params.start_command)?.into(),
            language: bounded("params.language", params.language)?.into(),
            client_name: bounded("params.client_name", params.client_name)?.into(),
            unvoted: params.unvoted,
            client,
            profile: profile(params.profile)?.into(),
        })
    }
}

impl From<&StartParams> for pb::StartParams {
    fn from(params: &StartParams) -> Self {
        Self {
            geometry: params
                .geometry
                .map(|g| pb::Geometry { width: g.width().into(), height: g.height().into() }),
            start_command: params.start_command.clone().into(),
            language: params.language.clone().into(),
            client_name: params.client_name.clone().into(),
            unvoted: params.unvoted,
            client: params.client.clone().into_iter().collect(),
            profile: params.profile.clone().into(),
        }
    }
}

impl TryFrom<pb::Session> for Session {
    type Error = Invalid;

    fn try_from(session: pb::Session) -> Result<Self, Invalid> {
        let display = session.display;
        let state = match pb::SessionState::try_from(session.state) {
            Ok(pb::SessionState::Starting) => State::Starting,
            Ok(pb::SessionState::Running) => State::Running { display },
            Ok(pb::SessionState::Ending) => State::Ending { display },
            Ok(pb::SessionState::Unspecified) | Err(_) => {
                return Err(Invalid::new(
                    "state",
                    format!("{} is not a known state", session.state),
                ));
            }
        };
        Ok(Self {
            id: text("id", &session.id)?,
            user: text("user", &session.user)?,
            agent: text("agent", &session.agent)?,
            state,
            request: text("request_id", &session.request_id)?,
            params: session.params.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            created: UnixMillis(session.created_unix_ms),
        })
    }
}

impl From<&Session> for pb::Session {
    fn from(session: &Session) -> Self {
        let state = match session.state {
            State::Starting => pb::SessionState::Starting,
            State::Running { .. } => pb::SessionState::Running,
            State::Ending { .. } => pb::SessionState::Ending,
        };
        Self {
            id: session.id.to_string(),
            user: session.user.to_string(),
            agent: session.agent.to_string(),
            display: session.state.display().unwrap_or(0),
            state: state.into(),
            request_id: session.request.to_string(),
            params: Some((&session.params).into()),
            created_unix_ms: session.created.0,
        }
    }
}

impl From<pb::Viewer> for Viewer {
    fn from(viewer: pb::Viewer) -> Self {
        Self { address: printable(&viewer.address), since: UnixMillis(viewer.since_unix_ms) }
    }
}

impl From<&Viewer> for pb::Viewer {
    fn from(viewer: &Viewer) -> Self {
        Self { address: viewer.address.clone(), since_unix_ms: viewer.since.0 }
    }
}

impl TryFrom<pb::Ended> for Ended {
    type Error = Invalid;

    fn try_from(ended: pb::Ended) -> Result<Self, Invalid> {
        let reason = match pb::EndReason::try_from(ended.reason) {
            Ok(pb::EndReason::Logout) => EndReason::Logout,
            Ok(pb::EndReason::Terminated) => EndReason::Terminated,
            Ok(pb::EndReason::XServer) => EndReason::XServer,
            Ok(pb::EndReason::ScriptFailed) => EndReason::ScriptFailed,
            Ok(pb::EndReason::HostReboot) => EndReason::HostReboot,
            Ok(pb::EndReason::Limit) => EndReason::Limit,
            Ok(pb::EndReason::OutOfMemory) => EndReason::OutOfMemory,
            Ok(pb::EndReason::Killed) => EndReason::Killed,
            // A reason that a newer agent knows: the session is gone all the same, and the detail tells.
            Ok(pb::EndReason::Lost | pb::EndReason::Unspecified) | Err(_) => EndReason::Lost,
        };
        let id = text("id", &ended.id)?;
        Ok(Self { id, reason, detail: printable(&ended.detail), at: UnixMillis(ended.at_unix_ms) })
    }
}

impl From<&Ended> for pb::Ended {
    fn from(ended: &Ended) -> Self {
        let reason = match ended.reason {
            EndReason::Logout => pb::EndReason::Logout,
            EndReason::Terminated => pb::EndReason::Terminated,
            EndReason::XServer => pb::EndReason::XServer,
            EndReason::ScriptFailed => pb::EndReason::ScriptFailed,
            EndReason::HostReboot => pb::EndReason::HostReboot,
            EndReason::Lost => pb::EndReason::Lost,
            EndReason::Limit => pb::EndReason::Limit,
            EndReason::OutOfMemory => pb::EndReason::OutOfMemory,
            EndReason::Killed => pb::EndReason::Killed,
        };
        let (id, detail) = (ended.id.to_string(), ended.detail.clone());
        Self { id, reason: reason.into(), detail, at_unix_ms: ended.at.0 }
    }
}

impl From<crate::agent::v1::Resources> for Resources {
    fn from(resources: crate::agent::v1::Resources) -> Self {
        let crate::agent::v1::Resources { memory_max_mib, cpu_max_percent, pids_max } = resources;
        Self { memory_max_mib, cpu_max_percent, pids_max }
    }
}

impl From<Resources> for crate::agent::v1::Resources {
    fn from(resources: Resources) -> Self {
        let Resources { memory_max_mib, cpu_max_percent, pids_max } = resources;
        Self { memory_max_mib, cpu_max_percent, pids_max }
    }
}

impl TryFrom<pb::Epoch> for Epoch {
    type Error = Invalid;

    fn try_from(epoch: pb::Epoch) -> Result<Self, Invalid> {
        let node = text("epoch.node", &epoch.node)?;
        Ok(Self { counter: epoch.counter, node, nonce: epoch.nonce })
    }
}

impl From<&Epoch> for pb::Epoch {
    fn from(epoch: &Epoch) -> Self {
        Self { counter: epoch.counter, node: epoch.node.to_string(), nonce: epoch.nonce }
    }
}

impl TryFrom<pb::Fence> for Fence {
    type Error = Invalid;

    fn try_from(fence: pb::Fence) -> Result<Self, Invalid> {
        Ok(Self {
            epoch: required("fence.epoch", fence.epoch)?.try_into()?,
            incarnation: Incarnation(fence.incarnation),
            lineage: text("fence.lineage", &fence.lineage)?,
        })
    }
}

impl From<&Fence> for pb::Fence {
    fn from(fence: &Fence) -> Self {
        Self {
            epoch: Some((&fence.epoch).into()),
            incarnation: fence.incarnation.0,
            lineage: fence.lineage.to_string(),
        }
    }
}

impl TryFrom<log::Change> for Change {
    type Error = Invalid;

    fn try_from(change: log::Change) -> Result<Self, Invalid> {
        use log::change::Kind;
        Ok(match required("change.kind", change.kind)? {
            Kind::Reserved(session) => Self::Reserved(Session::try_from(session)?.into()),
            Kind::Adopted(session) => Self::Adopted(Session::try_from(session)?.into()),
            Kind::Running(running) => {
                Self::Running { id: text("running.id", &running.id)?, display: running.display }
            }
            Kind::Tombstone(stone) => Self::Tombstone {
                id: text("tombstone.id", &stone.id)?,
                agent: text("tombstone.agent", &stone.agent)?,
                at: UnixMillis(stone.at_unix_ms),
            },
            Kind::TombstoneDone(done) => {
                Self::TombstoneDone { id: text("tombstone_done.id", &done.id)? }
            }
            Kind::Ending(ending) => Self::Ending { id: text("ending.id", &ending.id)? },
            Kind::Gone(gone) => Self::Gone { id: text("gone.id", &gone.id)? },
            Kind::Began(log::Began { pair }) => Self::Began { pair },
            Kind::Roster(roster) => {
                let witnesses =
                    roster.witnesses.iter().map(|agent| text("roster.witnesses", agent));
                Self::Roster(witnesses.collect::<Result<_, _>>()?)
            }
            Kind::AgentFailed(failed) => Self::AgentFailed {
                agent: text("agent_failed.agent", &failed.agent)?,
                at: UnixMillis(failed.at_unix_ms),
            },
            Kind::Drained(drained) => {
                let (agent, mark) = drained.try_into()?;
                Self::Drained { agent, mark }
            }
            Kind::Noted(event) => Self::Noted(Event::try_from(event)?.into()),
            Kind::Identity(identity) => {
                let (name, known) = identity.try_into()?;
                Self::Identity { name, known }
            }
            Kind::WebKeys(keys) => {
                let (user, keys) = keys.try_into()?;
                Self::WebKeys { user, keys }
            }
        })
    }
}

impl From<&Change> for log::Change {
    fn from(change: &Change) -> Self {
        use log::change::Kind;
        let kind = match change {
            Change::Reserved(session) => Kind::Reserved(session.as_ref().into()),
            Change::Adopted(session) => Kind::Adopted(session.as_ref().into()),
            Change::Running { id, display } => {
                Kind::Running(log::Running { id: id.to_string(), display: *display })
            }
            Change::Tombstone { id, agent, at } => Kind::Tombstone(log::Tombstone {
                id: id.to_string(),
                agent: agent.to_string(),
                at_unix_ms: at.0,
            }),
            Change::TombstoneDone { id } => {
                Kind::TombstoneDone(log::TombstoneDone { id: id.to_string() })
            }
            Change::Ending { id } => Kind::Ending(log::Ending { id: id.to_string() }),
            Change::Gone { id } => Kind::Gone(log::Gone { id: id.to_string() }),
            Change::Began { pair } => Kind::Began(log::Began { pair: *pair }),
            Change::Roster(witnesses) => Kind::Roster(log::Roster {
                witnesses: witnesses.iter().map(ToString::to_string).collect(),
            }),
            Change::AgentFailed { agent, at } => {
                Kind::AgentFailed(log::AgentFailed { agent: agent.to_string(), at_unix_ms: at.0 })
            }
            Change::Drained { agent, mark } => Kind::Drained((agent, mark.as_deref()).into()),
            Change::Noted(event) => Kind::Noted(event.as_ref().into()),
            Change::Identity { name, known } => Kind::Identity((name, known.as_ref()).into()),
            Change::WebKeys { user, keys } => Kind::WebKeys((user, keys.as_ref()).into()),
        };
        Self { kind: Some(kind) }
    }
}
