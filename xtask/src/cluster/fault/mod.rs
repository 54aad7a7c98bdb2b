//! Faults: what goes wrong in a cluster on request, and how all of it is undone.
//!
//! A fault that lasts is noted in the cluster's state before it is made, so that [`Cluster::heal`]
//! undoes it also after a command that was killed half-way, and `status` tells of it. Making a
//! fault that is there already, and healing one that is not, change nothing.

mod apply;
mod clock;
mod packets;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::lock::Lock;
use super::spec::{HaSoftware, state_dir};
use super::{Cluster, Start, plan};

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fault {
    /// The host's cable is pulled: both ends lose the carrier.
    Cable {
        /// The host.
        host: String,
    },
    /// The switch forwards nothing for the host; the carrier stays, so nobody is told.
    Silent {
        /// The host.
        host: String,
    },
    /// A daemon dies of SIGKILL and stays dead.
    Kill {
        /// The host.
        host: String,
        /// The daemon, e.g. `vsmserver`.
        daemon: String,
    },
    /// A daemon dies of SIGKILL and is started again as systemd would; nothing lasts.
    Crash {
        /// The host.
        host: String,
        /// The daemon.
        daemon: String,
    },
    /// The host's power is cut; healing boots it.
    Power {
        /// The host.
        host: String,
    },
    /// Pacemaker is told to run nothing on the host: a planned move.
    Standby {
        /// One of a pair under Pacemaker.
        host: String,
    },
    /// All processes of the host stop where they are; its kernel still answers ARP and pings.
    Freeze {
        /// The host.
        host: String,
    },
    /// The host has only so many hundredths of one core; one that boots may have more.
    Slow {
        /// The host.
        host: String,
        /// Hundredths of one core, 1 to 1000.
        percent: u32,
    },
    /// Packets from one host do not reach another; for both directions take two.
    Cut {
        /// Whose packets are lost.
        from: String,
        /// Who does not get them.
        to: String,
        /// Which packets.
        #[serde(default)]
        traffic: Traffic,
    },
    /// A part of the packets from and to a host is lost.
    Loss {
        /// The host.
        host: String,
        /// How many of a hundred, 1 to 100.
        percent: u8,
    },
    /// A broker has the resource address in addition to the one that keepalived gave it to.
    VipBoth {
        /// The broker that gets it without being told.
        host: String,
    },
    /// All of keepalived dies of SIGKILL and stays dead; an address that the broker has stays.
    KeepalivedDead {
        /// The broker.
        host: String,
    },
    /// The host's daemon sees another time of day; monotonic time goes on as it was.
    ///
    /// A daemon is restarted for its first step, since a library has to be put under it, and not
    /// for later ones: a step of 0 prepares it.
    Clock {
        /// The broker or agent.
        host: String,
        /// How far the clock is off, in seconds; positive is in the future.
        step_s: i64,
    },
    /// No byte can be added to the disk with the daemon's store; what is there can be changed.
    DiskFull {
        /// The broker or agent.
        host: String,
    },
    /// Copies the daemon's store aside, as a snapshot of a virtual machine; nothing lasts.
    DiskSnapshot {
        /// The broker or agent.
        host: String,
    },
    /// The daemon dies, the copy is put back, and it starts on that; nothing lasts.
    DiskRollback {
        /// The broker or agent.
        host: String,
    },
    /// The daemon dies, all of its store is lost, and it starts on an empty disk; nothing lasts.
    /// A fresh host loses all of its disks and gets empty ones with Debian.
    DiskLost {
        /// The broker or agent.
        host: String,
    },
    /// The daemon dies and starts again with what another agent had promised, as on a host that was cloned; nothing
    /// lasts.
    Clone {
        /// The agent.
        host: String,
        /// Whose promise it gets.
        of: String,
    },
    /// A broker's configuration has one node's name wrong, and it was restarted since; healing mends both.
    Misnamed {
        /// Whose configuration.
        host: String,
        /// The node whose name is wrong there.
        node: String,
    },
}

