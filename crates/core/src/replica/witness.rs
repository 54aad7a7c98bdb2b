//! The witness side: what an agent promises and keeps. Every agent promises, and so refuses brokers that were
//! replaced; the witnesses' promises count as a vote, and they keep what changes while one broker is away.

use super::{
    claim::outranks,
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
    /// It is new, or lost what it held: it gives no vote to a claim before it has heard of a reign above this.
    pub mute: Option<Epoch>,
}

impl Witness {
    /// One that lost what it held, and that an administrator lets act again for nobody below `floor`, the highest epoch
    /// of both brokers and all agents. What it kept may have been half of a commit, so it gives its vote to a claim
    /// again only when a later reign has sent it what that reign learnt, or has said that nothing is to be kept.
    #[must_use]
    pub const fn after_loss(floor: Epoch) -> Self {
        Self { promised: None, kept: None, mute: Some(floor) }
    }

    /// A new one, which may be one that lost all it held and does not know. It gives no vote before a broker that is in
    /// sync with the other one has told it to keep nothing ([`WitnessMsg::Clear`]): both brokers are then in one reign,
    /// so no higher one was forgotten here.
    #[must_use]
    pub fn fresh() -> Self {
        Self::after_loss(Epoch::zero())
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
        self.mute.iter().chain(&self.promised).find(above).cloned().map_or(Ok(()), Err)
    }

    /// Why it will not take a message; then the message changes nothing.
    ///
    /// # Errors
    /// The epoch that stands against it; the lowest of all where nothing does but that this witness is new.
    pub fn check(&self, message: &WitnessMsg) -> Result<(), Epoch> {
        let epoch = message.epoch();
        if let Some(floor) = &self.mute {
            let takes = match message {
                WitnessMsg::Claim { .. } => false,
                WitnessMsg::Accept { .. } => *floor != Epoch::zero(),
                WitnessMsg::Clear { .. } => true,
            };
            if !takes || epoch <= floor {
                return Err(floor.clone());
            }
        }
        self.may_act(epoch)
    }

    /// Takes a message. The caller makes the new state durable before it sends the reply.
    pub fn handle(&mut self, message: WitnessMsg) -> WitnessReply {
        if let Err(promised) = self.check(&message) {
            return WitnessReply::Refused { promised };
        }
        if !matches!(message, WitnessMsg::Accept { prev: Some(_), .. }) {
            self.mute = None;
        }
        self.promised = Some(message.epoch().clone());
        match message {
            WitnessMsg::Claim { epoch } => {
                let window = self.kept.as_ref().map(|(_, window)| window.clone());
                WitnessReply::Promised { epoch, window }
            }
            WitnessMsg::Accept { epoch, prev, window } => self.accept(epoch, prev.as_ref(), window),
            WitnessMsg::Clear { epoch, at } => {
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
