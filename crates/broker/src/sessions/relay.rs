//! The way to session hosts that users cannot reach by themselves: `vsm-login` on this host asks for a connection to
//! the sshd of the agent that has the caller's desktop, and carries the user's ssh over it. The bytes never come
//! through this process, so a desktop that is viewed does not depend on it.
//!
//! What is said is one line of JSON each way. With the answer `joined` comes the connection; the others bear the
//! reason.

use std::{
    io,
    os::fd::AsFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::net::TcpStream;
use vsm_core::SessionId;
use vsm_daemon::{
    clock,
    socket::{self, Asked, Bounds},
    trouble::Kind,
};

use crate::sessions::Sessions;

/// Name of the socket, beside the user socket.
pub(crate) const SOCKET: &str = "vsmserver-relay.sock";
/// How long an agent's sshd may take to be reached.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Each waits for an agent's sshd.
const BOUNDS: Bounds = Bounds { each: 32, line: 4096 };

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
enum Ask {
    /// A connection to the sshd of this session's agent.
    Relay { session: SessionId },
}

/// Ways to others' desktops that are open at a time.
const WAYS_MAX: usize = 1024;
/// The same of one user.
const WAYS_OF_USER_MAX: usize = 16;
/// How long one is: its user logs in here and there, by hand perhaps, and may be turned away for minutes.
const WAY_MAX: Duration = Duration::from_secs(300);

/// Somebody who may be led to the host of a desktop that they may shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    uid: u32,
    session: SessionId,
    until: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Ways(Mutex<Vec<Way>>);

impl Ways {
    /// Leads a user to the host of this session from now on, for two minutes. Of too many the oldest one goes.
    pub(crate) fn open(&self, uid: u32, session: SessionId) {
        self.add(clock::now(), uid, session);
    }

    fn add(&self, now: Instant, uid: u32, session: SessionId) {
        let mut ways = self.0.lock();
        ways.retain(|way| way.until > now && (way.uid, way.session) != (uid, session));
        let of_user = |way: &Way| way.uid == uid;
        let over = if ways.iter().filter(|way| of_user(way)).count() >= WAYS_OF_USER_MAX {
            ways.iter().position(of_user)
        } else {
            (ways.len() >= WAYS_MAX).then_some(0)
        };
        if let Some(oldest) = over {
            ways.remove(oldest);
        }
        ways.push(Way { uid, session, until: now + WAY_MAX });
    }

    fn leads(&self, now: Instant, uid: u32, session: SessionId) -> bool {
        let fits = |way: &Way| (way.uid, way.session) == (uid, session) && way.until > now;
        self.0.lock().iter().any(fits)
    }
}

/// Why there is no connection: a word for the client, a line for the user.
#[derive(Debug)]
struct Refused(&'static str, String);

/// Serves callers on the socket at `path` until the broker stops.
pub(crate) async fn serve(sessions: Arc<Sessions>, path: PathBuf) {
    let worker = Arc::clone(&sessions);
    let one = move |asked| {
        let sessions = Arc::clone(&worker);
        async move { answer(&sessions, asked).await }
    };
    if let Err(error) = socket::serve(&path, BOUNDS, &sessions.process.stop, one).await {
        let what = format!("users cannot be led to session hosts through this one: {error}");
        sessions.process.troubles.raise(Kind::Socket, "relay", what);
    }
}

async fn answer(sessions: &Arc<Sessions>, Asked { uid, line, stream }: Asked) -> io::Result<()> {
    let done = lead(sessions, uid, &line).await;
    let (text, connection) = match &done {
        Ok(connection) => (serde_json::json!({ "event": "joined" }), Some(connection.as_fd())),
        Err(Refused(word, why)) => (serde_json::json!({ "event": word, "why": why }), None),
    };
    socket::send_with(&stream, format!("{text}\n").as_bytes(), connection.as_slice())
}

/// Connects to the sshd of the session's agent.
async fn lead(
    sessions: &Arc<Sessions>,
    uid: u32,
    line: &[u8],
) -> Result<std::net::TcpStream, Refused> {
    let asked = serde_json::from_slice(line);
    let Ask::Relay { session: id } =
        asked.map_err(|error| Refused("bad-request", error.to_string()))?;
    let off = "this service does not lead to session hosts (/vsmserver/bastion)";
    let port = sessions.settings().bastion.ok_or_else(|| Refused("refused", off.to_owned()))?;
    let who =
        sessions.site.identity(uid).await.map_err(|error| Refused("refused", error.to_string()))?;
    if !sessions.settings().allows(&who) {
        return Err(Refused("refused", format!("{} may not use this service", who.user)));
    }
    let own = sessions.of_user(&who.user).into_iter().find(|session| session.id == id);
    let shadowed = || {
        let leads = sessions.ways.leads(clock::now(), uid, id);
        leads.then(|| sessions.table.read(|view| view.table.session(id).cloned())).flatten()
    };
    let session = own
        .or_else(shadowed)
        .ok_or_else(|| Refused("no-session", format!("you have no desktop {id}")))?;
    let agent = session.agent.as_str();
    let connected = tokio::time::timeout(CONNECT_MAX, TcpStream::connect((agent, port))).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let connection = connected.and_then(|connection| {
        connection.set_nodelay(true)?;
        connection.into_std()
    });
    connection.map_err(|error| {
        tracing::warn!(user = %who.user, session = %id, agent, port, %error, "a user cannot be led to a session host");
        Refused("no-host", format!("{agent} does not answer on port {port}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_for_one_user_to_one_desktop_for_a_while() {
        let (ways, now) = (Ways::default(), clock::now());
        let id = |n| SessionId::new(uuid::Uuid::from_u128(n));
        ways.add(now, 2001, id(1));
        assert!(ways.leads(now, 2001, id(1)));
        assert!(!ways.leads(now, 2002, id(1)) && !ways.leads(now, 2001, id(2)));
        assert!(!ways.leads(now + WAY_MAX, 2001, id(1)));
        ways.add(now, 2002, id(1));
        for n in 0..99 {
            ways.add(now, 2001, id(100 + n));
        }
        assert!(!ways.leads(now, 2001, id(1)) && ways.leads(now, 2001, id(198)));
        assert!(ways.leads(now, 2002, id(1)), "another one's stays");
    }
}
