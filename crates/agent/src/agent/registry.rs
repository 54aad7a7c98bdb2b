//! What the agent knows of its sessions: one lock, never held across a wait, and one stream of changes.
//!
//! A session is a [`Slot`] from the moment a start is admitted until nothing is left of it; then it is a
//! [`Done`], which is what a late or repeated start is answered with.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{broadcast, watch};
use vsm_core::{EndReason, Ended, Limits, Session, SessionId, Standing, StartParams, Viewer};
use vsm_daemon::clock;

use super::{Settings, display::Displays};
use crate::{
    message::Live,
    process::{Held, Process},
    record::{Done, Outcome, Record},
    refusal::{Refusal, Refused},
};

/// Changes that a slow report may be behind; then its broker has to open a new one.
const CHANGES_BOUND: usize = 1024;
/// Starts that never ran and are remembered; a broker that still waits for an older one is long dead.
const REFUSED_KEEP: usize = 4096;

/// A change as reports tell it.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// A session that is new, or whose viewer came or went, or that another client asked for, or that stands otherwise
    /// against its limits.
    Live(Box<Live>),
    /// One that ended.
    Ended(Ended),
}

/// Where a session is.
#[derive(Debug, Clone)]
pub(super) enum Status {
    /// Being started.
    Starting,
    /// It runs.
    Running,
    /// Over.
    Over(Done),
}

/// The processes that make a session alive.
#[derive(Debug)]
pub(super) struct Alive {
    pub(super) monitor: Option<Held>,
    x_server: Option<Held>,
}

impl Alive {
    pub(super) fn of(record: &Record) -> Self {
        Self { monitor: record.monitor.hold(), x_server: record.x_server.hold() }
    }

    /// Whether both run at this very moment.
    pub(super) fn is_alive(&self) -> bool {
        // The X server is the large one that dies slowly, and the one whose death a user would see.
        self.monitor.as_ref().is_some_and(Held::has_not_ended)
            && self.x_server.as_ref().is_some_and(Held::is_alive)
    }
}

#[derive(Debug)]
struct Body {
    session: Session,
    display: u32,
    viewer: Option<Viewer>,
    last_client: String,
    shadowers: Vec<String>,
    standing: Option<Arc<Standing>>,
    record: Option<Record>,
    alive: Option<Arc<Alive>>,
    /// The process that was spawned and has not answered yet.
    spawned: Option<Process>,
    cancelled: bool,
}

/// One session that is being started or runs.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: SessionId,
    /// The limits that it is started with.
    pub(super) limits: Limits,
    body: Mutex<Body>,
    /// The client that is in the file of parameters, once one has come; held while that is written.
    pub(super) client: Mutex<Option<StartParams>>,
    status: watch::Sender<Status>,
}

impl Body {
    fn live(&self) -> Live {
        let (session, viewer) = (self.session.clone(), self.viewer.clone());
        let (last_client, shadowers) = (self.last_client.clone(), self.shadowers.clone());
        let standing = self.standing.clone();
        Live { session, viewer, last_client, shadowers, standing }
    }
}

