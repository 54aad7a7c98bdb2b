//! Which subcluster a user belongs to, looked up by name, however many groups they are in.
//!
//! Where the answer would not be clear there is none: what the configuration alone makes unclear is refused when it is
//! loaded, and what a user's own groups make unclear is refused at their login, naming both.

use vsm_config::Subcluster;

use crate::{
    error::Refusal,
    site::members::{Because, Claims, Members, TwoFolders},
    users::Identity,
};

/// Where they are in the configuration.
const FOLDER: &str = "/vsmserver/subclusters";

/// The subclusters of a configuration.
#[derive(Debug, Clone)]
pub struct Subclusters {
    all: Vec<Subcluster>,
    members: Members,
}

impl Subclusters {
    /// Takes those of a configuration.
    ///
    /// # Errors
    /// If a user or a group is bound to two of them, or two are the default.
    pub fn new(all: Vec<Subcluster>) -> Result<Self, TwoFolders> {
        let claims = all.iter().map(|one| Claims {
            name: &one.name,
            users: &one.users,
            groups: &one.groups,
            subclusters: None,
        });
        let members = Members::new(FOLDER, claims)?;
        Ok(Self { all, members })
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> &[Subcluster] {
        &self.all
    }

    /// The user's subcluster for new sessions: one that names the user, else the one that names groups of theirs, else
    /// the default.
    ///
    /// # Errors
    /// If none takes the user, or their groups lead to two.
    pub fn of<'a>(&'a self, who: &'a Identity) -> Result<(&'a Subcluster, Because<'a>), Refusal> {
        let found = self.members.of(who, None).map_err(|two| Refusal::AmbiguousSubcluster {
            user: who.user.clone(),
            one: self.all[two.one].name.clone(),
            by: two.by.to_owned(),
            other: self.all[two.other].name.clone(),
            other_by: two.other_by.to_owned(),
        })?;
        let (index, because) = found.ok_or_else(|| Refusal::NoSubcluster(who.user.clone()))?;
        Ok((&self.all[index], because))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::Source;

    fn subcluster(name: &str, users: &[&str], groups: &[&str]) -> Subcluster {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Subcluster {
            name: name.to_owned(),
            agents: vec!["a".to_owned()],
            users: words(users),
            groups: words(groups),
            max_users_per_agent: 0,
        }
    }

    fn who(user: &str, groups: &[&str]) -> Identity {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Identity { user: user.parse().unwrap(), groups, source: Source::Nss }
    }

    fn all() -> Subclusters {
        Subclusters::new(vec![
            subcluster("lab", &["ann"], &["physics", "chemistry"]),
            subcluster("rest", &[], &[]),
            subcluster("staff", &["bob"], &["staff"]),
        ])
        .unwrap()
    }

    #[test]
    fn users_go_before_groups_and_groups_before_the_default() {
        let all = all();
        let of = |user, groups: &[&str]| {
            let who = who(user, groups);
            let (subcluster, because) = all.of(&who).unwrap();
            (subcluster.name.clone(), format!("{because:?}"))
        };
        let is = |name: &str, because: &str| (name.to_owned(), because.to_owned());
        assert_eq!(of("ann", &["staff"]), is("lab", "User"));
        assert_eq!(of("bob", &["physics"]), is("staff", "User"));
        assert_eq!(of("cas", &["users", "staff"]), is("staff", "Group(\"staff\")"));
        assert_eq!(of("cas", &["users"]), is("rest", "Default"));
        // Two groups of one subcluster are clear.
        assert_eq!(of("dan", &["chemistry", "physics"]), is("lab", "Group(\"chemistry\")"));
    }

    #[test]
    fn a_user_whose_groups_lead_to_two_is_refused_naming_both() {
        let all = all();
        let refused = all.of(&who("cas", &["physics", "staff"])).unwrap_err();
        assert_eq!(refused.code().0, "AMBIGUOUS_SUBCLUSTER");
        let text = refused.to_string();
        for word in ["cas", "/vsmserver/subclusters/lab", "physics", "/vsmserver/subclusters/staff"]
        {
            assert!(text.contains(word), "no {word} in {text}");
        }
        let none = Subclusters::new(vec![subcluster("lab", &["ann"], &[])]).unwrap();
        assert_eq!(none.of(&who("bob", &[])).unwrap_err().code().0, "NO_SUBCLUSTER");
    }

    #[test]
    fn what_the_configuration_makes_unclear_names_both_folders() {
        let text = |two: [Subcluster; 2]| Subclusters::new(two.into()).unwrap_err().to_string();
        let both = "/vsmserver/subclusters/a and /vsmserver/subclusters/b both have ";
        let defaults = [subcluster("a", &[], &[]), subcluster("b", &[], &[])];
        assert!(text(defaults).starts_with(&format!("{both}neither users nor groups")));
        let users = [subcluster("a", &["u"], &[]), subcluster("b", &["u"], &[])];
        assert_eq!(text(users), format!("{both}u among their users"));
        let groups = [subcluster("a", &[], &["g"]), subcluster("b", &[], &["g"])];
        assert_eq!(text(groups), format!("{both}g among their groups"));
        // Twice in one list is only untidy.
        assert!(Subclusters::new(vec![subcluster("a", &["u", "u"], &[])]).is_ok());
    }

    #[test]
    fn ten_thousand_groups_are_looked_up_one_by_one() {
        let groups: Vec<String> = (0..10_000).map(|n| format!("g{n}")).collect();
        let mut subclusters: Vec<_> =
            (0..1_000).map(|n| subcluster(&format!("s{n:04}"), &[], &[&format!("h{n}")])).collect();
        subclusters.push(subcluster("z", &[], &["g9999"]));
        let all = Subclusters::new(subclusters).unwrap();
        let who = Identity { user: "ann".parse().unwrap(), groups, source: Source::Nss };
        assert_eq!(all.of(&who).unwrap().0.name, "z");
    }
}
