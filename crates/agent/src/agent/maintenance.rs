//! Whether the host is in maintenance: `/run/nologin` or `/etc/nologin` is there, by which its sshd lets in nobody but
//! root. Looked at every two seconds, as the load is, and told at once when it changes.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use vsm_daemon::{duty::Duties, nologin};

use crate::refusal::one_line;

const EVERY: Duration = Duration::from_secs(2);

/// What the host says to those who want to log in, in one line, perhaps an empty one; none = it is not in maintenance.
pub(super) type Maintenance = Option<Arc<str>>;

/// Whether it is now and as it changes, until `stop`.
pub(super) fn watch(duties: &Duties, stop: CancellationToken) -> watch::Receiver<Maintenance> {
    let (sender, receiver) = watch::channel(look(nologin::text()));
    duties.run("look at maintenance", async move {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let now = look(nologin::text());
            sender.send_if_modified(|told| {
                if *told == now {
                    return false;
                }
                tracing::info!(
                    text = now.as_deref(),
                    maintenance = now.is_some(),
                    "{}",
                    words(&now)
                );
                *told = now;
                true
            });
        }
    });
    receiver
}

const fn words(now: &Maintenance) -> &'static str {
    match now {
        Some(_) => "this host is in maintenance: new desktops are root's alone",
        None => "this host is not in maintenance any more",
    }
}

fn look(text: Option<String>) -> Maintenance {
    text.map(|text| one_line(&text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_in_one_line_and_an_empty_one_counts() {
        assert_eq!(look(None), None);
        assert_eq!(look(Some(String::new())).as_deref(), Some(""));
        let text = "new disks,\nback at \u{1b}[1mnoon\n".to_owned();
        assert_eq!(look(Some(text)).as_deref(), Some("new disks, back at  [1mnoon"));
    }
}
