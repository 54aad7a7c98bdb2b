//! What an active node knows: of its reign, of the peer that follows it, and of the witnesses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    ledger::Ledger,
    mutant::{self, Mutant},
    tick::Tick,
};
use crate::{AgentName, Change, Epoch, Key, Lsn, Table};

/// After so many time-outs without a second vote there is none.
const VOTED_TIMEOUTS: u64 = 4;

/// Which vote is the second while this node is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second {
    /// The peer, which has everything.
    Peer,
    /// The peer, which is expected to have everything soon; no more is sent to the witnesses.
    PeerSoon,
    /// The witnesses.
    Witnesses,
}

/// A reign.
pub(super) struct Active {
    pub(super) epoch: Epoch,
    /// Number of the entry that began it. Once that is committed, so is all before.
    pub(super) began: u64,
    /// The table with all that is under way.
    pub(super) working: Table,
    /// Numbers of what was proposed, each with whom to answer.
    pub(super) pending: VecDeque<(u64, u64)>,
    /// Up to here everything is durable on this node, as far as this reign has seen.
    pub(super) own: u64,
    pub(super) follower: Follower,
    pub(super) solo: Solo,
    pub(super) voices: Voices,
    /// A peer that has no table may be taken in: no reign that it forgot can have followed this one.
    pub(super) vouched: bool,
    /// When a second vote was last heard.
    pub(super) voted: Tick,
    pub(super) voted_limit_ms: u64,
    /// Stepping down in good order until this moment at the latest.
    pub(super) leaving: Option<Tick>,
}

/// How far the peer has come.
#[derive(Default)]
pub(super) struct Follower {
    /// Its log is known to join on to ours up to `sent`.
    pub(super) matched: bool,
    pub(super) sent: u64,
    pub(super) acked: u64,
    /// Since when an answer is due.
    pub(super) waiting: Option<Tick>,
    /// From here on the next sign of life is counted.
    pub(super) beat: Tick,
}

/// What the witnesses are to keep while the peer is away.
pub(super) struct Solo {
    pub(super) second: Second,
    /// A position that both brokers have.
    pub(super) base: Lsn,
    /// What changed since.
    pub(super) keys: BTreeSet<Key>,
    /// Up to here something was sent to a witness.
    pub(super) sent: u64,
    pub(super) witnesses: BTreeMap<AgentName, Kept>,
}

/// What one witness keeps.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) sent: Option<Lsn>,
    pub(super) acked: u64,
    pub(super) asked: Tick,
    pub(super) heard: Tick,
}

/// Why the active node does not count on a witness' vote yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    /// It was last asked at this moment, if ever, and has not answered.
    Unknown { asked: Option<Tick> },
    /// It lost something.
    Mute {
        loss: u64,
        /// Made up for when the peer has answered this round.
        round: u64,
        /// So far this reign had come when it told that.
        last: u64,
        /// When it was told so last.
        told: Option<Tick>,
    },
}

/// What is known of all of them, and the rounds of questions to the peer.
#[derive(Debug, Default)]
pub(super) struct Voices {
    /// They vote: nothing is to be done about them.
    voting: BTreeSet<AgentName>,
    /// All others that were heard of.
    others: BTreeMap<AgentName, Voice>,
    /// Nothing is to be done about the others before: a thousand that do not answer are not looked through at each
    /// event.
    pub(super) due: Tick,
    /// Goes along with what is sent to the peer.
    pub(super) round: u64,
    /// The highest round that came back.
    pub(super) answered: u64,
}

impl Active {
    /// A reign over what this node holds, which has changed nothing yet.
    pub(super) fn new(
        epoch: Epoch,
        ledger: &Ledger,
        solo: Solo,
        vouched: bool,
        now: Tick,
        timeout_ms: u64,
    ) -> Self {
        let mut working = ledger.table.clone();
        for entry in ledger.log.after(ledger.commit) {
            working.apply(&entry.change);
        }
        let by_counting = mutant::on(Mutant::CommitOlderByCounting);
        Self {
            epoch,
            began: ledger.log.last().seq + u64::from(!by_counting),
            working,
            pending: VecDeque::new(),
            own: 0,
            follower: Follower { beat: now, ..Follower::default() },
            solo,
            voices: Voices::default(),
            vouched,
            voted: now,
            voted_limit_ms: timeout_ms * VOTED_TIMEOUTS,
            leaving: None,
        }
    }

    /// Whether a second vote was heard lately.
    pub(super) fn has_votes(&self, now: Tick) -> bool {
        now < self.voted + self.voted_limit_ms
    }

    /// Whether the peer has everything, and is the second vote.
    pub(super) fn is_synced(&self) -> bool {
        self.follower.matched && self.solo.is_over()
    }

    /// Up to here both brokers have everything.
    pub(super) fn on_both(&self) -> u64 {
        self.own.min(self.follower.acked)
    }
}

impl Follower {
    /// What it said before may be lost: it is asked anew what it holds.
    pub(super) fn forgotten(&self) -> Self {
        Self { beat: self.beat, ..Self::default() }
    }

    /// Everything up to this number was sent, on a log that joins on.
    pub(super) const fn expect(&mut self, sent: u64, now: Tick) {
        self.matched = true;
        self.sent = sent;
        self.waiting = Some(now);
    }
}

impl Solo {
    pub(super) const fn new(base: Lsn, keys: BTreeSet<Key>, link: bool) -> Self {
        // Whatever the witnesses keep of earlier reigns is cleared when the peer has everything.
        let second = if link { Second::PeerSoon } else { Second::Witnesses };
        Self { second, base, keys, sent: 0, witnesses: BTreeMap::new() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.second == Second::Peer
    }

    pub(super) fn changed(&mut self, change: &Change) {
        self.keys.extend(change.key());
    }

    /// How far this witness keeps everything.
    pub(super) fn kept_by(&self, agent: &AgentName) -> u64 {
        self.witnesses.get(agent).map_or(0, |kept| kept.acked)
    }
}

impl Voices {
    pub(super) fn answered(&mut self, round: u64) {
        self.answered = self.answered.max(round);
    }

    /// It votes.
    pub(super) fn votes(&mut self, agent: &AgentName) {
        self.others.remove(agent);
        self.voting.insert(agent.clone());
    }

    /// It does not vote yet.
    pub(super) fn set(&mut self, agent: &AgentName, voice: Voice) {
        self.voting.remove(agent);
        self.others.insert(agent.clone(), voice);
        self.due = Tick(0);
    }

    /// To be asked, unless something is known of it.
    pub(super) fn ask_new(&mut self, agent: &AgentName) {
        if !self.voting.contains(agent) && !self.others.contains_key(agent) {
            self.set(agent, Voice::Unknown { asked: None });
        }
    }

    /// Why this one does not vote yet, if it was heard of.
    pub(super) fn other(&self, agent: &AgentName) -> Option<&Voice> {
        self.others.get(agent)
    }

    /// Those that do not vote yet.
    pub(super) fn others(&mut self) -> impl Iterator<Item = (&AgentName, &mut Voice)> {
        self.others.iter_mut()
    }

    /// Those that are known to be mute.
    pub(super) fn mute(&self) -> impl Iterator<Item = &AgentName> {
        let is_mute = |(_, voice): &(&AgentName, &Voice)| matches!(voice, Voice::Mute { .. });
        self.others.iter().filter(is_mute).map(|(name, _)| name)
    }
}
