//! Real hosts in miniature: each has its own network, processes, host name, `/etc`, `/run`, homes
//! and sshd, all on one machine and behind a switch of their own.
//!
//! [`Cluster::up`] finds what stands and starts what is missing; dropping the value, a signal or
//! [`down`] removes every namespace, mount, process, control group and file, also of an `up` that
//! was killed half-way. State lies in `/run/vsm-cluster/NAME`, for root only.

pub(crate) mod cgroup;
mod control;
mod disk;
mod down;
mod exec;
mod fault;
pub(crate) mod files;
mod lock;
pub(crate) mod net;
mod pacemaker;
mod pki;
mod plan;
pub(crate) mod power_switch;
mod slow;
pub(crate) mod spec;
mod systemd;
mod up;
pub mod web;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

pub use self::down::down;
pub use self::fault::{Fault, Traffic};
pub use self::pacemaker::Placed;
pub use self::spec::{Brokers, ClusterSpec, HaSoftware, Host, Role, Start};
use self::spec::{Layout, RESOURCE, check_name, netns, state_dir};
use crate::host::boot::{Paths, VSM_BIN};
pub use crate::host::control::{DaemonState, DaemonStatus};
use crate::interrupt;

/// A standing cluster; it is taken down when the value is dropped, unless it is kept.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    helper: PathBuf,
    owned: bool,
}

/// Someone named a host that the cluster does not have; the text has those that it has.
#[derive(Debug)]
pub struct UnknownHost(String);

impl std::fmt::Display for UnknownHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnknownHost {}

/// What `status` tells of one host.
#[derive(Debug, Clone, Serialize)]
pub struct HostStatus {
    /// The host's name.
    pub host: String,
    /// What it is for.
    pub role: Role,
    /// The addresses that it has now; those that it always has while its power is off.
    pub addresses: Vec<Ipv4Addr>,
    /// The process id of its PID 1 on the machine; none while its power is off.
    pub pid: Option<i32>,
    /// Its daemons; empty while it is off or frozen.
    pub daemons: Vec<DaemonStatus>,
    /// The faults in force that concern it, each in one line.
    pub faults: Vec<String>,
    /// What Pacemaker runs there; none without Pacemaker.
    pub placed: Option<Placed>,
}

impl Cluster {
    /// Brings a cluster up, or finds it up; the caller owns it.
    ///
    /// # Errors
    /// When not root, when a tool is missing, or when a cluster with other hosts stands under this
    /// name. What was begun is taken down again.
    pub fn up(spec: &ClusterSpec) -> Result<Self> {
        spec.check()?;
        interrupt::own(&spec.name, down);
        let existed = Self::read_layout(&spec.name).is_ok();
        match up::up(spec) {
            Ok(layout) => Ok(Self { layout, helper: spec.helper.clone(), owned: true }),
            Err(error) if existed && !spec.fresh => {
                interrupt::disown(&spec.name);
                Err(error)
            }
            Err(error) => {
                if let Err(second) = down(&spec.name) {
                    eprintln!("cluster {}: {second:#}", spec.name);
                }
                interrupt::disown(&spec.name);
                Err(error)
            }
        }
    }

    /// A cluster that someone else brought up and owns.
    ///
    /// # Errors
    /// When none stands under this name.
    pub fn attach(name: &str, helper: impl Into<PathBuf>) -> Result<Self> {
        check_name(name)?;
        let layout = Self::read_layout(name)?;
        Ok(Self { layout, helper: helper.into(), owned: false })
    }

    fn read_layout(name: &str) -> Result<Layout> {
        let file = state_dir(name).join("cluster.json");
        let text = fs::read(&file)
            .with_context(|| format!("no cluster {name:?} stands: {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| file.display().to_string())
    }

    /// Leaves the cluster standing; `down` takes it away later.
    pub fn keep(mut self) {
        self.owned = false;
        interrupt::disown(&self.layout.name);
    }

    /// Takes it down now and says what went wrong, which a drop cannot.
    ///
    /// # Errors
    /// When something is left over.
    pub fn down(mut self) -> Result<()> {
        self.owned = false;
        let result = down(&self.layout.name);
        interrupt::disown(&self.layout.name);
        result
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.layout.name
    }

    /// All hosts: the broker, the agents, the client.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.layout.hosts
    }

    /// How every host and its daemons are.
    #[must_use]
    pub fn status(&self) -> Vec<HostStatus> {
        let faults = self.faults();
        let of = |host: &Host| {
            let pid = self.init_pid(&host.name).ok();
            let now = pid.and_then(|_| net::addresses(&self.layout.name, &host.name).ok());
            let concerns = |fault: &&Fault| fault.hosts().contains(&&*host.name);
            HostStatus {
                host: host.name.clone(),
                role: host.role,
                addresses: now.unwrap_or_else(|| host.addresses.clone()),
                pid,
                faults: faults.iter().filter(concerns).map(ToString::to_string).collect(),
                daemons: pid.and_then(|_| self.daemons(&host.name).ok()).unwrap_or_default(),
                placed: pid.and_then(|_| self.placed(&host.name).ok()),
            }
        };
        self.layout.hosts.iter().map(of).collect()
    }

    /// The hosts that have an address now: one for an address that is in order, more or none for
    /// the resource address of a pair that is not.
    ///
    /// # Errors
    /// When the hosts' networks cannot be looked at.
    pub fn holders_of(&self, address: Ipv4Addr) -> Result<Vec<String>> {
        net::holders(&self.layout, address)
    }

    /// The address that users and agents connect to, `tlha`.
    #[must_use]
    pub fn resource_address(&self) -> Ipv4Addr {
        RESOURCE.1
    }

    /// The process id, on the machine, of a host's PID 1.
    ///
    /// # Errors
    /// When there is no such host or its power is off.
    pub fn init_pid(&self, host: &str) -> Result<i32> {
        self.host(host)?;
        init_pid(&self.layout.name, host).with_context(|| format!("{host} is off"))
    }

    /// Puts a program where all hosts see it, as they do not see every folder of this machine; its path there.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn install(&self, program: &Path) -> Result<PathBuf> {
        files::install(&self.layout.name, program)?;
        Ok(Path::new(VSM_BIN).join(program.file_name().unwrap_or_default()))
    }

    fn host(&self, host: &str) -> Result<&Host> {
        let known = self.layout.hosts.iter().find(|known| known.name == host);
        Ok(known.ok_or_else(|| {
            let names: Vec<_> = self.layout.hosts.iter().map(|host| &*host.name).collect();
            let (cluster, names) = (&self.layout.name, names.join(", "));
            UnknownHost(format!("no host {host:?} in cluster {cluster:?}: {names}"))
        })?)
    }

    fn paths(&self, host: &str) -> Paths {
        Paths::of(&state_dir(&self.layout.name), host)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        if let Err(error) = down(&self.layout.name) {
            eprintln!("cluster {}: {error:#}", self.layout.name);
        }
        interrupt::disown(&self.layout.name);
    }
}

/// The PID 1 of a host as the machine sees it: the noted process, if it still lives in the host's
/// network and is a PID 1, so that a number that was given out again is not taken for it.
fn init_pid(cluster: &str, host: &str) -> Option<i32> {
    let noted = fs::read_to_string(Paths::of(&state_dir(cluster), host).pid()).ok()?;
    let pid: i32 = noted.trim().parse().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let first = status.lines().find(|line| line.starts_with("NSpid:"))?.ends_with("\t1");
    (first && net::lives_in(pid)? == net::inode(&netns(cluster, host))?).then_some(pid)
}
