//! The connections that are open, each with the certificates that were shown for it: certificates are looked at in the
//! handshake alone, so what counts no more has to be ended here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Context,
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use vsm_core::{IdentityName, UnixMillis};

use crate::{share::Share, shown::Shown};

/// Since when certificates count again, by identity: those that begin before are revoked.
pub type Revoked = BTreeMap<IdentityName, UnixMillis>;

/// Adds to what is revoked; nothing of it counts again by that.
pub fn revoke_too(all: &mut Revoked, told: impl IntoIterator<Item = (IdentityName, UnixMillis)>) {
    for (name, before) in told {
        let known = all.entry(name).or_insert(before);
        *known = before.max(*known);
    }
}

/// The first of these certificates that is revoked.
pub(crate) fn revoked<'a>(shown: &'a [Shown], revoked: &Revoked) -> Option<&'a IdentityName> {
    let is_revoked = |name: &IdentityName, since| revoked.get(name).is_some_and(|at| since < *at);
    shown.iter().find_map(|one| one.names.iter().find(|name| is_revoked(name, one.since)))
}

/// All connections of a daemon that are by certificates.
#[derive(Debug, Default)]
pub(crate) struct Open(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    last: u64,
    connections: HashMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    cut: Arc<Cut>,
    shown: Vec<Shown>,
}

/// Ends one connection.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    is_over: AtomicBool,
    reader: AtomicWaker,
}

impl Cut {
    /// Ends it.
    pub(crate) fn cut(&self) {
        self.is_over.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Whether it is over; if not, the reader is woken once it is.
    pub(crate) fn is_over(&self, reader: &Context<'_>) -> bool {
        if self.is_over.load(Ordering::Acquire) {
            return true;
        }
        self.reader.register(reader.waker());
        // It may have been cut in between.
        self.is_over.load(Ordering::Acquire)
    }
}

/// One connection's place among the open ones, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    open: Arc<Open>,
    number: u64,
    pub(crate) cut: Arc<Cut>,
    /// What one without a certificate has of the share of such.
    as_guest: Mutex<Option<Share>>,
}

impl Open {
    /// A connection for which nothing has been shown yet.
    pub(crate) fn begin(self: &Arc<Self>) -> Place {
        let cut = Arc::new(Cut::default());
        let mut all = self.0.lock();
        all.last += 1;
        let (number, connection) =
            (all.last, Connection { cut: Arc::clone(&cut), shown: Vec::new() });
        all.connections.insert(number, connection);
        Place { open: Arc::clone(self), number, cut, as_guest: Mutex::new(None) }
    }

    /// What was shown for those that are open.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        self.0.lock().connections.values().flat_map(|one| one.shown.iter().cloned()).collect()
    }

    /// Ends all.
    pub(crate) fn end_all(&self) {
        self.0.lock().connections.values().for_each(|connection| connection.cut.cut());
    }

    /// Ends those of which a certificate is revoked; how many.
    pub(crate) fn end_revoked(&self, now: &Revoked) -> usize {
        let all = self.0.lock();
        let ending = all.connections.values().filter(|one| revoked(&one.shown, now).is_some());
        ending.inspect(|one| one.cut.cut()).count()
    }
}

impl Place {
    /// Notes that nothing was shown; the share is given back when the connection ends.
    pub(crate) fn is_guest(&self, share: Share) {
        *self.as_guest.lock() = Some(share);
    }

    /// Notes what was shown.
    pub(crate) fn shows(&self, shown: Vec<Shown>) {
        if let Some(connection) = self.open.0.lock().connections.get_mut(&self.number) {
            connection.shown = shown;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.0.lock().connections.remove(&self.number);
    }
}
