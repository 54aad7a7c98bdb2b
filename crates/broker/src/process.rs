//! The process that all rooms live in: which node it is, since when it runs, its stop, its tasks and its troubles.

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use vsm_core::NodeName;
use vsm_daemon::{clock::Since, duty::Duties, tls::Tls, trouble::Troubles};
use vsm_root::client::Helper;

/// The process.
#[derive(Debug)]
pub struct Process {
    /// This node.
    pub node: NodeName,
    /// This host's identity.
    pub tls: Tls,
    /// When this process started.
    pub started: Since,
    /// Cancelled when the broker is to stop.
    pub stop: CancellationToken,
    /// Work that must not die with its caller; a stop waits for it.
    pub tasks: TaskTracker,
    /// Tasks that it cannot be without.
    pub duties: Duties,
    /// What is wrong with this broker.
    pub troubles: Troubles,
    /// Does what needs root.
    pub helper: Helper,
}

impl Process {
    /// This process, of which nothing runs yet.
    #[must_use]
    pub fn new(
        node: NodeName,
        tls: Tls,
        helper: Helper,
        started: Since,
        stop: CancellationToken,
    ) -> Self {
        Self {
            node,
            tls,
            started,
            duties: Duties::new(stop.clone()),
            stop,
            tasks: TaskTracker::new(),
            troubles: Troubles::default(),
            helper,
        }
    }

    /// Begins a duty that lasts until the broker stops, and has the stop wait for its end.
    pub(crate) fn run_to_the_last(
        &self,
        name: &'static str,
        duty: impl Future<Output = ()> + Send + 'static,
    ) {
        let awaited = self.tasks.token();
        self.duties.run(name, async move {
            duty.await;
            drop(awaited);
        });
    }
}
