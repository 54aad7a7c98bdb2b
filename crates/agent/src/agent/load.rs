//! How busy the host is: looked at every two seconds, told when it has changed by as much as matters, and at least
//! twice a minute, so that the broker can tell what has been measured from what has come since.
//!
//! In a container the figures are those of the container, as far as its control group has them: they are what its
//! users have.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use vsm_daemon::{clock, duty::Duties};

use crate::{cgroup, message::Load};

const EVERY: Duration = Duration::from_secs(2);
/// After so many looks it is told though nothing has changed.
const TOLD_AFTER: u32 = 15;
/// Each look counts for a quarter of the figures that are smoothed: together they go back some ten seconds.
const SMOOTH: u32 = 4;
/// A share that changed by this much, in thousandths, matters.
const SHARE_MATTERS: u32 = 20;
/// A number of processes that changed by this much, in thousandths, matters.
const QUEUE_MATTERS: u32 = 500;

/// The load now and as it changes, until `stop`.
pub(super) fn watch(duties: &Duties, stop: CancellationToken) -> watch::Receiver<Load> {
    let mut meter = Meter::new();
    let (sender, receiver) = watch::channel(meter.look());
    duties.run("look at the load", async move {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut untold = 0;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let load = meter.look();
            untold += 1;
            if untold >= TOLD_AFTER || matters(&sender.borrow(), &load) {
                untold = 0;
                tracing::debug!(
                    load1_milli = load.load1_milli,
                    run_queue_milli = load.run_queue_milli,
                    cpu_busy_milli = load.cpu_busy_milli,
                    memory_available_mib = load.memory_available_mib,
                    "load"
                );
                sender.send_replace(load);
            }
        }
    });
    receiver
}

/// Whether a figure has changed by as much as matters.
fn matters(told: &Load, now: &Load) -> bool {
    let memory = (now.memory_total_mib / 100).max(1);
    let figures = [
        (told.load1_milli, now.load1_milli, QUEUE_MATTERS),
        (told.run_queue_milli, now.run_queue_milli, QUEUE_MATTERS),
        (told.cpus, now.cpus, 1),
        (told.memory_total_mib, now.memory_total_mib, 1),
        (told.memory_available_mib, now.memory_available_mib, memory),
        (told.cpu_busy_milli, now.cpu_busy_milli, SHARE_MATTERS),
        (told.cpu_pressure_milli, now.cpu_pressure_milli, SHARE_MATTERS),
        (told.memory_pressure_milli, now.memory_pressure_milli, SHARE_MATTERS),
    ];
    figures.into_iter().any(|(told, now, matters)| told.abs_diff(now) >= matters)
}

/// What has to be remembered between two looks.
struct Meter {
    /// The control group that everything here is in; none = there is no cgroup v2.
    group: Option<PathBuf>,
    /// When it last looked, and how long all CPUs had worked by then.
    last: Option<(Instant, u64)>,
    /// Smoothed; none = not known yet.
    cpu_busy_milli: Option<u32>,
    run_queue_milli: Option<u32>,
}

impl Meter {
    fn new() -> Self {
        Self { group: cgroup::root(), last: None, cpu_busy_milli: None, run_queue_milli: None }
    }

    /// These files are made up by the kernel: reading them does not wait for a disk.
    fn look(&mut self) -> Load {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
        let loadavg = read("/proc/loadavg");
        self.look_at_cpus(cpus, &loadavg);
        let meminfo = read("/proc/meminfo");
        let host = (mebibytes(&meminfo, "MemTotal:"), mebibytes(&meminfo, "MemAvailable:"));
        let (memory_total_mib, memory_available_mib) = self.limited(host);
        Load {
            load1_milli: loadavg.split(' ').next().map_or(0, thousandths),
            cpus,
            memory_total_mib,
            memory_available_mib,
            cpu_pressure_milli: pressure(&self.of_group_or("cpu.pressure", "/proc/pressure/cpu")),
            cpu_busy_milli: self.cpu_busy_milli.unwrap_or(0),
            run_queue_milli: self.run_queue_milli.unwrap_or(0),
            memory_pressure_milli: pressure(
                &self.of_group_or("memory.pressure", "/proc/pressure/memory"),
            ),
        }
    }

