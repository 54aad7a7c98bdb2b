//! What an observer is told: the committed table of this node, whole at first and then what changes in it.
//!
//! An observer is never waited for. Each has a copy of what it was sent, made of shared records; when the table has
//! moved on it is compared with that, so that a slow observer misses states in between and nothing piles up.

mod copy;

use std::{pin::Pin, sync::Arc, time::Duration};

use prost::Message;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use vsm_core::{NodeName, Row, replica::Standing};
use vsm_daemon::{clock, tls};
use vsm_proto::{
    replica::epoch_message,
    sync::v1::{
        self as pb, FollowRequest, FollowResponse, follow_response::Kind, observe_server::Observe,
    },
};

use self::copy::Copy;
use crate::{SessionTable, State};

/// Most rows in a message.
pub const ROWS_MAX: usize = 512;
/// Most bytes of rows in a message; a row alone is far below it.
pub const PAGE_MAX: usize = 256 << 10;
/// Observers at a time: each has a copy of the table's index.
const OBSERVERS_MAX: usize = 8;
/// Messages that wait for an observer.
const OUT_BOUND: usize = 4;
/// Between two comparisons of the table at least.
const PACE: Duration = Duration::from_millis(50);
/// And at least so many times as long as the last one took, so that they take a small share of the time.
const PACE_SHARE: u32 = 20;
const HEARTBEAT: Duration = Duration::from_secs(1);
/// An observer that takes nothing for so long is dropped.
const SEND_MAX: Duration = Duration::from_secs(30);

/// What the service is told once.
pub struct ObserveConfig {
    /// This node.
    pub node: NodeName,
    /// HA is off.
    pub standalone: bool,
    /// Software version, for people.
    pub version: String,
}

impl std::fmt::Debug for ObserveConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObserveConfig({})", self.node)
    }
}

/// The service.
#[derive(Debug, Clone)]
pub struct ObserveApi {
    config: Arc<ObserveConfig>,
    table: SessionTable,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl ObserveApi {
    /// Makes it.
    #[must_use]
    pub fn new(config: ObserveConfig, table: SessionTable, stop: CancellationToken) -> Self {
        let places = Arc::new(Semaphore::new(OBSERVERS_MAX));
        Self { config: Arc::new(config), table, places, stop }
    }
}

#[tonic::async_trait]
impl Observe for ObserveApi {
    type FollowStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<FollowResponse, Status>> + Send>>;

