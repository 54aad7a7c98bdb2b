//! What the owner logs of itself: each time that this node becomes something else.

use vsm_core::replica::Standing;

/// Logs what this node has become.
pub(super) fn tell(before: &Standing, now: &Standing) {
    match (before, now) {
        (Standing::Standby { leader: was }, Standing::Standby { leader }) if was != leader => {
            let leader = leader.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
            tracing::info!(leader, "standby");
        }
        (Standing::Active { .. } | Standing::Claiming(_), Standing::Standby { leader }) => {
            let leader =
                leader.as_ref().map_or_else(|| "nobody yet".to_owned(), ToString::to_string);
            tracing::info!(leader, "not active any more");
        }
        (Standing::Standby { .. } | Standing::Active { .. }, Standing::Claiming(epoch)) => {
            tracing::info!(%epoch, "asking for votes");
        }
        (
            Standing::Active { ready: true, votes: was, synced: synced_was, .. },
            Standing::Active { votes, synced, .. },
        ) => {
            match (was, votes) {
                (true, false) => tracing::error!(
                    "neither the other broker nor enough witnesses answer: no new desktops"
                ),
                (false, true) => tracing::info!("there are votes again"),
                (true, true) | (false, false) => {}
            }
            match (synced_was, synced) {
                (true, false) => tracing::warn!(
                    "the other broker is behind or away: the witnesses take its place"
                ),
                (false, true) => tracing::info!("the other broker has everything"),
                (true, true) | (false, false) => {}
            }
        }
        (_, Standing::Active { epoch, ready: true, .. }) => {
            tracing::info!(%epoch, "active");
        }
        (_, Standing::Active { .. } | Standing::Claiming(_) | Standing::Standby { .. }) => {}
    }
}
