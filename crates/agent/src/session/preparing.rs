//! A session whose X server is starting: it becomes one that can be viewed, or nothing is left of it.
//!
//! The record is written while the X server starts up, so that its fsync costs nothing.

use std::{
    process::ExitStatus,
    time::{Duration, Instant},
};

use vsm_daemon::clock;

use super::{
    launch::{self, EXIT_HOME, EXIT_PROGRAM},
    monitor::Monitor,
    running::Ready,
    turn::{Parts, turn},
    xserver::{self, Greeting},
};
use crate::{
    record::Store,
    refusal::{Refusal, Refused},
    spec::Reply,
};

/// A session whose X server is starting.
#[derive(Debug)]
pub(super) struct Preparing {
    monitor: Monitor,
    /// By when the X server has to greet.
    deadline: Instant,
}

impl Preparing {
    /// For an X server that was started just now.
    pub(super) fn new(monitor: Monitor) -> Self {
        let deadline = clock::now() + Duration::from_millis(monitor.spec.settings.x_timeout_ms);
        Self { monitor, deadline }
    }

    /// Waits until the desktop can be viewed; if it cannot, undoes all of the start.
    pub(super) fn run(mut self) -> Result<Ready, Reply> {
        match self.become_viewable() {
            Ok(()) => Ok(Ready::new(self.monitor)),
            Err(reply) => {
                self.monitor.log.note(&format!("the start failed: {reply:?}"));
                let (spec, leftovers) = self.monitor.dismiss();
                leftovers.undo(&Store::at(&spec.settings.state_dir));
                Err(reply)
            }
        }
    }

    fn become_viewable(&mut self) -> Result<(), Reply> {
        self.save_record()?;
        self.await_greeting()?;
        self.publish()
    }

    /// Makes the record durable.
    fn save_record(&self) -> Result<(), Reply> {
        let Monitor { spec, record, .. } = &self.monitor;
        Store::at(&spec.settings.state_dir).save_record(record).map_err(|error| {
            Refused::new(Refusal::Storage, format!("{error} on {}", spec.session.agent)).into()
        })
    }

    /// Waits for the greeting of the X server.
    fn await_greeting(&mut self) -> Result<(), Reply> {
        let monitor = &mut self.monitor;
        let mut greeting = Greeting::default();
        while !greeting.is_complete(&monitor.desktop.paths, &monitor.desktop.account) {
            // Connecting has to be tried again; a connection tells by itself.
            let wait = Duration::from_millis(if greeting.stream().is_some() { 50 } else { 1 });
            // No script runs yet that could end.
            let _ = turn(monitor, Parts::Preparing { greeting: greeting.stream() }, wait);
            if monitor.asked.is_some() {
                return Err(Refused::new(Refusal::Cancelled, "the start was cancelled").into());
            }
            if let Some(status) = monitor.x_server_ended {
                return Err(x_server_failed(monitor, status));
            }
            if clock::now() > self.deadline {
                let detail = format!(
                    "the X server on {} was not ready within {} s (/vsmagent/xvnc_start_timeout); its last words: {}",
                    monitor.spec.session.agent,
                    monitor.spec.settings.x_timeout_ms / 1000,
                    xserver::reason(&monitor.x_server.output.text())
                );
                return Err(Refused::new(Refusal::XServer, detail).into());
            }
        }
        Ok(())
    }

    /// Puts the display where clients look for it.
    fn publish(&self) -> Result<(), Reply> {
        let Monitor { spec, leftovers, desktop, x_server, .. } = &self.monitor;
        let Some((place, stage)) = &leftovers.names else { return Ok(()) };
        place.publish(stage, spec.display, desktop.account.uid, x_server.pid).map_err(|error| {
            let agent = &spec.session.agent;
            let detail = format!("the display cannot be offered on {agent}: {error}");
            Refused::new(Refusal::Internal, detail).into()
        })
    }
}

fn x_server_failed(monitor: &mut Monitor, status: ExitStatus) -> Reply {
    monitor.drain_output(None);
    let words = monitor.x_server.output.text();
    if xserver::says_display_taken(&words) {
        return Reply::DisplayTaken;
    }
    let last = xserver::reason(&words);
    let session = &monitor.spec.session;
    let agent = &session.agent;
    let home = status.code() == Some(EXIT_HOME.into());
    let (reason, detail) = if home {
        (Refusal::Home, format!("user {} on {agent}: {last}", session.user))
    } else if status.code() == Some(EXIT_PROGRAM.into()) {
        (Refusal::XServer, format!("{last} on {agent} (/vsmagent/xserver)"))
    } else {
        (
            Refusal::XServer,
            format!("the X server on {agent} ended at once ({}): {last}", launch::describe(status)),
        )
    };
    Refused::new(reason, detail).into()
}
