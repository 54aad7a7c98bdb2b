//! Why the stream between the brokers is not open.

use std::time::Duration;

use vsm_core::{Epoch, LineageId, NodeName};
use vsm_proto::{
    convert::Invalid,
    sync::v1::{Goodbye, GoodbyeCause},
};

/// Why a stream ended, or did not come to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamEnd {
    /// None has been opened yet.
    #[error("not opened yet")]
    NotOpened,
    /// This process ends.
    #[error("this broker is stopping")]
    Stopping,
    /// Both sides introduce themselves again.
    #[error("it is opened anew, or this broker is stopping")]
    Anew,
    /// The other side ended it without a word.
    #[error("the other broker closed the stream")]
    Closed,
    /// Nothing came for longer than a stream may be silent.
    #[error("it was silent for {} ms", .0.as_millis())]
    Silent(Duration),
    /// The other side did not take the call in time.
    #[error("no answer to the call")]
    NoAnswer,
    /// The connection failed; the words are those of gRPC.
    #[error("{0}")]
    Failed(String),
    /// What has to be sent finds no room, or this side's table has ended.
    #[error("too much waited to be sent, or the table cannot be written")]
    Behind,
    /// A frame that no broker sends.
    #[error("it cannot be understood: {0}")]
    Garbled(#[from] Garbled),
    /// This side turned the other one away.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The other side turned this one away.
    #[error("{reason}")]
    TurnedAway {
        /// In its words.
        reason: String,
        /// Whether it is since both have a table of their own.
        apart: bool,
    },
}

impl StreamEnd {
    /// Whether both nodes have a table with a past of its own, so that one has to make room.
    #[must_use]
    pub const fn is_apart(&self) -> bool {
        matches!(self, Self::Refused(Refused::Apart { .. }) | Self::TurnedAway { apart: true, .. })
    }

    /// The last words to the other side.
    pub(super) fn goodbye(&self) -> Goodbye {
        let cause = if self.is_apart() { GoodbyeCause::Apart } else { GoodbyeCause::Unspecified };
        Goodbye { reason: self.to_string(), cause: cause.into() }
    }
}

impl From<Goodbye> for StreamEnd {
    fn from(goodbye: Goodbye) -> Self {
        let apart = goodbye.cause() == GoodbyeCause::Apart;
        Self::TurnedAway { reason: goodbye.reason, apart }
    }
}

/// What is wrong with a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Garbled {
    /// It is too large, or none.
    #[error("{0}")]
    Frame(String),
    /// Parts of more bytes than any message has.
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
    /// Bytes that are no message.
    #[error("{0}")]
    NoMessage(String),
    /// A message that cannot be what it says.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// An introduction after the first one.
    #[error("a second introduction")]
    Introduction,
    /// An epoch that no pair reaches.
    #[error("{0} is an epoch beyond all reason")]
    Epoch(Epoch),
}

/// Why a broker is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is neither of the two nodes, or this one.
    #[error("{name} is not {peer}, the other node of this pair")]
    Stranger {
        /// Who it says that it is, made printable.
        name: String,
        /// Who it should be.
        peer: NodeName,
    },
    /// Nothing came in the time for an introduction.
    #[error("it did not introduce itself")]
    Mute,
    /// Something else came first.
    #[error("its first frame is no introduction")]
    NoIntroduction,
    /// A version of 0.
    #[error("it speaks no version of this protocol")]
    NoVersion,
    /// More parameters than there are.
    #[error("its configuration has no end")]
    Endless,
    /// The lineage of its table is none.
    #[error("{0:?} is no lineage")]
    NoLineage(String),
    /// Its table was to be taken up, and this one has got sessions meanwhile.
    #[error("this table is not empty any more")]
    NotEmpty,
    /// Two tables with pasts of their own.
    #[error(
        "{peer} has a table of its own (lineage {theirs}, ours {ours}): both were brokers apart. Stop the one whose table \
         is to go and move its state directory away; its sessions come back from the agents"
    )]
    Apart {
        /// The other node.
        peer: NodeName,
        /// The lineage of its table.
        theirs: LineageId,
        /// The lineage of ours.
        ours: LineageId,
    },
}
