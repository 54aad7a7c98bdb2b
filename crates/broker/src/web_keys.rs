//! Web keys: accepting them, revoking them, and telling who holds a connection by one that it is good no more.
//!
//! They are in the session table, so both brokers know them, and each answers sshd by its own copy: a login by browser
//! outlives the broker that let it in. Each also has what came by a key end with it, wherever it was revoked: what
//! `vsm-login` carries, and the viewers of desktops that this node has handed out to such a login.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vsm_core::{
    Change, InvalidWebKey, Proposal, Session, SessionId, SshKey, UnixMillis, UserName, WebKey,
    WebKeyId, WebKeysAsked,
};
use vsm_daemon::{
    clock,
    web_key::{self, Followed, NotFollowed},
};
use vsm_sync::ProposeError;

use crate::{
    authority::Authority,
    error::Refusal,
    hosts::agents::Agents,
    journal::{
        Journal,
        trail::{Note, SELF},
    },
    locks::KeyedLocks,
    process::Process,
    site::Site,
    users::LookupError,
};

/// Who waits for the same user's turn: a page that is loaded again and again has a share.
const TURNS_MAX: usize = 16;
/// How often it is looked for keys whose time is over; that keeps nobody logged in for longer.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Every so many looks some users are looked up, who may be no more.
const USERS_EVERY: u32 = 15;
/// So many: of 10,000 each is looked up once in an hour.
const LOOK_UPS: usize = 80;

/// The web keys, and who follows which.
#[derive(Debug)]
pub struct WebKeys {
    process: Arc<Process>,
    site: Arc<Site>,
    authority: Arc<Authority>,
    journal: Arc<Journal>,
    agents: Arc<Agents>,
    /// What is told of a user's keys is in the order in which it was done.
    turns: KeyedLocks<UserName>,
    followed: Mutex<HashMap<WebKeyId, Arc<CancellationToken>>>,
    /// Sessions that were handed out last to a login by browser, with its key. Only what this process has handed out: a
    /// node that takes over leaves the viewers of before.
    handed: Mutex<HashMap<SessionId, WebKeyId>>,
}

/// A key that is to be accepted.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) user: UserName,
    pub(crate) key: SshKey,
    /// How long it is to be good; none = as long as it may.
    pub(crate) lifetime: Option<Duration>,
    pub(crate) asked_by: String,
    /// Who says that it is the user; none = sshd.
    pub(crate) voucher: Option<Voucher>,
}

/// An OpenID provider that has vouched for a user.
#[derive(Debug)]
pub(crate) struct Voucher {
    pub(crate) issuer: String,
    /// How it calls them.
    pub(crate) subject: String,
}

/// Why a key is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAccepted {
    #[error(transparent)]
    Invalid(#[from] InvalidWebKey),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<ProposeError> for NotAccepted {
    fn from(error: ProposeError) -> Self {
        Self::Refused(error.into())
    }
}

/// Which of a user's keys are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    One(WebKeyId),
    All,
}

impl WebKeys {
    /// Nobody follows any yet.
    #[must_use]
    pub fn new(
        process: Arc<Process>,
        site: Arc<Site>,
        authority: Arc<Authority>,
        journal: Arc<Journal>,
        agents: Arc<Agents>,
    ) -> Self {
        let (turns, followed, handed) = (KeyedLocks::default(), Mutex::default(), Mutex::default());
        Self { process, site, authority, journal, agents, turns, followed, handed }
    }