    fn look_at_cpus(&mut self, cpus: u32, loadavg: &str) {
        let now = clock::now();
        if let Some(worked) = self.worked_us() {
            if let Some((at, before)) = self.last {
                let elapsed = now.duration_since(at).as_micros().max(1) * u128::from(cpus);
                let share = u128::from(worked.saturating_sub(before)) * 1000 / elapsed;
                let share = u32::try_from(share).unwrap_or(1000).min(1000);
                self.cpu_busy_milli = Some(smoothed(self.cpu_busy_milli, share));
            }
            self.last = Some((now, worked));
        }
        // The kernel has no such number for a container.
        let queue = if self.is_container() { 0 } else { running(loadavg) };
        self.run_queue_milli = Some(smoothed(self.run_queue_milli, queue));
    }

    /// How long all CPUs have worked, in microseconds.
    fn worked_us(&self) -> Option<u64> {
        let stat = self.of_group("cpu.stat")?;
        stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())
    }

    /// Total and available memory, where the control group allows less than the host has.
    fn limited(&self, (total, available): (u32, u32)) -> (u32, u32) {
        let bytes = |file: &str| self.of_group(file)?.trim().parse::<u64>().ok();
        let mib = |bytes: u64| u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        let (Some(max), Some(current)) = (bytes("memory.max"), bytes("memory.current")) else {
            return (total, available);
        };
        let cache = self.of_group("memory.stat").unwrap_or_default();
        let cache = cache.lines().find_map(|line| line.strip_prefix("inactive_file "));
        let cache: u64 = cache.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
        let left = max.saturating_sub(current.saturating_sub(cache));
        (total.min(mib(max)), available.min(mib(left)))
    }

    fn is_container(&self) -> bool {
        // The true root has no such file.
        self.group.as_ref().is_some_and(|group| group.join("cgroup.type").exists())
    }

    fn of_group(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.group.as_ref()?.join(file)).ok()
    }

    fn of_group_or(&self, file: &str, of_host: &str) -> String {
        self.of_group(file).or_else(|| fs::read_to_string(of_host).ok()).unwrap_or_default()
    }
}

/// A figure with a new reading in it.
const fn smoothed(before: Option<u32>, reading: u32) -> u32 {
    let Some(before) = before else { return reading };
    // In wide numbers, and rounded up where it rises, so that it comes to the reading in the end.
    let (before, reading, smooth) = (before as u64, reading as u64, SMOOTH as u64);
    let sum = before * (smooth - 1) + reading;
    let mean = if reading > before { sum.div_ceil(smooth) } else { sum / smooth };
    #[expect(clippy::cast_possible_truncation, reason = "between two that are no wider")]
    {
        mean as u32
    }
}

/// Processes that run or wait for a CPU but for this one, in thousandths: the fourth field is `running/all`.
fn running(loadavg: &str) -> u32 {
    let field = loadavg.split(' ').nth(3).and_then(|field| field.split('/').next());
    let running = field.and_then(|running| running.parse::<u32>().ok()).unwrap_or(0);
    running.saturating_sub(1).saturating_mul(1000)
}

/// A decimal number in thousandths; 0 if it is none.
fn thousandths(text: &str) -> u32 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    number(whole).saturating_mul(1000).saturating_add(number(&fraction))
}

fn mebibytes(meminfo: &str, field: &str) -> u32 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes =
        line.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
    u32::try_from(kibibytes >> 10).unwrap_or(u32::MAX)
}

