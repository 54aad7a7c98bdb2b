//! A link to each agent: its report is held open, so that its state here is at most one message old, and calls go
//! over the same channel.

mod away;
mod calls;
mod life;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use vsm_core::{
    AgentName, Epoch, IdentityName, Limits, Measured, SessionId, Standing, UnixMillis, Viewer,
};
use vsm_daemon::{
    clock::{self, Since},
    grpc,
    open::Revoked,
    tls::Role,
    trouble::Troubles,
};
use vsm_proto::agent::v1::{self as pb, agent_client::AgentClient};

use crate::{
    authority::Authority,
    hosts::{
        behaviour::{Conduct, SESSIONS_MAX},
        clocks::Clock,
        fleet::{Fleet, Host, Openness},
    },
    journal::Journal,
    process::Process,
    site::Site,
};

pub use away::Away;
pub use calls::CallError;
pub(crate) use calls::{
    ExtendAnswer, Fenced, RenewAnswer, ShadowAnswer, ShadowWish, Shadowed, Started, Verdict,
};

/// How long a login waits for an agent that is not linked at the moment.
pub(crate) const LINK_WAIT: Duration = Duration::from_secs(3);

/// What is known of an agent now.
#[derive(Debug, Clone)]
pub enum LinkState {
    /// Nobody has answered or refused yet.
    Connecting,
    /// Its report is open.
    Up(Arc<Up>),
    /// It cannot be reached.
    Down {
        /// Why.
        why: Away,
        /// Since when it has not been heard of.
        since: Since,
    },
}

/// An agent whose report is open.
#[derive(Debug, Clone)]
pub struct Up {
    /// Which host it is, and where users reach it.
    pub host: Host,
    /// Its software version.
    pub version: String,
    /// Since when the report is open.
    pub since: UnixMillis,
    /// What it tells of sessions; those are left out of which there is nothing to tell.
    pub seen: HashMap<SessionId, Seen>,
    /// Brokers that it lets in, by name or address; empty where it does not tell.
    pub allowed_brokers: Vec<String>,
    /// Where it announces itself; empty where it does not tell.
    pub master_hostname: String,
    /// Its load, once heard.
    pub load: Option<Load>,
    /// What its host says to those who want to log in, as it is in maintenance; none = it is not.
    pub maintenance: Option<Arc<str>>,
    /// What it says is wrong there.
    pub troubles: Arc<[pb::Trouble]>,
}

/// What an agent tells of a session besides its record.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The connected viewer.
    pub viewer: Option<Viewer>,
    /// The machine from which it was last asked for, where that is not the one that started it.
    pub client: Option<Arc<str>>,
    /// How it stands against its limits, where it has some.
    pub standing: Option<Arc<Standing>>,
}

impl Seen {
    /// The limits that its agent keeps it to.
    pub(crate) fn limits(&self) -> Limits {
        self.standing.as_ref().map(|standing| standing.limits.clone()).unwrap_or_default()
    }

    /// Whether there is nothing to tell.
    pub(crate) const fn is_nothing(&self) -> bool {
        self.viewer.is_none() && self.client.is_none() && self.standing.is_none()
    }
}

impl Up {
    /// Notes what is told of a session now; what was before.
    pub(crate) fn note(&mut self, id: SessionId, now: Seen) -> Seen {
        let before = self.seen.remove(&id).unwrap_or_default();
        if !now.is_nothing() && self.seen.len() < SESSIONS_MAX {
            self.seen.insert(id, now);
        }
        before
    }
}

/// Who shadows which session; one that nobody does is not in it.
pub(crate) type ShadowedBy = HashMap<SessionId, Vec<String>>;

/// How busy an agent said it is.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// As it said it.
    pub told: pb::Load,
    /// When it was heard.
    pub at: UnixMillis,
    /// Sessions that the table had there then.
    pub sessions: u32,
}

impl Load {
    /// The same as placement takes it; none = it has no figure for memory.
    fn measured(&self) -> Option<Measured> {
        let told = &self.told;
        (told.memory_total_mib > 0).then(|| Measured {
            memory_total_mib: told.memory_total_mib,
            memory_available_mib: told.memory_available_mib,
            cpus: told.cpus.max(1),
            cpu_busy_milli: told.cpu_busy_milli,
            run_queue_milli: told.run_queue_milli,
            stall_milli: told.cpu_pressure_milli.max(told.memory_pressure_milli),
            sessions: self.sessions,
        })
    }
}

