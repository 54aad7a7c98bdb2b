//! Shadowing, on the agent: a broker asks whether somebody may shadow a desktop; one who may comes by sshd as
//! themselves, and gets a connection to the desktop here, as its control socket is not open to them.
//!
//! A right is in memory only and lives for minutes, like a one-time key.

use std::{
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::unistd::User;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vsm_core::{SessionId, UserName};
use vsm_daemon::{
    clock,
    one_time::Bearer,
    socket::{self, Asked, Bounds},
    trouble::Kind,
};

use super::{Agent, call_error::CallError, keys, link, wish::NotDone};
use crate::{
    control::{self, Event, Request},
    lines,
    message::Wish,
    refusal::one_line,
};

/// Name of the socket, in the agent's run directory.
const SOCKET: &str = "vsmagent-shadow.sock";
/// How long the user of a desktop has to answer; the program that asks gives up a little earlier.
const ANSWER_MAX: Duration = Duration::from_secs(45);
/// Rights at a time.
const RIGHTS_MAX: usize = 1024;
/// As many desktops of this host one user may begin to shadow at a time.
const BOUNDS: Bounds = Bounds { each: 8, line: 4096 };

/// Somebody who may shadow a desktop, once.
#[derive(Debug, Clone)]
struct Right {
    id: Uuid,
    by: UserName,
    uid: u32,
    session: SessionId,
    control: bool,
    until: Instant,
}

/// All rights.
#[derive(Debug, Default)]
pub(super) struct Rights(Mutex<Vec<Right>>);

impl Rights {
    fn add(&self, now: Instant, right: Right) -> bool {
        let mut rights = self.0.lock();
        rights.retain(|right| right.until > now);
        let has_room = rights.len() < RIGHTS_MAX;
        if has_room {
            rights.push(right);
        }
        has_room
    }

    fn take(&self, now: Instant, id: Uuid, session: SessionId, uid: u32) -> Option<Right> {
        let mut rights = self.0.lock();
        rights.retain(|right| right.until > now);
        let fits = |right: &Right| right.id == id && right.session == session && right.uid == uid;
        let place = rights.iter().position(fits)?;
        Some(rights.swap_remove(place))
    }
}

/// Whether they may.
#[derive(Debug)]
pub(super) enum Verdict {
    /// No, and why.
    Refused(String),
    /// Yes, once.
    Granted {
        /// Not only look.
        control: bool,
        right: Uuid,
        /// By which keys this host is known to whom the key lets in; none = no key was taken.
        host_keys: Option<Vec<String>>,
    },
}

/// Asks the desktop, and its user where that is so, whether it may be shadowed.
pub(super) async fn allow(
    agent: &Arc<Agent>,
    Wish { session, by, control, key, valid }: Wish,
) -> Result<Verdict, CallError> {
    let (valid, no) = (valid.time(), |why: String| Ok(Verdict::Refused(why)));
    let slot = agent.registry.slot(session).ok_or(CallError::NoSession(session))?;
    let name = by.to_string();
    let found = tokio::task::spawn_blocking(move || User::from_name(&name)).await;
    let Ok(Ok(Some(account))) = found else {
        return no(format!("its host does not know {by}"));
    };
    let settings = agent.settings();
    let dir = control::session_dir(&settings.session.run_dir, slot.id);
    let program = settings.ask_program.clone();
    let ask = Request::AskShadow { by: by.to_string(), control, program };
    let control = match link::ask_for(&dir, &ask, ANSWER_MAX).await {
        Ok(Event::ShadowAnswer { granted: true, control, .. }) => control,
        Ok(Event::ShadowAnswer { why, .. } | Event::Refused { why }) => return no(why),
        Ok(_) => return no("it is just ending".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return no("its user gave no answer".to_owned());
        }
        Err(error) => return Err(NotDone::NoAnswer(error).into()),
    };
    let (now, uid) = (clock::now(), account.uid.as_raw());
    let right = Uuid::new_v4();
    let until = now + valid;
    if !agent
        .shadow_rights
        .add(now, Right { id: right, by: by.clone(), uid, session, control, until })
    {
        return Err(CallError::TooManyShadowers);
    }
    let host_keys = match key {
        // Without it they log in as they do otherwise.
        Some(key) => keys::let_in(agent, Bearer { key, user: by, uid, session }, valid).await.ok(),
        None => None,
    };
    Ok(Verdict::Granted { control, right, host_keys })
}

/// What `vsm-login` asks for.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
enum Ask {
    Shadow {
        right: Uuid,
        session: SessionId,
        #[serde(default)]
        address: String,
    },
}

/// What it is answered; with `joined` come the session's control connection and the desktop's.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Answer {
    Joined,
    NoSession { why: String },
    Refused { why: String },
}

