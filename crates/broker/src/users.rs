//! Who uids are, asked of NSS on blocking threads: a directory service that hangs must not hold up the broker.
//!
//! Each uid is asked about once at a time, whoever waits for it, so that one user whose look-up hangs has one thread
//! and holds up nobody else. Of a user's groups only those are looked up that the configuration names.
//!
//! While NSS does not answer, what it said before, or the name alone, is good for what the user has
//! already, and for nothing new.

pub(crate) mod nss;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use vsm_core::UserName;
use vsm_daemon::{
    clock,
    trouble::{Kind, Troubles},
};

/// How long an answer of NSS is used without asking again.
const FRESH: Duration = Duration::from_secs(60);
/// How long a caller waits for NSS.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long where there is an earlier answer to fall back on.
const DEADLINE_WITH_EARLIER: Duration = Duration::from_secs(2);
/// Look-ups at a time: a directory that hangs keeps at most so many threads.
const LOOKUPS_MAX: usize = 16;
/// Look-ups that wait for a thread or have one; each is one user.
const FLIGHTS_MAX: usize = 4096;
/// Users remembered; beyond it the memory starts over.
const REMEMBERED_MAX: usize = 100_000;

/// A user as NSS knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Login name.
    pub user: UserName,
    /// Names of their groups, as far as the configuration names them.
    pub groups: Vec<String>,
    /// How far that can be relied on.
    pub source: Source,
}

/// Where an identity comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// NSS, within the last minute.
    Nss,
    /// NSS, earlier; now it does not answer.
    Earlier,
    /// NSS gave the name, now or earlier, and does not answer about the groups, which are not known.
    NameAlone,
}

/// Why a uid has no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// NSS answered: there is none.
    #[error("uid {0} has no login name on this host")]
    Unknown(u32),
    /// The name is one that we do not take.
    #[error("{0}")]
    BadName(String),
    /// NSS did not answer, or failed.
    #[error("the user database does not answer: {0}")]
    Down(String),
}

/// Groups whose members the configuration treats in some way of their own.
pub type NamedGroups = Arc<BTreeSet<String>>;

/// An answer, when it was given, and the groups that were asked about.
#[derive(Debug, Clone)]
struct Known {
    at: Instant,
    asked: NamedGroups,
    identity: Arc<Identity>,
}

impl Identity {
    const fn by_name(user: UserName) -> Self {
        Self { user, groups: Vec::new(), source: Source::NameAlone }
    }
}

impl Known {
    /// Whether just these groups were asked about.
    fn is_about(&self, named: &NamedGroups) -> bool {
        Arc::ptr_eq(&self.asked, named) || self.asked == *named
    }
}

/// How far a look-up has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    name: Option<UserName>,
    done: Option<Result<Arc<Identity>, LookupError>>,
}

/// What asks NSS; blocks. The name is told as soon as it is known.
type LookUp = fn(u32, &BTreeSet<String>, &mut dyn FnMut(UserName)) -> Result<Identity, LookupError>;

/// Remembers who uids are.
pub struct Users {
    known: Mutex<HashMap<u32, Known>>,
    flights: Mutex<HashMap<u32, watch::Receiver<Progress>>>,
    permits: Arc<Semaphore>,
    look_up: LookUp,
    times: Times,
    troubles: Troubles,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// [`FRESH`]
    fresh: Duration,
    /// [`DEADLINE`]
    deadline: Duration,
    /// [`DEADLINE_WITH_EARLIER`]
    with_earlier: Duration,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").finish_non_exhaustive()
    }
}

impl Users {
    /// Asks NSS; that it does not answer goes to `troubles`.
    pub(crate) fn new(troubles: Troubles) -> Self {
        let times = Times { fresh: FRESH, deadline: DEADLINE, with_earlier: DEADLINE_WITH_EARLIER };
        Self { troubles, ..Self::asking(nss::look_up, times) }
    }

    fn asking(look_up: LookUp, times: Times) -> Self {
        Self {
            troubles: Troubles::default(),
            known: Mutex::default(),
            flights: Mutex::default(),
            permits: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            look_up,
            times,
        }
    }

