//! Whose desktops have which limits (`/vsmserver/limits`), and telling the agents.
//!
//! The agent is told the limits with the start, and from then on whenever they are not what the configuration says:
//! when its report comes in, when the configuration changes, when the user comes back. It keeps to them by itself.

use vsm_config::{Config, LimitsFolder};
use vsm_core::Limits;

use crate::{
    error::Refusal,
    site::{
        members::{Claims, Members, TwoFolders},
        subclusters::Subclusters,
    },
    users::Identity,
};

/// Where they are in the configuration.
const FOLDER: &str = "/vsmserver/limits";

/// The limits of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifetimes {
    all: Vec<Limits>,
    groups: Vec<String>,
    members: Members,
}

impl Lifetimes {
    /// Reads those of a configuration.
    ///
    /// # Errors
    /// If two folders claim the same.
    pub fn new(config: &Config) -> Result<Self, TwoFolders> {
        let folders = config.limits();
        let members = Members::new(
            FOLDER,
            folders.iter().map(|folder| Claims {
                name: &folder.name,
                users: &folder.users,
                groups: &folder.groups,
                subclusters: Some(&folder.subclusters),
            }),
        )?;
        let all = folders.iter().map(LimitsFolder::limits).collect();
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
    use crate::{site::settings::Settings, users::Source};

    fn settings(limits: &str) -> Result<Settings, String> {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "vsmserver:\n  subclusters: {{lab: {{agents: [a], groups: [students]}}, rest: {{agents: [b]}}}}\n  limits:\n{limits}"
        );
        fs::write(dir.path().join("a.yaml"), text).unwrap();
        let config = Config::load(dir.path()).map_err(|error| error.to_string())?;
        let place = format!("{}:", dir.path().join("a.yaml").display());
        // Each refusal is one line that begins with its file and line.
        Settings::new(&config).map_err(|error| {
            let error = error.to_string();
            error.strip_prefix(&place).unwrap().split_once(": ").unwrap().1.to_owned()
        })
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