/// Which packets a cut takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// All of them.
    #[default]
    All,
    /// Those of VRRP alone: keepalived thinks that the other is dead.
    Vrrp,
    /// All but those of VRRP: keepalived thinks that all is well.
    AllButVrrp,
}

impl Fault {
    /// The two cuts that keep two hosts from each other.
    #[must_use]
    pub fn partition(one: &str, other: &str, traffic: Traffic) -> [Self; 2] {
        let cut = |from: &str, to: &str| Self::Cut { from: from.into(), to: to.into(), traffic };
        [cut(one, other), cut(other, one)]
    }

    /// The hosts that it happens to.
    #[must_use]
    pub fn hosts(&self) -> Vec<&str> {
        match self {
            Self::Cut { from, to, .. } => vec![from, to],
            Self::Clone { host, of } => vec![host, of],
            Self::Cable { host }
            | Self::Silent { host }
            | Self::Kill { host, .. }
            | Self::Crash { host, .. }
            | Self::Power { host }
            | Self::Standby { host }
            | Self::Freeze { host }
            | Self::Slow { host, .. }
            | Self::Loss { host, .. }
            | Self::Clock { host, .. }
            | Self::VipBoth { host }
            | Self::KeepalivedDead { host }
            | Self::DiskFull { host }
            | Self::DiskSnapshot { host }
            | Self::DiskRollback { host }
            | Self::DiskLost { host }
            | Self::Misnamed { host, .. } => vec![host],
        }
    }

    /// Whether there is something to heal afterwards.
    #[must_use]
    pub fn lasts(&self) -> bool {
        !matches!(
            self,
            Self::Crash { .. }
                | Self::DiskSnapshot { .. }
                | Self::DiskRollback { .. }
                | Self::DiskLost { .. }
                | Self::Clone { .. }
        )
    }

    /// Whether this fault takes the place of another that is in force.
    fn replaces(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Loss { host, .. }, Self::Loss { host: there, .. })
            | (Self::Slow { host, .. }, Self::Slow { host: there, .. })
            | (Self::Clock { host, .. }, Self::Clock { host: there, .. })
            | (Self::Misnamed { host, .. }, Self::Misnamed { host: there, .. }) => host == there,
            // A host that boots again is neither frozen, nor without a daemon, nor at two places.
            (
                Self::Power { host },
                Self::Freeze { host: there }
                | Self::Kill { host: there, .. }
                | Self::KeepalivedDead { host: there }
                | Self::VipBoth { host: there },
            ) => host == there,
            _ => self == other,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cable { host } => write!(f, "cable {host}"),
            Self::Silent { host } => write!(f, "silent {host}"),
            Self::Kill { host, daemon } => write!(f, "kill {daemon} on {host}"),
            Self::Crash { host, daemon } => write!(f, "crash {daemon} on {host}"),
            Self::Power { host } => write!(f, "power {host}"),
            Self::Standby { host } => write!(f, "standby {host}"),
            Self::Freeze { host } => write!(f, "freeze {host}"),
            Self::Slow { host, percent } => write!(f, "slow {percent} % of a core {host}"),
            Self::Cut { from, to, traffic: Traffic::All } => write!(f, "cut {from} -> {to}"),
            Self::Cut { from, to, traffic: Traffic::Vrrp } => {
                write!(f, "cut {from} -> {to}, VRRP only")
            }
            Self::Cut { from, to, traffic: Traffic::AllButVrrp } => {
                write!(f, "cut {from} -> {to}, all but VRRP")
            }
            Self::Loss { host, percent } => write!(f, "loss {percent} % {host}"),
            Self::VipBoth { host } => write!(f, "vip-both {host}"),
            Self::KeepalivedDead { host } => write!(f, "keepalived-dead {host}"),
            Self::Clock { host, step_s } => write!(f, "clock {step_s:+} s {host}"),
            Self::DiskFull { host } => write!(f, "disk-full {host}"),
            Self::DiskSnapshot { host } => write!(f, "disk-snapshot {host}"),
            Self::DiskRollback { host } => write!(f, "disk-rollback {host}"),
            Self::DiskLost { host } => write!(f, "disk-lost {host}"),
            Self::Clone { host, of } => write!(f, "clone {of} to {host}"),
            Self::Misnamed { host, node } => write!(f, "misnamed {node} on {host}"),
        }
    }
}

