//! Web keys: public keys by which the browsers of a user log in, until a time.
//!
//! A user who has logged in by a browser has a key accepted, whose private half only that browser keeps. It is part of
//! the table, so that both brokers answer alike for it, also after one has died. The keys of a user are one row: the
//! oldest one gives way to a new one in one change, and so do all that are revoked at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{Change, Rejected, Row, SshKey, UnixMillis, UserName, WebKeyId, is_unprintable};

/// Web keys of all users together: some 60 MiB in memory, with the longest words on who asked.
pub const WEB_KEYS_MAX: usize = 100_000;
/// Most that one user may have, whatever the configuration says: they are one row, and go through the log together.
pub const OF_USER_MAX: usize = 64;
/// Longest word on who asked for one, in bytes: an address, and what a browser says of itself.
pub const ASKED_BY_MAX: usize = 256;

/// How the text of each ed25519 key begins, and how long it is: 51 bytes in base64.
const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI";
const ED25519_LEN: usize = "ssh-ed25519 ".len() + 68;

/// What is no web key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWebKey {
    /// Another kind of key, which takes more room or is made more slowly.
    #[error("a web key is an ed25519 key")]
    Kind,
    /// It would never be good.
    #[error("a web key ends after it was made")]
    Time,
    /// The words on who asked for it.
    #[error("the words on who asked for a web key are one line of at most {ASKED_BY_MAX} bytes")]
    AskedBy,
}

/// A key by which a browser of a user logs in. Made by [`WebKey::new`] alone, which checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebKey {
    /// Which one.
    pub id: WebKeyId,
    /// Whom it lets in.
    pub user: UserName,
    /// The public half.
    pub key: SshKey,
    /// When it was accepted.
    pub created: UnixMillis,
    /// From when on it is good no more.
    pub until: UnixMillis,
    /// Who asked for it, in words of whoever had it accepted; may be empty.
    pub asked_by: String,
    /// Whether an OpenID provider has vouched for the user; else sshd has let them in.
    pub openid: bool,
}

impl WebKey {
    /// A key of this user.
    ///
    /// # Errors
    /// See [`InvalidWebKey`].
    pub fn new(
        id: WebKeyId,
        user: UserName,
        key: SshKey,
        (created, until): (UnixMillis, UnixMillis),
        asked_by: String,
    ) -> Result<Self, InvalidWebKey> {
        if !key.as_str().starts_with(ED25519) || key.as_str().len() != ED25519_LEN {
            return Err(InvalidWebKey::Kind);
        }
        if until <= created {
            return Err(InvalidWebKey::Time);
        }
        if asked_by.len() > ASKED_BY_MAX || asked_by.chars().any(is_unprintable) {
            return Err(InvalidWebKey::AskedBy);
        }
        Ok(Self { id, user, key, created, until, asked_by, openid: false })
    }

    /// The same; whether its user came by OpenID Connect.
    #[must_use]
    pub fn with_openid(self, openid: bool) -> Self {
        Self { openid, ..self }
    }

    /// Whether it lets its user in at this time.
    #[must_use]
    pub fn is_good(&self, now: UnixMillis) -> bool {
        now < self.until
    }
}

/// Something about the web keys of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebKeysAsked {
    /// One more. The same key again, as in a retry, changes nothing. Where the user has as many as they may, the oldest
    /// ones go.
    Accept {
        /// The key, which is the user's.
        key: WebKey,
        /// How many the user may have.
        most: usize,
    },
    /// Without this one.
    Remove(WebKeyId),
    /// Without any.
    RemoveAll,
    /// Without those whose time is over now.
    RemoveOver(UnixMillis),
}

/// Those of a table.
#[derive(Debug, Clone, Default)]
pub struct WebKeys {
    /// Oldest first; nobody has an empty list.
    of_users: BTreeMap<UserName, Arc<[WebKey]>>,
    by_id: HashMap<WebKeyId, UserName>,
    state: Arc<()>,
}

impl WebKeys {
    /// The user's, oldest first; some may be over.
    #[must_use]
    pub fn of(&self, user: &UserName) -> &[WebKey] {
        self.of_users.get(user).map_or(&[], |keys| keys)
    }

    /// The one with this id.
    #[must_use]
    pub fn get(&self, id: WebKeyId) -> Option<&WebKey> {
        self.of(self.by_id.get(&id)?).iter().find(|key| key.id == id)
    }

    /// All, by user.
    pub fn all(&self) -> impl Iterator<Item = &WebKey> {
        self.of_users.values().flat_map(|keys| keys.iter())
    }

