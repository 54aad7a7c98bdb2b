//! A session host with a hundred desktops: what its agent takes while nothing happens, and until it has taken them over
//! after a restart; and what the way of the pictures adds to what the X server and the viewer take.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::report::{Report, Want};
use super::start::{self, FIRST};
use super::{AGENT, BROKER, Hosts, MIB, median, median_of, median_ratio, process};
use crate::clock;

const ABOUT: &str = "\
A session host with 100 desktops of as many users, each with its monitor and its X server; the session script only waits.
`cpu` is user and system time in percent of one core over 20 s in which nobody asks for anything: of `vsmagent` and
`vsm-agent-net` with their broker linked, and of the 100 `vsm-session` together. `adoption` is from the `exec` of
`vsmagent` until it tells systemd that it is ready, which it does when it has asked every monitor and taken all 100 over; it ends none of them. `viewer` is
one viewer that asks for the whole desktop without compression until it has 1 GiB of pixels, by way of `vsm-login` as sshd
runs it, and over the X server's own socket. `copied` is what `vsm-login` has read and written of it, by the kernel's count
(`/proc/PID/io`), which leaves out what it has the kernel pass on (splice). The ratio is CPU time of viewer, X server and
`vsm-login` together, against that of the first two alone: what is left is the kernel's own work for one more pipe.";

/// Users, one desktop each.
pub(super) const SESSIONS: u16 = 100;
/// At the same moment.
const AT_ONCE: usize = 10;
const REST: Duration = Duration::from_secs(20);
/// After what was done last, until nothing of it goes on.
const SETTLE: Duration = Duration::from_secs(10);
const CPU_AIM: f64 = 1.0;
const ADOPTION_AIM_MS: f64 = 500.0;
const COPIED_AIM_MIB: f64 = 1.0;

#[derive(Debug, Deserialize)]
struct Ready {
    ready_ms: f64,
    counted: u16,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Frames {
    all_ms: f64,
    cpu_ms: f64,
    login_ms: f64,
    copied: f64,
}

pub(super) fn run(hosts: &Hosts<'_>) -> Result<Report> {
    let mut report = Report::new("agent", ABOUT);
    start::first_waits(hosts)?;
    let others: Vec<_> = (2..=SESSIONS).map(|number| format!("user{number:03}")).collect();
    let others: Vec<_> = others.iter().map(String::as_str).collect();
    for some in others.chunks(AT_ONCE) {
        hosts.tool::<Value>(BROKER, &[&["logins"], some].concat())?;
    }
    hosts.progress.step(format!("{SESSIONS} desktops run"));
    at_rest(hosts, &mut report)?;
    adoption(hosts, &mut report)?;
    hosts.end(&others)?;
    viewer(hosts, &mut report)?;
    hosts.end(&[FIRST])?;
    Ok(report)
}

fn at_rest(hosts: &Hosts<'_>, report: &mut Report) -> Result<()> {
    let agent = process::daemon(hosts.cluster, AGENT, "vsmagent")?;
    let net = process::daemon(hosts.cluster, AGENT, "vsm-agent-net")?;
    let monitors = hosts.root(AGENT, &["pgrep", "--exact", "vsm-session"])?;
    let monitors: Vec<_> = monitors.lines().collect();
    ensure!(monitors.len() == usize::from(SESSIONS), "{} monitors run", monitors.len());
    let look = |pids: &[&str]| process::worked(hosts.cluster, AGENT, pids);
    clock::pause(SETTLE);
    let (mut of_agent, mut of_monitors) = (Vec::new(), Vec::new());
    for _ in 0..hosts.runs {
        let before = (look(&[&agent, &net])?, look(&monitors)?);
        clock::pause(REST);
        let percent = |seconds: f64| seconds / REST.as_secs_f64() * 100.0;
        of_agent.push(percent(look(&[&agent, &net])? - before.0));
        of_monitors.push(percent(look(&monitors)? - before.1));
    }
    hosts.progress.step(format!("vsmagent at rest: {of_agent:.2?} %"));
    report.aim("vsmagent_cpu_at_rest_percent", median(&of_agent), Want::AtMost, CPU_AIM);
    report.figure("100_vsm_sessions_cpu_at_rest_percent", median(&of_monitors));
    let memory = process::resident(hosts.cluster, AGENT, &agent)?;
    report.figure("vsmagent_100_sessions_mib", memory.now);
    Ok(())
}

fn adoption(hosts: &Hosts<'_>, report: &mut Report) -> Result<()> {
    hosts.cluster.stop_daemon(AGENT, "vsmagent")?;
    let mut times = Vec::new();
    for _ in 0..hosts.runs {
        let words = ["ready", "--count", "session adopted", "--", "/usr/bin/vsmagent"];
        let Ready { ready_ms, counted } = hosts.tool(AGENT, &words)?;
        ensure!(counted == SESSIONS, "only {counted} sessions were adopted");
        times.push(ready_ms);
    }
    hosts.progress.step(format!("adopted in {times:.0?} ms"));
    report.aim("adoption_of_100_ms", median(&times), Want::AtMost, ADOPTION_AIM_MS);
    hosts.cluster.start_daemon(AGENT, "vsmagent")?;
    hosts.wait_linked()?;
    let serving: Value = hosts.tool(BROKER, &["serving"])?;
    ensure!(serving["sessions"].as_u64() == Some(SESSIONS.into()), "the broker serves {serving}");
    Ok(())
}

fn viewer(hosts: &Hosts<'_>, report: &mut Report) -> Result<()> {
    let frames = |way: &[&str]| -> Result<Frames> {
        let words = [&[super::TOOL, "frames"], way].concat();
        let answer = hosts.cluster.output(AGENT, FIRST, &words)?;
        Ok(serde_json::from_str(&answer)?)
    };
    let (mut direct, mut by_login) = (Vec::new(), Vec::new());
    for _ in 0..hosts.runs {
        direct.push(frames(&[])?);
        by_login.push(frames(&["--by", "/usr/bin/vsm-login"])?);
    }
    hosts.progress.step("1 GiB of pictures went to a viewer, both ways, in each run");
    let both = || by_login.iter().zip(&direct);
    let ratio = median_ratio(both().map(|(ours, bare)| (ours.cpu_ms, bare.cpu_ms)));
    let copied = median_of(&by_login, |it| it.copied) / MIB;
    report.aim("viewer_1_gib_copied_mib", copied, Want::AtMost, COPIED_AIM_MIB);
    report.figure("viewer_1_gib_cpu_ratio", ratio);
    let share = median_ratio(both().map(|(ours, bare)| (ours.all_ms, bare.all_ms)));
    report.figure("viewer_1_gib_time_ratio", share);
    report.figure("viewer_1_gib_direct_cpu_ms", median_of(&direct, |it| it.cpu_ms));
    report.figure("viewer_1_gib_direct_ms", median_of(&direct, |it| it.all_ms));
    report.figure("viewer_1_gib_cpu_ms", median_of(&by_login, |it| it.cpu_ms));
    report.figure("viewer_1_gib_ms", median_of(&by_login, |it| it.all_ms));
    report.figure("viewer_1_gib_vsm_login_cpu_ms", median_of(&by_login, |it| it.login_ms));
    Ok(())
}
