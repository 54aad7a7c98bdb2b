//! P8: a request that made a session and is repeated gets the same session, as long as that is there. Where one of the
//! two was made without votes, which no other broker can know, it need not.

use std::collections::BTreeMap;

use vsm_core::{RequestId, SessionId, UserName};

use super::truth::Truth;

pub(super) fn check(
    truth: &Truth,
    requests: &mut BTreeMap<(UserName, RequestId), SessionId>,
    user: &UserName,
    request: RequestId,
    session: SessionId,
) -> Option<String> {
    let before = requests.insert((user.clone(), request), session)?;
    let life = truth.lives.get(&before)?;
    let is_unvoted = |id| truth.lives.get(id).is_some_and(|life| life.unvoted);
    if is_unvoted(&before) || is_unvoted(&session) {
        return None;
    }
    let made = life.request == request;
    (made && before != session && !life.wished && life.died.is_none()).then(|| {
        format!("P8: request {request} of {user} was answered by {before}, now by {session}")
    })
}
