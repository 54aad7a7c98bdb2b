//! From one moment to the next: the beginning, and each event to whoever it is meant for.

use vsm_core::replica::Event;

use crate::{
    event::{BrokerId, Ev},
    world::{Past, World},
};

impl World {
    /// Everybody begins.
    pub(crate) fn begin(&mut self) {
        self.brokers[0].single = self.past == Past::Server;
        for broker in 0..if self.brokers[0].single { 1 } else { 2 } {
            self.start_broker(broker);
        }
        match self.past {
            Past::Pair => {}
            Past::Server => {
                let at = self.rng.range(300, 1500);
                self.at(at, Ev::Convert);
            }
            Past::Lost => {
                let at = self.rng.range(2500, 6000);
                self.at(at, Ev::TotalLoss);
            }
        }
        self.brokers[0].address = true;
        self.after(1, Ev::Dial);
        for agent in 0..self.agents.len() {
            self.after(5, Ev::AgentDial { agent });
        }
        for client in 0..self.clients.len() {
            let wait = self.rng.range(300, 2000);
            self.after(wait, Ev::ClientNext { client });
        }
        self.after(if self.early_until > 0 { 2 } else { 1500 }, Ev::Fault);
        self.after(1600, Ev::Plot);
    }

    /// Goes on until `done`, or to a moment; whether it was done.
    pub(crate) fn run_until(&mut self, until: u64, done: impl Fn(&Self) -> bool) -> bool {
        while let Some(event) = self.next_event(until) {
            self.step(event);
            if !self.checks.violations.is_empty() {
                return false;
            }
            if self.steps.is_multiple_of(16) && done(self) {
                return true;
            }
        }
        done(self)
    }

    /// Whether a broker takes what is meant for this process of it; a paused one takes it when it goes on.
    fn takes(&mut self, broker: BrokerId, life: u64, event: &Ev) -> bool {
        let target = &self.brokers[broker];
        if !target.is_up() || target.life != life {
            return false;
        }
        if target.paused_until > self.now {
            let until = target.paused_until;
            self.at(until, event.clone());
            return false;
        }
        true
    }

    fn step(&mut self, event: Ev) {
        let meant = match &event {
            Ev::Tick { broker, life }
            | Ev::Stored { broker, life, .. }
            | Ev::Link { broker, life, .. }
            | Ev::CallTimeout { broker, life, .. }
            | Ev::PeerOff { broker, life, .. }
            | Ev::Again { broker, life, .. } => Some((*broker, *life)),
            Ev::Peer { to, life, .. }
            | Ev::WitnessReply { to, life, .. }
            | Ev::Reply { to, life, .. }
            | Ev::Report { to, life, .. } => Some((*to, *life)),
            Ev::Login { broker, .. } | Ev::End { broker, .. } => {
                Some((*broker, self.brokers[*broker].life))
            }
            Ev::Dial
            | Ev::Witness { .. }
            | Ev::Call { .. }
            | Ev::Act { .. }
            | Ev::AgentDial { .. }
            | Ev::Answer { .. }
            | Ev::ClientTimeout { .. }
            | Ev::ClientNext { .. }
            | Ev::Fault
            | Ev::Shoot { .. }
            | Ev::Plot
            | Ev::Crash { .. }
            | Ev::Restart { .. }
            | Ev::Mend { .. }
            | Ev::Convert
            | Ev::TotalLoss
            | Ev::OldCopy
            | Ev::AgentRestart { .. } => None,
        };
        if let Some((broker, life)) = meant
            && !self.takes(broker, life, &event)
        {
            return;
        }
        self.take(event);
    }

    fn take(&mut self, event: Ev) {
        match event {
            Ev::Tick { broker, .. } => self.tick(broker),
            Ev::Stored { broker, token, .. } => self.stored(broker, token),
            Ev::Dial => self.dial(),
            Ev::Link { broker, conn, up, .. } => {
                if !up || self.net.link == Some(conn) {
                    self.feed(broker, Event::Link(up));
                }
            }
            Ev::Peer { to, conn, msg, .. } => {
                let cut =
                    self.net.in_order && (self.net.broken[1 - to] || self.net.is_cut(1 - to, to));
                if cut {
                    self.net.broken[1 - to] = true;
                } else if self.net.link == Some(conn) || !self.net.in_order {
                    self.feed(to, Event::Peer(msg));
                }
            }
            Ev::Witness { agent, from, life, msg } => self.witness_asked(agent, from, life, msg),
            Ev::WitnessReply { agent, to, reply, .. } => {
                let name = self.agents[agent].name.clone();
                self.feed(to, Event::Witness(name, reply));
            }
            Ev::Call { agent, from, life, rpc, call } => {
                self.agent_call(agent, from, life, rpc, call);
            }
            Ev::Act { agent, agent_life, from, life, rpc, epoch, session } => {
                if self.agents[agent].up && self.agents[agent].life == agent_life {
                    self.agent_act(agent, (from, life, rpc), &epoch, &session);
                }
            }
            Ev::Reply { agent, to, rpc, reply, .. } => self.replied(to, agent, rpc, &reply),
            Ev::CallTimeout { broker, rpc, .. } => self.call_timeout(broker, rpc),
            Ev::Again { broker, task, .. } => self.again(broker, task),
            Ev::AgentDial { agent } => self.agent_dial(agent),
            Ev::Report { agent, to, conn, item, .. } => self.reported(to, agent, conn, item),
            Ev::Login { broker, client, request, wish } => {
                self.brokers[broker].waiting.push_back((client, request, wish));
                self.next_logins(broker);
            }
            Ev::End { broker, session } => self.end_wish(broker, session),
            Ev::Answer { client, request, result } => self.client_answered(client, request, result),
            Ev::ClientTimeout { client, attempt } => self.client_timeout(client, attempt),
            Ev::ClientNext { client } if !self.quiet => self.client_next(client),
            Ev::ClientNext { .. } => {}
            Ev::Fault => self.fault(),
            Ev::Shoot { by } => self.shoot(by),
            Ev::PeerOff { broker, at_ms, .. } => self.feed(broker, Event::PeerOff(at_ms)),
            Ev::Plot => self.plot_step(),
            Ev::Crash { broker } => self.crash_keeping(broker, 0),
            Ev::Restart { broker } => self.start_broker(broker),
            Ev::Mend { broker } => self.mend(broker),
            Ev::Convert => self.convert(),
            Ev::TotalLoss => self.lose_all(),
            Ev::OldCopy => self.put_old_copy_back(),
            Ev::AgentRestart { agent } => self.agents[agent].up = true,
        }
    }
}
