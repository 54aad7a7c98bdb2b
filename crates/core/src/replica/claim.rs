//! Becoming active: asking for votes, giving them, and learning what the voters hold.

use std::{cmp::Ordering, collections::BTreeMap};

use super::{
    disk::Mark,
    event::Config,
    ledger::{goes_further, outranks},
    log,
    message::{Holds, PeerMsg, Supply, Window, WitnessMsg, WitnessReply},
    mutant::{self, Mutant},
    node::Replica,
    outbox::Held,
    reign::{Active, Solo},
    role::{Asked, Claim, Role},
    tick::Tick,
};
use crate::{AgentName, Change, Epoch};

/// After so many signs of life that did not come the active node is taken for gone by one that is wanted.
pub(super) const BEATS: u64 = 3;

impl Replica {
    /// A standby that is wanted asks its active peer to step down, or claims where there is none.
    pub(super) fn consider_claim(&mut self) {
        let Role::Standby { leader, heard } = &self.role else { return };
        let Config { heartbeat_ms, node, .. } = &self.config;
        let by_name = mutant::on(Mutant::NameDecides) && node.as_str() > "a";
        let patience = if by_name { *heartbeat_ms } else { 0 };
        if self.now < self.candidacy.not_before + patience {
            return;
        }
        let is_near = self.now < *heard + heartbeat_ms * BEATS;
        let alive = leader.is_some() && self.peer.is_up && is_near;
        if !alive {
            self.candidacy.take_back();
        }
        if !self.candidacy.want {
            return;
        }
        if alive {
            self.candidacy.not_before = self.now + self.config.heartbeat_ms;
            self.send(PeerMsg::Wish { planned: false });
        } else {
            self.seek_reign();
        }
    }

    /// An administrator wants this node to be active, and an active peer to hand over.
    pub(super) fn take_over(&mut self) {
        self.candidacy.want = true;
        self.candidacy.relieved = false;
        self.candidacy.forced = true;
        self.candidacy.not_before = Tick::default();
        if matches!(self.role, Role::Standby { leader: Some(_), .. }) && self.peer.is_up {
            self.candidacy.not_before = self.now + self.config.ack_timeout_ms;
            self.send(PeerMsg::Wish { planned: true });
        }
    }

    /// The active peer has stepped down.
    pub(super) fn on_yield(&mut self, epoch: &Epoch) {
        self.candidacy.see(epoch);
        if let Role::Standby { leader, .. } = &mut self.role {
            *leader = None;
            self.candidacy.not_before = Tick::default();
        }
    }

    pub(super) fn begin_claim(&mut self) {
        let at_once = self.peer.blank && self.ledger.is_paired();
        let at_once = at_once || matches!(self.role, Role::Standby { leader: Some(_), .. });
        let nonce = u32::try_from(self.candidacy.draw() >> 32).unwrap_or(0);
        let nonce = if mutant::on(Mutant::NonceOmitted) { 0 } else { nonce };
        let above = self.candidacy.seen.clone().max(self.ledger.promised.clone());
        let epoch = above.next(self.config.node.clone(), nonce);
        self.candidacy.see(&epoch);
        if mutant::on(Mutant::EpochReused) {
            self.ledger.promised = epoch.clone();
        } else {
            self.ledger.promise(&mut self.outbox, epoch.clone());
        }
        // Nobody is asked by an epoch before it is durable.
        self.outbox.after_write(Held::Claim(epoch.clone()));
        self.role = Role::Claiming(Box::new(Claim {
            epoch,
            asked: Asked::Nobody,
            at_once,
            until: self.now,
            knew_blank: self.peer.blank,
            peer: None,
            witnesses: BTreeMap::new(),
        }));
    }

    /// The claim is durable: asks the peer, and where that is away the witnesses.
    pub(super) fn ask_for_votes(&mut self, epoch: &Epoch) {
        let Some(claim) = self.role.claim_mut().filter(|claim| claim.epoch == *epoch) else {
            return;
        };
        claim.until = self.now + self.config.ack_timeout_ms;
        claim.asked = Asked::Peer;
        let at_once = claim.at_once;
        if self.config.alone || self.peer.counts_as_off() || mutant::on(Mutant::PromoteOnAddress) {
            return self.become_active(false);
        }
        if self.peer.is_up {
            let (epoch, holds) = (epoch.clone(), self.ledger.holds());
            self.send(PeerMsg::Claim { epoch, holds });
        }
        if !self.peer.is_up || at_once {
            self.ask_witnesses();
        }
    }

    /// The peer will not answer: the witnesses are asked at once.
    pub(super) fn claim_without_peer(&mut self) {
        let Some(claim) = self.role.claim_mut() else { return };
        // Before the claim is durable this is only noted.
        claim.at_once = true;
        if claim.asked == Asked::Peer {
            self.ask_witnesses();
        }
    }

