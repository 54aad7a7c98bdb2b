//! What the trace says: who did what, in a few words.

use vsm_core::{
    Change, SessionId,
    replica::{
        Entry, Failure, Holds, Image, PeerMsg, Standing, Supply, Window, WitnessMsg, WitnessReply,
    },
};

use crate::event::{Call, Reply};

/// The simulation counts its sessions.
fn short(id: SessionId) -> String {
    format!("s{}", id.uuid().as_u128())
}

fn holds(holds: &Holds) -> String {
    let blank = if holds.joined { "" } else { ", has no table" };
    format!("at {}{blank}", holds.last)
}

fn image(image: &Image) -> String {
    format!("{} rows at {}, then {}", image.rows.len(), image.at, entries(&image.entries))
}

fn entries(list: &[Entry]) -> String {
    let all: Vec<String> =
        list.iter().map(|entry| format!("{} {}", entry.lsn, change(&entry.change))).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

fn window(window: &Window) -> String {
    format!("{} rows from {} to {}", window.rows.len(), window.base, window.last)
}

/// A change.
pub(crate) fn change(change: &Change) -> String {
    match change {
        Change::Reserved(session) => {
            format!("reserves {} of {} on {}", short(session.id), session.user, session.agent)
        }
        Change::Running { id, .. } => format!("{} runs", short(*id)),
        Change::Tombstone { id, agent, .. } => format!("tombstone of {} on {agent}", short(*id)),
        Change::TombstoneDone { id } => format!("tombstone of {} done", short(*id)),
        Change::Ending { id } => format!("{} is to end", short(*id)),
        Change::Gone { id } => format!("{} is gone", short(*id)),
        Change::Adopted(session) => format!("adopts {} of {}", short(session.id), session.user),
        Change::AgentFailed { agent, .. } => format!("{agent} failed"),
        Change::Began { .. } => "began".to_owned(),
        Change::Roster(agents) => format!("{} witnesses", agents.len()),
        Change::Drained { agent, mark: Some(_) } => format!("{agent} is drained"),
        Change::Identity { name, .. } => format!("{name} is known otherwise"),
        Change::WebKeys { user, keys } => format!("{user} has {} web key(s)", keys.len()),
        Change::Drained { agent, mark: None } => format!("{agent} is not drained"),
        Change::Noted(event) => format!("event {}: {}", event.number, event.action),
    }
}

/// What a broker tells the other one.
pub(crate) fn peer(message: &PeerMsg) -> String {
    match message {
        PeerMsg::Hello(hello) => {
            let active =
                hello.active.as_ref().map_or(String::new(), |e| format!(", active in {e}"));
            format!("hello: {}, promised {}{active}", holds(&hello.holds), hello.promised)
        }
        PeerMsg::Claim { epoch, holds: at } => format!("claims {epoch}: {}", holds(at)),
        PeerMsg::Promise { epoch, holds: at, supply } => {
            let supply = match supply {
                Supply::Nothing => "nothing to add".to_owned(),
                Supply::Entries { prev, entries: list } => {
                    format!("after {prev}: {}", entries(list))
                }
                Supply::Image(all) => image(all),
            };
            format!("promises {epoch}: {}, {supply}", holds(at))
        }
        PeerMsg::Wish { planned: true } => "wants to take over".to_owned(),
        PeerMsg::Wish { planned: false } => "is wanted".to_owned(),
        PeerMsg::Yield { epoch } => format!("yields {epoch}"),
        PeerMsg::Append { epoch, prev, entries: list, commit, .. } if list.is_empty() => {
            format!("beats in {epoch}: after {prev}, committed {commit}")
        }
        PeerMsg::Append { epoch, prev, entries: list, commit, .. } => {
            format!("appends in {epoch} after {prev}: {}; committed {commit}", entries(list))
        }
        PeerMsg::Snapshot { epoch, image: all } => {
            format!("sends its table in {epoch}: {}", image(all))
        }
        PeerMsg::Ack { epoch, last, round } => {
            format!("has all up to {last} in {epoch}, round {round}")
        }
        PeerMsg::Behind { epoch, holds: at } => {
            format!("lacks something in {epoch}: {}", holds(at))
        }
        PeerMsg::Stale { promised } => format!("refuses: promised {promised}"),
    }
}

/// What a broker tells a witness.
pub(crate) fn to_witness(message: &WitnessMsg) -> String {
    match message {
        WitnessMsg::Probe { epoch } => format!("would {epoch} disturb anybody?"),
        WitnessMsg::Claim { epoch, .. } => format!("claims {epoch}"),
        WitnessMsg::Accept { epoch, prev: Some(prev), window: rows, .. } => {
            format!("keep in {epoch}, after {prev}: {}", window(rows))
        }
        WitnessMsg::Accept { epoch, prev: None, window: rows, .. } => {
            format!("keep in {epoch}: {}", window(rows))
        }
        WitnessMsg::Clear { epoch, at, loss: None, .. } => format!("forget up to {at} in {epoch}"),
        WitnessMsg::Clear { epoch, at, loss: Some(loss), .. } => {
            format!("forget up to {at} in {epoch}, which makes up for loss {loss}")
        }
    }
}

/// What a witness answers.
pub(crate) fn from_witness(reply: &WitnessReply) -> String {
    match reply {
        WitnessReply::Promised { epoch, window: rows } => {
            let keeps = rows.as_ref().map_or_else(|| "nothing".to_owned(), window);
            format!("promises {epoch}, keeps {keeps}")
        }
        WitnessReply::Accepted { epoch, last } => format!("keeps all up to {last} in {epoch}"),
        WitnessReply::Gap { epoch } => format!("lacks something in {epoch}"),
        WitnessReply::Cleared { epoch } => format!("has forgotten in {epoch}"),
        WitnessReply::Refused { promised } => format!("refuses: promised {promised}"),
        WitnessReply::Mute { loss } => format!("is mute: loss {loss}"),
        WitnessReply::Free { promised } => format!("nobody is disturbed, promised {promised}"),
        WitnessReply::Foreign { life } => format!("knows another life, {life}"),
        WitnessReply::Held { reign } => format!("{reign} is alive"),
    }
}

/// What a broker asks of an agent.
pub(crate) fn call(call: &Call) -> String {
    match call {
        Call::Start { epoch, session } => {
            format!("start {} of {} in {epoch}", short(session.id), session.user)
        }
        Call::Cancel { epoch, id } => format!("cancel {} in {epoch}", short(*id)),
        Call::Terminate { epoch, id } => format!("end {} in {epoch}", short(*id)),
        Call::Verify { id } => format!("is {} alive?", short(*id)),
    }
}

/// What an agent answers.
pub(crate) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Running(id, _) => format!("{} runs", short(*id)),
        Reply::Refused(id) => format!("refuses to start {}", short(*id)),
        Reply::Cancelled(id) => format!("{} is cancelled", short(*id)),
        Reply::Terminated(id) => format!("{} has ended", short(*id)),
        Reply::Alive(id) => format!("{} is alive", short(*id)),
        Reply::Gone(id) => format!("{} is gone", short(*id)),
        Reply::Fenced(epoch) => format!("refuses: promised {epoch}"),
    }
}