    /// Who the uid is, and in which of these groups.
    ///
    /// # Errors
    /// If NSS knows no such user, or does not answer in time and has not even given the name.
    pub async fn identity(
        self: &Arc<Self>,
        uid: u32,
        named: &NamedGroups,
    ) -> Result<Arc<Identity>, LookupError> {
        let earlier = self.known.lock().get(&uid).cloned();
        if let Some(known) = &earlier
            && clock::now().duration_since(known.at) < self.times.fresh
            && known.is_about(named)
            && known.identity.source == Source::Nss
        {
            return Ok(Arc::clone(&known.identity));
        }
        let Times { deadline, with_earlier, .. } = self.times;
        let deadline = if earlier.is_some() { with_earlier } else { deadline };
        let mut flight = self.flight(uid, named)?;
        let done = flight.wait_for(|progress| progress.done.is_some());
        // The broker stops, or NSS takes its time: what there is until then.
        drop(tokio::time::timeout(deadline, done).await);
        let Progress { name, done } = flight.borrow().clone();
        let why = match done {
            Some(Err(LookupError::Down(why))) => why,
            Some(done) => return done,
            None => format!("no answer within {} s", deadline.as_secs()),
        };
        let what = format!(
            "the user database does not answer ({why}): users are known by what it said before, or not at all"
        );
        self.troubles.raise(Kind::Users, "", what);
        let identity = match (earlier, name) {
            (Some(known), _) if known.is_about(named) && known.identity.source == Source::Nss => {
                Identity { source: Source::Earlier, ..Identity::clone(&known.identity) }
            }
            (Some(Known { identity, .. }), _) => Identity::by_name(identity.user.clone()),
            (None, Some(user)) => {
                let identity = Identity::by_name(user);
                // So that they need not wait for as long the next time.
                let (asked, known) = (NamedGroups::default(), Arc::new(identity.clone()));
                self.remember(uid, Known { at: clock::now(), asked, identity: known });
                identity
            }
            (None, None) => return Err(LookupError::Down(why)),
        };
        tracing::debug!(uid, user = %identity.user, source = ?identity.source, why, "known without the user database");
        Ok(Arc::new(identity))
    }

    /// The same of a user whose name is known.
    ///
    /// # Errors
    /// As [`Users::identity`].
    pub(crate) async fn named(
        self: &Arc<Self>,
        user: &UserName,
        named: &NamedGroups,
    ) -> Result<Arc<Identity>, LookupError> {
        self.identity(self.uid(user).await?, named).await
    }