    /// Accepts a key. The same one again is the same: an answer may be lost.
    pub(crate) async fn accept(&self, wanted: Wanted) -> Result<WebKey, NotAccepted> {
        let Wanted { user, key, lifetime, asked_by, voucher } = wanted;
        let turn = self.turns.enter(user.clone(), TURNS_MAX).ok_or(Refusal::Busy)?;
        let _turn = turn.lock().await;
        let settings = self.site.settings();
        let (most, longest) = (settings.web.logins_per_user, settings.web.login_lifetime);
        let lifetime = lifetime.map_or(longest, |lifetime| lifetime.min(longest));
        let (now, had) = (clock::unix_millis(), self.of(&user));
        let millis = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let times = (now, UnixMillis(now.0.saturating_add(millis)));
        let id = WebKeyId::new(Uuid::now_v7());
        let new = WebKey::new(id, user.clone(), key.clone(), times, asked_by)?;
        let new = new.with_openid(voucher.is_some());
        if let Some(same) = had.iter().find(|old| old.key == key && old.is_good(now)) {
            return Ok(same.clone());
        }
        let asked = WebKeysAsked::Accept { key: new.clone(), most };
        let has = self.ask(&user, asked).await?;
        let vouched = voucher.map_or_else(String::new, |Voucher { issuer, subject }| {
            format!(", vouched for by {issuer} as {subject}")
        });
        tracing::info!(%id, %user, asked_by = new.asked_by, "a login by browser{vouched}");
        self.note_with(&user, "web-key-accepted", &new, (user.as_str(), &vouched));
        for old in had.iter().filter(|old| !has.contains(old)) {
            let action = if old.is_good(now) { "web-key-replaced" } else { "web-key-expired" };
            self.note(&user, action, old, SELF);
        }
        Ok(new)
    }

    /// Revokes keys of a user; those that there were.
    pub(crate) async fn revoke(
        &self,
        actor: &str,
        user: &UserName,
        which: Which,
    ) -> Result<Vec<WebKey>, Refusal> {
        let turn = self.turns.of(user.clone());
        let _turn = turn.lock().await;
        let had = self.of(user);
        let (asked, gone): (_, Vec<WebKey>) = match which {
            Which::All => (WebKeysAsked::RemoveAll, had),
            Which::One(id) => {
                let one = had.into_iter().filter(|key| key.id == id).collect();
                (WebKeysAsked::Remove(id), one)
            }
        };
        if !gone.is_empty() || which != Which::All {
            self.ask(user, asked).await?;
        }
        for key in &gone {
            tracing::info!(id = %key.id, %user, by = actor, "a login by browser was revoked");
            self.note(user, "web-key-revoked", key, actor);
        }
        Ok(gone)
    }

    /// The user's, oldest first, those among them whose time has just ended.
    pub(crate) fn of(&self, user: &UserName) -> Vec<WebKey> {
        self.authority.table.read(|view| view.table.web_keys().of(user).to_vec())
    }

    /// Those of all users, by user.
    pub(crate) fn all(&self) -> Vec<WebKey> {
        self.authority.table.read(|view| view.table.web_keys().all().cloned().collect())
    }

    /// Whose this one is.
    pub(crate) fn owner(&self, id: WebKeyId) -> Option<UserName> {
        self.authority.table.read(|view| Some(view.table.web_keys().get(id)?.user.clone()))
    }

    /// Until when an administrator may change things who has come by this one; none = it is not known here, or good no
    /// more, or nobody may by any.
    pub(crate) fn may_change_until(&self, id: WebKeyId) -> Option<UnixMillis> {
        let life = self.site.settings().web.admin_lifetime.as_millis();
        let (life, now) = (u64::try_from(life).unwrap_or(u64::MAX), clock::unix_millis());
        self.authority.table.read(|view| {
            let key = view.table.web_keys().get(id);
            let key = key.filter(|key| life > 0 && view.known && key.is_good(now))?;
            // A clock that was set back makes no login fresh for longer than that.
            let since = key.created.min(now);
            Some(UnixMillis(since.0.saturating_add(life)).min(key.until))
        })
    }

    /// Notes to which web key a desktop is handed out; none = its user has logged in otherwise.
    pub(crate) fn handed_out(&self, session: &Session, by: Option<WebKeyId>) {
        let mut handed = self.handed.lock();
        match by {
            Some(id) => drop(handed.insert(session.id, id)),
            None => drop(handed.remove(&session.id)),
        }
    }

