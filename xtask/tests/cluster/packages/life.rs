//! Desktops live through everything that is done to the packages.

use super::{
    connect, connect_as, desktop, hosts_with, install, install_all, set_up, sh, try_sh, unit,
    working,
};

/// A key that no version knows, as one that an earlier version had.
const OLD_KEY: &str = "vsmagent:\n  of_another_version: 1\n";

#[test]
fn a_desktop_lives_through_upgrade_removal_and_purge() {
    let cluster = working("pkg-life");
    let id = connect(&cluster);
    let before = desktop(&cluster);

    // An upgrade restarts the daemons and nothing else.
    install(&cluster, "tlha-primary", "next", &["vsm-common", "vsm-server"]);
    install(&cluster, "agent1", "next", &["vsm-common", "vsm-agent"]);
    unit(&cluster, "tlha-primary", "vsmserver", "active");
    unit(&cluster, "agent1", "vsmagent", "active");
    let old = sh(&cluster, "agent1", "readlink /proc/$(pgrep -x vsmagent)/exe");
    assert_eq!(old, "/usr/bin/vsmagent", "the agent of before the upgrade still runs");
    assert_eq!((connect(&cluster), desktop(&cluster)), (id.clone(), before.clone()));

    // Removed: the desktop goes on, and is found again by the package that comes after.
    let said = sh(&cluster, "agent1", "dpkg --remove vsm-agent");
    assert!(said.contains("1 desktop(s) go on running"), "{said}");
    assert_eq!(desktop(&cluster), before);
    assert!(
        sh(&cluster, "agent1", "ls /etc/vsm/conf.d /etc/vsm/xsession").contains("vsmagent.yaml")
    );
    install(&cluster, "agent1", "now", &["vsm-common", "vsm-agent"]);
    assert_eq!((connect(&cluster), desktop(&cluster)), (id, before.clone()));

    // Purged: the same, and the records stay as long as there is something to record.
    let said = sh(&cluster, "agent1", "dpkg --purge vsm-agent vsm-common");
    assert!(said.contains("/var/lib/vsm-agent and /run/vsm stay"), "{said}");
    assert!(said.contains("/etc/vsm/pki stays"), "{said}");
    assert_eq!(desktop(&cluster), before);
    sh(
        &cluster,
        "agent1",
        "test -s /var/lib/vsm-agent/sessions/*.json && test -s /etc/vsm/pki/host.key",
    );
    let left = sh(
        &cluster,
        "agent1",
        "find /etc/vsm /etc/pam.d/vsm /etc/ssh/sshd_config.d -type f || true",
    );
    assert!(!left.contains("conf.d/v") && !left.contains("xsession"), "{left}");

    // Purged without a desktop: nothing of it stays.
    install(&cluster, "agent1", "now", &["vsm-common", "vsm-agent"]);
    sh(
        &cluster,
        "agent1",
        "pkill -TERM -x vsm-session; while pgrep -x vsm-session; do sleep 0.1; done",
    );
    sh(&cluster, "agent1", "dpkg --purge vsm-agent vsm-common");
    sh(&cluster, "agent1", "test ! -e /var/lib/vsm-agent && test ! -e /usr/bin/vsm-session");
    sh(
        &cluster,
        "tlha-primary",
        "dpkg --purge vsm-server && test ! -e /var/lib/vsm && test -s /etc/vsm/ca/ca.key",
    );
}

/// Twenty users work while the packages of their session host are upgraded.
#[test]
fn twenty_desktops_live_through_an_upgrade_of_their_host() {
    let cluster = set_up(install_all(hosts_with("pkg-twenty", 20)));
    let users: Vec<_> = (1..=20).map(|number| format!("user{number:03}")).collect();
    let ids: Vec<_> = users.iter().map(|user| connect_as(&cluster, user)).collect();
    let running = || {
        let all = "ls /var/lib/vsm-agent/sessions; pgrep -x Xtigervnc | sort; pgrep -x vsm-session | sort";
        sh(&cluster, "agent1", all)
    };
    let before = running();
    assert_eq!(before.lines().count(), 60, "{before}");
    let old = sh(&cluster, "agent1", "pgrep -x vsmagent");
    install(&cluster, "agent1", "next", &["vsm-common", "vsm-agent"]);
    unit(&cluster, "agent1", "vsmagent", "active");
    assert_ne!(sh(&cluster, "agent1", "pgrep -x vsmagent"), old, "the agent was not restarted");
    assert_eq!(running(), before, "a desktop was lost, or is another one");
    let now: Vec<_> = users.iter().map(|user| connect_as(&cluster, user)).collect();
    assert_eq!(now, ids);
}

