//! A new desktop: from the request at the broker's socket until the agent has seen the X server's RFB greeting, with
//! PAM session, record and commits; beside the same X server run by hand.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::report::{Report, Want};
use super::{AGENT, BROKER, Hosts, median, median_of, median_ratio};
use crate::clock::wait_for;

const ABOUT: &str = "\
A new desktop: from the login request at the broker's socket to its answer, which comes after the agent has seen the
X server's RFB greeting and both commits are durable. The peer is the same X server with the same arguments and
environment, run by root as the same user on the same host: from `exec` to its greeting. The session script only
waits here, as a bare X server has none. `at_once` is 20 users at the same moment, until the last has a desktop.
`connect` is `vsm connect --screenshot` as a whole with the default desktop, split as its `timings_ms` are; `again`
is the same for a user who has a desktop.";

/// Pairs of single starts per run.
const SINGLES: u32 = 4;
/// The first of the users.
pub(super) const FIRST: &str = "user001";
/// A session that does nothing.
const WAITING: &str = "printf '#!/bin/sh\\nexec sleep infinity\\n' > /etc/vsm/waiting && \
                       chmod 755 /etc/vsm/waiting && vsm-config /vsmagent/session_script=/etc/vsm/waiting";
/// How long the first login after a start of the daemons is waited for.
const SERVICE_WAIT: std::time::Duration = std::time::Duration::from_secs(20);

/// What `vsm-bench logins` and `vsm-bench bare` print.
#[derive(Debug, Deserialize)]
struct Times {
    each_ms: Vec<f64>,
    all_ms: f64,
}

/// What `vsm connect --json` prints, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Connected {
    created: bool,
    timings_ms: Parts,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Parts {
    ssh: f64,
    broker: f64,
    agent: f64,
    viewer: f64,
}

/// Both sides of one comparison.
#[derive(Debug, Default)]
struct Pairs {
    ours: Vec<Times>,
    bare: Vec<Times>,
}

pub(super) fn run(hosts: &Hosts<'_>) -> Result<Report> {
    let mut report = Report::new("start", ABOUT);
    connect(hosts, &mut report)?;
    let template = prepare(hosts)?;
    let names: Vec<_> = (1..=super::USERS).map(|number| format!("user{number:03}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (mut single, mut many) = (Pairs::default(), Pairs::default());
    for run in 0..hosts.runs {
        for _ in 0..SINGLES {
            pair(hosts, &template, &[FIRST], &mut single)?;
        }
        pair(hosts, &template, &names, &mut many)?;
        let last = |times: &[Times]| times.last().map_or(0.0, |times| times.all_ms);
        hosts.progress.step(format!(
            "run {}: one {:.0} ms, bare {:.0} ms; 20 at once {:.0} ms, bare {:.0} ms",
            run + 1,
            last(&single.ours),
            last(&single.bare),
            last(&many.ours),
            last(&many.bare)
        ));
    }
    let all = |times: &[Times]| median(&times.iter().map(|times| times.all_ms).collect::<Vec<_>>());
    let each = |times: &[Times]| {
        median(&times.iter().map(|times| median(&times.each_ms)).collect::<Vec<_>>())
    };
    let mut compare = |name: &'static str, what: &str, pairs: &Pairs, aim: f64| {
        let (ours, bare) = (all(&pairs.ours), all(&pairs.bare));
        let both = pairs.ours.iter().zip(&pairs.bare);
        let ratio = median_ratio(both.map(|(ours, bare)| (ours.all_ms, bare.all_ms)));
        report.aim(name, ratio, Want::AtMost, aim);
        report.figure(format!("{what}_ms"), ours);
        report.figure(format!("{what}_bare_ms"), bare);
        report.figure(format!("{what}_difference_ms"), ours - bare);
        report.figure(format!("{what}_median_user_ms"), each(&pairs.ours));
        report.figure(format!("{what}_median_user_bare_ms"), each(&pairs.bare));
    };
    compare("one_at_a_time_ratio", "one", &single, 1.5);
    compare("20_at_once_ratio", "at_once", &many, 1.2);
    Ok(report)
}

/// One measurement of each side; nothing of it runs any more at the end.
fn pair(hosts: &Hosts<'_>, template: &str, users: &[&str], pairs: &mut Pairs) -> Result<()> {
    pairs.ours.push(hosts.tool(BROKER, &[&["logins"], users].concat())?);
    hosts.end(users)?;
    pairs.bare.push(hosts.tool(AGENT, &[&["bare", "--template", template], users].concat())?);
    Ok(())
}

/// Has sessions only wait, and learns from one how its X server is run.
fn prepare(hosts: &Hosts<'_>) -> Result<String> {
    first_waits(hosts)?;
    let template = hosts.root(AGENT, &[super::TOOL, "template"])?;
    hosts.end(&[FIRST])?;
    Ok(template)
}

/// Has sessions only wait, from that of [`FIRST`] on, which runs when this returns.
pub(super) fn first_waits(hosts: &Hosts<'_>) -> Result<()> {
    hosts.root(AGENT, &["sh", "-c", WAITING])?;
    hosts.cluster.restart_daemon(AGENT, "vsmagent")?;
    wait_for("the first login", SERVICE_WAIT, || {
        let login = hosts.tool::<Times>(BROKER, &["logins", FIRST]);
        login.map(drop).map_err(|error| format!("{error:#}"))
    })
}

/// The whole of `vsm connect`, new and again.
fn connect(hosts: &Hosts<'_>, report: &mut Report) -> Result<()> {
    let words = ["vsm", "connect", "--json", "--screenshot", "desktop.png", "alice@tlha"];
    let once = || -> Result<Connected> {
        let answer = hosts.cluster.output("client", "alice", &words)?;
        serde_json::from_str(&answer).with_context(|| format!("vsm connect printed {answer:?}"))
    };
    wait_for("the first login", SERVICE_WAIT, || once().map_err(|error| format!("{error:#}")))?;
    let (mut fresh, mut again) = (Vec::new(), Vec::new());
    for _ in 0..hosts.runs {
        hosts.end(&["alice"])?;
        for (expected, times) in [(true, &mut fresh), (false, &mut again)] {
            let Connected { created, timings_ms } = once()?;
            ensure!(created == expected, "vsm connect said created: {created}");
            times.push(timings_ms);
        }
    }
    for (name, parts) in [("connect", fresh), ("connect_again", again)] {
        let of = |part: fn(&Parts) -> f64| median_of(&parts, part);
        report.figure(format!("{name}_ssh_ms"), of(|parts| parts.ssh));
        report.figure(format!("{name}_broker_ms"), of(|parts| parts.broker));
        report.figure(format!("{name}_agent_ms"), of(|parts| parts.agent));
        report.figure(format!("{name}_viewer_ms"), of(|parts| parts.viewer));
        let whole = |parts: &Parts| parts.ssh + parts.broker + parts.agent + parts.viewer;
        report.figure(format!("{name}_whole_ms"), of(whole));
    }
    hosts.end(&["alice"])?;
    hosts.progress.step("vsm connect is measured");
    Ok(())
}