    fn ask_witnesses(&mut self) {
        let (agents, timeout_ms) = (self.ledger.all_witnesses(), self.config.ack_timeout_ms);
        let Some(claim) = self.role.claim_mut() else { return };
        claim.asked = Asked::Witnesses;
        // What a witness keeps for a peer that was away for long takes longer to send than one time-out. Asked again
        // and again with the same patience, it would never be had.
        let patience =
            if agents.is_empty() { timeout_ms } else { self.candidacy.patience(timeout_ms) };
        claim.until = self.now + patience;
        let epoch = claim.epoch.clone();
        let life = self.ledger.log.life().cloned();
        for agent in agents {
            let (epoch, life) = (epoch.clone(), life.clone());
            self.ask_witness(agent, WitnessMsg::Claim { epoch, life });
        }
    }

    /// No answer in time: the peer first, then the witnesses, then a pause. Nobody is asked by a claim that is not
    /// durable, however long that takes.
    pub(super) fn claim_time(&mut self) {
        let Role::Claiming(claim) = &self.role else { return };
        match claim.asked {
            Asked::Peer if self.now >= claim.until => self.ask_witnesses(),
            Asked::Witnesses if self.now >= claim.until => {
                self.step_down(None);
                self.back_off();
            }
            Asked::Nobody | Asked::Peer | Asked::Witnesses => {}
        }
    }

    /// The peer is at something that takes long: what it was asked is waited for.
    pub(super) fn on_busy(&mut self) {
        let (now, timeout) = (self.now, self.config.ack_timeout_ms);
        match &mut self.role {
            Role::Standby { heard, .. } => *heard = now,
            Role::Claiming(claim) if claim.asked == Asked::Peer => claim.until = now + timeout,
            Role::Claiming(_) | Role::Probing(_) => {}
            Role::Active(active) => {
                active.follower.waiting = active.follower.waiting.map(|_| now);
            }
        }
    }

    /// The peer asks for our vote.
    pub(super) fn on_claim(&mut self, epoch: Epoch, holds: &Holds) {
        self.candidacy.see(&epoch);
        self.look_at_peer(holds);
        if !outranks(&epoch, &self.ledger.promised) {
            let promised = self.ledger.promised.clone();
            return self.send(PeerMsg::Stale { promised });
        }
        // The witnesses know the peer's life of the table, and ours is over: our vote is that of a blank node.
        let over = self.peer.foreign
            && self.ledger.foreign.is_some()
            && self.ledger.foreign.as_ref() == log::life(&holds.history);
        if self.ledger.joined && self.ledger.is_paired() && self.peer.blank && !over {
            // It has forgotten what it voted for: it cannot be active before it has our table. We can; or the witnesses
            // know better, where one of the two tables is of another life.
            if matches!(self.role, Role::Standby { .. }) && self.now >= self.candidacy.not_before {
                self.begin_claim();
            }
            return;
        }
        // Its supply has all that is under way here, so nothing that was acknowledged is lost, nor what was not.
        self.step_down(None);
        self.ledger.promise(&mut self.outbox, epoch.clone());
        let (holds, supply) = (self.ledger.holds(), self.ledger.supply(holds));
        let promise = PeerMsg::Promise { epoch, holds, supply };
        if mutant::on(Mutant::PromiseBeforeWrite) {
            self.send(promise);
        } else {
            self.outbox.after_write(Held::Send(promise));
        }
        // The claimant has the first word.
        self.candidacy.not_before = self.now + self.config.ack_timeout_ms * 2;
    }

    /// The peer votes for us.
    pub(super) fn on_promise(&mut self, epoch: &Epoch, holds: Holds, supply: Supply) {
        self.look_at_peer(&holds);
        let foreign = self.peer.foreign;
        // Damaged: what does not follow what is here, or would undo what is committed, cannot be learnt.
        if let Supply::Entries { prev, .. } = &supply
            && !foreign
            && !(self.ledger.log.contains(prev) && prev.seq >= self.ledger.commit)
        {
            return;
        }
        let Some(claim) = self.role.claim_mut() else { return };
        if claim.epoch == *epoch {
            // What is of another life of the table says nothing of this one, and whoever holds it forgot its votes in
            // this.
            let holds = if foreign { Holds { joined: false, ..holds } } else { holds };
            let supply = if foreign { Supply::Nothing } else { supply };
            claim.peer = Some((holds, supply));
            self.count_votes();
        }
    }

