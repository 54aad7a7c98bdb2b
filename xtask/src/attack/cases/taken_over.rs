//! Whoever has taken over `vsm-agent-net` on a session host: its account with its groups and no power, and its socket
//! to `vsmagent`, which they speak by hand. What they may do there (docs/threat-model.md says it) is no attempt.

mod calls;
mod flood;
mod identity;
mod promise;

use anyhow::Result;

use crate::attack::case::{By, Case, NET, Row, Seen, case, stays, tool};
use crate::attack::stage::{LOST, Stage};

/// Where the desktops are.
const HOST: &str = "agent1";
const ROOT: &str = "root";
const ALICE: &str = "alice";
const BOB: &str = "bob";
/// Where root serves the account.
const SOCKET: &str = "/run/vsm/agent/vsmagent.sock";

/// What the account is refused and root is not.
const fn as_root(name: &'static str, gets: &'static str, words: &'static [&'static str]) -> Row {
    Row { name, gets, attempt: (HOST, NET, words), control: (HOST, ROOT, words) }
}

/// What it is refused and alice is not.
const fn as_alice(name: &'static str, gets: &'static str, words: &'static [&'static str]) -> Row {
    Row { name, gets, attempt: (HOST, NET, words), control: (HOST, ALICE, words) }
}

const ROWS: &[Row] = &[
    as_root(
        "net-read-a-record",
        "what root knows of alice's desktop",
        &["read", "/var/lib/vsm-agent/sessions/{alice.session}.json"],
    ),
    as_root(
        "net-write-a-record",
        "processes that root ends for it",
        &["write", "/var/lib/vsm-agent/sessions/{alice.session}.json"],
    ),
    as_root(
        "net-write-the-promise",
        "a promise of its own",
        &["write", "/var/lib/vsm-agent/promise"],
    ),
    as_root(
        "net-add-to-roots-state",
        "files that root believes",
        &["create", "/var/lib/vsm-agent/net"],
    ),
    as_root(
        "net-add-a-parameter",
        "programs that root runs",
        &["create", "/etc/vsm/conf.d/99-net.yaml"],
    ),
    as_root("net-write-the-authorities", "one of its own", &["write", "/etc/vsm/pki/ca.pem"]),
    as_root("net-write-the-hosts-key", "a key that stays", &["write", "/etc/vsm/pki/host.key"]),
    as_root(
        "net-add-to-the-hosts-identity",
        "files that root puts in place",
        &["create", "/etc/vsm/pki/net.new"],
    ),
    as_root(
        "net-change-the-session-script",
        "a program that everybody runs",
        &["write", "/etc/vsm/xsession"],
    ),
    as_root("net-read-the-passwords", "what root alone reads", &["read", "/etc/shadow"]),
    as_root(
        "net-read-the-key-of-sshd",
        "the host's identity towards users",
        &["read", "/etc/ssh/ssh_host_ed25519_key"],
    ),
    as_root("net-list-the-sessions", "names of what sessions have", &["list", "/run/vsm/sessions"]),
    as_root(
        "net-add-a-session",
        "a control socket that root calls",
        &["create", "/run/vsm/sessions/net"],
    ),
    as_root(
        "net-add-a-socket",
        "a name beside the sockets of others",
        &["create", "/run/vsm/net.sock"],
    ),
    as_root(
        "net-add-to-its-own-folder",
        "a name beside the socket of vsmagent",
        &["create", "/run/vsm/agent/net.sock"],
    ),
    as_root(
        "net-kill-a-control-group",
        "the end of all of alice's processes",
        &["cgroup", "{alice.desktop}", "cgroup.freeze", "0"],
    ),
    as_root("net-end-a-monitor", "a desktop without limits", &["signal", "{alice.monitor}"]),
    as_root(
        "net-read-the-memory-of-a-monitor",
        "what root's part of a session has",
        &["memory", "{alice.monitor}"],
    ),
    as_alice(
        "net-read-the-cookie",
        "the key to alice's display",
        &["read", "{alice.dir}/user/Xauthority"],
    ),
    as_alice(
        "net-open-the-rfb-socket",
        "alice's picture and input",
        &["connect", "{alice.dir}/user/rfb.sock"],
    ),
    as_alice(
        "net-open-the-control-socket",
        "a connection to alice's X server",
        &["connect", "{alice.dir}/control.sock"],
    ),
    as_alice(
        "net-read-the-parameters",
        "where alice works, and at what",
        &["read", "{alice.dir}/params.json"],
    ),
    as_alice(
        "net-read-the-environment",
        "variables of alice's desktop",
        &["read", "/proc/{alice.desktop}/environ"],
    ),
    as_alice(
        "net-read-the-memory-of-a-desktop",
        "what alice's programs have",
        &["memory", "{alice.desktop}"],
    ),
    as_alice("net-trace-a-desktop", "all that alice does", &["trace", "{alice.desktop}"]),
    as_alice("net-end-a-desktop", "the end of alice's desktop", &["signal", "{alice.desktop}"]),
    Row {
        name: "net-look-without-a-cookie",
        gets: "alice's display",
        attempt: (HOST, NET, &["display", "{alice.display}", "-"]),
        control: (HOST, ALICE, &["display", "{alice.display}", "{alice.dir}/user/Xauthority"]),
    },
    Row {
        name: "net-pose-as-the-x-server",
        gets: "the cookie of alice's next program",
        attempt: (HOST, NET, &["bind", "/tmp/.X11-unix/X{alice.display}"]),
        control: (HOST, NET, &["bind", "/tmp/.X11-unix/X7997"]),
    },
];

