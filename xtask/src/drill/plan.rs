//! What goes wrong, drawn from a seed.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::cluster::{Fault, Traffic};
use crate::pair;

/// Within which a pair that forms is disturbed, in milliseconds.
const FORMING_MS: u64 = 2000;

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

    /// One that is not made now comes again before the others do.
    pub(crate) fn put_back(&mut self, kind: Kind) {
        self.left.push(kind);
    }
}

/// Something that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Fault(Fault),
    /// An agent's disk is copied aside, and used for some time more; or an older copy is kept.
    Copy(String),
    /// Both brokers lose their tables and form a pair anew, and the claimant is started again in the midst of it.
    Form {
        claimant: String,
        after: Duration,
        /// It is asked to end, and not killed.
        asked: bool,
    },
}

impl std::fmt::Display for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Copy(agent) => write!(f, "copy the disk of {agent}"),
            Self::Form { claimant, after, asked } => {
                let how = if *asked { "restarted" } else { "killed" };
                write!(f, "form anew, {claimant} {how} after {} ms", after.as_millis())
            }
        }
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
    AgentDiskLost,
    AgentDiskRestored,
    Clone,
    BrokersCut,
    Misnamed,
    Forming,
}

const ALL: [(Kind, &str); 26] = [
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
    (Kind::AgentDiskLost, "agent-disk-lost"),
    (Kind::AgentDiskRestored, "agent-disk-restored"),
    (Kind::Clone, "clone"),
    (Kind::BrokersCut, "brokers-cut"),
    (Kind::Misnamed, "misnamed"),
    (Kind::Forming, "forming"),
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

    /// Whether desktops on its host end with it, rightly. An agent's disk has no desktop on it: it finds those that run
    /// by their processes.
    pub(crate) const fn reboots_agents(self) -> bool {
        matches!(self, Self::AgentPower)
    }

    /// Whether nothing else may go wrong at the same time: of two tables that are lost only the agents bring the
    /// sessions back, so they have to be there.
    pub(crate) const fn alone(self) -> bool {
        matches!(self, Self::Forming)
    }

    /// How long it goes on at least, as who is cut off notices after some time only.
    pub(crate) const fn notice_ms(self) -> u64 {
        if matches!(self, Self::BrokersCut) { 5000 } else { 0 }
    }

    const fn is_of_agent(self) -> bool {
        let crash = matches!(self, Self::AgentCrash | Self::AgentPower | Self::Clone);
        let cut_off = matches!(self, Self::AgentCable | Self::AgentFreeze);
        crash || cut_off || matches!(self, Self::AgentDiskLost | Self::AgentDiskRestored)
    }

    /// The host that it is for, and what is done. Three times out of four a broker's fault is the active one's.
    pub(crate) fn acts(self, active: &str, random: &mut Random) -> (String, Vec<Act>) {
        let standby = pair::other(active);
        let (one, other) = if random.below(4) < 3 { (active, standby) } else { (standby, active) };
        let number = random.below(3);
        if self.is_of_agent() {
            let second = format!("agent{}", 1 + (number + 1 + random.below(2)) % 3);
            let host = format!("agent{}", 1 + number);
            return (host.clone(), self.at(&host, &second, random));
        }
        (one.to_owned(), self.at(one, other, random))
    }

    /// What is done at a host; `other` is the other broker, or another agent.
    fn at(self, one: &str, other: &str, random: &mut Random) -> Vec<Act> {
        let (host, second) = (one.to_owned(), other.to_owned());
        let vsmserver = || "vsmserver".to_owned();
        let parts = |traffic| Fault::partition(one, other, traffic).map(Act::Fault).to_vec();
        let fault = match self {
            Self::Cable | Self::AgentCable => Fault::Cable { host },
            Self::Silent => Fault::Silent { host },
            Self::Kill => Fault::Kill { host, daemon: vsmserver() },
            Self::Crash => Fault::Crash { host, daemon: vsmserver() },
            Self::AgentCrash => {
                let part = if random.below(2) == 0 { "vsmagent" } else { "vsm-agent-net" };
                Fault::Crash { host, daemon: part.to_owned() }
            }
            Self::Power | Self::AgentPower => Fault::Power { host },
            Self::Freeze | Self::AgentFreeze => Fault::Freeze { host },
            Self::Partition => return parts(Traffic::All),
            Self::OneWay => Fault::Cut { from: second, to: host, traffic: Traffic::All },
            Self::VrrpOnly => return parts(Traffic::Vrrp),
            Self::AllButVrrp => return parts(Traffic::AllButVrrp),
            Self::BrokersCut if random.below(2) == 0 => return parts(Traffic::All),
            Self::BrokersCut => return parts(Traffic::AllButVrrp),
            Self::Loss => Fault::Loss { host, percent: 20 },
            Self::VipBoth => Fault::VipBoth { host: second },
            Self::KeepalivedDead => Fault::KeepalivedDead { host },
            Self::DiskFull => Fault::DiskFull { host },
            Self::DiskLost | Self::AgentDiskLost => Fault::DiskLost { host },
            Self::Clock => Fault::Clock { host, step_s: 3600 },
            Self::AgentDiskRestored => {
                return vec![Act::Copy(host.clone()), Act::Fault(Fault::DiskRollback { host })];
            }
            Self::Clone => Fault::Clone { host, of: second },
            Self::Misnamed if random.below(2) == 0 => Fault::Misnamed { host, node: second },
            Self::Misnamed => Fault::Misnamed { node: host.clone(), host },
            Self::Forming => {
                let after = Duration::from_millis(random.below(FORMING_MS));
                return vec![Act::Form { claimant: host, after, asked: random.below(2) == 0 }];
            }
        };
        vec![Act::Fault(fault)]
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

    #[test]
    fn each_kind_does_something_at_the_host_that_it_names() {
        let mut random = Random::new(1);
        for (kind, name) in ALL.into_iter().cycle().take(20 * ALL.len()) {
            let (host, acts) = kind.acts(pair::NODES[0], &mut random);
            assert!(!acts.is_empty(), "{name}");
            for act in &acts {
                match act {
                    Act::Fault(Fault::VipBoth { .. }) => {}
                    Act::Fault(Fault::Clone { host: to, of }) => {
                        assert!(*to == host && to != of && of.starts_with("agent"), "{act:?}");
                    }
                    Act::Fault(fault) => assert!(fault.hosts().contains(&&*host), "{act:?}"),
                    Act::Copy(agent) => assert_eq!(*agent, host),
                    Act::Form { claimant, after, .. } => {
                        assert!(*claimant == host && *after < Duration::from_secs(2), "{act:?}");
                    }
                }
            }
            assert_eq!(kind.alone(), matches!(acts[0], Act::Form { .. }));
        }
    }
}
