//! The agent's files, and what is said on the socket of a session: JSON that another version may have written.
//!
//! The first byte says which of them.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use vsm_agent::{
    control::{Event, Request},
    params::Params,
    record::{Done, Record},
    spec::{Reply, Spec},
};

pub(crate) fn run(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    match kind % 7 {
        0 => drop(again::<Record>(text)),
        1 => {
            if let Some(done) = again::<Done>(text) {
                assert_eq!(done.ended().id, done.id);
            }
        }
        2 => drop(again::<Params>(text)),
        3 => drop(again::<Request>(text)),
        4 => drop(again::<Event>(text)),
        5 => drop(again::<Spec>(text)),
        _ => drop(again::<Reply>(text)),
    }
}

/// What can be read is written and read again, and is the same.
fn again<T: Serialize + DeserializeOwned + Debug>(text: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(text).ok()?;
    let written = serde_json::to_vec(&value).expect("what was read can be written");
    let read: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(format!("{read:?}"), format!("{value:?}"));
    assert!(!written.contains(&b'\n'), "one line");
    Some(value)
}
