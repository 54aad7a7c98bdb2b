//! Stopping and reloading as values that are passed in: SIGTERM and SIGINT stop, SIGHUP reloads.

use std::{io, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

/// Handed to everything that runs for long.
#[derive(Debug, Clone)]
pub struct Stop {
    /// Cancelled once the process is to stop: accept nothing new, finish what is under way, go.
    pub token: CancellationToken,
    /// Woken once for each SIGHUP.
    pub reload: Arc<Notify>,
}

impl Stop {
    /// One that no signal touches, for tests and for parts of a process.
    #[must_use]
    pub fn manual() -> Self {
        Self { token: CancellationToken::new(), reload: Arc::new(Notify::new()) }
    }

    /// Waits until the configuration is to be read again; false = the process is to stop.
    pub async fn until_reload(&self) -> bool {
        self.token.run_until_cancelled(self.reload.notified()).await.is_some()
    }

    /// Listens to the process' signals.
    ///
    /// # Errors
    /// If a signal handler cannot be set.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::manual();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let (token, reload) = (stop.token.clone(), Arc::clone(&stop.reload));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = hang_up.recv() => reload.notify_one(),
                }
            }
            token.cancel();
        });
        Ok(stop)
    }
}
