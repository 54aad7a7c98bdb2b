//! Whose desktops have which limits (`/vsmserver/limits`), and telling the agents.
//!
//! The agent is told the limits with the start, and from then on whenever they are not what the configuration says:
//! when its report comes in, when the configuration changes, when the user comes back. It keeps to them by itself.

use std::time::Duration;

use vsm_config::{Config, LimitsFolder};
use vsm_core::{Limit, Limits, Words};

use crate::{
    error::Refusal,
    members::{Claims, Members, TwoFolders},
    subclusters::Subclusters,
    users::Identity,
};

/// Where they are in the configuration.
const FOLDER: &str = "/vsmserver/limits";

/// Limits that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Whose limits somebody has is not clear.
    #[error(transparent)]
    Two(#[from] TwoFolders),
    /// A subcluster that there is not: a slip of the pen.
    #[error("{FOLDER}/{folder}/subclusters: there is no subcluster {name}")]
    NoSubcluster {
        /// Folder.
        folder: String,
        /// Name.
        name: String,
    },
    /// A limit would be over before its warning.
    #[error(
        "{FOLDER}/{folder}/warn_before ({warn}) must be less than {key} ({value}), so that the warning comes before the end"
    )]
    WarnsTooLate {
        /// Folder.
        folder: String,
        /// Time of the warning.
        warn: String,
        /// Limit.
        key: &'static str,
        /// Its value.
        value: String,
    },
}

/// The limits of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifetimes {
    all: Vec<Limits>,
    groups: Vec<String>,
    members: Members,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn limits(folder: &LimitsFolder) -> Result<Limits, LimitsError> {
    let limits = Limits {
        origin: folder.name.clone(),
        disconnected_ms: millis(folder.disconnected_max),
        connected_ms: millis(folder.connected_max),
        idle_ms: millis(folder.idle_max),
        idle_disconnect_ms: millis(folder.idle_disconnect),
        lifetime_ms: millis(folder.lifetime_max),
        warn_ms: millis(folder.warn_before),
        warn_again_ms: millis(folder.warn_again),
        extension_ms: millis(folder.extension),
        extensions: folder.extensions_max,
    };
    let short = |limit: &Limit| (1..=limits.warn_ms).contains(&limits.of(*limit));
    match Limit::ALL.into_iter().find(short) {
        None => Ok(limits),
        Some(limit) => Err(LimitsError::WarnsTooLate {
            folder: folder.name.clone(),
            warn: Words(limits.warn_ms).to_string(),
            key: limit.key(),
            value: Words(limits.of(limit)).to_string(),
        }),
    }
}

impl Lifetimes {
    /// Reads those of a configuration.
    ///
    /// # Errors
    /// If two folders claim the same, one names a subcluster that there is not, or warns later than it ends.
    pub fn new(config: &Config) -> Result<Self, LimitsError> {
        let folders = config.limits();
        let subclusters = config.subclusters();
        for folder in &folders {
            let known = |name: &&String| !subclusters.iter().any(|known| known.name == **name);
            if let Some(name) = folder.subclusters.iter().find(known) {
                let (folder, name) = (folder.name.clone(), name.clone());
                return Err(LimitsError::NoSubcluster { folder, name });
            }
        }
        let members = Members::new(
            FOLDER,
            folders.iter().map(|folder| Claims {
                name: &folder.name,
                users: &folder.users,
                groups: &folder.groups,
                subclusters: Some(&folder.subclusters),
            }),
        )?;
        let all = folders.iter().map(limits).collect::<Result<_, _>>()?;
        let groups = folders.into_iter().flat_map(|folder| folder.groups).collect();
        Ok(Self { all, groups, members })
    }

    /// Whether nobody is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The groups that they name.
    pub(crate) fn groups(&self) -> &[String] {
        &self.groups
    }

