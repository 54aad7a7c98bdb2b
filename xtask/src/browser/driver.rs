//! The program that drives a browser on a host in miniature, and the way to it from outside.
//!
//! It listens on the host's own loopback. Whoever speaks with it has threads in the host's network for that, and all
//! else of this process stays where it is.

use std::fs::{self, File};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};

use super::Kind;
use crate::clock::wait_for;
use crate::cluster::Cluster;
use crate::command::tail;
use crate::setup;

/// How long a driver may take until it listens.
const START_WAIT: Duration = Duration::from_secs(30);

/// A driver that runs; it and its browser end with the value.
#[derive(Debug)]
pub(super) struct Driver {
    child: Child,
    port: u16,
}

impl Driver {
    /// Starts it as `user`, whose home for this is `home`; what it says goes to `log`.
    pub(super) fn start(cluster: &Cluster, at: &Place<'_>, kind: Kind, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        let home = format!("HOME={}", at.home);
        let temporary = format!("TMPDIR={}", at.home);
        let installed;
        let words = match kind {
            Kind::Chromium => vec!["/usr/bin/chromedriver", "--port=0"],
            Kind::Firefox => {
                installed = cluster.install(&setup::geckodriver()?).context("cargo xtask setup")?;
                vec![installed.to_str().context("a path")?, "--port", "0"]
            }
        };
        let words = [&["env", &home, &temporary][..], &words].concat();
        let mut command = cluster.contained(at.host, at.user, &words)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().context("nsenter")?;
        // Dropped, and so ended, if it does not listen.
        let mut driver = Self { child, port: 0 };
        driver.port = driver.wait_port(kind, log)?;
        Ok(driver)
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn wait_port(&mut self, kind: Kind, log: &Path) -> Result<u16> {
        let mark = match kind {
            Kind::Chromium => "started successfully on port ",
            Kind::Firefox => "Listening on 127.0.0.1:",
        };
        let port = wait_for("the browser's driver", START_WAIT, || {
            let said = fs::read(log).unwrap_or_default();
            if let Ok(Some(status)) = self.child.try_wait() {
                return Ok(Err(format!("it ended, {status}: {}", tail(&said))));
            }
            let port = port(&String::from_utf8_lossy(&said), mark);
            port.map(Ok).ok_or_else(|| format!("it says {:?}", tail(&said)))
        })?;
        port.map_err(|why| anyhow::anyhow!("{}: {why}", kind.name()))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number behind a mark, once the line is whole.
fn port(said: &str, mark: &str) -> Option<u16> {
    let (_, rest) = said.split_once(mark)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    if digits.len() == rest.len() {
        return None;
    }
    digits.parse().ok()
}

/// Where a browser runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) host: &'a str,
    pub(super) user: &'a str,
    /// A directory of its own, on that host.
    pub(super) home: &'a str,
}

/// Threads in the network of a host.
#[derive(Debug)]
pub(super) struct Inside {
    runtime: Runtime,
    outside: Arc<AtomicBool>,
}

impl Inside {
    /// In the network in which this process lives.
    pub(super) fn of(pid: i32) -> Result<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let network = File::open(&path).with_context(|| path.display().to_string())?;
        let outside = Arc::new(AtomicBool::new(false));
        let mark = Arc::clone(&outside);
        let enter = move || {
            if setns(&network, CloneFlags::CLONE_NEWNET).is_err() {
                mark.store(true, Ordering::SeqCst);
            }
        };
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().on_thread_start(enter).build()?;
        Ok(Self { runtime, outside })
    }

    /// Runs `work` there to its end, or until its time is over.
    pub(super) fn run<T, E>(
        &self,
        what: &str,
        limit: Duration,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<anyhow::Error> + Send + 'static,
    {
        crate::interrupt::check()?;
        let outside = Arc::clone(&self.outside);
        let timed = async move {
            // There are other networks with such a port.
            if outside.load(Ordering::SeqCst) {
                bail!("no way into the host's network");
            }
            match tokio::time::timeout(limit, work).await {
                Ok(result) => result.map_err(Into::into),
                Err(_) => bail!("no answer after {} ms", limit.as_millis()),
            }
        };
        let handle = self.runtime.spawn(timed);
        self.runtime.block_on(handle).context("the browser's thread")?.context(what.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_once_the_line_is_whole() {
        let mark = "on port ";
        assert_eq!(port("ChromeDriver was started on port 4", mark), None);
        assert_eq!(port("ChromeDriver was started on port 41234.\n", mark), Some(41234));
        assert_eq!(port("nothing", mark), None);
    }
}
