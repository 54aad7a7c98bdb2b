//! Which subcluster a user belongs to, looked up by name, however many groups they are in.
//!
//! Where the answer would not be clear there is none: what the configuration alone makes unclear is refused when it is
//! loaded, and what a user's own groups make unclear is refused at their login, naming both.

use std::collections::HashMap;

use vsm_config::Subcluster;

use crate::{error::Refusal, users::Identity};

/// Two subclusters that claim the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("/vsmserver/subclusters/{one} and /vsmserver/subclusters/{other} {what}")]
pub struct TwoSubclusters {
    one: String,
    other: String,
    what: String,
}

/// The subclusters of a configuration.
#[derive(Debug, Clone)]
pub struct Subclusters {
    all: Vec<Subcluster>,
    by_user: HashMap<String, usize>,
    by_group: HashMap<String, usize>,
    default: Option<usize>,
}

/// By which rule a user belongs to a subcluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because<'a> {
    /// It names the user.
    User,
    /// It names this group of theirs.
    Group(&'a str),
    /// It names nobody, and no other names them.
    Default,
}

impl Subclusters {
    /// Takes those of a configuration.
    ///
    /// # Errors
    /// If a user or a group is bound to two of them, or two are the default.
    pub fn new(all: Vec<Subcluster>) -> Result<Self, TwoSubclusters> {
        let mut built = Self {
            all: Vec::new(),
            by_user: HashMap::new(),
            by_group: HashMap::new(),
            default: None,
        };
        for (index, subcluster) in all.iter().enumerate() {
            let two = |earlier: usize, what: String| TwoSubclusters {
                one: all[earlier].name.clone(),
                other: subcluster.name.clone(),
                what,
            };
            let lists = [
                (&mut built.by_user, &subcluster.users, "users"),
                (&mut built.by_group, &subcluster.groups, "groups"),
            ];
            for (known, members, list) in lists {
                for member in members {
                    match known.insert(member.clone(), index) {
                        Some(earlier) if earlier != index => {
                            return Err(two(
                                earlier,
                                format!("both have {member} among their {list}"),
                            ));
                        }
                        Some(_) | None => {}
                    }
                }
            }
            if subcluster.is_default()
                && let Some(earlier) = built.default.replace(index)
            {
                let what = "both have neither users nor groups: only one may be the default";
                return Err(two(earlier, what.to_owned()));
            }
        }
        built.all = all;
        Ok(built)
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
        if let Some(index) = self.by_user.get(who.user.as_str()) {
            return Ok((&self.all[*index], Because::User));
        }
        let mut found: Option<(usize, &str)> = None;
        for group in &who.groups {
            let Some(index) = self.by_group.get(group) else { continue };
            match found {
                None => found = Some((*index, group)),
                Some((first, _)) if first == *index => {}
                Some((first, by)) => {
                    return Err(Refusal::AmbiguousSubcluster {
                        user: who.user.clone(),
                        one: self.all[first].name.clone(),
                        by: by.to_owned(),
                        other: self.all[*index].name.clone(),
                        other_by: group.to_owned(),
                    });
                }
            }
        }
        if let Some((index, group)) = found {
            return Ok((&self.all[index], Because::Group(group)));
        }
        let default = self.default.ok_or_else(|| Refusal::NoSubcluster(who.user.clone()))?;
        Ok((&self.all[default], Because::Default))
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
