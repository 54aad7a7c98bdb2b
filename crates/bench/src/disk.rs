//! What a durable write costs on this host: the floor under everything that is committed.

use std::{fs::OpenOptions, io::Write, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use vsm_daemon::clock;

use crate::{RECORD_LEN, millis};

const RECORD: [u8; RECORD_LEN] = [b'x'; RECORD_LEN];

/// Where to write.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A file that is made and removed again
    #[arg(long)]
    file: PathBuf,
    /// How many writes
    #[arg(long, default_value_t = 500)]
    writes: usize,
}

/// What it cost.
#[derive(Debug, Serialize)]
pub(crate) struct Disk {
    fsync_p50_us: f64,
    fsync_p99_us: f64,
}

/// Appends and syncs.
pub(crate) fn run(options: &Options) -> Result<Disk> {
    let name = || options.file.display().to_string();
    let mut file =
        OpenOptions::new().create(true).append(true).open(&options.file).with_context(name)?;
    let mut times = Vec::with_capacity(options.writes);
    for _ in 0..options.writes {
        let from = clock::now();
        file.write_all(&RECORD).and_then(|()| file.sync_data()).with_context(name)?;
        times.push(millis(from, clock::now()) * 1000.0);
    }
    std::fs::remove_file(&options.file).with_context(name)?;
    times.sort_by(f64::total_cmp);
    let at = |hundredth: usize| times.get(times.len() * hundredth / 100).copied().unwrap_or(0.0);
    Ok(Disk { fsync_p50_us: at(50), fsync_p99_us: at(99) })
}
