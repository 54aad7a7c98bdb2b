//! The session's log: what the X server and the session script print, bounded in size.
//!
//! Their output comes through pipes, so that a chatty program cannot fill the host's disk: at [`LOG_MAX`] the log
//! becomes `ID.log.old` and a new one is begun. The last words of each are kept to explain an end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{OFlags, fcntl_setfl};

/// Size at which the log is begun anew; with the old one a session has at most twice this.
const LOG_MAX: u64 = 1 << 20;
/// Bytes that are kept of the last words of a stream.
const LAST_WORDS_MAX: usize = 4096;

/// The log file.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl Log {
    pub(super) fn open(path: PathBuf) -> Self {
        let file = append(&path).ok();
        let size =
            file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
        Self { path, file, size }
    }

    /// Writes what fits on the disk; a session does not end because its log cannot be written.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.size >= LOG_MAX {
            // If it cannot be moved it is written on.
            let _ = fs::rename(&self.path, self.path.with_extension("log.old"));
            self.file = append(&self.path).ok();
            self.size = 0;
        }
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_ok()
        {
            self.size += u64::try_from(bytes.len()).unwrap_or(0);
        }
    }

    /// A line of the monitor's own.
    pub(super) fn note(&mut self, text: &str) {
        let at = vsm_daemon::clock::unix_millis().0;
        self.write(format!("vsm-session[{}.{:03}]: {text}\n", at / 1000, at % 1000).as_bytes());
    }
}

/// One program's output.
#[derive(Debug)]
pub(super) struct Stream {
    pipe: Option<PipeReader>,
    last: Vec<u8>,
}

impl Stream {
    /// A stream, and the end that the program writes to.
    pub(super) fn new() -> io::Result<(Self, PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        Ok((Self { pipe: Some(reader), last: Vec::new() }, writer))
    }

    /// To wait for; none = the program closed it.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is there now into the log, at most 64 KiB so that the loop goes on; what it was.
    pub(super) fn drain(&mut self, log: &mut Log) -> Vec<u8> {
        let mut said = Vec::new();
        let Some(pipe) = &mut self.pipe else { return said };
        let mut buffer = [0; 8192];
        for _ in 0..8 {
            match pipe.read(&mut buffer) {
                Ok(0) => {
                    self.pipe = None;
                    break;
                }
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    log.write(bytes);
                    said.extend_from_slice(bytes);
                    self.last.extend_from_slice(bytes);
                    let excess = self.last.len().saturating_sub(LAST_WORDS_MAX);
                    self.last.drain(..excess);
                }
                Err(_) => break,
            }
        }
        said
    }

    /// All that is remembered of it.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.last).into_owned()
    }

    /// Its last line with something on it.
    pub(super) fn last_line(&self) -> String {
        let text = self.text();
        text.lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or_default()
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_the_last_line_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id.log");
        let mut log = Log::open(path.clone());
        let (mut stream, mut writer) = Stream::new().unwrap();
        for _ in 0..300 {
            writer.write_all(&[b'x'; 8192]).unwrap();
            stream.drain(&mut log);
        }
        writer.write_all(b"\nall is lost\n\n").unwrap();
        drop(writer);
        stream.drain(&mut log);
        assert_eq!(stream.last_line(), "all is lost");
        stream.drain(&mut log);
        assert!(stream.fd().is_none());
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        assert!(
            size(&path) <= LOG_MAX + 8192 && size(&dir.path().join("id.log.old")) <= LOG_MAX + 8192
        );
    }
}
