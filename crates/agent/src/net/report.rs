//! The report on its way to a broker: what `vsmagent` tells, in the broker's words, with what is known here.

use std::{pin::Pin, sync::Arc};

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;
use vsm_daemon::{clock, trouble::Trouble};
use vsm_proto::agent::v1::{
    Inventory, Load, Maintenance, ReportResponse, Troubles, report_response::Item,
};

use super::{
    Net,
    host::{Lost, Report},
    settings::Settings,
    words,
};
use crate::message::{self, Failure, Told};

/// Items on their way to a broker that is slow to read; behind them other bounds hold.
const ITEMS_BOUND: usize = 16;

/// Items of a report.
pub(super) type Items = Pin<Box<dyn Stream<Item = Result<ReportResponse, Status>> + Send>>;

/// Opens a report for `broker`; it ends with this process, with `vsmagent`, with its reader, or when it falls behind.
pub(super) async fn open(net: Arc<Net>, broker: String) -> Result<Items, Status> {
    let mut settings = net.settings.subscribe();
    let told = Arc::clone(&settings.borrow_and_update());
    let mut trouble = net.troubles.changes();
    let Report { host, sessions, mut then } = net.host.report().await.map_err(words::failed)?;
    let first_load = load(host.load);
    let mut troubles = host.troubles.clone();
    let inventory = Inventory {
        sessions: sessions.iter().map(words::live).collect(),
        ..itself(&net, &told, host)
    };
    let (sender, receiver) = mpsc::channel(ITEMS_BOUND);
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
            next = tokio::select! {
                biased;
                () = net.stop.token.cancelled() => return,
                () = sender.closed() => return,
                // What the inventory said of this agent is not so any more: the next report says it.
                Ok(()) = settings.changed() => {
                    if !settings.borrow_and_update().tells_as(&told) {
                        return;
                    }
                    None
                }
                Ok(()) = trouble.changed() => Some(all_troubles(&net, &troubles)),
                () = net.host.gone() => {
                    // It may be gone.
                    let _ = sender.send(Err(words::failed(Failure::from(Lost::Gone)))).await;
                    return;
                }
                line = then.recv() => match line {
                    None => {
                        // It may be gone.
                        let _ = sender.send(Err(words::failed(Failure::from(Lost::Gone)))).await;
                        return;
                    }
                    Some(Told::Behind(missed)) => {
                        tracing::warn!(broker, missed, "a report fell behind and is closed");
                        let text = format!("{missed} changes behind: open a new report");
                        // It may be gone.
                        let _ = sender.send(Err(Status::data_loss(text))).await;
                        return;
                    }
                    Some(Told::Troubles(now)) => {
                        troubles = now;
                        Some(all_troubles(&net, &troubles))
                    }
                    Some(other) => plain(other),
                },
            };
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// What is told as it comes.
fn plain(told: Told) -> Option<Item> {
    Some(match told {
        Told::Live(session) => Item::Changed(words::live(&session)),
        Told::Ended(ended) => Item::Ended((&ended).into()),
        Told::Load(now) => Item::Load(load(now)),
        Told::Maintenance(text) => Item::Maintenance(Maintenance { text }),
        // Told at the beginning alone, or above.
        Told::Host(_) | Told::Troubles(_) | Told::Behind(_) => return None,
    })
}

fn all_troubles(net: &Net, told: &[Trouble]) -> Item {
    Item::Troubles(Troubles { troubles: net.troubles.with_those(told) })
}

/// A load with the clock of this moment, at which it is sent.
fn load(load: message::Load) -> Load {
    Load {
        load1_milli: load.load1_milli,
        cpus: load.cpus,
        memory_total_mib: load.memory_total_mib,
        memory_available_mib: load.memory_available_mib,
        cpu_pressure_milli: load.cpu_pressure_milli,
        cpu_busy_milli: load.cpu_busy_milli,
        run_queue_milli: load.run_queue_milli,
        memory_pressure_milli: load.memory_pressure_milli,
        clock_unix_ms: clock::unix_millis().0,
    }
}

/// What an agent says of itself.
fn itself(net: &Net, settings: &Settings, host: message::Host) -> Inventory {
    Inventory {
        troubles: net.troubles.with_those(&host.troubles),
        boot_id: host.boot_id,
        public_name: settings.public_name.clone(),
        promised: host.promised.as_ref().map(Into::into),
        lineage: host.lineage.map(|lineage| lineage.to_string()).unwrap_or_default(),
        journal: host.journal,
        journal_id: host.journal_id,
        version: host.version,
        allowed_brokers: settings.allowed_brokers.clone(),
        master_hostname: settings.master_hostname.clone(),
        maintenance: host.maintenance,
        ..Inventory::default()
    }
}

fn item(item: Item) -> Result<ReportResponse, Status> {
    Ok(ReportResponse { item: Some(item) })
}
