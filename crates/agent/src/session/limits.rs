//! Keeping to the limits of the session's life: [`Keeper`] says what to do, and here it is done.

use std::time::{Duration, Instant};

use vsm_core::{EndReason, Limits, Standing, Tick};
use vsm_daemon::clock;

use super::{
    idle::Meter,
    lifetime::{Deed, Gist, Keeper},
    monitor::Monitor,
};
use crate::{
    control::{DropCause, Event, Phase},
    record::Store,
};

/// What belongs to a session's limits once it runs.
#[derive(Debug)]
pub(super) struct Keeping {
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

impl Keeping {
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
    pub(super) fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.meter.fd()
    }

    fn tick(&self, at: Instant) -> Tick {
        let since = at.saturating_duration_since(self.started);
        Tick(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn standing(&self) -> Standing {
        self.keeper.standing(self.tick(clock::now()), clock::unix_millis())
    }
}

impl Monitor {
    /// How the session stands, where it has limits.
    pub(super) fn standing(&self) -> Option<Box<Standing>> {
        let life = self.life.as_ref()?;
        (!life.keeper.limits().is_none()).then(|| Box::new(life.standing()))
    }

    /// Does what the limits want now; when to look again.
    pub(super) fn keep_to_limits(&mut self) -> Option<Instant> {
        let now = clock::now();
        let life = self.life.as_mut()?;
        let tick = life.tick(now);
        if let Some(idle) = life.meter.answer(now) {
            life.keeper.measured(idle, tick);
            self.told_of_input(idle.is_some());
        }
        let life = self.life.as_mut()?;
        let (deeds, until) = life.keeper.turn(tick);
        for deed in deeds {
            match deed {
                Deed::Warn(text) => self.warn(&text),
                Deed::Drop(why) => {
                    self.log.note(&format!("the viewer is disconnected: {why}"));
                    self.drop_viewers(&why, DropCause::Idle);
                }
                Deed::End(why) => self.ask_to_end(EndReason::Limit, &why),
                Deed::Measure => self.ask_for_input(now),
            }
        }
        self.tell_standing(tick);
        let life = self.life.as_ref()?;
        let until = until.map(|until| now + Duration::from_millis(until.since(tick)));
        until.into_iter().chain(life.meter.deadline()).min()
    }

    fn ask_for_input(&mut self, now: Instant) {
        if let Some(life) = &mut self.life {
            life.meter.ask(now);
        }
    }

    /// The X server has answered, or has not: whoever waits to hear how the session stands is told.
    fn told_of_input(&mut self, heard: bool) {
        let Some(life) = &mut self.life else { return };
        let asked = std::mem::take(&mut life.asked);
        let standing = life.standing();
        if !heard && !std::mem::replace(&mut life.noted_deaf, true) {
            self.log.note("the X server does not say when the last input was; until it does, no limit of idleness holds");
        }
        for peer in self.peers.iter_mut().filter(|peer| asked.contains(&peer.number)) {
            peer.send(&Event::Standing { standing: Box::new(standing.clone()) });
        }
    }

    fn tell_standing(&mut self, tick: Tick) {
        let Some(life) = &mut self.life else { return };
        let gist = life.keeper.gist(tick);
        // One without limits tells nothing, unless it had some.
        let silent = life.told.is_none() && life.keeper.limits().is_none();
        if silent || life.told.as_ref() == Some(&gist) {
            return;
        }
        life.told = Some(gist);
        let standing = Box::new(life.standing());
        self.tell(&Event::Standing { standing });
    }

    /// A viewer came or went.
    pub(super) fn viewers_changed(&mut self) {
        let Some(life) = &mut self.life else { return };
        let viewing = self.peers.iter().filter_map(|peer| peer.viewing.as_ref());
        let since = viewing.map(|viewing| viewing.since).min().map(|since| life.tick(since));
        let now = life.tick(clock::now());
        life.keeper.set_viewed(since, now);
    }

    /// Takes new limits, durably.
    pub(super) fn set_limits(&mut self, limits: Limits) -> Event {
        let (Phase::Running, Some(kept), Some(life)) = (self.phase(), &self.kept, &mut self.life)
        else {
            return Event::Terminating;
        };
        if *life.keeper.limits() == limits {
            return Event::LimitsSet;
        }
        self.log.note(&format!("limits now: {limits:?}"));
        life.keeper.set_limits(limits.clone());
        let Some(record) = &mut self.record else { return Event::Terminating };
        record.limits = limits;
        match Store::at(&kept.spec.settings.state_dir).save_record(record) {
            Ok(()) => Event::LimitsSet,
            // They hold as long as this process lives, and that is as long as the session.
            Err(error) => Event::Refused { why: error.to_string() },
        }
    }

    /// Puts off what a limit would do next.
    pub(super) fn extend(&mut self) -> Event {
        let (Phase::Running, Some(life)) = (self.phase(), &mut self.life) else {
            return Event::Terminating;
        };
        let tick = life.tick(clock::now());
        match life.keeper.extend(tick) {
            Ok(extension) => {
                let key = extension.limit.key();
                self.log.note(&format!("its user has put off {key}"));
                let (left_ms, more) = (extension.left_ms, extension.more);
                Event::Extended { limit: key.to_owned(), left_ms, more }
            }
            Err(why) => Event::Refused { why: why.to_string() },
        }
    }

    /// Answers, once the X server has said when the last input was, how the session stands.
    pub(super) fn ask_standing(&mut self, index: usize) -> Option<Event> {
        let (Phase::Running, Some(life)) = (self.phase(), &mut self.life) else {
            return Some(Event::Terminating);
        };
        life.asked.push(self.peers.get(index)?.number);
        life.meter.ask(clock::now());
        None
    }
}
