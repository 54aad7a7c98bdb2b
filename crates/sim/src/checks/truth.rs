//! What really became of each session, as only the simulation can know it.

use std::{collections::BTreeMap, sync::Arc};

use vsm_core::{RequestId, Session, SessionId, UnixMillis, UserName};

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
    /// They were told that it will end.
    pub(super) promised: bool,
}

/// All sessions that ever ran.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(super) lives: BTreeMap<SessionId, Life>,
    /// When both brokers' disks were lost.
    lost: Option<UnixMillis>,
}

impl Truth {
    pub(crate) fn started(&mut self, session: &Arc<Session>, agent: usize, _now: u64) {
        let user = session.user.clone();
        let request = session.request;
        // A start may have been under way when the table that promised it was lost.
        let wished = self.lost.is_some_and(|lost| session.created <= lost);
        let life =
            Life { user, request, agent, died: None, handed: false, wished, promised: false };
        self.lives.insert(session.id, life);
    }

    /// Both brokers' disks are lost, and with them what was decided about all sessions so far.
    pub(super) fn lost_all(&mut self, at: UnixMillis) {
        self.lost = Some(at);
        self.lives.values_mut().for_each(|life| (life.wished, life.promised) = (true, false));
    }

    pub(crate) fn wish(&mut self, session: SessionId) {
        if let Some(life) = self.lives.get_mut(&session) {
            life.wished = true;
        }
    }

    /// Its end is recorded.
    pub(crate) fn promise(&mut self, session: SessionId) {
        if let Some(life) = self.lives.get_mut(&session) {
            life.promised = true;
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
