//! Following `vsmagent`: what it says before brokers are let in, what is to be done, and when it is gone. While it is
//! away every call is refused at once, and reports end, so that brokers see this host as out of reach.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use vsm_daemon::{backoff::Backoff, clock};

use super::{
    Net,
    host::{Line, Lost},
};
use crate::message::{Order, SILENCE_MAX};

const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// How long this process waits for one that was never there: it takes a moment to be started again.
const ALONE_MAX: Duration = Duration::from_secs(10);

/// How it came to an end.
enum Over {
    /// It was told to stop, and so is this process. By the connection it sees when that is done.
    Stop(Line),
    /// It is gone.
    Lost(Lost),
}

/// Follows it until one of both stops; `here` has the boot of the host while it is there.
pub(super) async fn follow(net: Arc<Net>, here: watch::Sender<Option<String>>) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, rand::random());
    let stop = net.stop.token.clone();
    let (mut told, mut ever, began) = (false, false, clock::now());
    loop {
        let over = tokio::select! {
            biased;
            // To the calls that are under way it stays there.
            () = stop.cancelled() => return std::future::pending().await,
            over = once(&net, &here) => over,
        };
        let why = match over {
            // What is under way it does still, and waits for the end of this process: whoever starts both finds none.
            Over::Stop(line) => {
                tracing::info!("vsmagent stops, and so does this");
                stop.cancel();
                std::future::pending::<()>().await;
                return drop(line);
            }
            Over::Lost(why) => why,
        };
        let was_here = here.send_replace(None).is_some();
        ever |= was_here;
        if !ever && matches!(why, Lost::Away(_)) && began.elapsed() > ALONE_MAX {
            let _ = net.is_alone.set(());
            stop.cancel();
            // Whoever waits for it to be there waits until this process ends.
            return std::future::pending().await;
        }
        if was_here || !told {
            tracing::warn!(%why, "brokers are refused until vsmagent is back; desktops go on");
        }
        told = true;
        if was_here {
            backoff.reset();
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

async fn once(net: &Net, here: &watch::Sender<Option<String>>) -> Over {
    match orders(net, here).await {
        Ok(line) => Over::Stop(line),
        Err(why) => Over::Lost(why),
    }
}

/// Does what it says, until it says to stop.
async fn orders(net: &Net, here: &watch::Sender<Option<String>>) -> Result<Line, Lost> {
    let mut line = net.host.follow().await?;
    let mut boot = String::new();
    loop {
        match next(&mut line).await? {
            Order::Hello { boot_id } => boot = boot_id,
            Order::Revoked(part) => net.revoke(part),
            Order::Ready => {
                tracing::info!("vsmagent is here");
                here.send_replace(Some(boot.clone()));
            }
            Order::Beat => {}
            Order::Reload => net.stop.reload.notify_one(),
            Order::Stop => return Ok(line),
        }
    }
}

async fn next(line: &mut Line) -> Result<Order, Lost> {
    let next = tokio::time::timeout(SILENCE_MAX, line.next()).await;
    next.map_err(|_| Lost::Late(SILENCE_MAX))??.ok_or(Lost::Gone)
}