#[test]
fn an_upgrade_with_an_old_configuration_leaves_the_running_daemons_alone() {
    let cluster = working("pkg-old");
    let id = connect(&cluster);
    let before = sh(&cluster, "agent1", "pgrep -x vsmagent");
    sh(&cluster, "agent1", &format!("printf '{OLD_KEY}' > /etc/vsm/conf.d/90-old.yaml"));
    let said = install(&cluster, "agent1", "next", &["vsm-common", "vsm-agent"]);
    assert!(
        said.contains(
            "/etc/vsm/conf.d/90-old.yaml:2: /vsmagent/of_another_version: no such parameter"
        ),
        "{said}"
    );
    assert!(said.contains("the agent of before the upgrade goes on"), "{said}");
    assert_eq!(sh(&cluster, "agent1", "pgrep -x vsmagent"), before);
    assert_eq!(connect(&cluster), id);
    // What brokers speak to reads it as its own user, and so does the check.
    let own = "/etc/vsm/conf.d/91-own.yaml";
    let write = format!("install -m 600 /dev/null {own} && echo 'vsmagent: {{}}' > {own}");
    sh(&cluster, "agent1", &format!("rm /etc/vsm/conf.d/90-old.yaml && {write}"));
    let said = install(&cluster, "agent1", "next", &["vsm-common", "vsm-agent"]);
    assert!(said.contains(own) && said.contains("ermission denied"), "{said}");
    sh(&cluster, "agent1", &format!("rm {own}; chmod 600 /etc/vsm/pki/ca.pem"));
    let said = install(&cluster, "agent1", "next", &["vsm-common", "vsm-agent"]);
    let why = "the user vsmagent cannot read /etc/vsm/pki/ca.pem (/tls/ca_file): Permission denied (os error 13); it is no secret: chmod 644";
    assert!(said.contains(why), "{said}");
    assert_eq!(sh(&cluster, "agent1", "pgrep -x vsmagent"), before);
    assert_eq!(connect(&cluster), id);
    // Mended, it is one command.
    sh(&cluster, "agent1", "chmod 644 /etc/vsm/pki/ca.pem && systemctl restart vsmagent");
    assert_eq!(connect(&cluster), id);

    // The broker reads it as its own user, and so does the check before an upgrade.
    let own = "/etc/vsm/conf.d/91-own.yaml";
    let write = format!("install -m 600 /dev/null {own} && echo 'vsmserver: {{}}' > {own}");
    sh(&cluster, "tlha-primary", &write);
    let before = sh(&cluster, "tlha-primary", "pgrep -x vsmserver");
    let said = install(&cluster, "tlha-primary", "next", &["vsm-common", "vsm-server"]);
    assert!(said.contains(own) && said.contains("ermission denied"), "{said}");
    assert!(said.contains("the broker of before the upgrade goes on"), "{said}");
    assert_eq!(sh(&cluster, "tlha-primary", "pgrep -x vsmserver"), before);
    let mend = format!("chmod 644 {own} && systemctl restart vsm-root vsmserver");
    sh(&cluster, "tlha-primary", &mend);
    assert_eq!(connect(&cluster), id);

    // What the administrator changed in a file of the package is not overwritten, and what they did not is.
    sh(&cluster, "tlha-primary", "echo '# ours' >> /etc/ssh/sshd_config.d/vsm.conf");
    install(&cluster, "tlha-primary", "next", &["vsm-common", "vsm-server"]);
    let (_, kept) = try_sh(&cluster, "tlha-primary", "tail -1 /etc/ssh/sshd_config.d/vsm.conf");
    assert_eq!(kept.trim(), "# ours");
}

/// Two units, which are one to an administrator; and each is alone when it crashes.
#[test]
fn both_parts_of_an_agent_come_and_go_together_and_crash_alone() {
    let cluster = working("pkg-parts");
    let id = connect(&cluster);
    let before = desktop(&cluster);
    let on = |line: &str| sh(&cluster, "agent1", line);
    let pids = || ["vsmagent", "vsm-agent-net"].map(|name| on(&format!("pgrep -x {name}")));
    let goes_on =
        || assert_eq!((connect(&cluster), desktop(&cluster)), (id.clone(), before.clone()));
    let [root, net] = pids();
    on("systemctl restart vsmagent");
    goes_on();
    let [root, net] = {
        let now = pids();
        assert!(now[0] != root && now[1] != net, "{now:?} {root} {net}");
        now
    };
    on("kill -9 $(pgrep -x vsmagent); until pgrep -x vsmagent; do sleep 0.1; done");
    goes_on();
    let now = pids();
    assert!(now[0] != root && now[1] == net, "{now:?} {root} {net}");
    on("kill -9 $(pgrep -x vsm-agent-net); until pgrep -x vsm-agent-net; do sleep 0.1; done");
    goes_on();
    assert_eq!(pids()[0], now[0]);
    on("systemctl reload vsmagent");
    on(
        "for n in $(seq 100); do journalctl -q -u vsm-agent-net -g 'configuration read again' && exit; sleep 0.1; done; exit 1",
    );
    // In its unit it is what it is everywhere.
    assert_eq!(on("ps -o user= -C vsm-agent-net"), "vsmagent");
    let powers = on("sed -n 's/^Cap...:[[:space:]]*//p' /proc/$(pgrep -x vsm-agent-net)/status");
    let all: Vec<&str> = powers.lines().collect();
    assert!(
        all.iter().enumerate().all(|(at, set)| at == 3 || set.trim_matches('0').is_empty()),
        "{powers}"
    );
    on("systemctl stop vsmagent");
    for name in ["vsmagent", "vsm-agent-net"] {
        unit(&cluster, "agent1", name, "inactive");
    }
    assert_eq!(desktop(&cluster), before);
    on("systemctl start vsmagent");
    goes_on();
}
