//! Becoming active: asking for votes, giving them, and learning what the voters hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    active::{Active, Solo},
    message::{Holds, PeerMsg, Supply, Window, WitnessMsg, WitnessReply},
    node::{Held, Replica, Role},
};
use crate::{AgentName, Change, Epoch, Key, Lsn};

/// After so many signs of life that did not come the active node is taken for gone by one that is wanted.
const BEATS: u64 = 3;

/// A claim under way.
pub(super) struct Claim {
    pub(super) epoch: Epoch,
    asked_witnesses: bool,
    /// The peer was silent when the claim began: the witnesses are asked at once.
    at_once: bool,
    until_ms: u64,
    peer: Option<(Holds, Supply)>,
    witnesses: BTreeMap<AgentName, Option<Window>>,
}

impl Replica {
    /// A standby that is wanted asks its active peer to step down, or claims where there is none.
    pub(super) fn consider_claim(&mut self) {
        let Role::Standby { leader, heard_ms } = &self.role else { return };
        if !self.want || self.now < self.hold_off_ms {
            return;
        }
        let alive =
            leader.is_some() && self.link && self.now < heard_ms + self.config.heartbeat_ms * BEATS;
        if alive {
            self.hold_off_ms = self.now + self.config.heartbeat_ms;
            self.send(PeerMsg::Wish { planned: false });
        } else {
            self.begin_claim();
        }
    }

