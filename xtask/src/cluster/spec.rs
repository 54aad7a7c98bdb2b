//! What a cluster consists of: the hosts with their addresses, the users, where the state lies.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Where all clusters keep their state; for root only.
pub(crate) const STATE_ROOT: &str = "/run/vsm-cluster";
/// The name of the host that holds the bridge; it runs nothing.
pub(crate) const SWITCH: &str = "switch";
/// The product's programs that appear in every host's `/usr/bin`.
pub(crate) const BINARIES: [&str; 18] = [
    "vsmserver",
    "vsm-root",
    "vsmagent",
    "vsm-agent-net",
    "vsm-session",
    "vsm-session-param",
    "vsm-disconnect",
    "vsm-extend",
    "vsm-env",
    "vsm-while-x11",
    "vsm-authorized-keys",
    "vsm-login",
    "vsm",
    "vsmctl",
    "vsm-config",
    "vsm-setup",
    "vsm-sync",
    "vsm-web",
];
/// The most agents that fit the addresses 10.0.0.11 to 10.0.0.89.
const AGENTS_MAX: u8 = 79;
/// The most numbered users.
const USERS_MAX: u16 = 999;
/// Longest cluster name.
const NAME_LEN_MAX: usize = 24;

/// The name and the address that users and agents connect to.
pub(crate) const RESOURCE: (&str, Ipv4Addr) = ("tlha", Ipv4Addr::new(10, 0, 0, 4));

/// How many brokers, and so what becomes of the resource address `tlha`, 10.0.0.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Brokers {
    /// `tlha-primary` alone, with HA off; it always has the resource address.
    Single,
    /// `tlha-primary` and `tlha-secondary`, with HA on; the HA software gives one of them the address.
    Pair,
}

/// The HA software of a pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum HaSoftware {
    /// keepalived: up in a second.
    #[default]
    Keepalived,
    /// Pacemaker on corosync, with a power switch to fence by: up in half a minute.
    Pacemaker,
}

/// Everybody's password where people log in with one, and the same as `/etc/shadow` has it.
pub const PASSWORD: &str = "correct horse";
pub(super) const PASSWORD_HASH: &str = "$6$vsmlab$fTDmqAmcnqlm0Akg6KyuXBv04SVzUME2d6NlifphZGgB2t7raM75HI9s2BamJosdKT6aT/I3ajqk01c.6T0TK/";

/// What the hosts start with, and so what is PID 1 on them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The product as it is built, configured and running; xtask is PID 1.
    #[default]
    Ready,
    /// Debian's own packages and nothing of the product; Debian's systemd is PID 1.
    Fresh,
}

/// What people are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Factors {
    /// Their password.
    Password,
    /// Their password, then a code that is good for half a minute.
    PasswordAndCode,
}

/// What to bring up.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// The cluster's name: lower-case letters, digits and `-`, at most 24.
    pub name: String,
    /// One broker or two.
    pub brokers: Brokers,
    /// What moves a pair's resource address.
    pub software: HaSoftware,
    /// What the hosts start with.
    pub start: Start,
    /// Fresh hosts: a directory that they see as `/mnt`, such as one with packages.
    pub medium: Option<PathBuf>,
    /// How many agents, 1 to 79; with a pair 0 too: then the brokers' hosts are the only agents, and there are no
    /// witnesses.
    pub agents: u8,
    /// How many numbered users `user001`… beside alice, bob and carol, 0 to 999.
    pub users: u16,
    /// What people who log in with a browser are asked for; none = brokers have no sshd for them.
    pub web: Option<Factors>,
    /// The xtask program, which is PID 1 of every host.
    pub helper: PathBuf,
    /// The directory with the product's programs; one that is not there yet is left out.
    pub binaries: PathBuf,
    /// Take what stands under this name down first.
    pub fresh: bool,
    /// Tell each step on stderr.
    pub progress: bool,
}

impl ClusterSpec {
    /// One broker and two agents with the programs that lie beside `helper`.
    #[must_use]
    pub fn new(name: impl Into<String>, helper: impl Into<PathBuf>) -> Self {
        let helper = helper.into();
        let binaries = helper.parent().map(Path::to_path_buf).unwrap_or_default();
        Self {
            name: name.into(),
            brokers: Brokers::Single,
            software: HaSoftware::Keepalived,
            start: Start::Ready,
            medium: None,
            agents: 2,
            users: 0,
            web: None,
            helper,
            binaries,
            fresh: false,
            progress: false,
        }
    }