impl LinkState {
    /// Whether there is an agent that could take new sessions, and whose.
    fn openness(&self) -> Openness {
        match self {
            Self::Up(up) if up.maintenance.is_some() => Openness::Root,
            Self::Up(_) => Openness::All,
            Self::Connecting | Self::Down { .. } => Openness::Down,
        }
    }

    /// Which host it is; none = it is not up.
    fn host(&self) -> Option<&Host> {
        match self {
            Self::Up(up) => Some(&up.host),
            Self::Connecting | Self::Down { .. } => None,
        }
    }

    /// What the agent's host says as it is in maintenance; none = it is not, or that is not known.
    #[must_use]
    pub fn maintenance(&self) -> Option<&Arc<str>> {
        match self {
            Self::Up(up) => up.maintenance.as_ref(),
            Self::Connecting | Self::Down { .. } => None,
        }
    }

    /// What the agent last measured.
    #[must_use]
    pub fn measured(&self) -> Option<Measured> {
        match self {
            Self::Up(up) => up.load.as_ref()?.measured(),
            Self::Connecting | Self::Down { .. } => None,
        }
    }
}

/// All links, by agent.
#[derive(Debug)]
pub struct Agents {
    pub(super) process: Arc<Process>,
    site: Arc<Site>,
    pub(super) authority: Arc<Authority>,
    pub(super) journal: Arc<Journal>,
    links: RwLock<BTreeMap<AgentName, Arc<Link>>>,
    changes: watch::Sender<()>,
    /// What placement knows of those of the configuration.
    pub fleet: Arc<Fleet>,
    /// Held while an administrator's mark is looked at and changed: two who drain two agents at the same time must not
    /// each find that the other one is left.
    pub(crate) marks: tokio::sync::Mutex<()>,
}

impl Agents {
    /// No links yet: see [`Agents::relink`].
    #[must_use]
    pub fn new(
        process: Arc<Process>,
        site: Arc<Site>,
        authority: Arc<Authority>,
        journal: Arc<Journal>,
    ) -> Self {
        Self {
            process,
            site,
            authority,
            journal,
            links: RwLock::default(),
            changes: watch::Sender::default(),
            fleet: Arc::default(),
            marks: tokio::sync::Mutex::default(),
        }
    }

    /// The link to an agent.
    #[must_use]
    pub fn link(&self, agent: &AgentName) -> Option<Arc<Link>> {
        self.links.read().get(agent).cloned()
    }

    /// The link to an agent once its report is open, and that report; waits for it for a bounded time.
    ///
    /// # Errors
    /// Why it cannot be reached, and since when: of one that is in no subcluster that is not known.
    pub(crate) async fn reach(
        &self,
        agent: &AgentName,
    ) -> Result<(Arc<Link>, Arc<Up>), (Away, Option<Since>)> {
        let link = self.link(agent).ok_or((Away::NoAgent, None))?;
        let up = link.up().await.map_err(|(why, since)| (why, Some(since)))?;
        Ok((link, up))
    }

    /// Wakes whenever anything that is known of an agent has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// All links, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Link>> {
        self.links.read().values().cloned().collect()
    }

    /// Another agent that is the same host by another name, or a copy of its disk: it would be drained as the one and
    /// used as the other.
    #[must_use]
    pub fn twin(&self, agent: &AgentName, up: &Up) -> Option<AgentName> {
        self.all().into_iter().filter(|link| link.name != *agent).find_map(|link| {
            matches!(link.state(), LinkState::Up(other) if up.host.is(&other.host))
                .then(|| link.name.clone())
        })
    }

    /// Makes links to the agents of the configuration and to those that still have sessions; ends the others. The new
    /// links: whoever called has their reports followed.
    pub(crate) fn relink(&self) -> Vec<Arc<Link>> {
        let settings = self.site.settings();
        self.fleet.configure(&settings);
        let mut wanted: BTreeSet<AgentName> = settings.agents().keys().cloned().collect();
        self.authority.table.read(|view| wanted.extend(view.table.agents_in_use().cloned()));
        let mut links = self.links.write();
        links.retain(|name, link| {
            let keep = wanted.contains(name);
            if !keep {
                link.stop.cancel();
            }
            keep
        });
        let mut new = Vec::new();
        for name in wanted {
            if links.contains_key(&name) {
                continue;
            }
            match Link::new(&name, settings.agent_port, self) {
                Ok(link) => {
                    let link = Arc::new(link);
                    links.insert(name, Arc::clone(&link));
                    new.push(link);
                }
                Err(error) => tracing::error!(agent = %name, %error, "cannot dial this agent"),
            }
        }
        new
    }

    /// Something that an agent reported could not be recorded: every report is to be opened again before long, once all
    /// that the log has by now is decided. What is in doubt until then may come into the table after all, and only a
    /// report after that tells that it has ended meanwhile.
    pub(crate) fn mark_missed(&self) {
        self.all().iter().for_each(|link| self.mark_missed_of(link));
    }

    /// The same of one host.
    pub(crate) fn mark_missed_of(&self, link: &Link) {
        let last = self.authority.table.state().replica.last.seq;
        link.missed.store(last.max(1), Ordering::Relaxed);
    }

    /// Whether each agent has either answered or refused: right after a start of the broker they have not.
    pub(crate) fn is_settled(&self) -> bool {
        let links = self.links.read();
        links.values().all(|link| !matches!(*link.state.borrow(), LinkState::Connecting))
    }

    /// Waits, for a bounded time, until each link has either an answer or a refusal: only right after a start of the
    /// broker there is anything to wait for.
    pub(crate) async fn settle(&self) {
        for link in self.all() {
            link.settled().await;
        }
    }
}

