//! P7: no user has been handed more sessions than they may have. Those whose end was asked for do not count, nor those
//! that were made without votes, where the administrator allows that, or that nobody asked for. Of these, too, no
//! broker has one made beyond what it knows, nor two for one login. And none is reserved beyond what is in the table,
//! however that got there: one that was adopted counts.

use vsm_core::{Change, SessionId, State, Table, UserName};

use super::truth::Truth;
use crate::state::broker::Broker;

pub(super) fn check(truth: &Truth, user: &UserName, cap: u32) -> Option<String> {
    let lives = truth.lives.iter();
    let has: Vec<_> = lives
        .filter(|(_, life)| {
            life.user == *user
                && life.handed
                && !life.unvoted
                && !life.wished
                && life.died.is_none()
        })
        .map(|(id, life)| format!("{id} on agent{}", life.agent))
        .collect();
    let many = has.len() > usize::try_from(cap).unwrap_or(usize::MAX);
    many.then(|| format!("P7: {user} has {}", has.join(", ")))
}

/// A change is committed on this table. The index by user is not to be trusted here.
pub(super) fn check_reserved(table: &Table, change: &Change, cap: u32) -> Option<String> {
    let Change::Reserved(new) = change else { return None };
    let counts = table.sessions().filter(|session| {
        session.user == new.user && !matches!(session.state, State::Ending { .. })
    });
    let has = counts.count();
    let many = has >= usize::try_from(cap).unwrap_or(usize::MAX);
    many.then(|| format!("P7: {} is reserved for {}, who has {has}", new.id, new.user))
}

/// A broker is about to have one made without votes.
pub(super) fn check_unvoted(
    truth: &Truth,
    user: &UserName,
    broker: &Broker,
    cap: u32,
) -> Option<String> {
    let counts = broker.of_user(user).into_iter().filter(|session| {
        let life = truth.lives.get(&session.id);
        let is_there = life.is_none_or(|life| life.died.is_none() && !life.wished);
        is_there && !matches!(session.state, State::Ending { .. })
    });
    let has: Vec<_> = counts.map(|session| session.id.to_string()).collect();
    let many = has.len() >= usize::try_from(cap).unwrap_or(usize::MAX);
    many.then(|| format!("P7: one is made without votes for {user}, who has {}", has.join(", ")))
}

/// One that was asked for without votes begins.
pub(super) fn check_login(truth: &Truth, session: SessionId) -> Option<String> {
    let login = truth.asked.get(&session)?;
    let of_login = truth.asked.iter().filter(|(_, by)| *by == login).map(|(id, _)| id);
    let lives = |id: &&SessionId| truth.lives.get(id).is_some_and(|life| life.died.is_none());
    let alive: Vec<_> = of_login.filter(lives).map(ToString::to_string).collect();
    (alive.len() > 1).then(|| format!("P7: one login without votes made {}", alive.join(", ")))
}
