//! The configuration as `vsm-agent-net` uses it: who this host is, and which brokers there are.

use std::{net::IpAddr, path::PathBuf};

use vsm_config::{Config, keys};
use vsm_daemon::process::host_name;

/// What the administrator set.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Name that users reach this host by.
    pub(super) public_name: String,
    /// Names and addresses of brokers that may call, this host's own and the master's among them.
    pub(super) allowed_brokers: Vec<String>,
    /// Where the broker is.
    pub(super) master_hostname: String,
    /// Its port.
    pub(super) master_port: u16,
    /// Where `vsmagent` is asked.
    pub(super) run_dir: PathBuf,
}

/// Where users reach this host if nobody says otherwise: its address, as the described system has it; its name where
/// it has none but loopback.
fn own_address(name: &str) -> String {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let global = interfaces.iter().filter(|i| !i.is_loopback() && !i.is_link_local());
    // IPv4 first: every client can use it.
    global
        .map(if_addrs::Interface::ip)
        .min_by_key(IpAddr::is_ipv6)
        .map_or_else(|| name.to_owned(), |ip| ip.to_string())
}

impl Settings {
    /// Whether brokers are told the same by both.
    pub(super) fn tells_as(&self, other: &Self) -> bool {
        self.public_name == other.public_name
            && self.allowed_brokers == other.allowed_brokers
            && self.master_hostname == other.master_hostname
    }

    /// Reads all that it needs.
    pub(super) fn from_config(config: &Config) -> Self {
        use keys::vsmagent as k;
        let own = host_name();
        let configured_name = config.get(&k::AGENT_HOSTNAME);
        let public_name =
            if configured_name.is_empty() { own_address(&own) } else { configured_name };
        let master_hostname = config.get(&k::MASTER_HOSTNAME);
        let mut allowed_brokers = config.get(&k::ALLOWED_CLIENTS);
        // By the name in the certificate: an address of this host proves nothing about the caller.
        allowed_brokers.extend([
            master_hostname.clone(),
            own,
            public_name.clone(),
            "localhost".to_owned(),
        ]);
        Self {
            public_name,
            allowed_brokers,
            master_hostname,
            master_port: config.get(&keys::vsm::VSM_SERVER_PORT),
            run_dir: config.get(&k::RUN_DIR),
        }
    }
}
