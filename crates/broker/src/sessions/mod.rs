//! The life of a session: logins and what they start, what agents report of sessions, and ends. It uses the hosts, the
//! pair and the journal; it knows no request of an API, and answers with outcomes and refusals. What is to be done is
//! for [`vsm_core::lifecycle`] to decide; what is here does it.
//!
//! | module | owns |
//! | --- | --- |
//! | [`want`] | what a user wants, and what they are given |
//! | [`login`] | the login flow |
//! | `find` | what a user has, and whether it lives |
//! | `placing` | what a new session is proposed with |
//! | `drive` | the loop that drives a login, a start and an end |
//! | `start` | having an agent start a session |
//! | `hooks` | programs that root provides for logins |
//! | `one_login` | letting the client in at the agent without a second login |
//! | `relay` | the way to session hosts that users cannot reach by themselves |
//! | `shadow` | who may shadow other users' desktops |
//! | `unvoted` | desktops made without votes, where the administrator allows that |
//! | [`reconcile`] | comparing the table with what an agent says is running |
//! | `limiting` | telling agents the limits of a session's life |
//! | [`ending`], `gone` | ending sessions, and what is over |

mod drive;
pub mod ending;
pub(crate) mod find;
pub(crate) mod gone;
pub(crate) mod hooks;
pub(crate) mod limiting;
pub mod login;
pub(crate) mod one_login;
pub(crate) mod placing;
pub mod reconcile;
pub(crate) mod relay;
pub(crate) mod shadow;
mod start;
mod unvoted;
pub mod want;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tracing::Instrument as _;
use vsm_core::{AgentName, Ended, Fence, NodeName, Session, SessionId, UserName};
use vsm_daemon::{one_time::Keys, span};
use vsm_sync::SessionTable;

use crate::{
    authority::Authority,
    hosts::agents::{Agents, CallError, Fenced, Link},
    identities::Identities,
    journal::{Journal, trail::Note},
    locks::KeyedLocks,
    process::Process,
    site::{Site, settings::Settings},
};
use hooks::Hooks;
use relay::Ways;

/// Sessions that ended, remembered so that their users can be told why; and as many that were made without votes.
const ENDED_MAX: usize = 4096;

/// The sessions: the rooms that their life needs, and what is known of them beside the table.
#[derive(Debug)]
pub struct Sessions {
    pub(crate) process: Arc<Process>,
    pub(crate) site: Arc<Site>,
    pub(crate) authority: Arc<Authority>,
    /// The authority's table.
    pub(crate) table: SessionTable,
    pub(crate) journal: Arc<Journal>,
    pub(crate) agents: Arc<Agents>,
    /// Identities of hosts.
    pub(crate) identities: Arc<Identities>,
    /// They serialise what one user asks for.
    logins: KeyedLocks<UserName>,
    starting: Mutex<HashSet<SessionId>>,
    ended: Mutex<VecDeque<(UserName, Ended)>>,
    unvoted: Mutex<VecDeque<Arc<Session>>>,
    hooks: Hooks,
    /// Keys of clients that come here again, on their way to a session host.
    pub(crate) keys: Arc<Keys>,
    /// Those who are led to the hosts of desktops that they may shadow.
    pub(crate) ways: Ways,
}

impl Sessions {
    /// Nothing is under way yet.
    #[must_use]
    pub fn new(
        process: Arc<Process>,
        site: Arc<Site>,
        authority: Arc<Authority>,
        journal: Arc<Journal>,
        agents: Arc<Agents>,
        identities: Arc<Identities>,
    ) -> Self {
        Self {
            process,
            site,
            table: authority.table.clone(),
            authority,
            journal,
            agents,
            identities,
            logins: KeyedLocks::default(),
            starting: Mutex::default(),
            ended: Mutex::default(),
            unvoted: Mutex::default(),
            hooks: Hooks::default(),
            keys: Arc::default(),
            ways: Ways::default(),
        }
    }

    /// Has links to the agents that there are to be now, and follows what each reports.
    pub fn follow_agents(self: &Arc<Self>) {
        for link in self.agents.relink() {
            let span = span::agent(&link.name);
            let follow = reconcile::follow(Arc::clone(self), link).instrument(span);
            self.process.duties.run_to_its_end("follower of an agent", follow);
        }
    }

