//! The store and the table's owner, through their public faces.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bad_input;
mod conformance;
mod node;
mod observe;
mod owner;
mod pair;
mod simulation;
mod sqlite;
mod stranger;

use std::sync::Arc;

use uuid::Uuid;
use vsm_core::replica::{Config, Entry, Write};
use vsm_core::{
    Change, Draft, Eligible, Epoch, Lsn, NodeName, Proposal, RequestId, Rule, SessionId,
    StartParams, Strategy, UnixMillis,
};
use vsm_sync::{SqliteStore, StoreError};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn node() -> NodeName {
    "tlha-primary".parse().unwrap()
}

fn epoch(counter: u64) -> Epoch {
    Epoch { nonce: 0, counter, node: node() }
}

fn id(n: u128) -> SessionId {
    SessionId::new(Uuid::from_u128(n))
}

/// Opens a store whose former owner was told to stop a moment ago.
#[expect(clippy::disallowed_methods, reason = "a bounded wait for another thread's end")]
/// Waits for an owner that is still ending, which takes another thread.
fn open_store(dir: &std::path::Path) -> SqliteStore {
    for _ in 0..10_000 {
        match SqliteStore::open(dir) {
            Ok(opened) => return opened.store,
            Err(StoreError::Locked(_)) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the store is still locked");
}

fn config(alone: bool) -> Config {
    Config {
        node: node(),
        witnesses: Vec::new(),
        ack_timeout_ms: 500,
        heartbeat_ms: 50,
        seed: 1,
        limits: vsm_core::replica::Limits::DEFAULT,
        alone,
    }
}

/// A write of these entries, all of them committed.
fn committed(entries: &[Entry]) -> Write {
    let commit = entries.last().map(|entry| entry.lsn.seq);
    Write { append: entries.to_vec(), commit, ..Write::default() }
}

fn entry(seq: u64, change: Change) -> Entry {
    Entry { lsn: Lsn { epoch: epoch(1), seq }, change }
}

/// Asks for session number `n` of the user, anywhere on agents a and b.
fn reserve(n: u128, user: &str, cap: u32) -> Proposal {
    let eligible = |agent: &str| Eligible {
        agent: agent.parse().unwrap(),
        weight: 100,
        max_users: 0,
        measured: None,
    };
    Proposal::Reserve {
        draft: Draft {
            id: id(n),
            user: user.parse().unwrap(),
            request: RequestId::new(Uuid::from_u128(n)),
            params: StartParams { language: "sv_SE.UTF-8".into(), ..StartParams::default() },
        },
        cap,
        uncounted: Vec::new(),
        eligible: Arc::new([eligible("a"), eligible("b")]),
        rule: Rule { strategy: Strategy::Users, now: NOW, penalty_ms: 0, tie: 7 },
    }
}
