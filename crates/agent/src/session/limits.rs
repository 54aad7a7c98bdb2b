//! Keeping a running session to its limits: [`Keeper`] says what to do, and here it is done.

use std::{
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use vsm_core::{EndReason, Limits, Standing, Tick};
use vsm_daemon::clock;

use super::{
    idle::Meter,
    lifetime::{Deed, Gist, Keeper},
    monitor::Monitor,
    output::Log,
};
use crate::{
    control::{DropCause, Event},
    record::Store,
};

/// Keeps a session to its limits, from the moment it can be viewed.
#[derive(Debug)]
pub(super) struct Enforcer {
    keeper: Keeper,
    meter: Meter,
    /// When the session started: moment 0 of the keeper.
    started: Instant,
    /// What subscribers were told last.
    told: Option<Gist>,
    /// Connections that wait to hear how the session stands, by their numbers.
    asked: Vec<u64>,
    /// Whether it was noted that the X server does not tell of input.
    noted_deaf: bool,
}

impl Enforcer {
    /// For a session that starts now.
    pub(super) fn new(limits: Limits, display: u32, uid: u32, cookie: Vec<u8>) -> Self {
        Self {
            keeper: Keeper::new(limits),
            meter: Meter::new(display, uid, cookie),
            started: clock::now(),
            told: None,
            asked: Vec::new(),
            noted_deaf: false,
        }
    }

    /// What to wait on.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.meter.fd()
    }

    fn tick(&self, at: Instant) -> Tick {
        let since = at.saturating_duration_since(self.started);
        Tick(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// How the session stands, where it has limits.
    pub(super) fn standing(&self) -> Option<Box<Standing>> {
        (!self.keeper.limits().is_none()).then(|| Box::new(self.standing_now()))
    }

    fn standing_now(&self) -> Standing {
        self.keeper.standing(self.tick(clock::now()), clock::unix_millis())
    }

    /// Does what the limits want now; when to look again.
    pub(super) fn enforce(&mut self, monitor: &mut Monitor) -> Option<Instant> {
        let now = clock::now();
        let tick = self.tick(now);
        if let Some(idle) = self.meter.answer(now) {
            self.keeper.measured(idle, tick);
            self.tell_those_who_asked(idle.is_some(), monitor);
        }
        let (deeds, until) = self.keeper.turn(tick);
        for deed in deeds {
            match deed {
                Deed::Warn(text) => monitor.warn(&text),
                Deed::Drop(why) => {
                    monitor.log.note(&format!("the viewer is disconnected: {why}"));
                    monitor.peers.drop_viewers(&why, DropCause::Idle);
                    self.viewers_changed(monitor.peers.viewed_since());
                }
                Deed::End(why) => monitor.ask_to_end(EndReason::Limit, &why),
                Deed::Measure => self.meter.ask(now),
            }
        }
        self.tell_subscribers(tick, monitor);
        let until = until.map(|until| now + Duration::from_millis(until.since(tick)));
        until.into_iter().chain(self.meter.deadline()).min()
    }

    /// The X server has answered, or has not: whoever waits to hear how the session stands is told.
    fn tell_those_who_asked(&mut self, heard: bool, monitor: &mut Monitor) {
        if !heard && !std::mem::replace(&mut self.noted_deaf, true) {
            monitor.log.note("the X server does not say when the last input was; until it does, no limit of idleness holds");
        }
        let standing = Box::new(self.standing_now());
        monitor.peers.send(&std::mem::take(&mut self.asked), &Event::Standing { standing });
    }

    fn tell_subscribers(&mut self, tick: Tick, monitor: &mut Monitor) {
        let gist = self.keeper.gist(tick);
        // One without limits tells nothing, unless it had some.
        let silent = self.told.is_none() && self.keeper.limits().is_none();
        if silent || self.told.as_ref() == Some(&gist) {
            return;
        }
        self.told = Some(gist);
        let standing = Box::new(self.standing_now());
        monitor.peers.tell(&Event::Standing { standing });
    }

    /// A viewer came or went; since when the oldest that is there has been there.
    pub(super) fn viewers_changed(&mut self, viewed_since: Option<Instant>) {
        let now = self.tick(clock::now());
        self.keeper.set_viewed(viewed_since.map(|since| self.tick(since)), now);
    }

    /// Takes new limits, durably.
    pub(super) fn set_limits(&mut self, limits: Limits, monitor: &mut Monitor) -> Event {
        if *self.keeper.limits() == limits {
            return Event::LimitsSet;
        }
        monitor.log.note(&format!("limits now: {limits:?}"));
        self.keeper.set_limits(limits.clone());
        monitor.record.limits = limits;
        match Store::at(&monitor.spec.settings.state_dir).save_record(&monitor.record) {
            Ok(()) => Event::LimitsSet,
            // They hold as long as this process lives, and that is as long as the session.
            Err(error) => Event::Refused { why: error.to_string() },
        }
    }

    /// Puts off what a limit would do next.
    pub(super) fn extend(&mut self, log: &mut Log) -> Event {
        let tick = self.tick(clock::now());
        match self.keeper.extend(tick) {
            Ok(extension) => {
                let key = extension.limit.key();
                log.note(&format!("its user has put off {key}"));
                let (left_ms, more) = (extension.left_ms, extension.more);
                Event::Extended { limit: key.to_owned(), left_ms, more }
            }
            Err(why) => Event::Refused { why: why.to_string() },
        }
    }

    /// Tells this connection, once the X server has said when the last input was, how the session stands.
    pub(super) fn ask_standing(&mut self, number: u64) {
        self.asked.push(number);
        self.meter.ask(clock::now());
    }
}
