//! Packages on hosts that lack something, or where something is in the way: they are installed, say what is to be done,
//! and break nothing.

use super::{hosts, install, sh, try_sh, unit};

#[test]
fn a_host_without_sshd_or_with_a_broken_one_is_told_so() {
    let cluster = hosts("pkg-sshd");
    // As sshd is: by the drop-in alone, and without losing a connection.
    let before = sh(&cluster, "tlha-primary", "systemctl show --property=MainPID ssh");
    let said = install(&cluster, "tlha-primary", "now", &["vsm-common", "vsm-server"]);
    assert!(!said.contains("sshd"), "{said}");
    assert!(said.contains("the broker was not started"), "{said}");
    assert!(said.contains("/etc/vsm/pki/ca.pem"), "{said}");
    assert_eq!(sh(&cluster, "tlha-primary", "systemctl show --property=MainPID ssh"), before);
    let (code, _) = try_sh(
        &cluster,
        "tlha-primary",
        "ssh -o StrictHostKeyChecking=accept-new -s localhost vsm </dev/null",
    );
    assert_ne!(code, 255, "sshd does not offer the subsystem");
    unit(&cluster, "tlha-primary", "vsmserver", "inactive");

    // sshd that would not come up again is not touched.
    sh(&cluster, "agent1", "echo 'NoSuchWord yes' > /etc/ssh/sshd_config.d/zz.conf");
    let before = sh(&cluster, "agent1", "systemctl show --property=MainPID ssh");
    let said = install(&cluster, "agent1", "now", &["vsm-common"]);
    assert!(said.contains("NoSuchWord") && said.contains("sshd was not reloaded"), "{said}");
    assert_eq!(sh(&cluster, "agent1", "systemctl show --property=MainPID ssh"), before);
    unit(&cluster, "agent1", "ssh", "active");

    // No sshd and no Xvnc at all.
    sh(
        &cluster,
        "agent1",
        "dpkg --purge vsm-common && mv /usr/sbin/sshd /root/ && rm -f /usr/bin/Xtigervnc /usr/bin/Xvnc /etc/alternatives/Xvnc",
    );
    let said = install(&cluster, "agent1", "now", &["vsm-common", "vsm-agent"]);
    assert!(
        said.contains("there is no sshd on this host")
            && said.contains("apt install openssh-server"),
        "{said}"
    );
    assert!(said.contains("there is no Xvnc on this host"), "{said}");
    assert!(sh(&cluster, "agent1", "dpkg --list vsm-agent").contains("ii  vsm-agent"));
}

#[test]
fn a_port_that_is_taken_is_told_by_unit_and_package() {
    let cluster = hosts("pkg-port");
    sh(
        &cluster,
        "tlha-primary",
        "systemd-run --quiet --unit=taker python3 -m http.server 9000
        until ss -ltn | grep -q :9000; do sleep 0.1; done",
    );
    install(&cluster, "tlha-primary", "now", &["vsm-common", "vsm-server"]);
    sh(
        &cluster,
        "tlha-primary",
        "vsmctl pki init && vsmctl pki issue tlha-primary --role broker --out /etc/vsm/pki
        vsm-config /vsmserver/subclusters/Default/agents=agent1",
    );
    let said = install(&cluster, "tlha-primary", "now", &["vsm-server"]);
    assert!(said.contains("the broker did not start: journalctl -u vsmserver says why"), "{said}");
    let log = sh(&cluster, "tlha-primary", "journalctl --unit vsmserver --output cat");
    assert!(log.contains("9000") && log.contains("in use"), "{log}");
    sh(
        &cluster,
        "tlha-primary",
        "systemctl stop taker && systemctl reset-failed vsmserver; systemctl start vsmserver",
    );
    unit(&cluster, "tlha-primary", "vsmserver", "active");

    // The same on a session host.
    let certificates = sh(
        &cluster,
        "tlha-primary",
        "vsmctl pki issue agent1 --role agent --out /root/agent1 >/dev/null; tar -C /root/agent1 -c . | base64 -w0",
    );
    sh(
        &cluster,
        "agent1",
        &format!(
            "mkdir -p /etc/vsm/pki && echo {certificates} | base64 -d | tar -C /etc/vsm/pki -x
            systemd-run --quiet --unit=taker python3 -m http.server 904
            until ss -ltn | grep -q :904; do sleep 0.1; done"
        ),
    );
    let said = install(&cluster, "agent1", "now", &["vsm-common", "vsm-agent"]);
    let says = "brokers cannot reach this host: journalctl -u vsm-agent-net says why";
    assert!(said.contains(says), "{said}");
    let log = sh(&cluster, "agent1", "journalctl --unit vsm-agent-net --output cat");
    assert!(log.contains("904") && log.contains("in use"), "{log}");
    // It tries again by itself.
    let active = "until systemctl --quiet is-active vsm-agent-net; do sleep 0.1; done";
    sh(&cluster, "agent1", &format!("systemctl stop taker; timeout 60 sh -c '{active}'"));
    unit(&cluster, "agent1", "vsm-agent-net", "active");
    unit(&cluster, "agent1", "vsmagent", "active");
}
