//! The users: each has two clients that log in, come back, log out, end sessions, and repeat a request that was not
//! answered, also at the other broker.

use uuid::Uuid;
use vsm_core::{Choice, RequestId, SessionId, lifecycle::login::Wish};

use crate::{
    event::{ClientId, Ev},
    state::client::ANY,
    tell,
    world::World,
};

impl World {
    /// What a client does next.
    pub(crate) fn client_next(&mut self, id: ClientId) {
        if self.clients[id].request.is_some() {
            return;
        }
        let has = self.clients[id].has.take();
        self.clients[id].wish = match (self.rng.below(10), has) {
            (0, _) => Wish::Any(Choice::New),
            (1, _) => Wish::Any(Choice::Ask),
            (2 | 3, Some(session)) => Wish::This(session),
            _ => ANY,
        };
        if let Some(session) = has {
            match self.rng.below(10) {
                0..4 => {
                    // The user logs out.
                    let agent = self.agents.iter().position(|a| a.sessions.contains_key(&session));
                    if let Some(agent) = agent.filter(|agent| self.agents[*agent].up) {
                        self.checks.truth.wish(session);
                        self.end_session(agent, session, "logout");
                    }
                }
                4..7 => {
                    let broker = self.rng.index(2);
                    let at = self.now + self.rng.range(1, 20);
                    self.at(at, Ev::End { broker, session });
                }
                _ => {}
            }
        }
        self.new_request(id);
        self.try_login(id);
    }

    /// A wish that is another one is another request.
    fn new_request(&mut self, id: ClientId) {
        self.serial += 1;
        let client = &mut self.clients[id];
        client.request = Some(RequestId::new(Uuid::from_u128(u128::from(self.serial) << 64)));
        client.began = self.now;
    }

    /// A broker asks which session is wanted, and the user says so.
    pub(crate) fn client_chooses(&mut self, id: ClientId, request: RequestId, session: SessionId) {
        if self.clients[id].request == Some(request) {
            self.clients[id].wish = Wish::This(session);
            self.new_request(id);
            self.try_login(id);
        }
    }

    fn try_login(&mut self, id: ClientId) {
        let Some(request) = self.clients[id].request else { return };
        self.clients[id].attempt += 1;
        let attempt = self.clients[id].attempt;
        let holder = self.brokers.iter().position(|broker| broker.address);
        let broker = match holder {
            Some(holder) if self.rng.percent(70) => holder,
            _ => self.rng.index(2),
        };
        let at = self.now + self.rng.range(1, 10);
        let wish = self.clients[id].wish;
        self.at(at, Ev::Login { broker, client: id, request, wish });
        self.after(1500, Ev::ClientTimeout { client: id, attempt });
    }

    pub(crate) fn client_timeout(&mut self, id: ClientId, attempt: u64) {
        if self.clients[id].attempt == attempt && self.clients[id].request.is_some() {
            self.try_login(id);
        }
    }

    /// A broker answers: from here on the user may have it.
    pub(crate) fn answer_client(
        &mut self,
        client: ClientId,
        request: RequestId,
        result: Result<SessionId, ()>,
    ) {
        // Nobody waits for the answer to a request that was answered.
        if let Ok(session) = result
            && self.clients[client].request == Some(request)
        {
            let user = self.clients[client].user.clone();
            let since = self.clients[client].began;
            self.note(|| format!("{user} {}", tell::handed(session)));
            self.checks.handed(&user, request, session, since, self.now);
        }
        if self.faults && self.rng.percent(5) {
            // It is lost, and the client asks again.
            return;
        }
        let at = self.now + self.rng.range(1, 10);
        self.at(at, Ev::Answer { client, request, result });
    }

    pub(crate) fn client_answered(
        &mut self,
        id: ClientId,
        request: RequestId,
        result: Result<SessionId, ()>,
    ) {
        if self.clients[id].request != Some(request) {
            return;
        }
        match result {
            Ok(session) => {
                let client = &mut self.clients[id];
                (client.request, client.has) = (None, Some(session));
                client.served += 1;
                let wait = self.rng.range(200, 3000);
                self.after(wait, Ev::ClientNext { client: id });
            }
            Err(()) => {
                if self.clients[id].wish != ANY {
                    self.clients[id].wish = ANY;
                    self.new_request(id);
                }
                let client = &mut self.clients[id];
                client.attempt += 1;
                let attempt = client.attempt;
                let wait = self.rng.range(50, 300);
                self.after(wait, Ev::ClientTimeout { client: id, attempt });
            }
        }
    }
}
