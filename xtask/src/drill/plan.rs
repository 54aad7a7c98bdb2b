//! What goes wrong, drawn from a seed.

use anyhow::{Result, bail};

use crate::cluster::{Fault, Traffic};
use crate::pair;

/// xorshift64*: a seed is to give the same faults again, nothing more.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound
    }
}

/// Kinds of faults, drawn so that each comes before one comes again.
#[derive(Debug)]
pub(crate) struct Deck {
    kinds: Vec<Kind>,
    left: Vec<Kind>,
}

impl Deck {
    pub(crate) fn new(kinds: &[Kind]) -> Self {
        Self { kinds: kinds.to_vec(), left: Vec::new() }
    }

    pub(crate) fn draw(&mut self, random: &mut Random) -> Kind {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
        }
        let index = usize::try_from(random.below(self.left.len() as u64)).unwrap_or(0);
        self.left.swap_remove(index)
    }
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Cable,
    Silent,
    Kill,
    Crash,
    Power,
    Freeze,
    Partition,
    OneWay,
    VrrpOnly,
    AllButVrrp,
    Loss,
    VipBoth,
    KeepalivedDead,
    DiskFull,
    DiskLost,
    Clock,
    AgentCable,
    AgentCrash,
    AgentFreeze,
    AgentPower,
}

const ALL: [(Kind, &str); 20] = [
    (Kind::Cable, "cable"),
    (Kind::Silent, "silent"),
    (Kind::Kill, "kill"),
    (Kind::Crash, "crash"),
    (Kind::Power, "power"),
    (Kind::Freeze, "freeze"),
    (Kind::Partition, "partition"),
    (Kind::OneWay, "one-way"),
    (Kind::VrrpOnly, "vrrp-only"),
    (Kind::AllButVrrp, "all-but-vrrp"),
    (Kind::Loss, "loss"),
    (Kind::VipBoth, "vip-both"),
    (Kind::KeepalivedDead, "keepalived-dead"),
    (Kind::DiskFull, "disk-full"),
    (Kind::DiskLost, "disk-lost"),
    (Kind::Clock, "clock"),
    (Kind::AgentCable, "agent-cable"),
    (Kind::AgentCrash, "agent-crash"),
    (Kind::AgentFreeze, "agent-freeze"),
    (Kind::AgentPower, "agent-power"),
];

/// The kinds with these names; all where none is named.
pub(crate) fn kinds(names: &[String]) -> Result<Vec<Kind>> {
    if names.is_empty() {
        return Ok(ALL.iter().map(|(kind, _)| *kind).collect());
    }
    let known = |name: &String| match ALL.iter().find(|(_, known)| known == name) {
        Some((kind, _)) => Ok(*kind),
        None => {
            let all: Vec<_> = ALL.iter().map(|(_, name)| *name).collect();
            bail!("--faults: there is no {name:?}; there are {}", all.join(", "))
        }
    };
    names.iter().map(known).collect()
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        ALL.iter().find(|(kind, _)| *kind == self).map_or("?", |(_, name)| *name)
    }

    /// Whether desktops on its host end with it, rightly.
    pub(crate) const fn reboots_agents(self) -> bool {
        matches!(self, Self::AgentPower)
    }

    /// The host that it is for, and the faults. Three times out of four a broker's fault is the active one's.
    pub(crate) fn faults(self, active: &str, random: &mut Random) -> (String, Vec<Fault>) {
        let standby = pair::other(active);
        let (one, other) = if random.below(4) < 3 { (active, standby) } else { (standby, active) };
        let agent = format!("agent{}", 1 + random.below(3));
        let host = one.to_owned();
        let cut = |from: &str, to: &str| {
            vec![Fault::Cut { from: from.to_owned(), to: to.to_owned(), traffic: Traffic::All }]
        };
        let parts = |traffic| Fault::partition(one, other, traffic).to_vec();
        let daemon = || "vsmserver".to_owned();
        let faults = match self {
            Self::Cable => vec![Fault::Cable { host: host.clone() }],
            Self::Silent => vec![Fault::Silent { host: host.clone() }],
            Self::Kill => vec![Fault::Kill { host: host.clone(), daemon: daemon() }],
            Self::Crash => vec![Fault::Crash { host: host.clone(), daemon: daemon() }],
            Self::Power => vec![Fault::Power { host: host.clone() }],
            Self::Freeze => vec![Fault::Freeze { host: host.clone() }],
            Self::Partition => parts(Traffic::All),
            Self::OneWay => cut(other, one),
            Self::VrrpOnly => parts(Traffic::Vrrp),
            Self::AllButVrrp => parts(Traffic::AllButVrrp),
            Self::Loss => vec![Fault::Loss { host: host.clone(), percent: 20 }],
            Self::VipBoth => vec![Fault::VipBoth { host: other.to_owned() }],
            Self::KeepalivedDead => vec![Fault::KeepalivedDead { host: host.clone() }],
            Self::DiskFull => vec![Fault::DiskFull { host: host.clone() }],
            Self::DiskLost => vec![Fault::DiskLost { host: host.clone() }],
            Self::Clock => vec![Fault::Clock { host: host.clone(), step_s: 3600 }],
            Self::AgentCable => return (agent.clone(), vec![Fault::Cable { host: agent }]),
            Self::AgentCrash => {
                let crash = Fault::Crash { host: agent.clone(), daemon: "vsmagent".to_owned() };
                return (agent, vec![crash]);
            }
            Self::AgentFreeze => return (agent.clone(), vec![Fault::Freeze { host: agent }]),
            Self::AgentPower => return (agent.clone(), vec![Fault::Power { host: agent }]),
        };
        (host, faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_and_names_are_known() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..8).map(|_| random.below(20)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(kinds(&["cable".into()]).unwrap(), [Kind::Cable]);
        assert!(kinds(&["cabel".into()]).is_err());
        assert_eq!(kinds(&[]).unwrap().len(), ALL.len());
        let all = kinds(&[]).unwrap();
        let (mut deck, mut random) = (Deck::new(&all), Random::new(3));
        let drawn: Vec<_> = all.iter().map(|_| deck.draw(&mut random)).collect();
        assert!(all.iter().all(|kind| drawn.contains(kind)), "each comes before one comes again");
    }
}
