//! Garbage and floods to each socket and each port: who takes all that they can has their own share alone, and nobody
//! else notices.

use anyhow::Result;

use crate::attack::case::{At, By, Case, Row, Seen, case, stays, tool};
use crate::attack::stage::Stage;

const BOB: &str = "bob";
const ROOT: &str = "root";
const ACTIVE: &str = "active";
const CLIENT: &str = "client";
/// More than anybody may have: 64 of a user, 256 of a host.
const USER_MOST: &str = "64";
const HOST_MOST: &str = "256";
/// So many are tried, and for so long, in seconds.
const EACH: &str = "400";
const TIME: &str = "6";

/// `(name, host, user, first words, share, place)`.
type Held = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const HELD: &[Held] = &[
    ("hold-the-users-socket", ACTIVE, BOB, "silent", USER_MOST, "/run/vsm/vsmserver.sock"),
    (
        "hold-the-users-socket-of-the-standby",
        "standby",
        BOB,
        "silent",
        USER_MOST,
        "/run/vsm/vsmserver.sock",
    ),
    ("hold-calls-at-the-users-socket", ACTIVE, BOB, "calls", USER_MOST, "/run/vsm/vsmserver.sock"),
    ("hold-the-users-socket-with-pings", ACTIVE, BOB, "ping", USER_MOST, "/run/vsm/vsmserver.sock"),
    (
        "hold-the-users-socket-with-settings",
        ACTIVE,
        BOB,
        "settings",
        USER_MOST,
        "/run/vsm/vsmserver.sock",
    ),
    (
        "hold-the-key-socket-of-the-broker",
        ACTIVE,
        BOB,
        "silent",
        "112",
        "/run/vsm/vsmserver-keys.sock",
    ),
    ("hold-the-relay-socket", ACTIVE, BOB, "silent", "32", "/run/vsm/vsmserver-relay.sock"),
    ("hold-the-key-socket-of-a-host", "agent2", BOB, "silent", "16", "/run/vsm/vsmagent-keys.sock"),
    (
        "hold-the-administrators-socket",
        ACTIVE,
        "user010",
        "silent",
        USER_MOST,
        "/run/vsm/vsmserver-admin.sock",
    ),
    ("hold-ones-own-control-socket", "agent1", BOB, "silent", USER_MOST, "{bob.dir}/control.sock"),
    ("hold-the-port-of-the-broker", CLIENT, BOB, "silent", HOST_MOST, "{active}:9000"),
    ("hold-the-port-of-the-standby", CLIENT, BOB, "silent", HOST_MOST, "{standby}:9000"),
    ("hold-the-port-of-a-host", CLIENT, BOB, "silent", HOST_MOST, "agent2:904"),
    (
        "hold-the-port-of-the-broker-in-a-handshake",
        CLIENT,
        BOB,
        "hello",
        HOST_MOST,
        "{active}:9000",
    ),
    ("hold-the-port-of-a-host-in-a-handshake", CLIENT, BOB, "hello", HOST_MOST, "agent2:904"),
    (
        "hold-the-port-of-the-broker-from-a-session-host",
        "agent2",
        BOB,
        "silent",
        HOST_MOST,
        "{active}:9000",
    ),
    ("hold-the-port-of-a-host-from-the-broker", ACTIVE, BOB, "silent", HOST_MOST, "agent2:904"),
];

fn held((name, host, user, first, most, place): Held) -> Case {
    let attempt = move |stage: &Stage<'_>| {
        tool(stage, host, user, &["flood", first, most, EACH, TIME, place])
    };
    // The same against one who gives shares to nobody.
    let control = move |stage: &Stage<'_>| {
        let is_socket = place.starts_with('/') || place.starts_with('{') && place.ends_with("sock");
        let (own, there) = if is_socket {
            ("/tmp/plain.sock", "/tmp/plain.sock")
        } else {
            ("4444", "localhost:4444")
        };
        stage.sh(host, "rm -f /tmp/plain.sock")?;
        let _plain = stays(stage, host, ROOT, &["listener", own, "keep"])?;
        tool(stage, host, user, &["flood", first, most, EACH, "3", there])
    };
    case(name, By::Flood, "all places that there are", attempt, control)
}

