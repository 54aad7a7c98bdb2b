//! What only a file can suffer.

use std::{fs, io::Write, path::Path};

use vsm_core::{Change, Table};
use vsm_sync::{Opened, SqliteStore, Store, StoreError};

use super::{NOW, committed, conformance::audit, entry, reserve};

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

/// A table of the first format has neither drain marks nor a trail; it keeps its sessions.
#[test]
fn an_older_format_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let raw = rusqlite::Connection::open(dir.path().join("vsm.db")).unwrap();
    raw.execute_batch("DROP TABLE drain; DROP TABLE event; PRAGMA user_version = 1;").unwrap();
    drop(raw);
    let mut opened = open(dir.path());
    assert!(opened.damaged.is_none());
    let mut table = opened.store.load().unwrap().disk.table;
    assert_ne!(table.sessions().len(), 0);
    audit(&mut table);
    opened.store.write(&[], &table.rows().collect::<Vec<_>>()).unwrap();
    drop(opened);
    let table = open(dir.path()).store.load().unwrap().disk.table;
    assert_eq!((table.drains().count(), table.events_after(0).count()), (1, 1));
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let raw = rusqlite::Connection::open(dir.path().join("vsm.db")).unwrap();
    raw.pragma_update(None, "user_version", 3).unwrap();
    drop(raw);
    let error = SqliteStore::open(dir.path()).unwrap_err();
    assert!(error.to_string().ends_with("has format 3, and this version knows up to 2"), "{error}");
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
