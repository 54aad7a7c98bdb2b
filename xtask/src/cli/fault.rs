//! `cargo xtask cluster fault KIND …`: which faults the words of a command line are.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::Name;
use crate::cluster::{Cluster, Fault, Role, Traffic};

/// Which cluster and which fault.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) name: Name,
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Pull the cable: no carrier
    Cable(Hosts),
    /// Have the switch forward nothing; the carrier stays
    Silent(Hosts),
    /// Kill the daemon with SIGKILL; it stays dead
    Kill {
        #[command(flatten)]
        on: Hosts,
        /// Which daemon, instead of vsmserver or vsmagent
        #[arg(long)]
        daemon: Option<String>,
        /// Restart it, as systemd would
        #[arg(long)]
        restart: bool,
    },
    /// Cut the power; heal boots the host
    Power(Hosts),
    /// Put the host on standby in Pacemaker, which runs nothing there: a planned move
    Standby(Hosts),
    /// Freeze all processes
    Freeze(Hosts),
    /// Let frozen processes continue
    Thaw(Hosts),
    /// Cut the first host off from each of the others
    Partition {
        one: String,
        #[arg(required = true)]
        others: Vec<String>,
        /// Lose only what the first host sends
        #[arg(long)]
        one_way: bool,
        /// Lose only VRRP: keepalived thinks that the other node is dead
        #[arg(long, conflicts_with = "except_vrrp")]
        vrrp_only: bool,
        /// Lose everything except VRRP: keepalived thinks that all is well
        #[arg(long)]
        except_vrrp: bool,
    },
    /// Leave a host only a part of a processor core
    Slow {
        /// Hundredths of one core
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
        percent: u32,
        #[command(flatten)]
        on: Hosts,
    },
    /// Lose some of the packets from and to a host
    Loss {
        /// Percentage of packets to lose
        #[arg(value_parser = clap::value_parser!(u8).range(1..=100))]
        percent: u8,
        #[command(flatten)]
        on: Hosts,
    },
    /// Give the resource address also to a broker that does not have it
    VipBoth {
        /// Only this broker, instead of all
        host: Option<String>,
    },
    /// Kill keepalived with SIGKILL; an address that the broker has stays
    KeepalivedDead(Hosts),
    /// Step the clock that the daemon sees; a daemon is restarted for its first step
    Clock {
        /// How far it is off: +1h, -30m, 90s
        #[arg(allow_hyphen_values = true, value_parser = step)]
        step: i64,
        #[command(flatten)]
        on: Hosts,
    },
    /// Fill the disk that holds the daemon's store
    DiskFull(Hosts),
    /// Copy the daemon's store, for disk-rollback
    DiskSnapshot(Hosts),
    /// Restore the copy of the daemon's store, and start the daemon on it
    DiskRollback(Hosts),
    /// Lose the daemon's store, and start the daemon without it
    DiskLost(Hosts),
    /// Give an agent the promises of another one, as on a cloned host
    Clone { of: String, host: String },
    /// Put a wrong node name into a broker's configuration
    Misnamed { host: String, node: String },
}

#[derive(Debug, Args)]
struct Hosts {
    #[arg(required = true)]
    hosts: Vec<String>,
}

impl Hosts {
    fn each(&self, fault: impl Fn(String) -> Fault) -> Vec<Fault> {
        self.hosts.iter().cloned().map(fault).collect()
    }
}

impl Options {
    /// Makes the faults one after the other, and says which.
    pub(super) fn run(&self, cluster: &Cluster) -> Result<()> {
        if let Kind::Thaw(on) = &self.kind {
            return on
                .each(|host| Fault::Freeze { host })
                .iter()
                .try_for_each(|fault| cluster.heal_fault(fault));
        }
        for fault in self.kind.faults(cluster)? {
            cluster.fault(&fault)?;
            let how = if fault.lasts() { "in force" } else { "done" };
            eprintln!("{how}: {fault}");
        }
        Ok(())
    }
}