impl Cluster {
    /// Makes a fault; one that lasts stays until it is healed.
    ///
    /// # Errors
    /// When a host is not known or of the wrong kind, or when the fault cannot be made, e.g. on a
    /// host that is off; then it is not in force.
    pub fn fault(&self, fault: &Fault) -> Result<()> {
        self.check_fault(fault)?;
        let lock = Lock::take(self.name())?;
        let before = self.faults();
        if fault.lasts() {
            if before.contains(fault) {
                return Ok(());
            }
            let mut now: Vec<_> =
                before.iter().filter(|there| !fault.replaces(there)).cloned().collect();
            now.push(fault.clone());
            self.note(&now)?;
        }
        self.make(fault, &lock).with_context(|| format!("fault {fault}")).or_else(|error| {
            self.note(&before)?;
            packets::apply(&self.layout, &before, &lock)?;
            Err(error)
        })
    }

    /// Undoes all faults, or those that concern one of `hosts`, the last one first; returns them.
    ///
    /// # Errors
    /// When a host is not known, or something cannot be undone: that stays in force, all else is
    /// undone.
    pub fn heal(&self, hosts: &[&str]) -> Result<Vec<Fault>> {
        for host in hosts {
            self.host(host)?;
        }
        let concerned =
            |fault: &Fault| hosts.is_empty() || fault.hosts().iter().any(|h| hosts.contains(h));
        self.heal_those(concerned)
    }

    /// Undoes one fault; one that is not in force is no error.
    ///
    /// # Errors
    /// When it cannot be undone.
    pub fn heal_fault(&self, fault: &Fault) -> Result<()> {
        self.heal_those(|there| there == fault).map(drop)
    }

    fn heal_those(&self, concerned: impl Fn(&Fault) -> bool) -> Result<Vec<Fault>> {
        let lock = Lock::take(self.name())?;
        let (mut healed, mut errors) = (Vec::new(), Vec::new());
        for fault in self.faults().into_iter().rev().filter(concerned) {
            let left: Vec<_> = self.faults().into_iter().filter(|there| *there != fault).collect();
            // One that cannot be undone keeps none of the others in force.
            if let Err(error) = self.undo(&fault, &left, &lock) {
                errors.push(format!("heal {fault}: {error:#}"));
                continue;
            }
            self.note(&left)?;
            healed.push(fault);
        }
        if errors.is_empty() { Ok(healed) } else { bail!(errors.join("; ")) }
    }