    /// The keys that the user has after this.
    async fn ask(
        &self,
        user: &UserName,
        asked: WebKeysAsked,
    ) -> Result<Arc<[WebKey]>, ProposeError> {
        let proposal = Proposal::WebKeys { user: user.clone(), asked };
        let Change::WebKeys { keys, .. } = self.authority.table.propose(proposal).await? else {
            return Ok(Arc::default());
        };
        Ok(keys)
    }

    fn note(&self, user: &UserName, action: &'static str, key: &WebKey, actor: &str) {
        self.note_with(user, action, key, (actor, ""));
    }

    fn note_with(
        &self,
        user: &UserName,
        action: &'static str,
        key: &WebKey,
        (actor, more): (&str, &str),
    ) {
        let (id, until) = (key.id, clock::shown(key.until));
        let by = if key.asked_by.is_empty() { "" } else { ", asked for by " };
        let detail = format!("{id} until {until}{more}{by}{}", key.asked_by);
        self.journal.note(Note::new(actor, action).user(user).detail(detail));
    }

    /// Removes what is over, and what users have who are no more, while this node is active and until the broker stops.
    pub async fn look_after(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = 0_u32;
        let mut users = Looked::default();
        loop {
            tokio::select! {
                biased;
                () = self.process.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if !self.authority.acts() {
                users = Looked::default();
                continue;
            }
            self.remove_over().await;
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(USERS_EVERY) {
                self.look_up_users(&mut users).await;
            }
        }
    }

    async fn remove_over(&self) {
        let now = clock::unix_millis();
        let over: BTreeSet<UserName> = self.authority.table.read(|view| {
            let over = view.table.web_keys().all().filter(|key| !key.is_good(now));
            over.map(|key| key.user.clone()).collect()
        });
        for user in over {
            let turn = self.turns.of(user.clone());
            let _turn = turn.lock().await;
            let had = self.of(&user);
            match self.ask(&user, WebKeysAsked::RemoveOver(now)).await {
                Ok(has) => {
                    let gone = had.iter().filter(|old| !has.contains(old));
                    gone.for_each(|old| self.note(&user, "web-key-expired", old, SELF));
                }
                Err(error) => tracing::info!(%user, %error, "cannot remove web keys yet"),
            }
        }
    }

    /// Looks up the next few users who have web keys; those who are not there at two looks in a row lose them.
    async fn look_up_users(&self, looked: &mut Looked) {
        let next: Vec<UserName> = self.authority.table.read(|view| {
            let users = view.table.web_keys().users();
            let after = users.filter(|user| looked.last.as_ref().is_none_or(|last| *user > last));
            after.take(LOOK_UPS).cloned().collect()
        });
        looked.last = next.last().cloned();
        let missed = std::mem::take(&mut looked.missed);
        let again: BTreeSet<UserName> = missed.iter().cloned().chain(next).collect();
        for user in again {
            match self.site.users.uid(&user).await {
                Ok(_) => {}
                Err(LookupError::Down(_)) => return,
                Err(LookupError::Unknown(_) | LookupError::BadName(_)) => {
                    if !missed.contains(&user) {
                        looked.missed.insert(user);
                    } else if let Err(error) = self.revoke(SELF, &user, Which::All).await {
                        tracing::info!(%user, %error, "cannot remove the web keys of one who is no more yet");
                    }
                }
            }
        }
    }

    /// Ends what is followed by keys that are good no more, until the broker stops.
    pub async fn watch(self: Arc<Self>) {
        let mut table = self.authority.table.watch();
        let mut seen: Option<Arc<()>> = None;
        loop {
            table.borrow_and_update();
            // A copy that no active node has confirmed yet may lack what there is.
            let state = self
                .authority
                .table
                .read(|view| view.known.then(|| Arc::clone(view.table.web_keys().state())));
            if let Some(state) = state
                && !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &state))
            {
                seen = Some(state);
                self.end_what_is_over();
            }
            tokio::select! {
                biased;
                () = self.process.stop.cancelled() => return,
                changed = table.changed() => if changed.is_err() { return },
            }
        }
    }

    fn end_what_is_over(self: &Arc<Self>) {
        let (mut followed, mut handed) = (self.followed.lock(), self.handed.lock());
        followed.retain(|_, over| is_followed(over));
        let over = self.authority.table.read(|view| {
            let (keys, now) = (view.table.web_keys(), clock::unix_millis());
            let is_good = |id| keys.get(id).is_some_and(|key| key.is_good(now));
            let over = followed.iter().filter(|(id, _)| !is_good(**id));
            over.for_each(|(_, token)| token.cancel());
            let over = handed.extract_if(|_, id| !is_good(*id)).map(|(session, _)| session);
            let over: Vec<SessionId> = over.collect();
            handed.retain(|session, _| view.table.session(*session).is_some());
            over.into_iter().filter_map(|id| view.table.session(id).cloned()).collect::<Vec<_>>()
        });
        for session in over {
            let keys = Arc::clone(self);
            self.process.tasks.spawn(async move { keys.drop_viewer(&session).await });
        }
    }

    /// Drops the viewer of a desktop that was handed out to a login which is over.
    async fn drop_viewer(&self, session: &Session) {
        let (id, fence) = (session.id, self.authority.table.fence());
        let Ok((link, _)) = self.agents.reach(&session.agent).await else { return };
        match link.disconnect(fence, id, "your browser was logged out").await {
            Ok(true) => {
                let note = Note::new(SELF, "session-disconnected").session(session);
                self.journal.note(note.detail("its browser was logged out"));
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(session = %id, %error, "a viewer whose browser was logged out may go on");
            }
        }
    }
}

