//! What `vsm-agent-net` is to know before it lets a broker in, and what it is to do afterwards: it follows this process
//! all the time, and so notices when it is gone.

use std::{io, sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Agent, caller::Caller};
use crate::message::{BEAT_EVERY, Order, PART_MAX};

/// How long it may be away without a word about it.
const RESTART_MAX: Duration = Duration::from_secs(3);

/// How long it may take until it is there for the first time: it is started just after this process.
const FIRST_MAX: Duration = Duration::from_secs(10);

/// How long it may take to stop: as long as calls of brokers that are under way.
pub(super) const STOP_MAX: Duration = Duration::from_secs(12);

/// Tells it all, until `stop` or until nobody listens.
pub(super) async fn give(
    agent: &Arc<Agent>,
    caller: Caller,
    stop: &CancellationToken,
) -> io::Result<()> {
    let (gone, mut teller) = caller.parts();
    let mut reloads = agent.reloads.subscribe();
    reloads.mark_unchanged();
    teller.say(&Order::Hello { boot_id: agent.boot_id.clone() }).await?;
    let revoked: Vec<_> = agent.revoked.all().into_iter().collect();
    for part in revoked.chunks(PART_MAX) {
        teller.say(&Order::Revoked(part.to_vec())).await?;
    }
    teller.say(&Order::Ready).await?;
    agent.followers.send_modify(|count| *count += 1);
    tracing::info!("vsm-agent-net is here: brokers reach this host");
    let mut beats = tokio::time::interval(BEAT_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let gone = gone.gone();
    tokio::pin!(gone);
    let said = loop {
        let order = tokio::select! {
            biased;
            () = stop.cancelled() => {
                teller.say(&Order::Stop).await?;
                // It ends before this process, so that a start of both finds neither.
                let _ = tokio::time::timeout(STOP_MAX, &mut gone).await;
                return Ok(());
            }
            () = &mut gone => break Ok(()),
            Ok(()) = reloads.changed() => Order::Reload,
            _ = beats.tick() => Order::Beat,
        };
        if let Err(error) = teller.say(&order).await {
            break Err(error);
        }
    };
    agent.followers.send_modify(|count| *count -= 1);
    tell_away(agent, RESTART_MAX, stop).await;
    said
}

/// Says that nobody has come since this process began, unless somebody does soon.
pub(super) async fn wait_for_first(agent: Arc<Agent>, stop: CancellationToken) {
    tell_away(&agent, FIRST_MAX, &stop).await;
}

/// Says that nobody is there, unless somebody comes soon: it may be restarted.
async fn tell_away(agent: &Agent, longest: Duration, stop: &CancellationToken) {
    let mut followers = agent.followers.subscribe();
    let back = tokio::time::timeout(longest, followers.wait_for(|count| *count > 0));
    let gone = tokio::select! {
        biased;
        () = stop.cancelled() => false,
        back = back => back.is_err(),
    };
    if gone {
        tracing::warn!(
            "vsm-agent-net is not there: brokers do not reach this host until it is back (systemctl status vsm-agent-net); desktops go on"
        );
    }
}
