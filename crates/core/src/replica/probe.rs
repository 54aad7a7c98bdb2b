//! Looking before claiming: whether another reign is alive that a claim would only disturb.
//!
//! A claim is durable before it is sent, and from then on the claimant follows nobody below it. So a node that cannot
//! win, and claims all the same, ends the other one's reign as soon as the two meet; and a witness that it wins over
//! ends it at once. Where only the connection between the brokers is cut, and both are wanted, the two would replace
//! each other without end. So a node that does not reach its peer first asks the witnesses, which changes nothing
//! anywhere. A witness that has lately taken something from a reign that is wanted where it is says so, and the asker
//! waits.

use std::collections::BTreeSet;

use super::{
    message::WitnessMsg,
    node::Replica,
    role::{Probe, Role},
};
use crate::{AgentName, Epoch};

impl Replica {
    /// Claims, at once or once most of the witnesses say that it disturbs nobody.
    pub(super) fn seek_reign(&mut self) {
        let forced = std::mem::take(&mut self.candidacy.forced);
        let looks = self.ledger.joined
            && !self.peer.is_up
            && !forced
            && !self.config.alone
            && !self.peer.counts_as_off()
            && self.ledger.has_witnesses();
        if !looks {
            return self.begin_claim();
        }
        let until = self.now + self.config.ack_timeout_ms;
        self.role = Role::Probing(Box::new(Probe { until, free: BTreeSet::new() }));
        let above = self.candidacy.seen.clone().max(self.ledger.promised.clone());
        // Only its node counts: whose reign would not be disturbed.
        let epoch = above.next(self.config.node.clone(), 0);
        for agent in self.ledger.all_witnesses() {
            self.ask_witness(agent, WitnessMsg::Probe { epoch: epoch.clone() });
        }
    }

    /// A witness says that a claim would disturb nobody, and what it promised: to be risen above.
    pub(super) fn on_free(&mut self, agent: &AgentName, promised: &Epoch) {
        self.candidacy.see(promised);
        let Role::Probing(probe) = &mut self.role else { return };
        probe.free.insert(agent.clone());
        let free = probe.free.clone();
        if self.ledger.most(|agent| free.contains(agent)) {
            self.begin_claim();
        }
    }

    /// No answer in time, or not enough of them.
    pub(super) fn probe_time(&mut self) {
        if matches!(&self.role, Role::Probing(probe) if self.now >= probe.until) {
            self.step_down(None);
            self.back_off();
        }
    }
}
