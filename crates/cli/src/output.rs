//! What commands print: tables for people, JSON and YAML for scripts. What was asked for goes to standard output;
//! standard error is for errors, and for progress where a person watches.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;
use unicode_width::UnicodeWidthStr;
use vsm_core::{UnixMillis, is_unprintable, printable_lines};
use vsm_daemon::clock;

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

/// A list that is printed part by part, as one that came whole would be; only the columns are as wide as the first part
/// wants them, and a later cell that is wider moves the rest of its line.
#[derive(Debug)]
pub(crate) struct LongList {
    format: Format,
    count: usize,
    widths: Vec<usize>,
}

impl LongList {
    pub(crate) const fn new(format: Format) -> Self {
        Self { format, count: 0, widths: Vec::new() }
    }

    /// Prints some rows; false = the reader has gone.
    pub(crate) fn page<T: Columns>(&mut self, rows: &[T]) -> Result<bool, Failure> {
        let text = match self.format {
            Format::Table => self.lines(rows),
            Format::Json => {
                let mut text = String::new();
                for (row, place) in rows.iter().zip(self.count..) {
                    text.push_str(if place == 0 { "[\n" } else { ",\n" });
                    text.push_str(&indented(&json(row)?));
                }
                text
            }
            Format::Yaml if rows.is_empty() => String::new(),
            Format::Yaml => yaml(&rows)?,
        };
        self.count += rows.len();
        write_on(&text)
    }

    fn lines<T: Columns>(&mut self, rows: &[T]) -> String {
        let mut lines: Vec<Vec<String>> = rows.iter().map(Columns::cells).collect();
        if self.widths.is_empty() {
            lines.insert(0, headings::<T>());
            self.widths = widths(&lines);
        }
        lines.iter().map(|line| padded(line, &self.widths)).collect()
    }

    /// Prints what belongs to the end; how many rows there were.
    pub(crate) fn end<T: Columns>(mut self) -> Result<usize, Failure> {
        match (self.format, self.count) {
            (Format::Table, 0) => write(&self.lines::<T>(&[]))?,
            (Format::Json | Format::Yaml, 0) => write("[]\n")?,
            (Format::Json, _) => write("\n]\n")?,
            (Format::Table | Format::Yaml, _) => {}
        }
        Ok(self.count)
    }
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    let bad = |error: serde_json::Error| Failure::new(crate::exit::SOFTWARE, error.to_string());
    serde_json::to_string_pretty(value).map_err(bad)
}

fn yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    vsm_config::to_yaml(value)
        .map_err(|error| Failure::new(crate::exit::SOFTWARE, error.to_string()))
}

/// Prints one value; a table is shown as YAML, which reads as well.
///
/// # Errors
/// If standard output cannot be written.
pub fn value<T: Serialize>(format: Format, value: &T) -> Result<(), Failure> {
    write(&match format {
        Format::Json => json(value)? + "\n",
        Format::Table | Format::Yaml => yaml(value)?,
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
        Format::Table | Format::Yaml => Ok(format!("---\n{}", yaml(value)?)),
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
    write_screen(&printable_lines(text))
}

/// Prints a text that moves the cursor, with nothing in it that others wrote but [`table`]s.
pub(crate) fn write_screen(text: &str) -> Result<bool, Failure> {
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
        eprintln!("{}", printable_lines(text));
    }
}

/// A line that the user should read though all went well; on standard error, as data is not mixed with it.
#[expect(clippy::print_stderr, reason = "a remark goes to standard error")]
pub fn remark(text: &str) {
    eprintln!("vsm: {}", printable_lines(text));
}

/// Says of an answer that it may be old, where the broker said so.
pub(crate) fn say_if_stale<T>(answer: &tonic::Response<T>) {
    let stale = answer.metadata().get(vsm_daemon::grpc::STALE_KEY);
    if let Some(why) = stale.map(|why| String::from_utf8_lossy(why.as_encoded_bytes()).into_owned())
    {
        remark(&why);
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

/// A list as texts, for who shows it otherwise than in a terminal: no control character is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cells {
    /// Headings, as in a terminal.
    pub headings: Vec<String>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<String>>,
}

impl Cells {
    /// Of these rows.
    #[must_use]
    pub fn of<T: Columns>(rows: &[T]) -> Self {
        Self::new(headings::<T>(), rows.iter().map(Columns::cells))
    }

    pub(crate) fn new(headings: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>) -> Self {
        let plain = |row: Vec<String>| row.iter().map(|cell| shown(cell)).collect();
        Self { headings, rows: rows.into_iter().map(plain).collect() }
    }
}

/// The fields of a value as texts, in the order in which they are printed; those that are empty are left out.
pub(crate) fn fields<T: Serialize>(value: &T) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(all)) = serde_json::to_value(value) else { return Vec::new() };
    let text = |(name, value): (String, serde_json::Value)| {
        let text = field(&value)?;
        Some((name.replace('_', " "), shown(&text)))
    };
    all.into_iter().filter_map(text).collect()
}

