//! A user with a shell on a session host, against another user's desktop there: bob, whose own desktop shows that what
//! he tries works.

use crate::attack::case::{By, Case, Row};

const HOST: &str = "agent1";
const BOB: &str = "bob";
const ALICE: &str = "alice";

/// The same by the owner, or against one's own.
const ROWS: &[Row] = &[
    Row {
        name: "open-the-rfb-socket",
        gets: "alice's picture and input",
        attempt: (HOST, BOB, &["connect", "{alice.dir}/user/rfb.sock"]),
        control: (HOST, ALICE, &["connect", "{alice.dir}/user/rfb.sock"]),
    },
    Row {
        name: "open-the-control-socket",
        gets: "a connection to alice's X server",
        attempt: (HOST, BOB, &["connect", "{alice.dir}/control.sock"]),
        control: (HOST, ALICE, &["connect", "{alice.dir}/control.sock"]),
    },
    Row {
        name: "attach-to-a-desktop",
        gets: "alice's picture, by the protocol of vsm-login",
        attempt: (HOST, BOB, &["say", "{alice.dir}/control.sock", ATTACH, "attached"]),
        control: (HOST, BOB, &["say", "{bob.dir}/control.sock", ATTACH, "attached"]),
    },
    Row {
        name: "end-ones-desktop-as-root-would",
        gets: "what vsm-session does for root alone",
        attempt: (HOST, BOB, &["say", "{bob.dir}/control.sock", STATUS, "running"]),
        control: (HOST, "root", &["say", "{bob.dir}/control.sock", STATUS, "running"]),
    },
    Row {
        name: "read-the-cookie",
        gets: "the key to alice's display",
        attempt: (HOST, BOB, &["read", "{alice.dir}/user/Xauthority"]),
        control: (HOST, BOB, &["read", "{bob.dir}/user/Xauthority"]),
    },
    Row {
        name: "read-the-parameters",
        gets: "where alice works, and at what",
        attempt: (HOST, BOB, &["read", "{alice.dir}/params.json"]),
        control: (HOST, BOB, &["read", "{bob.dir}/params.json"]),
    },
    Row {
        name: "list-the-folder-of-the-user",
        gets: "names of what alice has there",
        attempt: (HOST, BOB, &["list", "{alice.dir}/user"]),
        control: (HOST, BOB, &["list", "{bob.dir}/user"]),
    },
    Row {
        name: "list-the-folder-of-the-session",
        gets: "names of its sockets",
        attempt: (HOST, BOB, &["list", "{alice.dir}"]),
        control: (HOST, "root", &["list", "{alice.dir}"]),
    },
    Row {
        name: "list-all-sessions-of-the-host",
        gets: "who has a desktop here",
        attempt: (HOST, BOB, &["list", "/run/vsm/sessions"]),
        control: (HOST, "root", &["list", "/run/vsm/sessions"]),
    },
    Row {
        name: "write-into-the-folder-of-the-user",
        gets: "a socket in the place of alice's",
        attempt: (HOST, BOB, &["create", "{alice.dir}/user/new"]),
        control: (HOST, BOB, &["create", "{bob.dir}/user/new"]),
    },
    Row {
        name: "write-into-the-folder-of-the-session",
        gets: "a control socket of one's own",
        attempt: (HOST, BOB, &["create", "{bob.dir}/new"]),
        control: (HOST, "root", &["create", "{bob.dir}/new"]),
    },
    Row {
        name: "replace-the-control-socket",
        gets: "root's agent as a caller",
        attempt: (HOST, BOB, &["remove", "{bob.dir}/control.sock"]),
        control: (HOST, BOB, &["remove", "{bob.dir}/user/Xauthority"]),
    },
    Row {
        name: "change-ones-parameters",
        gets: "what other programs believe of one's client",
        attempt: (HOST, BOB, &["write", "{bob.dir}/params.json"]),
        control: (HOST, BOB, &["write", "{bob.dir}/user/Xauthority"]),
    },
    Row {
        name: "look-without-a-cookie",
        gets: "alice's display",
        attempt: (HOST, BOB, &["display", "{alice.display}", "-"]),
        control: (HOST, ALICE, &["display", "{alice.display}", "{alice.dir}/user/Xauthority"]),
    },
    Row {
        name: "look-with-ones-own-cookie",
        gets: "alice's display",
        attempt: (HOST, BOB, &["display", "{alice.display}", "{bob.dir}/user/Xauthority"]),
        control: (HOST, BOB, &["display", "{bob.display}", "{bob.dir}/user/Xauthority"]),
    },
    Row {
        name: "look-with-a-guessed-cookie",
        gets: "alice's display",
        attempt: (HOST, BOB, &["display", "{alice.display}", "guess"]),
        control: (HOST, ALICE, &["display", "{alice.display}", "{alice.dir}/user/Xauthority"]),
    },
    Row {
        name: "look-as-the-owner-without-a-cookie",
        gets: "a display that trusts a uid and no cookie",
        attempt: (HOST, ALICE, &["display", "{alice.display}", "-"]),
        control: (HOST, ALICE, &["display", "{alice.display}", "{alice.dir}/user/Xauthority"]),
    },
    Row {
        name: "find-the-cookie-in-the-process-list",
        gets: "a secret on a command line",
        attempt: (
            HOST,
            BOB,
            &[
                "finds",
                "MIT-MAGIC|[ =][0-9a-f]{32}( |$)",
                "ps",
                "-ww",
                "-u",
                "root,alice",
                "-o",
                "args=",
            ],
        ),
        control: (
            HOST,
            BOB,
            &["finds", "{alice.session}", "ps", "-ww", "-u", "root,alice", "-o", "args="],
        ),
    },
    Row {
        name: "pose-as-the-x-server",
        gets: "the cookie of alice's next program, which asks that name first",
        attempt: (HOST, BOB, &["bind", "/tmp/.X11-unix/X{alice.display}"]),
        control: (HOST, BOB, &["bind", "/tmp/.X11-unix/X7999"]),
    },
    Row {
        name: "pose-as-a-display-to-come",
        gets: "the cookie of a desktop that starts later",
        attempt: (HOST, BOB, &["bind", "/tmp/.X11-unix/X110"]),
        control: (HOST, BOB, &["bind", "/tmp/.X11-unix/X7998"]),
    },
    Row {
        name: "take-the-x-socket-away",
        gets: "the place of alice's display",
        attempt: (HOST, BOB, &["remove", "/tmp/.X11-unix/X{alice.display}"]),
        control: (HOST, ALICE, &["remove", "/tmp/.X11-unix/X{alice.display}"]),
    },
    Row {
        name: "write-where-x-servers-have-their-files",
        gets: "locks and sockets of our X servers",
        attempt: (HOST, BOB, &["list", "/tmp/.X11-unix/.vsm/{alice.session}"]),
        control: (HOST, "root", &["list", "/tmp/.X11-unix/.vsm/{alice.session}"]),
    },
    Row {
        name: "read-the-environment",
        gets: "variables of alice's desktop",
        attempt: (HOST, BOB, &["read", "/proc/{alice.desktop}/environ"]),
        control: (HOST, BOB, &["read", "/proc/{bob.desktop}/environ"]),
    },
    Row {
        name: "read-the-environment-of-the-monitor",
        gets: "what root's part of alice's session has",
        attempt: (HOST, ALICE, &["read", "/proc/{alice.monitor}/environ"]),
        control: (HOST, ALICE, &["read", "/proc/{alice.desktop}/environ"]),
    },
    Row {
        name: "read-the-memory-of-the-x-server",
        gets: "alice's picture",
        attempt: (HOST, BOB, &["memory", "{alice.x}"]),
        control: (HOST, BOB, &["memory", "{bob.desktop}"]),
    },
    Row {
        name: "trace-the-x-server",
        gets: "all that alice's X server does",
        attempt: (HOST, BOB, &["trace", "{alice.x}"]),
        control: (HOST, BOB, &["trace", "{bob.desktop}"]),
    },
    Row {
        name: "trace-the-monitor-of-ones-own-desktop",
        gets: "root, by a process of root's that belongs to one's session",
        attempt: (HOST, BOB, &["trace", "{bob.monitor}"]),
        control: (HOST, BOB, &["trace", "{bob.desktop}"]),
    },
    Row {
        name: "end-the-x-server",
        gets: "the end of alice's desktop",
        attempt: (HOST, BOB, &["signal", "{alice.x}"]),
        control: (HOST, BOB, &["signal", "{bob.x}"]),
    },
    Row {
        name: "end-the-monitor",
        gets: "a desktop without limits",
        attempt: (HOST, BOB, &["signal", "{bob.monitor}"]),
        control: (HOST, BOB, &["signal", "{bob.desktop}"]),
    },
    Row {
        name: "kill-a-control-group",
        gets: "the end of all of alice's processes",
        attempt: (HOST, BOB, &["cgroup", "{alice.desktop}", "cgroup.freeze", "0"]),
        control: (HOST, "root", &["cgroup", "{alice.desktop}", "cgroup.freeze", "0"]),
    },
    Row {
        name: "leave-ones-control-group",
        gets: "processes that no end and no limit reaches",
        attempt: (HOST, BOB, &["cgroup", "1", "cgroup.procs", "{bob.desktop}"]),
        control: (HOST, "root", &["cgroup", "{bob.desktop}", "cgroup.procs", "{bob.desktop}"]),
    },
    Row {
        name: "read-a-record",
        gets: "what the agent knows of alice's session",
        attempt: (HOST, BOB, &["read", "/var/lib/vsm-agent/sessions/{alice.session}.json"]),
        control: (HOST, "root", &["read", "/var/lib/vsm-agent/sessions/{alice.session}.json"]),
    },
    Row {
        name: "read-a-sessions-log",
        gets: "what alice's programs print",
        attempt: (HOST, BOB, &["list", "/var/lib/vsm-agent/log"]),
        control: (HOST, "root", &["list", "/var/lib/vsm-agent/log"]),
    },
    Row {
        name: "read-the-hosts-key",
        gets: "the identity of the session host",
        attempt: (HOST, BOB, &["read", "/etc/vsm/pki/host.key"]),
        control: (HOST, "root", &["read", "/etc/vsm/pki/host.key"]),
    },
    Row {
        name: "read-the-promise",
        gets: "the agent's promise, to change it",
        attempt: (HOST, BOB, &["write", "/var/lib/vsm-agent/promise"]),
        control: (HOST, "root", &["write", "/var/lib/vsm-agent/promise"]),
    },
    Row {
        name: "change-the-session-script",
        gets: "a program that everybody runs at their login",
        attempt: (HOST, BOB, &["write", "/etc/vsm/xsession"]),
        control: (HOST, "root", &["write", "/etc/vsm/xsession"]),
    },
    Row {
        name: "add-a-parameter",
        gets: "an agent that obeys oneself",
        attempt: (HOST, BOB, &["create", "/etc/vsm/conf.d/99-bob.yaml"]),
        control: (HOST, "root", &["create", "/etc/vsm/conf.d/99-root.yaml"]),
    },
    Row {
        name: "replace-the-key-socket",
        gets: "the right of whoever logs in by a one-time key",
        attempt: (HOST, BOB, &["remove", "/run/vsm/vsmagent-keys.sock"]),
        control: (HOST, BOB, &["remove", "{bob.dir}/user/Xauthority"]),
    },
    Row {
        name: "take-a-session-up-with-vsm-login",
        gets: "alice's desktop, by the program for it",
        attempt: (
            HOST,
            BOB,
            &["service", "vsm/1 session {alice.session}\\n", "/usr/bin/vsm-login"],
        ),
        control: (HOST, BOB, &["service", "vsm/1 session {bob.session}\\n", "/usr/bin/vsm-login"]),
    },
    Row {
        name: "redeem-a-right-that-is-made-up",
        gets: "a desktop, by a right of nobody",
        attempt: (HOST, BOB, &["say", "/run/vsm/vsmagent-keys.sock", REDEEM, "redeemed"]),
        control: (HOST, BOB, &["say", "/run/vsm/vsmagent-keys.sock", REDEEM, "refused"]),
    },
    Row {
        name: "disconnect-anothers-viewer",
        gets: "alice thrown out of her desktop",
        attempt: (
            HOST,
            BOB,
            &[
                "run",
                "1,64,66,70,77",
                "VSM_SESSION_DIR={alice.dir}/user",
                "VSM_SESSION_ID={alice.session}",
                "vsm-disconnect",
            ],
        ),
        // Nobody views it, and it is the program that says so to its owner.
        control: (
            HOST,
            BOB,
            &[
                "finds",
                "nobody views this desktop",
                "sh",
                "-c",
                "VSM_SESSION_ID={bob.session} vsm-disconnect 2>&1; exit 0",
            ],
        ),
    },
    Row {
        name: "read-anothers-session-parameters",
        gets: "what alice's client said, by the program for it",
        attempt: (
            HOST,
            BOB,
            &[
                "run",
                "1,64,66,70,77",
                "VSM_SESSION_ID={alice.session}",
                "vsm-session-param",
                "/session/id",
            ],
        ),
        control: (
            HOST,
            BOB,
            &[
                "run",
                "1,64,66,70,77",
                "VSM_SESSION_ID={bob.session}",
                "vsm-session-param",
                "/session/id",
            ],
        ),
    },
];

/// What vsm-login says to a session.
const ATTACH: &str = r#"{"op":"attach","address":"10.0.0.9"}"#;
/// What root's agent says to it.
const STATUS: &str = r#"{"op":"status"}"#;
/// What vsm-login says of a one-time key.
const REDEEM: &str =
    r#"{"op":"redeem","right":"01890a5d-ac96-474b-8cce-b302099a8057","session":"{alice.session}"}"#;

pub(super) fn all() -> Vec<Case> {
    ROWS.iter().map(|row| row.by(By::Neighbour)).collect()
}