/// How far users were looked up.
#[derive(Debug, Default)]
struct Looked {
    /// Who was the last.
    last: Option<UserName>,
    /// Who was not there at the last look.
    missed: BTreeSet<UserName>,
}

/// Whether anybody has it beside the list of those that are followed.
fn is_followed(over: &Arc<CancellationToken>) -> bool {
    Arc::strong_count(over) > 1
}

#[tonic::async_trait]
impl web_key::WebKeys for WebKeys {
    fn offered(&self, user: &str, key: &SshKey) -> Option<WebKeyId> {
        let (user, now) = (user.parse().ok()?, clock::unix_millis());
        self.authority.table.read(|view| {
            let known = if view.known { view.table.web_keys().of(&user) } else { &[] };
            known.iter().find(|own| own.key == *key && own.is_good(now)).map(|own| own.id)
        })
    }

    async fn follow(&self, uid: u32, id: WebKeyId) -> Result<Followed, NotFollowed> {
        let refused = |why: String| Err(NotFollowed::Refused(why));
        let who = match self.site.identity(uid).await {
            Ok(who) => who,
            Err(LookupError::Down(_)) => return Err(NotFollowed::NotKnown),
            Err(error) => return refused(error.to_string()),
        };
        if !self.site.settings().allows(&who) {
            return refused(format!("{} may not use this service", who.user));
        }
        // First: what is revoked from here on is told.
        let over = Arc::clone(self.followed.lock().entry(id).or_default());
        let now = clock::unix_millis();
        let until = self.authority.table.read(|view| match view.table.web_keys().get(id) {
            _ if !view.known => Err(NotFollowed::NotKnown),
            Some(key) if key.user == who.user && key.is_good(now) => Ok(key.until),
            Some(_) | None => {
                Err(NotFollowed::Refused("you are logged out: log in again".to_owned()))
            }
        });
        match until {
            Ok(until) => Ok(Followed { until, over }),
            Err(why) => {
                drop(over);
                // Whoever names what is not there leaves nothing behind.
                let mut followed = self.followed.lock();
                if followed.get(&id).is_some_and(|over| !is_followed(over)) {
                    followed.remove(&id);
                }
                Err(why)
            }
        }
    }
}