/// What means nothing; in the control to one who holds on for ever.
const fn garbage(name: &'static str, at: At) -> Row {
    Row { name, gets: "a daemon that stumbles or hangs", attempt: at, control: at }
}

const GARBAGE: &[Row] = &[
    garbage("garbage-to-the-users-socket", (ACTIVE, BOB, &["garbage", "/run/vsm/vsmserver.sock"])),
    garbage(
        "garbage-to-the-administrators-socket",
        (ACTIVE, ROOT, &["garbage", "/run/vsm/vsmserver-admin.sock"]),
    ),
    garbage(
        "garbage-to-the-key-socket-of-the-broker",
        (ACTIVE, BOB, &["garbage", "/run/vsm/vsmserver-keys.sock"]),
    ),
    garbage(
        "garbage-to-the-relay-socket",
        (ACTIVE, BOB, &["garbage", "/run/vsm/vsmserver-relay.sock"]),
    ),
    garbage(
        "garbage-to-the-key-socket-of-a-host",
        ("agent1", BOB, &["garbage", "/run/vsm/vsmagent-keys.sock"]),
    ),
    garbage("garbage-to-a-control-socket", ("agent1", BOB, &["garbage", "{bob.dir}/control.sock"])),
    garbage(
        "garbage-to-the-port-of-the-active-broker",
        (CLIENT, BOB, &["garbage", "{active}:9000"]),
    ),
    garbage("garbage-to-the-port-of-the-standby", (CLIENT, BOB, &["garbage", "{standby}:9000"])),
    garbage("garbage-to-the-port-of-a-host", (CLIENT, BOB, &["garbage", "agent1:904"])),
];

fn thrown(row: Row) -> Case {
    // One opening is enough: it never hangs up.
    let control = |stage: &Stage<'_>| -> Result<Seen> {
        let _plain = stays(stage, CLIENT, ROOT, &["listener", "4445", "keep"])?;
        tool(stage, CLIENT, BOB, &["garbage", "localhost:4445"])
    };
    case(row.name, By::Flood, row.gets, row.attempt, control)
}

/// What many unfinished calls cost: the memory of the broker, in KiB.
fn memory() -> Case {
    /// More than a share of connections with all of their calls may cost.
    const MOST: u64 = 256 << 10;
    const SIZE: &str = "grep VmRSS /proc/$(pgrep -o vsmserver)/status | tr -dc 0-9";
    let attempt = |stage: &Stage<'_>| {
        let size = || -> Result<u64> { Ok(stage.sh(ACTIVE, SIZE)?.parse()?) };
        let before = size()?;
        let seen = tool(
            stage,
            ACTIVE,
            BOB,
            &["flood", "calls", "100000", "2000", TIME, "/run/vsm/vsmserver.sock"],
        )?;
        let after = size()?;
        Ok(Seen::won_if(
            after > before + MOST,
            format!("{before} KiB before, {after} after; {seen:?}"),
        ))
    };
    // A process that does take as much is seen to.
    let control = |stage: &Stage<'_>| {
        let said = stage.sh(
            ACTIVE,
            "python3 -c 'import re; kept = bytearray(300 << 20); print(re.search(r\"VmRSS:\\s+(\\d+)\", open(\"/proc/self/status\").read())[1])'",
        )?;
        Ok(Seen::won_if(said.trim().parse::<u64>()? > MOST, said))
    };
    case("fill-the-brokers-memory", By::Flood, "the broker's memory", attempt, control)
}

pub(super) fn all() -> Vec<Case> {
    let mut all: Vec<Case> = GARBAGE.iter().copied().map(thrown).collect();
    all.extend(HELD.iter().copied().map(held));
    all.push(memory());
    all
}
