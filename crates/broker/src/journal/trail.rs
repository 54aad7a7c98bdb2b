//! Recording events in the table's trail. Nobody waits for it: what an event tells of is done, or is in the table,
//! already. Where it cannot be recorded, as on a node without votes, the log has it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::mpsc::{self, Receiver, Sender, error::TrySendError},
    task::JoinSet,
};
use vsm_core::{AgentName, Event, Proposal, Session, UserName};
use vsm_daemon::clock;
use vsm_sync::ProposeError;

use super::Journal;

/// Events that wait to be recorded; more are told to the log alone. A storm of logins makes two for each session.
const QUEUE_BOUND: usize = 4096;
/// Events that share a flush of the table.
const TOGETHER: usize = 64;
/// Longest detail, in bytes: the trail's memory is bounded by it.
const DETAIL_MAX: usize = 512;

/// The actor of what the broker does by itself.
pub(crate) const SELF: &str = "vsmserver";

/// So long events that one can make as many of as they like are counted.
const WINDOW: Duration = Duration::from_secs(600);
/// Refusals of one kind, of one user, that are recorded within it.
const REFUSED_MAX: u64 = 4;
/// Sessions of one agent whose adoption is recorded within it: more came at once, and the first ones tell.
const ADOPTED_MAX: u64 = 64;
/// Other events that concern one user: more than a person makes, and a small part of the ring.
const OF_USER_MAX: u64 = 256;
/// Kinds of events that are counted at a time; beyond it all counts begin anew.
const COUNTED_MAX: usize = 4096;

/// The trail of another node, which records what this one may not.
#[tonic::async_trait]
pub trait Elsewhere: std::fmt::Debug + Send + Sync {
    /// Records an event there.
    ///
    /// # Errors
    /// If it does not answer, or says why not.
    async fn record(&self, event: &Event) -> Result<(), NotRecorded>;
}

