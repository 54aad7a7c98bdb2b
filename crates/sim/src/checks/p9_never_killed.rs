//! P9: a session ends by wish, with its host, or as a start that was given up and that nobody was handed.

use vsm_core::SessionId;

use super::truth::Truth;

pub(super) fn check(truth: &Truth, session: SessionId, why: &str) -> Option<String> {
    let life = truth.lives.get(&session)?;
    let right = match why {
        "host reboot" => true,
        "cancelled" => !life.handed || life.wished,
        _ => life.wished,
    };
    (!right).then(|| format!("P9: session {session} of {} was ended ({why})", life.user))
}
