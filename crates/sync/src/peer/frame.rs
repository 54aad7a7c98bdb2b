//! Messages to frames and back: small ones whole, large ones in parts.

use prost::Message;
use vsm_core::{
    Epoch,
    replica::{PeerMsg, Supply},
};
use vsm_proto::{
    codec,
    sync::v1::{Part, PeerFrame, PeerMessage, peer_frame::Kind},
};

use super::Garbled;

/// A larger message goes in parts of this size.
pub(super) const PART: usize = 256 << 10;

pub(super) fn frame(kind: Kind) -> PeerFrame {
    PeerFrame { kind: Some(kind) }
}

/// Whether a message may take long to send, or to take in.
pub(super) const fn is_large(message: &PeerMsg) -> bool {
    matches!(
        message,
        PeerMsg::Snapshot { .. }
            | PeerMsg::Promise { supply: Supply::Image(_) | Supply::Entries { .. }, .. }
    )
}

/// The highest epoch that a message may have its receiver follow.
pub(super) fn epoch(message: &PeerMsg) -> Option<&Epoch> {
    match message {
        PeerMsg::Hello(hello) => {
            Some(hello.active.as_ref().unwrap_or(&hello.promised).max(&hello.promised))
        }
        PeerMsg::Claim { epoch, .. }
        | PeerMsg::Promise { epoch, .. }
        | PeerMsg::Yield { epoch }
        | PeerMsg::Append { epoch, .. }
        | PeerMsg::Snapshot { epoch, .. }
        | PeerMsg::Ack { epoch, .. }
        | PeerMsg::Behind { epoch, .. } => Some(epoch),
        PeerMsg::Stale { promised } => Some(promised),
        PeerMsg::Wish { .. } => None,
    }
}

/// The frames of a message.
pub(super) fn frames(message: &PeerMsg) -> Vec<PeerFrame> {
    let message = PeerMessage::from(message);
    if message.encoded_len() <= PART {
        return vec![frame(Kind::Message(message))];
    }
    let data = message.encode_to_vec();
    let parts = data.chunks(PART).count();
    let part = |(index, chunk): (usize, &[u8])| {
        frame(Kind::Part(Part { data: chunk.to_vec(), last: index + 1 == parts }))
    };
    data.chunks(PART).enumerate().map(part).collect()
}

/// Puts parts together.
#[derive(Debug)]
pub(super) struct Parts {
    data: Vec<u8>,
    max: usize,
}

impl Parts {
    /// No part yet of a message of at most `max` bytes.
    pub(super) const fn new(max: usize) -> Self {
        Self { data: Vec::new(), max }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Adds a part; all of them when it was the last.
    ///
    /// # Errors
    /// If they are larger than any message.
    pub(super) fn add(&mut self, part: &Part) -> Result<Option<Vec<u8>>, Garbled> {
        if self.data.len() + part.data.len() > self.max {
            return Err(Garbled::TooLarge(self.max));
        }
        self.data.extend_from_slice(&part.data);
        Ok(part.last.then(|| std::mem::take(&mut self.data)))
    }
}

/// A message that was put together.
pub(super) fn decode(data: &[u8]) -> Result<PeerMsg, Garbled> {
    let message: PeerMessage =
        codec::read(data).map_err(|error| Garbled::NoMessage(error.to_string()))?;
    Ok(PeerMsg::try_from(message)?)
}
