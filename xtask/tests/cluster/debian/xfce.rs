//! XFCE under systemd: what the bus starts is of the desktop that it is for, and sees what is set there.

use xtask::cluster::Cluster;
use xtask::setup;

use super::{AGENT, login_to};
use crate::packages::{connect, sh, working};

/// `inside SESSION COMMAND...` runs a command with all that the session manager of bob's desktop has.
const INSIDE: &str = r#"#!/bin/bash
for pid in $(pgrep -x xfce4-session); do
    grep -q "$1" /proc/$pid/cgroup || continue
    mapfile -d "" -t all < /proc/$pid/environ
    shift
    exec setpriv --reuid=bob --regid=bob --init-groups env -i "${all[@]}" "$@"
done
exit 69
"#;

/// Repeats it until it succeeds.
fn until(cluster: &Cluster, lines: &str) -> String {
    let repeated = format!(
        "for n in $(seq 200); do ( {lines} ) >/tmp/said 2>&1 && {{ cat /tmp/said; exit 0; }}; sleep 0.1; done; cat /tmp/said; exit 1"
    );
    sh(cluster, AGENT, &repeated)
}

/// Those of bob's settings daemons that have this display: the id of the process and its control group.
fn daemons(cluster: &Cluster, display: &str) -> String {
    let lines = format!(
        "for pid in $(pgrep -u bob -x xfconfd); do
            tr '\\0' '\\n' < /proc/$pid/environ | grep -qx 'DISPLAY={display}' && echo $pid $(grep ^0:: /proc/$pid/cgroup)
        done
        true"
    );
    sh(cluster, AGENT, &lines)
}

#[test]
fn what_the_bus_of_an_xfce_desktop_starts_is_its_own() {
    setup::xfce().unwrap();
    let cluster = working("debian-xfce");
    let limit = "vsm-config /vsmserver/max_sessions_per_user=2 && systemctl reload vsmserver";
    sh(&cluster, "tlha-primary", limit);
    sh(
        &cluster,
        AGENT,
        &format!(
            "vsm-config /profiles/xfce/xdg_session=xfce && systemctl reload vsmagent
            cat > /usr/local/bin/inside <<'END'\n{INSIDE}END
            chmod 755 /usr/local/bin/inside"
        ),
    );
    connect(&cluster);
    let of_xfce = ["--profile", "xfce"];
    let desktops = [
        login_to(&cluster, "bob", &of_xfce),
        login_to(&cluster, "bob", &["--profile", "xfce", "--new"]),
    ];
    for (id, display) in &desktops {
        until(&cluster, &format!("inside {id} xprop -root _NET_SUPPORTING_WM_CHECK | grep window"));
        // What is set is heard by who listens there, in both of the ways that programs have.
        for (listen, set) in [
            (
                "xfconf-query -c of-test -m",
                format!("xfconf-query -c of-test -p /at -n -t string -s {display}"),
            ),
            (
                "gsettings monitor org.gnome.desktop.interface",
                format!("gsettings set org.gnome.desktop.interface font-name 'At {display}'"),
            ),
        ] {
            sh(
                &cluster,
                AGENT,
                &format!(
                    "(timeout 30 inside {id} stdbuf -oL {listen} > /tmp/heard 2>&1 &) </dev/null"
                ),
            );
            // One that does not listen yet misses it.
            until(
                &cluster,
                &format!(
                    "inside {id} {set}1; inside {id} {set}; sleep 0.2; grep -e /at -e font-name /tmp/heard"
                ),
            );
        }
    }
    for (id, display) in &desktops {
        let at = sh(&cluster, AGENT, &format!("inside {id} xfconf-query -c of-test -p /at"));
        assert_eq!(at, *display, "each desktop has settings of its own while it lives");
        let font = format!("inside {id} gsettings get org.gnome.desktop.interface font-name");
        assert_eq!(sh(&cluster, AGENT, &font), format!("'At {}'", desktops[1].1));
        let daemon = daemons(&cluster, display);
        assert_eq!(daemon.lines().count(), 1, "{daemon}");
        assert!(daemon.contains(id.as_str()), "{daemon}");
    }
    // The end of one ends what its bus has started, and nothing of the other's.
    let before = daemons(&cluster, &desktops[1].1);
    let end = ["vsm", "end", "--session", &desktops[0].0, "bob@tlha-primary"];
    cluster.output("client", "bob", &end).unwrap();
    assert_eq!(daemons(&cluster, &desktops[0].1), "");
    assert_eq!(daemons(&cluster, &desktops[1].1), before);
    let left = sh(&cluster, AGENT, "pgrep -u bob -c -x 'xfce4-session|xfwm4|xfconfd'");
    assert_eq!(left, "3");
}