    /// The limits of a user's desktops.
    ///
    /// # Errors
    /// If their groups lead to two folders.
    pub fn of(&self, who: &Identity, subclusters: &Subclusters) -> Result<Limits, Refusal> {
        if self.is_empty() {
            return Ok(Limits::default());
        }
        // Who has none gets no new desktop; one that runs is still somebody's.
        let subcluster = subclusters.of(who).ok().map(|(subcluster, _)| subcluster.name.as_str());
        let found = self.members.of(who, subcluster).map_err(|two| Refusal::AmbiguousLimits {
            user: who.user.clone(),
            one: self.all[two.one].origin.clone(),
            by: two.by.to_owned(),
            other: self.all[two.other].origin.clone(),
            other_by: two.other_by.to_owned(),
        })?;
        Ok(found.map_or_else(Limits::default, |(index, _)| self.all[index].clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{settings::Settings, users::Source};

    fn settings(limits: &str) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "vsmserver:\n  subclusters: {{lab: {{agents: [a], groups: [students]}}, rest: {{agents: [b]}}}}\n  limits:\n{limits}"
        );
        fs::write(dir.path().join("a.yaml"), text).unwrap();
        let config = Config::load(dir.path()).map_err(|error| error.to_string())?;
        Settings::new(&config).map_err(|error| error.to_string())
    }

    fn who(user: &str, groups: &[&str]) -> Identity {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Identity { user: user.parse().unwrap(), groups, source: Source::Nss }
    }

    #[test]
    fn users_go_before_groups_and_groups_before_subclusters_and_these_before_the_default() {
        let settings = settings(
            "    boss: {users: [ann], lifetime_max: 1h}\n    staff: {groups: [staff], lifetime_max: 2h}\n    \
             lab: {subclusters: [lab], lifetime_max: 3h}\n    all: {lifetime_max: 4h}\n",
        )
        .unwrap();
        let of = |user, groups: &[&str]| {
            let limits = settings.limits_of(&who(user, groups)).unwrap();
            (limits.origin, limits.lifetime_ms / 3_600_000)
        };
        assert_eq!(of("ann", &["staff", "students"]), ("boss".to_owned(), 1));
        assert_eq!(of("bob", &["staff", "students"]), ("staff".to_owned(), 2));
        assert_eq!(of("bob", &["students"]), ("lab".to_owned(), 3));
        assert_eq!(of("bob", &[]), ("all".to_owned(), 4));
        assert!(settings.named_groups().contains("staff"));
        let none = tests::settings("    boss: {users: [ann], lifetime_max: 1h}\n").unwrap();
        assert_eq!(none.limits_of(&who("bob", &[])).unwrap(), Limits::default());
        assert_eq!(
            Settings::new(&Config::defaults()).unwrap().limits_of(&who("bob", &[])).unwrap(),
            Limits::default()
        );
    }

    #[test]
    fn what_is_not_clear_or_cannot_be_kept_is_refused_by_name() {
        let two = settings("    a: {users: [ann]}\n    b: {users: [bob, ann]}\n").unwrap_err();
        assert_eq!(
            two,
            "/vsmserver/limits/a and /vsmserver/limits/b both have ann among their users"
        );
        let two = settings("    a: {idle_max: 1h}\n    b: {idle_max: 2h}\n").unwrap_err();
        assert!(two.contains("neither users, groups nor subclusters"), "{two}");
        let two =
            settings("    a: {subclusters: [lab]}\n    b: {subclusters: [lab]}\n").unwrap_err();
        assert!(two.ends_with("both have lab among their subclusters"), "{two}");
        let none = settings("    a: {subclusters: [lap]}\n").unwrap_err();
        assert_eq!(none, "/vsmserver/limits/a/subclusters: there is no subcluster lap");
        let late = settings("    a: {idle_max: 5m}\n").unwrap_err();
        assert_eq!(
            late,
            "/vsmserver/limits/a/warn_before (5 min) must be less than idle_max (5 min), so that the warning comes before the end"
        );
        let settings = settings("    a: {groups: [g]}\n    b: {groups: [h]}\n").unwrap();
        let refused = settings.limits_of(&who("ann", &["g", "h"])).unwrap_err();
        assert_eq!(refused.code().0, "AMBIGUOUS_LIMITS");
        let text = refused.to_string();
        for word in ["ann", "/vsmserver/limits/a", "group g", "/vsmserver/limits/b", "group h"] {
            assert!(text.contains(word), "no {word} in {text}");
        }
    }
}
