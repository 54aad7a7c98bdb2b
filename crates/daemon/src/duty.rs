//! The tasks that a daemon cannot be without. One that panics, or ends before its time, would be missed by nobody until
//! something that it does is missing. So it takes the process down in good order, and its name is in the log: the
//! service manager starts a new one, and a pair's other broker takes over meanwhile.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

use tokio_util::sync::CancellationToken;

/// A duty that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} {how}")]
pub struct Failed {
    /// Which.
    pub name: &'static str,
    /// How: it ended, or panicked and with which words.
    pub how: String,
}

/// Whether a duty may be over before the daemon stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    WithTheDaemon,
    ByItself,
}

/// All duties of a daemon; copies share them.
#[derive(Debug, Clone)]
pub struct Duties {
    stop: CancellationToken,
    failed: Arc<OnceLock<Failed>>,
}

impl Duties {
    /// Those of a daemon that ends with `stop`, which a duty that fails cancels.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, failed: Arc::default() }
    }

    /// Begins one that lasts until the daemon stops.
    pub fn run(&self, name: &'static str, duty: impl Future<Output = ()> + Send + 'static) {
        self.begin(name, Ends::WithTheDaemon, duty);
    }

    /// Begins one that may be over before.
    pub fn run_to_its_end(
        &self,
        name: &'static str,
        duty: impl Future<Output = ()> + Send + 'static,
    ) {
        self.begin(name, Ends::ByItself, duty);
    }

    fn begin(
        &self,
        name: &'static str,
        ends: Ends,
        duty: impl Future<Output = ()> + Send + 'static,
    ) {
        let duties = self.clone();
        tokio::spawn(async move {
            let how = match tokio::spawn(duty).await {
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => format!("panicked: {}", words(&*panic)),
                    // The runtime goes down.
                    Err(_) => return,
                },
                Ok(()) if ends == Ends::ByItself || duties.stop.is_cancelled() => return,
                Ok(()) => "ended before its time".to_owned(),
            };
            tracing::error!(duty = name, how, "a duty failed; stopping");
            // The first counts: others may fail by it.
            let _ = duties.failed.set(Failed { name, how });
            duties.stop.cancel();
        });
    }

    /// The first that failed, if one has.
    #[must_use]
    pub fn failed(&self) -> Option<Failed> {
        self.failed.get().cloned()
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it gave no words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn failed(begin: impl FnOnce(&Duties)) -> Option<Failed> {
        let duties = Duties::new(CancellationToken::new());
        begin(&duties);
        let stopped =
            tokio::time::timeout(std::time::Duration::from_secs(30), duties.stop.cancelled());
        stopped.await.expect("the daemon is told to stop");
        duties.failed()
    }

    #[tokio::test]
    async fn one_that_ends_before_its_time_is_named_and_stops_the_daemon() {
        let how = "ended before its time".to_owned();
        let found = failed(|duties| duties.run("trail", async {})).await;
        assert_eq!(found, Some(Failed { name: "trail", how }));
    }

    #[tokio::test]
    async fn one_that_panics_is_named_with_its_words() {
        let number = 7;
        let duty = async move { panic!("no {number}") };
        let found = failed(|duties| duties.run_to_its_end("session", duty)).await.unwrap();
        assert_eq!(found.to_string(), "session panicked: no 7");
    }

    #[tokio::test]
    async fn the_end_of_the_daemon_is_no_failure() {
        let stop = CancellationToken::new();
        let duties = Duties::new(stop.clone());
        let (sent, mut over) = tokio::sync::mpsc::channel::<()>(1);
        let until = stop.clone();
        duties.run("trail", async move {
            until.cancelled().await;
            drop(sent);
        });
        duties.run_to_its_end("call", async {});
        stop.cancel();
        assert_eq!(over.recv().await, None);
        assert_eq!(duties.failed(), None);
    }
}
