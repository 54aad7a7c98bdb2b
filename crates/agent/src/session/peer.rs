//! One connection on the control socket: who it is, what it has sent, what it is owed.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::Instant,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use vsm_core::Viewer;
use vsm_daemon::socket;

use super::shadow::Shadowing;
use crate::{
    control::{DropCause, Event, Request},
    lines::{self, LineError, Lines},
};

/// Bytes that may wait for a peer that does not read; then it is dropped.
const UNSENT_MAX: usize = 256 << 10;

/// A viewer's connection to the X server, held so that it can be cut.
#[derive(Debug)]
pub(super) struct Viewing {
    pub(super) rfb: UnixStream,
    pub(super) viewer: Viewer,
    /// Since when, by the clock of timers.
    pub(super) since: Instant,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Peer {
    stream: UnixStream,
    /// Its own among all of this session's connections.
    pub(super) number: u64,
    /// User id of the other side.
    pub(super) uid: u32,
    lines: Lines,
    unsent: Vec<u8>,
    pub(super) subscribed: bool,
    pub(super) viewing: Option<Viewing>,
    /// Who shadows the desktop through it.
    pub(super) shadowing: Option<Shadowing>,
    /// Nothing more is read or owed.
    pub(super) over: bool,
}

impl Peer {
    pub(super) fn new(stream: UnixStream, number: u64) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let uid = getsockopt(&stream, PeerCredentials)?.uid();
        let (lines, unsent) = (Lines::default(), Vec::new());
        let (subscribed, viewing, over) = (false, None, false);
        let shadowing = None;
        Ok(Self { stream, number, uid, lines, unsent, subscribed, viewing, shadowing, over })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) const fn wants_to_send(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Reads what is there.
    pub(super) fn receive(&mut self) {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.over = true,
            Ok(count) => self.lines.push(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.over = true,
        }
    }

    /// The next request. What cannot be understood is answered here.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        loop {
            match self.lines.next_message() {
                Ok(request) => return request,
                Err(error @ LineError::Syntax(_)) => {
                    self.send(&Event::Refused { why: error.to_string() });
                }
                Err(LineError::TooLong) => {
                    self.over = true;
                    return None;
                }
            }
        }
    }

    /// Queues an event and sends what can be sent.
    pub(super) fn send(&mut self, event: &Event) {
        if let Ok(line) = lines::line(event) {
            self.unsent.extend(line);
        }
        self.flush();
        if self.unsent.len() > UNSENT_MAX {
            self.over = true;
        }
    }

    pub(super) fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.over = true;
                    return;
                }
            }
        }
    }

    /// Hands a connection to the X server over and holds it.
    pub(super) fn attach(&mut self, viewing: Viewing) -> io::Result<()> {
        self.hand_over(&viewing.rfb)?;
        self.viewing = Some(viewing);
        Ok(())
    }

    /// Hands a connection over.
    pub(super) fn hand_over(&mut self, connection: &UnixStream) -> io::Result<()> {
        if !self.unsent.is_empty() {
            return Err(io::Error::other("the caller does not read"));
        }
        let line = lines::line(&Event::Attached).map_err(io::Error::other)?;
        socket::send_with(&self.stream, &line, &[connection.as_fd()])
    }

    /// Cuts the viewer off; whether there was one.
    pub(super) fn stop_viewing(&mut self) -> bool {
        let Some(viewing) = self.viewing.take() else { return false };
        // Fails where the X server has closed it already.
        let _ = viewing.rfb.shutdown(Shutdown::Both);
        true
    }

    /// Cuts the one who shadows the desktop off, for this reason; whether there was one.
    pub(super) fn stop_shadowing(&mut self, why: &str) -> bool {
        if self.shadowing.is_none() {
            return false;
        }
        // Before the picture stops: who sees its end looks for the reason once.
        self.send(&Event::Dropped { why: why.to_owned(), cause: DropCause::Disconnected });
        self.shadowing.iter().for_each(Shadowing::cut);
        self.over = true;
        true
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop_viewing();
    }
}
