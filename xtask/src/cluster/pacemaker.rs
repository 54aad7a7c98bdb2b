//! A pair under Pacemaker and corosync: their files, their first configuration, and what they run where.
//!
//! The files are those of `deploy/pacemaker`, filled in as their comments say; the power switch is `power_switch`.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{Group, User};
use serde::Serialize;

use super::Cluster;
use super::spec::{ClusterSpec, HaSoftware, Layout, RESOURCE, Role, state_dir};
use crate::clock::wait_for;
use crate::host::boot::Paths;

const COROSYNC: &str = include_str!("../../../deploy/pacemaker/corosync.conf");
/// What Pacemaker is to run, for crmsh, which loads it here.
const RESOURCES: &str = include_str!("../../../deploy/pacemaker/vsm.crm");
/// The same for pcs; a test compares them.
const FOR_PCS: &str = include_str!("../../../deploy/pacemaker/vsm.pcs");
const AGENT: &str = include_str!("../../../deploy/pacemaker/vsmserver");
/// A host's PID 1 is this program, which knows how to ask the power switch. What the agent is Pacemaker asks as a user
/// of its own, who may not run that.
const FENCE_AGENT: &str = r#"#!/bin/sh
given=$(cat)
case $given in
*action=metadata* | *action=meta-data*) cat <<END
<?xml version="1.0" ?>
<resource-agent name="fence_miniature" shortdesc="Power switch of a cluster in miniature">
<longdesc>Cuts the power of a host in miniature.</longdesc>
<vendor-url>none</vendor-url>
<parameters>
<parameter name="action" unique="0" required="1"><getopt mixed="-o, --action=[action]"/><content type="string" default="reboot"/><shortdesc lang="en">What to do</shortdesc></parameter>
<parameter name="port" unique="0" required="0"><getopt mixed="-n, --plug=[host]"/><content type="string"/><shortdesc lang="en">Which host</shortdesc></parameter>
</parameters>
<actions><action name="on" automatic="0"/><action name="off"/><action name="reboot"/><action name="status"/><action name="list"/><action name="monitor"/><action name="metadata"/></actions>
</resource-agent>
END
    exit ;;
esac
echo "$given" | /proc/1/exe host-fence
"#;
/// Our switch takes some hundred milliseconds, on two processors that do everything else too.
const DELAY: &str = "2s";
/// corosync's key: as long as corosync-keygen makes it.
const KEY_LEN: u64 = 256;
/// Pacemaker waits for 20 s for others before it elects the first coordinator.
const ONLINE_WAIT: Duration = Duration::from_secs(90);
/// How long two fresh brokers may take to be started, promoted and given the address.
pub(super) const ADDRESS_WAIT: Duration = Duration::from_secs(60);

/// What a host's PID 1 starts, in this order. pacemakerd finds its run directory made, as by tmpfiles.d.
pub(super) const DAEMONS: [(&str, &[&str]); 2] = [
    ("corosync", &["/usr/sbin/corosync", "-f"]),
    (
        "pacemakerd",
        &[
            "/bin/sh",
            "-c",
            "install -d -o hacluster -g haclient -m 750 /run/crm && install -d /run/resource-agents && \
             exec /usr/sbin/pacemakerd -f",
        ],
    ),
];

/// What Pacemaker has on a host, as it sees itself there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// The nodes that are online.
    pub online: Vec<String>,
    /// Whether this part of the cluster may act.
    pub quorate: bool,
    /// The resources on this host, each with its role if that is not `Started`.
    pub resources: Vec<String>,
}

impl Cluster {
    /// Whether a host is one of a pair under Pacemaker.
    #[must_use]
    pub fn has_pacemaker(&self, host: &str) -> bool {
        self.host(host).is_ok_and(|host| self.layout.runs(host, HaSoftware::Pacemaker))
    }

