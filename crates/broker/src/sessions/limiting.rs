//! Telling agents the limits of the sessions that run there, where they have others than the configuration says.
//!
//! What an agent keeps to it tells with its report, so that nothing is said twice and nothing is forgotten: whatever
//! fails is tried again. Whose groups cannot be learnt keeps the limits that they have.

use std::{collections::HashMap, sync::Arc};

use vsm_core::{Limits, Session, SessionId, State, UserName};
use vsm_daemon::trouble::Kind;

use crate::{
    hosts::agents::{Link, LinkState, Up},
    sessions::Sessions,
    site::settings::Settings,
    users::{Identity, LookupError, Source},
};

/// Sessions in one message.
const BATCH: usize = 512;

/// Tells an agent in the background.
pub(crate) fn begin(sessions: &Arc<Sessions>, link: &Arc<Link>) {
    let (worker, link) = (Arc::clone(sessions), Arc::clone(link));
    drop(sessions.process.tasks.spawn(async move { carry_out(&worker, &link).await }));
}

/// A user has come back to their session: the limits that hold for them now.
pub(crate) fn came(
    sessions: &Arc<Sessions>,
    link: &Arc<Link>,
    up: &Up,
    session: &Session,
    who: &Identity,
) {
    let settings = sessions.settings();
    if who.source == Source::NameAlone || !sessions.acts() {
        return;
    }
    let Some(limits) = of(&settings, who) else { return };
    if is_other(up, session.id, &limits) {
        let (worker, link, id) = (Arc::clone(sessions), Arc::clone(link), session.id);
        drop(sessions.process.tasks.spawn(async move {
            let _turn = link.limiting.lock().await;
            tell(&worker, &link, &[(id, limits)]).await;
        }));
    }
}

/// The configuration has changed: tells an agent in the background, where limits depend on what changed. What is new.
pub(crate) fn follow(
    sessions: &Arc<Sessions>,
    link: &Arc<Link>,
    old: &Settings,
    new: &Arc<Settings>,
) -> Arc<Settings> {
    if old.lifetimes != new.lifetimes || old.subclusters.all() != new.subclusters.all() {
        begin(sessions, link);
    }
    Arc::clone(new)
}

/// The limits of a user; none = they are not clear, and what runs keeps what it has.
fn of(settings: &Settings, who: &Identity) -> Option<Limits> {
    settings
        .limits_of(who)
        .inspect_err(|why| tracing::warn!(%why, "the limits of running desktops stay as they are"))
        .ok()
}

fn is_other(up: &Up, id: SessionId, limits: &Limits) -> bool {
    let told = up.seen.get(&id).and_then(|seen| seen.standing.as_ref());
    match told.map(|standing| &standing.limits) {
        Some(told) if !told.is_none() => told != limits,
        // Folders that limit nothing are all the same.
        Some(_) | None => !limits.is_none(),
    }
}

/// Tells an agent what is not as it should be; one call at a time, so that the last word is the newest.
async fn carry_out(sessions: &Arc<Sessions>, link: &Arc<Link>) {
    let _turn = link.limiting.lock().await;
    let LinkState::Up(up) = link.state() else { return };
    if !sessions.acts() {
        return;
    }
    let settings = sessions.settings();
    let there: Vec<Arc<Session>> = sessions.table.read(|view| {
        let running = |s: &&Arc<Session>| matches!(s.state, State::Running { .. });
        view.table.on_agent(&link.name).filter(running).cloned().collect()
    });
    let mut by_user: HashMap<UserName, Option<Limits>> = HashMap::new();
    let mut other = Vec::new();
    for session in there {
        let user = &session.user;
        if !by_user.contains_key(user) {
            let limits = match identity(sessions, &settings, user).await {
                Ok(who) => who.and_then(|who| of(&settings, &who)),
                Err(error) => {
                    let what = format!(
                        "limits of {user} cannot be told, and are tried again later: {error}"
                    );
                    link.troubles.raise(Kind::Limits, "", what);
                    link.mark_limits_due();
                    break;
                }
            };
            by_user.insert(user.clone(), limits);
        }
        if let Some(Some(limits)) = by_user.get(user)
            && is_other(&up, session.id, limits)
        {
            other.push((session.id, limits.clone()));
        }
    }
    for batch in other.chunks(BATCH) {
        tell(sessions, link, batch).await;
    }
}

/// Who a user is, as far as limits depend on it; none = this host does not know them any more.
async fn identity(
    sessions: &Sessions,
    settings: &Settings,
    user: &UserName,
) -> Result<Option<Arc<Identity>>, LookupError> {
    if settings.lifetimes.is_empty() {
        let (user, groups) = (user.clone(), Vec::new());
        return Ok(Some(Arc::new(Identity { user, groups, source: Source::Nss })));
    }
    match sessions.site.users.named(user, settings.named_groups()).await {
        Ok(who) if who.source == Source::NameAlone => {
            Err(LookupError::Down("it does not tell the user's groups".to_owned()))
        }
        Ok(who) => Ok(Some(who)),
        Err(error @ LookupError::Down(_)) => Err(error),
        Err(LookupError::Unknown(_) | LookupError::BadName(_)) => Ok(None),
    }
}

async fn tell(sessions: &Sessions, link: &Link, limits: &[(SessionId, Limits)]) {
    let agent = &link.name;
    match sessions.fenced(link, |fence| link.set_limits(fence, limits)).await {
        Ok(Some(not_set)) => {
            let set = limits.len().saturating_sub(not_set.len());
            tracing::info!(%agent, sessions = set, "limits told");
            let first = not_set.iter().next().map(|(session, detail)| {
                format!(
                    "{} session(s) keep the limits that they had, such as {session}: {detail}",
                    not_set.len()
                )
            });
            link.troubles.set(Kind::Limits, "", first);
        }
        Ok(None) => {
            let what = "an older agent: its desktops have no limits until it is upgraded";
            link.troubles.raise(Kind::Limits, "", what);
        }
        Err(error) => {
            let what = format!("limits cannot be told, and are tried again later: {error}");
            link.troubles.raise(Kind::Limits, "", what);
            link.mark_limits_due();
        }
    }
}
