//! Exporting the trail beyond the ring: each event as a line of JSON to a file, to the syslog, or both.
//!
//! How far it is, is on disk for each place, and moves on only when the place has what was written: the file when it is
//! on the disk, the syslog when it has taken each line. So after a crash some lines come again, and none is missing.
//! Each node exports what its copy of the table has.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use vsm_core::{Event, Hash, Table};
use vsm_daemon::{
    event_record::EventRecord,
    files::{self, Access},
    log::Syslog,
    trouble::Kind,
};

use super::Journal;
use crate::site::settings::TrailSettings;

/// Events of one turn.
const TOGETHER: usize = 256;
/// The least time between two turns: a disk has better things to do than to flush each event.
const TURN: Duration = Duration::from_secs(1);
/// How long it waits after a turn that failed.
const AGAIN: Duration = Duration::from_secs(10);
/// So long it is told that events were lost.
const LOST_TOLD: Duration = Duration::from_secs(86_400);
/// Severity of a line in the syslog: informational.
const INFORMATIONAL: usize = 6;

/// Where events go.
#[derive(Debug, Clone)]
enum Place {
    File(PathBuf),
    Syslog(Syslog),
}

/// How far it is: the last event that the place has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mark {
    number: u64,
    chain: Option<Hash>,
}

/// What is to be written next.
#[derive(Debug, PartialEq, Eq)]
struct Next {
    events: Vec<Arc<Event>>,
    /// Events that were overwritten in the ring before they were written.
    lost: u64,
    /// The table is another one than that of the mark.
    is_other: bool,
}

impl Place {
    const fn word(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Syslog(_) => "syslog",
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Syslog(_) => "the syslog".to_owned(),
        }
    }

    fn write(&self, lines: &[String]) -> io::Result<()> {
        match self {
            Self::File(path) => append(path, lines),
            Self::Syslog(syslog) => {
                lines.iter().try_for_each(|line| syslog.write(INFORMATIONAL, line.trim_end()))
            }
        }
    }
}

/// Appends lines, and waits until they are on the disk. A line that a crash has cut off is taken away: it comes again.
fn append(path: &Path, lines: &[String]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    let whole = end_of_last_line(&mut file, length)?;
    if whole < length {
        file.set_len(whole)?;
    }
    file.write_all(lines.concat().as_bytes())?;
    file.sync_all()?;
    if length == 0
        && let Some(dir) = path.parent()
    {
        // Its name, if it is new.
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Where the last whole line ends.
fn end_of_last_line(file: &mut File, length: u64) -> io::Result<u64> {
    const STEP: u64 = 4096;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        Read::take(&mut *file, end - start).read_to_end(&mut bytes)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

impl Mark {
    fn read(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let bad = || io::Error::other(format!("{} has no number and hash", path.display()));
        let (number, chain) = text.trim_end().split_once(' ').ok_or_else(bad)?;
        let chain = match chain {
            "-" => None,
            chain => Some(chain.parse().map_err(|_| bad())?),
        };
        Ok(Self { number: number.parse().map_err(|_| bad())?, chain })
    }

    fn write(self, path: &Path) -> io::Result<()> {
        let chain = self.chain.map_or_else(|| "-".to_owned(), |chain| chain.to_string());
        files::replace(path, format!("{} {chain}\n", self.number).as_bytes(), Access::OWN)
    }

    /// What a table has after it.
    fn next(self, table: &Table) -> Next {
        let is_there = |number: u64| table.events_after(number.saturating_sub(1)).next();
        let last = table.last_event();
        let same = is_there(self.number).filter(|event| event.number == self.number);
        let is_other = self.number > last || same.is_some_and(|event| event.chain != self.chain);
        let after = if is_other { 0 } else { self.number };
        let events: Vec<Arc<Event>> = table.events_after(after).take(TOGETHER).cloned().collect();
        let first = events.first().map_or(after + 1, |event| event.number);
        // Of a table whose beginning nobody has asked for, nothing is lost.
        let lost = if after == 0 { 0 } else { first - after - 1 };
        Next { events, lost, is_other }
    }
}

/// Exports to the places that the configuration names, until the broker stops.
pub(crate) async fn follow(journal: Arc<Journal>, dir: PathBuf) {
    let stop = journal.process.stop.clone();
    let mut settings = journal.site.watch_settings();
    loop {
        let wanted = settings.borrow_and_update().trail.clone();
        let exports = places(&wanted).into_iter().map(|place| {
            let mark = dir.join(format!("trail.{}.exported", place.word()));
            to_place(Arc::clone(&journal), place, mark)
        });
        let mut running: tokio::task::JoinSet<()> = exports.collect();
        loop {
            let changed = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = settings.changed() => changed,
                Some(ended) = running.join_next() => match ended {
                    Ok(()) => return,
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                },
            };
            if changed.is_err() {
                return;
            }
            if settings.borrow_and_update().trail != wanted {
                break;
            }
        }
        // A turn that is under way ends by itself; what it writes may come again.
        running.shutdown().await;
        for word in ["file", "syslog"] {
            journal.process.troubles.over(Kind::Trail, word);
        }
    }
}

fn places(wanted: &TrailSettings) -> Vec<Place> {
    let file = wanted.file.clone().map(Place::File);
    let socket = wanted.syslog.clone();
    let syslog = socket.map(|socket| Place::Syslog(Syslog::audit("vsm-trail", socket)));
    file.into_iter().chain(syslog).collect()
}

/// Exports to one place, until it is dropped.
async fn to_place(journal: Arc<Journal>, place: Place, file: PathBuf) {
    let troubles = &journal.process.troubles;
    let mut table = journal.authority.table.watch();
    let mut mark = None;
    loop {
        table.borrow_and_update();
        let waiting = match turn(&journal, &place, &file, &mut mark).await {
            Ok(more) => {
                troubles.over(Kind::Trail, place.word());
                tokio::time::sleep(TURN).await;
                !more
            }
            Err(error) => {
                let after = mark.map_or(0, |mark: Mark| mark.number);
                let what = format!(
                    "the trail is not exported to {} since event {after}: {error}",
                    place.shown()
                );
                troubles.raise(Kind::Trail, place.word(), what);
                tokio::time::sleep(AGAIN).await;
                false
            }
        };
        if waiting && table.changed().await.is_err() {
            return;
        }
    }
}

/// Writes what is there, up to so many; whether there may be more.
async fn turn(
    journal: &Journal,
    place: &Place,
    file: &Path,
    mark: &mut Option<Mark>,
) -> io::Result<bool> {
    let known = match *mark {
        Some(known) => known,
        None => *mark.insert(Mark::read(file)?),
    };
    // A copy that no reign has confirmed may have to be taken back.
    let next = journal.authority.table.read(|view| view.known.then(|| known.next(&view.table)));
    let Some(Next { events, lost, is_other }) = next else { return Ok(false) };
    let Some(last) = events.last() else { return Ok(false) };
    if is_other {
        tracing::warn!(place = place.shown(), after = known.number, "the trail begins anew");
    }
    if lost > 0 {
        let what = format!(
            "{lost} event(s) after number {} were overwritten by newer ones before they could be written to {}",
            known.number,
            place.shown()
        );
        let about = format!("{} lost", place.word());
        journal.process.troubles.raise_for(LOST_TOLD, Kind::Trail, &about, what);
    }
    let new = Mark { number: last.number, chain: last.chain };
    let (more, place, file) = (events.len() == TOGETHER, place.clone(), file.to_owned());
    let written = tokio::task::spawn_blocking(move || {
        let lines: Vec<String> =
            events.iter().map(|event| line(event)).collect::<Result<_, _>>()?;
        place.write(&lines)?;
        new.write(&file)
    });
    written.await.map_err(io::Error::other)??;
    *mark = Some(new);
    Ok(more)
}

fn line(event: &Event) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string(&EventRecord::from(event))? + "\n")
}

