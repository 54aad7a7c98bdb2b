//! All connections on the control socket: who views the desktop, who shadows it, who is told what happens.

use std::{
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixListener,
    },
    time::Instant,
};

use nix::poll::{PollFd, PollFlags};
use vsm_core::Viewer;
use vsm_daemon::clock;

use super::{children, peer::Peer, shadow::Shadowing};
use crate::{
    control::{DropCause, Event},
    refusal::one_line,
};

/// Connections of the owner at a time; `vsmagent`'s are not counted against it.
const OWNER_PEERS_MAX: usize = 16;
/// Connections in all.
const PEERS_MAX: usize = 64;

/// The connections, and where new ones come from.
#[derive(Debug)]
pub(super) struct Peers {
    listener: UnixListener,
    all: Vec<Peer>,
    /// Connections so far; each has a number of its own.
    ever: u64,
}

/// What connections leave behind that have ended.
#[derive(Debug)]
pub(super) struct Gone {
    /// Whether one of them was a viewer's.
    pub(super) viewed: bool,
    /// Those who shadowed the desktop through them.
    pub(super) shadows: Vec<Shadowing>,
}

impl Peers {
    pub(super) const fn new(listener: UnixListener) -> Self {
        Self { listener, all: Vec::new(), ever: 0 }
    }

    /// Becomes readable when somebody connects.
    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// What to wait for, a connection each, by index.
    pub(super) fn fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.all.iter().map(|peer| {
            let send = if peer.wants_to_send() { PollFlags::POLLOUT } else { PollFlags::empty() };
            PollFd::new(peer.fd(), PollFlags::POLLIN | send)
        })
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Peer> {
        self.all.get(index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Peer> {
        self.all.get_mut(index)
    }

    /// Takes new connections, as many as may be.
    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            self.ever += 1;
            let Ok(peer) = Peer::new(stream, self.ever) else { continue };
            let of_owner = self.all.iter().filter(|other| other.uid != 0).count();
            if self.all.len() < PEERS_MAX && (peer.uid == 0 || of_owner < OWNER_PEERS_MAX) {
                self.all.push(peer);
            }
        }
    }

    /// Closes the connections that have ended; none = there were none.
    pub(super) fn drop_gone(&mut self) -> Option<Gone> {
        let mut gone = self.all.extract_if(.., |peer| peer.over).peekable();
        gone.peek()?;
        let (mut viewed, mut shadows) = (false, Vec::new());
        for mut peer in gone {
            viewed |= peer.viewing.is_some();
            shadows.extend(peer.shadowing.take());
        }
        Some(Gone { viewed, shadows })
    }

    /// Tells those with these numbers, if they are still there; each once.
    pub(super) fn send(&mut self, numbers: &[u64], event: &Event) {
        for peer in self.all.iter_mut().filter(|peer| numbers.contains(&peer.number)) {
            peer.send(event);
        }
    }

    /// Tells all who have subscribed.
    pub(super) fn tell(&mut self, event: &Event) {
        for peer in self.all.iter_mut().filter(|peer| peer.subscribed) {
            peer.send(event);
        }
    }

    /// Tells one of them, by index, what happens from now on.
    pub(super) fn subscribe(&mut self, index: usize) {
        let by = self.shadowers().map(str::to_owned).collect();
        if let Some(peer) = self.all.get_mut(index) {
            peer.subscribed = true;
            peer.send(&Event::Shadowers { by });
        }
    }

    /// Tells subscribers who views the desktop now.
    pub(super) fn tell_who_views(&mut self) {
        let viewer = self.viewer();
        self.tell(&Event::Viewer { viewer });
    }

    /// Tells subscribers who shadows the desktop now.
    pub(super) fn tell_who_shadows(&mut self) {
        let by = self.shadowers().map(str::to_owned).collect();
        self.tell(&Event::Shadowers { by });
    }

    /// Tells viewers why they are about to lose the desktop.
    pub(super) fn tell_viewers_why(&mut self, why: &str, cause: DropCause) {
        let dropped = Event::Dropped { why: why.to_owned(), cause };
        for peer in self.all.iter_mut().filter(|peer| peer.viewing.is_some()) {
            peer.send(&dropped);
        }
    }

    /// Tells all who have subscribed the last there is to say, and gives everybody until the deadline to read what they
    /// are owed.
    pub(super) fn say_farewell(&mut self, event: &Event, deadline: Instant) {
        for peer in &mut self.all {
            if peer.subscribed {
                peer.send(event);
            }
            while peer.wants_to_send() && !peer.over && clock::now() < deadline {
                children::pause(std::time::Duration::from_millis(1));
                peer.flush();
            }
        }
    }

    /// The latest viewer.
    pub(super) fn viewer(&self) -> Option<Viewer> {
        let viewers = self.all.iter().filter_map(|peer| peer.viewing.as_ref());
        viewers.max_by_key(|viewing| viewing.viewer.since).map(|viewing| viewing.viewer.clone())
    }

    /// Since when the oldest viewer has been there, by the clock of timers; none = nobody views the desktop.
    pub(super) fn viewed_since(&self) -> Option<Instant> {
        let viewing = self.all.iter().filter_map(|peer| peer.viewing.as_ref());
        viewing.map(|viewing| viewing.since).min()
    }

    /// Cuts all viewers off, and tells subscribers; whether there was one.
    pub(super) fn drop_viewers(&mut self, why: &str, cause: DropCause) -> bool {
        let mut any = false;
        for peer in self.all.iter_mut().filter(|peer| peer.viewing.is_some()) {
            peer.send(&Event::Dropped { why: one_line(why), cause });
            any |= peer.stop_viewing();
            // Its other end may hang on a line that is dead: nothing of it is waited for, and it counts no more.
            peer.over |= !peer.wants_to_send();
        }
        if any {
            self.tell_who_views();
        }
        any
    }

    /// Those who shadow the desktop now.
    pub(super) fn shadowers(&self) -> impl Iterator<Item = &str> {
        self.all.iter().filter_map(|peer| peer.shadowing.as_ref()).map(|one| one.by.as_str())
    }

    /// Ends all shadowing, as the user wants; whether there was any.
    pub(super) fn drop_shadows(&mut self) -> bool {
        let mut any = false;
        for peer in &mut self.all {
            any |= peer.stop_shadowing("the user of the desktop has ended it");
        }
        any
    }
}
