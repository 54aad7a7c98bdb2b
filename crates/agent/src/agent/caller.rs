//! Whoever has called `vsmagent`: what it is answered, and what it brings. One who does not read is not waited for.

use std::{io, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::{
    lines,
    message::{Answer, CALL_MAX},
};

/// How long whoever asked may take to read a piece of the answer, or to bring what it has announced.
const STALL_MAX: Duration = Duration::from_secs(10);
/// Longest piece that is written at once.
const PIECE: usize = 64 << 10;

/// Whoever has called.
#[derive(Debug)]
pub(super) struct Caller {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl Caller {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (from, to) = stream.into_split();
        Self { from: BufReader::new(from), to }
    }

    /// Its next call, whole and with the line's end; none = it asks for nothing more.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        (&mut self.from).take(CALL_MAX).read_until(b'\n', &mut line).await?;
        Ok(Some(line).filter(|line| line.ends_with(b"\n")))
    }

    /// Both directions, for what is told as it happens.
    pub(super) fn parts(self) -> (Gone, Teller) {
        (Gone(self.from.into_inner()), Teller(self.to))
    }

    pub(super) async fn say(&mut self, answer: &Answer) -> io::Result<()> {
        say(&mut self.to, answer).await
    }

    pub(super) async fn say_bytes(&mut self, bytes: Option<&[u8]>) -> io::Result<()> {
        let length = bytes.map(|bytes| bytes.len() as u64);
        self.say(&Answer::Bytes(length)).await?;
        write(&mut self.to, bytes.unwrap_or_default()).await
    }

    /// What a call has announced. Room for it is made as it comes.
    pub(super) async fn bytes(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut piece = vec![0; PIECE];
        while (bytes.len() as u64) < count {
            let left = usize::try_from(count - bytes.len() as u64).unwrap_or(PIECE);
            let room = piece.get_mut(..left.min(PIECE)).unwrap_or_default();
            let read = tokio::time::timeout(STALL_MAX, self.from.read(room)).await??;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(room.get(..read).unwrap_or_default());
        }
        Ok(bytes)
    }
}

/// Tells when nobody listens any more.
#[derive(Debug)]
pub(super) struct Gone(OwnedReadHalf);

impl Gone {
    pub(super) async fn gone(mut self) {
        let mut rest = [0; 64];
        // There is nothing more to say.
        while matches!(self.0.read(&mut rest).await, Ok(count) if count > 0) {}
    }
}

/// Says one line after the other.
#[derive(Debug)]
pub(super) struct Teller(OwnedWriteHalf);

impl Teller {
    pub(super) async fn say(&mut self, line: &impl Serialize) -> io::Result<()> {
        say(&mut self.0, line).await
    }
}

async fn say(to: &mut OwnedWriteHalf, line: &impl Serialize) -> io::Result<()> {
    write(to, &lines::line(line).map_err(io::Error::other)?).await
}

async fn write(to: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(PIECE) {
        tokio::time::timeout(STALL_MAX, to.write_all(piece)).await??;
    }
    Ok(())
}