    /// Who has any.
    pub fn users(&self) -> impl Iterator<Item = &UserName> {
        self.of_users.keys()
    }

    /// The lists, by user, for who shares them.
    #[must_use]
    pub const fn lists(&self) -> &BTreeMap<UserName, Arc<[WebKey]>> {
        &self.of_users
    }

    /// Another one after each change: whoever follows them sees by the pointer that nothing changed.
    #[must_use]
    pub const fn state(&self) -> &Arc<()> {
        &self.state
    }

    pub(crate) fn row(&self, user: &UserName) -> Row {
        let keys = self.of_users.get(user).cloned().unwrap_or_default();
        Row::WebKeys { user: user.clone(), keys }
    }

    pub(crate) fn check(&self, user: UserName, asked: WebKeysAsked) -> Result<Change, Rejected> {
        let had = self.of(&user);
        let mut keys = had.to_vec();
        match asked {
            WebKeysAsked::Accept { key, most } => {
                keys.retain(|old| old.is_good(key.created));
                if !keys.iter().any(|old| old.id == key.id || old.key == key.key) {
                    let room = most.clamp(1, OF_USER_MAX) - 1;
                    keys.drain(..keys.len().saturating_sub(room));
                    keys.push(key);
                }
                if self.by_id.len() + keys.len() > WEB_KEYS_MAX + had.len() {
                    return Err(Rejected::TooManyWebKeys);
                }
            }
            WebKeysAsked::Remove(id) if keys.iter().any(|key| key.id == id) => {
                keys.retain(|key| key.id != id);
            }
            WebKeysAsked::Remove(id) => return Err(Rejected::UnknownWebKey { user, id }),
            WebKeysAsked::RemoveAll => keys.clear(),
            WebKeysAsked::RemoveOver(now) => keys.retain(|key| key.is_good(now)),
        }
        Ok(Change::WebKeys { user, keys: keys.into() })
    }

