//! Two brokers and three witnesses, with whatever may happen to messages, writes, links and processes; nobody lies.
//!
//! Each step is a byte for what happens and one for whom or which. The pair forms by itself first.

use std::collections::BTreeMap;

use vsm_core::{
    AgentName, Change, Lsn, Proposal, UnixMillis,
    replica::{
        Action, Config, Disk, Event, Failure, Limits, PeerMsg, Replica, Standing, Token, Witness,
        WitnessMsg, WitnessReply, Write,
    },
};

/// Messages of one kind that are on their way at once; what is beyond that is lost.
const WAITING_MAX: usize = 32;
/// Steps that are taken of one input.
const STEPS_MAX: usize = 400;

pub(crate) fn run(bytes: &[u8]) {
    let mut pair = Pair::new();
    for step in bytes.chunks_exact(2).take(STEPS_MAX) {
        pair.step(step[0], step[1]);
    }
    pair.heal();
}

struct Node {
    replica: Replica,
    /// What is durable.
    disk: Disk,
    /// Writes on their way to it.
    writes: Vec<(Token, Write)>,
    /// Messages from the other node.
    inbox: Vec<PeerMsg>,
    /// Answers of witnesses.
    replies: Vec<(AgentName, WitnessReply)>,
    /// The highest number that it has called committed.
    commit: u64,
}

struct Pair {
    nodes: [Node; 2],
    witnesses: BTreeMap<AgentName, Witness>,
    /// Which broker asks which witness what.
    asked: Vec<(usize, AgentName, WitnessMsg)>,
    link: bool,
    now: u64,
    proposed: u64,
    /// What was answered to whoever proposed: it may never be lost.
    acknowledged: Vec<(u64, Change)>,
    /// What each number is, once any node has committed it.
    committed: BTreeMap<u64, Lsn>,
}

fn config(name: &str, seed: u64) -> Config {
    Config {
        node: name.parse().expect("a name"),
        witnesses: names().collect(),
        ack_timeout_ms: 300,
        heartbeat_ms: 100,
        seed,
        limits: Limits { log_keep: 8, ..Limits::DEFAULT },
        alone: false,
    }
}

fn names() -> impl Iterator<Item = AgentName> {
    ["w1", "w2", "w3"].into_iter().map(|name| name.parse().expect("a name"))
}

fn name(id: usize) -> &'static str {
    ["a", "b"][id]
}

impl Pair {
    fn new() -> Self {
        let node = |id| Node {
            replica: Replica::new(config(name(id), 1), Disk::default(), 0),
            disk: Disk::default(),
            writes: Vec::new(),
            inbox: Vec::new(),
            replies: Vec::new(),
            commit: 0,
        };
        let mut pair = Self {
            nodes: [node(0), node(1)],
            witnesses: names().map(|name| (name, Witness::default())).collect(),
            asked: Vec::new(),
            link: false,
            now: 1000,
            proposed: 0,
            acknowledged: Vec::new(),
            committed: BTreeMap::new(),
        };
        pair.set_link(true);
        pair.feed(0, Event::Want(true));
        pair.settle();
        pair
    }

    fn step(&mut self, what: u8, which: u8) {
        let (id, at) = (usize::from(which & 1), usize::from(which >> 1));
        match what % 16 {
            0 | 1 => self.write(id, at),
            2 | 3 => self.deliver(id, at),
            4 => self.ask(at),
            5 => self.reply(id, at),
            6 => {
                self.now += u64::from(which) * 4;
                self.feed(id, Event::Tick);
            }
            7 => self.feed(id, Event::Want(at & 1 == 0)),
            8 => self.feed(id, Event::TakeOver),
            9 => self.set_link(at & 1 == 0),
            10 => self.propose(id),
            11 => self.crash(id),
            12 => self.lose(id, at),
            13 => {
                let agent = names().nth(at % 3).expect("one of three");
                self.feed(id, Event::WitnessUp(agent));
            }
            14 => self.settle(),
            _ => {
                self.feed(0, Event::Tick);
                self.feed(1, Event::Tick);
                self.now += 100;
            }
        }
    }

    /// A write becomes durable: always the oldest, with those up to `at` of the ones after it.
    fn write(&mut self, id: usize, at: usize) {
        let count = (at % 3 + 1).min(self.nodes[id].writes.len());
        let done: Vec<_> = self.nodes[id].writes.drain(..count).collect();
        let Some(last) = done.last().map(|(token, _)| *token) else { return };
        for (_, write) in done {
            self.nodes[id].disk.apply(&write);
        }
        self.feed(id, Event::Stored(last));
    }

    /// The stream between the brokers keeps its order.
    fn deliver(&mut self, id: usize, at: usize) {
        for _ in 0..=at % 3 {
            if self.nodes[id].inbox.is_empty() {
                return;
            }
            let message = self.nodes[id].inbox.remove(0);
            self.feed(id, Event::Peer(message));
        }
    }

    /// Calls of witnesses overtake each other.
    fn ask(&mut self, at: usize) {
        if self.asked.is_empty() {
            return;
        }
        let (id, agent, message) = self.asked.remove(at % self.asked.len());
        let witness = self.witnesses.get_mut(&agent).expect("a witness");
        let reply = witness.handle(message);
        self.nodes[id].replies.push((agent, reply));
    }

