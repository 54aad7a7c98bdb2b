//! The connection of the pair: it is made, breaks, and both hear of it.

use vsm_core::replica::Replica;

use crate::{
    event::{BrokerId, Ev},
    world::{Fencing, World},
};

impl World {
    /// Keeps the pair's connection, or notices that it is gone.
    pub(crate) fn dial(&mut self) {
        self.after(100, Ev::Dial);
        self.dial_now();
    }

    pub(crate) fn dial_now(&mut self) {
        let open = !self.net.is_cut(0, 1) && !self.net.is_cut(1, 0);
        let both = self.brokers.iter().all(|broker| broker.is_up() && !broker.apart);
        match self.net.link {
            Some(_)
                if (!open || self.net.broken != [false; 2])
                // Pings take a while to notice.
                && self.rng.percent(25) =>
            {
                self.drop_link();
            }
            None if open && both => {
                self.net.conns += 1;
                self.net.link = Some(self.net.conns);
                self.net.broken = [false; 2];
                self.tell_link(true);
            }
            _ => {}
        }
    }

    pub(crate) fn drop_link(&mut self) {
        if self.net.link.take().is_some() {
            self.tell_link(false);
        }
    }

    fn tell_link(&mut self, up: bool) {
        let conn = self.net.conns;
        if up && self.faults && self.fencing != Fencing::None && self.rng.percent(25) {
            // While they have hardly met; mostly one that acted alone is shot by the other.
            let alone = |id: &BrokerId| {
                self.brokers[*id].replica.as_ref().is_some_and(Replica::counts_peer_off)
            };
            let by = (0..2).find(alone).map_or_else(|| self.rng.index(2), |alone| 1 - alone);
            let wait = self.rng.range(2, 300);
            self.after(wait, Ev::Shoot { by });
        }
        for broker in 0..2 {
            let life = self.brokers[broker].life;
            self.after(1, Ev::Link { broker, life, conn, up });
        }
    }
}
