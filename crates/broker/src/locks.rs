//! One lock for each of many keys.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
/// A lock for each key, kept only while somebody holds it or waits for it: there are no more of them than is under way.
#[derive(Debug)]
pub(crate) struct KeyedLocks<K>(Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>);

impl<K> Default for KeyedLocks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> KeyedLocks<K> {
    /// The lock of this key, to be locked by the caller.
    pub(crate) fn of(&self, key: K) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock();
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(key).or_default())
    }

    /// The same, unless so many have it or wait for it: one who asks again and again has a share, too.
    pub(crate) fn enter(&self, key: K, most: usize) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let lock = self.of(key);
        // One is kept here.
        (Arc::strong_count(&lock) <= most + 1).then_some(lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_share() {
        let locks = KeyedLocks::default();
        let held: Vec<_> = (0..20).filter_map(|_| locks.enter("bob", 16)).collect();
        assert_eq!(held.len(), 16);
        assert!(locks.enter("alice", 16).is_some());
        drop(held);
        assert!(locks.enter("bob", 16).is_some());
    }

    #[test]
    fn a_key_has_one_lock_as_long_as_somebody_has_it() {
        let locks = KeyedLocks::default();
        let one = locks.of(1);
        let held = one.try_lock().unwrap();
        assert!(locks.of(1).try_lock().is_err());
        assert!(locks.of(2).try_lock().is_ok());
        drop(held);
        drop(one);
        assert!(locks.of(1).try_lock().is_ok());
        assert_eq!(locks.0.lock().len(), 1);
    }
}
