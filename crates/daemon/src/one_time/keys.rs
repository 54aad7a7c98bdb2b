//! Keys that are good for one login each, and the socket on which sshd and `vsm-login` ask about them, and at a broker
//! about web keys.
//!
//! They are in memory only, and meant to be: one lives for minutes, and whoever comes while the daemon is being
//! restarted logs in as if there were none. Time is monotonic, so that a clock that jumps neither prolongs nor ends
//! one.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vsm_core::{SessionId, SshKey, UserName, WebKeyId};

use super::{Answer, Ask, LINE_MAX};
use crate::{
    clock,
    hole::{self, Hole},
    socket::{self, Asked, Bounds},
    trouble::{Kind, Troubles},
    web_key::{Followed, NotFollowed, WebKeys},
};

/// Keys that are good at a time: a storm of logins on a large host, all of whom are slow.
const KEYS_MAX: usize = 4096;
/// Of one session: its user tries again and again. The oldest one goes.
const OF_SESSION_MAX: usize = 8;
/// Longest that a key is good.
pub const VALID_MAX: Duration = Duration::from_secs(600);
/// sshd's helper asks for everybody, as a user of the system's, who may have more. All are answered from memory.
const BOUNDS: Bounds = Bounds { each: 16, line: LINE_MAX };
/// Where there are web keys: a connection of a browser's login is held by one of this socket, and a user may have 64 to
/// the broker itself and 32 to session hosts.
const WEB_BOUNDS: Bounds = Bounds { each: BOUNDS.each + 64 + 32, ..BOUNDS };

/// Whom a key lets in, and where to.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// The key.
    pub key: SshKey,
    /// Login name.
    pub user: UserName,
    /// Their user id on this host.
    pub uid: u32,
    /// The only session that it is good for.
    pub session: SessionId,
}

/// There are as many keys as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{KEYS_MAX} one-time keys wait already")]
pub struct TooMany;

/// A key that is good.
#[derive(Debug)]
struct Good {
    right: Uuid,
    bearer: Bearer,
    until: Instant,
}

/// All keys that are good.
#[derive(Debug, Default)]
pub struct Keys(Mutex<Vec<Good>>);

impl Keys {
    /// Those that are good at `now`.
    fn good(&self, now: Instant) -> MutexGuard<'_, Vec<Good>> {
        let mut keys = self.0.lock();
        keys.retain(|good| good.until > now);
        keys
    }

    /// Lets the bearer in once, for at most `valid` from now on. A key that was announced before counts anew.
    ///
    /// # Errors
    /// If there are too many.
    pub fn accept(&self, bearer: Bearer, valid: Duration) -> Result<(), TooMany> {
        self.add(clock::now(), bearer, valid)
    }

    fn add(&self, now: Instant, bearer: Bearer, valid: Duration) -> Result<(), TooMany> {
        let mut keys = self.good(now);
        keys.retain(|good| good.bearer.key != bearer.key);
        let is_of_it = |good: &Good| good.bearer.session == bearer.session;
        if keys.iter().filter(|good| is_of_it(good)).count() >= OF_SESSION_MAX
            && let Some(oldest) = keys.iter().position(is_of_it)
        {
            keys.remove(oldest);
        }
        if keys.len() >= KEYS_MAX {
            return Err(TooMany);
        }
        let until = now + valid.min(VALID_MAX);
        keys.push(Good { right: Uuid::new_v4(), bearer, until });
        Ok(())
    }

    /// The right that goes with a key, if this user may use it now.
    fn offered(&self, now: Instant, user: &str, key: &SshKey) -> Option<Uuid> {
        let keys = self.good(now);
        let fits = |good: &&Good| good.bearer.key == *key && good.bearer.user.as_str() == user;
        keys.iter().find(fits).map(|good| good.right)
    }

    /// Takes a right up, for the session that is asked for by `uid`. It is gone then, also where that is another
    /// session: no client of ours asks for one.
    fn redeem(
        &self,
        now: Instant,
        right: Uuid,
        session: SessionId,
        uid: u32,
    ) -> Result<(), &'static str> {
        let mut keys = self.good(now);
        let found = keys.iter().position(|good| good.right == right && good.bearer.uid == uid);
        let found = found.ok_or("this one-time login was used already, or came too late")?;
        let good = keys.remove(found);
        let is_for_it = good.bearer.session == session;
        if hole::is_open(Hole::OneTimeKey) {
            keys.push(good);
        }
        if is_for_it { Ok(()) } else { Err("this one-time login is for another desktop") }
    }
}

/// Serves those who ask about keys on the socket at `path` until `stop`; about web keys where there are any. Without it
/// users log in twice, and browsers each time, which is no reason not to run.
pub async fn serve(
    keys: Arc<Keys>,
    web: Option<Arc<dyn WebKeys>>,
    path: PathBuf,
    stop: CancellationToken,
    troubles: Troubles,
) {
    let bounds = if web.is_some() { WEB_BOUNDS } else { BOUNDS };
    let until = stop.clone();
    // Whoever asks has to know the key, or be the owner.
    let one = move |asked| {
        let (keys, web, stop) = (Arc::clone(&keys), web.clone(), until.clone());
        async move { answer(&keys, web.as_deref(), &stop, asked).await }
    };
    if let Err(error) = socket::serve(&path, bounds, &stop, one).await {
        let what = format!("users have to log in twice, as nobody can ask about keys: {error}");
        troubles.raise(Kind::Socket, "one-time keys", what);
    }
}

