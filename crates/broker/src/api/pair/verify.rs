//! Comparing both tables record by record, and with what the agents say they run. Nothing is changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio_stream::StreamExt;
use vsm_core::{Key, Row, SessionId, State, Table};
use vsm_proto::{
    admin::v1::{self as pb, ha_client::HaClient},
    agent::v1::report_response::Item,
    sync::v1 as sync,
};

use crate::{
    api::{Edge, caller},
    hosts::{
        agents::{CallError, Link},
        told,
    },
    pair::{Ha, Pair, card},
};

/// The tables are compared at the same committed number; under load that takes some tries.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);
const DEADLINE: Duration = Duration::from_secs(10);
/// Differences that are told; the rest is counted.
const TOLD: usize = 100;

/// A digest of a table: equal tables have equal ones.
pub(crate) fn digest(table: &Table) -> u64 {
    // Rows in any order: each is hashed alone, and the sum tells.
    table.rows().fold(0_u64, |sum, row| sum.wrapping_add(card::hash(&format!("{row:?}"))))
}

/// Compares.
pub(crate) async fn verify(edge: &Arc<Edge>) -> pb::VerifyResponse {
    let mut found = pb::VerifyResponse::default();
    if let Ha::On(pair) = &edge.side.ha {
        nodes(edge, pair, &mut found).await;
    } else {
        found.skipped.push("HA is off: there is no other table".to_owned());
    }
    agents(edge, &mut found).await;
    let more = found.differences.len().saturating_sub(TOLD);
    if more > 0 {
        found.differences.truncate(TOLD);
        found.differences.push(format!("and {more} more"));
    }
    found
}

async fn nodes(edge: &Edge, pair: &Pair, found: &mut pb::VerifyResponse) {
    let mut last = "they were never at the same change".to_owned();
    for _ in 0..TRIES {
        let theirs = match tokio::time::timeout(DEADLINE, rows_of(pair)).await {
            Ok(Ok(theirs)) => theirs,
            Ok(Err(why)) => {
                last = why.to_string();
                break;
            }
            Err(_) => {
                last = "it did not tell in time".to_owned();
                break;
            }
        };
        let (commit, ours) = edge.table.read(|view| (view.last_seq, by_key(view.table.rows())));
        if commit == theirs.0 {
            found.commit = commit;
            found.sessions = sessions(&ours);
            compare(pair, &ours, &theirs.1, &mut found.differences);
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    found.skipped.push(format!("the table of {}: {last}", pair.peer));
}

fn by_key(rows: impl Iterator<Item = Row>) -> BTreeMap<Key, Row> {
    rows.map(|row| (row.key(), row)).collect()
}

fn sessions(rows: &BTreeMap<Key, Row>) -> u32 {
    let is_session = |row: &&Row| matches!(row, Row::Session { session: Some(_), .. });
    u32::try_from(rows.values().filter(is_session).count()).unwrap_or(u32::MAX)
}

async fn rows_of(pair: &Pair) -> Result<(u64, BTreeMap<Key, Row>), CallError> {
    let mut client = HaClient::new(pair.channel.clone());
    let request = caller::forwarded(pb::ListRowsRequest {}, None);
    let mut pages = client.list_rows(request).await?.into_inner();
    let (mut commit, mut rows) = (0, Vec::new());
    while let Some(page) = pages.next().await {
        let page = page?;
        commit = page.commit;
        rows.extend(page.rows);
    }
    let parse =
        |row: sync::Row| Row::try_from(row).map_err(|error| CallError::new(error.to_string()));
    let rows = rows.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    Ok((commit, by_key(rows.into_iter())))
}

fn compare(
    pair: &Pair,
    ours: &BTreeMap<Key, Row>,
    theirs: &BTreeMap<Key, Row>,
    differences: &mut Vec<String>,
) {
    let keys: BTreeSet<&Key> = ours.keys().chain(theirs.keys()).collect();
    for key in keys {
        let what = match (ours.get(key), theirs.get(key)) {
            (Some(own), Some(other)) if own == other => continue,
            (Some(_), None) => format!("is on {} only", pair.own),
            (None, _) => format!("is on {} only", pair.peer),
            (Some(own), Some(other)) => {
                format!("is {own:?} on {} and {other:?} on {}", pair.own, pair.peer)
            }
        };
        differences.push(format!("{} {what}", name(key)));
    }
}

fn name(key: &Key) -> String {
    match key {
        Key::Session(id) => format!("session {id}"),
        Key::Agent(agent) => format!("the failure mark of {agent}"),
        Key::Roster => "the list of witnesses".to_owned(),
        Key::Drain(agent) => format!("the drain mark of {agent}"),
        Key::Event(slot) => format!("the event in place {slot}"),
        Key::Identity(name) => format!("what is known of {name}"),
        Key::WebKeys(user) => format!("the list of web keys of {user}"),
    }
}

/// What runs on each agent, against the table.
async fn agents(edge: &Edge, found: &mut pb::VerifyResponse) {
    for link in edge.agents.all() {
        match tokio::time::timeout(DEADLINE, inventory(edge, &link)).await {
            Ok(Ok(running)) => {
                found.agents += 1;
                against(edge, &link, &running, &mut found.differences);
            }
            Ok(Err(why)) => found.skipped.push(format!("agent {}: {why}", link.name)),
            Err(_) => found.skipped.push(format!("agent {}: no inventory in time", link.name)),
        }
    }
}

async fn inventory(edge: &Edge, link: &Link) -> Result<BTreeSet<SessionId>, CallError> {
    let mut report = link.report(edge.process.node.as_str()).await?;
    let first = report.next().await.ok_or_else(|| CallError::new("its report ended"))?;
    match first?.item {
        Some(Item::Inventory(inventory)) => Ok(told::ids(&inventory.sessions).collect()),
        _ => Err(CallError::new("its report does not begin with an inventory")),
    }
}

fn against(edge: &Edge, link: &Link, running: &BTreeSet<SessionId>, differences: &mut Vec<String>) {
    let known: BTreeMap<SessionId, State> = edge.table.read(|view| {
        view.table.on_agent(&link.name).map(|session| (session.id, session.state)).collect()
    });
    for (id, state) in &known {
        if *state != State::Starting && !running.contains(id) {
            differences.push(format!("session {id} is in the table and not on {}", link.name));
        }
    }
    for id in running.iter().filter(|id| !known.contains_key(id)) {
        differences.push(format!("session {id} runs on {} and is not in the table", link.name));
    }
}