    fn settings(&self) -> Arc<Settings> {
        self.site.settings()
    }

    fn node(&self) -> &NodeName {
        &self.process.node
    }

    fn acts(&self) -> bool {
        self.authority.acts()
    }

    fn note(&self, note: Note) {
        self.journal.note(note);
    }

    /// See [`Agents::fenced`].
    async fn fenced<T, F>(&self, link: &Link, call: impl Fn(Fence) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<Fenced<T>, CallError>>,
    {
        self.agents.fenced(link, call).await
    }

    /// Marks a start as under way in this process until the guard is dropped: reconcile leaves it alone.
    pub(crate) fn mark_starting(self: &Arc<Self>, id: SessionId) -> StartMark {
        self.starting.lock().insert(id);
        StartMark { sessions: Arc::clone(self), id }
    }

    /// Whether a start is under way in this process.
    pub(crate) fn is_starting(&self, id: SessionId) -> bool {
        self.starting.lock().contains(&id)
    }

    /// Remembers why a session ended.
    pub(crate) fn remember_ended(&self, user: UserName, ended: Ended) {
        let mut memory = self.ended.lock();
        if memory.iter().any(|(_, known)| known.id == ended.id) {
            return;
        }
        if memory.len() == ENDED_MAX {
            memory.pop_front();
        }
        memory.push_back((user, ended));
    }

    /// Remembers a session that was made without votes.
    pub(crate) fn remember_unvoted(&self, session: Arc<Session>) {
        let mut memory = self.unvoted.lock();
        if memory.len() == ENDED_MAX {
            memory.pop_front();
        }
        memory.push_back(session);
    }

    /// The user's sessions as far as this node knows: those of the table, and those that were made without votes. Not
    /// those whose host has said that they are over, which cannot be recorded without votes.
    pub(crate) fn of_user(&self, user: &UserName) -> Vec<Arc<Session>> {
        let over = self.over(user);
        let mut all: Vec<_> = self.table.read(|view| view.table.of_user(user).cloned().collect());
        all.extend(self.unvoted_of(user));
        all.retain(|session| !over.contains(&session.id));
        all
    }

    /// The session of the table, or one that was made without votes.
    pub(crate) fn session(&self, id: SessionId) -> Option<Arc<Session>> {
        let recorded = self.table.read(|view| view.table.session(id).cloned());
        recorded.or_else(|| self.unvoted.lock().iter().find(|one| one.id == id).cloned())
    }

    /// Those that were made without votes and are not in the table yet.
    pub(crate) fn unvoted(&self) -> Vec<Arc<Session>> {
        let mut memory = self.unvoted.lock();
        self.table.read(|view| memory.retain(|session| view.table.session(session.id).is_none()));
        memory.iter().cloned().collect()
    }

    /// The user's sessions that were made without votes and are not in the table yet.
    pub(crate) fn unvoted_of(&self, user: &UserName) -> Vec<Arc<Session>> {
        let mut all = self.unvoted();
        all.retain(|session| session.user == *user);
        all
    }

    /// Those on an agent that are remembered.
    pub(crate) fn unvoted_on(&self, agent: &AgentName) -> Vec<SessionId> {
        let memory = self.unvoted.lock();
        memory.iter().filter(|one| one.agent == *agent).map(|one| one.id).collect()
    }

    /// A session that was made without votes is gone.
    pub(crate) fn forget_unvoted(&self, id: SessionId) {
        self.unvoted.lock().retain(|session| session.id != id);
    }

    /// The user's sessions of which their hosts have said that they are over.
    pub(crate) fn over(&self, user: &UserName) -> Vec<SessionId> {
        self.ended_of(user).iter().map(|ended| ended.id).collect()
    }

    /// The user's sessions that ended, newest first.
    pub(crate) fn ended_of(&self, user: &UserName) -> Vec<Ended> {
        self.ended
            .lock()
            .iter()
            .rev()
            .filter(|(owner, _)| owner == user)
            .map(|(_, ended)| ended.clone())
            .collect()
    }
}

/// A start that is under way; see [`Sessions::mark_starting`].
#[derive(Debug)]
pub(crate) struct StartMark {
    sessions: Arc<Sessions>,
    id: SessionId,
}

impl Drop for StartMark {
    fn drop(&mut self) {
        self.sessions.starting.lock().remove(&self.id);
    }
}