    /// The faults that are in force, the first one first.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let noted = fs::read(self.fault_file()).unwrap_or_default();
        let faults: Vec<Fault> = serde_json::from_slice(&noted).unwrap_or_default();
        // A host may have been booted by another command.
        let ended =
            |fault: &Fault| matches!(fault, Fault::Power { host } if self.init_pid(host).is_ok());
        faults.into_iter().filter(|fault| !ended(fault)).collect()
    }

    /// Whether a fault can happen to its hosts at all.
    fn check_fault(&self, fault: &Fault) -> Result<()> {
        for host in fault.hosts() {
            self.host(host)?;
        }
        let by_xtask = matches!(
            fault,
            Fault::Kill { .. }
                | Fault::Crash { .. }
                | Fault::VipBoth { .. }
                | Fault::KeepalivedDead { .. }
                | Fault::Clock { .. }
                | Fault::DiskFull { .. }
                | Fault::DiskSnapshot { .. }
                | Fault::DiskRollback { .. }
                | Fault::Clone { .. }
                | Fault::Misnamed { .. }
        );
        if by_xtask && self.layout.start == Start::Fresh {
            bail!("{fault}: not on hosts that run systemd");
        }
        match fault {
            Fault::Cut { from, to, .. } if from == to => bail!("{from} cannot be cut off itself"),
            Fault::Loss { percent, .. } if !(1..=100).contains(percent) => {
                bail!("loss of {percent} %: 1 to 100 are possible")
            }
            Fault::Slow { percent, .. } if !(1..=1000).contains(percent) => {
                bail!("{percent} % of a core: 1 to 1000 are possible")
            }
            Fault::VipBoth { host } | Fault::KeepalivedDead { host }
                if !self.has_keepalived(host)? =>
            {
                bail!("{host} is not one of a pair of brokers under keepalived")
            }
            Fault::Standby { host } if !self.has_pacemaker(host) => {
                bail!("{host} is not one of a pair of brokers under Pacemaker")
            }
            Fault::Kill { host, daemon } if self.has_pacemaker(host) && daemon == "vsmserver" => {
                bail!("Pacemaker starts {daemon} again: crash it (--restart), or standby {host}")
            }
            Fault::Clock { host, .. }
            | Fault::DiskFull { host }
            | Fault::DiskSnapshot { host }
            | Fault::DiskRollback { host }
            | Fault::DiskLost { host }
            | Fault::Misnamed { host, .. }
                if self.has_pacemaker(host) =>
            {
                bail!(
                    "{fault}: not under Pacemaker, which starts and stops vsmserver on {host} itself"
                )
            }
            Fault::Clock { host, .. }
            | Fault::DiskFull { host }
            | Fault::DiskSnapshot { host }
            | Fault::DiskRollback { host }
            | Fault::DiskLost { host } => self.product_daemon(host).map(drop),
            Fault::Clone { host, of } => self.check_agents([host, of]),
            Fault::Misnamed { host, node } => self.check_nodes([host, node]),
            Fault::Cut { .. }
            | Fault::Loss { .. }
            | Fault::VipBoth { .. }
            | Fault::KeepalivedDead { .. }
            | Fault::Cable { .. }
            | Fault::Silent { .. }
            | Fault::Kill { .. }
            | Fault::Crash { .. }
            | Fault::Power { .. }
            | Fault::Standby { .. }
            | Fault::Slow { .. }
            | Fault::Freeze { .. } => Ok(()),
        }
    }

    fn check_agents(&self, hosts: [&String; 2]) -> Result<()> {
        for host in hosts {
            if self.product_daemon(host)? != "vsmagent" {
                bail!("{host} is no agent");
            }
        }
        Ok(())
    }

    fn check_nodes(&self, hosts: [&String; 2]) -> Result<()> {
        let nodes = self.nodes();
        match hosts.into_iter().find(|host| nodes.len() != 2 || !nodes.contains(&host.as_str())) {
            Some(host) => bail!("{host} is not one of a pair of brokers"),
            None => Ok(()),
        }
    }

    /// The product's daemon on a host: `vsmserver` or `vsmagent`.
    ///
    /// # Errors
    /// When the host is not known or runs none.
    pub fn product_daemon(&self, host: &str) -> Result<&'static str> {
        plan::daemon(self.host(host)?.role).with_context(|| format!("{host} has no daemon of ours"))
    }

    /// The names of the brokers, as the configuration of each has them.
    fn nodes(&self) -> Vec<&str> {
        let brokers = self.hosts().iter().filter(|host| host.role == super::Role::Broker);
        brokers.map(|host| &*host.name).collect()
    }

    fn has_keepalived(&self, host: &str) -> Result<bool> {
        Ok(self.layout.runs(self.host(host)?, HaSoftware::Keepalived))
    }

    /// Whole or not at all.
    fn note(&self, faults: &[Fault]) -> Result<()> {
        let (file, fresh) = (self.fault_file(), self.fault_file().with_extension("new"));
        fs::write(&fresh, serde_json::to_vec_pretty(faults)?)
            .with_context(|| fresh.display().to_string())?;
        fs::rename(&fresh, &file).with_context(|| file.display().to_string())
    }

    fn fault_file(&self) -> PathBuf {
        state_dir(self.name()).join("faults.json")
    }
}