    fn reply(&mut self, id: usize, at: usize) {
        let replies = &mut self.nodes[id].replies;
        if !replies.is_empty() {
            let (agent, reply) = replies.remove(at % replies.len());
            self.feed(id, Event::Witness(agent, reply));
        }
    }

    fn set_link(&mut self, up: bool) {
        if self.link == up {
            return;
        }
        self.link = up;
        for node in &mut self.nodes {
            node.inbox.clear();
        }
        for id in [0, 1] {
            self.feed(id, Event::Link(up));
        }
    }

    fn propose(&mut self, id: usize) {
        self.proposed += 1;
        let agent = format!("agent{}", self.proposed % 5).parse().expect("a name");
        let proposal = Proposal::AgentFailed { agent, at: UnixMillis(self.proposed) };
        self.feed(id, Event::Propose(vec![(self.proposed, proposal)]));
    }

    /// It dies with what is not durable, and is there again.
    fn crash(&mut self, id: usize) {
        self.set_link(false);
        self.asked.retain(|(from, ..)| *from != id);
        self.now += 50;
        let seed = self.now;
        let node = &mut self.nodes[id];
        (node.writes, node.inbox, node.replies) = (Vec::new(), Vec::new(), Vec::new());
        node.replica = Replica::new(config(name(id), seed), node.disk.clone(), self.now);
        // What it has called committed need not be durable as such.
        node.commit = node.replica.commit();
        self.look(id);
    }

    /// A call of a witness, or its answer, is lost.
    fn lose(&mut self, id: usize, at: usize) {
        let replies = &mut self.nodes[id].replies;
        if at & 1 == 0 && !replies.is_empty() {
            drop(replies.remove(at % replies.len()));
        } else if !self.asked.is_empty() {
            drop(self.asked.remove(at % self.asked.len()));
        }
    }

    /// All that is on its way arrives, for a while.
    fn settle(&mut self) {
        for _ in 0..64 {
            for id in [0, 1] {
                self.write(id, 2);
                self.deliver(id, 2);
                self.ask(0);
                self.reply(id, 0);
            }
        }
    }

    fn feed(&mut self, id: usize, event: Event) {
        let actions = self.nodes[id].replica.handle(self.now, event);
        for action in actions {
            match action {
                Action::Store(token, write) => self.nodes[id].writes.push((token, write)),
                Action::ToPeer(message) => {
                    let inbox = &mut self.nodes[1 - id].inbox;
                    assert!(self.link, "nothing is said where nobody hears it");
                    inbox.push(message);
                }
                Action::ToWitness(agent, message) => {
                    if self.asked.len() < WAITING_MAX {
                        self.asked.push((id, agent, message));
                    }
                }
                Action::Answer { result: Ok(change), .. } => {
                    self.acknowledged.push((self.nodes[id].replica.commit(), change));
                }
                Action::Answer { id: number, result: Err(why) } => {
                    assert!(number <= self.proposed);
                    assert!(!matches!(why, Failure::Rejected(_)), "no rule forbids these: {why}");
                }
            }
        }
        self.look(id);
    }

    /// What must hold whatever happened; the replica checks itself as well.
    fn look(&mut self, id: usize) {
        let Node { replica, commit, .. } = &mut self.nodes[id];
        if !replica.is_sure() {
            return;
        }
        assert!(replica.commit() >= *commit, "{replica:?}: committed {commit} before");
        *commit = replica.commit();
        let Some(lsn) = replica.log().lsn(replica.commit()).cloned() else { return };
        let known = self.committed.entry(lsn.seq).or_insert_with(|| lsn.clone());
        assert_eq!(*known, lsn, "two changes are committed under one number");
    }

    /// With all faults gone the pair serves, both hold the same, and nothing that was acknowledged is lost.
    fn heal(&mut self) {
        self.set_link(true);
        self.feed(1, Event::Want(false));
        self.feed(0, Event::Want(true));
        let serves = |pair: &Self| {
            let (a, b) = (&pair.nodes[0].replica, &pair.nodes[1].replica);
            let ready = |of: &Replica| {
                matches!(of.standing(), Standing::Active { ready: true, synced: true, .. })
            };
            (ready(a) || ready(b)) && a.commit() == b.commit() && a.log().last() == b.log().last()
        };
        for _ in 0..400 {
            self.settle();
            if serves(self) {
                break;
            }
            self.now += 100;
            self.step(15, 0);
            self.feed(0, Event::Want(true));
        }
        let (a, b) = (&self.nodes[0].replica, &self.nodes[1].replica);
        assert!(serves(self), "it does not heal: {a:?} {b:?}");
        assert!(a.table().rows().eq(b.table().rows()), "the tables differ");
        for (_, change) in &self.acknowledged {
            let Change::AgentFailed { agent, at } = change else { unreachable!("{change:?}") };
            let kept = a.table().failed_at(agent);
            assert!(kept >= Some(*at), "{agent} {at:?} was acknowledged, and is {kept:?}");
        }
    }
}
