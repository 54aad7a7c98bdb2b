//! Limits of sessions' lives, and how sessions stand against them.

use vsm_core::{Ends, LIMIT_MAX_MS, Limit, Limits, ORIGIN_MAX, Standing, UnixMillis};

use super::Invalid;
use crate::session::v1 as pb;

impl TryFrom<pb::Limits> for Limits {
    type Error = Invalid;

    fn try_from(limits: pb::Limits) -> Result<Self, Invalid> {
        if limits.origin.len() > ORIGIN_MAX || limits.origin.chars().any(char::is_control) {
            return Err(Invalid::new("limits.origin", "is not the name of a folder"));
        }
        let time = |field, ms: u64| {
            if ms > LIMIT_MAX_MS {
                return Err(Invalid::new(field, format!("is more than {LIMIT_MAX_MS}")));
            }
            Ok(ms)
        };
        Ok(Self {
            origin: limits.origin,
            disconnected_ms: time("limits.disconnected_ms", limits.disconnected_ms)?,
            connected_ms: time("limits.connected_ms", limits.connected_ms)?,
            idle_ms: time("limits.idle_ms", limits.idle_ms)?,
            idle_disconnect_ms: time("limits.idle_disconnect_ms", limits.idle_disconnect_ms)?,
            lifetime_ms: time("limits.lifetime_ms", limits.lifetime_ms)?,
            warn_ms: time("limits.warn_ms", limits.warn_ms)?,
            warn_again_ms: time("limits.warn_again_ms", limits.warn_again_ms)?,
            extension_ms: time("limits.extension_ms", limits.extension_ms)?,
            extensions: limits.extensions,
        })
    }
}

impl From<&Limits> for pb::Limits {
    fn from(limits: &Limits) -> Self {
        Self {
            origin: limits.origin.clone(),
            disconnected_ms: limits.disconnected_ms,
            connected_ms: limits.connected_ms,
            idle_ms: limits.idle_ms,
            idle_disconnect_ms: limits.idle_disconnect_ms,
            lifetime_ms: limits.lifetime_ms,
            warn_ms: limits.warn_ms,
            warn_again_ms: limits.warn_again_ms,
            extension_ms: limits.extension_ms,
            extensions: limits.extensions,
        }
    }
}

impl TryFrom<pb::Standing> for Standing {
    type Error = Invalid;

    fn try_from(standing: pb::Standing) -> Result<Self, Invalid> {
        let since = standing.disconnected_since_unix_ms;
        let ends = standing.deadline.and_then(|deadline| {
            // One of a kind that a newer agent knows is not told of.
            let limit = Limit::of_key(&deadline.limit)?;
            Some(Ends { limit, at: UnixMillis(deadline.at_unix_ms), warned: deadline.warned })
        });
        Ok(Self {
            limits: standing.limits.unwrap_or_default().try_into()?,
            disconnected_since: Some(UnixMillis(since)).filter(|since| since.0 > 0),
            idle_ms: standing.idle_ms,
            ends,
            extensions_used: standing.extensions_used,
        })
    }
}

impl From<&Standing> for pb::Standing {
    fn from(standing: &Standing) -> Self {
        let deadline = standing.ends.map(|ends| pb::Deadline {
            limit: ends.limit.key().to_owned(),
            at_unix_ms: ends.at.0,
            warned: ends.warned,
        });
        Self {
            limits: Some((&standing.limits).into()),
            disconnected_since_unix_ms: standing.disconnected_since.map_or(0, |since| since.0),
            idle_ms: standing.idle_ms,
            deadline,
            extensions_used: standing.extensions_used,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_survives_and_what_is_beyond_reason_does_not() {
        let limits = Limits {
            origin: "staff".to_owned(),
            disconnected_ms: 1,
            connected_ms: 2,
            idle_ms: 3,
            idle_disconnect_ms: 4,
            lifetime_ms: 5,
            warn_ms: 6,
            warn_again_ms: 7,
            extension_ms: 8,
            extensions: 9,
        };
        let ends = Ends { limit: Limit::Idle, at: UnixMillis(10), warned: true };
        let standing = Standing {
            limits,
            disconnected_since: Some(UnixMillis(11)),
            idle_ms: Some(0),
            ends: Some(ends),
            extensions_used: 1,
        };
        let told = pb::Standing::from(&standing);
        assert_eq!(Standing::try_from(told.clone()).unwrap(), standing);
        let newer = pb::Deadline { limit: "mood_max".to_owned(), ..Default::default() };
        let newer = pb::Standing { deadline: Some(newer), ..told.clone() };
        assert_eq!(Standing::try_from(newer).unwrap().ends, None);
        let limits = pb::Limits { idle_ms: u64::MAX, ..told.limits.clone().unwrap() };
        let error = Limits::try_from(limits).unwrap_err();
        assert_eq!(error.field, "limits.idle_ms");
        let limits = pb::Limits { origin: "x".repeat(300), ..told.limits.unwrap() };
        assert_eq!(Limits::try_from(limits).unwrap_err().field, "limits.origin");
        assert_eq!(Standing::try_from(pb::Standing::default()).unwrap(), Standing::default());
    }
}
