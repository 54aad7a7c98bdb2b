//! Desktops on hosts as Debian has them: its PAM stack, its sshd with the limits that it comes with, systemd with logind and a
//! bus for each user. A desktop there is a login like any other.

use std::collections::{BTreeMap, BTreeSet};

use xtask::cluster::Cluster;

use crate::packages::{connect, sh, working};

const AGENT: &str = "agent1";
/// What a login has that a program in a desktop has not, or the other way round, and what is each one's own.
const DIFFERENT: [&str; 15] = [
    // Where it comes from, and what shells note of themselves.
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
    // Of sshd's terminals alone: mail and the message of the day.
    "MAIL",
    "MOTD_SHOWN",
    // The display, and the bus that goes with it.
    "DISPLAY",
    "XAUTHORITY",
    "DBUS_SESSION_BUS_ADDRESS",
    // logind's: another session, of another kind.
    "XDG_SESSION_ID",
    "XDG_SESSION_TYPE",
    "VSM_RUN_DIR",
    "VSM_SESSION",
];
/// Tells of a process what it is given at its start.
const PROBE: &str = "#!/bin/sh\nenv > $1.env\ncat /proc/self/limits > $1.limits\numask > $1.rest\nid >> $1.rest\nnice >> $1.rest\n";

/// Waits until a file is there, which is written under another name.
fn wait_for_file(cluster: &Cluster, file: &str) {
    sh(
        cluster,
        AGENT,
        &format!("for n in $(seq 200); do test -e {file} && exit 0; sleep 0.1; done; exit 1"),
    );
}

fn variables(cluster: &Cluster, file: &str) -> BTreeMap<String, String> {
    let text = sh(cluster, AGENT, &format!("cat {file}"));
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_desktop_has_what_a_login_by_ssh_has() {
    let cluster = working("debian-login");
    sh(
        &cluster,
        AGENT,
        &format!(
            "set -e
            echo 'SITE_LICENSE=\"x y\"' >> /etc/environment
            echo 'LANG=C.UTF-8' > /etc/default/locale
            printf '* soft nofile 8192\\nalice hard nproc 777\\nalice hard core 0\\n' > /etc/security/limits.d/site.conf
            groupadd site && usermod -aG site alice
            mkdir -p /home/alice/.vsm
            cat > /home/alice/probe <<'END'\n{PROBE}END
            printf '#!/bin/sh\\n$HOME/probe ~/desktop; touch ~/done; exec sleep 86400\\n' > /home/alice/.vsm/xstartup
            chmod 755 /home/alice/probe /home/alice/.vsm/xstartup
            chown -R alice /home/alice/.vsm /home/alice/probe"
        ),
    );
    connect(&cluster);
    wait_for_file(&cluster, "/home/alice/done");
    let login = ["ssh", "-o", "StrictHostKeyChecking=accept-new", AGENT, "~/probe ~/login"];
    cluster.output("client", "alice", &login).unwrap();

    let (desktop, login) = (
        variables(&cluster, "/home/alice/desktop.env"),
        variables(&cluster, "/home/alice/login.env"),
    );
    assert_eq!(desktop["SITE_LICENSE"], "x y", "{desktop:#?}");
    assert_eq!(desktop["LANG"], "C.UTF-8", "{desktop:#?}");
    let names: BTreeSet<_> = desktop.keys().chain(login.keys()).collect();
    let differ = |name: &&String| {
        desktop.get(*name) != login.get(*name) && !DIFFERENT.contains(&name.as_str())
    };
    let differing: Vec<_> =
        names.iter().filter(differ).map(|n| (n, desktop.get(*n), login.get(*n))).collect();
    assert!(differing.is_empty(), "{differing:#?}");
    for file in ["limits", "rest"] {
        let of = |which: &str| sh(&cluster, AGENT, &format!("cat /home/alice/{which}.{file}"));
        assert_eq!(of("desktop"), of("login"), "{file}");
    }
    let limits = sh(&cluster, AGENT, "cat /home/alice/desktop.limits");
    assert!(limits.contains("8192") && limits.contains("777"), "{limits}");
    // What looks after the desktop is not held to them.
    let monitor = sh(&cluster, AGENT, "cat /proc/$(pgrep -x vsm-session)/limits");
    assert!(!monitor.contains("777"), "{monitor}");
}
