//! What the parts of the broker share.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;
use vsm_core::{Ended, Epoch, Fence, NodeName, Session, SessionId, UserName};
use vsm_daemon::{clock::Since, duty::Duties, one_time::Keys, tls::Tls, trouble::Troubles};
use vsm_sync::{SessionTable, peer::Card};

use crate::{
    hosts::{
        agents::{Agents, CallError, Fenced, Link},
        conduct,
    },
    journal::{
        mail::Mail,
        trail::{Note, Trail},
    },
    locks::{KeyedLocks, locked},
    pair::Ha,
    sessions::{hooks::Hooks, relay::Ways},
    site::settings::Settings,
    users::{Identity, LookupError, Users},
};

/// Sessions that ended, remembered so that their users can be told why; and as many that were made without votes.
const ENDED_MAX: usize = 4096;
/// Administrators' calls that follow something at a time: each costs work with every change.
const FOLLOWERS_MAX: usize = 32;

/// The broker.
#[derive(Debug)]
pub struct Broker {
    /// The session table.
    pub table: SessionTable,
    /// Links to the agents.
    pub agents: Agents,
    /// Who uids are.
    pub users: Arc<Users>,
    /// Whether it is one of a pair.
    pub ha: Ha,
    /// This node.
    pub node: NodeName,
    /// This host's identity.
    pub tls: Tls,
    /// When this process started.
    pub started: Since,
    /// Cancelled when the broker is to stop.
    pub stop: CancellationToken,
    /// Work that must not die with its caller; a stop waits for it.
    pub tasks: TaskTracker,
    settings: watch::Sender<Arc<Settings>>,
    card: Arc<RwLock<Card>>,
    /// They serialise what one user asks for.
    pub(crate) logins: KeyedLocks<UserName>,
    starting: Mutex<HashSet<SessionId>>,
    ended: Mutex<VecDeque<(UserName, Ended)>>,
    unvoted: Mutex<VecDeque<Arc<Session>>>,
    /// Tasks that it cannot be without.
    pub duties: Duties,
    /// What is wrong with this broker.
    pub troubles: Troubles,
    pub(crate) trail: Trail,
    pub(crate) mail: Mail,
    followers: Arc<Semaphore>,
    pub(crate) hooks: Hooks,
    /// Keys of clients that come here again, on their way to a session host.
    pub(crate) keys: Arc<Keys>,
    /// Those who are led to the hosts of desktops that they may shadow.
    pub(crate) ways: Ways,
}

/// What a broker is made of.
#[derive(Debug)]
pub struct Parts {
    /// The session table.
    pub table: SessionTable,
    /// Whether it is one of a pair.
    pub ha: Ha,
    /// What it tells the other broker of itself.
    pub card: Arc<RwLock<Card>>,
    /// The settings.
    pub settings: Settings,
    /// This node.
    pub node: NodeName,
    /// This host's identity.
    pub tls: Tls,
    /// When this process started.
    pub started: Since,
    /// Cancelled when the broker is to stop.
    pub stop: CancellationToken,
}

