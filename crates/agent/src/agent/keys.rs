//! Keys that are good for one login each: what a broker has announced, and what sshd and `vsm-login` ask about it.
//!
//! They are in memory only, and meant to be: one lives for a minute, and whoever comes while the agent is being restarted
//! logs in as if there were none. Time is monotonic, so that a clock that jumps neither prolongs nor ends one.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;
use vsm_core::{SessionId, SshKey, UserName};
use vsm_daemon::{
    clock, host_keys,
    socket::{self, Access},
};
use vsm_proto::{
    agent::v1::{AcceptKeyRequest, AcceptKeyResponse},
    convert,
};

use super::{Agent, service};
use crate::{
    lines,
    one_time::{self, Answer, Ask},
};

/// Keys that are good at a time: a storm of logins on a large host, all of whom are slow.
const KEYS_MAX: usize = 4096;
/// Of one session: its user tries again and again. The oldest one goes.
const OF_SESSION_MAX: usize = 8;
/// Longest that a key may be good.
const VALID_MAX: Duration = Duration::from_secs(600);
/// How long one who asks may take to say what.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Longest line of one who asks; the longest key is half of it.
const LINE_MAX: u64 = 8192;
/// Those who ask at a time; others wait in the socket's queue.
const ASKING_MAX: usize = 64;

/// A key that is good.
#[derive(Debug)]
struct Good {
    right: Uuid,
    key: SshKey,
    user: UserName,
    uid: u32,
    session: SessionId,
    until: Instant,
}

/// All keys that are good.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Vec<Good>>);

impl Keys {
    /// Those that are good at `now`.
    fn good(&self, now: Instant) -> MutexGuard<'_, Vec<Good>> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|good| good.until > now);
        keys
    }

    /// Adds one. A key that was announced before counts from now, and for this session; false = there are too many.
    fn add(&self, now: Instant, new: Good) -> bool {
        let mut keys = self.good(now);
        keys.retain(|good| good.key != new.key);
        let of_session = keys.iter().filter(|good| good.session == new.session).count();
        if of_session >= OF_SESSION_MAX
            && let Some(oldest) = keys.iter().position(|good| good.session == new.session)
        {
            keys.remove(oldest);
        }
        let has_room = keys.len() < KEYS_MAX;
        if has_room {
            keys.push(new);
        }
        has_room
    }

    /// The right that goes with a key, if this user may use it now.
    fn offered(&self, now: Instant, user: &str, key: &SshKey) -> Option<Uuid> {
        let keys = self.good(now);
        let fits = |good: &&Good| good.key == *key && good.user.as_str() == user;
        keys.iter().find(fits).map(|good| good.right)
    }

    /// Takes a right up, for the session that is asked for by `uid`. It is gone then, also where that is another session:
    /// no client of ours asks for one.
    fn redeem(
        &self,
        now: Instant,
        right: Uuid,
        session: SessionId,
        uid: u32,
    ) -> Result<(), &'static str> {
        let mut keys = self.good(now);
        let found = keys.iter().position(|good| good.right == right && good.uid == uid);
        let found = found.ok_or("this one-time login was used already, or came too late")?;
        let good = keys.remove(found);
        if good.session == session {
            Ok(())
        } else {
            Err("this one-time login is for another desktop")
        }
    }
}

/// Takes a key that a broker announces.
pub(super) async fn accept(
    agent: &Arc<Agent>,
    request: AcceptKeyRequest,
) -> Result<AcceptKeyResponse, Status> {
    let AcceptKeyRequest { id, user, public_key, valid_ms } = request;
    let session: SessionId = convert::text("id", &id)?;
    let user: UserName = convert::text("user", &user)?;
    let key: SshKey = convert::text("public_key", &public_key)?;
    let valid = Duration::from_millis(valid_ms.into());
    if valid.is_zero() || valid > VALID_MAX {
        return Err(Status::invalid_argument("valid_ms: 1 to 600000"));
    }
    let record = agent.registry.slot(session).and_then(|slot| slot.record());
    let record = record.ok_or_else(|| service::no_session(session))?;
    if record.session.user != user {
        let owner = &record.session.user;
        tracing::error!(session = %session, %user, %owner, "a broker takes somebody else for the owner of a session");
        return Err(Status::permission_denied(format!("session {session} is not {user}'s")));
    }
    let now = clock::now();
    let (right, until) = (Uuid::new_v4(), now + valid);
    if !agent.keys.add(now, Good { right, key, user, uid: record.uid, session, until }) {
        return Err(Status::resource_exhausted(format!("{KEYS_MAX} one-time keys wait already")));
    }
    let host_keys = tokio::task::spawn_blocking(host_keys::read).await.unwrap_or_default();
    Ok(AcceptKeyResponse { host_keys })
}

