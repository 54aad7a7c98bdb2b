//! How a desktop stands against its limits, as it is printed; and putting off what they would do.

use serde::Serialize;
use vsm_core::{Limit, Words};
use vsm_proto::{broker::v1 as pb, session::v1::Standing};

use crate::{
    broker::{DEADLINE, Route, whole_id, with_deadline},
    exit::Failure,
    output, retry,
};

/// Times in seconds, 0 = no limit; the JSON fields are stable.
#[derive(Debug, Serialize)]
pub struct LimitsRow {
    /// The folder in `/vsmserver/limits`; empty = there are none.
    pub from: String,
    /// Without a viewer.
    pub disconnected_max: f64,
    /// Of one connection.
    pub connected_max: f64,
    /// Without input, until the desktop ends.
    pub idle_max: f64,
    /// Without input, until the viewer is disconnected.
    pub idle_disconnect: f64,
    /// In all.
    pub lifetime_max: f64,
}

/// The JSON fields are stable.
#[derive(Debug, Serialize)]
pub struct LifeRow {
    /// What it is kept to.
    pub limits: LimitsRow,
    /// RFC 3339; none = it is viewed.
    pub disconnected_since: Option<String>,
    /// Seconds since the last key or move of the pointer; none = not known.
    pub idle: Option<f64>,
    /// The parameter that acts next; none = none.
    pub ends_by: Option<String>,
    /// When, RFC 3339.
    pub ends_at: Option<String>,
    /// Whether the desktop was warned of it.
    pub warned: bool,
    /// How often that was put off.
    pub extensions_used: u32,
    /// How often it may be.
    pub extensions_max: u32,
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of ten years are exact in it")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

impl From<Standing> for LifeRow {
    fn from(standing: Standing) -> Self {
        let limits = standing.limits.unwrap_or_default();
        let (ends_at, ends_by, warned) = match standing.deadline {
            None => (None, None, false),
            Some(next) => (output::time(next.at_unix_ms), Some(next.limit), next.warned),
        };
        Self {
            limits: LimitsRow {
                from: limits.origin,
                disconnected_max: seconds(limits.disconnected_ms),
                connected_max: seconds(limits.connected_ms),
                idle_max: seconds(limits.idle_ms),
                idle_disconnect: seconds(limits.idle_disconnect_ms),
                lifetime_max: seconds(limits.lifetime_ms),
            },
            disconnected_since: output::time(standing.disconnected_since_unix_ms),
            idle: standing.idle_ms.map(seconds),
            ends_by,
            ends_at,
            warned,
            extensions_used: standing.extensions_used,
            extensions_max: limits.extensions,
        }
    }
}

/// `vsm extend`.
///
/// # Errors
/// If the broker cannot be asked, there is no such session, or it cannot be extended.
pub async fn extend(route: &Route, id: String) -> Result<(), Failure> {
    // Not tried again once it was asked: an answer that was lost may have cost one of few.
    let mut broker = retry::riding(&route.retry, async || route.dial().await).await?;
    let id = whole_id(&mut broker, &id).await?;
    let request = with_deadline(pb::ExtendSessionRequest { id }, DEADLINE);
    let answer = broker.extend_session(request).await?.into_inner();
    let what = match Limit::of_key(&answer.limit) {
        Some(limit) if !limit.ends() => "until the viewer of your desktop is disconnected",
        _ => "until your desktop ends",
    };
    let more = match answer.more {
        0 => "It cannot be extended again.".to_owned(),
        more => format!("It can be extended {more} more time(s)."),
    };
    output::say(&format!("There are {} now {what}. {more}", Words(answer.left_ms)))
}