impl Slot {
    fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock()
    }

    /// As reports tell it.
    pub(super) fn live(&self) -> Live {
        self.body().live()
    }

    pub(super) fn session(&self) -> Session {
        self.body().session.clone()
    }

    pub(super) fn record(&self) -> Option<Record> {
        self.body().record.clone()
    }

    pub(super) fn display(&self) -> u32 {
        self.body().display
    }

    pub(super) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Whether the monitor and the X server run at this moment.
    pub(super) fn is_alive(&self) -> bool {
        self.alive().is_some_and(|alive| alive.is_alive())
    }

    /// Whether the monitor runs at this moment.
    pub(super) fn monitor_is_alive(&self) -> bool {
        self.alive().is_some_and(|alive| alive.monitor.as_ref().is_some_and(Held::is_alive))
    }

    /// Its processes. The kernel is asked about them without the lock: many may ask at a time.
    fn alive(&self) -> Option<Arc<Alive>> {
        self.body().alive.clone()
    }

    /// Notes the process that starts the session; false = it was cancelled meanwhile.
    pub(super) fn spawned(&self, process: Option<Process>) -> bool {
        let mut body = self.body();
        body.spawned = process;
        !body.cancelled
    }

    /// Cancels a start: the process under way is asked to go, and a next one is not begun.
    pub(super) fn cancel(&self) {
        let mut body = self.body();
        body.cancelled = true;
        if let Some(held) = body.spawned.and_then(Process::hold) {
            // Gone is as good.
            let _ = held.signal(rustix::process::Signal::TERM);
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.body().cancelled
    }

    /// Waits until it is no longer starting.
    pub(super) async fn started(&self) -> Status {
        self.wait(|status| !matches!(status, Status::Starting)).await
    }

    /// Waits until it is over, at most so long.
    pub(super) async fn over(&self, time: Duration) -> Option<Done> {
        match tokio::time::timeout(time, self.wait(|status| matches!(status, Status::Over(_))))
            .await
        {
            Ok(Status::Over(done)) => Some(done),
            Ok(Status::Starting | Status::Running) | Err(_) => None,
        }
    }

    async fn wait(&self, until: impl FnMut(&Status) -> bool) -> Status {
        let mut receiver = self.status.subscribe();
        // The sender is in this very slot: the wait cannot fail.
        receiver.wait_for(until).await.map_or(Status::Starting, |status| status.clone())
    }
}

#[derive(Debug, Default)]
struct Inner {
    live: HashMap<SessionId, Arc<Slot>>,
    done: HashMap<SessionId, Done>,
    ended_order: VecDeque<SessionId>,
    refused_order: VecDeque<SessionId>,
    displays: Displays,
}

/// What a start finds.
#[derive(Debug)]
pub(super) enum Found {
    /// A new slot: start it.
    New(Arc<Slot>),
    /// It was asked for before.
    Again(Arc<Slot>),
    /// It is over.
    Over(Done),
    /// There is no room for it, and it will never run.
    Refused(Forbidden),
}

/// An id that will never run.
#[derive(Debug)]
pub(super) struct Forbidden {
    /// As it is to be kept on disk.
    pub(super) done: Done,
    /// Ids that may be forgotten on disk.
    pub(super) forget: Vec<SessionId>,
}

/// All sessions of this agent.
#[derive(Debug)]
pub(super) struct Registry {
    inner: Mutex<Inner>,
    changes: broadcast::Sender<Change>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { inner: Mutex::default(), changes: broadcast::channel(CHANGES_BOUND).0 }
    }
}

fn slot(session: Session, limits: Limits, display: u32, status: Status) -> Arc<Slot> {
    let id = session.id;
    let body = Body {
        session,
        display,
        viewer: None,
        last_client: String::new(),
        shadowers: Vec::new(),
        standing: None,
        record: None,
        alive: None,
        spawned: None,
        cancelled: false,
    };
    let (body, client) = (Mutex::new(body), Mutex::default());
    Arc::new(Slot { id, limits, body, client, status: watch::Sender::new(status) })
}

impl Registry {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(super) fn live_count(&self) -> usize {
        self.inner().live.len()
    }

    pub(super) fn slot(&self, id: SessionId) -> Option<Arc<Slot>> {
        self.inner().live.get(&id).cloned()
    }

    pub(super) fn done(&self, id: SessionId) -> Option<Done> {
        self.inner().done.get(&id).cloned()
    }

    /// Finds what is known of a start, or makes room for it.
    pub(super) fn begin(&self, session: Session, limits: Limits, settings: &Settings) -> Found {
        let mut inner = self.inner();
        if let Some(slot) = inner.live.get(&session.id) {
            return Found::Again(Arc::clone(slot));
        }
        if let Some(done) = inner.done.get(&session.id) {
            return Found::Over(done.clone());
        }
        let cap = usize::try_from(settings.max_sessions).unwrap_or(usize::MAX);
        if cap != 0 && inner.live.len() >= cap {
            let detail = format!(
                "{} has {cap} sessions, which is its limit (/vsmagent/max_sessions)",
                session.agent
            );
            return Found::Refused(inner.refuse(session.id, detail, settings));
        }
        let Some(display) = inner.pick_display(settings) else {
            let (min, max) = (settings.display_min, settings.display_max);
            let detail = format!(
                "no display from {min} to {max} is free on {} (/vsmagent/display_max)",
                session.agent
            );
            return Found::Refused(inner.refuse(session.id, detail, settings));
        };
        let slot = slot(session, limits, display, Status::Starting);
        inner.live.insert(slot.id, Arc::clone(&slot));
        Found::New(slot)
    }

