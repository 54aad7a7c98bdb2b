//! A wrong clock: the kernel has one time of day for all hosts, so a library under the daemon tells
//! it another one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::super::Cluster;
use crate::host::daemon::{CLOCK_FILE, LIBFAKETIME};

impl Cluster {
    /// Has a host's daemon see a time that is `step_s` seconds off.
    pub(super) fn step_clock(&self, host: &str, step_s: i64) -> Result<()> {
        if !Path::new(LIBFAKETIME).exists() {
            bail!("{LIBFAKETIME} is not there: cargo xtask setup installs it");
        }
        self.clock_says(host, step_s)?;
        let daemon = self.product_daemon(host)?;
        let Some(pid) = self.daemon(host, daemon)?.pid else { return Ok(()) };
        let environment = format!("/proc/{pid}/environ");
        if !self.output(host, "root", &["cat", &environment])?.contains(LIBFAKETIME) {
            self.restart_daemon(host, daemon)?;
        }
        Ok(())
    }

    /// Whole or not at all: the daemon may read it at any moment.
    pub(super) fn clock_says(&self, host: &str, step_s: i64) -> Result<()> {
        let dir = self.paths(host).dir;
        // Also by the broker, which is not root.
        fs::set_permissions(&dir, Permissions::from_mode(0o711))
            .with_context(|| dir.display().to_string())?;
        let file = dir.join(CLOCK_FILE);
        let fresh = file.with_extension("new");
        fs::write(&fresh, format!("{step_s:+}\n")).with_context(|| fresh.display().to_string())?;
        fs::rename(&fresh, &file).with_context(|| file.display().to_string())
    }
}
