//! A share for each of what many use: connections by the user who makes them or by the address that they come from. So
//! one who opens all that there are has only their own, and the log says who it is.
//!
//! Whoever has their share is refused at once and not queued: a queue, the kernel's too, would be everybody's. One who
//! connects and says nothing gives their place back after a while.
//!
//! A host's share is also that of all its users, and of a network behind one address. So where who it is has to be
//! shown first, the one who comes takes the place of the one who has taken longest to show it: whoever can show it has
//! done so in milliseconds.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::oneshot,
    time::{Sleep, sleep},
};
use tonic::transport::server::Connected;

use crate::{
    clock,
    hole::{self, Hole},
};

/// How long one who has connected over the network may take to say the first thing.
pub(crate) const FIRST_WORD_MAX: Duration = Duration::from_secs(10);
/// The same for a user of this host: what `vsm-login` passes on comes from another machine, by the sshd of one that may
/// be busy. The share bounds how many may wait.
pub(crate) const FIRST_WORD_OF_USER_MAX: Duration = Duration::from_secs(60);
/// A system's own users, root and sshd's helper among them, act for many.
const SYSTEM_UID_MAX: u32 = 999;
/// So many times the share of a person they have.
const SYSTEM_FACTOR: usize = 16;
/// The log names one who is refused so often at most.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Those who are remembered for that; beyond it they are named again.
const TOLD_MAX: usize = 4096;

/// Whose share it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// A user of this host.
    Uid(u32),
    /// Another host; of IPv6 its network, as one host has all of that.
    Address(IpAddr),
}

/// Of IPv6 the network, as one host has all of that.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        ip @ IpAddr::V4(_) => ip,
    }
}

impl Who {
    /// Who is at the other end of a unix socket.
    #[must_use]
    pub fn of_unix(stream: &UnixStream) -> Self {
        // Where the kernel does not tell it is nobody, whose share is one as well.
        Self::Uid(stream.peer_cred().map_or(u32::MAX, |peer| peer.uid()))
    }

