//! Doing what the plan drew.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;

use super::demand;
use super::plan::{Act, Deck, Kind, Random};
use crate::clock;
use crate::cluster::{Cluster, Fault};
use crate::pair;
use crate::progress::Progress;

/// How long no reign may change while only the brokers are kept from each other.
const CUT_WATCH: Duration = Duration::from_secs(5);
const SIGKILL: i32 = 9;

/// Who has things go wrong.
#[derive(Debug)]
pub(super) struct Hand<'a> {
    cluster: &'a Cluster,
    /// Agents of whose disks there are copies.
    copied: BTreeSet<String>,
    /// Reigns that changed while only the brokers were kept from each other.
    pub(super) duels: Vec<String>,
}

impl<'a> Hand<'a> {
    pub(super) const fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, copied: BTreeSet::new(), duels: Vec::new() }
    }

    /// One or two faults at a time, for some seconds.
    pub(super) fn faults(
        &mut self,
        progress: &Progress,
        deck: &mut Deck,
        random: &mut Random,
        round: u32,
    ) -> Result<Vec<(Kind, String)>> {
        let mut made = Vec::new();
        clock::pause(Duration::from_millis(300 + random.below(700)));
        for number in 0..=random.below(2) {
            let kind = deck.draw(random);
            if kind.alone() && number > 0 {
                deck.put_back(kind);
                break;
            }
            let active = pair::active(self.cluster).first().copied().unwrap_or(pair::NODES[0]);
            let (host, acts) = kind.acts(active, random);
            if self.is_away(&host) {
                deck.put_back(kind);
                break;
            }
            for act in &acts {
                progress.step(format!("round {round}: {} at {host}: {act}", kind.name()));
                self.act(act, random)?;
            }
            made.push((kind, host));
            clock::pause(Duration::from_millis(500 + kind.notice_ms() + random.below(3000)));
            if kind == Kind::BrokersCut && number == 0 {
                self.duels.extend(demand::duels(self.cluster, CUT_WATCH)?);
            }
            if kind.alone() {
                break;
            }
        }
        progress.step(format!("round {round}: healed"));
        Ok(made)
    }

    /// Nothing more can happen to a host that is off or frozen.
    fn is_away(&self, host: &str) -> bool {
        let stops = |fault: &Fault| matches!(fault, Fault::Power { .. } | Fault::Freeze { .. });
        self.cluster.faults().iter().any(|fault| stops(fault) && fault.hosts().contains(&host))
    }

    fn act(&mut self, act: &Act, random: &mut Random) -> Result<()> {
        match act {
            Act::Fault(fault) => self.cluster.fault(fault),
            Act::Copy(agent) => {
                // An old copy may be of many rounds ago.
                if self.copied.insert(agent.clone()) || random.below(2) == 0 {
                    self.cluster.fault(&Fault::DiskSnapshot { host: agent.clone() })?;
                }
                clock::pause(Duration::from_millis(1000 + random.below(3000)));
                Ok(())
            }
            Act::Form { claimant, after, asked } => self.form(claimant, *after, *asked),
        }
    }

    fn form(&self, claimant: &str, after: Duration, asked: bool) -> Result<()> {
        let daemon = "vsmserver";
        for node in pair::NODES {
            self.cluster.stop_daemon(node, daemon)?;
        }
        for node in pair::NODES {
            self.cluster.fault(&Fault::DiskLost { host: node.to_owned() })?;
        }
        for node in pair::NODES {
            self.cluster.start_daemon(node, daemon)?;
        }
        clock::pause(after);
        if asked {
            return self.cluster.restart_daemon(claimant, daemon);
        }
        // One that is not up yet cannot be killed.
        let _ = self.cluster.kill_daemon(claimant, daemon, SIGKILL);
        Ok(())
    }
}
