//! What every store must do, run on both: random changes, and after each batch a fresh look must find what a plain
//! table would hold.

use proptest::{prelude::*, test_runner::Config};
use uuid::Uuid;
use vsm_core::{Change, LineageId, Proposal, Table};
use vsm_sync::{Loaded, MemoryStore, SqliteStore, Store};

use super::{NOW, entry, epoch, id, reserve};

/// Something to do to a table with a handful of sessions.
#[derive(Debug, Clone)]
enum Step {
    Reserve(u128, u8),
    Running(u128),
    GiveUp(u128),
    TombstoneDone(u128),
    End(u128),
    Gone(u128),
    AgentFailed(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let n = 1u128..8;
    prop_oneof![
        (n.clone(), 0u8..3).prop_map(|(n, user)| Step::Reserve(n, user)),
        n.clone().prop_map(Step::Running),
        n.clone().prop_map(Step::GiveUp),
        n.clone().prop_map(Step::TombstoneDone),
        n.clone().prop_map(Step::End),
        n.prop_map(Step::Gone),
        (0u8..2).prop_map(Step::AgentFailed),
    ]
}

fn proposal(step: &Step) -> Proposal {
    match *step {
        Step::Reserve(n, user) => reserve(n, &format!("user{user}"), 0),
        Step::Running(n) => Proposal::Running { id: id(n), display: u32::try_from(n).unwrap() },
        Step::GiveUp(n) => Proposal::GiveUp { id: id(n), now: NOW },
        Step::TombstoneDone(n) => Proposal::TombstoneDone { id: id(n) },
        Step::End(n) => Proposal::End { id: id(n) },
        Step::Gone(n) => Proposal::Gone { id: id(n) },
        Step::AgentFailed(n) => {
            Proposal::AgentFailed { agent: ["a", "b"][usize::from(n)].parse().unwrap(), at: NOW }
        }
    }
}

fn same(loaded: &Loaded, expected: &Table) {
    assert!(loaded.table.sessions().eq(expected.sessions()), "sessions differ");
    assert!(loaded.table.tombstones().eq(expected.tombstones()), "tombstones differ");
    assert!(loaded.table.failures().eq(expected.failures()), "failure marks differ");
}

/// Drives a store with batches; `reopen` takes it and gives what is on "the disk".
fn drive<S: Store>(mut store: S, reopen: impl Fn(S) -> S, batches: &[Vec<Step>]) {
    let mut expected = Table::default();
    let mut seq = 0;
    store.begin_epoch(&epoch(1), 1).unwrap();
    for batch in batches {
        let mut entries = Vec::new();
        for change in batch
            .iter()
            .filter_map(|step| expected.check(proposal(step)).ok().inspect(|c| expected.apply(c)))
        {
            seq += 1;
            entries.push(entry(seq, change));
        }
        store.append(&entries, &expected).unwrap();
        store = reopen(store);
        let loaded = store.load().unwrap();
        same(&loaded, &expected);
        assert_eq!(loaded.last_seq, seq);
        assert_eq!(loaded.epochs, [(epoch(1), 1)]);
    }
}

proptest! {
    #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

    #[test]
    fn both_stores_hold_what_was_appended(batches in prop::collection::vec(prop::collection::vec(step(), 0..6), 1..6)) {
        let lineage = LineageId::new(Uuid::from_u128(1));
        drive(MemoryStore::new(lineage, 100), |store| store, &batches);
        let dir = tempfile::tempdir().unwrap();
        let open = || SqliteStore::open(dir.path(), 100).unwrap().store;
        drive(open(), |store| { drop(store); open() }, &batches);
    }
}

#[test]
fn the_log_keeps_its_bound() {
    let mut memory = MemoryStore::new(LineageId::new(Uuid::from_u128(1)), 3);
    let table = Table::default();
    let failed = |n: u64| entry(n, Change::AgentFailed { agent: "a".parse().unwrap(), at: NOW });
    memory.append(&(1..=5).map(failed).collect::<Vec<_>>(), &table).unwrap();
    assert_eq!(memory.log().iter().map(|entry| entry.lsn.seq).collect::<Vec<_>>(), [3, 4, 5]);
}
