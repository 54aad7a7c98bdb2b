//! P7: no user has been handed more sessions than they may have, not counting those whose end was asked for.

use vsm_core::UserName;

use super::truth::Truth;

pub(super) fn check(truth: &Truth, user: &UserName, cap: u32) -> Option<String> {
    let lives = truth.lives.iter();
    let has: Vec<_> = lives
        .filter(|(_, life)| {
            life.user == *user && life.handed && !life.wished && life.died.is_none()
        })
        .map(|(id, life)| format!("{id} on agent{}", life.agent))
        .collect();
    let many = has.len() > usize::try_from(cap).unwrap_or(usize::MAX);
    many.then(|| format!("P7: {user} has {}", has.join(", ")))
}
