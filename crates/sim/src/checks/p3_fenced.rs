//! P3: an agent that promised to an epoch never acts for a lower one, and a broker that is refused stops at once.

use vsm_core::{Epoch, replica::Standing};

/// The highest epoch that each agent has said it promised.
#[derive(Debug)]
pub(crate) struct Fenced {
    promised: Vec<Option<Epoch>>,
    found: Option<String>,
}

impl Fenced {
    pub(super) fn new(agents: usize) -> Self {
        Self { promised: vec![None; agents], found: None }
    }

    /// An agent lets somebody know what it promised.
    pub(crate) fn heard(&mut self, agent: usize, promised: Option<&Epoch>) {
        if promised > self.promised[agent].as_ref() {
            self.promised[agent] = promised.cloned();
        }
    }

    /// An agent lost what it promised, and cannot keep to it.
    pub(crate) fn forgot(&mut self, agent: usize) {
        self.promised[agent] = None;
    }

    /// An agent changes something for a broker.
    pub(crate) fn acted(&mut self, agent: usize, epoch: &Epoch, _now: u64) {
        if let Some(promised) = &self.promised[agent]
            && promised > epoch
        {
            self.found =
                Some(format!("P3: agent{agent} acted for {epoch} after promising {promised}"));
        }
        self.heard(agent, Some(epoch));
    }

    /// A broker heard of a higher epoch from an agent.
    pub(crate) fn refused(
        &mut self,
        id: usize,
        by: &Epoch,
        standing: Option<&Standing>,
        _now: u64,
    ) {
        if let Some(Standing::Active { epoch, .. }) = standing
            && epoch < by
        {
            self.found = Some(format!("P3: broker{id} is active in {epoch} after {by} refused it"));
        }
    }

    pub(super) const fn take(&mut self) -> Option<String> {
        self.found.take()
    }
}
