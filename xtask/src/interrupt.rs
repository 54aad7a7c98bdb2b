//! Ctrl-C and SIGTERM: nothing that xtask set up outlives it.
//!
//! A cluster registers here while this process owns it. A signal marks the process as stopping,
//! which makes every wait fail at once, and a thread takes the registered clusters down and exits.
//! The owner's own clean-up may run at the same time: both take the cluster's lock, both are safe
//! to run twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cluster;

static STOPPING: AtomicBool = AtomicBool::new(false);
static OWNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static INSTALL: Once = Once::new();

/// Whether a signal has asked this process to stop.
#[must_use]
pub fn stopping() -> bool {
    STOPPING.load(Ordering::SeqCst)
}

/// Fails once the process was asked to stop.
///
/// # Errors
/// When SIGINT, SIGTERM or SIGHUP came.
pub(crate) fn check() -> Result<()> {
    if stopping() {
        bail!("interrupted");
    }
    Ok(())
}

/// Makes a signal take the cluster `name` down before the process ends.
pub(crate) fn own(name: &str) {
    INSTALL.call_once(install);
    owned(|set| set.insert(name.to_owned()));
}

/// Leaves the cluster `name` standing when the process ends.
pub(crate) fn disown(name: &str) {
    owned(|set| set.remove(name));
}

fn owned<T>(change: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
    change(&mut OWNED.lock().unwrap_or_else(PoisonError::into_inner))
}

fn install() {
    let mut signals = match Signals::new([SIGHUP, SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => return eprintln!("xtask: no clean-up on signals: {error}"),
    };
    std::thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        STOPPING.store(true, Ordering::SeqCst);
        for name in owned(|set| set.clone()) {
            eprintln!("xtask: taking cluster {name} down");
            if let Err(error) = cluster::down(&name) {
                eprintln!("xtask: {error:#}");
            }
        }
        std::process::exit(128 + signal);
    });
}
