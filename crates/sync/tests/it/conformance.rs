//! What every store must do, run on both: random changes, and after each batch a fresh look must find what a plain
//! table would hold.

use proptest::{prelude::*, test_runner::Config};
use uuid::Uuid;
use vsm_core::{
    LineageId, Lsn, Proposal, Row, Table,
    replica::{Disk, Install, Mark, Write},
};
use vsm_sync::{Loaded, MemoryStore, SqliteStore, Store};

use super::{NOW, committed, entry, epoch, id, reserve};

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

fn same(loaded: &Loaded, expected: &Disk) {
    let (found, table) = (&loaded.disk, &loaded.disk.table);
    assert!(table.sessions().eq(expected.table.sessions()), "sessions differ");
    assert!(table.tombstones().eq(expected.table.tombstones()), "tombstones differ");
    assert!(table.failures().eq(expected.table.failures()), "failure marks differ");
    assert_eq!(table.roster(), expected.table.roster());
    assert_eq!(table.web_keys().lists(), expected.table.web_keys().lists());
    assert_eq!(found.log, expected.log);
    assert_eq!(
        (found.joined, &found.promised, found.commit, &found.mark, found.unsure, found.peer_off),
        (
            expected.joined,
            &expected.promised,
            expected.commit,
            &expected.mark,
            expected.unsure,
            expected.peer_off
        )
    );
}

/// The rows that a write commits or installs, and whether all of them.
fn rows(before: &Disk, after: &Disk, write: &Write) -> Vec<Row> {
    if write.install.as_ref().is_some_and(|install| install.whole) {
        return after.table.rows().collect();
    }
    let entries = after.log.after(before.commit);
    let entries = entries.take_while(|entry| entry.lsn.seq <= after.commit);
    let entries = entries.map(|entry| entry.change.key());
    let installed = write.install.iter().flat_map(|install| install.rows.iter().map(Row::key));
    entries.flatten().chain(installed).filter_map(|key| after.table.row(&key)).collect()
}

/// Drives a store with writes; `reopen` takes it and gives what is on "the disk".
fn drive<S: Store>(mut store: S, reopen: impl Fn(S) -> S, writes: &[Write]) {
    let mut expected = Disk::default();
    for write in writes {
        let before = expected.clone();
        expected.apply(write);
        store.write(std::slice::from_ref(write), &rows(&before, &expected, write)).unwrap();
        store = reopen(store);
        same(&store.load().unwrap(), &expected);
    }
}

fn drive_both(writes: &[Write]) {
    drive(MemoryStore::new(LineageId::new(Uuid::from_u128(1))), |store| store, writes);
    let dir = tempfile::tempdir().unwrap();
    let open = || SqliteStore::open(dir.path()).unwrap().store;
    drive(
        open(),
        |store| {
            drop(store);
            open()
        },
        writes,
    );
}

/// What a node that is active writes: batches of changes, each committed at once.
fn changes(batches: &[Vec<Step>]) -> Vec<Write> {
    let (mut table, mut seq) = (Table::default(), 0);
    let batch = |batch: &Vec<Step>| {
        let allowed = batch
            .iter()
            .filter_map(|step| table.check(proposal(step)).ok().inspect(|c| table.apply(c)));
        let entries = allowed.map(|change| {
            seq += 1;
            entry(seq, change)
        });
        committed(&entries.collect::<Vec<_>>())
    };
    batches.iter().map(batch).collect()
}

proptest! {
    #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

    #[test]
    fn both_stores_hold_what_was_written(batches in prop::collection::vec(prop::collection::vec(step(), 0..6), 1..6)) {
        drive_both(&changes(&batches));
    }
}

/// Entries of three reigns: each time a store is opened it has to find the same history.
fn several_reigns() -> Vec<vsm_core::replica::Entry> {
    let of = |(seq, counter)| {
        let mut entry = entry(seq, vsm_core::Change::Began { pair: true });
        entry.lsn.epoch = epoch(counter);
        entry
    };
    [(1, 1), (2, 1), (3, 2), (4, 4)].into_iter().map(of).collect()
}

