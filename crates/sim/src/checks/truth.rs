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
    /// No vote was given to its start: it was made without votes, or nobody asked for it.
    pub(super) unvoted: bool,
}

/// All sessions that ever ran.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(super) lives: BTreeMap<SessionId, Life>,
    /// When both brokers' disks were lost.
    lost: Option<UnixMillis>,
    /// Which login asked for one without votes.
    pub(super) asked: BTreeMap<SessionId, u64>,
}

impl Truth {
    pub(super) fn started(&mut self, session: &Arc<Session>, agent: usize, unvoted: bool) {
        let user = session.user.clone();
        let request = session.request;
        // A start may have been under way when the table that promised it was lost.
        let wished = self.lost.is_some_and(|lost| session.created <= lost);
        let (died, handed, promised) = (None, false, false);
        let life = Life { user, request, agent, died, handed, wished, promised, unvoted };
        self.lives.insert(session.id, life);
    }

    /// A login asks for one without votes.
    pub(super) fn asked_unvoted(&mut self, login: u64, session: SessionId) {
        self.asked.insert(session, login);
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