/// Why an event is not in the trail.
#[derive(Debug, thiserror::Error)]
pub enum NotRecorded {
    /// The queue is full.
    #[error("too many events at once")]
    TooMany,
    /// This broker ends.
    #[error("the broker is stopping")]
    Stopping,
    /// The table did not take it.
    #[error(transparent)]
    Table(#[from] ProposeError),
    /// The other node was asked, and does not answer.
    #[error("the other node does not answer")]
    NoAnswer,
    /// The other node was asked, and said why not.
    #[error("{0}")]
    There(String),
}

/// Where events wait to be recorded.
#[derive(Debug)]
pub(crate) struct Trail {
    queue: Sender<Event>,
    /// What is left of shares of the ring, by whose and of what.
    shares: Mutex<HashMap<(String, &'static str), Counted>>,
    /// The other end, until [`record`] takes it.
    events: Mutex<Option<Receiver<Event>>>,
}

impl Default for Trail {
    fn default() -> Self {
        let (queue, events) = mpsc::channel(QUEUE_BOUND);
        Self { queue, shares: Mutex::default(), events: Mutex::new(Some(events)) }
    }
}

/// Events of one kind within a window.
#[derive(Debug)]
struct Counted {
    since: Instant,
    recorded: u64,
    left_out: u64,
}

/// Whose share of the ring an event takes, of what, and how large that is; none = it is nobody's who could fill the
/// ring.
fn share_of(event: &Event) -> Option<((String, &'static str), u64)> {
    let action = event.action.as_str();
    let of = |whose: String, what| Some((whose, what));
    let (key, max) = if action.ends_with("-refused") && event.actor != SELF {
        (of(format!("{} {action}", event.actor), "refused"), REFUSED_MAX)
    } else if action == "session-adopted" {
        (event.agent.as_ref().and_then(|agent| of(agent.to_string(), "adopted")), ADOPTED_MAX)
    } else {
        (event.user.as_ref().and_then(|user| of(user.to_string(), "user")), OF_USER_MAX)
    };
    key.map(|key| (key, max))
}

impl Trail {
    /// Whether there is room for an event in its share; tells in it how many were left out before.
    fn is_within_share(&self, event: &mut Event, now: Instant) -> bool {
        let Some((key, max)) = share_of(event) else { return true };
        let mut shares = self.shares.lock();
        if shares.len() >= COUNTED_MAX {
            shares.clear();
        }
        let fresh = || Counted { since: now, recorded: 0, left_out: 0 };
        let counted = shares.entry(key).or_insert_with(fresh);
        let left_out = counted.left_out;
        if now.saturating_duration_since(counted.since) > WINDOW {
            *counted = fresh();
            if left_out > 0 {
                event.detail.push_str(&format!(" (and {left_out} more before, not recorded)"));
            }
        }
        if counted.recorded >= max {
            counted.left_out += 1;
            return false;
        }
        counted.recorded += 1;
        if counted.recorded == max {
            event.detail.push_str(" (more of these are not recorded for 10 minutes)");
        }
        true
    }

    pub(crate) fn note(&self, mut note: Note) {
        if !self.is_within_share(&mut note.0, clock::now()) {
            // The journal has its own bound of lines.
            tracing::debug!(
                actor = note.0.actor,
                action = note.0.action,
                "not in the trail: too many of these"
            );
            return;
        }
        match self.queue.try_send(note.0) {
            Ok(()) => {}
            Err(TrySendError::Full(event)) => log(&event, &NotRecorded::TooMany),
            Err(TrySendError::Closed(event)) => log(&event, &NotRecorded::Stopping),
        }
    }
}

/// An event that is being put together.
#[derive(Debug)]
pub(crate) struct Note(Event);

impl Note {
    /// `actor` did `action`, now.
    pub(crate) fn new(actor: impl Into<String>, action: &'static str) -> Self {
        Self(Event {
            number: 0,
            at: clock::unix_millis(),
            actor: actor.into(),
            action: action.to_owned(),
            session: None,
            user: None,
            agent: None,
            detail: String::new(),
        })
    }

    /// The event as it is so far.
    pub(crate) const fn event(&self) -> &Event {
        &self.0
    }

    /// It concerns a session, its user and its agent.
    pub(crate) fn session(mut self, session: &Session) -> Self {
        self.0.session = Some(session.id);
        self.user(&session.user).agent(&session.agent)
    }

    /// It concerns a user.
    pub(crate) fn user(mut self, user: &UserName) -> Self {
        self.0.user = Some(user.clone());
        self
    }

    /// It concerns an agent.
    pub(crate) fn agent(mut self, agent: &AgentName) -> Self {
        self.0.agent = Some(agent.clone());
        self
    }

    /// Why, or the outcome: one line, cut where it is too long.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into().replace(char::is_control, " ");
        detail.truncate(detail.floor_char_boundary(DETAIL_MAX));
        self.0.detail = detail;
        self
    }
}

/// Records events until the broker stops.
pub(crate) async fn record(journal: Arc<Journal>) {
    let events = journal.trail.events.lock().take();
    let Some(mut events) = events else { return };
    let mut batch = Vec::with_capacity(TOGETHER);
    loop {
        tokio::select! {
            biased;
            () = journal.process.stop.cancelled() => return,
            count = events.recv_many(&mut batch, TOGETHER) => if count == 0 { return },
        }
        let mut under_way = JoinSet::new();
        for event in batch.drain(..) {
            let journal = Arc::clone(&journal);
            under_way.spawn(async move {
                if let Err(why) = one(&journal, event.clone()).await {
                    log(&event, &why);
                }
            });
        }
        under_way.join_all().await;
    }
}

/// Records an event here, or on the node that is active.
async fn one(journal: &Journal, event: Event) -> Result<(), NotRecorded> {
    let table = &journal.authority.table;
    match (table.propose(Proposal::Note(event.clone())).await, &journal.other) {
        (Ok(_), _) => Ok(()),
        (Err(ProposeError::NotActive), Some(other)) => other.record(&event).await,
        (Err(error), _) => Err(error.into()),
    }
}

fn log(event: &Event, why: &NotRecorded) {
    let Event { actor, action, detail, .. } = event;
    let (session, user, agent) = (&event.session, &event.user, &event.agent);
    tracing::info!(actor, action, ?session, ?user, ?agent, detail, %why, "not in the trail");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who asks a thousand times in vain hides nothing that others did.
    #[test]
    fn one_who_is_refused_again_and_again_has_a_small_share_of_the_ring() {
        let (trail, now) = (Trail::default(), clock::now());
        let alice: UserName = "alice".parse().unwrap();
        let kept = |actor: &str, action, times: usize, now| {
            let one = |_| {
                let mut event = Note::new(actor, action).user(&alice).0;
                trail.is_within_share(&mut event, now).then_some(event.detail)
            };
            (0..times).filter_map(one).collect::<Vec<String>>()
        };
        let refused = kept("bob", "shadow-refused", 1000, now);
        assert_eq!(refused.len(), 4);
        assert!(refused[3].contains("not recorded"), "{refused:?}");
        assert_eq!(kept("carol", "shadow-refused", 1, now), [""], "another one has their own");
        assert_eq!(kept("bob", "end-refused", 9, now).len(), 4);
        assert_eq!(kept("alice", "session-disconnected", 9000, now).len(), 256);
        let later = kept("bob", "shadow-refused", 1, now + WINDOW + Duration::from_secs(1));
        assert!(later[0].contains("996 more"), "{later:?}");
        let drained = (0..9000).map(|_| Note::new("root", "agent-drained").0);
        assert!(drained.into_iter().all(|mut event| trail.is_within_share(&mut event, now)));
    }
}
