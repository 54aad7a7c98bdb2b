//! What only a file can suffer.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt, path::Path};

use vsm_core::{
    Change, Epoch, Lsn, Table,
    replica::{Install, Write},
};
use vsm_sync::{Opened, SqliteStore, Store, StoreError};

use super::{NOW, committed, conformance::audit, entry, epoch, id, reserve};

fn open(dir: &Path) -> Opened {
    SqliteStore::open(dir).unwrap()
}

/// A store with one session, closed.
fn filled(dir: &Path) {
    let mut store = open(dir).store;
    let mut table = Table::default();
    let change = table.check(reserve(1, "ann", 0)).unwrap();
    table.apply(&change);
    store.write(&[committed(&[entry(1, change)])], &table.rows().collect::<Vec<_>>()).unwrap();
}

#[test]
fn a_second_process_is_kept_out_and_the_first_is_not_disturbed() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(dir.path()).store;
    let error = SqliteStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error}");
    let change = Change::AgentFailed { agent: "a".parse().unwrap(), at: NOW };
    first.write(&[committed(&[entry(1, change)])], &[]).unwrap();
}

#[test]
fn a_file_of_something_else_is_moved_aside_whole() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("vsm.db"), vec![b'x'; 8192]).unwrap();
    let mut opened = open(dir.path());
    let (aside, why) = opened.damaged.take().unwrap();
    assert!(why.contains("not a database"), "{why}");
    assert_eq!(fs::read(aside).unwrap(), vec![b'x'; 8192]);
    assert_eq!(opened.store.load().unwrap().disk.table.sessions().len(), 0);
}

#[test]
fn a_torn_page_is_found_and_the_file_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let path = dir.path().join("vsm.db");
    let length = fs::metadata(&path).unwrap().len();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(4096)).unwrap();
    file.write_all(&vec![0xAB; usize::try_from(length).unwrap() - 4096]).unwrap();
    drop(file);
    assert!(open(dir.path()).damaged.is_some());
    let kept = fs::read_dir(dir.path()).unwrap().filter_map(Result::ok);
    assert!(
        kept.map(|file| file.file_name()).any(|name| name.to_string_lossy().contains(".damaged-"))
    );
}

#[test]
fn a_record_that_does_not_parse_is_damage_too() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let raw = rusqlite::Connection::open(dir.path().join("vsm.db")).unwrap();
    raw.execute("UPDATE session SET record = x'0aff'", []).unwrap();
    drop(raw);
    let (_, why) = open(dir.path()).damaged.unwrap();
    assert!(why.starts_with("session: "), "{why}");
}

/// A table of the first format has neither drain marks nor a trail nor identities nor web keys; it keeps its sessions.
#[test]
fn an_older_format_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let raw = rusqlite::Connection::open(dir.path().join("vsm.db")).unwrap();
    raw.execute_batch(
        "DROP TABLE drain; DROP TABLE event; DROP TABLE identity;
        DROP TABLE web_keys; ALTER TABLE changelog DROP COLUMN nonce;
        CREATE TABLE old AS SELECT counter, node, first_seq FROM epoch; DROP TABLE epoch;
        CREATE TABLE epoch (counter INTEGER NOT NULL, node TEXT NOT NULL, first_seq INTEGER NOT NULL,
            PRIMARY KEY (counter, node)) STRICT;
        INSERT INTO epoch SELECT * FROM old; DROP TABLE old; DELETE FROM meta WHERE key = 'unsure';
        INSERT OR REPLACE INTO meta VALUES ('mark_seq', '1'); PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(raw);
    let mut opened = open(dir.path());
    assert!(opened.damaged.is_none());
    let disk = opened.store.load().unwrap().disk;
    assert!(disk.unsure, "rows of one voter may be in it");
    let mut table = disk.table;
    assert_ne!(table.sessions().len(), 0);
    audit(&mut table);
    opened.store.write(&[], &table.rows().collect::<Vec<_>>()).unwrap();
    drop(opened);
    let table = open(dir.path()).store.load().unwrap().disk.table;
    assert_eq!((table.drains().count(), table.events_after(0).count()), (1, 1));
    assert_eq!((table.identities().len(), table.web_keys().all().count()), (1, 1));
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let raw = rusqlite::Connection::open(dir.path().join("vsm.db")).unwrap();
    raw.pragma_update(None, "user_version", 7).unwrap();
    drop(raw);
    let error = SqliteStore::open(dir.path()).unwrap_err();
    assert!(error.to_string().ends_with("has format 7, and this version knows up to 6"), "{error}");
}

