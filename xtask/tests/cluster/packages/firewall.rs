//! A whole installation on hosts with firewalld, which lets in nothing but ssh at first.

use std::fs;

use xtask::clock::wait_for;

use super::{WAIT, answer, connect, installed, packages, sh, try_sh};

/// What firewalld lets in, now and after its next start.
const RULES: &str = "firewall-cmd --list-all; firewall-cmd --permanent --list-all";
const SERVER: &str = "role = server\\npublic_name = tlha-primary\\nbrokers = tlha-primary\\nagents = agent1\\nfirewall = open\\n";
const AGENT: &str = "role = agent\\npublic_name = agent1\\nmaster = tlha-primary\\nbrokers = tlha-primary\\nfirewall = open\\n";

#[test]
fn firewalld_lets_in_whom_it_must_and_nobody_else() {
    // Not on the machine of who runs the tests: there it would close the ports at the next boot.
    let medium = packages().join("firewalld");
    if !medium.exists() {
        xtask::setup::fetch("firewalld", &medium).unwrap();
    }
    assert!(fs::read_dir(&medium).unwrap().count() > 0);
    let cluster = installed("pkg-firewalld");
    let hosts = [("tlha-primary", SERVER, "vsmserver"), ("agent1", AGENT, "vsmagent")];
    let reaches = |from: &str, to: &str| {
        try_sh(&cluster, from, &format!("timeout 5 bash -c '</dev/tcp/{to}'")).0 == 0
    };
    for (host, ..) in hosts {
        sh(&cluster, host, "dpkg --install /mnt/firewalld/*.deb && firewall-cmd --state");
    }
    for (host, answers, daemon) in hosts {
        let before = sh(&cluster, host, RULES);
        let said = answer(&cluster, host, answers);
        assert!(said.contains("firewall-cmd --permanent '--add-rich-rule="), "{said}");
        let after = sh(&cluster, host, RULES);
        assert_ne!(before, after);
        sh(&cluster, host, &format!("systemctl restart {daemon}"));

        // The second time changes nothing, and what is open now is open after the next start.
        answer(&cluster, host, answers);
        assert_eq!(sh(&cluster, host, RULES), after);
        sh(&cluster, host, "systemctl restart firewalld");
        assert_eq!(sh(&cluster, host, RULES), after);
    }
    wait_for("the daemons to listen", WAIT, || {
        match reaches("agent1", "tlha-primary/9000") && reaches("tlha-primary", "agent1/904") {
            true => Ok(()),
            false => Err("not yet".to_owned()),
        }
    })
    .unwrap();
    assert!(!reaches("client", "tlha-primary/9000") && !reaches("client", "agent1/904"));
    connect(&cluster);
}
