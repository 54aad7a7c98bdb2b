//! Watching sessions until it is interrupted. A stream that breaks, as when a broker dies, is opened again.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
};

use serde::Serialize;
use tokio_stream::StreamExt;
use vsm_daemon::clock;

use super::{AdminOptions, select::Selector};
use crate::{
    desktops::SessionRow,
    exit::Failure,
    output::{self, Format},
    retry::{self, RetryOptions},
};

/// Lines of a terminal that does not tell its size.
const LINES_DEFAULT: usize = 24;

/// One line of `vsmctl session watch --output json`; the fields are stable.
#[derive(Debug, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
enum Change<'a> {
    /// A session is new, or is so now.
    Session(&'a SessionRow),
    /// A session is gone, or no longer matches.
    Gone { session: &'a str },
}

/// `vsmctl session watch`: the list as it changes, on a terminal in place, else a line for each change.
///
/// # Errors
/// If the broker cannot be asked for as long as the options say.
pub async fn session_watch(
    options: &AdminOptions,
    selector: &Selector,
    retry: &RetryOptions,
) -> Result<(), Failure> {
    let mut shown = Shown::new(options.output);
    loop {
        let mut pages = retry::riding(retry, async || {
            let answer = options.dial().await?.watch_sessions(selector.message()).await?;
            output::say_if_stale(&answer);
            Ok(answer.into_inner())
        })
        .await?;
        // It is told from the beginning again: what is not told again is gone.
        let mut stale: Vec<String> = shown.rows.keys().cloned().collect();
        while let Some(page) = pages.next().await {
            let Ok(page) = page else { break };
            let mut gone = page.gone;
            let rows: Vec<SessionRow> = page.changed.into_iter().map(Into::into).collect();
            stale.retain(|id| !rows.iter().any(|row| row.session == *id));
            if page.caught_up {
                gone.append(&mut stale);
            }
            if !shown.take(rows, &gone, page.caught_up)? {
                return Ok(());
            }
        }
    }
}

/// What a person sees of the sessions.
struct Shown {
    format: Format,
    in_place: bool,
    rows: BTreeMap<String, SessionRow>,
}

impl Shown {
    fn new(format: Format) -> Self {
        let in_place = format == Format::Table && io::stdout().is_terminal();
        Self { format, in_place, rows: BTreeMap::new() }
    }

    /// Takes changes in; false = the reader has gone.
    fn take(
        &mut self,
        rows: Vec<SessionRow>,
        gone: &[String],
        caught_up: bool,
    ) -> Result<bool, Failure> {
        let mut text = String::new();
        if !self.in_place {
            for row in &rows {
                text.push_str(&self.line(&Change::Session(row))?);
            }
            for session in gone.iter().filter(|id| self.rows.contains_key(*id)) {
                text.push_str(&self.line(&Change::Gone { session })?);
            }
        }
        gone.iter().for_each(|id| drop(self.rows.remove(id)));
        self.rows.extend(rows.into_iter().map(|row| (row.session.clone(), row)));
        if self.in_place && caught_up {
            return output::write_screen(&self.screen());
        }
        output::write_on(&text)
    }

    fn line(&self, change: &Change<'_>) -> Result<String, Failure> {
        match self.format {
            Format::Table => {
                let at = output::time(clock::unix_millis().0).unwrap_or_default();
                Ok(match change {
                    Change::Session(row) => format!("{at}  {}\n", row.words()),
                    Change::Gone { session } => {
                        format!("{at}  {}  gone\n", output::short_id(session))
                    }
                })
            }
            Format::Json | Format::Yaml => output::one_of_many(self.format, change),
        }
    }

    /// The whole list, on a cleared screen: as much as there is room for.
    fn screen(&self) -> String {
        let lines = rustix::termios::tcgetwinsize(io::stdout())
            .ok()
            .map_or(LINES_DEFAULT, |size| usize::from(size.ws_row).max(4));
        let table = output::table(&self.rows.values().collect::<Vec<_>>());
        let room = lines - 2;
        let more = table.lines().count().saturating_sub(room);
        let more = if more == 0 { String::new() } else { format!(", {more} not shown") };
        let table: Vec<&str> = table.lines().take(room).collect();
        let at = output::time(clock::unix_millis().0).unwrap_or_default();
        format!("\x1b[H\x1b[2J{}\n{} session(s){more}  {at}\n", table.join("\n"), self.rows.len())
    }
}
