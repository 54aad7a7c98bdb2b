//! `vsmctl events verify`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use tokio_stream::StreamExt;
use vsm_core::{Event, Walk};
use vsm_daemon::event_record::EventRecord;
use vsm_proto::admin::v1 as pb;

use crate::{
    admin::{AdminOptions, DEADLINE},
    broker::with_deadline,
    exit::{Failure, NOT_FOUND, SOFTWARE},
    output,
};

/// Longest line of a file: an event has less than a tenth of it.
const LINE_MAX: u64 = 64 << 10;
/// What is wrong beyond so many findings is counted.
const SHOWN_MAX: usize = 100;

/// What is to be checked.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Events that were exported, oldest first: one JSON object a line, as in /vsmserver/trail/file; - reads standard
    /// input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Check the files alone, without asking the broker
    #[arg(long, requires = "files")]
    offline: bool,
}

/// What was found; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct Verified {
    whole: bool,
    events: u64,
    first: Option<u64>,
    last: Option<u64>,
    chain: Option<String>,
    files_last: Option<u64>,
    tables: u64,
    unchained: u64,
    broken: Vec<Finding>,
    more: usize,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
struct Finding {
    place: String,
    what: String,
}

#[derive(Debug, Default)]
struct Check {
    walk: Walk,
    /// The last event of the files.
    files_last: Option<u64>,
    broken: Vec<Finding>,
    more: usize,
}

impl Check {
    fn event(&mut self, event: &Event, place: impl Fn() -> String) {
        if let Err(broken) = self.walk.next(event) {
            self.finding(place(), broken.to_string());
        }
    }

    fn finding(&mut self, place: String, what: String) {
        if self.broken.len() < SHOWN_MAX {
            self.broken.push(Finding { place, what });
        } else {
            self.more += 1;
        }
    }

    /// Events of a file, one a line.
    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let fail =
            |error: io::Error| Failure::new(NOT_FOUND, format!("{}: {error}", path.display()));
        let mut reader: Box<dyn BufRead> = match path.to_str() {
            Some("-") => Box::new(io::stdin().lock()),
            _ => Box::new(BufReader::new(File::open(path).map_err(fail)?)),
        };
        for number in 1_u64.. {
            let (mut line, at) = (Vec::new(), || format!("{}:{number}", path.display()));
            io::Read::take(&mut reader, LINE_MAX).read_until(b'\n', &mut line).map_err(fail)?;
            if line.is_empty() {
                return Ok(());
            }
            if line.len() as u64 == LINE_MAX {
                self.finding(
                    at(),
                    "this line is too long for an event; what follows is not read".to_owned(),
                );
                return Ok(());
            }
            let record: Result<EventRecord, _> = serde_json::from_slice(&line);
            match record
                .map_err(|error| error.to_string())
                .and_then(|record| Event::try_from(record).map_err(|error| error.to_string()))
            {
                Ok(event) => self.event(&event, at),
                Err(why) => self.finding(at(), format!("this is no event: {why}")),
            }
        }
        Ok(())
    }

    /// Events that the broker has. Those before the first one of the files are left out.
    async fn broker(&mut self, options: &AdminOptions) -> Result<(), Failure> {
        self.files_last = self.walk.last().map(|(last, _)| last);
        let tables = self.walk.lives;
        let mut client = options.dial().await?;
        let request = pb::ListEventsRequest {
            after: self.walk.first().map_or(0, |first| first.saturating_sub(1)),
            ..pb::ListEventsRequest::default()
        };
        let answer = client.list_events(with_deadline(request, DEADLINE)).await?;
        output::say_if_stale(&answer);
        let mut pages = answer.into_inner();
        while let Some(page) = pages.next().await {
            for event in page?.events {
                let event = Event::try_from(event)
                    .map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
                self.event(&event, || "the broker".to_owned());
            }
        }
        // What began anew since is in the files too.
        if self.files_last.is_some() && self.walk.lives > tables {
            let what = "its table is another one than that of the files".to_owned();
            self.finding("the broker".to_owned(), what);
        }
        Ok(())
    }

    fn report(self) -> Verified {
        let last = self.walk.last();
        Verified {
            whole: self.broken.is_empty(),
            events: self.walk.events,
            first: self.walk.first(),
            last: last.map(|(number, _)| number),
            chain: last.and_then(|(_, chain)| chain).map(|chain| chain.to_string()),
            files_last: self.files_last,
            tables: self.walk.lives,
            unchained: self.walk.unchained,
            broken: self.broken,
            more: self.more,
        }
    }
}

impl Verified {
    fn words(&self) -> String {
        let mut text = String::new();
        for Finding { place, what } in &self.broken {
            text.push_str(&format!("{place}: {what}\n"));
        }
        if self.more > 0 {
            text.push_str(&format!("and {} more\n", self.more));
        }
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return text + "there is no event\n";
        };
        if self.tables > 1 {
            let tables = self.tables;
            text.push_str(&format!(
                "they are of {tables} tables, each of which began anew; the last one follows\n"
            ));
        }
        if self.unchained > 0 {
            let count = self.unchained;
            text.push_str(&format!(
                "{count} event(s) have no hash: an older vsmserver recorded them\n"
            ));
        }
        if let Some(last) = self.files_last {
            text.push_str(&format!("the files end with event {last}\n"));
        }
        let word = if self.whole { "whole" } else { "broken" };
        text.push_str(&format!("{} events, {first} to {last}: the chain is {word}\n", self.events));
        if let Some(chain) = &self.chain {
            text.push_str(&format!("event {last} has the hash {chain}\n"));
        }
        text
    }
}

/// Goes through the chain of events.
///
/// # Errors
/// If it is broken, a file is none of events, or the broker cannot be asked.
pub(super) async fn events_verify(
    options: &AdminOptions,
    arguments: &VerifyArgs,
) -> Result<(), Failure> {
    let mut check = Check::default();
    for file in &arguments.files {
        check.file(file)?;
    }
    let asked = match arguments.offline {
        true => Ok(()),
        false => check.broker(options).await,
    };
    let verified = check.report();
    if let Err(mut failure) = asked {
        if !arguments.files.is_empty() {
            output::report(options.output, &verified, Verified::words)?;
            failure.text.push_str(" (--offline checks the files alone)");
        }
        return Err(failure);
    }
    output::report(options.output, &verified, Verified::words)?;
    match verified.whole {
        true => Ok(()),
        false => Err(Failure::new(1, "")),
    }
}