    /// Who is at the other end of a connection.
    #[must_use]
    pub fn of_tcp(stream: &TcpStream) -> Self {
        let address = stream.peer_addr().map(|address| address.ip());
        Self::Address(network(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))))
    }

    const fn share(self, each: usize) -> usize {
        match self {
            Self::Uid(0..=SYSTEM_UID_MAX) => each * SYSTEM_FACTOR,
            Self::Uid(_) | Self::Address(_) => each,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid {uid}"),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

/// What there is of one thing, in shares.
#[derive(Debug)]
pub struct Shares {
    what: String,
    each: usize,
    all: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<Who, Part>,
    sum: usize,
    /// Whose each is that has not shown who it is, the oldest first.
    unproven: BTreeMap<u64, Who>,
    last: u64,
    told: HashMap<Who, (Instant, u64)>,
}

/// What somebody holds.
#[derive(Debug, Default)]
struct Part {
    count: usize,
    /// Those that have not shown who they are, the oldest first.
    unproven: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One that is held, until it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Arc<Shares>,
    who: Who,
    number: u64,
    /// Told when another one takes its place; none = it is not to show who it is.
    replaced: Option<oneshot::Receiver<()>>,
}

impl Shares {
    /// `each` for everybody and `all` together; `what` names it in the log.
    #[must_use]
    pub fn new(what: impl Into<String>, each: usize, all: usize) -> Arc<Self> {
        Arc::new(Self { what: what.into(), each, all, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// One more for somebody; none = they have their share, or there is no more. The log has it, once a minute for
    /// each.
    #[must_use]
    pub fn take(self: &Arc<Self>, who: Who) -> Option<Share> {
        let mut state = self.state();
        let (held, is_full) = self.fullness(&state, who);
        if !is_full {
            return Some(self.give(&mut state, who));
        }
        self.tell(&mut state, who, held, "refused: there are too many connections");
        None
    }

    /// The same for one who has to show first who it is, until [`Share::prove`]. Where there is no more it takes
    /// the place of the oldest that has not.
    #[must_use]
    pub fn take_unproven(self: &Arc<Self>, who: Who) -> Option<Share> {
        let mut state = self.state();
        let (held, is_full) = self.fullness(&state, who);
        if is_full {
            self.tell(
                &mut state,
                who,
                held,
                "there are too many connections: the oldest without a certificate gives way",
            );
            let own = state.held.get(&who).and_then(|part| part.unproven.keys().next()).copied();
            let oldest = || state.unproven.keys().next().copied();
            let oldest = if held < who.share(self.each) { oldest() } else { own };
            state.replace(oldest?);
        }
        let mut share = self.give(&mut state, who);
        let (sender, receiver) = oneshot::channel();
        share.replaced = Some(receiver);
        state.unproven.insert(share.number, who);
        state.held.entry(who).or_default().unproven.insert(share.number, sender);
        Some(share)
    }

    /// How many somebody holds, and whether they can have no more.
    fn fullness(&self, state: &State, who: Who) -> (usize, bool) {
        let held = state.held.get(&who).map_or(0, |part| part.count);
        if hole::is_open(Hole::Share) {
            return (held, false);
        }
        (held, held >= who.share(self.each) || state.sum >= self.all)
    }

    fn give(self: &Arc<Self>, state: &mut State, who: Who) -> Share {
        state.held.entry(who).or_default().count += 1;
        state.sum += 1;
        state.last += 1;
        Share { of: Arc::clone(self), who, number: state.last, replaced: None }
    }

    fn tell(&self, state: &mut State, who: Who, held: usize, said: &str) {
        if state.told.len() >= TOLD_MAX {
            state.told.clear();
        }
        let now = clock::now();
        let told = state.told.get(&who).copied();
        let refused = told.map_or(0, |(_, refused)| refused) + 1;
        if told.is_some_and(|(at, _)| now.saturating_duration_since(at) < TELL_EVERY) {
            state.told.entry(who).and_modify(|told| told.1 = refused);
            return;
        }
        state.told.insert(who, (now, 0));
        let (what, sum) = (&self.what, state.sum);
        tracing::warn!(what, %who, held, sum, refused, "{said}");
    }

    /// How many are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.state().sum
    }
}

impl State {
    /// Ends one that has not shown who it is. Its place is free when it is gone, which is at once.
    fn replace(&mut self, number: u64) {
        let who = self.unproven.remove(&number);
        let part = who.and_then(|who| self.held.get_mut(&who));
        if let Some(sender) = part.and_then(|part| part.unproven.remove(&number)) {
            // One that ends by itself at this moment is as good.
            let _ = sender.send(());
        }
    }
}

impl Share {
    /// It has shown who it is, and keeps its place.
    pub fn prove(&self) {
        let mut state = self.of.state();
        if state.unproven.remove(&self.number).is_some()
            && let Some(part) = state.held.get_mut(&self.who)
        {
            part.unproven.remove(&self.number);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.prove();
        let mut state = self.of.state();
        state.sum = state.sum.saturating_sub(1);
        if let Some(part) = state.held.get_mut(&self.who) {
            part.count = part.count.saturating_sub(1);
            if part.count == 0 {
                state.held.remove(&self.who);
            }
        }
    }
}

/// A connection that is in somebody's share, and ends if they never say anything, or if another one takes its place.
#[derive(Debug)]
pub struct Held<T> {
    io: T,
    /// Until the first word.
    silent: Option<Pin<Box<Sleep>>>,
    share: Share,
}

impl<T> Held<T> {
    /// Puts a connection into a share; it ends if nothing is said within `first_word`.
    #[must_use]
    pub fn new(io: T, share: Share, first_word: Duration) -> Self {
        Self { io, silent: Some(Box::pin(sleep(first_word))), share }
    }
}

impl<T: Connected> Connected for Held<T> {
    type ConnectInfo = T::ConnectInfo;

    /// Asked for once a connection is served, which is after the TLS handshake.
    fn connect_info(&self) -> Self::ConnectInfo {
        self.share.prove();
        self.io.connect_info()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Held<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(replaced) = &mut self.share.replaced
            && let Poll::Ready(told) = Pin::new(replaced).poll(context)
        {
            self.share.replaced = None;
            if told.is_ok() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(context, buffer) {
            self.silent = None;
            return Poll::Ready(read);
        }
        if let Some(silent) = &mut self.silent {
            ready!(silent.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Held<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn one_who_takes_all_has_only_their_own() {
        let shares = Shares::new("x", 3, 100);
        let bob: Vec<_> = std::iter::from_fn(|| shares.take(Who::Uid(2001))).take(50).collect();
        assert_eq!(bob.len(), 3);
        let alice = shares.take(Who::Uid(2002)).expect("alice has her own");
        let helper: Vec<_> = std::iter::from_fn(|| shares.take(Who::Uid(998))).take(99).collect();
        assert_eq!(helper.len(), 3 * SYSTEM_FACTOR);
        drop(bob);
        assert!(shares.take(Who::Uid(2001)).is_some());
        drop((alice, helper));
        assert_eq!(shares.held(), 0);
        assert!(shares.state().held.is_empty());
        let many: Vec<_> = (0..200).filter_map(|uid| shares.take(Who::Uid(5000 + uid))).collect();
        assert_eq!(many.len(), 100);
    }

    #[test]
    fn one_who_has_shown_nothing_makes_room_and_one_who_has_stays() {
        let host = |last| Who::Address(IpAddr::from([10, 0, 0, last]));
        let (shares, full) = (Shares::new("x", 3, 5), |share: &mut Share| {
            share.replaced.as_mut().unwrap().try_recv().is_ok()
        });
        let mut own = shares.take_unproven(host(1)).unwrap();
        own.prove();
        // Of one address: the older of the two that show nothing has to go.
        let mut idle: Vec<_> = (0..2).map(|_| shares.take_unproven(host(1)).unwrap()).collect();
        let third = shares.take_unproven(host(1)).unwrap();
        assert_eq!([full(&mut own), full(&mut idle[0]), full(&mut idle[1])], [false, true, false]);
        drop((idle.remove(0), third));
        // Of all: the oldest that shows nothing, whosever it is.
        let more: Vec<_> = (2..5).map(|n| shares.take_unproven(host(n)).unwrap()).collect();
        let last = shares.take_unproven(host(9)).unwrap();
        assert_eq!((full(&mut own), full(&mut idle[0])), (false, true));
        drop((own, idle, more, last));
        assert_eq!(shares.held(), 0);
        assert!(shares.state().held.is_empty() && shares.state().unproven.is_empty());
        // Where all have shown who they are there is no room.
        let all: Vec<_> = (0..5).map(|n| shares.take_unproven(host(n)).unwrap()).collect();
        all.iter().for_each(Share::prove);
        assert!(shares.take_unproven(host(9)).is_none());
    }

    #[tokio::test]
    async fn one_who_says_nothing_gives_their_place_back() {
        let shares = Shares::new("x", 1, 1);
        let (here, _there) = tokio::io::duplex(64);
        let mut held =
            Held::new(here, shares.take(Who::Uid(1)).unwrap(), Duration::from_millis(20));
        let read = held.read_u8().await.unwrap_err();
        assert_eq!(read.kind(), io::ErrorKind::TimedOut);
        drop(held);
        assert!(shares.take(Who::Uid(1)).is_some());
    }
}
