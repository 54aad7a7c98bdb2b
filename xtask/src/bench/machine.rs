//! The machine that the figures come from.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::command::{command, run};
use crate::compile::{self, Profile};

/// On the machine's disk: the miniature hosts' stores are in memory.
const FILE: &str = "/var/tmp/vsm-bench-fsync";

/// What a figure depends on.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Machine {
    /// CPU model.
    pub(super) cpu: String,
    /// CPUs.
    pub(super) cores: usize,
    /// Kernel release.
    pub(super) kernel: String,
    /// One append of 400 bytes with fdatasync on the machine's disk, in microseconds, measured in the run.
    pub(super) fsync_p50_us: f64,
    /// Load average of the last minute before the run: above half a CPU the machine was doing something else too.
    pub(super) load1_before: f64,
}

#[derive(Debug, Deserialize)]
struct Disk {
    fsync_p50_us: f64,
}

impl Machine {
    pub(super) fn look() -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo")?;
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = fs::read_to_string("/proc/loadavg")?;
        let tool = compile::binaries(Profile::Release)?.join("vsm-bench");
        let output = run(command(&[tool]).args(["disk", "--file", FILE]))?;
        let disk: Disk = serde_json::from_slice(&output.stdout).context("vsm-bench disk")?;
        Ok(Self {
            cpu: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            fsync_p50_us: disk.fsync_p50_us,
            load1_before: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        })
    }
}
