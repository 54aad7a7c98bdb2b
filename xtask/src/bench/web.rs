//! Desktops in a browser, each figure beside the same by `vsm`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::report::{Report, Want};
use super::{TOOL, median, median_of, median_ratio, process};
use crate::browser::{Browser, Kind, Seat};
use crate::clock::{self, wait_for};
use crate::cluster::web::{Factors, PASSWORD};
use crate::cluster::{Cluster, ClusterSpec, Fault, files};
use crate::compile::{self, Profile};
use crate::pair::{self, NODES};
use crate::progress::Progress;
use crate::setup;

const ABOUT: &str = "\
A pair of brokers with keepalived, two session hosts and a client, with users who log in by password. `page` is Chromium, logged
in: from the address to the first picture, against `vsm connect --screenshot` by key. `logins` is 50 browsers at the same moment,
each from an address of its own: TLS, two forms, a web key, the WebSocket, the first whole picture; against 50 `vsm connect --screenshot` at the same
moment; all have desktops already. `idle` is 200 browsers with a desktop in which nothing happens: CPU time of `vsm-web` in percent
of one core over 20 s, and what each adds to its resident memory. `relay` is 1 GiB of pictures without compression, by the WebSocket and by
`vsm` with ssh: time, and CPU time of the whole machine, both viewers included. `key` is from a key to what it painted in a terminal. `cable` is the active
broker's cable pulled while Chromium shows a desktop: until the page has it again, by the page's own clock.";

const NAME: &str = "bench-web";
const USERS: u16 = 50;
const IDLE: usize = 200;
const AGENTS: u8 = 2;
const SITE: &str = "https://tlha/desktop";
/// The first of the addresses that browsers come from.
const FROM: [u8; 4] = [10, 0, 0, 101];
const MIB: &str = "1024";
const KEYS: &str = "200";
const CABLES: u32 = 10;
const WAIT: Duration = Duration::from_secs(180);
const REST: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(5);
/// A terminal all over the desktop, whose keys are seen at once.
const TERMINAL: &str =
    "printf '#!/bin/sh\\nexec xterm -geometry 300x80+0+0 -e cat\\n' > /etc/vsm/xsession";
/// After so long the page takes silence for death.
const DETECTION_MS: f64 = 1500.0;

const PAGE_AIM: f64 = 1.2;
const RELAY_CPU_AIM: f64 = 1.5;
const RELAY_TIME_AIM: f64 = 1.3;
const KEY_AIM: f64 = 1.2;
const IDLE_CPU_AIM: f64 = 2.0;
const IDLE_KIB_AIM: f64 = 256.0;
const LOGINS_AIM: f64 = 2.0;
const BACK_P50_AIM_MS: f64 = DETECTION_MS + 1000.0;
const BACK_MAX_AIM_MS: f64 = 4000.0;

/// What `vsm-bench web-logins` prints.
#[derive(Debug, Deserialize)]
struct Logins {
    failed: usize,
    p99_ms: f64,
    why: String,
}

/// What `vsm-bench view` prints.
#[derive(Debug, Clone, Copy, Deserialize)]
struct View {
    all_ms: f64,
    key_p50_us: f64,
}

/// Browsers that are in; they go with their input.
struct Browsers(Child, Logins);

impl Drop for Browsers {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

pub(super) fn setup() -> Result<()> {
    setup::browsers(false)
}

pub(super) fn run(runs: u32, progress: Progress) -> Result<Report> {
    let mut spec = ClusterSpec::pair(NAME, compile::helper()?);
    spec.binaries = compile::binaries(Profile::Release)?;
    (spec.agents, spec.users, spec.fresh, spec.web) =
        (AGENTS, USERS, true, Some(Factors::Password));
    progress.step("two brokers, two session hosts and a client come up");
    let cluster = Cluster::up(&spec)?;
    files::install(NAME, &spec.binaries.join("vsm-bench"))?;
    let hosts = Hosts { cluster: &cluster, runs, progress };
    hosts.prepare()?;
    let mut report = Report::new("web", ABOUT);
    hosts.logins(&mut report)?;
    hosts.idle(&mut report)?;
    hosts.relay(&mut report)?;
    hosts.in_chromium(&mut report)?;
    cluster.down()?;
    Ok(report)
}

struct Hosts<'a> {
    cluster: &'a Cluster,
    runs: u32,
    progress: Progress,
}

