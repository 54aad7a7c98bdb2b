//! How long a program takes until it prints something, and until it is done.

use std::{
    io::Read,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use vsm_daemon::clock;

use crate::millis;

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    words: Vec<String>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Printed {
    /// Until the first bytes came.
    first_ms: f64,
    /// Until it ended.
    all_ms: f64,
    bytes: usize,
    lines: usize,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<Printed> {
    let (program, arguments) = options.words.split_first().context("no program")?;
    let from = clock::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| program.clone())?;
    let mut output = child.stdout.take().context("its output")?;
    let (mut buffer, mut text) = (vec![0; 1 << 16], Vec::new());
    let mut first = None;
    loop {
        let count = output.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        first.get_or_insert_with(clock::now);
        text.extend_from_slice(&buffer[..count]);
    }
    let status = child.wait()?;
    let to = clock::now();
    ensure!(status.success(), "{program}: {status}");
    let first = first.context("it printed nothing")?;
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    let (first_ms, all_ms) = (millis(from, first), millis(from, to));
    Ok(Printed { first_ms, all_ms, bytes: text.len(), lines })
}