/// What came of a proposal.
pub(crate) fn answer(result: &Result<Change, Failure>) -> String {
    match result {
        Ok(done) => format!("committed: {}", change(done)),
        Err(failure) => format!("not committed: {failure}"),
    }
}

/// What a broker has become.
pub(crate) fn standing(standing: &Standing) -> String {
    match standing {
        Standing::Standby { leader: Some(epoch) } => format!("follows {epoch}"),
        Standing::Standby { leader: None } => "follows nobody".to_owned(),
        Standing::Claiming(epoch) => format!("claims {epoch}"),
        Standing::Active { epoch, ready, votes, synced } => {
            let not = |is: &bool| if *is { "" } else { "not " };
            let (ready, votes, synced) = (not(ready), not(votes), not(synced));
            format!("ACTIVE in {epoch}, {ready}ready, {votes}with votes, peer {synced}in sync")
        }
    }
}

/// What an agent's session is.
pub(crate) fn ends(id: SessionId, why: &str) -> String {
    format!("{} ends: {why}", short(id))
}

/// A session that a user is handed.
pub(crate) fn handed(id: SessionId) -> String {
    format!("is handed {}", short(id))
}

/// What an agent begins to run.
pub(crate) fn started(id: SessionId) -> String {
    format!("{} begins", short(id))
}

/// A session that a broker had made without votes.
pub(crate) fn unvoted(id: SessionId) -> String {
    format!("made {} without votes", short(id))
}