    /// A witness answers.
    pub(super) fn on_witness(&mut self, agent: &AgentName, reply: WitnessReply) {
        match reply {
            WitnessReply::Refused { promised } => self.on_higher(&promised),
            WitnessReply::Mute { loss } => self.on_mute(agent, loss),
            WitnessReply::Free { promised } => self.on_free(agent, &promised),
            // Our table was put back from a copy, or the witness is still to be told of a new life. Only the peer
            // helps.
            WitnessReply::Foreign { life } if matches!(self.role, Role::Claiming(_)) => {
                self.ledger.foreign = Some(life);
            }
            // Late: that claim is over.
            WitnessReply::Foreign { .. } => {}
            // Nothing but time helps.
            WitnessReply::Held { .. } => {}
            WitnessReply::Promised { epoch, window } => {
                let is_witness = self.ledger.rosters().iter().any(|roster| roster.contains(agent));
                let Some(claim) = self.role.claim_mut() else { return };
                if claim.epoch == epoch && is_witness {
                    claim.witnesses.insert(agent.clone(), window);
                    self.count_votes();
                }
            }
            WitnessReply::Accepted { epoch, last } => {
                self.on_kept(agent, &epoch, last.seq);
                self.on_accepted(agent, &epoch, &last);
            }
            WitnessReply::Gap { epoch } => self.on_gap(agent, &epoch),
            WitnessReply::Cleared { epoch } => self.on_cleared(agent, &epoch),
        }
    }

    /// Two votes of three: ours and the peer's, or ours and most of the witnesses'.
    fn count_votes(&mut self) {
        let Role::Claiming(claim) = &self.role else { return };
        let by_witnesses = if mutant::on(Mutant::OneWitness) {
            !claim.witnesses.is_empty()
        } else {
            self.ledger.most(|agent| claim.witnesses.contains_key(agent))
        };
        let by_peer =
            claim.peer.as_ref().is_some_and(|(peer, _)| match (self.ledger.joined, peer.joined) {
                _ if mutant::on(Mutant::BlankVotes) => true,
                (true, true) | (false, false) => true,
                // One of us has forgotten what it voted for. That matters unless there never was anything to vote for,
                // or nobody but us two to vote: then whatever was committed is here.
                (true, false) => !self.ledger.is_paired() || !self.ledger.has_witnesses(),
                (false, true) => !peer.paired,
            });
        if by_peer || (by_witnesses && self.ledger.joined) {
            self.become_active(by_witnesses && claim.knew_blank);
        }
    }

    /// Takes the log with the highest last position among the voters, and begins the reign.
    pub(super) fn become_active(&mut self, vouched: bool) {
        let standby = Role::standby(None, self.now);
        let Role::Claiming(claim) = std::mem::replace(&mut self.role, standby) else { return };
        let Claim { epoch, peer, witnesses, .. } = *claim;
        // One that is linked and silent is soon found to be away; the witnesses are there now.
        let near = self.peer.is_up && peer.is_some();
        // A pair that is being formed has nothing that anybody could have forgotten.
        let vouched = vouched || !self.ledger.is_paired() || !self.ledger.has_witnesses();
        if let Some((holds, supply)) = peer
            && (!self.ledger.joined || goes_further(&holds.last, self.ledger.log.last()))
            && !mutant::on(Mutant::PeerNotHeard)
        {
            self.ledger.learn(&mut self.outbox, supply);
        }
        let further = |a: &&Window, b: &&Window| {
            if goes_further(&a.last, &b.last) { Ordering::Greater } else { Ordering::Less }
        };
        if let Some(best) = witnesses.values().flatten().max_by(further)
            && goes_further(&best.last, self.ledger.log.last())
            && !mutant::on(Mutant::WitnessesNotHeard)
            && !self.ledger.learn_window(&mut self.outbox, best)
        {
            return self.back_off();
        }
        let solo = match self.ledger.mark.clone() {
            Some(Mark { base, mut keys }) => {
                keys.extend(self.ledger.keys_after(base.seq));
                Solo::new(base, keys, near)
            }
            // What is committed here while there is no window is at the peer too.
            None => {
                let keys = self.ledger.keys_after(self.ledger.commit);
                Solo::new(self.ledger.committed(), keys, near)
            }
        };
        self.candidacy.attempts = 0;
        // Enough voters know this life.
        self.ledger.foreign = None;
        self.is_whole();
        let timeout_ms = self.config.ack_timeout_ms;
        let active = Active::new(epoch, &self.ledger, solo, vouched, self.now, timeout_ms);
        self.role = Role::Active(Box::new(active));
        self.begin_reign();
    }

    /// The changes with which a reign begins.
    pub(super) fn first_changes(&self) -> Vec<Change> {
        let mut changes = vec![Change::Began { pair: !self.config.alone }];
        if mutant::on(Mutant::RosterFirst) && self.ledger.rosters().is_empty() && !self.config.alone
        {
            changes.push(self.first_roster());
        }
        changes
    }

    fn first_roster(&self) -> Change {
        Change::Roster(self.config.witnesses.clone().into())
    }

    /// The pair is formed once both brokers have the table: only then are the witnesses named. Named before, they could
    /// not vote yet, and a node that is interrupted in between could do nothing without a vote that nobody can give.
    pub(super) fn form_pair(&mut self) {
        let forming = self.ledger.rosters().is_empty() && !self.config.alone;
        let commit = self.ledger.commit;
        if forming
            && self.active().is_some_and(|active| active.is_synced() && commit >= active.began)
        {
            let roster = self.first_roster();
            if let Some(active) = self.active() {
                active.working.apply(&roster);
            }
            self.extend(vec![roster]);
        }
    }
}
