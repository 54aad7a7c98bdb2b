//! People who log in, look, leave, and sometimes end their desktop, all the time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use super::plan::Random;
use crate::clock;
use crate::cluster::Cluster;
use crate::pair::{self, Desktop};

/// People who do something at the same time; each does it for some of the users.
const HANDS: u16 = 3;
/// How long a login may try.
const PATIENCE_S: u32 = 60;

/// What one user knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// The desktop that they were given last and did not end.
    pub(crate) has: Option<Desktop>,
    /// They asked for its end, or it was not answered: it may be there and may be gone.
    pub(crate) unsure: bool,
}

#[derive(Debug, Default)]
struct Memory {
    users: BTreeMap<String, Known>,
    logins: u64,
    refused: u64,
    /// How long each login took, in milliseconds, and why the last one that failed did.
    took: Vec<u64>,
    last_refusal: String,
}

/// The users.
#[derive(Debug)]
pub(crate) struct Users {
    count: u16,
    stop: AtomicBool,
    memory: Mutex<Memory>,
}

/// Hands at work.
pub(crate) struct Going<'scope>(Vec<ScopedJoinHandle<'scope, ()>>);

impl Going<'_> {
    pub(crate) fn join(self) {
        for hand in self.0 {
            if hand.join().is_err() {
                eprintln!("drill: a user's thread died");
            }
        }
    }
}

impl Users {
    pub(crate) fn new(count: u16) -> Self {
        Self { count, stop: AtomicBool::new(false), memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the hands to work until [`Users::stop`].
    pub(crate) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        cluster: &'scope Cluster,
        random: &mut Random,
    ) -> Going<'scope> {
        self.stop.store(false, Ordering::SeqCst);
        let hands = (0..HANDS).map(|hand| {
            let random = Random::new(random.next());
            scope.spawn(move || self.work(cluster, hand, random))
        });
        Going(hands.collect())
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    fn work(&self, cluster: &Cluster, hand: u16, mut random: Random) {
        let own: Vec<String> =
            (1..=self.count).filter(|n| n % HANDS == hand).map(|n| format!("user{n:03}")).collect();
        while !self.stop.load(Ordering::SeqCst) && !crate::interrupt::stopping() {
            let index = usize::try_from(random.below(own.len() as u64)).unwrap_or(0);
            let user = &own[index];
            if random.below(4) == 0 {
                self.end(cluster, user);
            } else {
                self.login(cluster, user);
            }
            clock::pause(Duration::from_millis(random.below(200)));
        }
    }

    fn login(&self, cluster: &Cluster, user: &str) {
        let began = clock::now();
        let answer = pair::login(cluster, user, PATIENCE_S);
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut memory = self.memory();
        memory.took.push(took);
        match answer {
            Ok(desktop) => {
                memory.logins += 1;
                memory.users.insert(user.to_owned(), Known { has: Some(desktop), unsure: false });
            }
            Err(error) => {
                memory.refused += 1;
                memory.last_refusal = format!("{error:#}");
            }
        }
    }

    fn end(&self, cluster: &Cluster, user: &str) {
        if self.memory().users.get(user).is_none_or(|known| known.has.is_none()) {
            return;
        }
        let to = format!("{user}@tlha");
        let words = ["timeout", "-k1", "60", "vsm", "end", "--retry-for=60", &to];
        let done = cluster.exec("client", user, &words).is_ok_and(|output| output.status.success());
        let mut memory = self.memory();
        let known = memory.users.entry(user.to_owned()).or_default();
        if done {
            *known = Known::default();
        } else {
            known.unsure = true;
        }
    }

    /// What each user knows.
    pub(crate) fn known(&self) -> BTreeMap<String, Known> {
        self.memory().users.clone()
    }

    /// A user's desktop went with its host.
    pub(crate) fn forget(&self, user: &str) {
        self.memory().users.remove(user);
    }

    /// Logins that were answered, and that were not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let memory = self.memory();
        if memory.refused > 0 {
            eprintln!("drill: the last login without a desktop: {}", memory.last_refusal);
        }
        (memory.logins, memory.refused)
    }

    /// A moment, for [`Users::longest_since`].
    pub(crate) fn longest(&self) -> usize {
        self.memory().took.len()
    }

    /// How long the longest login since then took, in milliseconds.
    pub(crate) fn longest_since(&self, before: &usize) -> u64 {
        self.memory().took.iter().skip(*before).copied().max().unwrap_or(0)
    }
}
