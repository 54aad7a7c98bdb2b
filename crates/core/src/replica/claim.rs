//! Becoming active: asking for votes, giving them, and learning what the voters hold.

use std::collections::BTreeMap;

use super::{
    active::Active,
    disk::Mark,
    message::{Holds, PeerMsg, Supply, Window, WitnessMsg, WitnessReply},
    mutant::{self, Mutant},
    node::{Held, Replica, Role},
    solo::Solo,
    store::goes_further,
};
use crate::{AgentName, Change, Epoch};

/// After so many signs of life that did not come the active node is taken for gone by one that is wanted.
pub(super) const BEATS: u64 = 3;

/// A claim under way.
pub(super) struct Claim {
    pub(super) epoch: Epoch,
    /// It is durable.
    asked: bool,
    asked_witnesses: bool,
    /// The peer was silent when the claim began: the witnesses are asked at once.
    at_once: bool,
    until_ms: u64,
    /// It was known when the claim began that the peer has forgotten its promises.
    knew_blank: bool,
    peer: Option<(Holds, Supply)>,
    witnesses: BTreeMap<AgentName, Option<Window>>,
}

impl Replica {
    /// A standby that is wanted asks its active peer to step down, or claims where there is none.
    pub(super) fn consider_claim(&mut self) {
        let Role::Standby { leader, heard_ms } = &self.role else { return };
        let by_name = mutant::on(Mutant::NameDecides) && self.config.node.as_str() > "a";
        let patience = if by_name { self.config.heartbeat_ms } else { 0 };
        if self.now < self.hold_off_ms + patience {
            return;
        }
        let alive =
            leader.is_some() && self.link && self.now < heard_ms + self.config.heartbeat_ms * BEATS;
        if self.relieved && !alive {
            // The one that it handed over to did not take it, or is gone.
            (self.relieved, self.want) = (false, true);
        }
        if !self.want {
            return;
        }
        if alive {
            self.hold_off_ms = self.now + self.config.heartbeat_ms;
            self.send(PeerMsg::Wish { planned: false });
        } else {
            self.seek_reign();
        }
    }

    /// An administrator wants this node to be active, and an active peer to hand over.
    pub(super) fn take_over(&mut self) {
        self.want = true;
        self.relieved = false;
        self.forced = true;
        self.hold_off_ms = 0;
        if matches!(self.role, Role::Standby { leader: Some(_), .. }) && self.link {
            self.hold_off_ms = self.now + self.config.ack_timeout_ms;
            self.send(PeerMsg::Wish { planned: true });
        }
    }

    /// The active peer has stepped down.
    pub(super) fn on_yield(&mut self, epoch: &Epoch) {
        self.see(epoch);
        if let Role::Standby { leader, .. } = &mut self.role {
            *leader = None;
            self.hold_off_ms = 0;
        }
    }

    pub(super) fn begin_claim(&mut self) {
        let at_once = self.peer_blank && self.holds().paired;
        let at_once = at_once || matches!(self.role, Role::Standby { leader: Some(_), .. });
        let nonce = u32::try_from(self.draw() >> 32).unwrap_or(0);
        let nonce = if mutant::on(Mutant::NonceOmitted) { 0 } else { nonce };
        let above = self.seen.clone().max(self.promised.clone());
        let epoch = above.next(self.config.node.clone(), nonce);
        self.see(&epoch);
        self.promised = epoch.clone();
        if !mutant::on(Mutant::EpochReused) {
            self.writing().promised = Some(epoch.clone());
        }
        // Nobody hears of an epoch before it is durable.
        self.after_write(Held::Claim(epoch.clone()));
        let until_ms = self.now + self.config.ack_timeout_ms * 2;
        self.role = Role::Claiming(Box::new(Claim {
            epoch,
            asked: false,
            asked_witnesses: false,
            at_once,
            until_ms,
            knew_blank: self.peer_blank,
            peer: None,
            witnesses: BTreeMap::new(),
        }));
    }

    /// The claim is durable: asks the peer, and where that is away the witnesses.
    pub(super) fn ask_for_votes(&mut self, epoch: &Epoch) {
        let Role::Claiming(claim) = &mut self.role else { return };
        if claim.epoch != *epoch {
            return;
        }
        claim.until_ms = self.now + self.config.ack_timeout_ms;
        claim.asked = true;
        if self.config.alone || self.off.counts || mutant::on(Mutant::PromoteOnAddress) {
            return self.become_active(false);
        }
        if self.link {
            let (epoch, holds) = (epoch.clone(), self.holds());
            self.send(PeerMsg::Claim { epoch, holds });
        }
        let Role::Claiming(claim) = &self.role else { return };
        if !self.link || claim.at_once {
            self.ask_witnesses();
        }
    }

