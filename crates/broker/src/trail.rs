//! Recording events in the table's trail. Nobody waits for it: what an event tells of is done, or is in the table,
//! already. Where it cannot be recorded, as on a node without votes, the log has it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, Receiver, Sender, error::TrySendError},
    task::JoinSet,
};
use tonic::Request;
use vsm_core::{AgentName, Event, Proposal, Session, UserName};
use vsm_daemon::clock;
use vsm_proto::admin::v1::{RecordEventRequest, admin_client::AdminClient};
use vsm_sync::ProposeError;

use crate::{broker::Broker, ha::Ha, locks::locked};

/// Events that wait to be recorded; more are told to the log alone. A storm of logins makes two for each session.
const QUEUE_BOUND: usize = 4096;
/// Events that share a flush of the table.
const TOGETHER: usize = 64;
/// Longest detail, in bytes: the trail's memory is bounded by it.
const DETAIL_MAX: usize = 512;
/// How long the other node may take to record an event.
const PEER_CALL: Duration = Duration::from_secs(5);

/// The actor of what the broker does by itself.
pub(crate) const SELF: &str = "vsmserver";

/// Where events wait to be recorded.
#[derive(Debug)]
pub(crate) struct Trail {
    queue: Sender<Event>,
    /// The other end, until [`record`] takes it.
    events: Mutex<Option<Receiver<Event>>>,
}

impl Default for Trail {
    fn default() -> Self {
        let (queue, events) = mpsc::channel(QUEUE_BOUND);
        Self { queue, events: Mutex::new(Some(events)) }
    }
}

impl Trail {
    pub(crate) fn note(&self, note: Note) {
        match self.queue.try_send(note.0) {
            Ok(()) => {}
            Err(TrySendError::Full(event)) => log(&event, "too many events at once"),
            Err(TrySendError::Closed(event)) => log(&event, "the broker is stopping"),
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
pub(crate) async fn record(broker: Arc<Broker>) {
    let events = locked(&broker.trail.events).take();
    let Some(mut events) = events else { return };
    let mut batch = Vec::with_capacity(TOGETHER);
    loop {
        tokio::select! {
            biased;
            () = broker.stop.cancelled() => return,
            count = events.recv_many(&mut batch, TOGETHER) => if count == 0 { return },
        }
        let mut under_way = JoinSet::new();
        for event in batch.drain(..) {
            let broker = Arc::clone(&broker);
            under_way.spawn(async move {
                if let Err(why) = one(&broker, event.clone()).await {
                    log(&event, &why);
                }
            });
        }
        under_way.join_all().await;
    }
}

/// Records an event here, or on the node that is active.
async fn one(broker: &Broker, event: Event) -> Result<(), String> {
    match (broker.table.propose(Proposal::Note(event.clone())).await, &broker.ha) {
        (Ok(_), _) => Ok(()),
        (Err(ProposeError::NotActive), Ha::On(pair)) => {
            let mut peer = AdminClient::new(pair.channel.clone());
            let mut request = Request::new(RecordEventRequest { event: Some((&event).into()) });
            request.set_timeout(PEER_CALL);
            let told = tokio::time::timeout(PEER_CALL, peer.record_event(request)).await;
            let told = told.map_err(|_| "the other node does not answer".to_owned())?;
            told.map(|_| ()).map_err(|status| status.message().to_owned())
        }
        (Err(error), _) => Err(error.to_string()),
    }
}

fn log(event: &Event, why: &str) {
    let Event { actor, action, detail, .. } = event;
    let (session, user, agent) = (&event.session, &event.user, &event.agent);
    tracing::info!(actor, action, ?session, ?user, ?agent, detail, why, "not in the trail");
}