/// Serves those who ask about keys until `stop`. Without it users log in twice, which is no reason not to run.
pub(super) async fn serve(agent: Arc<Agent>, stop: CancellationToken) {
    let path = one_time::socket(&agent.settings().session.run_dir);
    // Whoever asks has to know the key, or be the owner.
    let listener = match socket::listen(&path, Access { mode: 0o666, group: None }) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "users have to log in twice: nobody can ask about one-time keys");
            return;
        }
    };
    let turns = Arc::new(Semaphore::new(ASKING_MAX));
    while let Some(stream) = next(&listener, &stop).await {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let agent = Arc::clone(&agent);
        tokio::spawn(async move {
            // One who does not speak, or has gone, gets no answer.
            let _ = tokio::time::timeout(ASK_MAX, answer(&agent, stream)).await;
            drop(turn);
        });
    }
}

async fn next(listener: &UnixListener, stop: &CancellationToken) -> Option<UnixStream> {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => return Some(stream),
            Err(error) => {
                tracing::warn!(%error, "one who asks about a one-time key cannot be heard");
                // Out of descriptors, most likely: they come back as others end.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(agent: &Agent, mut stream: UnixStream) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let mut line = Vec::new();
    BufReader::new((&mut stream).take(LINE_MAX)).read_until(b'\n', &mut line).await?;
    let now = clock::now();
    let answer = match serde_json::from_slice(&line) {
        Ok(Ask::Offered { user, kind, blob }) => {
            let key = format!("{kind} {blob}").parse().ok();
            let right = key.and_then(|key| agent.keys.offered(now, &user, &key));
            right.map_or(Answer::Unknown, |right| Answer::Good { right })
        }
        Ok(Ask::Redeem { right, session }) => match agent.keys.redeem(now, right, session, uid) {
            Ok(()) => {
                tracing::info!(%session, uid, "a one-time key was used");
                Answer::Redeemed
            }
            Err(why) => {
                tracing::warn!(%session, uid, why, "a one-time key was refused");
                Answer::Refused { why: why.to_owned() }
            }
        },
        Err(error) => Answer::Refused { why: format!("the request cannot be read: {error}") },
    };
    stream.write_all(&lines::line(&answer).map_err(std::io::Error::other)?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(60);

    fn good(key: &SshKey, session: SessionId, until: Instant) -> Good {
        let user = "alice".parse().unwrap();
        Good { right: Uuid::new_v4(), key: key.clone(), user, uid: 2001, session, until }
    }

    fn key(number: usize) -> SshKey {
        format!("ssh-ed25519 AAAA{number}").parse().unwrap()
    }

    #[test]
    fn a_key_is_good_once_for_its_user_and_session_and_in_time() {
        let (keys, now) = (Keys::default(), clock::now());
        let [desktop, other] = [1, 2].map(|n| SessionId::new(Uuid::from_u128(n)));
        let one = key(1);
        assert!(keys.add(now, good(&one, desktop, now + SHORT)));
        assert_eq!(keys.offered(now, "bob", &one), None, "another user");
        assert_eq!(keys.offered(now, "alice", &key(2)), None, "another key");
        let right = keys.offered(now, "alice", &one).unwrap();
        assert_eq!(keys.offered(now, "alice", &one), Some(right), "sshd asks twice");
        assert!(keys.redeem(now, right, desktop, 2002).is_err(), "another user");
        assert_eq!(keys.redeem(now, right, desktop, 2001), Ok(()));
        assert!(keys.redeem(now, right, desktop, 2001).is_err(), "a second time");
        assert_eq!(keys.offered(now, "alice", &one), None, "a second time");

        assert!(keys.add(now, good(&one, desktop, now + SHORT)));
        let right = keys.offered(now, "alice", &one).unwrap();
        assert!(keys.redeem(now, right, other, 2001).is_err(), "another session");
        assert!(keys.redeem(now, right, desktop, 2001).is_err(), "not after that");

        assert!(keys.add(now, good(&one, desktop, now + SHORT)));
        let right = keys.offered(now, "alice", &one).unwrap();
        assert!(keys.redeem(now + SHORT, right, desktop, 2001).is_err(), "too late");
        assert_eq!(keys.offered(now + SHORT, "alice", &one), None, "too late");
    }

    #[test]
    fn there_is_a_bound_for_a_session_and_for_all() {
        let (keys, now) = (Keys::default(), clock::now());
        let id = |n: usize| SessionId::new(Uuid::from_u128(u128::try_from(n).unwrap()));
        for number in 0..=OF_SESSION_MAX {
            assert!(keys.add(now, good(&key(number), id(0), now + SHORT)));
        }
        assert_eq!(keys.offered(now, "alice", &key(0)), None, "the oldest has gone");
        assert!(keys.offered(now, "alice", &key(1)).is_some());
        let left = KEYS_MAX - OF_SESSION_MAX;
        for number in 1..=left {
            assert!(keys.add(now, good(&key(1000 + number), id(number), now + SHORT)), "{number}");
        }
        let more = || good(&key(1), id(9999), now + SHORT + SHORT);
        // Known, so that it takes no room; then a new one, which does.
        assert!(keys.add(now, more()));
        assert!(!keys.add(now, good(&key(9), id(9998), now + SHORT)));
        assert!(keys.add(now + SHORT, good(&key(9), id(9998), now + SHORT + SHORT)), "room again");
    }
}
