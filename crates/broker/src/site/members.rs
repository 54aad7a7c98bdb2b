//! Which of several folders of the configuration is a user's: of subclusters, of limits. Looked up by name, however
//! many groups they are in.
//!
//! Where the answer would not be clear there is none: what the configuration alone makes unclear is refused when it is
//! loaded, and what a user's own groups make unclear is told with the names of both.

use std::collections::HashMap;

use crate::users::Identity;

/// Two folders that claim the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{above}/{one} and {above}/{other} {what}")]
pub struct TwoFolders {
    above: &'static str,
    one: String,
    other: String,
    what: String,
}

/// Whom a folder names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claims<'a> {
    pub(crate) name: &'a str,
    pub(crate) users: &'a [String],
    pub(crate) groups: &'a [String],
    /// None = folders of this kind name no subclusters.
    pub(crate) subclusters: Option<&'a [String]>,
}

/// Who belongs to which folder, by its place among all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Members {
    by_user: HashMap<String, usize>,
    by_group: HashMap<String, usize>,
    by_subcluster: HashMap<String, usize>,
    default: Option<usize>,
}

/// By which rule a user belongs to a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because<'a> {
    /// It names the user.
    User,
    /// It names this group of theirs.
    Group(&'a str),
    /// It names this subcluster of theirs.
    Subcluster(&'a str),
    /// It names nobody, and no other names them.
    Default,
}

/// Two folders that a user's groups lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TwoGroups<'a> {
    pub(crate) one: usize,
    pub(crate) by: &'a str,
    pub(crate) other: usize,
    pub(crate) other_by: &'a str,
}

impl Members {
    /// Takes the claims of folders that lie in the folder `above`.
    ///
    /// # Errors
    /// If two of them name the same, or two are the default.
    pub(crate) fn new<'a>(
        above: &'static str,
        all: impl IntoIterator<Item = Claims<'a>>,
    ) -> Result<Self, TwoFolders> {
        let all: Vec<Claims<'a>> = all.into_iter().collect();
        let mut built = Self::default();
        for (index, folder) in all.iter().enumerate() {
            let two = |earlier: usize, what: String| TwoFolders {
                above,
                one: all[earlier].name.to_owned(),
                other: folder.name.to_owned(),
                what,
            };
            let subclusters = folder.subclusters.unwrap_or_default();
            let lists = [
                (&mut built.by_user, folder.users, "users"),
                (&mut built.by_group, folder.groups, "groups"),
                (&mut built.by_subcluster, subclusters, "subclusters"),
            ];
            let mut names_nobody = true;
            for (known, members, list) in lists {
                names_nobody &= members.is_empty();
                for member in members {
                    match known.insert(member.clone(), index) {
                        Some(earlier) if earlier != index => {
                            let what = format!("both have {member} among their {list}");
                            return Err(two(earlier, what));
                        }
                        Some(_) | None => {}
                    }
                }
            }
            if names_nobody && let Some(earlier) = built.default.replace(index) {
                let lists = match folder.subclusters {
                    Some(_) => "users, groups nor subclusters",
                    None => "users nor groups",
                };
                let what = format!("both have neither {lists}: only one may be the default");
                return Err(two(earlier, what));
            }
        }
        Ok(built)
    }

    /// The user's folder: one that names the user, else the one that names groups of theirs, else the one of their
    /// subcluster, else the default; none = there is none for them.
    ///
    /// # Errors
    /// If their groups lead to two.
    pub(crate) fn of<'a>(
        &self,
        who: &'a Identity,
        subcluster: Option<&'a str>,
    ) -> Result<Option<(usize, Because<'a>)>, TwoGroups<'a>> {
        if let Some(index) = self.by_user.get(who.user.as_str()) {
            return Ok(Some((*index, Because::User)));
        }
        let mut found: Option<(usize, &str)> = None;
        for group in &who.groups {
            let Some(other) = self.by_group.get(group).copied() else { continue };
            match found {
                None => found = Some((other, group)),
                Some((one, _)) if one == other => {}
                Some((one, by)) => return Err(TwoGroups { one, by, other, other_by: group }),
            }
        }
        if let Some((index, group)) = found {
            return Ok(Some((index, Because::Group(group))));
        }
        let of_subcluster = subcluster.and_then(|name| {
            self.by_subcluster.get(name).map(|index| (*index, Because::Subcluster(name)))
        });
        Ok(of_subcluster.or_else(|| self.default.map(|index| (index, Because::Default))))
    }
}