#[cfg(test)]
mod tests {
    use vsm_core::{EVENTS_MAX, Proposal, UnixMillis};

    use super::*;

    fn table(count: u64, detail: &str) -> Table {
        let mut table = Table::default();
        for _ in 0..count {
            let event = Event {
                number: 0,
                at: UnixMillis(1_700_000_000_000),
                actor: "root".to_owned(),
                action: "text-sent".to_owned(),
                session: None,
                user: None,
                agent: None,
                detail: detail.to_owned(),
                chain: None,
            };
            let change = table.check(Proposal::Note(event)).unwrap();
            table.apply(&change);
        }
        table
    }

    fn numbers(next: &Next) -> Vec<u64> {
        next.events.iter().map(|event| event.number).collect()
    }

    fn mark(table: &Table, number: u64) -> Mark {
        let event = table.events_after(number - 1).next().unwrap();
        Mark { number, chain: event.chain }
    }

    #[test]
    fn what_comes_next_is_after_the_mark_of_the_same_trail() {
        let trail = table(10, "a");
        let all: Vec<u64> = (1..=10).collect();
        assert_eq!(numbers(&Mark::default().next(&trail)), all);
        let next = mark(&trail, 8).next(&trail);
        assert_eq!((numbers(&next), next.lost, next.is_other), (vec![9, 10], 0, false));
        assert_eq!(numbers(&mark(&trail, 10).next(&trail)), [] as [u64; 0]);
        // A table that began anew: shorter, or other events by the same numbers.
        for other in [table(5, "b"), table(10, "b")] {
            let next = mark(&trail, 8).next(&other);
            assert!(next.is_other);
            assert_eq!(next.events.first().unwrap().number, 1);
        }
        let long = table(EVENTS_MAX + 100, "a");
        let next = mark(&trail, 10).next(&long);
        assert_eq!((next.lost, next.is_other), (90, false));
        assert_eq!(next.events.len(), TOGETHER);
        assert_eq!(next.events[0].number, 101);
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trail.jsonl");
        append(&path, &["one\n".to_owned(), "two\n".to_owned()]).unwrap();
        let long = "x".repeat(10_000);
        for cut in ["thr", long.as_str()] {
            OpenOptions::new().append(true).open(&path).unwrap().write_all(cut.as_bytes()).unwrap();
            append(&path, &["three\n".to_owned()]).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\nthree\n");
        fs::write(&path, "cut").unwrap();
        append(&path, &["one\n".to_owned()]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
        let nowhere = dir.path().join("no/file");
        assert!(append(&nowhere, &[]).is_err());
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        assert_eq!(Mark::read(&path).unwrap(), Mark::default());
        for mark in
            [Mark { number: 7, chain: Some(Hash([9; 32])) }, Mark { number: 8, chain: None }]
        {
            mark.write(&path).unwrap();
            assert_eq!(Mark::read(&path).unwrap(), mark);
        }
        fs::write(&path, "x").unwrap();
        assert!(Mark::read(&path).unwrap_err().to_string().contains("mark"));
    }
}