    /// The peer will not answer: the witnesses are asked at once.
    pub(super) fn claim_without_peer(&mut self) {
        if let Role::Claiming(claim) = &mut self.role
            && !claim.asked_witnesses
        {
            // Before the claim is durable this is only noted.
            claim.at_once = true;
            if claim.asked {
                self.ask_witnesses();
            }
        }
    }

    fn ask_witnesses(&mut self) {
        let Role::Claiming(claim) = &mut self.role else { return };
        claim.asked_witnesses = true;
        claim.until_ms = self.now + self.config.ack_timeout_ms;
        let epoch = claim.epoch.clone();
        let life = self.log.life().cloned();
        for agent in self.all_witnesses() {
            let (epoch, life) = (epoch.clone(), life.clone());
            self.ask_witness(agent, WitnessMsg::Claim { epoch, life });
        }
    }

    /// No answer in time: the peer first, then the witnesses, then a pause.
    pub(super) fn claim_time(&mut self) {
        let Role::Claiming(claim) = &self.role else { return };
        if self.now < claim.until_ms {
            return;
        }
        if claim.asked_witnesses {
            self.step_down(None);
            self.back_off();
        } else {
            self.ask_witnesses();
        }
    }

    /// The peer is at something that takes long: what it was asked is waited for.
    pub(super) fn on_busy(&mut self) {
        let (now, timeout) = (self.now, self.config.ack_timeout_ms);
        match &mut self.role {
            Role::Standby { heard_ms, .. } => *heard_ms = now,
            Role::Claiming(claim) if !claim.asked_witnesses => claim.until_ms = now + timeout,
            Role::Claiming(_) | Role::Probing(_) => {}
            Role::Active(active) => {
                active.peer.waiting_ms = active.peer.waiting_ms.map(|_| now);
            }
        }
    }

    /// The peer asks for our vote.
    pub(super) fn on_claim(&mut self, epoch: Epoch, holds: &Holds) {
        self.see(&epoch);
        self.look_at_peer(holds);
        if !outranks(&epoch, &self.promised) {
            let promised = self.promised.clone();
            return self.send(PeerMsg::Stale { promised });
        }
        // The witnesses know the peer's life of the table, and ours is over: our vote is that of a blank node.
        let over = self.peer_foreign
            && self.foreign.is_some()
            && self.foreign.as_ref() == super::log::life(&holds.history);
        if self.joined && self.holds().paired && self.peer_blank && !over {
            // It has forgotten what it voted for: it cannot be active before it has our table. We can; or the witnesses
            // know better, where one of the two tables is of another life.
            if matches!(self.role, Role::Standby { .. }) && self.now >= self.hold_off_ms {
                self.begin_claim();
            }
            return;
        }
        // Its supply has all that is under way here, so nothing that was acknowledged is lost, nor what was not.
        self.step_down(None);
        self.promised = epoch.clone();
        self.writing().promised = Some(epoch.clone());
        let (holds, supply) = (self.holds(), self.supply(holds));
        let promise = PeerMsg::Promise { epoch, holds, supply };
        if mutant::on(Mutant::PromiseBeforeWrite) {
            self.send(promise);
        } else {
            self.after_write(Held::Send(promise));
        }
        // The claimant has the first word.
        self.hold_off_ms = self.now + self.config.ack_timeout_ms * 2;
    }