fn users() -> Vec<String> {
    (1..=USERS).map(|number| format!("user{number:03}")).collect()
}

impl Hosts<'_> {
    fn root(&self, host: &str, line: &str) -> Result<String> {
        self.cluster.output(host, "root", &["sh", "-c", line])
    }

    /// Everybody has a desktop, and the client their addresses.
    fn prepare(&self) -> Result<()> {
        for number in 1..=AGENTS {
            self.root(&format!("agent{number}"), TERMINAL)?;
        }
        pair::in_step(self.cluster, WAIT)?;
        for node in NODES {
            // Several browsers show one desktop where they are to be many.
            self.root(node, "vsm-config /vsmweb/logins_per_user=64 && vsmctl reload")?;
        }
        for number in 1..=AGENTS {
            let share =
                "vsm-config /vsmagent/second_viewer=share && kill -HUP $(pgrep -x vsmagent)";
            self.root(&format!("agent{number}"), share)?;
        }
        let [a, b, c, first] = FROM;
        let last = usize::from(first) + usize::from(USERS) - 1;
        let add = format!(
            "for n in $(seq {first} {last}); do ip addr add {a}.{b}.{c}.$n/24 dev eth0; done"
        );
        self.root("client", &add)?;
        for user in users() {
            let known = "mkdir -p ~/.ssh && ssh-keyscan tlha > ~/.ssh/known_hosts 2>/dev/null";
            self.cluster.output("client", &user, &["sh", "-c", known])?;
        }
        // Not all at once: desktops take their time to start, and are not what is measured.
        drop(self.browsers(&users(), true)?);
        self.progress.step(format!("{USERS} users have desktops"));
        Ok(())
    }

    fn site() -> Vec<String> {
        let [a, b, c, d] = FROM;
        ["--password", PASSWORD, "--from", &format!("{a}.{b}.{c}.{d}")].map(str::to_owned).into()
    }

    fn browsers(&self, users: &[String], one_by_one: bool) -> Result<Browsers> {
        let mut words = vec![TOOL.to_owned(), "web-logins".to_owned()];
        words.extend(Self::site());
        words.extend(one_by_one.then(|| "--one-by-one".to_owned()));
        words.extend_from_slice(users);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let mut tool = self.cluster.command("client", "root", &words)?;
        let mut child = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        let logins: Logins =
            serde_json::from_str(&line).with_context(|| format!("vsm-bench printed {line:?}"))?;
        let Logins { failed, why, .. } = &logins;
        ensure!(*failed == 0, "{failed} browsers were not let in: {why}");
        Ok(Browsers(child, logins))
    }

    /// All users at the same moment, by browser and by `vsm`.
    fn logins(&self, report: &mut Report) -> Result<()> {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            own.push(self.browsers(&users(), false)?.1.p99_ms);
            clock::pause(SETTLE);
            others.push(self.screenshots()?);
            clock::pause(SETTLE);
        }
        let both = own.iter().copied().zip(others.iter().copied());
        report.aim("logins_50_p99_ratio", median_ratio(both), Want::AtMost, LOGINS_AIM);
        report.figure("logins_50_p99_ms", median(&own));
        report.figure("logins_50_vsm_p99_ms", median(&others));
        self.progress.step(format!("logins: {own:.0?} ms by browser, {others:.0?} ms by vsm"));
        Ok(())
    }

    /// The longest but one per cent of what `vsm connect --screenshot` takes for all of them at once, in milliseconds.
    fn screenshots(&self) -> Result<f64> {
        let mut times = std::thread::scope(|scope| {
            let one = |user: String| {
                scope.spawn(move || -> Result<f64> {
                    let began = clock::now();
                    self.screenshot(&user)?;
                    Ok(began.elapsed().as_secs_f64() * 1000.0)
                })
            };
            let all: Vec<_> = users().into_iter().map(one).collect();
            let joined = |it: std::thread::ScopedJoinHandle<'_, Result<f64>>| {
                it.join().unwrap_or_else(|_| bail!("a thread died"))
            };
            all.into_iter().map(joined).collect::<Result<Vec<_>>>()
        })?;
        times.sort_by(f64::total_cmp);
        times.last().copied().context("nobody")
    }

    fn screenshot(&self, user: &str) -> Result<()> {
        let (file, to) = (format!("/tmp/{user}.png"), format!("{user}@tlha"));
        let words = ["vsm", "connect", "--screenshot", &file, &to];
        self.cluster.output("client", user, &words).map(drop)
    }

    fn idle(&self, report: &mut Report) -> Result<()> {
        let active = pair::in_step(self.cluster, WAIT)?;
        let pid = process::daemon(self.cluster, active, "vsm-web")?;
        let resident = || process::resident(self.cluster, active, &pid);
        let before = resident()?.now;
        let all: Vec<_> = users().into_iter().cycle().take(IDLE).collect();
        // Those above the last address begin again at the first: an address may log in thirty times a minute.
        let mut open = Vec::new();
        for part in all.chunks(usize::from(USERS)) {
            open.push(self.browsers(part, false)?);
        }
        clock::pause(SETTLE);
        let mut cpu = Vec::new();
        for _ in 0..self.runs {
            let from = process::worked(self.cluster, active, &[&pid])?;
            clock::pause(REST);
            let to = process::worked(self.cluster, active, &[&pid])?;
            cpu.push((to - from) / REST.as_secs_f64() * 100.0);
        }
        let each = (resident()?.now - before) * 1024.0 / f64::from(u32::try_from(IDLE)?);
        report.aim("idle_200_cpu_percent", median(&cpu), Want::AtMost, IDLE_CPU_AIM);
        report.aim("idle_each_kib", each, Want::AtMost, IDLE_KIB_AIM);
        self.progress.step(format!("idle: {cpu:.2?} %, {each:.0} KiB each"));
        Ok(())
    }

    fn tool<T: DeserializeOwned>(&self, user: &str, words: &[&str]) -> Result<T> {
        let text = self.cluster.output("client", user, &[&[TOOL], words].concat())?;
        serde_json::from_str(&text).with_context(|| format!("vsm-bench printed {text:?}"))
    }

    /// Pictures and keys, by browser and by `vsm`.
    fn relay(&self, report: &mut Report) -> Result<()> {
        let user = "user001";
        let site = Self::site();
        let by_web: Vec<&str> = ["view"]
            .into_iter()
            .chain(site.iter().map(String::as_str))
            .chain(["--user", user])
            .collect();
        let to = format!("{user}@tlha");
        let socket =
            self.cluster.output("client", user, &["vsm", "connect", "--no-viewer", &to])?;
        let by_vsm = ["view", "--socket", socket.trim()];
        let (mut own, mut others) = (Vec::new(), Vec::new());
        let (mut own_cpu, mut others_cpu) = (Vec::new(), Vec::new());
        let (mut own_keys, mut others_keys) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            for (words, who, view, cpu, keys) in [
                (&by_web[..], "root", &mut own, &mut own_cpu, &mut own_keys),
                (&by_vsm[..], user, &mut others, &mut others_cpu, &mut others_keys),
            ] {
                let from = machine_ms()?;
                let moved: View = self.tool(who, &[words, &["--mib", MIB]].concat())?;
                cpu.push(machine_ms()? - from);
                view.push(moved);
                let pressed: View = self.tool(who, &[words, &["--keys", KEYS]].concat())?;
                keys.push(pressed.key_p50_us);
            }
        }
        let ratio = |own: &[f64], others: &[f64]| {
            median_ratio(own.iter().copied().zip(others.iter().copied()))
        };
        let times = |all: &[View]| all.iter().map(|view| view.all_ms).collect::<Vec<_>>();
        report.aim(
            "relay_1_gib_cpu_ratio",
            ratio(&own_cpu, &others_cpu),
            Want::AtMost,
            RELAY_CPU_AIM,
        );
        report.aim(
            "relay_1_gib_time_ratio",
            ratio(&times(&own), &times(&others)),
            Want::AtMost,
            RELAY_TIME_AIM,
        );
        report.aim("key_p50_ratio", ratio(&own_keys, &others_keys), Want::AtMost, KEY_AIM);
        for (name, views, cpu, keys) in
            [("", &own, &own_cpu, &own_keys), ("_vsm", &others, &others_cpu, &others_keys)]
        {
            report.figure(format!("relay_1_gib{name}_ms"), median_of(views, |view| view.all_ms));
            report.figure(format!("relay_1_gib{name}_cpu_ms"), median(cpu));
            report.figure(format!("key{name}_p50_us"), median(keys));
        }
        self.progress.step("pictures and keys are measured");
        Ok(())
    }

    /// What only a real browser shows: how soon a page has its desktop, at first and again.
    fn in_chromium(&self, report: &mut Report) -> Result<()> {
        let authority = self.root("tlha-primary", "cat /etc/vsm/pki/ca.pem")?;
        let artifacts = compile::root().join("target/artifacts/bench-web");
        fs::create_dir_all(&artifacts)?;
        let seat = Seat {
            kind: Kind::Chromium,
            host: "client",
            user: "alice",
            authority: Some(&authority),
            artifacts: &artifacts,
        };
        let browser = Browser::open(self.cluster, &seat)?;
        browser.go("https://tlha/")?;
        browser.log_in("alice")?;
        picture_ms(&browser)?;
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            browser.go(SITE)?;
            own.push(picture_ms(&browser)?);
            let began = clock::now();
            self.screenshot("alice")?;
            others.push(began.elapsed().as_secs_f64() * 1000.0);
            browser.go("about:blank")?;
        }
        let both = own.iter().copied().zip(others.iter().copied());
        report.aim("page_ratio", median_ratio(both), Want::AtMost, PAGE_AIM);
        report.figure("page_ms", median(&own));
        report.figure("page_vsm_ms", median(&others));
        self.progress.step(format!("page: {own:.0?} ms, vsm {others:.0?} ms"));
        browser.go(SITE)?;
        picture_ms(&browser)?;
        let mut back = Vec::new();
        for _ in 0..CABLES {
            back.push(self.cable(&browser)?);
        }
        let most = back.iter().copied().fold(0.0, f64::max);
        report.aim("cable_p50_ms", median(&back), Want::AtMost, BACK_P50_AIM_MS);
        report.aim("cable_max_ms", most, Want::AtMost, BACK_MAX_AIM_MS);
        self.progress.step(format!("cables: {back:.0?} ms"));
        Ok(())
    }

    /// Pulls the active broker's cable; milliseconds until the page has its desktop again.
    fn cable(&self, browser: &Browser<'_>) -> Result<f64> {
        let active = pair::in_step(self.cluster, WAIT)?;
        let times = "return window.vsm.connected";
        let before = browser.execute(times, &[])?.as_u64().context("a number")?;
        let began = clock::unix_micros();
        self.cluster.fault(&Fault::Cable { host: active.to_owned() })?;
        let back = wait_for("the desktop to be back", WAIT, || {
            match browser.execute(times, &[]).map_err(|error| format!("{error:#}"))? {
                now if now == json!(before + 1) => Ok(()),
                now => Err(now.to_string()),
            }
        });
        let last = "
            const [at] = window.vsm.events.filter(([, what]) => what === 'connected').at(-1);
            return performance.timeOrigin + at;";
        let at = browser.execute(last, &[])?.as_f64().context("a time")?;
        self.cluster.heal(&[])?;
        back?;
        ensure!(browser.texts("form input:not([type=hidden])")?.is_empty(), "something is asked");
        #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 are exact in it")]
        let began = began as f64 / 1000.0;
        Ok(at - began)
    }
}

/// Milliseconds from the beginning of the page until its desktop was seen.
fn picture_ms(browser: &Browser<'_>) -> Result<f64> {
    // The terminal is white; until then nothing is.
    let seen = "
        return new Promise((done) => {
          const look = () => {
            const canvas = document.querySelector('#screen canvas');
            const is = canvas?.width > 200 && canvas.getContext('2d').getImageData(150, 150, 1, 1).data[0] > 200;
            if (is) done(performance.now()); else setTimeout(look, 2);
          };
          look();
        });";
    browser.execute(seen, &[])?.as_f64().context("a time")
}

/// What all CPUs of the machine have worked so far, in milliseconds.
fn machine_ms() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat")?;
    let fields: Vec<f64> =
        line.split_whitespace().skip(1).filter_map(|it| it.parse().ok()).collect();
    // user, nice, system; then idle and iowait; then irq, softirq.
    let worked = [0, 1, 2, 5, 6].iter().filter_map(|at| fields.get(*at)).sum::<f64>();
    Ok(worked * 10.0)
}
