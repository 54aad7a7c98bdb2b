//! What commands print: tables for people, JSON and YAML for scripts. What was asked for goes to standard output;
//! standard error is for errors, and for progress where a person watches.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::{CANNOT_WRITE, Failure};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// JSON for scripts; its fields are stable.
    Json,
    /// The same as YAML.
    Yaml,
}

/// A list that can be shown as columns.
pub trait Columns: Serialize {
    /// Headings.
    const HEADINGS: &'static [&'static str];
    /// One row, as many cells as headings.
    fn cells(&self) -> Vec<String>;
}

impl<T: Columns> Columns for &T {
    const HEADINGS: &'static [&'static str] = T::HEADINGS;

    fn cells(&self) -> Vec<String> {
        (*self).cells()
    }
}

/// Prints rows in the wanted format.
///
/// # Errors
/// If standard output cannot be written.
pub fn list<T: Columns>(format: Format, rows: &[T]) -> Result<(), Failure> {
    match format {
        Format::Table => write(&table(rows)),
        Format::Json | Format::Yaml => value(format, &rows),
    }
}

/// Prints one value; a table is shown as YAML, which reads as well.
///
/// # Errors
/// If standard output cannot be written.
pub fn value<T: Serialize>(format: Format, value: &T) -> Result<(), Failure> {
    let bad = |error: String| Failure::new(crate::exit::SOFTWARE, error);
    write(&match format {
        Format::Json => {
            serde_json::to_string_pretty(value).map_err(|error| bad(error.to_string()))? + "\n"
        }
        Format::Table | Format::Yaml => {
            vsm_config::to_yaml(value).map_err(|error| bad(error.to_string()))?
        }
    })
}

/// Prints a value for scripts, or what a person reads in its place.
///
/// # Errors
/// If standard output cannot be written.
pub fn report<T: Serialize>(
    format: Format,
    data: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => write(&text(data)),
        Format::Json | Format::Yaml => value(format, data),
    }
}

/// One value as a line of JSON, or as a document of YAML: what a program that goes on prints.
///
/// # Errors
/// If it cannot be written so.
pub fn one_of_many<T: Serialize>(format: Format, value: &T) -> Result<String, Failure> {
    let bad = |error: String| Failure::new(crate::exit::SOFTWARE, error);
    match format {
        Format::Json => {
            Ok(serde_json::to_string(value).map_err(|error| bad(error.to_string()))? + "\n")
        }
        Format::Table | Format::Yaml => {
            let text = vsm_config::to_yaml(value).map_err(|error| bad(error.to_string()))?;
            Ok(format!("---\n{text}"))
        }
    }
}

/// A session id as tables show it: the last group of its digits, by which it can be named.
#[must_use]
pub fn short_id(id: &str) -> String {
    id.parse::<vsm_core::SessionId>().map_or_else(|_| id.to_owned(), vsm_core::SessionId::short)
}

/// Prints a text. A reader that has seen enough is no error.
///
/// # Errors
/// If standard output cannot be written.
pub fn write(text: &str) -> Result<(), Failure> {
    write_on(text).map(|_| ())
}

/// Prints a text of a program that goes on; false = the reader has gone.
///
/// # Errors
/// If standard output cannot be written.
pub fn write_on(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            Err(Failure::new(CANNOT_WRITE, format!("cannot write to standard output: {error}")))
        }
    }
}

/// A line of progress for a person who waits: shown where standard error is a terminal. In a script's standard error
/// there are errors only.
#[expect(clippy::print_stderr, reason = "progress goes to standard error")]
pub fn progress(text: &str) {
    if io::stderr().is_terminal() {
        eprintln!("{text}");
    }
}

/// Prints a line that says what was done.
///
/// # Errors
/// If standard output cannot be written.
pub fn say(text: &str) -> Result<(), Failure> {
    write(&format!(
        "{text}
"
    ))
}

/// Rows as columns below their headings.
pub(crate) fn table<T: Columns>(rows: &[T]) -> String {
    let headings = T::HEADINGS.iter().map(|heading| (*heading).to_owned()).collect();
    columns(headings, rows.iter().map(Columns::cells))
}

/// Lines of cells, each column as wide as its widest cell.
pub(crate) fn columns(first: Vec<String>, rest: impl IntoIterator<Item = Vec<String>>) -> String {
    let lines: Vec<Vec<String>> = std::iter::once(first).chain(rest).collect();
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let of_line = |line: &Vec<String>| line.get(column).map_or(0, |cell| cell.chars().count());
        lines.iter().map(of_line).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// RFC 3339 in UTC, to the millisecond; 0 is shown as nothing.
#[must_use]
pub fn time(unix_ms: u64) -> Option<String> {
    let millis = i64::try_from(unix_ms).ok().filter(|millis| *millis != 0)?;
    let timestamp = jiff::Timestamp::from_millisecond(millis).ok()?;
    Some(format!("{timestamp:.3}"))
}

/// A time of [`time`] without its fraction, for columns.
#[must_use]
pub fn to_the_second(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

/// How long ago, in at most two units: `3d 4h`, `5m 12s`.
#[must_use]
pub fn age(since_unix_ms: u64, now_unix_ms: u64) -> String {
    let seconds = now_unix_ms.saturating_sub(since_unix_ms) / 1000;
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) => format!("{m}m {s}s"),
        (0, _, _) => format!("{h}h {m}m"),
        _ => format!("{d}d {h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Row(&'static str, &'static str);

    impl Columns for Row {
        const HEADINGS: &'static [&'static str] = &["USER", "AGENT"];

        fn cells(&self) -> Vec<String> {
            vec![self.0.to_owned(), self.1.to_owned()]
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [Row("al", "agent1"), Row("isabella", "a")];
        assert_eq!(table(&rows), "USER      AGENT\nal        agent1\nisabella  a\n");
    }

    #[test]
    fn times_are_rfc_3339_and_ages_short() {
        assert_eq!(time(1_800_000_000_123).unwrap(), "2027-01-15T08:00:00.123Z");
        assert_eq!(time(0), None);
        assert_eq!(to_the_second("2027-01-15T08:00:00.123Z"), "2027-01-15T08:00:00Z");
        assert_eq!(age(0, 59_999), "59s");
        assert_eq!(age(0, 3_600_000), "1h 0m");
        assert_eq!(age(0, 90_000_000), "1d 1h");
        assert_eq!(age(5, 0), "0s");
    }
}