    /// The peer votes for us.
    pub(super) fn on_promise(&mut self, epoch: &Epoch, holds: Holds, supply: Supply) {
        self.look_at_peer(&holds);
        let foreign = self.peer_foreign;
        // Damaged: what does not follow what is here, or would undo what is committed, cannot be learnt.
        if let Supply::Entries { prev, .. } = &supply
            && !foreign
            && !(self.log.contains(prev) && prev.seq >= self.commit)
        {
            return;
        }
        let Role::Claiming(claim) = &mut self.role else { return };
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
                self.foreign = Some(life);
            }
            // Late: that claim is over.
            WitnessReply::Foreign { .. } => {}
            // Nothing but time helps.
            WitnessReply::Held { .. } => {}
            WitnessReply::Promised { epoch, window } => {
                let is_witness = self.rosters().iter().any(|roster| roster.contains(agent));
                let Role::Claiming(claim) = &mut self.role else { return };
                if claim.epoch == epoch && is_witness {
                    claim.witnesses.insert(agent.clone(), window);
                    self.count_votes();
                }
            }
            WitnessReply::Accepted { epoch, last } => {
                self.on_voting(agent);
                self.on_accepted(agent, &epoch, &last);
            }
            WitnessReply::Gap { epoch } => self.on_gap(agent, &epoch),
            WitnessReply::Cleared { .. } => self.on_voting(agent),
        }
    }

    /// Two votes of three: ours and the peer's, or ours and most of the witnesses'.
    fn count_votes(&mut self) {
        let Role::Claiming(claim) = &self.role else { return };
        let by_witnesses = if mutant::on(Mutant::OneWitness) {
            !claim.witnesses.is_empty()
        } else {
            self.most(|agent| claim.witnesses.contains_key(agent))
        };
        let by_peer =
            claim.peer.as_ref().is_some_and(|(peer, _)| match (self.joined, peer.joined) {
                _ if mutant::on(Mutant::BlankVotes) => true,
                (true, true) | (false, false) => true,
                // One of us has forgotten what it voted for. That matters unless there never was anything to vote for,
                // or nobody but us two to vote: then whatever was committed is here.
                (true, false) => !self.holds().paired || !self.has_witnesses(),
                (false, true) => !peer.paired,
            });
        if by_peer || (by_witnesses && self.joined) {
            self.become_active(by_witnesses && claim.knew_blank);
        }
    }

    /// Takes the log with the highest last position among the voters, and begins the reign.
    pub(super) fn become_active(&mut self, vouched: bool) {
        let standby = Role::Standby { leader: None, heard_ms: self.now };
        let Role::Claiming(claim) = std::mem::replace(&mut self.role, standby) else { return };
        let Claim { epoch, peer, witnesses, .. } = *claim;
        // One that is linked and silent is soon found to be away; the witnesses are there now.
        let near = self.link && peer.is_some();
        // A pair that is being formed has nothing that anybody could have forgotten.
        let vouched = vouched || !self.holds().paired || !self.has_witnesses();
        if let Some((holds, supply)) = peer
            && (!self.joined || goes_further(&holds.last, self.log.last()))
            && !mutant::on(Mutant::PeerNotHeard)
        {
            self.learn(supply);
        }
        let further = |a: &&Window, b: &&Window| {
            if goes_further(&a.last, &b.last) {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Less
            }
        };
        if let Some(best) = witnesses.values().flatten().max_by(further)
            && goes_further(&best.last, self.log.last())
            && !mutant::on(Mutant::WitnessesNotHeard)
            && !self.learn_window(best)
        {
            return self.back_off();
        }
        let solo = match self.mark.clone() {
            Some(Mark { base, mut keys }) => {
                keys.extend(self.keys_after(base.seq));
                Solo::new(base, keys, near)
            }
            // What is committed here while there is no window is at the peer too.
            None => {
                let base = self.log.lsn(self.commit).unwrap_or_else(|| self.log.base()).clone();
                Solo::new(base, self.keys_after(self.commit), near)
            }
        };
        self.attempts = 0;
        // Enough voters know this life.
        self.foreign = None;
        self.is_whole();
        self.role = Role::Active(Box::new(Active::new(epoch, self, solo, vouched)));
        self.begin_reign();
    }

    fn learn(&mut self, supply: Supply) {
        match supply {
            Supply::Nothing => {}
            Supply::Entries { prev, entries } => {
                self.truncate(prev.seq);
                self.append(entries);
            }
            Supply::Image(image) => {
                self.install(image);
                self.unsure = true;
            }
        }
    }

    /// Whether the peer can have forgotten what it voted for: it has no table, or one of another life.
    pub(super) fn look_at_peer(&mut self, holds: &Holds) {
        self.peer_foreign = self.joined && holds.joined && self.log.is_foreign(&holds.history);
        self.peer_blank = !holds.joined || self.peer_foreign;
    }

    /// Takes what the witnesses kept, if it joins on to what we have: all that is in our table must be in what the
    /// window follows, and all that the window follows must be here.
    fn learn_window(&mut self, window: &Window) -> bool {
        let common = self.log.common(&window.history, &window.last).seq;
        let joins = common >= self.commit.max(window.base.seq);
        if joins || mutant::on(Mutant::JoinUnchecked) {
            self.commit_to(window.base.seq);
            self.flush();
            // Its rows are the state after its last entry of everything that changed after its base.
            let (at, history) = (window.last.clone(), window.history.clone());
            let rows = window.rows.values().cloned().collect();
            self.put_rows(super::Install { at, history, rows, whole: false });
            // One voter had them.
            self.unsure = true;
            let keys = window.rows.keys().cloned().collect();
            self.set_mark(Some(Mark { base: window.base.clone(), keys }));
            return true;
        }
        false
    }

    /// The changes with which a reign begins.
    pub(super) fn first_changes(&self) -> Vec<Change> {
        let mut changes = vec![Change::Began { pair: !self.config.alone }];
        if mutant::on(Mutant::RosterFirst) && self.rosters().is_empty() && !self.config.alone {
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
        let forming = self.rosters().is_empty() && !self.config.alone;
        let commit = self.commit;
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

/// Whether an epoch is above another. Equal counters of two nodes are two epochs.
pub(super) fn outranks(a: &Epoch, b: &Epoch) -> bool {
    if mutant::on(Mutant::NoTieBreak) { a.counter >= b.counter && a != b } else { a > b }
}
