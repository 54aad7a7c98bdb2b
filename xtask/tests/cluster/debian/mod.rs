//! Desktops on hosts as Debian has them: its PAM stack, its sshd with the limits that it comes with, systemd with
//! logind and a bus for each user. A desktop there is a login like any other.

mod home;
mod same;
mod xfce;

use std::collections::{BTreeMap, BTreeSet};

use xtask::cluster::Cluster;

use crate::packages::{connect, sh, working};

const AGENT: &str = "agent1";
/// What a login has that a program in a desktop has not, or the other way round, and what is each one's own.
const DIFFERENT: [&str; 14] = [
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
    // Debian's sshd has no /usr/local/games in it.
    "PATH",
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
            printf '* soft nofile 8192\\n* hard nofile 9000\\nalice hard nproc 777\\nalice hard core 0\\n' > /etc/security/limits.d/site.conf
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
    let mut differing = Vec::new();
    for name in names {
        let (here, there) = (desktop.get(name), login.get(name));
        if here != there && !name.starts_with("VSM_") && !DIFFERENT.contains(&name.as_str()) {
            differing.push((name, here, there));
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
    for file in ["limits", "rest"] {
        let of = |which: &str| sh(&cluster, AGENT, &format!("cat /home/alice/{which}.{file}"));
        assert_eq!(of("desktop"), of("login"), "{file}");
    }
    let limits = sh(&cluster, AGENT, "cat /home/alice/desktop.limits");
    assert!(limits.contains("8192") && limits.contains("777"), "{limits}");
}

/// Connects a user from the client with further options; the session's id.
fn login(cluster: &Cluster, user: &str, options: &[&str]) -> String {
    login_to(cluster, user, options).0
}

/// The same with its display.
fn login_to(cluster: &Cluster, user: &str, options: &[&str]) -> (String, String) {
    let to = format!("{user}@tlha-primary");
    let words = [&["vsm", "connect", "--no-viewer", "--json"], options, &[to.as_str()]].concat();
    let said = cluster.output("client", user, &words).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    (said["session"].as_str().unwrap().to_owned(), format!(":{}", said["display"]))
}

/// A service that the bus starts, and that tells what it was started with.
const SERVICE: &str = "#!/bin/sh\nenv > ~/bus-$DISPLAY.new\ncat /proc/self/cgroup >> ~/bus-$DISPLAY.new\n\
                       mv ~/bus-$DISPLAY.new ~/bus-$DISPLAY\nexec sleep 77777\n";
/// Has the bus start it.
const DESKTOP: &str = "#!/bin/sh\nexport SET_LATE=yes\ncat /proc/self/cgroup > ~/desktop-$DISPLAY\n\
                       dbus-send --session --type=method_call --dest=org.example.Probe / org.example.Probe.Go\n\
                       exec sleep 86400\n";

/// Has alice's desktops be made of that.
fn bus_users(cluster: &Cluster) {
    sh(
        cluster,
        AGENT,
        &format!(
            "set -e
            mkdir -p /home/alice/.vsm /etc/vsm/xstartup.d
            echo 'export OF_STARTUP=here' > /etc/vsm/xstartup.d/10-site.sh
            cat > /home/alice/probe <<'END'\n{SERVICE}END
            cat > /home/alice/.vsm/xstartup <<'END'\n{DESKTOP}END
            chmod 755 /home/alice/probe /home/alice/.vsm/xstartup
            printf '[D-BUS Service]\\nName=org.example.Probe\\nExec=/home/alice/probe\\n' \
                > /usr/share/dbus-1/services/org.example.Probe.service"
        ),
    );
    sh(
        cluster,
        "tlha-primary",
        "vsm-config /vsmserver/max_sessions_per_user=2 && systemctl reload vsmserver",
    );
}

#[test]
fn each_desktop_has_a_bus_whose_programs_are_its_own() {
    let cluster = working("debian-bus");
    bus_users(&cluster);
    connect(&cluster);
    let desktops = [login_to(&cluster, "alice", &[]), login_to(&cluster, "alice", &["--new"])];
    assert_ne!(desktops[0], desktops[1]);
    let mut buses = BTreeSet::new();
    for (id, display) in &desktops {
        let file = format!("/home/alice/bus-{display}");
        wait_for_file(&cluster, &file);
        let has = variables(&cluster, &file);
        assert_eq!(has["DISPLAY"], *display);
        // What the scripts have set until the desktop began is told to the bus.
        assert_eq!(has["OF_STARTUP"], "here", "{has:#?}");
        // The user's logins share what is theirs, but not the bus.
        assert_eq!(has["XDG_RUNTIME_DIR"], "/run/user/2001", "{has:#?}");
        assert!(!has["DBUS_SESSION_BUS_ADDRESS"].contains("/run/user/"), "{has:#?}");
        buses.insert(has["DBUS_SESSION_BUS_ADDRESS"].clone());
        let group = sh(&cluster, AGENT, &format!("grep ^0:: {file}"));
        assert!(group.contains(id.as_str()), "{group}");
        assert_eq!(group, sh(&cluster, AGENT, &format!("grep ^0:: /home/alice/desktop-{display}")));
    }
    assert_eq!(buses.len(), 2, "{buses:?}");
    let count = || sh(&cluster, AGENT, "pgrep -c -f '^sleep 77777' || true");
    assert_eq!(count(), "2");
    // The end of one ends what its bus has started, and nothing of the other's.
    let end = ["vsm", "end", "--session", &desktops[0].0, "alice@tlha-primary"];
    cluster.output("client", "alice", &end).unwrap();
    assert_eq!(count(), "1");
}

/// Connect, come back, somebody else, the end, and nothing is left, also of what logind keeps.
#[test]
fn a_desktop_comes_goes_and_leaves_nothing() {
    let cluster = working("debian-core");
    connect(&cluster);
    let alice = login(&cluster, "alice", &[]);
    assert_eq!(login(&cluster, "alice", &[]), alice);
    let bob = login(&cluster, "bob", &[]);
    assert_ne!(alice, bob);
    sh(
        &cluster,
        AGENT,
        "test \"$(loginctl list-sessions --no-legend | grep -cw 'alice\\|bob')\" = 2",
    );
    sh(&cluster, "tlha-primary", "systemctl restart vsmserver");
    sh(&cluster, AGENT, "systemctl restart vsmagent");
    connect(&cluster);
    assert_eq!((login(&cluster, "alice", &[]), login(&cluster, "bob", &[])), (alice, bob));
    for user in ["alice", "bob"] {
        let to = format!("{user}@tlha-primary");
        cluster.output("client", user, &["vsm", "end", &to]).unwrap();
    }
    sh(
        &cluster,
        AGENT,
        "left() {
            ls /run/vsm/sessions /var/lib/vsm-agent/sessions /run/user
            find /tmp -name '.X*-lock' -o -name 'X[0-9]*'
            find /sys/fs/cgroup/vsm -mindepth 1 -type d -name '*-*' 2>/dev/null
            loginctl list-sessions --no-legend | grep -w 'alice\\|bob'
            ps -o pid=,args= -u alice,bob
            pgrep -x vsm-session
        }
        for n in $(seq 300); do left >/tmp/left; grep -q '[^:]$' /tmp/left || exit 0; sleep 0.1; done; cat /tmp/left; exit 1",
    );
}