    /// An administrator wants this node to be active, and an active peer to hand over.
    pub(super) fn take_over(&mut self) {
        self.want = true;
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

    fn begin_claim(&mut self) {
        let at_once = matches!(self.role, Role::Standby { leader: Some(_), .. });
        let epoch = self.seen.clone().max(self.promised.clone()).next(self.config.node.clone());
        self.see(&epoch);
        self.promised = epoch.clone();
        self.writing().promised = Some(epoch.clone());
        // Nobody hears of an epoch before it is durable.
        self.after_write(Held::Claim(epoch.clone()));
        let until_ms = self.now + self.config.ack_timeout_ms * 2;
        self.role = Role::Claiming(Box::new(Claim {
            epoch,
            asked_witnesses: false,
            at_once,
            until_ms,
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
        if self.link {
            let (epoch, holds) = (epoch.clone(), self.holds());
            self.send(PeerMsg::Claim { epoch, holds });
        }
        let Role::Claiming(claim) = &self.role else { return };
        if !self.link || claim.at_once {
            self.ask_witnesses();
        }
    }

    fn ask_witnesses(&mut self) {
        let Role::Claiming(claim) = &mut self.role else { return };
        claim.asked_witnesses = true;
        claim.until_ms = self.now + self.config.ack_timeout_ms;
        let epoch = claim.epoch.clone();
        for agent in self.table.roster().cloned().iter().flat_map(|roster| roster.iter()) {
            self.to_witness(agent.clone(), WitnessMsg::Claim { epoch: epoch.clone() });
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

    /// The peer asks for our vote.
    pub(super) fn on_claim(&mut self, epoch: Epoch, holds: &Holds) {
        self.see(&epoch);
        if epoch <= self.promised {
            let promised = self.promised.clone();
            return self.send(PeerMsg::Stale { promised });
        }
        if self.joined && self.holds().paired && !holds.joined {
            // It has forgotten what it voted for: it cannot be active before it has our table. We can.
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
        self.after_write(Held::Send(PeerMsg::Promise { epoch, holds, supply }));
        // The claimant has the first word.
        self.hold_off_ms = self.now + self.config.ack_timeout_ms * 2;
    }

    /// The peer votes for us.
    pub(super) fn on_promise(&mut self, epoch: &Epoch, holds: Holds, supply: Supply) {
        let Role::Claiming(claim) = &mut self.role else { return };
        if claim.epoch == *epoch {
            claim.peer = Some((holds, supply));
            self.count_votes();
        }
    }

    /// A witness answers.
    pub(super) fn on_witness(&mut self, agent: &AgentName, reply: WitnessReply) {
        match reply {
            WitnessReply::Refused { promised } => self.on_higher(&promised),
            WitnessReply::Promised { epoch, window } => {
                let is_witness = self.table.roster().is_some_and(|roster| roster.contains(agent));
                let Role::Claiming(claim) = &mut self.role else { return };
                if claim.epoch == epoch && is_witness {
                    claim.witnesses.insert(agent.clone(), window);
                    self.count_votes();
                }
            }
            WitnessReply::Accepted { epoch, last } => self.on_accepted(agent, &epoch, &last),
            WitnessReply::Gap { epoch } => self.on_gap(agent, &epoch),
            WitnessReply::Cleared { .. } => {}
        }
    }

    /// Two votes of three: ours and the peer's, or ours and most of the witnesses'.
    fn count_votes(&mut self) {
        let Role::Claiming(claim) = &self.role else { return };
        let witnesses = self.table.roster().map_or(0, |roster| roster.len());
        let by_witnesses = witnesses > 0 && claim.witnesses.len() > witnesses / 2;
        let by_peer =
            claim.peer.as_ref().is_some_and(|(peer, _)| match (self.joined, peer.joined) {
                (true, true) | (false, false) => true,
                // One of us has forgotten what it voted for. That matters unless there never was anything to vote for.
                (true, false) => !self.holds().paired,
                (false, true) => !peer.paired,
            });
        if by_peer || (by_witnesses && self.joined) {
            self.become_active();
        }
    }

    /// Takes the log with the highest last position among the voters, and begins the reign.
    fn become_active(&mut self) {
        let standby = Role::Standby { leader: None, heard_ms: self.now };
        let Role::Claiming(claim) = std::mem::replace(&mut self.role, standby) else { return };
        let Claim { epoch, peer, witnesses, .. } = *claim;
        if let Some((holds, supply)) = peer
            && (!self.joined || holds.last > *self.log.last())
        {
            self.learn(supply);
        }
        let windows: Vec<Window> = witnesses.into_values().flatten().collect();
        if let Some(best) = windows.iter().max_by(|a, b| a.last.cmp(&b.last))
            && best.last > *self.log.last()
            && !self.learn_window(best)
        {
            return self.back_off();
        }
        let mut keys: BTreeSet<Key> =
            windows.iter().flat_map(|window| window.rows.keys().cloned()).collect();
        let base = self.window_base.clone();
        let base = base.or_else(|| self.log.lsn(self.commit).cloned()).unwrap_or_else(Lsn::zero);
        keys.extend(self.log.after(base.seq).filter_map(|entry| entry.change.key()));
        self.attempts = 0;
        let active = Active::new(epoch, self, Solo::new(base, keys));
        self.role = Role::Active(Box::new(active));
        self.begin_reign();
    }

    fn learn(&mut self, supply: Supply) {
        match supply {
            Supply::Nothing => {}
            Supply::Entries { prev, entries } => {
                self.truncate(prev.seq);
                self.append(entries);
            }
            Supply::Image(image) => self.install(image),
        }
    }

    /// Takes what the witnesses kept, if it joins on to what we have.
    fn learn_window(&mut self, window: &Window) -> bool {
        let joins = self.log.contains(&window.base) || window.base.seq <= self.log.base().seq;
        if joins {
            self.flush();
            // Its rows are the state after its last entry of everything that changed after its base.
            let (at, history) = (window.last.clone(), window.history.clone());
            let rows = window.rows.values().cloned().collect();
            self.put_rows(super::Install { at, history, rows, whole: false });
            self.set_window_base(Some(window.base.clone()));
        }
        joins
    }

    pub(super) fn set_window_base(&mut self, base: Option<Lsn>) {
        self.window_base.clone_from(&base);
        self.writing().window_base = Some(base);
    }

    /// The changes with which a reign begins.
    pub(super) fn first_changes(&self) -> Vec<Change> {
        let mut changes = vec![Change::Began];
        if self.table.roster().is_none() {
            changes.push(Change::Roster(self.config.witnesses.clone().into()));
        }
        changes
    }
}
