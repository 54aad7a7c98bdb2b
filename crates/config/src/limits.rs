//! The folders with limits of sessions' lives, as one value each.

use std::time::Duration;

use vsm_core::Limits;

use crate::{Config, keys};

/// Limits and who they are for. A folder is whole: what it does not set is not limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsFolder {
    /// Name of the folder.
    pub name: String,
    /// Users bound to it; goes before groups.
    pub users: Vec<String>,
    /// Groups bound to it; goes before subclusters.
    pub groups: Vec<String>,
    /// Subclusters whose users are bound to it.
    pub subclusters: Vec<String>,
    /// Longest time without a viewer.
    pub disconnected_max: Duration,
    /// Longest connection.
    pub connected_max: Duration,
    /// Longest time without input.
    pub idle_max: Duration,
    /// Longest time without input until the viewer is dropped.
    pub idle_disconnect: Duration,
    /// Longest time in all.
    pub lifetime_max: Duration,
    /// How long before the desktop is warned.
    pub warn_before: Duration,
    /// How long before it is warned again.
    pub warn_again: Duration,
    /// By how much the user can put the end off.
    pub extension: Duration,
    /// How often.
    pub extensions_max: u32,
}

impl LimitsFolder {
    /// The limits alone.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            origin: self.name.clone(),
            disconnected_ms: millis(self.disconnected_max),
            connected_ms: millis(self.connected_max),
            idle_ms: millis(self.idle_max),
            idle_disconnect_ms: millis(self.idle_disconnect),
            lifetime_ms: millis(self.lifetime_max),
            warn_ms: millis(self.warn_before),
            warn_again_ms: millis(self.warn_again),
            extension_ms: millis(self.extension),
            extensions: self.extensions_max,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Config {
    /// The folders with limits, in name order.
    #[must_use]
    pub fn limits(&self) -> Vec<LimitsFolder> {
        use keys::limits as k;
        let folder = |name: String| LimitsFolder {
            users: self.get_in(&k::USERS, &name),
            groups: self.get_in(&k::GROUPS, &name),
            subclusters: self.get_in(&k::SUBCLUSTERS, &name),
            disconnected_max: self.get_in(&k::DISCONNECTED_MAX, &name),
            connected_max: self.get_in(&k::CONNECTED_MAX, &name),
            idle_max: self.get_in(&k::IDLE_MAX, &name),
            idle_disconnect: self.get_in(&k::IDLE_DISCONNECT, &name),
            lifetime_max: self.get_in(&k::LIFETIME_MAX, &name),
            warn_before: self.get_in(&k::WARN_BEFORE, &name),
            warn_again: self.get_in(&k::WARN_AGAIN, &name),
            extension: self.get_in(&k::EXTENSION, &name),
            extensions_max: self.get_in(&k::EXTENSIONS_MAX, &name),
            name,
        };
        self.names("/vsmserver/limits").into_iter().map(folder).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_limits_nothing_that_it_does_not_set() {
        assert_eq!(Config::defaults().limits(), []);
        let dir = tempfile::tempdir().unwrap();
        let text =
            "vsmserver:\n  limits:\n    lab: {groups: [students, domain users], idle_max: 2h}\n";
        fs::write(dir.path().join("a.yaml"), text).unwrap();
        let limits = Config::load(dir.path()).unwrap().limits();
        assert_eq!((limits.len(), limits[0].name.as_str()), (1, "lab"));
        assert_eq!(limits[0].groups, ["students", "domain users"]);
        assert_eq!(limits[0].idle_max, Duration::from_secs(7200));
        assert_eq!(limits[0].lifetime_max, Duration::ZERO);
        assert_eq!(limits[0].warn_before, Duration::from_secs(300));
    }
}
