//! Each message that is turned into a value of the domain: what brokers, witnesses and agents say, and what the store
//! holds. The first byte says which.

use std::fmt::Debug;

use prost::Message;
use vsm_core::{
    Change, Drain, Ended, Epoch, Event, Fence, Limits, Lsn, Row, Session, Standing, StartParams,
    Viewer,
    replica::{Entry, PeerMsg, WitnessMsg, WitnessReply},
};
use vsm_proto::{replica::Keeping, session::v1 as session, sync::v1 as sync};

pub(crate) fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 19 {
        0 => again::<sync::PeerMessage, PeerMsg>(bytes),
        1 => again::<sync::WitnessRequest, WitnessMsg>(bytes),
        2 => again::<sync::WitnessResponse, WitnessReply>(bytes),
        3 => again::<sync::WitnessState, Keeping>(bytes),
        4 => again::<sync::Entry, Entry>(bytes),
        5 => again::<sync::Change, Change>(bytes),
        6 => again::<sync::Row, Row>(bytes),
        7 => again::<sync::Event, Event>(bytes),
        8 => again::<sync::Drain, Drain>(bytes),
        9 => again::<sync::Lsn, Lsn>(bytes),
        10 => again::<session::Session, Session>(bytes),
        11 => again::<session::StartParams, StartParams>(bytes),
        12 => again::<session::Ended, Ended>(bytes),
        13 => again::<session::Limits, Limits>(bytes),
        14 => again::<session::Standing, Standing>(bytes),
        15 => again::<session::Fence, Fence>(bytes),
        16 => again::<session::Epoch, Epoch>(bytes),
        17 => again::<session::Viewer, Viewer>(bytes),
        _ => drop(vsm_agent::fuzzing::asked_of_agent(bytes.len().to_le_bytes()[0], bytes)),
    }
}

/// A message that makes sense has one meaning, which goes through bytes and comes back.
fn again<M, T>(bytes: &[u8])
where
    M: Message + Default + for<'a> From<&'a T>,
    T: TryFrom<M, Error: Debug> + PartialEq + Debug,
{
    let Ok(message) = M::decode(bytes) else { return };
    let Ok(value) = T::try_from(message) else { return };
    let told = M::from(&value).encode_to_vec();
    let heard = M::decode(told.as_slice()).expect("what was written can be read");
    assert_eq!(T::try_from(heard).expect("what was said is understood"), value);
}