/// Something that is done to `vsmagent` itself.
fn to_root(name: &'static str, gets: &'static str, verb: &'static str) -> Case {
    let by = move |user: &'static str| {
        move |stage: &Stage<'_>| tool(stage, HOST, user, &[verb, &pid(stage)?])
    };
    case(name, By::TakenOver, gets, by(NET), by(ROOT))
}

/// The process of `vsmagent`.
fn pid(stage: &Stage<'_>) -> Result<String> {
    stage.sh(HOST, "pgrep -o -x vsmagent")
}

/// A file that alice alone reads, in her home.
fn home() -> Case {
    const SECRET: &str = "/home/alice/net-secret";
    let by = |user: &'static str| {
        move |stage: &Stage<'_>| {
            stage.sh(HOST, &format!("install -m 600 -o alice /etc/hostname {SECRET}"))?;
            tool(stage, HOST, user, &["read", SECRET])
        }
    };
    case("net-read-a-home", By::TakenOver, "alice's files", by(NET), by(ALICE))
}

/// A folder, or a file, that it can change and in which root may follow a link of its own. A home of its own is no such
/// place, where it has one.
fn writable() -> Case {
    const FIND: &str = "find / /run /var /etc /dev/shm -xdev -writable \\( -type d -o -type f \\) ! -perm -1002 ! -path '/nonexistent*' 2>/dev/null";
    let by = |user: &'static str| {
        move |stage: &Stage<'_>| tool(stage, HOST, user, &["finds", "^/", "sh", "-c", FIND])
    };
    let gets = "a place for a link that root follows";
    case("net-find-a-place-to-write", By::TakenOver, gets, by(NET), by(ROOT))
}

/// The socket's place while root is away.
fn place() -> Case {
    let by = |user: &'static str| {
        move |stage: &Stage<'_>| {
            stage.cluster.stop_daemon(LOST, "vsmagent")?;
            let seen = tool(stage, LOST, user, &["place", SOCKET]);
            stage.cluster.restart_daemon(LOST, "vsmagent")?;
            seen
        }
    };
    let gets = "what is meant for root once it is back";
    case("net-take-roots-place", By::TakenOver, gets, by(NET), by(ROOT))
}

/// The socket itself, by another name for a moment.
fn replace() -> Case {
    let attempt = |stage: &Stage<'_>| tool(stage, HOST, NET, &["remove", SOCKET]);
    // Another file there, as nobody is to miss the socket.
    let control = |stage: &Stage<'_>| {
        let spare = "/run/vsm/agent/spare";
        stage.sh(HOST, &format!("touch {spare}"))?;
        let seen = tool(stage, HOST, ROOT, &["remove", spare]);
        stage.sh(HOST, &format!("rm -f {spare} {spare}.taken"))?;
        seen
    };
    case("net-replace-roots-socket", By::TakenOver, "the place of root's socket", attempt, control)
}

/// Descriptors that root would keep.
fn descriptors() -> Case {
    const COUNT: usize = 400;
    let open = |stage: &Stage<'_>, pid: &str| -> Result<usize> {
        Ok(stage.sh(HOST, &format!("ls /proc/{pid}/fd | wc -l"))?.trim().parse()?)
    };
    let grown = move |stage: &Stage<'_>, pid: &str, path: &str| -> Result<Seen> {
        let before = open(stage, pid)?;
        let words = ["descriptors", path, &COUNT.to_string()];
        let (_given, _) = stays(stage, HOST, NET, &words)?;
        let after = open(stage, pid)?;
        Ok(Seen::won_if(after > before + COUNT / 2, format!("{before} before, {after} after")))
    };
    let attempt = move |stage: &Stage<'_>| grown(stage, &pid(stage)?, SOCKET);
    let control = move |stage: &Stage<'_>| {
        let path = "/tmp/taker.sock";
        stage.sh(HOST, &format!("rm -f {path}"))?;
        let (_taker, pid) = stays(stage, HOST, NET, &["taker", path])?;
        grown(stage, &pid, path)
    };
    let gets = "a root that runs out of descriptors";
    case("net-pass-descriptors", By::TakenOver, gets, attempt, control)
}

pub(super) fn all() -> Vec<Case> {
    let mut all: Vec<Case> = ROWS.iter().map(|row| row.by(By::TakenOver)).collect();
    all.extend([
        to_root("net-read-the-memory-of-root", "what vsmagent has in memory", "memory"),
        to_root("net-trace-root", "all that vsmagent does", "trace"),
        to_root("net-end-root", "a host without vsmagent", "signal"),
        home(),
        writable(),
        replace(),
        descriptors(),
    ]);
    all.extend(calls::all());
    all.extend(promise::all());
    all.extend(identity::all());
    all.extend(flood::all());
    all.push(place());
    all
}
