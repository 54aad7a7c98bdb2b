//! What a host is told before it boots: its daemons, and the first configuration of each.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::spec::{Brokers, HaSoftware, Host, Layout, RESOURCE, Role, Start, state_dir};
use super::{files, pacemaker, web};
use crate::host::boot::{HostSpec, Paths};
use crate::host::daemon::DaemonSpec;

/// What the pair's administrator copies to both nodes.
const KEEPALIVED: &str = include_str!("../../../deploy/keepalived/vsm.conf");
/// The file in which `vsmserver` says whether its host may have the resource address.
const HEALTH: &str = "/run/vsm/vsmserver.health";

/// Writes `host.json`, which the host's PID 1 reads, and the configuration of keepalived.
pub(super) fn write(layout: &Layout, host: &Host) -> Result<()> {
    let state = state_dir(&layout.name);
    let paths = Paths::of(&state, &host.name);
    let configurable = state.join("bin/vsm-config").exists();
    let ready = layout.start == Start::Ready;
    let spec = HostSpec {
        name: host.name.clone(),
        start: layout.start,
        medium: layout.medium.clone(),
        home: files::home_dir(&state, host),
        // On the others the product makes what its desktops need.
        seats: if host.role == Role::Client { layout.users.clone() } else { Vec::new() },
        store: store(host.role).filter(|_| ready),
        first_boot: if ready && configurable { configuration(layout, host) } else { Vec::new() },
        daemons: if ready { daemons(layout, host) } else { Vec::new() },
        over: overlays(layout, host),
        run: web::factors(layout, host).map(|_| web::folder()).into_iter().collect(),
    };
    let path = paths.spec();
    fs::write(&path, serde_json::to_vec_pretty(&spec)?)
        .with_context(|| path.display().to_string())?;
    if layout.runs(host, HaSoftware::Pacemaker) {
        pacemaker::of_host(layout, &paths)?;
    }
    if layout.runs(host, HaSoftware::Keepalived) {
        let dir = paths.etc.join("keepalived");
        let path = dir.join("keepalived.conf");
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        fs::write(&path, keepalived(layout, host)).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// The product's daemon on a host of this kind.
pub(super) fn daemon(role: Role) -> Option<&'static str> {
    match role {
        Role::Broker => Some("vsmserver"),
        Role::Agent => Some("vsmagent"),
        Role::Client => None,
    }
}

/// Where that daemon keeps its store.
fn store(role: Role) -> Option<PathBuf> {
    match role {
        Role::Broker => Some("/var/lib/vsm".into()),
        Role::Agent => Some("/var/lib/vsm-agent".into()),
        Role::Client => None,
    }
}

fn overlays(layout: &Layout, host: &Host) -> Vec<(PathBuf, PathBuf)> {
    let mut over = Vec::new();
    if layout.runs(host, HaSoftware::Pacemaker) {
        over.extend(pacemaker::overlays(layout));
    }
    over.extend(web::factors(layout, host).map(|_| web::overlay(layout)));
    over
}

/// In the order in which they are started: the health file is there before keepalived looks.
fn daemons(layout: &Layout, host: &Host) -> Vec<DaemonSpec> {
    let of = |name: &str, words: &[&str]| DaemonSpec {
        name: name.to_owned(),
        argv: words.iter().map(|&word| word.to_owned()).collect(),
        health: None,
    };
    let mut daemons = vec![of("sshd", &["/usr/sbin/sshd", "-D", "-e"])];
    if web::factors(layout, host).is_some() {
        daemons.push(of(web::SSHD, &web::command().each_ref().map(String::as_str)));
        daemons.push(of(web::WEB, &web::UNPRIVILEGED));
    }
    if layout.runs_agent(host) && host.role == Role::Broker {
        daemons.push(of("vsmagent", &["/usr/bin/vsmagent"]));
        daemons.push(of("vsm-agent-net", &["/usr/bin/vsm-agent-net"]));
    }
    if host.role == Role::Broker {
        daemons.push(of("vsm-root", &["/usr/bin/vsm-root"]));
    }
    if layout.runs(host, HaSoftware::Pacemaker) {
        // That starts the broker itself.
        daemons.extend(pacemaker::DAEMONS.map(|(name, words)| of(name, words)));
        return daemons;
    }
    daemons.extend(daemon(host.role).map(|name| of(name, &[&format!("/usr/bin/{name}")])));
    if host.role == Role::Agent {
        daemons.push(of("vsm-agent-net", &["/usr/bin/vsm-agent-net"]));
    }
    if layout.runs(host, HaSoftware::Keepalived) {
        for server in daemons.iter_mut().filter(|daemon| daemon.name == "vsmserver") {
            server.health = Some(HEALTH.into());
        }
        let words = ["/usr/sbin/keepalived", "--dont-fork", "--log-console", "--vrrp"];
        daemons.push(of("keepalived", &words));
    }
    daemons
}

/// The template, filled in as its comments say.
fn keepalived(layout: &Layout, host: &Host) -> String {
    let mut brokers = layout.of_role(Role::Broker);
    let first = brokers.next().is_some_and(|first| first == host);
    let peer = layout.of_role(Role::Broker).find(|other| *other != host).unwrap_or(host);
    KEEPALIVED
        .replace("@NODE@", &host.name)
        .replace("@INTERFACE@", "eth0")
        .replace("@OWN_ADDRESS@", &host.addresses[0].to_string())
        .replace("@PEER_ADDRESS@", &peer.addresses[0].to_string())
        .replace("@RESOURCE_ADDRESS@", &format!("{}/24", RESOURCE.1))
        .replace("@PRIORITY@", if first { "101" } else { "100" })
}

const fn role_source(software: HaSoftware) -> &'static str {
    match software {
        HaSoftware::Keepalived => "address",
        HaSoftware::Pacemaker => "cluster",
    }
}

