//! What a login takes of the broker, beside x2gobroker, the broker that Debian has for another remote desktop.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::report::{Report, Want};
use super::{BROKER, Hosts, Server, median_of, median_ratio};
use crate::clock::wait_for;
use crate::setup;

const ABOUT: &str = "\
Logins per second of a user who has a desktop, from the request to the answer. Here: gRPC on the broker's unix socket, the user by
the socket's credentials, the table, a verify by the desktop's agent over mutual TLS. The peer is `x2gobroker-daemon` of
Debian 12, on the same host, asked over plain HTTP on loopback for a session's server (`selectsession`) with its inifile
backend and eight servers, by the same client for the same time.

It is no peer like for like, and the ratio says less than it seems: without x2gobroker-agent on the servers it takes one
of them *at random* each time, it keeps no state of sessions, asks no server, authenticates nobody here (`auth none`),
writes nothing durable and has no second node. It is a single-threaded Python program. What is compared is only how long
a client waits for the answer to *where is my desktop*.";

/// Files that are there exactly if their Debian packages are.
const NEEDED: [(&str, &str); 2] = [
    ("/usr/bin/x2gobroker-daemon", "x2gobroker-daemon"),
    ("/usr/lib/python3/dist-packages/x2gobroker/__init__.py", "python3-x2gobroker"),
];
const LOGGERS: &str = "/etc/x2go/broker/x2gobroker-loggers.conf";
const USER: &str = "user001";
const FOR_MS: &str = "1500";
const PORT: &str = "8180";
const PROFILE: &str = "pool-a";
const WAIT: Duration = Duration::from_secs(30);
/// Calls in flight, and the names of figures and aim.
const LOADS: [(&str, &str, &str); 2] = [
    ("1", "in_flight_1", "1_in_flight_to_x2gobroker"),
    ("16", "in_flight_16", "16_in_flight_to_x2gobroker"),
];
/// Not slower than that.
const AIM: f64 = 1.0;
const CONFIG: &str = "\
[global]
require-password = false
require-cookie = false
verify-ip = false
default-auth-mech = none
enable-plain-output = true
enable-json-output = true
ignore-primary-group-memberships = true
default-use-load-checker = false
[broker_base]
enable = true
[broker_inifile]
enable = true
session-profiles = /etc/x2go/profiles.conf
use-load-checker = false
";

#[derive(Debug, Deserialize)]
struct Speed {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Installs what is missing; before the hosts come up, which get the machine's accounts.
pub(super) fn setup() -> Result<()> {
    setup::packages(&NEEDED, false)
}

pub(super) fn run(hosts: &Hosts<'_>) -> Result<Report> {
    let mut report = Report::new("login", ABOUT);
    wait_for("the first login", WAIT, || {
        let login = hosts.tool::<serde_json::Value>(BROKER, &["logins", USER]);
        login.map_err(|error| format!("{error:#}"))
    })?;
    let _theirs = x2gobroker(hosts)?;
    let ours = |in_flight: &str| -> Result<Speed> {
        let words = ["load", "--for-ms", FOR_MS, "--in-flight", in_flight, "--user", USER];
        hosts.tool(BROKER, &words)
    };
    let theirs = |in_flight: &str| -> Result<Speed> {
        let words = ["x2go", "--for-ms", FOR_MS, "--in-flight", in_flight, "--user", USER];
        hosts.tool(BROKER, &[&words[..], &["--port", PORT, "--profile", PROFILE]].concat())
    };
    wait_for("x2gobroker", WAIT, || theirs("1").map_err(|error| format!("{error:#}")))?;
    for (in_flight, figure, aim) in LOADS {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for _ in 0..hosts.runs {
            own.push(ours(in_flight)?);
            others.push(theirs(in_flight)?);
        }
        let both = own.iter().zip(&others).map(|(own, other)| (own.per_second, other.per_second));
        report.aim(aim, median_ratio(both), Want::AtLeast, AIM);
        for (name, speeds) in [("", &own), ("_x2gobroker", &others)] {
            let of = |part: fn(&Speed) -> f64| median_of(speeds, part);
            report.figure(format!("{figure}{name}_per_second"), of(|speed| speed.per_second));
            report.figure(format!("{figure}{name}_p50_us"), of(|speed| speed.p50_us));
            report.figure(format!("{figure}{name}_p99_us"), of(|speed| speed.p99_us));
        }
        hosts.progress.step(format!("{in_flight} in flight are measured"));
    }
    Ok(report)
}

/// The other broker on the host of ours; it ends with its standard input.
fn x2gobroker(hosts: &Hosts<'_>) -> Result<Server> {
    let servers: Vec<_> = (1..=8).map(|n| format!("s-{n} (127.0.1.{n})")).collect();
    let profiles = format!(
        "[DEFAULT]\ncommand=TERMINAL\nsshport=22\n[{PROFILE}]\nuser=\nname=Pool\nhost={}\n\
         broker-portscan-x2goservers=false\n",
        servers.join(",")
    );
    let loggers = fs::read_to_string(LOGGERS).context(LOGGERS)?;
    let files = [
        ("x2gobroker.conf", CONFIG),
        ("profiles.conf", &profiles),
        ("broker/x2gobroker-loggers.conf", &loggers),
    ];
    for (name, text) in files {
        let put = format!("cat > /etc/x2go/{name} <<'END'\n{text}\nEND");
        hosts.root(
            BROKER,
            &["sh", "-c", &format!("mkdir -p /etc/x2go/broker /var/log/x2gobroker; {put}")],
        )?;
    }
    let daemon = format!(
        "X2GOBROKER_CONFIG=/etc/x2go/x2gobroker.conf X2GOBROKER_SESSIONPROFILES=/etc/x2go/profiles.conf \
         x2gobroker-daemon --mode=HTTP --bind 127.0.0.1:{PORT} > /var/log/x2gobroker/said 2>&1 & \
         daemon=$!; cat > /dev/null; kill $daemon; wait"
    );
    hosts.server(BROKER, &["sh", "-c", &daemon])
}