/// A drained agent, an event, an identity and a web key, which a table has beside its sessions.
pub(crate) fn audit(table: &mut Table) {
    let agent: vsm_core::AgentName = "a".parse().unwrap();
    let (by, why) = ("root".to_owned(), "new kernel".to_owned());
    let mark = vsm_core::Drain { by, why, since: NOW, until: Some(NOW) };
    table.set_row(&Row::Drain { agent: agent.clone(), mark: Some(mark.into()) });
    let event = vsm_core::Event {
        number: 7,
        at: NOW,
        actor: "root".to_owned(),
        action: "agent-drained".to_owned(),
        session: None,
        user: Some("ann".parse().unwrap()),
        agent: Some(agent),
        detail: "new kernel".to_owned(),
        chain: Some(vsm_core::Hash([2; 32])),
    };
    table.set_row(&Row::Event(event.into()));
    let (token, by, until) = (vsm_core::Hash([1; 32]), "root".to_owned(), NOW);
    let invited = Some(vsm_core::Invitation { token, by, until, used_for: None });
    let known = vsm_core::Identity { invited, ..vsm_core::Identity::default() };
    table.set_row(&Row::Identity { name: "agent/a".parse().unwrap(), known: known.into() });
    let (user, id) = ("ann".parse::<vsm_core::UserName>().unwrap(), Uuid::from_u128(5));
    let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}", "x".repeat(43));
    let (id, key) = (vsm_core::WebKeyId::new(id), key.parse().unwrap());
    let times = (NOW, vsm_core::UnixMillis(NOW.0 + 1));
    let key = vsm_core::WebKey::new(id, user.clone(), key, times, "Firefox".to_owned()).unwrap();
    table.set_row(&Row::WebKeys { user, keys: [key].into() });
}

/// What only a node of a pair writes: cutting, installing, marks, promises, trimming.
#[test]
fn both_stores_hold_what_a_pair_writes() {
    let mut table = Table::default();
    let mut log = Vec::new();
    for n in 1..=6 {
        let change = table.check(reserve(n, "ann", 0)).unwrap();
        table.apply(&change);
        log.push(entry(u64::try_from(n).unwrap(), change));
    }
    table.set_row(&Row::Roster(["a", "b", "c"].map(|name| name.parse().unwrap()).into()));
    let agent: vsm_core::AgentName = "a".parse().unwrap();
    audit(&mut table);
    let keys = table.rows().map(|row| row.key()).collect();
    let at = Lsn { epoch: epoch(3), seq: 40 };
    let history = vec![(epoch(1), 1), (epoch(3), 20)];
    let install = |whole, rows| Install { at: at.clone(), history: history.clone(), rows, whole };
    let later = |seq| {
        let mut later = entry(seq, vsm_core::Change::Began { pair: true });
        later.lsn.epoch = epoch(4);
        later
    };
    let default = Write::default;
    drive_both(&[
        Write { promised: Some(epoch(1)), ..default() },
        Write { append: several_reigns(), ..default() },
        Write { truncate: Some(0), ..default() },
        Write { append: log, commit: Some(3), ..default() },
        Write { truncate: Some(4), ..default() },
        Write {
            mark: Some(Some(Mark { base: Lsn { epoch: epoch(1), seq: 2 }, keys })),
            ..default()
        },
        Write { unsure: Some(true), peer_off: Some(true), ..default() },
        Write { commit: Some(4), trim: Some(3), ..default() },
        Write { install: Some(install(true, table.rows().collect())), ..default() },
        Write { append: vec![later(41), later(42)], promised: Some(epoch(4)), ..default() },
        Write {
            truncate: Some(40),
            mark: Some(None),
            unsure: Some(false),
            peer_off: Some(false),
            ..default()
        },
        Write {
            install: Some(install(
                false,
                [
                    Row::Agent { agent: agent.clone(), failed: NOW },
                    Row::Drain { agent, mark: None },
                    Row::WebKeys { user: "ann".parse().unwrap(), keys: [].into() },
                ]
                .into(),
            )),
            ..default()
        },
        Write { install: Some(install(true, [].into())), ..default() },
    ]);
}
