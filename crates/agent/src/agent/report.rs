//! The report: all that runs at once, then changes and load as they happen.

use std::{io, sync::Arc};

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::{Agent, caller::Caller, registry::Change};
use crate::message::{Host, Told};

/// Tells it, until `stop`, until nobody listens, or until whoever listens falls behind.
pub(super) async fn tell(
    agent: &Arc<Agent>,
    caller: Caller,
    stop: &CancellationToken,
) -> io::Result<()> {
    let (gone, mut teller) = caller.parts();
    let promise = agent.fence.promise().await;
    let (sessions, mut changes) = agent.registry.report();
    let mut maintenance = agent.maintenance.clone();
    let (troubles, mut trouble) = (agent.troubles.clone(), agent.troubles.changes());
    let mut load = agent.load.clone();
    let host = Host {
        sessions: sessions.len(),
        boot_id: agent.boot_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        promised: promise.epoch,
        lineage: promise.lineage,
        journal: promise.position,
        journal_id: promise.journal,
        maintenance: maintenance.borrow_and_update().as_deref().map(str::to_owned),
        troubles: troubles.now(),
        load: *load.borrow_and_update(),
    };
    teller.say(&Told::Host(Box::new(host))).await?;
    for session in sessions {
        teller.say(&Told::Live(Box::new(session))).await?;
    }
    let gone = gone.gone();
    tokio::pin!(gone);
    loop {
        let told = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = &mut gone => return Ok(()),
            change = changes.recv() => match change {
                Ok(Change::Live(session)) => Told::Live(session),
                Ok(Change::Ended(ended)) => Told::Ended(ended),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a report fell behind and is closed");
                    return teller.say(&Told::Behind(missed)).await;
                }
                Err(RecvError::Closed) => return Ok(()),
            },
            Ok(()) = maintenance.changed() => {
                Told::Maintenance(maintenance.borrow_and_update().as_deref().map(str::to_owned))
            }
            Ok(()) = trouble.changed() => Told::Troubles(troubles.now()),
            Ok(()) = load.changed() => Told::Load(*load.borrow_and_update()),
        };
        teller.say(&told).await?;
    }
}
