//! What really became of each session, as only the simulation can know it.

use std::{collections::BTreeMap, sync::Arc};

use vsm_core::{RequestId, Session, SessionId, UserName};

/// A session's life.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) user: UserName,
    pub(super) request: RequestId,
    pub(super) agent: usize,
    pub(super) died: Option<u64>,
    pub(super) handed: bool,
    /// Its user or an administrator wants its end.
    pub(super) wished: bool,
}

/// All sessions that ever ran.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(super) lives: BTreeMap<SessionId, Life>,
}

impl Truth {
    pub(crate) fn started(&mut self, session: &Arc<Session>, agent: usize, _now: u64) {
        let user = session.user.clone();
        let request = session.request;
        let life = Life { user, request, agent, died: None, handed: false, wished: false };
        self.lives.insert(session.id, life);
    }

    pub(crate) fn wish(&mut self, session: SessionId) {
        if let Some(life) = self.lives.get_mut(&session) {
            life.wished = true;
        }
    }

    pub(super) fn died(&mut self, session: SessionId, now: u64) {
        if let Some(life) = self.lives.get_mut(&session) {
            life.died = Some(now);
        }
    }

    pub(super) fn handed(&mut self, session: SessionId) {
        if let Some(life) = self.lives.get_mut(&session) {
            life.handed = true;
        }
    }
}
