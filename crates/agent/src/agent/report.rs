//! The report: inventory at once, then changes and load as they happen.

use std::{pin::Pin, sync::Arc};

use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use vsm_daemon::clock;
use vsm_proto::{
    agent::v1::{Inventory, Load, Maintenance, ReportResponse, Troubles, report_response::Item},
    session::v1::LiveSession,
};

use super::{
    Agent, Settings,
    fence::Promise,
    registry::{Change, Live},
};

/// Items on their way to a broker that is slow to read; behind them the registry's bound holds.
const ITEMS_BOUND: usize = 16;

/// Items of a report.
pub(super) type Items = Pin<Box<dyn Stream<Item = Result<ReportResponse, Status>> + Send>>;

/// A session as the broker is told of it.
pub(super) fn live(live: &Live) -> LiveSession {
    let (session, viewer) = (Some((&live.session).into()), live.viewer.as_ref().map(Into::into));
    let (last_client, shadowers) = (live.last_client.clone(), live.shadowers.clone());
    let standing = live.standing.as_deref().map(Into::into);
    LiveSession { session, viewer, last_client, shadowers, standing }
}

/// Opens a report for `broker`; it ends with `stop`, with its reader, or when it falls behind.
pub(super) async fn open(agent: Arc<Agent>, broker: String, stop: CancellationToken) -> Items {
    let promise = agent.fence.promise().await;
    let (sessions, mut changes) = agent.registry.report();
    let mut settings = agent.settings.subscribe();
    let told = Arc::clone(&settings.borrow_and_update());
    let mut maintenance = agent.maintenance.clone();
    let (troubles, mut trouble) = (agent.troubles.clone(), agent.troubles.changes());
    let in_maintenance = maintenance.borrow_and_update().as_deref().map(str::to_owned);
    let inventory = Inventory {
        sessions: sessions.iter().map(live).collect(),
        maintenance: in_maintenance,
        ..itself(&agent, &told, &promise)
    };
    let (sender, receiver) = mpsc::channel(ITEMS_BOUND);
    let mut load = agent.load.clone();
    let first_load = stamped(*load.borrow_and_update());
    tokio::spawn(async move {
        let mut next = Some(Item::Load(first_load));
        if sender.send(item(Item::Inventory(inventory))).await.is_err() {
            return;
        }
        loop {
            if let Some(ready) = next.take()
                && sender.send(item(ready)).await.is_err()
            {
                return;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sender.closed() => return,
                // What the inventory said of this agent is not so any more: the next report says it.
                Ok(()) = settings.changed() => {
                    if !settings.borrow_and_update().tells_as(&told) {
                        return;
                    }
                }
                change = changes.recv() => match change {
                    Ok(Change::Live(session)) => next = Some(Item::Changed(live(&session))),
                    Ok(Change::Ended(ended)) => next = Some(Item::Ended((&ended).into())),
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(broker, missed, "a report fell behind and is closed");
                        let status = Status::data_loss(format!("{missed} changes behind: open a new report"));
                        // It may be gone.
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                    Err(RecvError::Closed) => return,
                },
                Ok(()) = maintenance.changed() => {
                    let text = maintenance.borrow_and_update().as_deref().map(str::to_owned);
                    next = Some(Item::Maintenance(Maintenance { text }));
                }
                Ok(()) = trouble.changed() => {
                    next = Some(Item::Troubles(Troubles { troubles: troubles.messages() }));
                }
                Ok(()) = load.changed() => next = Some(Item::Load(stamped(*load.borrow_and_update()))),
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// A load with the clock of this moment, at which it is sent.
fn stamped(load: Load) -> Load {
    Load { clock_unix_ms: clock::unix_millis().0, ..load }
}

/// What an agent says of itself.
fn itself(agent: &Agent, settings: &Settings, promise: &Promise) -> Inventory {
    Inventory {
        boot_id: agent.boot_id.clone(),
        public_name: settings.public_name.clone(),
        promised: promise.epoch.as_ref().map(Into::into),
        lineage: promise.lineage.map(|lineage| lineage.to_string()).unwrap_or_default(),
        journal: promise.position,
        journal_id: promise.journal,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        allowed_brokers: settings.allowed_brokers.clone(),
        master_hostname: settings.master_hostname.clone(),
        troubles: agent.troubles.messages(),
        ..Inventory::default()
    }
}

fn item(item: Item) -> Result<ReportResponse, Status> {
    Ok(ReportResponse { item: Some(item) })
}