/// The link to one agent.
#[derive(Debug)]
pub struct Link {
    /// The agent.
    pub name: AgentName,
    /// Wakes the link's task so that it dials at once.
    pub wake: Notify,
    pub(crate) stop: CancellationToken,
    /// The report is to be opened again when the log is committed up to this number; 0 = it is not.
    missed: AtomicU64,
    /// Limits of sessions there are to be compared with the configuration again.
    limits_due: AtomicBool,
    /// Held while they are told.
    pub(crate) limiting: tokio::sync::Mutex<()>,
    /// Held while what was decided in its absence is carried out.
    pub(crate) carrying_out: tokio::sync::Mutex<()>,
    /// Its journal of promises: which one, and how many records it is known to have had.
    journal: Mutex<(u64, u64)>,
    promised: Mutex<Option<Epoch>>,
    /// Who shadowed which session when that was last told, which the link may have been down since; none = never yet.
    shadowed: Mutex<Option<ShadowedBy>>,
    /// How it has behaved.
    pub(crate) conduct: Mutex<Conduct>,
    /// Its clock beside this one's.
    clock: Mutex<Clock>,
    /// What is wrong with it, as far as this broker finds out by itself.
    pub(crate) troubles: Troubles,
    /// What it was told that counts no more.
    revoked: Mutex<Arc<Revoked>>,
    /// Wakes the link's task when it is put aside.
    pub(crate) misbehaved: Notify,
    channel: Channel,
    state: watch::Sender<LinkState>,
    /// Of all links; see [`Agents::changes`].
    changes: watch::Sender<()>,
    fleet: Arc<Fleet>,
    client: AgentClient<Channel>,
}

impl Link {
    fn new(name: &AgentName, port: u16, agents: &Agents) -> Result<Self, tonic::transport::Error> {
        let channel = grpc::channel_to(Role::Agent, name.as_str(), port, &agents.process.tls)?;
        let client = AgentClient::new(channel.clone()).max_decoding_message_size(grpc::MESSAGE_MAX);
        Ok(Self {
            name: name.clone(),
            wake: Notify::new(),
            stop: agents.process.stop.child_token(),
            missed: AtomicU64::new(0),
            limits_due: AtomicBool::new(false),
            limiting: tokio::sync::Mutex::default(),
            carrying_out: tokio::sync::Mutex::default(),
            journal: Mutex::default(),
            promised: Mutex::default(),
            shadowed: Mutex::default(),
            conduct: Mutex::default(),
            clock: Mutex::default(),
            troubles: Troubles::with(name.to_string()),
            revoked: Mutex::default(),
            misbehaved: Notify::new(),
            channel,
            state: watch::Sender::new(LinkState::Connecting),
            changes: agents.changes.clone(),
            fleet: Arc::clone(&agents.fleet),
            client,
        })
    }

    /// Notes what its clock shows at this moment, in milliseconds since 1970; 0 = an older agent does not tell.
    pub(crate) fn note_clock(&self, unix_ms: u64) {
        if unix_ms != 0 {
            let skew = i128::from(unix_ms) - i128::from(clock::unix_millis().0);
            let skew = i64::try_from(skew).unwrap_or(i64::MAX);
            self.clock.lock().look(&self.troubles, self.name.as_str(), skew);
        }
    }

    /// What it was told may be gone there.
    pub(crate) fn forget_told(&self) {
        *self.revoked.lock() = Arc::default();
    }

    /// Whether it was told all of this.
    pub(crate) fn was_told(&self, revoked: &Revoked) -> bool {
        **self.revoked.lock() == *revoked
    }

