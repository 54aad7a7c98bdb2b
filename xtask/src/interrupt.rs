//! Ctrl-C and SIGTERM: nothing that xtask set up outlives it.
//!
//! A cluster registers here while this process owns it. A signal marks the process as stopping,
//! which makes every wait fail at once, and a thread takes the registered clusters down and exits.
//! The owner's own clean-up may run at the same time: both take the cluster's lock, both are safe
//! to run twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Takes a cluster of this name down.
type TakeDown = fn(&str) -> Result<()>;

static STOPPING: AtomicBool = AtomicBool::new(false);
static OWNED: Mutex<BTreeMap<String, TakeDown>> = Mutex::new(BTreeMap::new());
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

/// Makes a signal take the cluster `name` down, by `down`, before the process ends.
pub(crate) fn own(name: &str, down: TakeDown) {
    INSTALL.call_once(install);
    owned(|all| all.insert(name.to_owned(), down));
}

/// Leaves the cluster `name` standing when the process ends.
pub(crate) fn disown(name: &str) {
    owned(|all| all.remove(name));
}

fn owned<T>(change: impl FnOnce(&mut BTreeMap<String, TakeDown>) -> T) -> T {
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
        for (name, down) in owned(|all| all.clone()) {
            eprintln!("xtask: taking cluster {name} down");
            if let Err(error) = down(&name) {
                eprintln!("xtask: {error:#}");
            }
        }
        std::process::exit(128 + signal);
    });
}
