//! The owner: many at once, rules held, nothing seen that is not durable.

use uuid::Uuid;
use vsm_core::{Change, Epoch, Incarnation, LineageId, Proposal, Rejected, State};
use vsm_sync::{Failing, MemoryStore, Outbox, ProposeError, SessionTable, Store};

use super::{config, epoch, id, open_store, reserve};

fn alone(store: impl Store + 'static) -> SessionTable {
    SessionTable::start(store, config(true), Incarnation(1), Outbox::none()).unwrap()
}

fn start(dir: &std::path::Path) -> SessionTable {
    alone(open_store(dir))
}

/// P1: an answer waits for the log alone, and the log is enough to have everything again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_there_after_a_crash() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let table = start(dir.path());
    for n in 1..=3 {
        table.propose(reserve(n, &format!("user{n}"), 1)).await.unwrap();
        // The files as a crash in this moment would leave them, and what is in the table itself by then.
        for file in ["vsm.db", "vsm.db-wal"] {
            std::fs::copy(dir.path().join(file), crashed.path().join(file)).unwrap();
        }
        let mut store = open_store(crashed.path());
        let written = store.load().unwrap().disk.table.sessions().len();
        drop(store);
        let again = start(crashed.path());
        let all = again.read(|view| view.table.sessions().len());
        assert_eq!(all, usize::try_from(n).unwrap(), "{written} of them were rows");
        drop(again);
        drop(open_store(crashed.path()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_is_spread_evenly_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let table = start(dir.path());
    let mut storm = tokio::task::JoinSet::new();
    for n in 1..=50 {
        let table = table.clone();
        storm
            .spawn(async move { table.propose(reserve(n, &format!("user{n}"), 1)).await.unwrap() });
    }
    assert_eq!(storm.join_all().await.len(), 50);
    let count = |table: &SessionTable, agent: &str| {
        let agent = agent.parse().unwrap();
        table.read(|view| view.table.agent_use(&agent).unwrap().sessions())
    };
    assert_eq!((count(&table, "a"), count(&table, "b")), (25, 25));
    assert_eq!(table.fence().epoch, epoch(1));
    drop(table);
    let again = reopen(dir.path());
    assert_eq!((count(&again, "a"), count(&again, "b")), (25, 25));
    assert_eq!(again.read(|view| view.last_seq), 52, "and each reign begins with a change");
    assert_eq!(again.fence().epoch, epoch(2), "each start is a reign of its own");
}

fn reopen(dir: &std::path::Path) -> SessionTable {
    alone(open_store(dir))
}

/// P7: two logins at the same moment with a limit of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_get_one_session() {
    let dir = tempfile::tempdir().unwrap();
    let table = start(dir.path());
    let (one, two) =
        tokio::join!(table.propose(reserve(1, "ann", 1)), table.propose(reserve(2, "ann", 1)));
    let refused = [one, two].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(
        matches!(refused.as_slice(), [ProposeError::Rejected(Rejected::AtLimit { cap: 1, .. })]),
        "{refused:?}"
    );
}

/// P1: what cannot be made durable was never there, for readers and for later proposals; and it works again when it
/// can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_leaves_nothing_half_done() {
    let store = MemoryStore::new(LineageId::new(Uuid::from_u128(1)));
    let disk = store.switch();
    let table = alone(store);
    table.propose(reserve(1, "ann", 1)).await.unwrap();
    disk.set(Some(Failing::Full));
    let error = table.propose(reserve(2, "bob", 1)).await.unwrap_err();
    assert!(error.to_string().contains("/memory is full"), "{error}");
    assert!(table.read(|view| view.table.session(id(2)).is_none()));
    assert!(matches!(
        table.propose(Proposal::Gone { id: id(2) }).await,
        Err(ProposeError::Rejected(_))
    ));
    disk.set(None);
    table.propose(reserve(2, "bob", 1)).await.unwrap();
    table.propose(Proposal::Running { id: id(1), display: 10 }).await.unwrap();
    let (state, seq) = table.read(|view| (view.table.session(id(1)).unwrap().state, view.last_seq));
    assert_eq!(
        (state, seq),
        (State::Running { display: 10 }, 4),
        "a failed change takes no number"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_epoch_rises_above_a_promise_and_stays_above() {
    let dir = tempfile::tempdir().unwrap();
    let table = start(dir.path());
    let seen = Epoch { nonce: 0, counter: 41, node: "other".parse().unwrap() };
    let risen = table.raise_above(seen.clone()).await.unwrap();
    assert_eq!((risen.counter, &risen.node), (42, &epoch(42).node));
    assert_eq!(table.raise_above(seen).await.unwrap(), risen, "it is above already");
    assert_eq!(table.fence().epoch, risen);
    assert!(matches!(table.propose(reserve(1, "ann", 0)).await, Ok(Change::Reserved(_))));
    drop(table);
    assert_eq!(reopen(dir.path()).fence().epoch.counter, 43);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_new_table_takes_up_a_lineage() {
    let dir = tempfile::tempdir().unwrap();
    let table = start(dir.path());
    let agents = LineageId::new(Uuid::from_u128(7));
    assert!(table.take_up(agents).await.unwrap());
    assert_eq!(table.fence().lineage, agents);
    table.propose(reserve(1, "ann", 0)).await.unwrap();
    assert!(!table.take_up(LineageId::new(Uuid::from_u128(8))).await.unwrap());
    assert!(table.take_up(agents).await.unwrap(), "it is of that lineage already");
    drop(table);
    assert_eq!(reopen(dir.path()).fence().lineage, agents);
}