    /// Whether it was told that this identity is revoked before this moment.
    pub(crate) fn knows_revoked(&self, name: &IdentityName, before: UnixMillis) -> bool {
        self.revoked.lock().get(name).is_some_and(|told| *told >= before)
    }

    /// Notes who shadows a session now; who did before.
    pub(crate) fn note_shadowers(&self, id: SessionId, now: Vec<String>) -> Vec<String> {
        let mut shadowed = self.shadowed.lock();
        let all = shadowed.get_or_insert_default();
        let before = all.remove(&id).unwrap_or_default();
        if !now.is_empty() && all.len() < SESSIONS_MAX {
            all.insert(id, now);
        }
        before
    }

    /// Notes who shadows which session, of all; the same before, none = nothing was told yet.
    pub(crate) fn note_all_shadowers(&self, now: ShadowedBy) -> Option<ShadowedBy> {
        self.shadowed.lock().replace(now)
    }

    /// What is known of the agent now.
    #[must_use]
    pub fn state(&self) -> LinkState {
        self.state.borrow().clone()
    }

    /// The connection to it.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Notes the length of its journal of promises; the greatest that was ever noted of this journal. A host that lost
    /// its disk begins another one, whose length says nothing beside that of the former.
    pub(crate) fn journal(&self, id: u64, told: u64) -> u64 {
        let mut known = self.journal.lock();
        let greatest = if known.0 == id { known.1.max(told) } else { told };
        *known = (id, greatest);
        greatest
    }

    /// The highest epoch that it has promised, as it last said.
    #[must_use]
    pub fn promised(&self) -> Option<Epoch> {
        self.promised.lock().clone()
    }

    pub(crate) fn set_promised(&self, epoch: Epoch) {
        *self.promised.lock() = Some(epoch);
    }

    /// Whether its report is open.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), LinkState::Up(_))
    }

    /// Whether it was up until just now, or is yet to be reached: it is worth a moment's wait. Nothing is wrong with a
    /// host whose link ended for new authorities, or begins after a take-over.
    pub(crate) fn is_expected(&self) -> bool {
        match &*self.state.borrow() {
            LinkState::Connecting => true,
            LinkState::Down { since, .. } => since.elapsed() < LINK_WAIT,
            LinkState::Up(_) => false,
        }
    }

    /// Whether the report is to be opened again, as the log is committed up to this number; asked once.
    pub(crate) fn take_missed(&self, commit: u64) -> bool {
        let missed = self.missed.load(Ordering::Relaxed);
        let is_due = missed > 0 && missed <= commit.max(1);
        is_due
            && self.missed.compare_exchange(missed, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The limits of sessions there are to be looked at again before long.
    pub(crate) fn mark_limits_due(&self) {
        self.limits_due.store(true, Ordering::Relaxed);
    }

    /// Whether they are; asked once.
    pub(crate) fn take_limits_due(&self) -> bool {
        self.limits_due.swap(false, Ordering::Relaxed)
    }

    /// Changes what is known.
    pub(crate) fn update(&self, change: impl FnOnce(&mut LinkState)) {
        self.state.send_modify(|state| {
            change(state);
            // Under the lock of the state, so that the last change is also the last that placement hears of.
            self.fleet.set_host(&self.name, state.host());
            self.fleet.set(&self.name, state.openness(), state.measured());
        });
        self.changes.send_replace(());
    }

    /// Waits, for a bounded time, until it has answered or refused.
    pub(crate) async fn settled(&self) {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, LinkState::Connecting));
        // An agent that neither answers nor refuses counts as away.
        drop(tokio::time::timeout(LINK_WAIT, settled).await);
    }

    /// Waits, for a bounded time, until the report is open; why not.
    ///
    /// # Errors
    /// If it is not open by then.
    pub(crate) async fn up(&self) -> Result<Arc<Up>, (Away, Since)> {
        self.up_within(LINK_WAIT).await
    }

    /// The same within a time of one's own.
    pub(crate) async fn up_within(&self, wait: Duration) -> Result<Arc<Up>, (Away, Since)> {
        if !self.is_up() {
            self.wake.notify_one();
            let mut state = self.state.subscribe();
            drop(
                tokio::time::timeout(
                    wait,
                    state.wait_for(|state| matches!(state, LinkState::Up(_))),
                )
                .await,
            );
        }
        match self.state() {
            LinkState::Up(up) => Ok(up),
            LinkState::Down { why, since } => Err((why, since)),
            LinkState::Connecting => Err((Away::Unheard, Since::now())),
        }
    }
}