impl Kind {
    fn faults(&self, cluster: &Cluster) -> Result<Vec<Fault>> {
        Ok(match self {
            Self::Cable(on) => on.each(|host| Fault::Cable { host }),
            Self::Silent(on) => on.each(|host| Fault::Silent { host }),
            Self::Kill { on, daemon, restart } => kill(cluster, on, daemon.as_deref(), *restart)?,
            Self::Power(on) => on.each(|host| Fault::Power { host }),
            Self::Standby(on) => on.each(|host| Fault::Standby { host }),
            Self::Freeze(on) => on.each(|host| Fault::Freeze { host }),
            Self::Thaw(_) => Vec::new(),
            Self::Partition { one, others, one_way, vrrp_only, except_vrrp } => {
                let traffic = match (vrrp_only, except_vrrp) {
                    (true, _) => Traffic::Vrrp,
                    (_, true) => Traffic::AllButVrrp,
                    (false, false) => Traffic::All,
                };
                let ways = if *one_way { 1 } else { 2 };
                let cut = |other: &String| Fault::partition(one, other, traffic);
                others.iter().flat_map(|other| cut(other).into_iter().take(ways)).collect()
            }
            Self::Slow { percent, on } => on.each(|host| Fault::Slow { host, percent: *percent }),
            Self::Loss { percent, on } => on.each(|host| Fault::Loss { host, percent: *percent }),
            Self::VipBoth { host: Some(host) } => vec![Fault::VipBoth { host: host.clone() }],
            Self::VipBoth { host: None } => {
                let holders = cluster.holders_of(cluster.resource_address())?;
                let without = |name: &String| !holders.contains(name);
                let brokers = cluster.hosts().iter().filter(|host| host.role == Role::Broker);
                let brokers = brokers.map(|host| host.name.clone()).filter(without);
                brokers.map(|host| Fault::VipBoth { host }).collect()
            }
            Self::KeepalivedDead(on) => on.each(|host| Fault::KeepalivedDead { host }),
            Self::Clock { step, on } => on.each(|host| Fault::Clock { host, step_s: *step }),
            Self::DiskFull(on) => on.each(|host| Fault::DiskFull { host }),
            Self::DiskSnapshot(on) => on.each(|host| Fault::DiskSnapshot { host }),
            Self::DiskRollback(on) => on.each(|host| Fault::DiskRollback { host }),
            Self::DiskLost(on) => on.each(|host| Fault::DiskLost { host }),
            Self::Clone { of, host } => {
                vec![Fault::Clone { host: host.clone(), of: of.clone() }]
            }
            Self::Misnamed { host, node } => {
                vec![Fault::Misnamed { host: host.clone(), node: node.clone() }]
            }
        })
    }
}

fn kill(cluster: &Cluster, on: &Hosts, daemon: Option<&str>, restart: bool) -> Result<Vec<Fault>> {
    let one = |host: &String| {
        let daemon = match daemon {
            Some(daemon) => daemon,
            None => cluster.product_daemon(host).context("--daemon is needed")?,
        };
        let (host, daemon) = (host.clone(), daemon.to_owned());
        Ok(if restart { Fault::Crash { host, daemon } } else { Fault::Kill { host, daemon } })
    };
    on.hosts.iter().map(one).collect()
}

/// Seconds from a number with a sign and a unit, both of which may be left out.
fn step(text: &str) -> Result<i64, String> {
    let (number, unit_s) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) if text.ends_with('m') => (number, 60),
        Some(number) if text.ends_with('h') => (number, 3600),
        Some(number) if text.ends_with('d') => (number, 86_400),
        Some(number) => (number, 1),
        None => (text, 1),
    };
    let number: i64 = number.parse().map_err(|_| "a number with s, m, h or d".to_owned())?;
    let step = number.checked_mul(unit_s).filter(|step| step.abs() <= STEP_MAX_S);
    step.ok_or_else(|| format!("at most {} days", STEP_MAX_S / 86_400))
}

/// Ten years: further certificates do not hold anyway.
const STEP_MAX_S: i64 = 3650 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_number_with_a_unit() {
        assert_eq!(
            ["+1h", "-30m", "90s", "0", "2d"].map(step).map(Result::unwrap),
            [3600, -1800, 90, 0, 172_800]
        );
        for bad in ["", "h", "1w", "1.5h", "99999999d", "9223372036854775807d"] {
            assert!(step(bad).is_err(), "{bad}");
        }
    }
}