#[test]
fn a_crash_after_an_append_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).store;
    let mut table = Table::default();
    let change = table.check(reserve(1, "ann", 0)).unwrap();
    table.apply(&change);
    store.write(&[committed(&[entry(1, change)])], &table.rows().collect::<Vec<_>>()).unwrap();
    // The files as they are on the disk at this moment, with the store still open: what a power cut would leave.
    for name in ["vsm.db", "vsm.db-wal"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let mut after = open(copy.path());
    assert!(after.damaged.is_none());
    assert!(after.store.load().unwrap().disk.table.sessions().eq(table.sessions()));
}

/// A store of these changes, the last `uncommitted` of which are not known to be committed, after a promise.
fn used(dir: &Path, promised: Epoch, changes: &[Change], uncommitted: usize) -> SqliteStore {
    let mut store = open(dir).store;
    let (mut table, mut entries) = (Table::default(), Vec::new());
    for (seq, change) in (1..).zip(changes) {
        entries.push(entry(seq, change.clone()));
        if entries.len() + uncommitted <= changes.len() {
            table.apply(change);
        }
    }
    let commit = Some((changes.len() - uncommitted) as u64);
    let write = Write { promised: Some(promised), append: entries, commit, ..Write::default() };
    store.write(&[write], &table.rows().collect::<Vec<_>>()).unwrap();
    store
}

#[test]
fn only_a_table_that_nobody_would_miss_is_set_aside() {
    let failed = Change::AgentFailed { agent: "a".parse().unwrap(), at: NOW };
    let alone = [Change::Began { pair: false }, failed];
    let with = |change: Change| [alone.to_vec(), vec![change]].concat();
    let reserved = with(Table::default().check(reserve(1, "ann", 0)).unwrap());
    let agent = "a".parse().unwrap();
    let stone = with(Change::Tombstone { id: id(1), agent, at: NOW });
    let paired = with(Change::Roster(Vec::new().into()));
    let forming = [Change::Began { pair: true }];
    let peer: vsm_core::NodeName = "other".parse().unwrap();
    let foreign = Epoch { nonce: 0, counter: 2, node: peer.clone() };
    for (what, promised, changes, uncommitted, forgotten) in [
        ("a single server's without sessions", epoch(2), &alone[..], 0, true),
        ("one with a session", epoch(1), &reserved[..], 0, false),
        ("one with a session that may be committed", epoch(1), &reserved, 1, false),
        ("one with a start that was given up", epoch(1), &stone, 0, false),
        ("a pair's", epoch(1), &paired, 0, false),
        ("a pair's that is about to be", epoch(1), &paired, 1, false),
        ("a pair's before its witnesses are named", epoch(1), &forming[..], 0, false),
        ("one that voted for the peer", foreign, &alone, 0, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = used(dir.path(), promised, changes, uncommitted);
        let before = store.load().unwrap();
        let aside = store.set_aside_expendable(&peer).unwrap();
        assert_eq!(aside.is_some(), forgotten, "{what}");
        let after = store.load().unwrap();
        assert_eq!(after.lineage == before.lineage, !forgotten, "{what}");
        if let Some(aside) = aside {
            fs::create_dir(dir.path().join("former")).unwrap();
            fs::rename(aside, dir.path().join("former/vsm.db")).unwrap();
            let former = open(&dir.path().join("former")).store.load().unwrap();
            assert_eq!(format!("{:?}", former.disk), format!("{:?}", before.disk), "it is whole");
            let new = open(&dir.path().join("new")).store.load().unwrap();
            assert_eq!(format!("{:?}", after.disk), format!("{:?}", new.disk), "as if it were new");
            assert!(store.set_aside_expendable(&peer).unwrap().is_none(), "a new one is kept");
        }
    }
}

/// What was done in a life of the pair that counts no more may be missed by somebody.
#[test]
fn a_table_that_gives_way_to_one_of_another_life_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let copies = || -> Vec<_> {
        let all = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.to_string_lossy().contains(".replaced-")).collect()
    };
    let mut store = open(dir.path()).store;
    let mut install = |counter| {
        let (at, history) = (Lsn { epoch: epoch(counter), seq: 1 }, vec![(epoch(counter), 1)]);
        let install = Install { at, history, rows: [].into(), whole: true };
        store.write(&[Write { install: Some(install), ..Write::default() }], &[]).unwrap();
    };
    install(1);
    assert!(copies().is_empty(), "the same life");
    install(2);
    let copy = copies().pop().unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let other = tempfile::tempdir().unwrap();
    fs::copy(copy, other.path().join("vsm.db")).unwrap();
    assert!(open(other.path()).store.load().unwrap().disk.joined);
}
