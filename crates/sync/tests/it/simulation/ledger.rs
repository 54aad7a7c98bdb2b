//! What users were told, kept outside of all brokers: the promises are checked against it.

use std::collections::{BTreeMap, BTreeSet};

use vsm_core::{Row, SessionId, State, UserName};

/// Most sessions of a user.
pub(crate) const CAP: u32 = 1;

/// One session as its user knows it.
#[derive(Debug, Default)]
struct Known {
    user: Option<UserName>,
    /// Its `running` was acknowledged.
    handed: bool,
    /// Its end, or that its start is given up, was asked for; it may have happened.
    ending: bool,
    /// That was acknowledged.
    ended: bool,
}

/// Everything that was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    sessions: BTreeMap<SessionId, Known>,
    handed: usize,
    /// What must never be.
    pub(crate) wrongs: Vec<String>,
}

impl Ledger {
    pub(crate) const fn handed_ever(&self) -> usize {
        self.handed
    }

    pub(crate) fn reserved(&mut self, id: SessionId, user: &UserName) {
        self.sessions.entry(id).or_default().user = Some(user.clone());
    }

    /// P7, at the moment when a user is handed a session.
    pub(crate) fn handed(&mut self, id: SessionId, user: &UserName) {
        self.reserved(id, user);
        let known = self.sessions.entry(id).or_default();
        if known.ended {
            self.wrongs.push(format!("{id} of {user} was handed out after its end"));
        }
        known.handed = true;
        self.handed += 1;
        let of_user = |known: &&Known| known.user.as_ref() == Some(user);
        let live = |known: &&Known| known.handed && !known.ending;
        let has = self.sessions.values().filter(of_user).filter(live).count();
        if has > CAP as usize {
            self.wrongs.push(format!("{user} has {has} sessions, at most {CAP} allowed"));
        }
    }

    pub(crate) fn ending(&mut self, id: SessionId) {
        self.sessions.entry(id).or_default().ending = true;
    }

    pub(crate) fn ended(&mut self, id: SessionId) {
        self.sessions.entry(id).or_default().ended = true;
    }

    /// P1: where a table is not what users were told.
    pub(crate) fn compare(&self, rows: &[Row]) -> Vec<String> {
        let sessions: BTreeMap<_, _> = rows
            .iter()
            .filter_map(|row| match row {
                Row::Session { id, session, .. } => Some((*id, session.as_ref()?.state)),
                Row::Agent { .. }
                | Row::Roster(_)
                | Row::Drain { .. }
                | Row::Event(_)
                | Row::Identity { .. }
                | Row::WebKeys { .. } => None,
            })
            .collect();
        let mut wrongs = BTreeSet::new();
        for (id, known) in &self.sessions {
            let is_running = matches!(sessions.get(id), Some(State::Running { .. }));
            if known.ended && sessions.contains_key(id) {
                wrongs.insert(format!("{id}, which was ended"));
            } else if known.user.is_some() && !known.ending && !sessions.contains_key(id) {
                wrongs.insert(format!("lost {id}, which was promised"));
            } else if known.handed && !known.ending && !is_running {
                wrongs.insert(format!("not running {id}, which was handed out"));
            }
        }
        wrongs.into_iter().collect()
    }
}
