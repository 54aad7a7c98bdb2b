//! The witness side: what an agent promises and keeps. Every agent promises, and so refuses brokers that were
//! replaced; the witnesses' promises count as a vote, and they keep what changes while one broker is away.

use super::{
    ledger::outranks,
    message::{Window, WitnessMsg, WitnessReply},
    mutant::{self, Mutant},
};
use crate::{Epoch, Lsn};

/// What a witness holds; durable before each reply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Witness {
    /// The highest epoch that is promised.
    pub promised: Option<Epoch>,
    /// What is kept, and the reign that gave it.
    pub kept: Option<(Epoch, Window)>,
    /// It is new, or lost what it held, and this is the loss, by a number drawn for it: it gives no vote before a
    /// broker has made up for this very loss.
    pub mute: Option<u64>,
    /// The life of the pair's table, as a reign told it: who comes with another has it from a copy.
    pub life: Option<Epoch>,
}

/// The reign that a witness last heard from, and until when it is to be taken for alive. Not durable: a witness that
/// restarts holds nobody off until it hears again.
#[derive(Debug, Clone, Default)]
pub struct Living {
    reign: Option<(Epoch, u64)>,
}

/// Longest time for which a message keeps others from claiming, so that no broker can do so for ever.
const HOLD_MS_MAX: u64 = 10_000;

impl Living {
    /// A broker's message was taken.
    pub fn heard(&mut self, message: &WitnessMsg, now_ms: u64) {
        match message {
            WitnessMsg::Accept { epoch, hold_ms, .. } => {
                self.reign = Some((epoch.clone(), now_ms + hold_ms.min(&HOLD_MS_MAX)));
            }
            WitnessMsg::Claim { .. } => self.reign = None,
            WitnessMsg::Probe { .. } | WitnessMsg::Clear { .. } => {}
        }
    }

    /// The reign of another node that would be disturbed by a claim of this one.
    #[must_use]
    pub fn other(&self, claimant: &Epoch, now_ms: u64) -> Option<&Epoch> {
        let (reign, until_ms) = self.reign.as_ref()?;
        (reign.node != claimant.node && now_ms < *until_ms && !mutant::on(Mutant::NobodyHeldOff))
            .then_some(reign)
    }
}

impl Witness {
    /// A new one, or one that lost what it held. What it promised and kept is unknown, so it gives no vote before a
    /// broker that is in sync with the other one has told it to keep nothing ([`WitnessMsg::Clear`] with this `loss`).
    /// Both brokers were then in one reign after the loss, so nothing higher was forgotten here, and nothing that was
    /// kept is needed.
    ///
    /// `loss` is drawn at random for each loss: what makes up for an earlier one is of no use.
    #[must_use]
    pub const fn fresh(loss: u64) -> Self {
        Self { promised: None, kept: None, mute: Some(loss), life: None }
    }

    /// The highest epoch that is promised.
    #[must_use]
    pub const fn promised(&self) -> Option<&Epoch> {
        self.promised.as_ref()
    }

    /// What is kept.
    #[must_use]
    pub fn window(&self) -> Option<&Window> {
        self.kept.as_ref().map(|(_, window)| window)
    }

    /// Whether a broker of this epoch may act now. To be asked at the moment of acting; one that may is promised to.
    ///
    /// # Errors
    /// The higher epoch that is promised.
    pub fn admit(&mut self, epoch: &Epoch) -> Result<(), Epoch> {
        self.may_act(epoch)?;
        self.promised = Some(epoch.clone());
        Ok(())
    }

    /// As [`Witness::admit`], without promising anything.
    ///
    /// # Errors
    /// The higher epoch that is promised.
    pub fn may_act(&self, epoch: &Epoch) -> Result<(), Epoch> {
        let above = |other: &&Epoch| *other != epoch && !outranks(epoch, other);
        self.promised.as_ref().filter(above).cloned().map_or(Ok(()), Err)
    }

    /// The answer to a message that changes nothing: a question, or one that it will not take. None = it takes it.
    #[must_use]
    pub fn answer(
        &self,
        message: &WitnessMsg,
        living: &Living,
        now_ms: u64,
    ) -> Option<WitnessReply> {
        if let Some(loss) = self.mute {
            let made_up = match message {
                WitnessMsg::Clear { loss: by, .. } => {
                    *by == Some(loss) || mutant::on(Mutant::LossUnnumbered)
                }
                WitnessMsg::Probe { .. } | WitnessMsg::Claim { .. } | WitnessMsg::Accept { .. } => {
                    false
                }
            };
            if !made_up {
                return Some(WitnessReply::Mute { loss });
            }
        }
        if let WitnessMsg::Probe { epoch } = message {
            let promised = self.promised.clone().unwrap_or_else(Epoch::zero);
            return Some(
                living.other(epoch, now_ms).map_or(WitnessReply::Free { promised }, |reign| {
                    WitnessReply::Held { reign: reign.clone() }
                }),
            );
        }
        if let WitnessMsg::Claim { life: Some(life), .. } = message
            && let Some(own) = self.life.as_ref().filter(|own| *own != life)
            && !mutant::on(Mutant::ForeignLogTaken)
        {
            return Some(WitnessReply::Foreign { life: own.clone() });
        }
        self.may_act(message.epoch()).err().map(|promised| WitnessReply::Refused { promised })
    }

    /// Takes a message, of which [`Witness::answer`] said that it is to be taken. The caller makes the new state
    /// durable before it sends the reply.
    pub fn handle(&mut self, message: WitnessMsg) -> WitnessReply {
        if let Some(answer) = self.answer(&message, &Living::default(), 0) {
            return answer;
        }
        self.mute = None;
        self.promised = Some(message.epoch().clone());
        match message {
            WitnessMsg::Probe { epoch } => WitnessReply::Free { promised: epoch },
            WitnessMsg::Claim { epoch, .. } => {
                let window = self.kept.as_ref().map(|(_, window)| window.clone());
                WitnessReply::Promised { epoch, window }
            }
            WitnessMsg::Accept { epoch, prev, window, .. } => {
                self.life = super::log::life(&window.history).cloned().or_else(|| self.life.take());
                self.accept(epoch, prev.as_ref(), window)
            }
            WitnessMsg::Clear { epoch, at, life, .. } => {
                self.life = life.or_else(|| self.life.take());
                // Late: a newer window has begun.
                let late = |window: &Window| window.last > at && !mutant::on(Mutant::StaleClear);
                if self.kept.as_ref().is_some_and(|(_, window)| !late(window)) {
                    self.kept = None;
                }
                WitnessReply::Cleared { epoch }
            }
        }
    }

    fn accept(&mut self, epoch: Epoch, prev: Option<&Lsn>, new: Window) -> WitnessReply {
        match (&mut self.kept, prev) {
            // Repeated or late: what is kept goes further already.
            (Some((by, window)), _) if *by == epoch && new.last <= window.last => {}
            (Some((by, window)), Some(prev))
                if *by == epoch && (window.last == *prev || mutant::on(Mutant::GapTaken)) =>
            {
                window.rows.extend(new.rows);
                (window.last, window.history) = (new.last, new.history);
            }
            (_, None) => self.kept = Some((epoch.clone(), new)),
            (_, Some(_)) => return WitnessReply::Gap { epoch },
        }
        let last = self.kept.as_ref().map_or_else(Lsn::zero, |(_, window)| window.last.clone());
        WitnessReply::Accepted { epoch, last }
    }
}
