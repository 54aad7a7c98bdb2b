//! keepalived's address goes with it, however it ends, and stays while it is told to read its configuration again.

use std::time::Duration;

use xtask::clock::wait_for;
use xtask::cluster::Cluster;

use super::{hosts, install, sh, unit};

const WAIT: Duration = Duration::from_secs(120);
const HOST: &str = "tlha-primary";

/// Waits until this host has the address, or has it no more.
fn has_address(cluster: &Cluster, wanted: bool) {
    wait_for(&format!("the address to be here: {wanted}"), WAIT, || {
        let here = sh(cluster, HOST, "ip -o address show");
        if here.contains("10.0.0.99/") == wanted { Ok(()) } else { Err(here) }
    })
    .unwrap();
}

#[test]
fn no_address_is_left_behind() {
    let cluster = hosts("pkg-vrrp");
    install(&cluster, HOST, "now", &["vsm-common", "vsm-server"]);
    // The template as the guide has it filled in; no broker says here whether the address may come.
    sh(
        &cluster,
        HOST,
        "sed -e 's/@NODE@/tlha-primary/; s/@INTERFACE@/eth0/; s/@OWN_ADDRESS@/10.0.0.2/; s/@PEER_ADDRESS@/10.0.0.3/' \
            -e 's|@RESOURCE_ADDRESS@|10.0.0.99/24|; s/@PRIORITY@/101/' /usr/share/vsm/keepalived.conf > /root/k
        mkdir -p /etc/keepalived && install -m 600 /root/k /etc/keepalived/keepalived.conf
        echo 0 > /run/vsm/vsmserver.health
        systemctl restart keepalived",
    );
    has_address(&cluster, true);
    sh(&cluster, HOST, "systemctl reload keepalived");
    has_address(&cluster, true);

    // All of it at once, as by the kernel that is out of memory; it must not come back before the test has looked.
    sh(
        &cluster,
        HOST,
        "mkdir -p /run/systemd/system/keepalived.service.d
        printf '[Service]\\nRestart=no\\n' > /run/systemd/system/keepalived.service.d/zz.conf
        systemctl daemon-reload",
    );
    sh(&cluster, HOST, "systemctl kill --signal=KILL keepalived");
    unit(&cluster, HOST, "keepalived", "failed");
    has_address(&cluster, false);
    let ran = sh(&cluster, HOST, "systemctl show --property=ExecStopPost keepalived");
    assert!(
        ran.contains("/usr/lib/vsm/flush-address") && ran.contains("code=exited ; status=0"),
        "{ran}"
    );
    assert!(
        sh(&cluster, HOST, "ip -o address show eth0").contains("10.0.0.2/"),
        "the node's own address is gone"
    );

    // And in order.
    sh(&cluster, HOST, "systemctl reset-failed keepalived; systemctl start keepalived");
    has_address(&cluster, true);
    sh(&cluster, HOST, "systemctl stop keepalived");
    has_address(&cluster, false);
}
