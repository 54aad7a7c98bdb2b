//! The trail of events, as it is read and followed.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;
use vsm_core::{AgentName, Event, SessionId};
use vsm_proto::{admin::v1 as pb, convert};

use crate::api::Edge;

/// Events in one message.
const PAGE: usize = 256;
/// Messages that wait for a reader; it is told more when it has read them.
const QUEUE_BOUND: usize = 4;

/// What goes to the reader.
pub(super) type Messages = mpsc::Receiver<Result<pb::ListEventsResponse, Status>>;

/// Which events.
struct Wanted {
    session: Option<SessionId>,
    user: Option<String>,
    agent: Option<AgentName>,
}

impl Wanted {
    fn parse(request: &pb::ListEventsRequest) -> Result<Self, Status> {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let session = some(&request.session).map(|id| convert::text("session", &id)).transpose()?;
        let agent = some(&request.agent).map(|name| convert::text("agent", &name)).transpose()?;
        Ok(Self { session, user: some(&request.user), agent })
    }

    fn matches(&self, event: &Event) -> bool {
        let by_or_of = |user: &String| {
            event.actor == *user || event.user.as_ref().is_some_and(|u| u.as_str() == user)
        };
        self.session.is_none_or(|id| event.session == Some(id))
            && self.user.as_ref().is_none_or(by_or_of)
            && self.agent.as_ref().is_none_or(|agent| event.agent.as_ref() == Some(agent))
    }
}

/// Begins to read; it ends with what is there, or, followed, when the receiver is dropped or the broker stops.
pub(super) fn begin(
    edge: Arc<Edge>,
    request: &pb::ListEventsRequest,
    place: OwnedSemaphorePermit,
) -> Result<Messages, Status> {
    let wanted = Wanted::parse(request)?;
    let (mut after, last, follow) = (request.after, request.last, request.follow);
    let (messages, receiver) = mpsc::channel(QUEUE_BOUND);
    tokio::spawn(async move {
        let _place = place;
        let mut table = edge.table.watch();
        let mut first = true;
        loop {
            table.borrow_and_update();
            let (mut events, newest) = edge.table.read(|view| {
                let new: Vec<Arc<Event>> = view.table.events_after(after).cloned().collect();
                let newest = new.last().map_or(after, |event| event.number);
                let fitting = new.into_iter().filter(|event| wanted.matches(event));
                (fitting.collect::<Vec<_>>(), newest)
            });
            if std::mem::take(&mut first) && last != 0 {
                events.drain(..events.len().saturating_sub(usize::try_from(last).unwrap_or(0)));
            }
            after = newest;
            for page in events.chunks(PAGE) {
                let events = page.iter().map(|event| event.as_ref().into()).collect();
                if messages.send(Ok(pb::ListEventsResponse { events })).await.is_err() {
                    return;
                }
            }
            if !follow {
                return;
            }
            tokio::select! {
                () = messages.closed() => return,
                () = edge.process.stop.cancelled() => return,
                changed = table.changed() => if changed.is_err() { return },
            }
        }
    });
    Ok(receiver)
}