/// The lines of the installation guide, as an administrator would type them on the host.
fn configuration(layout: &Layout, host: &Host) -> Vec<Vec<String>> {
    let names = |hosts: &mut dyn Iterator<Item = &Host>| -> String {
        hosts.map(|host| &*host.name).collect::<Vec<_>>().join(" ")
    };
    let mut words = vec!["/usr/bin/vsm-config".to_owned()];
    if host.role == Role::Broker {
        let agents = names(&mut layout.agents());
        words.push(format!("/vsmserver/subclusters/Default/agents={agents}"));
        if layout.brokers == Brokers::Pair {
            // The same on both nodes: each finds out which entry it is.
            words.extend([
                "/vsmserver/HA/enabled=true".to_owned(),
                format!("/vsmserver/HA/nodes={}", names(&mut layout.of_role(Role::Broker))),
                format!("/vsmserver/HA/resource_address={}", RESOURCE.0),
                format!("/vsmserver/HA/role_source={}", role_source(layout.software)),
                // Ten times what two shared processors need at their worst.
                "/vsmserver/HA/ack_timeout=200ms".to_owned(),
            ]);
        }
    }
    if layout.runs_agent(host) {
        words.extend([
            "/vsmagent/allowed_clients=tlha-primary tlha-secondary".to_owned(),
            format!("/vsmagent/master_hostname={}", RESOURCE.0),
            format!("/vsmagent/agent_hostname={}", host.name),
        ]);
    }
    let mut commands = vec![words];
    commands.retain(|words| words.len() > 1);
    if web::factors(layout, host).is_some() {
        commands.extend(web::certificate());
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ClusterSpec;

    #[test]
    fn the_template_is_filled_in_and_differs_only_where_the_nodes_do() {
        let layout = Layout::new(&ClusterSpec::pair("x", "/x/xtask"));
        let brokers: Vec<_> = layout.of_role(Role::Broker).collect();
        let [one, two] = [0, 1].map(|n| keepalived(&layout, brokers[n]));
        for text in [&one, &two] {
            let settings = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            assert!(settings.clone().all(|line| !line.contains('@')), "{text}");
            assert!(settings.clone().any(|line| line.trim() == "10.0.0.4/24 dev eth0"), "{text}");
        }
        let differ = one.lines().zip(two.lines()).filter(|(one, two)| one != two);
        let differ: Vec<_> =
            differ.map(|(_, two)| two.trim()).filter(|l| !l.starts_with('#')).collect();
        let wanted =
            ["router_id tlha-secondary", "priority 100", "unicast_src_ip 10.0.0.3", "10.0.0.2"];
        assert_eq!(differ, wanted);
    }
}
