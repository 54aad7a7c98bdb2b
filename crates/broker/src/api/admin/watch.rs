//! Sessions as they come, change and go, for somebody who watches.
//!
//! What a watcher was told is compared with what is now, whenever something has changed, so that whatever brought the
//! change about, the table or an agent, is seen the same way. The pause between two looks is a multiple of what a look
//! costs: a watcher of a table of any size takes a small share of one core.

use std::{collections::HashMap, sync::Arc, time::Duration};

use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;
use vsm_core::SessionId;
use vsm_daemon::clock;
use vsm_proto::{admin::v1 as pb, broker::v1::SessionView};

use super::select::{PAGE, Selector};
use crate::{
    api::{Edge, view::Viewer},
    pair::card,
};

/// Shortest pause between two looks.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// A look may take one part of so many of a watcher's time.
const SHARE: u32 = 20;
/// Messages that wait for a watcher that reads slowly; the next look is taken when it has read them.
const QUEUE_BOUND: usize = 4;

/// What goes to the watcher.
pub(super) type Messages = mpsc::Receiver<Result<pb::WatchSessionsResponse, Status>>;

/// Begins to watch; it ends when the receiver is dropped or the broker stops.
pub(super) fn begin(edge: Arc<Edge>, selector: Selector, place: OwnedSemaphorePermit) -> Messages {
    let (messages, receiver) = mpsc::channel(QUEUE_BOUND);
    tokio::spawn(async move {
        let _place = place;
        let stop = edge.process.stop.clone();
        let watching = Watching { edge, selector, messages, told: HashMap::new() };
        stop.run_until_cancelled(watching.run()).await;
    });
    receiver
}

struct Watching {
    edge: Arc<Edge>,
    selector: Selector,
    messages: mpsc::Sender<Result<pb::WatchSessionsResponse, Status>>,
    /// A digest of each session as it was told.
    told: HashMap<SessionId, u64>,
}

impl Watching {
    async fn run(mut self) {
        let mut table = self.edge.table.watch();
        let mut agents = self.edge.agents.changes();
        loop {
            table.borrow_and_update();
            agents.borrow_and_update();
            let began = clock::now();
            let pages = self.look();
            let pause = PAUSE_MIN.max((clock::now() - began) * SHARE);
            for page in pages {
                if self.messages.send(Ok(page)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = self.messages.closed() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let changed = tokio::select! {
                () = self.messages.closed() => return,
                changed = table.changed() => changed,
                changed = agents.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// What is not as it was told; the last page says that this is all.
    fn look(&mut self) -> Vec<pb::WatchSessionsResponse> {
        let mut viewer = Viewer::new(&self.edge);
        let mut now = HashMap::with_capacity(self.told.len());
        let mut changed = Vec::new();
        for session in self.selector.records(&self.edge) {
            let Some(view) = self.selector.shown(&mut viewer, &session) else { continue };
            let digest = card::hash_bytes(&view.encode_to_vec());
            if self.told.get(&session.id) != Some(&digest) {
                changed.push(view);
            }
            now.insert(session.id, digest);
        }
        let gone = self.told.keys().filter(|id| !now.contains_key(id));
        let gone: Vec<String> = gone.map(ToString::to_string).collect();
        let first = self.told.is_empty();
        self.told = now;
        if changed.is_empty() && gone.is_empty() && !first {
            return Vec::new();
        }
        pages(changed, gone)
    }
}

fn pages(changed: Vec<SessionView>, gone: Vec<String>) -> Vec<pb::WatchSessionsResponse> {
    let mut pages =
        vec![pb::WatchSessionsResponse { gone, ..pb::WatchSessionsResponse::default() }];
    let mut changed = changed.into_iter().peekable();
    while changed.peek().is_some() {
        let changed = changed.by_ref().take(PAGE).collect();
        pages.push(pb::WatchSessionsResponse { changed, ..pb::WatchSessionsResponse::default() });
    }
    if let Some(last) = pages.last_mut() {
        last.caught_up = true;
    }
    pages
}
