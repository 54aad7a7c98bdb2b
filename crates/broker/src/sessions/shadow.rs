//! Shadowing: who may is said here; whether a desktop lets itself be shadowed now, its agent and its user say.

use std::sync::Arc;

use vsm_core::{Session, SessionId, SshKey, State, UserName};

use crate::{
    error::{Refusal, list},
    hosts::agents::{ShadowAnswer, ShadowWish, Shadowed, ShadowedBy},
    journal::trail::Note,
    sessions::Sessions,
    users::Identity,
};

/// How long the right is good where one login is off: the shadower has to log in at the session host by hand.
const RIGHT_MIN: std::time::Duration = std::time::Duration::from_secs(120);

/// Whom somebody wants to shadow, and how.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) user: UserName,
    pub(crate) session: Option<SessionId>,
    pub(crate) control: bool,
    pub(crate) key: Option<SshKey>,
}

/// A desktop that may be shadowed.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) session: Arc<Session>,
    pub(crate) host: String,
    pub(crate) shadowed: Shadowed,
}

/// Asks for leave to shadow a desktop. What comes of it is an event in the trail.
///
/// # Errors
/// `MAY_NOT_SHADOW` for one who may not; what the desktop says is `SHADOW_REFUSED`.
pub(crate) async fn ask(
    sessions: &Arc<Sessions>,
    who: &Identity,
    wish: Wish,
) -> Result<Granted, Refusal> {
    let settings = sessions.settings();
    if !settings.shadowers.contains(who) || !settings.allows(who) {
        let note = Note::new(who.user.as_str(), "shadow-refused").user(&wish.user);
        sessions.note(note.detail("they are not in /shadowing/allowed_shadowers"));
        return Err(Refusal::MayNotShadow(who.user.clone()));
    }
    let session = target(sessions, &wish)?;
    let mode = if wish.control { "control" } else { "view" };
    let away = |why: String| {
        let (user, agent) = (session.user.clone(), session.agent.clone());
        Refusal::ShadowUnreachable { user, agent, why }
    };
    let (link, up) =
        sessions.agents.reach(&session.agent).await.map_err(|(why, _)| away(why.to_string()))?;
    let valid = settings.one_login.unwrap_or(RIGHT_MIN);
    let key = wish.key.as_ref().filter(|_| settings.one_login.is_some());
    let ask = ShadowWish { by: &who.user, control: wish.control, key, valid };
    let answer = link.allow_shadow(sessions.table.fence(), session.id, ask).await;
    let note = |action| Note::new(who.user.as_str(), action).session(&session);
    match answer {
        Ok(ShadowAnswer::Granted(shadowed)) => {
            let mode = if shadowed.control { "control" } else { "view" };
            sessions.note(note("shadow-allowed").detail(mode));
            let host = up.host.public_name.to_string();
            Ok(Granted { session, host, shadowed })
        }
        Ok(ShadowAnswer::Refused(why)) => {
            sessions.note(note("shadow-refused").detail(format!("{mode}: {why}")));
            Err(Refusal::ShadowRefused { user: session.user.clone(), why })
        }
        Err(error) => Err(away(error.why)),
    }
}

/// The desktop that is meant: the one named, or the user's only one.
fn target(sessions: &Sessions, wish: &Wish) -> Result<Arc<Session>, Refusal> {
    let mut all = sessions.of_user(&wish.user);
    all.retain(|session| matches!(session.state, State::Running { .. }));
    if let Some(id) = wish.session {
        all.retain(|session| session.id == id);
    }
    match &all[..] {
        [session] => Ok(Arc::clone(session)),
        [] => Err(Refusal::NothingToShadow(wish.user.clone())),
        several => Err(Refusal::WhichSession(list(several.iter().map(|session| session.id)))),
    }
}

/// The same of all sessions of an agent.
pub(crate) fn all_changed(sessions: &Sessions, before: &ShadowedBy, now: &ShadowedBy) {
    fn of<'a>(all: &'a ShadowedBy, id: &SessionId) -> &'a [String] {
        all.get(id).map_or(&[], Vec::as_slice)
    }
    for id in before.keys().chain(now.keys().filter(|id| !before.contains_key(id))) {
        changed(sessions, *id, of(before, id), of(now, id));
    }
}

/// Tells in the trail who has begun to shadow a desktop, and who shadows it no more.
pub(crate) fn changed(sessions: &Sessions, id: SessionId, before: &[String], now: &[String]) {
    let Some(session) = sessions.table.read(|view| view.table.session(id).cloned()) else { return };
    let note =
        |by: &String, action| sessions.note(Note::new(by.as_str(), action).session(&session));
    let is_new = |by: &&String| !before.contains(by);
    let is_gone = |by: &&String| !now.contains(by);
    now.iter().filter(is_new).for_each(|by| note(by, "shadow-began"));
    before.iter().filter(is_gone).for_each(|by| note(by, "shadow-ended"));
}