    /// What Pacemaker runs on a host.
    ///
    /// # Errors
    /// When the host has no Pacemaker, or it does not answer.
    pub fn placed(&self, host: &str) -> Result<Placed> {
        if !self.has_pacemaker(host) {
            anyhow::bail!("{host} is not one of a pair under Pacemaker");
        }
        let words = ["timeout", "5", "crm_mon", "--one-shot", "--output-as=xml"];
        let xml = self.output(host, "root", &words)?;
        Ok(placed(&xml, host))
    }
}

/// What `crm_mon` tells, of which only a few attributes are of interest.
fn placed(xml: &str, host: &str) -> Placed {
    let (mut online, mut quorate, mut resources) = (Vec::new(), false, Vec::new());
    let mut resource = None;
    for line in xml.lines().map(str::trim) {
        let of = |name| attribute(line, name);
        if line.starts_with("<current_dc ") {
            quorate = of("with_quorum") == Some("true");
        } else if line.starts_with("<resource ") {
            resource = of("id").zip(of("role"));
        } else if line.starts_with("</resources>") {
            // What follows is history.
            resource = None;
        } else if line.starts_with("<node ") && of("online").is_some() {
            online.extend((of("online") == Some("true")).then(|| of("name")).flatten());
        } else if line.starts_with("<node ")
            && let (Some((id, role)), Some(name)) = (resource, of("name"))
            && name == host
        {
            resources.push(match role {
                "Started" => id.to_owned(),
                role => format!("{id} ({role})"),
            });
        }
    }
    Placed { online: online.into_iter().map(str::to_owned).collect(), quorate, resources }
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = element.split_once(&format!(" {name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// The directories whose files appear in those of the machine.
pub(super) fn overlays(layout: &Layout) -> Vec<(PathBuf, PathBuf)> {
    let dir = dir(layout);
    vec![
        (dir.join("sbin"), "/usr/sbin".into()),
        (dir.join("ocf"), "/usr/lib/ocf/resource.d".into()),
    ]
}

fn dir(layout: &Layout) -> PathBuf {
    state_dir(&layout.name).join("pacemaker")
}

/// What both brokers have: the agents, and corosync's key.
pub(super) fn shared(layout: &Layout) -> Result<()> {
    let dir = dir(layout);
    write(&dir.join("sbin/fence_miniature"), FENCE_AGENT.as_bytes(), 0o755)?;
    write(&dir.join("ocf/vsm/vsmserver"), AGENT.as_bytes(), 0o755)?;
    let key = dir.join("authkey");
    if !key.exists() {
        let mut bytes = Vec::new();
        fs::File::open("/dev/urandom")?.take(KEY_LEN).read_to_end(&mut bytes)?;
        write(&key, &bytes, 0o400)?;
    }
    Ok(())
}

/// What one broker has before it boots.
pub(super) fn of_host(layout: &Layout, paths: &Paths) -> Result<()> {
    let corosync = paths.etc.join("corosync");
    write(&corosync.join("corosync.conf"), filled_in(COROSYNC, layout).as_bytes(), 0o644)?;
    write(&corosync.join("authkey"), &fs::read(dir(layout).join("authkey"))?, 0o400)?;
    for (name, template) in [("vsm.crm", RESOURCES), ("vsm.pcs", FOR_PCS)] {
        write(&paths.etc.join(name), filled_in(template, layout).as_bytes(), 0o600)?;
    }
    let user = User::from_name("hacluster")?.context("no user hacluster: is Pacemaker here?")?;
    let group = Group::from_name("haclient")?.context("no group haclient")?;
    for name in ["corosync", "pacemaker", "crmsh"] {
        let dir = paths.log.join(name);
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, Permissions::from_mode(0o770))?;
        chown(&dir, Some(user.uid.as_raw()), Some(group.gid.as_raw()))?;
    }
    Ok(())
}

/// A template of `deploy/pacemaker`, filled in as its comments say.
fn filled_in(template: &str, layout: &Layout) -> String {
    let brokers: Vec<_> = layout.of_role(Role::Broker).collect();
    // Where the brokers are the agents, a node that reaches the users is of use.
    let apart = layout.of_role(Role::Agent).next().is_some();
    let needed = layout.of_role(if apart { Role::Agent } else { Role::Client });
    let agents: Vec<_> = needed.map(|host| host.addresses[0].to_string()).collect();
    let mut text = template.to_owned();
    for (name, broker) in ["PRIMARY", "SECONDARY"].into_iter().zip(&brokers) {
        text = text
            .replace(&format!("@{name}@"), &broker.name)
            .replace(&format!("@{name}_ADDRESS@"), &broker.addresses[0].to_string())
            // The switch needs no more than the host's name, which Pacemaker gives it.
            .replace(&format!("@FENCE_{name}@"), "");
    }
    text.replace("@RESOURCE_ADDRESS@", &RESOURCE.1.to_string())
        .replace("@PREFIX@", "24")
        .replace("@INTERFACE@", "eth0")
        .replace("@FENCE_AGENT@", "fence_miniature")
        .replace("@DELAY@", DELAY)
        .replace("@REACHABLE@", &agents.join(","))
        .replace("@MAY_FAIL@", &(agents.len() - 1).to_string())
}

/// Waits until both nodes are online, and tells Pacemaker what to run, once.
pub(super) fn configure(layout: &Layout, spec: &ClusterSpec) -> Result<()> {
    let cluster = Cluster { layout: layout.clone(), helper: spec.helper.clone(), owned: false };
    let brokers: Vec<_> = layout.of_role(Role::Broker).map(|host| &*host.name).collect();
    for host in &brokers {
        wait_for(&format!("Pacemaker on {host}"), ONLINE_WAIT, || {
            let placed = cluster.placed(host).map_err(|error| format!("{error:#}"))?;
            let both = placed.quorate && placed.online.len() == brokers.len();
            if both { Ok(()) } else { Err(format!("{placed:?}")) }
        })?;
    }
    let first = brokers.first().context("no broker")?;
    let there =
        cluster.exec(first, "root", &["crm_resource", "--resource", "vsm-pair", "-q", "-W"])?;
    if !there.status.success() {
        let load = ["crm", "-F", "configure", "load", "update", "/etc/vsm.crm"];
        cluster.output(first, "root", &load)?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let context = || path.display().to_string();
    fs::create_dir_all(path.parent().unwrap_or(path)).with_context(context)?;
    fs::write(path, bytes).with_context(context)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_filled_in() {
        let mut spec = ClusterSpec::pair("x", "/x/xtask");
        spec.software = HaSoftware::Pacemaker;
        let layout = Layout::new(&spec);
        for template in [COROSYNC, RESOURCES, FOR_PCS] {
            let text = filled_in(template, &layout);
            let settings = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            let left: Vec<_> = settings.filter(|line| line.contains('@')).collect();
            assert!(left.is_empty(), "{left:?}");
        }
        assert!(filled_in(RESOURCES, &layout).contains("10.0.0.11,10.0.0.12,10.0.0.13"));
    }

    #[test]
    fn what_runs_where_is_read_from_crm_mon() {
        let xml = r#"<pacemaker-result api-version="2.28" request="crm_mon">
          <summary>
            <current_dc present="true" version="2.1.5" name="a" id="1" with_quorum="true"/>
          </summary>
          <nodes>
            <node name="a" id="1" online="true" standby="false" unclean="false"/>
            <node name="b" id="2" online="false" standby="false" unclean="true"/>
          </nodes>
          <resources>
            <clone id="vsm-pair">
              <resource id="vsmserver" resource_agent="ocf:vsm:vsmserver" role="Promoted" active="true">
                <node name="a" id="1" cached="true"/>
              </resource>
            </clone>
            <resource id="vsm-address" role="Started">
              <node name="a" id="1" cached="true"/>
            </resource>
            <resource id="power-of-a" role="Stopped"/>
          </resources>
          <node_history>
            <node name="a">
          </node_history>"#;
        let told = placed(xml, "a");
        assert_eq!(told.resources, ["vsmserver (Promoted)", "vsm-address"]);
        assert_eq!((told.online, told.quorate), (vec!["a".to_owned()], true));
    }
}
