//! What leaves a node, and in which order: persist, then promise. Whatever depends on a write waits here until the
//! shell says that the write is durable. The active node alone sends a change while it is still being written here, as
//! it answers only when both are durable.

use std::{collections::VecDeque, mem};

use super::{
    disk::Write,
    event::{Action, Token},
    message::PeerMsg,
};
use crate::{Epoch, Lsn};

/// What waits for a write.
pub(super) enum Held {
    Send(PeerMsg),
    PeerOff,
    Claim(Epoch),
    OwnVote(u64),
    Clear(Lsn),
}

/// The write that is being put together, what waits for it and for those before it, and what is to be done now.
#[derive(Default)]
pub(super) struct Outbox {
    actions: Vec<Action>,
    write: Write,
    /// The last write that was handed over.
    handed: Token,
    /// The last one that is durable.
    durable: Token,
    held: VecDeque<(Token, Held)>,
}

impl Outbox {
    /// To be done now.
    pub(super) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Part of the next write.
    pub(super) const fn writing(&mut self) -> &mut Write {
        &mut self.write
    }

    /// The write that is being put together, or the last one.
    pub(super) fn token(&self) -> Token {
        if self.write.is_empty() { self.handed } else { Token(self.handed.0 + 1) }
    }

    /// Keeps this until the write that is being put together, and all before it, are durable.
    pub(super) fn after_write(&mut self, held: Held) {
        self.keep_until(self.token(), held);
    }

    /// Keeps this until this write is durable.
    pub(super) fn keep_until(&mut self, token: Token, held: Held) {
        self.held.push_back((token, held));
    }

    /// Hands the write over. A write that depends on the order with one before it must be flushed apart.
    pub(super) fn flush(&mut self) {
        if !self.write.is_empty() {
            self.handed.0 += 1;
            let write = mem::take(&mut self.write);
            self.actions.push(Action::Store(self.handed, write));
        }
    }

    /// All writes up to this one are durable.
    pub(super) fn stored(&mut self, token: Token) {
        self.durable = token.max(self.durable);
    }

    pub(super) fn is_durable(&self, token: Token) -> bool {
        token <= self.durable
    }

    /// The next that need not wait any longer.
    pub(super) fn due(&mut self) -> Option<Held> {
        let (token, _) = self.held.front()?;
        if self.is_durable(*token) { self.held.pop_front().map(|(_, held)| held) } else { None }
    }

    /// A reign or a claim is over: drops the own votes and the words to the witnesses that still wait.
    pub(super) fn forget_reign(&mut self) {
        self.held.retain(|(_, held)| !matches!(held, Held::OwnVote(_) | Held::Clear(_)));
    }

    pub(super) fn waits(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes what is to be done, in order.
    pub(super) fn take(&mut self) -> Vec<Action> {
        mem::take(&mut self.actions)
    }
}