    async fn follow(
        &self,
        request: Request<FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let peer = tls::peer(request.extensions())?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{OBSERVERS_MAX} observers follow already"))
        })?;
        let (out, messages) = mpsc::channel(OUT_BOUND);
        let follower = Follower { api: self.clone(), out, _place: place };
        let standing_only = request.get_ref().standing_only;
        tracing::info!(observer = peer.name, "an observer follows");
        tokio::spawn(async move {
            follower.run(standing_only).await;
            tracing::info!(observer = peer.name, "an observer has left");
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

/// It left, or takes nothing.
struct Left;

struct Follower {
    api: ObserveApi,
    out: mpsc::Sender<Result<FollowResponse, Status>>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    async fn run(&self, standing_only: bool) {
        tokio::select! {
            biased;
            () = self.api.stop.cancelled() => {}
            () = self.out.closed() => {}
            Left = self.follow(standing_only) => {}
        }
    }

    async fn follow(&self, standing_only: bool) -> Left {
        match self.tell(standing_only).await {
            Ok(never) => match never {},
            Err(left) => left,
        }
    }

    async fn tell(&self, standing_only: bool) -> Result<std::convert::Infallible, Left> {
        let mut state = self.api.table.watch();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once: the standing is the first message.
        heartbeat.tick().await;
        let mut told = self.standing(&mut state).await?;
        let mut sent = if standing_only { None } else { Some(self.whole().await?) };
        loop {
            tokio::select! {
                biased;
                _ = heartbeat.tick() => told = self.standing(&mut state).await?,
                changed = state.changed() => {
                    // The table's owner has ended.
                    changed.map_err(|_| Left)?;
                    let began = Instant::now();
                    if role(&self.api.config, &state.borrow_and_update().replica.standing) != told {
                        told = self.standing(&mut state).await?;
                    }
                    if let Some(sent) = &mut sent {
                        self.changes(sent).await?;
                    }
                    sleep(PACE.max(began.elapsed() * PACE_SHARE).min(HEARTBEAT)).await;
                }
            }
        }
    }

    async fn say(&self, kind: Kind) -> Result<(), Left> {
        let message = Ok(FollowResponse { kind: Some(kind) });
        self.out.send_timeout(message, SEND_MAX).await.map_err(|_| Left)
    }

    /// Tells how the node is; its role.
    async fn standing(
        &self,
        state: &mut watch::Receiver<Arc<State>>,
    ) -> Result<&'static str, Left> {
        let state = Arc::clone(&state.borrow());
        let lineage = self.api.table.read(|view| view.lineage);
        let standing = standing(&self.api.config, &state, lineage.to_string());
        let role = role(&self.api.config, &state.replica.standing);
        self.say(Kind::Standing(standing)).await?;
        Ok(role)
    }

    async fn whole(&self) -> Result<Copy, Left> {
        let copy = self.api.table.read(Copy::of);
        let mut first = true;
        for rows in pages(copy.rows()) {
            self.say(Kind::Page(pb::Page { first, rows })).await?;
            first = false;
        }
        self.say(Kind::Complete(pb::Complete { commit: copy.commit })).await?;
        Ok(copy)
    }

    async fn changes(&self, sent: &mut Copy) -> Result<(), Left> {
        if self.api.table.read(|view| (view.last_seq, view.lineage)) == (sent.commit, sent.lineage)
        {
            return Ok(());
        }
        let now = self.api.table.read(Copy::of);
        let Some(rows) = now.since(sent) else {
            *sent = self.whole().await?;
            return Ok(());
        };
        self.update(now.commit, rows).await?;
        *sent = now;
        Ok(())
    }

    async fn update(&self, commit: u64, rows: Vec<Row>) -> Result<(), Left> {
        let mut pages = pages(rows.into_iter()).peekable();
        // A change that leaves every row as it was still moves the number on.
        if pages.peek().is_none() {
            self.say(Kind::Update(pb::Update { commit, ..Default::default() })).await?;
        }
        while let Some(rows) = pages.next() {
            let more = pages.peek().is_some();
            self.say(Kind::Update(pb::Update { commit, rows, more })).await?;
        }
        Ok(())
    }
}

fn role(config: &ObserveConfig, standing: &Standing) -> &'static str {
    match standing {
        _ if config.standalone => "standalone",
        Standing::Active { .. } => "active",
        Standing::Standby { .. } => "standby",
        Standing::Claiming(_) => "claiming",
    }
}

fn standing(config: &ObserveConfig, state: &State, lineage: String) -> pb::Standing {
    let replica = &state.replica;
    let epoch = match &replica.standing {
        Standing::Active { epoch, .. } => Some(epoch),
        Standing::Standby { leader } => leader.as_ref(),
        Standing::Claiming(_) => None,
    };
    pb::Standing {
        node: config.node.to_string(),
        role: role(config, &replica.standing).to_owned(),
        ready: state.serving().is_some(),
        epoch: epoch.and_then(epoch_message),
        last: Some((&replica.last).into()),
        commit: replica.commit,
        behind: replica.behind,
        lineage,
        version: config.version.clone(),
        at_unix_ms: clock::unix_millis().0,
    }
}

/// Rows in messages of bounded size; at least one message where there is a row.
fn pages(rows: impl Iterator<Item = Row>) -> impl Iterator<Item = Vec<pb::Row>> {
    let mut rows = rows.map(|row| pb::Row::from(&row)).peekable();
    std::iter::from_fn(move || {
        let mut page = Vec::new();
        let mut bytes = 0;
        while page.len() < ROWS_MAX {
            let Some(row) =
                rows.next_if(|row| page.is_empty() || bytes + row.encoded_len() <= PAGE_MAX)
            else {
                break;
            };
            bytes += row.encoded_len();
            page.push(row);
        }
        (!page.is_empty()).then_some(page)
    })
}

#[cfg(test)]
mod tests {
    use vsm_core::UnixMillis;

    use super::*;

    #[test]
    fn pages_are_bounded_in_rows_and_bytes_and_lose_nothing() {
        let agent = |n: usize| Row::Agent {
            agent: format!("agent{n}").parse().unwrap(),
            failed: UnixMillis(1),
        };
        let sizes = |count| pages((0..count).map(agent)).map(|page| page.len()).collect::<Vec<_>>();
        assert_eq!(sizes(0), Vec::<usize>::new());
        assert_eq!(sizes(512), [512]);
        assert_eq!(sizes(1025), [512, 512, 1]);
        let long: Arc<[vsm_core::AgentName]> =
            (0..4000).map(|n| format!("agent-with-a-long-name-{n:08}").parse().unwrap()).collect();
        let large = pages((0..5).map(|_| Row::Roster(Arc::clone(&long)))).collect::<Vec<_>>();
        assert!(large.len() > 1 && large.iter().map(Vec::len).sum::<usize>() == 5);
        for page in &large {
            assert!(page.iter().map(Message::encoded_len).sum::<usize>() <= PAGE_MAX);
        }
    }
}
