//! One look-up in the host's user database. It blocks, for as long as a directory service likes.

use std::{collections::BTreeSet, ffi::CString};

use nix::unistd::{Group, Uid, User, getgrouplist};
use vsm_core::UserName;

use super::{Identity, LookupError, Source};

/// Who the uid is, and in which of these groups.
pub(super) fn look_up(
    uid: u32,
    named: &BTreeSet<String>,
    tell_name: &mut dyn FnMut(UserName),
) -> Result<Identity, LookupError> {
    let down = |error: nix::Error| LookupError::Down(error.to_string());
    let user =
        User::from_uid(Uid::from_raw(uid)).map_err(down)?.ok_or(LookupError::Unknown(uid))?;
    let name =
        user.name.parse::<UserName>().map_err(|error| LookupError::BadName(error.to_string()))?;
    tell_name(name.clone());
    let mut groups = Vec::new();
    if !named.is_empty() {
        let c_name =
            CString::new(user.name).map_err(|error| LookupError::BadName(error.to_string()))?;
        let gids = getgrouplist(&c_name, user.gid).map_err(down)?;
        // Each look-up of a group may be a walk through a long file, so the shorter list is looked up.
        if gids.len() <= named.len() {
            for gid in gids {
                // A group without a name is one that no configuration can mean; one that NSS cannot look up now is not.
                let group = Group::from_gid(gid).map_err(down)?.map(|group| group.name);
                groups.extend(group.filter(|name| named.contains(name)));
            }
        } else {
            for name in named {
                let group = Group::from_name(name).map_err(down)?;
                if group.is_some_and(|group| gids.contains(&group.gid)) {
                    groups.push(name.clone());
                }
            }
        }
    }
    Ok(Identity { user: name, groups, source: Source::Nss })
}

/// The uid of a login name.
pub(super) fn uid(name: &str) -> Result<u32, LookupError> {
    let user = User::from_name(name).map_err(|error| LookupError::Down(error.to_string()))?;
    let none = || LookupError::BadName(format!("there is no user {name}"));
    user.map(|user| user.uid.as_raw()).ok_or_else(none)
}

/// Names of a user's groups, the first so many: for administrators, who look for the one that is missing.
///
/// # Errors
/// If NSS fails.
pub(crate) fn groups(user: &User, max: usize) -> Result<Vec<String>, nix::Error> {
    let name = CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
    let gids = getgrouplist(&name, user.gid)?;
    let names = gids.into_iter().take(max).filter_map(|gid| Group::from_gid(gid).transpose());
    names.map(|group| group.map(|group| group.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_from_either_side() {
        let many: Vec<String> = (0..500).map(|n| format!("no-such-{n}")).collect();
        let mut all: BTreeSet<String> = many.into_iter().collect();
        all.insert("root".to_owned());
        assert_eq!(look_up(0, &all, &mut |_| {}).unwrap().groups, ["root"], "by the user's ids");
        let few = BTreeSet::from(["root".to_owned()]);
        assert_eq!(look_up(0, &few, &mut |_| {}).unwrap().groups, ["root"]);
        let root = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
        assert_eq!(groups(&root, 1).unwrap(), ["root"]);
        assert_eq!(uid("root"), Ok(0));
        assert!(matches!(uid("no such user"), Err(LookupError::BadName(_))));
    }
}
