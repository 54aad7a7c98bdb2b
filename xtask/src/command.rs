//! Running other programs: captured, with errors that say what ran and what it answered.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// The most lines of a program's complaint that an error repeats.
const STDERR_LINES_MAX: usize = 15;

/// A command from its words.
#[must_use]
pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(words: &[S]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().map_or_else(|| "true".as_ref(), AsRef::as_ref));
    command.args(words);
    command
}

/// The command as a person would type it, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs to the end with both outputs captured.
///
/// # Errors
/// When it cannot start or does not exit with 0; the error has the end of its stderr.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let output = capture(command)?;
    if !output.status.success() {
        bail!("{}: {}: {}", shown(command), output.status, tail(&output.stderr));
    }
    Ok(output)
}

/// Runs to the end with both outputs captured, whatever its exit code.
///
/// # Errors
/// When it cannot start.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.output().with_context(|| format!("cannot run {}", shown(command)))
}

/// Runs to the end with the terminal's own stdout and stderr.
///
/// # Errors
/// When it cannot start or does not exit with 0.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{}: {status}", shown(command));
    }
    Ok(())
}

/// The last lines of some output.
pub(crate) fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(STDERR_LINES_MAX)..].join("\n")
}
