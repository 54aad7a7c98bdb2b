//! What one session host says counts for that host alone. One that names epochs which have no cause, or more sessions
//! than a host can have, is put aside by name for an hour: nothing of it is believed and nobody is placed there, while
//! the others serve on.
//!
//! An epoch has a cause where the other broker may have begun it unheard. While both are in touch each hears of the
//! other's reigns from itself, and without another node there is nobody to begin one; what is left are races and disks
//! that were lost, which are few. So a broker follows each, and counts.
//!
//! Never more than half of the hosts are put aside: where so many are wrong it is not they who misbehave.

use std::time::{Duration, Instant};

use vsm_core::{
    Epoch, Fence, SessionId,
    lifecycle::{Bounds, MayAdopt},
};
use vsm_daemon::{clock, trouble::Kind};

pub(crate) use crate::hosts::behaviour::SESSIONS_MAX;
use crate::{
    hosts::{
        agents::{Agents, CallError, Fenced, Link},
        behaviour::{Aside, Conduct, WINDOW, is_too_often},
    },
    journal::trail::{Note, SELF},
};

/// Sessions of one host that are adopted within [`WINDOW`]: all that it may have, once over after a loss of the table.
const ADOPTED_MAX: usize = 2 * SESSIONS_MAX;
/// What is adopted of one host.
const ADOPTED: Bounds =
    Bounds { sessions: SESSIONS_MAX, adoptions: ADOPTED_MAX, window_ms: WINDOW.as_secs() * 1000 };
/// Epochs that one host may make this broker rise above within [`WINDOW`], where there is no cause.
const RAISES_MAX: usize = 8;
/// The same while the other broker cannot be heard: its claims are heard of in this way.
const RAISES_UNHEARD_MAX: usize = 200;
/// By how much an epoch may be above all that this broker knows: more reigns than it can have missed.
const JUMP_MAX: u64 = 10_000;
/// The same of a young table, which may be that of a pair that lost both disks. Agents take more (their `JUMP_MAX`), so
/// that one host's word cannot lead this broker to where the others do not follow.
const JUMP_YOUNG_MAX: u64 = 500_000;
/// A table is young up to this epoch.
const YOUNG: u64 = 1000;
/// So long a host stays aside; then it is heard again.
const ASIDE: Duration = Duration::from_secs(3600);

impl Link {
    /// Whether it is put aside now, and why.
    pub(crate) fn aside(&self) -> Option<Aside> {
        let conduct = self.conduct.lock();
        conduct.aside.clone().filter(|aside| !aside.left().is_zero())
    }

    /// Whether its time aside is over; asked once.
    pub(crate) fn is_back(&self) -> bool {
        let mut conduct = self.conduct.lock();
        conduct.aside.take_if(|aside| aside.left().is_zero()).is_some()
    }

    /// One that was to be adopted could not be recorded: it is told of again, and does not count twice.
    pub(crate) fn not_adopted(&self, id: SessionId) {
        self.conduct.lock().adopted.take_back(id);
    }

    /// Whether it names this epoch too often; the same one again is no news.
    fn raises_too_often(&self, promised: &Epoch, now: Instant, max: usize) -> bool {
        let mut conduct = self.conduct.lock();
        if conduct.last.as_ref() == Some(promised) {
            return false;
        }
        conduct.last = Some(promised.clone());
        is_too_often(&mut conduct.raises, now, max)
    }
}

impl Agents {
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
        let authority = &self.authority;
        match call(authority.table.fence()).await? {
            Fenced::Done(answer) => Ok(answer),
            Fenced::Refused(promised) => {
                if !believes(self, link, &promised) {
                    return Err(CallError::fenced(&promised));
                }
                authority.rise_above(promised.clone()).await;
                if !authority.acts() {
                    return Err(CallError::fenced(&promised));
                }
                match call(authority.table.fence()).await? {
                    Fenced::Done(answer) => Ok(answer),
                    Fenced::Refused(_) => Err(CallError::fenced(&promised)),
                }
            }
        }
    }
}

/// Whether an epoch that a host says it has promised to is one to rise above. If not, the host may be aside from now
/// on.
pub(crate) fn believes(agents: &Agents, link: &Link, promised: &Epoch) -> bool {
    if link.aside().is_some() {
        return false;
    }
    if *promised <= agents.authority.table.fence().epoch {
        return true;
    }
    let state = agents.authority.table.state();
    let seen = state.replica.seen.counter;
    let jump = if seen <= YOUNG { JUMP_YOUNG_MAX } else { JUMP_MAX };
    if promised.counter > seen.saturating_add(jump) {
        let why =
            format!("it names epoch {promised}, far above {seen}, the highest that was heard of");
        put_aside(agents, link, why);
        return false;
    }
    let unheard = agents.authority.is_of_pair() && !state.replica.link;
    let max = if unheard { RAISES_UNHEARD_MAX } else { RAISES_MAX };
    if !link.raises_too_often(promised, clock::now(), max) {
        return true;
    }
    let minutes = WINDOW.as_secs() / 60;
    let why =
        format!("it named more than {max} new epochs within {minutes} minutes, last {promised}");
    // Where it may not be put aside it is not the host.
    !put_aside(agents, link, why)
}

/// Whether a session that only its host knows may be adopted. If not, the host is aside from now on, or its report is
/// asked for again: of what the table has there `missing` are not in the report, and are dropped first.
pub(crate) fn may_adopt(agents: &Agents, link: &Link, id: SessionId, missing: usize) -> bool {
    let has = agents
        .authority
        .table
        .read(|view| view.table.agent_use(&link.name).map_or(0, |of| of.sessions()));
    let has = (usize::try_from(has).unwrap_or(usize::MAX), missing);
    let now_ms = u64::try_from(agents.process.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let may = link.conduct.lock().adopted.may_adopt(id, has, now_ms, &ADOPTED);
    let why = match may {
        MayAdopt::Yes => return true,
        MayAdopt::Later => {
            agents.mark_missed_of(link);
            return false;
        }
        MayAdopt::TooMany => {
            tracing::warn!(session = %id, "not adopted: its host has too many already");
            format!("it says that it has more than {SESSIONS_MAX} sessions")
        }
        MayAdopt::TooOften => {
            let minutes = WINDOW.as_secs() / 60;
            format!("it told of more than {ADOPTED_MAX} unknown sessions within {minutes} minutes")
        }
    };
    put_aside(agents, link, why);
    false
}

/// Puts a host aside, if not too many are; whether it is.
pub(crate) fn put_aside(agents: &Agents, link: &Link, why: String) -> bool {
    let all = agents.all();
    let others = all.iter().filter(|other| other.name != link.name && other.aside().is_some());
    if (others.count() + 1) * 2 > all.len() {
        let what =
            format!("it misbehaves and is not put aside, as at most half of all hosts are: {why}");
        link.troubles.raise(Kind::Refused, "conduct", what);
        return false;
    }
    {
        let mut conduct = link.conduct.lock();
        if conduct.aside.as_ref().is_some_and(|aside| !aside.left().is_zero()) {
            return true;
        }
        let until = clock::now() + ASIDE;
        *conduct = Conduct { aside: Some(Aside { why: why.clone(), until }), ..Conduct::default() };
    }
    link.troubles.over(Kind::Refused, "conduct");
    tracing::error!(agent = %link.name, why, "this host is put aside: nothing that it says is believed for an hour");
    agents.journal.note(Note::new(SELF, "agent-put-aside").agent(&link.name).detail(why));
    link.misbehaved.notify_one();
    true
}
