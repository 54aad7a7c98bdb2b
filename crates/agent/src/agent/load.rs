//! How busy the host is, looked at every few seconds.

use std::{fs, time::Duration};

use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use vsm_proto::agent::v1::Load;

const EVERY: Duration = Duration::from_secs(5);

/// The load now and as it changes, until `stop`.
pub(super) fn watch(stop: CancellationToken) -> watch::Receiver<Load> {
    let (sender, receiver) = watch::channel(now());
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let load = now();
            sender.send_if_modified(|last| {
                if *last == load {
                    false
                } else {
                    *last = load;
                    true
                }
            });
        }
    });
    receiver
}

fn now() -> Load {
    // These files are made up by the kernel: reading them does not wait for a disk.
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let meminfo = read("/proc/meminfo");
    Load {
        load1_milli: read("/proc/loadavg").split(' ').next().map_or(0, thousandths),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_total_mib: mebibytes(&meminfo, "MemTotal:"),
        memory_available_mib: mebibytes(&meminfo, "MemAvailable:"),
        cpu_pressure_milli: pressure(&read("/proc/pressure/cpu")),
    }
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
        assert!(now().memory_total_mib > 0);
    }
}
