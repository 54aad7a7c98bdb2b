//! Making one fault and undoing it.

use anyhow::{Context, Result, bail};

use super::super::lock::Lock;
use super::super::spec::RESOURCE;
use super::super::{Cluster, Start, cgroup, disk, net, slow, up};
use super::{Fault, packets};

const SIGKILL: i32 = 9;

impl Cluster {
    pub(super) fn make(&self, fault: &Fault, lock: &Lock) -> Result<()> {
        let name = self.name();
        match fault {
            Fault::Cable { host } => net::set_port(&self.layout, lock, host, "down"),
            Fault::Silent { host } => net::set_port(&self.layout, lock, host, "nomaster"),
            Fault::Kill { host, daemon } => self.kill_for_good(host, daemon),
            Fault::Crash { host, daemon } if self.has_pacemaker(host) && daemon == "vsmserver" => {
                // Not a daemon of PID 1: the OCF agent notes its number.
                let words = ["sh", "-c", "kill -9 \"$(cat /run/vsmserver.pid)\""];
                self.output(host, "root", &words).map(drop)
            }
            Fault::Standby { host } => {
                self.output(host, "root", &["crm_standby", "-v", "on"]).map(drop)
            }
            Fault::Crash { host, daemon } => self.kill_daemon(host, daemon, SIGKILL),
            Fault::Power { host } => match self.init_pid(host) {
                Ok(pid) => self.cut_power(host, pid, lock),
                Err(_) => Ok(()),
            },
            Fault::Freeze { host } => {
                self.init_pid(host)?;
                cgroup::set_frozen(name, host, true)
            }
            Fault::Slow { host, percent } => slow::set(name, host, Some(*percent)),
            Fault::Cut { .. } | Fault::Loss { .. } => {
                packets::apply(&self.layout, &self.faults(), lock)
            }
            Fault::VipBoth { host } => {
                self.init_pid(host)?;
                net::set_address(&self.layout, host, RESOURCE.1, true).map(drop)
            }
            Fault::KeepalivedDead { host } => self.kill_for_good(host, "keepalived"),
            Fault::Clock { host, step_s } => self.step_clock(host, *step_s),
            Fault::DiskFull { host } => disk::close(name, host),
            Fault::DiskSnapshot { host } => self.standing_still(host, || disk::save(name, host)),
            Fault::DiskRollback { host } => {
                if !disk::is_saved(name, host) {
                    bail!("no disk-snapshot was taken of {host}");
                }
                self.without_daemon(host, || disk::restore(name, host))
            }
            Fault::DiskLost { host } if self.layout.start == Start::Fresh => {
                self.replace_disks(host, lock)
            }
            Fault::DiskLost { host } => self.without_daemon(host, || disk::wipe(name, host)),
            Fault::Clone { host, of } => {
                self.without_daemon(host, || disk::copy_promise(name, of, host))
            }
            Fault::Misnamed { host, node } => self.name_nodes(host, Some(node)),
        }
    }

    /// `left` are the faults that stay in force.
    pub(super) fn undo(&self, fault: &Fault, left: &[Fault], lock: &Lock) -> Result<()> {
        let name = self.name();
        match fault {
            Fault::Cable { host } => net::set_port(&self.layout, lock, host, "up"),
            Fault::Silent { host } => net::set_port(&self.layout, lock, host, "master br0"),
            // Those of a host that is off start when it boots.
            Fault::Kill { host, .. } | Fault::KeepalivedDead { host }
                if self.init_pid(host).is_err() =>
            {
                Ok(())
            }
            // It is Pacemaker's own note, and outlives a boot.
            Fault::Standby { host } => self.output(host, "root", &["crm_standby", "-D"]).map(drop),
            Fault::Kill { host, daemon } => self.start_daemon(host, daemon),
            Fault::KeepalivedDead { host } => self.start_daemon(host, "keepalived"),
            Fault::Power { host } => match self.init_pid(host) {
                Ok(_) => Ok(()),
                Err(_) => up::power_on(&self.layout, self.host(host)?, &self.helper, lock),
            },
            Fault::Freeze { host } => cgroup::set_frozen(name, host, false),
            Fault::Slow { host, .. } => slow::set(name, host, None),
            Fault::Cut { .. } | Fault::Loss { .. } => packets::apply(&self.layout, left, lock),
            Fault::VipBoth { host } => self.take_address(host),
            Fault::Clock { host, .. } => self.clock_says(host, 0),
            Fault::DiskFull { host } => disk::open(name, host),
            Fault::Misnamed { host, .. } => self.name_nodes(host, None),
            Fault::Crash { .. }
            | Fault::DiskSnapshot { .. }
            | Fault::DiskRollback { .. }
            | Fault::DiskLost { .. }
            | Fault::Clone { .. } => Ok(()),
        }
    }

    /// How often a host that is slow had to stop, as it had used up its share of the processor.
    ///
    /// # Errors
    /// If nothing counts that.
    pub fn stops_of_slow(&self, host: &str) -> Result<u64> {
        slow::stops(self.name(), host)
    }

    /// Names both nodes in a broker's configuration, one of them wrongly, and restarts it.
    fn name_nodes(&self, host: &str, wrong: Option<&str>) -> Result<()> {
        let name = |node: &str| match wrong {
            Some(wrong) if wrong == node => format!("{node}-x"),
            _ => node.to_owned(),
        };
        let names: Vec<String> = self.nodes().into_iter().map(name).collect();
        let names = format!("/vsmserver/HA/nodes={}", names.join(" "));
        self.output(host, "root", &["vsm-config", &names])?;
        self.restart_daemon(host, "vsmserver")
    }

    /// Takes the resource address from a broker unless it is the only one that has it: then
    /// keepalived has given it the address meanwhile.
    fn take_address(&self, host: &str) -> Result<()> {
        if self.holders_of(RESOURCE.1)?.iter().any(|holder| holder != host) {
            net::set_address(&self.layout, host, RESOURCE.1, false)?;
        }
        Ok(())
    }

    /// Runs `step` while nothing on the host writes, so that a copy is one of a single moment.
    fn standing_still(&self, host: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        let still = self.init_pid(host).is_err() || cgroup::is_frozen(self.name(), host);
        if still {
            return step();
        }
        cgroup::set_frozen(self.name(), host, true)?;
        let result = step();
        cgroup::set_frozen(self.name(), host, false)?;
        result
    }

    /// Runs `step` while the daemon is dead; one that was down before stays so.
    fn without_daemon(&self, host: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        let daemon = self.product_daemon(host)?;
        if self.init_pid(host).is_err() {
            return step();
        }
        let ran = self.daemon(host, daemon)?.pid.is_some();
        self.kill_for_good(host, daemon)?;
        let result = step();
        if ran {
            self.start_daemon(host, daemon).context("after the disk")?;
        }
        result
    }
}