impl Broker {
    /// Puts a broker together; nothing runs yet.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { table, ha, card, settings, node, tls, started, stop } = parts;
        let troubles = Troubles::default();
        Arc::new(Self {
            table,
            agents: Agents::default(),
            ha,
            card,
            node,
            tls,
            started,
            duties: Duties::new(stop.clone()),
            stop,
            tasks: TaskTracker::new(),
            settings: watch::Sender::new(Arc::new(settings)),
            logins: KeyedLocks::default(),
            starting: Mutex::default(),
            ended: Mutex::default(),
            unvoted: Mutex::default(),
            users: Arc::new(Users::new(troubles.clone())),
            troubles,
            keys: Arc::default(),
            ways: Ways::default(),
            trail: Trail::default(),
            mail: Mail::default(),
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            hooks: Hooks::default(),
        })
    }

    /// The settings that hold now.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    /// Follows the settings.
    pub(crate) fn watch_settings(&self) -> watch::Receiver<Arc<Settings>> {
        self.settings.subscribe()
    }

    /// Who a uid is, and in which of the groups that the configuration names.
    ///
    /// # Errors
    /// See [`Users::identity`].
    pub async fn identity(&self, uid: u32) -> Result<Arc<Identity>, LookupError> {
        self.users.identity(uid, self.settings().named_groups()).await
    }

    /// Replaces the settings as a whole.
    pub fn set_settings(&self, settings: Settings) {
        self.settings.send_replace(Arc::new(settings));
    }

    /// What this node tells the other of itself.
    #[must_use]
    pub fn card(&self) -> Card {
        self.card.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces what this node tells of itself; whether it is something else than before.
    pub fn set_card(&self, card: Card) -> bool {
        let mut now = self.card.write().unwrap_or_else(PoisonError::into_inner);
        let differs = *now != card;
        *now = card;
        differs
    }

    /// Whether this node may change anything: it is the active one, or has no other. One that stands apart never does.
    #[must_use]
    pub fn acts(&self) -> bool {
        match &self.ha {
            Ha::On(_) => self.table.is_serving(),
            Ha::Off { .. } => true,
            Ha::Apart(_) => false,
        }
    }

    /// Marks a start as under way in this process until the guard is dropped: reconcile leaves it alone.
    pub(crate) fn mark_starting(self: &Arc<Self>, id: SessionId) -> StartMark {
        locked(&self.starting).insert(id);
        StartMark { broker: Arc::clone(self), id }
    }

    /// Whether a start is under way in this process.
    pub(crate) fn is_starting(&self, id: SessionId) -> bool {
        locked(&self.starting).contains(&id)
    }

    /// Remembers why a session ended.
    pub(crate) fn remember_ended(&self, user: UserName, ended: Ended) {
        let mut memory = locked(&self.ended);
        if memory.iter().any(|(_, known)| known.id == ended.id) {
            return;
        }
        if memory.len() == ENDED_MAX {
            memory.pop_front();
        }
        memory.push_back((user, ended));
    }

    /// A place for a call that follows something.
    ///
    /// # Errors
    /// If there are too many already.
    pub(crate) fn follower(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.followers).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{FOLLOWERS_MAX} calls follow this broker already; end one of them"
            ))
        })
    }

    /// Records an event in the trail, and mails what is worth it; each in its own time.
    pub(crate) fn note(&self, note: Note) {
        self.mail.take(note.event());
        self.trail.note(note);
    }

    /// Remembers a session that was made without votes.
    pub(crate) fn remember_unvoted(&self, session: Arc<Session>) {
        let mut memory = locked(&self.unvoted);
        if memory.len() == ENDED_MAX {
            memory.pop_front();
        }
        memory.push_back(session);
    }

    /// The user's sessions that were made without votes and are not in the table yet.
    pub(crate) fn unvoted_of(&self, user: &UserName) -> Vec<Arc<Session>> {
        let mut memory = locked(&self.unvoted);
        self.table.read(|view| memory.retain(|session| view.table.session(session.id).is_none()));
        memory.iter().filter(|session| session.user == *user).cloned().collect()
    }

    /// A session that was made without votes is gone.
    pub(crate) fn forget_unvoted(&self, id: SessionId) {
        locked(&self.unvoted).retain(|session| session.id != id);
    }

    /// The user's sessions that ended, newest first.
    pub(crate) fn ended_of(&self, user: &UserName) -> Vec<Ended> {
        locked(&self.ended)
            .iter()
            .rev()
            .filter(|(owner, _)| owner == user)
            .map(|(_, ended)| ended.clone())
            .collect()
    }

    /// Makes a call that bears a fence. An agent that has promised to a higher epoch has a broker of a pair stop being
    /// active at once. With HA off nobody else can be active, so the promise is this broker's own from before it
    /// lost its disk, and it begins a reign above that, once.
    ///
    /// # Errors
    /// If the call fails, or the agent refuses the new epoch too.
    pub(crate) async fn fenced<T, F>(
        &self,
        link: &Link,
        call: impl Fn(Fence) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Fenced<T>, CallError>>,
    {
        if let Some(aside) = link.aside() {
            return Err(CallError::new(aside.words()));
        }
        match call(self.table.fence()).await? {
            Fenced::Done(answer) => Ok(answer),
            Fenced::Refused(promised) => {
                if !conduct::believes(self, link, &promised) {
                    return Err(CallError::fenced(&promised));
                }
                self.rise_above(promised.clone()).await;
                if !self.acts() {
                    return Err(CallError::fenced(&promised));
                }
                match call(self.table.fence()).await? {
                    Fenced::Done(answer) => Ok(answer),
                    Fenced::Refused(_) => Err(CallError::fenced(&promised)),
                }
            }
        }
    }

    /// Tells a witness that is new what it needs to know before it votes.
    pub(crate) async fn greet(&self, link: &Link) {
        // An owner that has stopped needs to be told nothing.
        let _ = self.table.witness_up(link.name.clone()).await;
    }

    /// Begins a reign above `promised` if the present one is not.
    pub(crate) async fn rise_above(&self, promised: Epoch) {
        let own = self.table.fence().epoch;
        if self.table.is_beyond_reason(&promised) {
            tracing::error!(%own, %promised, "an agent names an epoch beyond all reason; not following it");
            return;
        }
        if matches!(&self.ha, Ha::Apart(_)) {
            // The other node of the pair may be active.
            return;
        }
        if promised > own {
            tracing::info!(%own, %promised, "an agent has promised to a higher epoch");
        }
        if let Err(error) = self.table.raise_above(promised).await {
            tracing::error!(%error, "cannot begin a higher epoch");
        }
    }
}

/// A start that is under way; see [`Broker::mark_starting`].
#[derive(Debug)]
pub(crate) struct StartMark {
    broker: Arc<Broker>,
    id: SessionId,
}

impl Drop for StartMark {
    fn drop(&mut self) {
        locked(&self.broker.starting).remove(&self.id);
    }
}