async fn answer(
    keys: &Keys,
    web: Option<&dyn WebKeys>,
    stop: &CancellationToken,
    Asked { uid, line, mut stream }: Asked,
) -> io::Result<()> {
    let now = clock::now();
    let answer = match serde_json::from_slice(&line) {
        Ok(Ask::Offered { user, kind, blob }) => {
            let key: Option<SshKey> = format!("{kind} {blob}").parse().ok();
            let right = || Some(Answer::Good { right: keys.offered(now, &user, key.as_ref()?)? });
            let id = || Some(Answer::Web { id: web?.offered(&user, key.as_ref()?)? });
            right().or_else(id).unwrap_or(Answer::Unknown)
        }
        Ok(Ask::Follow { id }) => return follow(web, stop, (uid, id), stream).await,
        Ok(Ask::Redeem { right, session }) => match keys.redeem(now, right, session, uid) {
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
    say(&mut stream, &answer).await
}

async fn say(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Says whether a web key is good, and then once that it is no more; until then whoever asked holds the connection.
async fn follow(
    web: Option<&dyn WebKeys>,
    stop: &CancellationToken,
    (uid, id): (u32, WebKeyId),
    mut stream: UnixStream,
) -> io::Result<()> {
    let followed = match web {
        Some(web) => web.follow(uid, id).await,
        None => Err(NotFollowed::Refused("this host knows no web keys".to_owned())),
    };
    let Followed { until, over } = match followed {
        Ok(followed) => followed,
        Err(NotFollowed::Refused(why)) => {
            tracing::warn!(%id, uid, why, "a web key was refused");
            return say(&mut stream, &Answer::Refused { why }).await;
        }
        // Whoever asks hears nothing, and asks again.
        Err(NotFollowed::NotKnown) => return Ok(()),
    };
    say(&mut stream, &Answer::Following { until_unix_ms: until.0 }).await?;
    let left = Duration::from_millis(until.0.saturating_sub(clock::unix_millis().0));
    let mut more = [0];
    let why = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        () = over.cancelled() => "you were logged out",
        () = tokio::time::sleep(left) => "the time of this login is over",
        // It has gone, or says something that nobody asked for.
        _ = stream.read(&mut more) => return Ok(()),
    };
    tracing::info!(%id, uid, why, "a web key is good no more: its connections end");
    say(&mut stream, &Answer::Over { why: why.to_owned() }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(60);

    fn alice(key: &SshKey, session: SessionId) -> Bearer {
        Bearer { key: key.clone(), user: "alice".parse().unwrap(), uid: 2001, session }
    }

    fn key(number: usize) -> SshKey {
        format!("ssh-ed25519 AAAA{number}").parse().unwrap()
    }

    #[test]
    fn a_key_is_good_once_for_its_user_and_session_and_in_time() {
        let (keys, now) = (Keys::default(), clock::now());
        let [desktop, other] = [1, 2].map(|n| SessionId::new(Uuid::from_u128(n)));
        let one = key(1);
        keys.add(now, alice(&one, desktop), SHORT).unwrap();
        assert_eq!(keys.offered(now, "bob", &one), None, "another user");
        assert_eq!(keys.offered(now, "alice", &key(2)), None, "another key");
        let right = keys.offered(now, "alice", &one).unwrap();
        assert_eq!(keys.offered(now, "alice", &one), Some(right), "sshd asks twice");
        assert!(keys.redeem(now, right, desktop, 2002).is_err(), "another user");
        assert_eq!(keys.redeem(now, right, desktop, 2001), Ok(()));
        assert!(keys.redeem(now, right, desktop, 2001).is_err(), "a second time");
        assert_eq!(keys.offered(now, "alice", &one), None, "a second time");

        keys.add(now, alice(&one, desktop), SHORT).unwrap();
        let right = keys.offered(now, "alice", &one).unwrap();
        assert!(keys.redeem(now, right, other, 2001).is_err(), "another session");
        assert!(keys.redeem(now, right, desktop, 2001).is_err(), "not after that");

        keys.add(now, alice(&one, desktop), SHORT).unwrap();
        let right = keys.offered(now, "alice", &one).unwrap();
        assert!(keys.redeem(now + SHORT, right, desktop, 2001).is_err(), "too late");
        assert_eq!(keys.offered(now + SHORT, "alice", &one), None, "too late");
    }

    #[test]
    fn there_is_a_bound_for_a_session_and_for_all() {
        let (keys, now) = (Keys::default(), clock::now());
        let id = |n: usize| SessionId::new(Uuid::from_u128(u128::try_from(n).unwrap()));
        for number in 0..=OF_SESSION_MAX {
            keys.add(now, alice(&key(number), id(0)), SHORT).unwrap();
        }
        assert_eq!(keys.offered(now, "alice", &key(0)), None, "the oldest has gone");
        assert!(keys.offered(now, "alice", &key(1)).is_some());
        let left = KEYS_MAX - OF_SESSION_MAX;
        for number in 1..=left {
            keys.add(now, alice(&key(1000 + number), id(number)), SHORT).unwrap();
        }
        // Known, so that it takes no room; then a new one, which does.
        keys.add(now, alice(&key(1), id(9999)), SHORT * 2).unwrap();
        let new = alice(&key(9999), id(9998));
        assert_eq!(keys.add(now, new.clone(), SHORT), Err(TooMany));
        assert_eq!(keys.add(now + SHORT, new, SHORT), Ok(()), "room again");
    }
}
