//! Whether the root helper is there: told while it is not, though nothing may need it just then.

use std::{sync::Arc, time::Duration};

use vsm_daemon::trouble::Kind;
use vsm_root::client::Lost;

use crate::process::Process;

/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// So often in a row it must be away: it is started anew in less.
const SILENT_LOOKS: u32 = 2;

/// Looks for it until the broker stops.
pub(crate) async fn follow(process: Arc<Process>) {
    let mut silent = 0;
    loop {
        match process.helper.look() {
            Ok(()) => {
                silent = 0;
                process.troubles.over(Kind::RootHelper, "");
            }
            Err(lost) => {
                silent += 1;
                if silent >= SILENT_LOOKS {
                    told(&process, &lost);
                }
            }
        }
        tokio::select! {
            biased;
            () = process.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Tells that it did not answer; over when it is seen again.
pub(crate) fn told(process: &Process, lost: &Lost) {
    let what =
        format!("{lost}: no hook is run, no mail sent, and nothing taken from the other node");
    process.troubles.raise(Kind::RootHelper, "", what);
}