/// `some avg10=1.23 …` is a percentage.
fn pressure(text: &str) -> u32 {
    text.split_once("avg10=").and_then(|(_, rest)| rest.split(' ').next()).map_or(0, thousandths)
        / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read() {
        assert_eq!((thousandths("1.5"), thousandths("0.05"), thousandths("x")), (1500, 50, 0));
        assert_eq!(mebibytes("MemTotal:   2048 kB\n", "MemTotal:"), 2);
        assert_eq!(pressure("some avg10=12.30 avg60=0.00\n"), 123);
        assert_eq!(running("0.10 0.20 0.30 4/567 890\n"), 3000);
        assert_eq!((running(""), running("0 0 0 1/2 3")), (0, 0));
        let load = Meter::new().look();
        assert!(load.memory_total_mib > 0 && load.cpus > 0, "{load:?}");
    }

    /// A folder with these files stands for a control group.
    fn meter(files: &[(&str, &str)]) -> (tempfile::TempDir, Meter) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let group = Some(dir.path().to_owned());
        (dir, Meter { group, last: None, cpu_busy_milli: None, run_queue_milli: None })
    }

    #[test]
    fn a_container_has_what_its_control_group_allows() {
        let mib = |mib: u64| (mib << 20).to_string();
        let (max, current) = (mib(1000), mib(700));
        let stat = format!("anon 1\ninactive_file {}\n", mib(200));
        let (_dir, mut meter) = meter(&[
            ("memory.max", &max),
            ("memory.current", &current),
            ("memory.stat", &stat),
            ("cgroup.type", "domain\n"),
            ("cpu.pressure", "some avg10=50.00 avg60=0\n"),
        ]);
        assert_eq!(meter.limited((8000, 4000)), (1000, 500));
        assert_eq!(meter.limited((8000, 300)), (1000, 300), "the host itself has no more");
        let load = meter.look();
        assert_eq!((load.cpu_pressure_milli, load.run_queue_milli), (500, 0));
    }

    #[test]
    fn without_a_limit_the_host_counts() {
        let (_dir, meter) = meter(&[("memory.max", "max\n"), ("memory.current", "5\n")]);
        assert_eq!(meter.limited((8000, 4000)), (8000, 4000));
        assert!(!meter.is_container());
    }

    #[test]
    fn cpu_time_becomes_a_share() {
        let (dir, mut meter) = meter(&[("cpu.stat", "usage_usec 0\nuser_usec 0\n")]);
        meter.look_at_cpus(1, "");
        assert_eq!(meter.cpu_busy_milli, None, "one look says nothing");
        // More than there can have been is all of it.
        fs::write(dir.path().join("cpu.stat"), "usage_usec 99000000000\n").unwrap();
        meter.look_at_cpus(1, "");
        assert_eq!(meter.cpu_busy_milli, Some(1000));
        meter.look_at_cpus(1, "");
        assert_eq!(meter.cpu_busy_milli, Some(750), "each look is a quarter of the figure");
    }

    #[test]
    fn a_smoothed_figure_comes_to_its_reading() {
        let after = |mut figure, reading| {
            for _ in 0..40 {
                figure = smoothed(Some(figure), reading);
            }
            figure
        };
        assert_eq!((after(0, 1000), after(1000, 0), after(7, 7)), (1000, 0, 7));
        assert_eq!(smoothed(Some(u32::MAX), u32::MAX), u32::MAX);
        assert_eq!(smoothed(None, 1000), 1000);
    }

    #[test]
    fn only_what_matters_is_told() {
        let told = Load { memory_total_mib: 10_000, cpu_busy_milli: 100, ..Load::default() };
        assert!(!matters(&told, &Load { cpu_busy_milli: 119, memory_available_mib: 99, ..told }));
        assert!(matters(&told, &Load { cpu_busy_milli: 80, ..told }));
        assert!(matters(&told, &Load { memory_available_mib: 100, ..told }));
        assert!(matters(&told, &Load { run_queue_milli: 500, ..told }));
        assert!(matters(&told, &Load { memory_pressure_milli: 20, ..told }));
    }
}