    pub(crate) fn set(&mut self, user: &UserName, keys: &Arc<[WebKey]>) {
        self.state = Arc::default();
        let had = self.of_users.remove(user).unwrap_or_default();
        for old in had.iter() {
            if self.by_id.get(&old.id) == Some(user) {
                self.by_id.remove(&old.id);
            }
        }
        if !keys.is_empty() {
            self.by_id.extend(keys.iter().map(|key| (key.id, user.clone())));
            self.of_users.insert(user.clone(), Arc::clone(keys));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{Proposal, Table, table::testing::commit};

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn id(n: u128) -> WebKeyId {
        WebKeyId::new(Uuid::from_u128(n))
    }

    fn public(n: u128) -> SshKey {
        format!("{ED25519}{n:0>43}").parse().unwrap()
    }

    fn key(n: u128, of: &str, created: u64) -> WebKey {
        let times = (UnixMillis(created), UnixMillis(created + 100));
        WebKey::new(id(n), user(of), public(n), times, "Firefox, 10.0.0.9".into()).unwrap()
    }

    fn ask(table: &mut Table, of: &str, asked: WebKeysAsked) -> Result<Change, Rejected> {
        commit(table, Proposal::WebKeys { user: user(of), asked })
    }

    fn accept(table: &mut Table, n: u128, of: &str, created: u64) -> Result<Change, Rejected> {
        ask(table, of, WebKeysAsked::Accept { key: key(n, of, created), most: 3 })
    }

    fn ids(table: &Table, of: &str) -> Vec<WebKeyId> {
        table.web_keys().of(&user(of)).iter().map(|key| key.id).collect()
    }

    #[test]
    fn what_is_no_web_key_is_not_made() {
        let times = (UnixMillis(1), UnixMillis(2));
        let make = |key: SshKey, times, asked_by: &str| {
            WebKey::new(id(1), user("ann"), key, times, asked_by.to_owned())
        };
        assert!(make(public(1), times, "").is_ok());
        let long = format!("{ED25519}{:0>44}", 1).parse().unwrap();
        for other in [long, "ssh-rsa AAAA".parse().unwrap(), "ssh-ed25519 AAAA".parse().unwrap()] {
            assert_eq!(make(other, times, ""), Err(InvalidWebKey::Kind));
        }
        let never = (UnixMillis(2), UnixMillis(2));
        assert_eq!(make(public(1), never, ""), Err(InvalidWebKey::Time));
        for words in ["a\nb", "\u{1b}[2J", &"x".repeat(ASKED_BY_MAX + 1)] {
            assert_eq!(make(public(1), times, words), Err(InvalidWebKey::AskedBy));
        }
    }

    #[test]
    fn the_same_key_again_is_the_same_and_the_oldest_gives_way() {
        let mut table = Table::default();
        accept(&mut table, 1, "ann", 10).unwrap();
        let again = WebKey { id: id(9), ..key(1, "ann", 20) };
        ask(&mut table, "ann", WebKeysAsked::Accept { key: again, most: 3 }).unwrap();
        assert_eq!(table.web_keys().of(&user("ann")), [key(1, "ann", 10)], "a retry");
        for n in 2..=4 {
            accept(&mut table, n, "ann", 10 + u64::try_from(n).unwrap()).unwrap();
        }
        assert_eq!(ids(&table, "ann"), [id(2), id(3), id(4)]);
        assert_eq!(table.web_keys().get(id(1)), None);
        // A lower bound since then, and a key whose time is over.
        ask(&mut table, "ann", WebKeysAsked::Accept { key: key(5, "ann", 20), most: 2 }).unwrap();
        assert_eq!(ids(&table, "ann"), [id(4), id(5)]);
        accept(&mut table, 6, "ann", 115).unwrap();
        assert_eq!(ids(&table, "ann"), [id(5), id(6)], "4 was over at 114");
    }

    #[test]
    fn a_key_is_its_users_alone() {
        let mut table = Table::default();
        accept(&mut table, 1, "ann", 10).unwrap();
        // The same public key, had accepted by somebody else.
        let copied = WebKey { key: public(1), ..key(2, "bob", 10) };
        ask(&mut table, "bob", WebKeysAsked::Accept { key: copied, most: 3 }).unwrap();
        let unknown = Err(Rejected::UnknownWebKey { user: user("bob"), id: id(1) });
        assert_eq!(ask(&mut table, "bob", WebKeysAsked::Remove(id(1))), unknown);
        ask(&mut table, "bob", WebKeysAsked::RemoveAll).unwrap();
        assert_eq!((ids(&table, "ann"), ids(&table, "bob")), (vec![id(1)], vec![]));
        assert_eq!(table.web_keys().get(id(1)).unwrap().user, user("ann"));
        ask(&mut table, "ann", WebKeysAsked::Remove(id(1))).unwrap();
        assert_eq!(table.web_keys().all().count(), 0);
        assert_eq!(table.rows().count(), Table::default().rows().count(), "nothing is left");
    }

    #[test]
    fn what_is_over_goes() {
        let mut table = Table::default();
        accept(&mut table, 1, "ann", 10).unwrap();
        accept(&mut table, 2, "ann", 20).unwrap();
        assert!(key(1, "ann", 10).is_good(UnixMillis(109)));
        assert!(!key(1, "ann", 10).is_good(UnixMillis(110)));
        ask(&mut table, "ann", WebKeysAsked::RemoveOver(UnixMillis(110))).unwrap();
        assert_eq!(ids(&table, "ann"), [id(2)]);
    }

    /// Nobody can fill the table; who is full already can go on replacing their own.
    #[test]
    fn there_is_a_bound_for_all() {
        let mut table = Table::default();
        let each = 50;
        for n in 0..WEB_KEYS_MAX / each {
            let name = format!("u{n}");
            let of = |k: usize| key(u128::try_from(n * each + k).unwrap(), &name, 10);
            let keys = (0..each).map(of).collect();
            table.set_row(&Row::WebKeys { user: user(&name), keys });
        }
        let refused = accept(&mut table, 1 << 40, "ann", 10);
        assert_eq!(refused, Err(Rejected::TooManyWebKeys));
        accept(&mut table, 1 << 40, "u7", 10).unwrap();
        assert_eq!(ids(&table, "u7").len(), 3);
        accept(&mut table, 1 << 41, "ann", 10).unwrap();
    }

    /// A node that is handed rows has the same keys, and loses those that are taken back.
    #[test]
    fn they_are_rows() {
        let mut table = Table::default();
        accept(&mut table, 1, "ann", 10).unwrap();
        accept(&mut table, 2, "bob", 10).unwrap();
        let mut copy = Table::default();
        table.rows().for_each(|row| copy.set_row(&row));
        assert!(copy.web_keys().all().eq(table.web_keys().all()));
        let before = Arc::clone(copy.web_keys().state());
        assert!(Arc::ptr_eq(&before, copy.clone().web_keys().state()), "nothing changed");
        let back = ask(&mut table, "ann", WebKeysAsked::RemoveAll).unwrap();
        copy.set_row(&table.row(&back.key().unwrap()).unwrap());
        assert_eq!(copy.web_keys().get(id(1)), None);
        assert!(!Arc::ptr_eq(&before, copy.web_keys().state()));
        assert!(copy.web_keys().get(id(2)).is_some());
    }
}
