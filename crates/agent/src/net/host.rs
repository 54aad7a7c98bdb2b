//! Asking `vsmagent`: one call after the other on a connection, and as many connections as there are calls at a time.
//! It has to be root who answers.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an answer that belongs to another call is an error, whichever it is"
)]

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::{mpsc, watch},
};
use vsm_core::{Fence, SessionId};

use crate::message::{
    self, ANSWER_MAX, Answer, BYTES_MAX, Call, Failure, Kind, Live, SILENCE_MAX, Told,
};

/// Longest that a call can take: a start whose X server may take as long as the configuration allows. Whether whoever
/// does it is still there is known long before.
const CALL_LONGEST: Duration = Duration::from_secs(15 * 60);
/// Lines of a report that wait for a broker which is slow to read; behind them the bound of `vsmagent` holds.
const TOLD_BOUND: usize = 16;
/// Sessions at the beginning of a report: no host has as many.
const SESSIONS_MAX: usize = 65_536;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("vsmagent, which keeps the desktops of this host, cannot be reached: {0}")]
    Away(#[source] io::Error),
    #[error("vsmagent, which keeps the desktops of this host, is gone or does not answer")]
    Gone,
    #[error("uid {0} answers in the place of vsmagent")]
    NotRoot(u32),
    #[error("vsmagent gave no answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("vsmagent gave an answer that cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("vsmagent answers something else: {0}")]
    Other(String),
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        let text = format!("{lost}; see systemctl status vsmagent there");
        Self { kind: Kind::Away, text }
    }
}

/// Connections that are kept for calls to come.
const IDLE_MAX: usize = 64;

/// Where it is asked, and whether it is there.
#[derive(Debug, Clone)]
pub(super) struct Host {
    socket: PathBuf,
    /// Connections on which nothing is under way.
    idle: Arc<Mutex<Vec<Line>>>,
    /// Who has to answer: root, and in a test whoever runs it.
    uid: u32,
    is_here: watch::Receiver<Option<String>>,
}

/// The beginning of a report, and what follows.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) host: message::Host,
    pub(super) sessions: Vec<Live>,
    /// It ends with the report.
    pub(super) then: mpsc::Receiver<Told>,
}

impl Host {
    /// `is_here` has the boot of the host while `vsmagent` is there.
    pub(super) fn new(run_dir: &Path, is_here: watch::Receiver<Option<String>>) -> Self {
        Self { socket: message::socket(run_dir), idle: Arc::default(), uid: 0, is_here }
    }

    /// Waits until it is there; the boot of this host.
    pub(super) async fn boot_id(&self) -> String {
        let mut is_here = self.is_here.clone();
        let here = is_here.wait_for(Option::is_some).await;
        // Whoever says it lives as long as the process.
        here.ok().and_then(|here| here.clone()).unwrap_or_default()
    }

    /// Returns when it is gone.
    pub(super) async fn gone(&self) {
        let mut is_here = self.is_here.clone();
        // Without anybody who says it nothing is known to be there.
        let _ = is_here.wait_for(Option::is_none).await;
    }

    /// Asks for something; a failure is an error.
    pub(super) async fn ask(&self, call: Call) -> Result<Answer, Failure> {
        let asked = async {
            let mut line = self.take(call).await?;
            let answer = line.answer().await;
            // One that was refused may have been closed, and of a strange answer more may come.
            if answer.is_ok() {
                self.keep(line);
            }
            answer
        };
        self.in_time(asked).await
    }

    /// A connection on which this has been asked.
    async fn take(&self, call: Call) -> Result<Line, Lost> {
        let kept = std::iter::from_fn(|| self.idle.lock().pop()).find(Line::is_open);
        let Some(mut line) = kept else { return self.open(call).await };
        let bytes = call.line()?;
        match line.0.write_all(&bytes).await {
            Ok(()) => Ok(line),
            // It was closed meanwhile, and has taken nothing: not even part of a line is a call.
            Err(_) => self.open_with(&bytes).await,
        }
    }

