//! Exporting the trail beyond the ring: each event as a line of JSON to a file, to the syslog, or both.
//!
//! How far it is, is on disk for each place, and moves on only when the place has what was written: the file when it is
//! on the disk, the syslog when it has taken each line. So after a crash some lines come again, and none is missing.
//! Each node exports what its copy of the table has.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::unistd::geteuid;
use tokio_util::sync::CancellationToken;
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
/// How the line of an event begins, and how much more than one of them is looked at.
const BEGIN: &[u8] = b"{\"number\":";
const TAIL: u64 = 64 << 10;
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

    /// Writes lines; how many of them are there now, also where it failed then.
    fn write(&self, lines: &[String]) -> (usize, io::Result<()>) {
        match self {
            Self::File(path) => match append(path, lines) {
                Ok(()) => (lines.len(), Ok(())),
                Err(error) => (0, Err(error)),
            },
            Self::Syslog(syslog) => {
                for (taken, line) in lines.iter().enumerate() {
                    if let Err(error) = syslog.write(INFORMATIONAL, line.trim_end()) {
                        return (taken, Err(error));
                    }
                }
                (lines.len(), Ok(()))
            }
        }
    }
}

/// Appends lines, and waits until they are on the disk; all or none of them. A line that a crash has cut off is taken
/// away: it comes again. A file that is anything else than a trail of this broker's is left as it is.
fn append(path: &Path, lines: &[String]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let found = file.metadata()?;
    if found.uid() != geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
    }
    let (length, whole) = (found.len(), end_of_last_line(&mut file, found.len())?);
    if whole < length {
        file.set_len(whole)?;
    }
    if let Err(error) = file.write_all(lines.concat().as_bytes()).and_then(|()| file.sync_all()) {
        // Part of them on a full disk would be there twice later.
        let _ = file.set_len(whole);
        return Err(error);
    }
    if length == 0
        && let Some(dir) = path.parent()
    {
        // Its name, if it is new.
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Where the last whole line of a trail ends.
fn end_of_last_line(file: &mut File, length: u64) -> io::Result<u64> {
    let start = length.saturating_sub(TAIL);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    Read::take(&mut *file, TAIL).read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (lines, cut) = tail.split_at(whole);
    let last =
        lines.strip_suffix(b"\n").and_then(|lines| lines.rsplit(|byte| *byte == b'\n').next());
    // An empty file has neither.
    let is_event = last.map_or(start == 0, |last| last.starts_with(BEGIN));
    if !is_event || !cut.iter().zip(BEGIN).all(|(byte, wanted)| byte == wanted) {
        let why = "it ends with something else than an event: it is left as it is";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(start + whole as u64)
}

impl Mark {
    fn read(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        Ok(Self::parse(&text).unwrap_or_else(|| {
            tracing::warn!(file = %path.display(), "no number and hash are in it: all is exported again");
            Self::default()
        }))
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, chain) = text.trim_end().split_once(' ')?;
        let chain = match chain {
            "-" => None,
            chain => Some(chain.parse().ok()?),
        };
        Some(Self { number: number.parse().ok()?, chain })
    }

    fn write(self, path: &Path) -> io::Result<()> {
        let chain = self.chain.map_or_else(|| "-".to_owned(), |chain| chain.to_string());
        files::replace(path, format!("{} {chain}\n", self.number).as_bytes(), Access::OWN)
    }

    /// What a table has after it.
    fn next(self, table: &Table) -> Next {
        let mut from_it = table.events_after(self.number.saturating_sub(1));
        let same = from_it.next().filter(|event| event.number == self.number);
        let is_other =
            self.number > table.last_event() || same.is_some_and(|event| event.chain != self.chain);
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
        let over = stop.child_token();
        let exports = places(&wanted).into_iter().map(|place| {
            let mark = dir.join(format!("trail.{}.exported", place.word()));
            to_place(Arc::clone(&journal), place, mark, over.clone())
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
        // A turn that is under way is finished: the next one goes on from its mark.
        over.cancel();
        while let Some(ended) = running.join_next().await {
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic.into_panic());
            }
        }
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

/// Exports to one place, until it is over.
async fn to_place(journal: Arc<Journal>, place: Place, file: PathBuf, over: CancellationToken) {
    let troubles = &journal.process.troubles;
    let mut table = journal.authority.table.watch();
    let mut mark = None;
    loop {
        table.borrow_and_update();
        let (wait, waits_for_more) = match turn(&journal, &place, &file, &mut mark).await {
            Ok(more) => {
                troubles.over(Kind::Trail, place.word());
                (TURN, !more)
            }
            Err(error) => {
                let after = mark.map_or(0, |mark: Mark| mark.number);
                let what = format!(
                    "the trail is not exported to {} since event {after}: {error}",
                    place.shown()
                );
                troubles.raise(Kind::Trail, place.word(), what);
                (AGAIN, false)
            }
        };
        let next = async {
            tokio::time::sleep(wait).await;
            if waits_for_more { table.changed().await.is_ok() } else { true }
        };
        if over.run_until_cancelled(next).await != Some(true) {
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
    if events.is_empty() {
        return Ok(false);
    }
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
    let (more, place, file) = (events.len() == TOGETHER, place.clone(), file.to_owned());
    let written = tokio::task::spawn_blocking(move || {
        let lines: Vec<String> =
            events.iter().map(|event| line(event)).collect::<Result<_, _>>()?;
        let (taken, done) = place.write(&lines);
        let last = taken.checked_sub(1).and_then(|last| events.get(last));
        let new = last.map(|last| Mark { number: last.number, chain: last.chain });
        let kept = new.map_or(Ok(()), |new| new.write(&file));
        Ok::<_, io::Error>((new, done.and(kept)))
    });
    let (new, done) = written.await.map_err(io::Error::other)??;
    // What the place has is not written again, also where the mark cannot be kept.
    *mark = new.or(*mark);
    done.map(|()| more)
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
        let [one, two, three] = [1, 2, 3].map(|n| format!("{{\"number\":{n}}}\n"));
        append(&path, &[one.clone(), two.clone()]).unwrap();
        let long = format!("{{\"number\":4{}", "x".repeat(10_000));
        for cut in ["{\"num", long.as_str()] {
            OpenOptions::new().append(true).open(&path).unwrap().write_all(cut.as_bytes()).unwrap();
            append(&path, std::slice::from_ref(&three)).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{one}{two}{three}{three}"));
        fs::write(&path, "{").unwrap();
        append(&path, std::slice::from_ref(&one)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), one);
        // Whatever else somebody names is not written to.
        let many = "x".repeat(100_000);
        for other in ["important", "a\nb", "a\n", "{\"number\":1}\nnotes", "SQLite\0\n\0", &many] {
            fs::write(&path, other).unwrap();
            assert!(append(&path, std::slice::from_ref(&one)).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), other);
        }
        let nowhere = dir.path().join("no/file");
        assert!(append(&nowhere, &[]).is_err());
    }

    /// It reads ten lines at a time, or none: what it has taken does not come again.
    #[test]
    fn a_slow_syslog_has_each_line_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let place = Place::Syslog(Syslog::audit("vsm-trail", path));
        let lines: Vec<String> = (0..400).map(|n| format!("{n} {}\n", "x".repeat(900))).collect();
        // Nobody reads.
        let (taken, done) = place.write(&lines);
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(taken > 0 && taken < lines.len(), "{taken}");
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            let mut read = || {
                let count = socket.recv(&mut buffer).unwrap();
                String::from_utf8_lossy(&buffer[..count]).into_owned()
            };
            (0..400).map(|_| read()).collect::<Vec<_>>()
        });
        let (rest, done) = place.write(&lines[taken..]);
        done.unwrap();
        assert_eq!(taken + rest, lines.len());
        for (n, line) in reader.join().unwrap().iter().enumerate() {
            assert!(line.contains(&format!("]: {n} x")), "{n}: {line}");
        }
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
        assert_eq!(Mark::read(&path).unwrap(), Mark::default());
    }
}
