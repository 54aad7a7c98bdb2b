//! Whether the host is in maintenance: `/run/nologin` or `/etc/nologin` is there, by which its sshd lets in nobody but root.
//! Looked at every two seconds, as the load is, and told at once when it changes.

use std::{fs::File, io::Read, sync::Arc, time::Duration};

use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use vsm_daemon::duty::Duties;

use crate::spec::one_line;

const EVERY: Duration = Duration::from_secs(2);
/// As `pam_nologin` looks for them.
const FILES: [&str; 2] = ["/run/nologin", "/etc/nologin"];
/// Most bytes that are read: it is shown in a line.
const TEXT_MAX: u64 = 2048;

/// What the host says to those who want to log in, in one line, perhaps an empty one; none = it is not in maintenance.
pub(super) type Maintenance = Option<Arc<str>>;

/// Whether it is now and as it changes, until `stop`.
pub(super) fn watch(duties: &Duties, stop: CancellationToken) -> watch::Receiver<Maintenance> {
    let (sender, receiver) = watch::channel(look(&FILES));
    duties.run("look at maintenance", async move {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let now = look(&FILES);
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

/// The text of the first of these files that can be opened.
fn look(files: &[&str]) -> Maintenance {
    let file = files.iter().find_map(|path| File::open(path).ok())?;
    let mut text = Vec::new();
    // What cannot be read is in the way of logins all the same.
    let _ = file.take(TEXT_MAX).read_to_end(&mut text);
    Some(one_line(&String::from_utf8_lossy(&text)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_is_told_in_one_line_and_an_empty_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["run", "etc"].map(|name| dir.path().join(name).display().to_string());
        let [run, etc] = [paths[0].as_str(), paths[1].as_str()];
        assert_eq!(look(&[run, etc]), None);
        std::fs::write(etc, "").unwrap();
        assert_eq!(look(&[run, etc]).as_deref(), Some(""));
        std::fs::write(run, "new disks,\nback at \u{1b}[1mnoon\n").unwrap();
        assert_eq!(look(&[run, etc]).as_deref(), Some("new disks, back at  [1mnoon"));
    }
}