    fn keep(&self, line: Line) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX && line.0.buffer().is_empty() {
            idle.push(line);
        }
    }

    /// The end of a session's log; none = there is none.
    pub(super) async fn log(
        &self,
        fence: Fence,
        id: SessionId,
        bytes: u64,
    ) -> Result<Result<Option<Vec<u8>>, Answer>, Failure> {
        let asked = async {
            let mut line = self.open(Call::Log { fence, id, bytes }).await?;
            line.bytes().await
        };
        self.in_time(asked).await
    }

    /// Gives the witness a message; its answer.
    pub(super) async fn witness(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let asked = async {
            let mut line = self.open(Call::Witness { bytes: message.len() as u64 }).await?;
            match line.answer().await? {
                Answer::Go => {}
                other => return Err(unexpected(&other)),
            }
            line.0.write_all(message).await.map_err(Lost::Away)?;
            match line.bytes().await? {
                Ok(answer) => Ok(answer.unwrap_or_default()),
                Err(other) => Err(unexpected(&other)),
            }
        };
        self.in_time(asked).await
    }

    /// Opens a report.
    pub(super) async fn report(&self) -> Result<Report, Failure> {
        let begun = async {
            let mut line = self.open(Call::Report).await?;
            let Told::Host(host) = line.next().await?.ok_or(Lost::Gone)? else {
                return Err(Lost::Other("no host".to_owned()).into());
            };
            let mut sessions = Vec::new();
            while sessions.len() < host.sessions.min(SESSIONS_MAX) {
                match line.next().await?.ok_or(Lost::Gone)? {
                    Told::Live(live) => sessions.push(*live),
                    _ => return Err(Lost::Other("no session".to_owned()).into()),
                }
            }
            Ok((*host, sessions, line))
        };
        let (host, sessions, mut line) = self.in_time(begun).await?;
        let (sender, then) = mpsc::channel(TOLD_BOUND);
        tokio::spawn(async move {
            loop {
                let told = tokio::select! {
                    biased;
                    () = sender.closed() => return,
                    told = line.next() => told,
                };
                let Ok(Some(told)) = told else { return };
                if sender.send(told).await.is_err() {
                    return;
                }
            }
        });
        Ok(Report { host, sessions, then })
    }

    /// Opens a connection that says what this process is to do.
    pub(super) async fn follow(&self) -> Result<Line, Lost> {
        tokio::time::timeout(SILENCE_MAX, self.open(Call::Follow))
            .await
            .map_err(|_| Lost::Late(SILENCE_MAX))?
    }

    async fn open(&self, call: Call) -> Result<Line, Lost> {
        self.open_with(&call.line()?).await
    }

    async fn open_with(&self, call: &[u8]) -> Result<Line, Lost> {
        let stream = UnixStream::connect(&self.socket).await.map_err(Lost::Away)?;
        let uid = stream.peer_cred().map_err(Lost::Away)?.uid();
        if uid != self.uid {
            return Err(Lost::NotRoot(uid));
        }
        let mut line = Line(BufReader::new(stream));
        // One that refuses without reading has said why, or is gone: what it says is read in either case.
        let _ = line.0.write_all(call).await;
        Ok(line)
    }

    /// As long as it is there, and not for ever.
    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            answered = tokio::time::timeout(CALL_LONGEST, asked) => {
                answered.unwrap_or_else(|_| Err(Lost::Late(CALL_LONGEST).into()))
            }
            () = self.gone() => Err(Lost::Gone.into()),
        }
    }
}

/// What `vsmagent` says is none of the answers that there are to a call.
pub(super) fn unexpected(answer: &Answer) -> Failure {
    let words = format!("{answer:?}").chars().take(100).collect();
    Lost::Other(words).into()
}

/// A connection.
#[derive(Debug)]
pub(super) struct Line(BufReader<UnixStream>);

impl Line {
    /// Whether it can be asked: nothing has come that nobody asked for, not even its end.
    fn is_open(&self) -> bool {
        let read = self.0.get_ref().try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The next line as a message; none = it is over.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Lost> {
        let mut line = Vec::new();
        let read = (&mut self.0).take(ANSWER_MAX).read_until(b'\n', &mut line).await;
        if read.map_err(Lost::Away)? == 0 {
            return Ok(None);
        }
        if !line.ends_with(b"\n") {
            return Err(Lost::Gone);
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }

    async fn answer(&mut self) -> Result<Answer, Failure> {
        match self.next().await?.ok_or(Lost::Gone)? {
            Answer::Failed(failure) => Err(failure),
            answer => Ok(answer),
        }
    }

    /// The bytes that an answer announces, or another answer.
    async fn bytes(&mut self) -> Result<Result<Option<Vec<u8>>, Answer>, Failure> {
        let count = match self.answer().await? {
            Answer::Bytes(Some(count)) if count <= BYTES_MAX => count,
            Answer::Bytes(None) => return Ok(Ok(None)),
            other => return Ok(Err(other)),
        };
        let mut bytes = Vec::new();
        let read = (&mut self.0).take(count).read_to_end(&mut bytes).await;
        if read.map_err(Lost::Away)? as u64 != count {
            return Err(Lost::Gone.into());
        }
        Ok(Ok(Some(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::UnixListener;

    use super::*;

    /// Answers so many calls on each connection, and counts the connections.
    fn root(dir: &Path, calls: usize) -> (Host, Arc<AtomicUsize>, watch::Sender<Option<String>>) {
        let path = message::socket(dir);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::AcqRel);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    for _ in 0..calls {
                        let mut line = String::new();
                        if stream.read_line(&mut line).await.unwrap() == 0 {
                            return;
                        }
                        Call::parse(line.as_bytes()).unwrap();
                        stream.write_all(b"\"done\"\n").await.unwrap();
                    }
                });
            }
        });
        let (here, is_here) = watch::channel(Some("boot".to_owned()));
        let mut host = Host::new(dir, is_here);
        host.uid = rustix::process::geteuid().as_raw();
        (host, count, here)
    }

    async fn ask(host: &Host) {
        let answer = host.ask(Call::Forget(String::new())).await.unwrap();
        assert!(matches!(answer, Answer::Done), "{answer:?}");
    }

    #[tokio::test]
    async fn calls_one_after_the_other_share_a_connection_and_calls_at_once_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let (host, count, _here) = root(dir.path(), usize::MAX);
        for _ in 0..5 {
            ask(&host).await;
        }
        assert_eq!(count.load(Ordering::Acquire), 1);
        tokio::join!(ask(&host), ask(&host), ask(&host));
        assert_eq!(count.load(Ordering::Acquire), 3);
        assert_eq!(host.idle.lock().len(), 3);
    }

    /// As one of another version does, or one that was started again.
    #[tokio::test]
    async fn a_connection_that_was_closed_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (host, count, _here) = root(dir.path(), 1);
        for calls in 1..=5 {
            ask(&host).await;
            // It hears of the end when it is at it.
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(count.load(Ordering::Acquire), calls);
        }
    }
}