/// Serves those who come to shadow, until `stop`.
pub(super) async fn serve(agent: Arc<Agent>, stop: CancellationToken) {
    let path = agent.settings().session.run_dir.join(SOCKET);
    let troubles = agent.troubles.clone();
    let one = move |asked| {
        let agent = Arc::clone(&agent);
        async move { answer(&agent, asked).await }
    };
    if let Err(error) = socket::serve(&path, BOUNDS, &stop, one).await {
        let what = format!("nobody can shadow a desktop of this host: {error}");
        troubles.raise(Kind::Socket, "shadow", what);
    }
}

async fn answer(agent: &Arc<Agent>, Asked { uid, line, stream }: Asked) -> io::Result<()> {
    let (answer, given) = match join(agent, uid, &line).await {
        Ok(given) => (Answer::Joined, Some(given)),
        Err(answer) => (answer, None),
    };
    let descriptors: Vec<_> = given.iter().flatten().map(AsFd::as_fd).collect();
    let line = lines::line(&answer).map_err(io::Error::other)?;
    socket::send_with(&stream, &line, &descriptors)
}

/// Takes a right up: the session's control connection, and the desktop's.
async fn join(agent: &Arc<Agent>, uid: u32, line: &[u8]) -> Result<[OwnedFd; 2], Answer> {
    let refused = |why: String| Answer::Refused { why };
    let Ask::Shadow { right, session, address } =
        serde_json::from_slice(line).map_err(|error| refused(error.to_string()))?;
    let right = agent.shadow_rights.take(clock::now(), right, session, uid).ok_or_else(|| {
        refused("this right to shadow a desktop was used already, or came too late".to_owned())
    })?;
    let settings = agent.settings();
    let dir = control::session_dir(&settings.session.run_dir, session);
    let (by, control) = (right.by.to_string(), right.control);
    let request = Request::Shadow { by, address: one_line(&address), control };
    tracing::info!(%session, by = %right.by, control, "a desktop is shadowed");
    let joined =
        tokio::task::spawn_blocking(move || attach(&control::socket(&dir), &request)).await;
    let joined = joined.map_err(io::Error::other).and_then(|joined| joined);
    let is_gone = |kind| matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    joined.map_err(|error| {
        if is_gone(error.kind()) {
            Answer::NoSession { why: format!("there is no session {session} on this host") }
        } else {
            refused(error.to_string())
        }
    })
}

/// Asks the session's monitor for a connection to the desktop.
fn attach(socket: &Path, request: &Request) -> io::Result<[OwnedFd; 2]> {
    let mut control = socket::connect_now(socket)?;
    control.set_read_timeout(Some(link::ANSWER_MAX))?;
    control.set_write_timeout(Some(link::ANSWER_MAX))?;
    control.write_all(&lines::line(request).map_err(io::Error::other)?)?;
    let ending = || io::Error::other("the desktop is just ending");
    let (line, connections) = socket::receive_with(&control).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof { ending() } else { error }
    })?;
    if let Some(connection) = connections.into_iter().next() {
        control.set_read_timeout(None)?;
        control.set_write_timeout(None)?;
        return Ok([control.into(), connection]);
    }
    Err(match serde_json::from_slice(&line) {
        Ok(Event::Refused { why }) => io::Error::other(why),
        _ => ending(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_taken_up_once_by_whom_it_is_for() {
        let (rights, now) = (Rights::default(), clock::now());
        let [session, other] = [1, 2].map(|n| SessionId::new(Uuid::from_u128(n)));
        let (id, until) = (Uuid::new_v4(), now + Duration::from_secs(1));
        let by: UserName = "carol".parse().unwrap();
        let right = || Right { id, by: by.clone(), uid: 2003, session, control: false, until };
        assert!(rights.add(now, right()));
        assert!(rights.take(now, id, other, 2003).is_none(), "another desktop");
        assert!(rights.take(now, id, session, 2001).is_none(), "somebody else");
        assert!(rights.take(now, Uuid::new_v4(), session, 2003).is_none(), "made up");
        assert!(rights.take(until, id, session, 2003).is_none(), "too late");
        assert!(rights.add(now, right()));
        assert!(rights.take(now, id, session, 2003).is_some());
        assert!(rights.take(now, id, session, 2003).is_none(), "twice");
    }
}