fn field(value: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    match value {
        Value::Null => None,
        Value::Bool(is) => Some(if *is { "yes" } else { "no" }.to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Array(all) => {
            let all: Vec<String> = all.iter().filter_map(field).collect();
            Some(all.join(", ")).filter(|text| !text.is_empty())
        }
        Value::Object(all) => {
            let one = |(name, value): (&String, &Value)| {
                Some(format!("{} {}", name.replace('_', " "), field(value)?))
            };
            Some(all.iter().filter_map(one).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Rows as columns below their headings.
pub(crate) fn table<T: Columns>(rows: &[T]) -> String {
    columns(headings::<T>(), rows.iter().map(Columns::cells))
}

fn headings<T: Columns>() -> Vec<String> {
    T::HEADINGS.iter().map(|heading| (*heading).to_owned()).collect()
}

/// Lines of cells, each column as wide as its widest cell.
pub(crate) fn columns(first: Vec<String>, rest: impl IntoIterator<Item = Vec<String>>) -> String {
    let lines: Vec<Vec<String>> = std::iter::once(first).chain(rest).collect();
    let widths = widths(&lines);
    lines.iter().map(|line| padded(line, &widths)).collect()
}

fn widths(lines: &[Vec<String>]) -> Vec<usize> {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let of_line = |line: &Vec<String>| line.get(column).map_or(0, |cell| shown(cell).width());
        lines.iter().map(of_line).max().unwrap_or(0)
    };
    (0..count).map(width).collect()
}

/// A cell as it can be shown: what hosts and users say of themselves is in some of them.
fn shown(cell: &str) -> String {
    cell.replace(is_unprintable, "\u{fffd}")
}

/// A line of cells that are at least so wide, in columns of a terminal: a Chinese character takes two.
fn padded(line: &[String], widths: &[usize]) -> String {
    let cells = line.iter().zip(widths).map(|(cell, width)| {
        let cell = shown(cell);
        let blanks = width.saturating_sub(cell.width());
        format!("{cell}{}", " ".repeat(blanks))
    });
    let mut text = cells.collect::<Vec<_>>().join("  ");
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// RFC 3339 in UTC, to the millisecond; 0 is shown as nothing.
#[must_use]
pub fn time(unix_ms: u64) -> Option<String> {
    clock::exact(UnixMillis(unix_ms))
}

/// A time of [`time`] without its fraction, for columns.
#[must_use]
pub fn to_the_second(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

/// A cell that may be empty.
pub(crate) fn or_dash(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "-".to_owned())
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
    fn a_list_in_parts_is_as_one_that_is_whole() {
        let rows = [Row("alice", "agent1"), Row("bob", "a"), Row("al", "agent1")];
        let mut list = LongList::new(Format::Table);
        assert_eq!(list.lines(&rows[..2]) + &list.lines(&rows[2..]), table(&rows));
        assert_eq!(list.lines(&[Row("isabella", "a")]), "isabella  a\n", "wider than the first");
        assert_eq!(LongList::new(Format::Table).lines::<Row>(&[]), table::<Row>(&[]));
        let whole: Vec<String> = rows.iter().map(|row| indented(&json(row).unwrap())).collect();
        assert_eq!(format!("[\n{}\n]", whole.join(",\n")), json(&rows).unwrap());
        assert_eq!(yaml(&&rows[..2]).unwrap() + &yaml(&&rows[2..]).unwrap(), yaml(&rows).unwrap());
    }

    /// A host's own name, a client's, a message of an agent: no terminal obeys it.
    #[test]
    fn cells_show_what_others_wrote_and_do_not_obey_it() {
        let rows = [Row("al\x1b[2J", "a\u{9b}1\nb")];
        assert_eq!(table(&rows), "USER    AGENT\nal\u{fffd}[2J  a\u{fffd}1\u{fffd}b\n");
    }

    #[test]
    fn columns_line_up() {
        let rows = [Row("al", "agent1"), Row("isabella", "a")];
        assert_eq!(table(&rows), "USER      AGENT\nal        agent1\nisabella  a\n");
        let rows = [Row("山田", "agent1"), Row("al", "a")];
        assert_eq!(table(&rows), "USER  AGENT\n山田  agent1\nal    a\n", "each is two wide");
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
