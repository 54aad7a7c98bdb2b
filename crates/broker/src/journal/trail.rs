//! Recording events in the table's trail. Nobody waits for it: what an event tells of is done, or is in the table,
//! already. Where it cannot be recorded, as on a node without votes, the log has it.

mod shares;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::mpsc::{self, Receiver, Sender, error::TrySendError},
    task::JoinSet,
};
use vsm_core::{AgentName, Event, Proposal, Session, UserName};
use vsm_daemon::clock;
use vsm_sync::ProposeError;

use self::shares::Shares;
use super::Journal;

/// Events that wait to be recorded; more are told to the log alone. A storm of logins makes two for each session.
const QUEUE_BOUND: usize = 4096;
/// Events that share a flush of the table.
const TOGETHER: usize = 64;
/// Longest detail, in bytes: the trail's memory is bounded by it.
const DETAIL_MAX: usize = 512;

/// How often it is looked whether the trail has to say that it does not have all.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The actor of what the broker does by itself.
pub(crate) const SELF: &str = "vsmserver";

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
    /// What is left of shares of the ring.
    shares: Mutex<Shares>,
    /// Events that only the log has, and of which the trail does not say so yet.
    lost: AtomicU64,
    /// The other end, until [`record`] takes it.
    events: Mutex<Option<Receiver<Event>>>,
}

impl Default for Trail {
    fn default() -> Self {
        let (queue, events) = mpsc::channel(QUEUE_BOUND);
        Self {
            queue,
            shares: Mutex::default(),
            lost: AtomicU64::new(0),
            events: Mutex::new(Some(events)),
        }
    }
}

impl Trail {
    pub(crate) fn note(&self, mut note: Note) {
        if !self.shares.lock().has_room(&mut note.0, clock::now()) {
            tracing::debug!(
                actor = note.0.actor,
                action = note.0.action,
                "not in the trail: too many of these"
            );
            return;
        }
        match self.queue.try_send(note.0) {
            Ok(()) => {}
            Err(TrySendError::Full(event)) => self.log(&event, &NotRecorded::TooMany),
            Err(TrySendError::Closed(event)) => self.log(&event, &NotRecorded::Stopping),
        }
    }

    fn log(&self, event: &Event, why: &NotRecorded) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        let Event { actor, action, detail, .. } = event;
        let (session, user, agent) = (&event.session, &event.user, &event.agent);
        tracing::info!(actor, action, ?session, ?user, ?agent, detail, %why, "not in the trail");
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
            chain: None,
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
pub async fn record(journal: Arc<Journal>) {
    let events = journal.trail.events.lock().take();
    let Some(mut events) = events else { return };
    let mut batch = Vec::with_capacity(TOGETHER);
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            biased;
            () = journal.process.stop.cancelled() => {
                events.close();
                while let Ok(event) = events.try_recv() {
                    journal.trail.log(&event, &NotRecorded::Stopping);
                }
                return;
            }
            _ = look.tick() => say_what_is_missing(&journal).await,
            count = events.recv_many(&mut batch, TOGETHER) => if count == 0 { return },
        }
        let mut under_way = JoinSet::new();
        for event in batch.drain(..) {
            let journal = Arc::clone(&journal);
            under_way.spawn(async move {
                if let Err(why) = one(&journal, event.clone()).await {
                    journal.trail.log(&event, &why);
                }
            });
        }
        under_way.join_all().await;
    }
}

/// Has the trail say what it does not have: what was left out of shares, and what only the log has.
async fn say_what_is_missing(journal: &Journal) {
    let left_out = journal.trail.shares.lock().end(clock::now());
    if !left_out.is_empty() {
        let count: u64 = left_out.iter().map(|(count, _)| count).sum();
        let all: Vec<String> = left_out.iter().map(|(n, what)| format!("{n} {what}")).collect();
        let detail = format!("{count} in 10 minutes, beyond what one may fill: {}", all.join(", "));
        journal.trail.note(Note::new(SELF, "events-left-out").detail(detail));
    }
    let lost = journal.trail.lost.load(Ordering::Relaxed);
    if lost > 0 {
        let node = &journal.process.node;
        let detail = format!(
            "{lost} could not be recorded, or it is not known whether; the log of {node} has them"
        );
        let event = Note::new(SELF, "events-lost").detail(detail).0;
        // Where this one cannot be recorded either, the next look tries.
        if one(journal, event).await.is_ok() {
            journal.trail.lost.fetch_sub(lost, Ordering::Relaxed);
        }
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