    /// The uid of a user.
    ///
    /// # Errors
    /// `BadName` if there is no such user, `Down` if NSS fails or does not answer in time.
    pub(crate) async fn uid(&self, user: &UserName) -> Result<u32, LookupError> {
        let down = |why: String| LookupError::Down(why);
        let name = user.to_string();
        let asked = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let permit = permit.map_err(|error| down(error.to_string()))?;
            let asked = tokio::task::spawn_blocking(move || {
                // It goes with the thread, not with the caller.
                let _permit = permit;
                nss::uid(&name)
            });
            asked.await.map_err(|error| down(error.to_string()))?
        };
        let deadline = self.times.deadline;
        tokio::time::timeout(deadline, asked)
            .await
            .unwrap_or_else(|_| Err(down(format!("no answer within {} s", deadline.as_secs()))))
    }

    /// The look-up of this uid that is under way, or a new one.
    fn flight(
        self: &Arc<Self>,
        uid: u32,
        named: &NamedGroups,
    ) -> Result<watch::Receiver<Progress>, LookupError> {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&uid) {
            return Ok(flight.clone());
        }
        if flights.len() >= FLIGHTS_MAX {
            return Err(LookupError::Down("too many look-ups wait for it".to_owned()));
        }
        let (progress, flight) = watch::channel(Progress::default());
        flights.insert(uid, flight.clone());
        let (users, named) = (Arc::clone(self), Arc::clone(named));
        // In a task of its own: a caller that gives up leaves the answer to the next one.
        tokio::spawn(async move {
            let done = users.ask(uid, &named, &progress).await;
            if !matches!(done, Err(LookupError::Down(_))) {
                users.troubles.over(Kind::Users, "");
            }
            if let Ok(identity) = &done {
                let identity = Arc::clone(identity);
                users.remember(uid, Known { at: clock::now(), asked: named, identity });
            }
            users.flights.lock().remove(&uid);
            progress.send_modify(|progress| progress.done = Some(done));
        });
        Ok(flight)
    }

    async fn ask(
        &self,
        uid: u32,
        named: &NamedGroups,
        progress: &watch::Sender<Progress>,
    ) -> Result<Arc<Identity>, LookupError> {
        let down = |why: String| LookupError::Down(why);
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|error| down(error.to_string()))?;
        let (look_up, named, progress) = (self.look_up, Arc::clone(named), progress.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            look_up(uid, &named, &mut |name| {
                progress.send_modify(|progress| progress.name = Some(name));
            })
        });
        Ok(Arc::new(asked.await.map_err(|error| down(error.to_string()))??))
    }

    fn remember(&self, uid: u32, answer: Known) {
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(uid, answer);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    };

    use super::*;

    fn named(groups: &[&str]) -> NamedGroups {
        Arc::new(groups.iter().map(|group| (*group).to_owned()).collect())
    }

    #[tokio::test]
    async fn root_is_known_and_nobody_else_is_made_up() {
        let users = Arc::new(Users::new(Troubles::default()));
        let root = users.identity(0, &named(&["root", "no such group"])).await.unwrap();
        assert_eq!((root.user.as_str(), root.source), ("root", Source::Nss));
        assert_eq!(root.groups, ["root"]);
        assert_eq!(users.identity(0, &named(&[])).await.unwrap().groups, [""; 0]);
        let unknown = users.identity(4_000_000_000, &named(&[])).await;
        assert_eq!(unknown, Err(LookupError::Unknown(4_000_000_000)));
    }

    const SHORT: Duration = Duration::from_secs(1);

    /// Lets the look-up of uid 1 end.
    static GATE: LazyLock<(Sender<()>, Mutex<Receiver<()>>)> = LazyLock::new(|| {
        let (open, gate) = channel();
        (open, Mutex::new(gate))
    });
    static ASKED: AtomicUsize = AtomicUsize::new(0);

    /// uid 1 hangs until the gate opens, after its name; everybody else is answered.
    fn hanging(
        uid: u32,
        _: &BTreeSet<String>,
        tell_name: &mut dyn FnMut(UserName),
    ) -> Result<Identity, LookupError> {
        let user: UserName = format!("user{uid}").parse().unwrap();
        tell_name(user.clone());
        if uid == 1 {
            ASKED.fetch_add(1, Ordering::SeqCst);
            GATE.1.lock().recv().unwrap();
        }
        Ok(Identity { user, groups: Vec::new(), source: Source::Nss })
    }

    /// Far more callers than there are threads wait for one user who hangs; the others do not notice.
    #[tokio::test]
    async fn a_user_whose_look_up_hangs_holds_up_nobody_else() {
        // Long enough for this test, and then none at all.
        let fresh = Duration::from_secs(600);
        let users =
            Arc::new(Users::asking(hanging, Times { fresh, deadline: SHORT, with_earlier: SHORT }));
        let wait: Vec<_> = (0..LOOKUPS_MAX * 4)
            .map(|_| {
                let users = Arc::clone(&users);
                tokio::spawn(async move { users.identity(1, &named(&[])).await })
            })
            .collect();
        for uid in 2..100 {
            let other = users.identity(uid, &named(&[])).await.unwrap();
            assert_eq!(other.user.as_str(), format!("user{uid}"));
        }
        for caller in wait {
            let told = caller.await.unwrap().unwrap();
            assert_eq!((told.user.as_str(), told.source), ("user1", Source::NameAlone));
        }
        assert_eq!(ASKED.load(Ordering::SeqCst), 1, "one thread for one user");
        let mut flight = users.flight(1, &named(&[])).unwrap();
        GATE.0.send(()).unwrap();
        flight.wait_for(|progress| progress.done.is_some()).await.unwrap();
        let late = users.identity(1, &named(&[])).await.unwrap();
        assert_eq!(late.source, Source::Nss, "the late answer is remembered");
        // It has to be asked again, as the configuration names another group now, and hangs again.
        let other = users.identity(1, &named(&["lab"])).await.unwrap();
        assert_eq!(other.source, Source::NameAlone, "of that group nothing is known");
        GATE.0.send(()).unwrap();
    }

    /// An answer that is old and about the same groups is better than none.
    #[tokio::test]
    async fn an_earlier_answer_counts_while_there_is_no_new_one() {
        fn once(
            _: u32,
            _: &BTreeSet<String>,
            _: &mut dyn FnMut(UserName),
        ) -> Result<Identity, LookupError> {
            static ANSWERED: AtomicUsize = AtomicUsize::new(0);
            if ANSWERED.fetch_add(1, Ordering::SeqCst) > 0 {
                return Err(LookupError::Down("the cable is out".to_owned()));
            }
            let groups = vec!["lab".to_owned()];
            Ok(Identity { user: "ann".parse().unwrap(), groups, source: Source::Nss })
        }
        let times = Times { fresh: Duration::ZERO, deadline: SHORT, with_earlier: SHORT };
        let users = Arc::new(Users::asking(once, times));
        let lab = named(&["lab"]);
        assert_eq!(users.identity(7, &lab).await.unwrap().source, Source::Nss);
        let earlier = users.identity(7, &lab).await.unwrap();
        assert_eq!((&*earlier.groups, earlier.source), (&["lab".to_owned()][..], Source::Earlier));
        let other = users.identity(7, &named(&["lab", "hall"])).await.unwrap();
        assert_eq!((other.groups.len(), other.source), (0, Source::NameAlone));
        assert!(matches!(users.identity(8, &lab).await, Err(LookupError::Down(_))));
    }
}
