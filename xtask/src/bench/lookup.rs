//! Look-ups of a desktop that a user has, each verified with its agent, as many as one connection can have answered;
//! beside an echo of the same message sizes over the same two hops.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::report::{Report, Want};
use super::{AGENT, BROKER, Hosts, median_of, median_ratio};
use crate::clock::wait_for;

const ABOUT: &str = "\
Logins of a user who has a desktop, per second, through the broker's unix socket on one connection: each is looked up
in the table and verified with its agent over mutual TLS before it is answered. The peer is a bare tonic echo over
the same two hops, set up by the same code with the same certificates, with messages of the same sizes, called by the
same client for the same time.";

const USER: &str = "user001";
/// How long one measurement takes.
const FOR_MS: &str = "1500";
const ECHO_PORT: &str = "7904";
const ECHO_SOCKET: &str = "/run/vsm-bench-echo.sock";
const SERVICE_WAIT: Duration = Duration::from_secs(20);
/// Calls in flight, and the names of figures and aim.
const LOADS: [(&str, &str, &str); 2] =
    [("1", "in_flight_1", "1_in_flight_share"), ("64", "in_flight_64", "64_in_flight_share")];
const SHARE_AIM: f64 = 0.6;

/// What `vsm-bench load` prints.
#[derive(Debug, Deserialize)]
struct Load {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    sizes: Option<Sizes>,
}

#[derive(Debug, Deserialize)]
struct Sizes {
    login_ask: usize,
    login_answer: usize,
    verify_ask: usize,
    verify_answer: usize,
}

/// Both sides at one load.
#[derive(Debug, Default)]
struct Pairs {
    ours: Vec<Load>,
    echo: Vec<Load>,
}

pub(super) fn run(hosts: &Hosts<'_>) -> Result<Report> {
    let mut report = Report::new("lookup", ABOUT);
    wait_for("the first login", SERVICE_WAIT, || {
        let login = hosts.tool::<serde_json::Value>(BROKER, &["logins", USER]);
        login.map_err(|error| format!("{error:#}"))
    })?;
    let sizes = ours(hosts, "1")?.sizes.context("vsm-bench told no sizes")?;
    let [ask, answer, back_ask, back_answer] =
        [sizes.login_ask, sizes.login_answer, sizes.verify_ask, sizes.verify_answer]
            .map(|size| size.to_string());
    let back = ["echo-back", "--port", ECHO_PORT, "--answer", &back_answer];
    let _back = hosts.serve(AGENT, &back)?;
    let front = ["echo-front", "--socket", ECHO_SOCKET, "--answer", &answer, "--back", AGENT];
    let front = [&front[..], &["--port", ECHO_PORT, "--back-ask", &back_ask]].concat();
    let _front = hosts.serve(BROKER, &front)?;
    let echo = |in_flight: &str| -> Result<Load> {
        let words = ["load", "--for-ms", FOR_MS, "--in-flight", in_flight, "--echo", ECHO_SOCKET];
        hosts.tool(BROKER, &[&words[..], &["--ask", &ask, "--answer", &answer]].concat())
    };
    wait_for("the echo", SERVICE_WAIT, || echo("1").map_err(|error| format!("{error:#}")))?;
    for (in_flight, figure, aim) in LOADS {
        let mut pairs = Pairs::default();
        for _ in 0..hosts.runs {
            pairs.ours.push(ours(hosts, in_flight)?);
            pairs.echo.push(echo(in_flight)?);
        }
        let rate = |loads: &[Load]| median_of(loads, |load| load.per_second);
        let (ours, echo) = (rate(&pairs.ours), rate(&pairs.echo));
        hosts.progress.step(format!("{in_flight} in flight: {ours:.0}/s, echo {echo:.0}/s"));
        let both = pairs.ours.iter().zip(&pairs.echo);
        let share = median_ratio(both.map(|(ours, echo)| (ours.per_second, echo.per_second)));
        report.aim(aim, share, Want::AtLeast, SHARE_AIM);
        for (side, loads) in [("", &pairs.ours), ("_echo", &pairs.echo)] {
            report.figure(format!("{figure}{side}_per_second"), rate(loads));
            report.figure(format!("{figure}{side}_p50_us"), median_of(loads, |load| load.p50_us));
            report.figure(format!("{figure}{side}_p99_us"), median_of(loads, |load| load.p99_us));
        }
    }
    Ok(report)
}

fn ours(hosts: &Hosts<'_>, in_flight: &str) -> Result<Load> {
    hosts.tool(BROKER, &["load", "--for-ms", FOR_MS, "--in-flight", in_flight, "--user", USER])
}