    /// Another display number for a start, as somebody else has the first.
    pub(super) fn next_display(&self, slot: &Slot, settings: &Settings) -> Option<u32> {
        let mut inner = self.inner();
        inner.displays.rest(slot.display(), Duration::from_secs(60), clock::now());
        let display = inner.pick_display(settings)?;
        slot.body().display = display;
        Some(display)
    }

    /// Holds the names of displays, once it is known which are in use; how many others have taken.
    pub(super) fn hold_displays(&self, settings: &Settings) -> usize {
        let mut inner = self.inner();
        let own: HashSet<u32> = inner.live.values().map(|slot| slot.display()).collect();
        inner
            .displays
            .hold(settings.display_min..=settings.display_max, |display| own.contains(&display))
    }

    /// The hold on the name of a start's display, for its monitor.
    pub(super) fn display_name(&self, slot: &Slot) -> io::Result<OwnedFd> {
        self.inner().displays.name(slot.display())
    }

    /// Adopts a session whose record was found.
    pub(super) fn adopt(&self, record: Record) -> Arc<Slot> {
        let display = record.session.state.display().unwrap_or(0);
        let (session, limits) = (record.session.clone(), record.limits.clone());
        let slot = slot(session, limits, display, Status::Running);
        {
            let mut body = slot.body();
            body.alive = Some(Arc::new(Alive::of(&record)));
            body.record = Some(record);
        }
        self.inner().live.insert(slot.id, Arc::clone(&slot));
        slot
    }

    /// A start has become a running session.
    pub(super) fn running(&self, slot: &Slot, record: Record) {
        let inner = self.inner();
        {
            let mut body = slot.body();
            body.session = record.session.clone();
            body.alive = Some(Arc::new(Alive::of(&record)));
            body.record = Some(record);
            body.spawned = None;
        }
        slot.status.send_replace(Status::Running);
        self.publish(Change::Live(Box::new(slot.live())));
        drop(inner);
    }

    /// The viewer of a session came, changed or went.
    pub(super) fn set_viewer(&self, slot: &Slot, viewer: Option<Viewer>) {
        self.change(slot, |body| {
            let is_other = body.viewer != viewer;
            body.viewer = viewer;
            is_other
        });
    }

    /// A session stands otherwise against its limits; one without limits has nothing to tell.
    pub(super) fn set_standing(&self, slot: &Slot, standing: Option<Standing>) {
        let standing = standing.filter(|standing| !standing.limits.is_none());
        self.change(slot, |body| {
            let is_other = body.standing.as_deref() != standing.as_ref();
            body.standing = standing.map(Arc::new);
            is_other
        });
    }

    /// A session was asked for from this machine.
    pub(super) fn set_client(&self, slot: &Slot, name: &str) {
        self.change(slot, |body| {
            let own = *body.session.params.client_name == *name;
            let name = if own { String::new() } else { name.to_owned() };
            let is_other = body.last_client != name;
            body.last_client = name;
            is_other
        });
    }

    pub(super) fn set_shadowers(&self, slot: &Slot, by: Vec<String>) {
        self.change(slot, |body| {
            let is_other = body.shadowers != by;
            body.shadowers = by;
            is_other
        });
    }

    /// Changes a session, and tells of it if that changed anything.
    fn change(&self, slot: &Slot, change: impl FnOnce(&mut Body) -> bool) {
        let inner = self.inner();
        let live = {
            let mut body = slot.body();
            if !change(&mut body) {
                return;
            }
            body.live()
        };
        self.publish(Change::Live(Box::new(live)));
        drop(inner);
    }