    /// A pair of brokers and three agents, which are enough to be its witnesses.
    #[must_use]
    pub fn pair(name: impl Into<String>, helper: impl Into<PathBuf>) -> Self {
        Self { brokers: Brokers::Pair, agents: 3, ..Self::new(name, helper) }
    }

    /// The hosts of a pair without anything of the product: for packages, and for those who set a pair up.
    #[must_use]
    pub fn fresh(name: impl Into<String>, helper: impl Into<PathBuf>) -> Self {
        Self { start: Start::Fresh, ..Self::pair(name, helper) }
    }

    /// Checks names and numbers.
    pub(crate) fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        let least = u8::from(self.brokers == Brokers::Single);
        if !(least..=AGENTS_MAX).contains(&self.agents) {
            bail!("{} agents: {least} to {AGENTS_MAX} are possible", self.agents);
        }
        if self.users > USERS_MAX {
            bail!("{} users: 0 to {USERS_MAX} are possible", self.users);
        }
        Ok(())
    }
}

/// Refuses a name that could not be part of a path, a namespace or a cgroup.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(allowed) {
        bail!("cluster name {name:?}: 1 to {NAME_LEN_MAX} of a-z, 0-9 and -");
    }
    Ok(())
}

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs `vsmserver`.
    Broker,
    /// Runs `vsmagent` and the desktops.
    Agent,
    /// Where the users sit.
    Client,
}

/// One host of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Host name, also `uname -n`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The addresses that it always has; the first is its own.
    pub addresses: Vec<Ipv4Addr>,
}

impl Host {
    fn new(name: impl Into<String>, role: Role, last: u8) -> Self {
        Self { name: name.into(), role, addresses: vec![Ipv4Addr::new(10, 0, 0, last)] }
    }

    /// All names and addresses that it answers to, now or after the resource address moved.
    pub(crate) fn identities(&self) -> Vec<String> {
        let (resource, floating) = (RESOURCE.0.to_owned(), RESOURCE.1.to_string());
        let mut all = vec![self.name.clone()];
        all.extend((self.role == Role::Broker).then_some(resource));
        all.extend(self.addresses.iter().map(ToString::to_string));
        if self.role == Role::Broker && !all.contains(&floating) {
            all.push(floating);
        }
        all
    }
}

/// A cluster as it stands: written to its state directory, read back by later commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) name: String,
    pub(crate) brokers: Brokers,
    pub(crate) software: HaSoftware,
    pub(crate) start: Start,
    pub(crate) medium: Option<PathBuf>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) users: Vec<User>,
    #[serde(default)]
    pub(crate) web: Option<Factors>,
}

/// A person of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) name: String,
    /// User and group id.
    pub(crate) uid: u32,
}

impl Layout {
    pub(crate) fn new(spec: &ClusterSpec) -> Self {
        let mut primary = Host::new("tlha-primary", Role::Broker, 2);
        let mut hosts = match spec.brokers {
            Brokers::Single => {
                primary.addresses.push(RESOURCE.1);
                vec![primary]
            }
            Brokers::Pair => vec![primary, Host::new("tlha-secondary", Role::Broker, 3)],
        };
        hosts
            .extend((1..=spec.agents).map(|n| Host::new(format!("agent{n}"), Role::Agent, 10 + n)));
        hosts.push(Host::new("client", Role::Client, 100));
        let people = ["alice", "bob", "carol"].into_iter().zip(2001..);
        let mut users: Vec<_> =
            people.map(|(name, uid)| User { name: name.to_owned(), uid }).collect();
        users.extend(
            (1..=u32::from(spec.users))
                .map(|n| User { name: format!("user{n:03}"), uid: 3000 + n }),
        );
        let (name, brokers, software) = (spec.name.clone(), spec.brokers, spec.software);
        let (start, medium, web) = (spec.start, spec.medium.clone(), spec.web);
        Self { name, brokers, software, start, medium, hosts, users, web }
    }

