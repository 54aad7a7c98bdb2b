//! The witnesses, as real ones are: mute at first, until they are greeted; they lose what they hold, or are put back to
//! an older copy of it, which they find out by their journal. What they promise and keep is durable at once.

use std::collections::BTreeMap;

use rand::{Rng, rngs::StdRng};
use vsm_core::{
    AgentName,
    replica::{Witness, WitnessMsg, WitnessReply},
};

pub(crate) const WITNESSES: [&str; 3] = ["w1", "w2", "w3"];

/// One of them.
struct Agent {
    witness: Witness,
    backup: Option<Witness>,
    /// What it holds is older than what it held, by the number of this loss.
    damaged: Option<u64>,
}

impl Agent {
    fn fresh(loss: u64) -> Self {
        Self { witness: Witness::fresh(loss), backup: None, damaged: None }
    }

    fn ask(&mut self, message: WitnessMsg) -> WitnessReply {
        if let Some(loss) = self.damaged {
            if !matches!(message, WitnessMsg::Clear { loss: by, .. } if by == Some(loss)) {
                return WitnessReply::Mute { loss };
            }
            *self = Self::fresh(loss);
        }
        self.witness.handle(message)
    }
}

/// All of them.
pub(crate) struct Witnesses(BTreeMap<AgentName, Agent>);

impl Witnesses {
    pub(crate) fn new(random: &mut StdRng) -> Self {
        let new = |name: &str| (name.parse().unwrap(), Agent::fresh(random.random()));
        Self(WITNESSES.map(new).into_iter().collect())
    }

    pub(crate) fn ask(&mut self, name: &AgentName, message: WitnessMsg) -> WitnessReply {
        self.0.get_mut(name).unwrap().ask(message)
    }

    fn nth(&mut self, index: usize) -> &mut Agent {
        self.0.values_mut().nth(index).unwrap()
    }

    pub(crate) fn lose(&mut self, index: usize, loss: u64) {
        *self.nth(index) = Agent::fresh(loss);
    }

    pub(crate) fn back_up(&mut self, index: usize) {
        let agent = self.nth(index);
        agent.backup = Some(agent.witness.clone());
    }

    /// Puts the copy back, if there is one.
    pub(crate) fn restore(&mut self, index: usize, loss: u64) {
        let agent = self.nth(index);
        if let Some(older) = agent.backup.take() {
            (agent.witness, agent.damaged) = (older, Some(loss));
        }
    }

    /// Whether each of them votes.
    pub(crate) fn all_vote(&self) -> bool {
        self.0.values().all(|agent| agent.damaged.is_none() && agent.witness.mute.is_none())
    }
}