    /// A start or a session is over. Returns ids that may be forgotten on disk too.
    pub(super) fn finish(&self, slot: &Slot, done: Done, settings: &Settings) -> Vec<SessionId> {
        let mut inner = self.inner();
        if inner.live.remove(&slot.id).is_none() {
            return Vec::new();
        }
        inner.displays.rest(slot.display(), settings.display_quarantine, clock::now());
        let forget = inner.remember(done.clone(), settings);
        // A start that came to nothing was no session to anyone but its caller, who gets the answer.
        if matches!(done.outcome, Outcome::Ended { .. }) {
            self.publish(Change::Ended(done.ended()));
        }
        slot.status.send_replace(Status::Over(done));
        forget
    }

    /// Remembers an id that is over, without a session. Returns ids that may be forgotten on disk too.
    pub(super) fn remember(&self, done: Done, settings: &Settings) -> Vec<SessionId> {
        self.inner().remember(done, settings)
    }

    /// Forbids an id that is no session: from here on a start of it finds this. Else the session.
    pub(super) fn forbid(&self, done: &Done, settings: &Settings) -> Result<Forbidden, Arc<Slot>> {
        let mut inner = self.inner();
        if let Some(slot) = inner.live.get(&done.id) {
            return Err(Arc::clone(slot));
        }
        if let Some(known) = inner.done.get(&done.id) {
            return Ok(Forbidden { done: known.clone(), forget: Vec::new() });
        }
        let forget = inner.remember(done.clone(), settings);
        Ok(Forbidden { done: done.clone(), forget })
    }

    /// All running sessions now, and every change after that: none between is missed. One that still starts comes as a
    /// change once it runs.
    pub(super) fn report(&self) -> (Vec<Live>, broadcast::Receiver<Change>) {
        let inner = self.inner();
        let receiver = self.changes.subscribe();
        let running = inner.live.values().filter(|slot| matches!(slot.status(), Status::Running));
        let sessions = running.map(|slot| slot.live()).collect();
        (sessions, receiver)
    }

    /// Called with the lock held, so that changes are told in the order in which they were made.
    fn publish(&self, change: Change) {
        // Nobody listens: the inventory will tell.
        let _ = self.changes.send(change);
    }
}

impl Inner {
    fn pick_display(&mut self, settings: &Settings) -> Option<u32> {
        let used: HashSet<u32> = self.live.values().map(|slot| slot.display()).collect();
        let range = settings.display_min..=settings.display_max;
        self.displays.pick(range, |display| used.contains(&display), clock::now())
    }

    /// Decided while the lock is held, so that the same start asked for again is not let in meanwhile.
    fn refuse(&mut self, id: SessionId, detail: String, settings: &Settings) -> Forbidden {
        let outcome = Outcome::Refused(Refused::new(Refusal::Full, detail));
        let done = Done { id, at: clock::unix_millis(), outcome };
        let forget = self.remember(done.clone(), settings);
        Forbidden { done, forget }
    }

    fn remember(&mut self, done: Done, settings: &Settings) -> Vec<SessionId> {
        let ended_keep = usize::try_from(settings.ended_keep).unwrap_or(usize::MAX);
        let (order, keep) = match &done.outcome {
            Outcome::Ended { .. } => (&mut self.ended_order, ended_keep),
            Outcome::Refused(_) => (&mut self.refused_order, REFUSED_KEEP),
        };
        if !self.done.contains_key(&done.id) {
            order.push_back(done.id);
        }
        let excess = order.len().saturating_sub(keep);
        let forget: Vec<SessionId> = order.drain(..excess).collect();
        self.done.insert(done.id, done);
        for id in &forget {
            self.done.remove(id);
        }
        forget
    }
}

/// The end of a session that this agent had to make out by itself.
pub(super) fn made_out(id: SessionId, reason: EndReason, detail: &str) -> Done {
    let outcome = Outcome::Ended { reason, detail: detail.to_owned() };
    Done { id, at: clock::unix_millis(), outcome }
}