    /// Whether a host is one of a pair that is ready, under this software.
    pub(crate) fn runs(&self, host: &Host, software: HaSoftware) -> bool {
        let pair = self.brokers == Brokers::Pair && host.role == Role::Broker;
        pair && self.start == Start::Ready && self.software == software
    }

    /// The hosts that run `vsmagent`: those of the agents, or where there are none the brokers.
    pub(crate) fn agents(&self) -> impl Iterator<Item = &Host> {
        let apart = self.of_role(Role::Agent).next().is_some();
        self.of_role(if apart { Role::Agent } else { Role::Broker })
    }

    pub(crate) fn runs_agent(&self, host: &Host) -> bool {
        self.agents().any(|agent| agent == host)
    }

    /// Which SSH host key a host has: ready brokers share one, so that users see one host; fresh hosts
    /// have one each, as Debian makes it.
    pub(crate) fn host_key<'a>(&self, host: &'a Host) -> &'a str {
        let shared = self.start == Start::Ready && host.role == Role::Broker;
        if shared { RESOURCE.0 } else { &host.name }
    }

    pub(crate) fn of_role(&self, role: Role) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(move |host| host.role == role)
    }
}

/// The directory of a cluster.
pub(crate) fn state_dir(name: &str) -> PathBuf {
    Path::new(STATE_ROOT).join(name)
}

/// The network namespace of a host.
pub(crate) fn netns(cluster: &str, host: &str) -> String {
    format!("vsm-{cluster}-{host}")
}

/// Whether `netns` is one of this cluster's; `a` must not take those of `a-b`.
pub(crate) fn owns_netns(cluster: &str, netns: &str) -> bool {
    let host = netns.strip_prefix("vsm-").and_then(|rest| rest.strip_prefix(cluster));
    let Some(host) = host.and_then(|rest| rest.strip_prefix('-')) else { return false };
    let numbered = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    matches!(host, SWITCH | "client" | "tlha-primary" | "tlha-secondary")
        || host.strip_prefix("agent").is_some_and(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_does_not_own_the_namespaces_of_a_longer_name() {
        assert!(owns_netns("a", "vsm-a-switch"));
        assert!(owns_netns("a", "vsm-a-agent12"));
        assert!(owns_netns("a-agent1", "vsm-a-agent1-client"));
        assert!(!owns_netns("a", "vsm-a-agent1-client"));
        assert!(!owns_netns("a", "vsm-ab-client"));
        assert!(!owns_netns("a", "vsm-a-agent"));
    }

    #[test]
    fn names_and_numbers_are_bounded() {
        let mut spec = ClusterSpec::new("ok-1", "/x/xtask");
        assert!(spec.check().is_ok());
        spec.agents = 80;
        assert!(spec.check().is_err());
        assert!(check_name("../up").is_err());
        assert!(check_name("").is_err());
    }

    #[test]
    fn both_of_a_pair_answer_to_the_resource_address_and_neither_has_it_by_itself() {
        let layout = Layout::new(&ClusterSpec::pair("x", "/x/xtask"));
        let brokers: Vec<_> = layout.of_role(Role::Broker).collect();
        let [primary, secondary] = brokers[..] else { panic!("{brokers:?}") };
        assert_eq!(primary.identities(), ["tlha-primary", "tlha", "10.0.0.2", "10.0.0.4"]);
        assert_eq!(secondary.identities(), ["tlha-secondary", "tlha", "10.0.0.3", "10.0.0.4"]);
        assert!(brokers.iter().all(|broker| !broker.addresses.contains(&RESOURCE.1)));
        assert_eq!(layout.host_key(primary), layout.host_key(secondary));
        let fresh = Layout::new(&ClusterSpec::fresh("x", "/x/xtask"));
        assert_ne!(fresh.host_key(primary), fresh.host_key(secondary));
        assert_eq!(layout.hosts.len(), 6);
    }

    #[test]
    fn the_resource_address_is_on_the_broker() {
        let layout = Layout::new(&ClusterSpec::new("x", "/x/xtask"));
        let broker = layout.of_role(Role::Broker).next().unwrap();
        assert_eq!(broker.identities(), ["tlha-primary", "tlha", "10.0.0.2", "10.0.0.4"]);
        assert_eq!(layout.hosts.len(), 4);
    }
}
