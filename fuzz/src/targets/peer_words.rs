//! One broker of a pair, and whatever the other one, the witnesses and the agents say, as far as it can be understood.
//!
//! Each word is a byte for who says it, one for how it is made to fit what is there, and a message with its length in
//! two bytes. What a peer can say that lies is more than it can say by mistake.

use prost::Message;
use vsm_core::{
    AgentName, Epoch, Lsn, Proposal, UnixMillis,
    replica::{
        Action, Config, Disk, Entry, Event, Limits, PeerMsg, Replica, Supply, Token, WitnessReply,
    },
};
use vsm_proto::sync::v1 as pb;

/// Words that are taken of one input.
const WORDS_MAX: usize = 64;

pub(crate) fn run(bytes: &[u8]) {
    let (mut node, mut rest) = (Node::new(), bytes);
    for _ in 0..WORDS_MAX {
        let Some(([who, how, low, high], after)) = rest.split_first_chunk::<4>() else { break };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (message, after) = after.split_at(length);
        node.hear(*who, *how, message);
        rest = after;
    }
    node.restart();
}

struct Node {
    replica: Replica,
    disk: Disk,
    writes: Vec<Token>,
    commit: u64,
    now: u64,
    proposed: u64,
}

fn config() -> Config {
    Config {
        node: "b".parse().expect("a name"),
        witnesses: ["w1", "w2", "w3"].map(|name| name.parse().expect("a name")).into(),
        ack_timeout_ms: 300,
        heartbeat_ms: 100,
        seed: 1,
        limits: Limits { log_keep: 8, ..Limits::DEFAULT },
        alone: false,
    }
}

impl Node {
    fn new() -> Self {
        let (disk, writes) = (Disk::default(), Vec::new());
        let replica = Replica::new(config(), disk.clone(), 0);
        let mut node = Self { replica, disk, writes, commit: 0, now: 1000, proposed: 0 };
        node.feed(Event::Link(true));
        node
    }

    fn hear(&mut self, who: u8, how: u8, bytes: &[u8]) {
        match who % 12 {
            0..=4 => self.peer(how, bytes),
            5 | 6 => self.witness(how, bytes),
            7 => {
                self.now += u64::from(how) * 4;
                self.feed(Event::Tick);
            }
            8 => self.feed(Event::Want(how & 1 == 0)),
            9 => self.feed(Event::Link(how & 1 == 0)),
            10 => {
                self.proposed += 1;
                let (id, at) = (self.proposed, UnixMillis(how.into()));
                let agent = "agent1".parse().expect("a name");
                self.feed(Event::Propose(vec![(id, Proposal::AgentFailed { agent, at })]));
            }
            _ => self.stored(how),
        }
        if how & 0x80 == 0 {
            self.stored(0xff);
        }
    }

    fn peer(&mut self, how: u8, bytes: &[u8]) {
        let Some(mut message) = parsed(bytes) else { return };
        fit(&mut message, &self.replica, how);
        // What was made to fit must be such as a connection lets through.
        let told = pb::PeerMessage::from(&message).encode_to_vec();
        if let Some(message) = parsed(&told) {
            self.feed(Event::Peer(message));
        }
    }

    fn witness(&mut self, how: u8, bytes: &[u8]) {
        let reply = pb::WitnessResponse::decode(bytes).ok().map(WitnessReply::try_from);
        let Some(Ok(mut reply)) = reply else { return };
        let promised = self.replica.status().promised;
        if let WitnessReply::Promised { epoch, .. }
        | WitnessReply::Accepted { epoch, .. }
        | WitnessReply::Gap { epoch }
        | WitnessReply::Cleared { epoch } = &mut reply
            && how & 1 == 1
        {
            *epoch = promised;
        }
        let told = pb::WitnessResponse::from(&reply).encode_to_vec();
        let name = ["w1", "w2", "w3", "agent9"][usize::from(how >> 1) % 4];
        let agent: AgentName = name.parse().expect("a name");
        if let Some(Ok(reply)) =
            pb::WitnessResponse::decode(told.as_slice()).ok().map(WitnessReply::try_from)
        {
            self.feed(Event::Witness(agent, reply));
        }
    }

    /// So many of the oldest writes are durable.
    fn stored(&mut self, count: u8) {
        let count = usize::from(count).min(self.writes.len());
        let last = self.writes.drain(..count).next_back();
        if let Some(last) = last {
            self.feed(Event::Stored(last));
        }
    }

    fn feed(&mut self, event: Event) {
        let mut replaced = false;
        for action in self.replica.handle(self.now, event) {
            match action {
                Action::Store(token, write) => {
                    replaced |= write.install.is_some();
                    // A store takes a write whole; here at once, and it is told so later.
                    self.disk.apply(&write);
                    self.writes.push(token);
                }
                Action::ToPeer(message) => {
                    let told = pb::PeerMessage::from(&message).encode_to_vec();
                    assert_eq!(parsed(&told).as_ref(), Some(&message), "it says what can be heard");
                }
                Action::ToWitness(..) | Action::Answer { .. } => {}
            }
        }
        assert!(replaced || self.replica.commit() >= self.commit, "{:?}", self.replica);
        self.commit = self.replica.commit();
        let Disk { log, commit, promised, .. } = &self.disk;
        assert!(log.base().seq <= *commit && *commit <= log.last().seq, "durable: {commit}");
        assert_eq!(log.last(), self.replica.log().last(), "what is durable is what is held");
        assert!(log.last().epoch <= *promised);
    }

    /// It comes back with what is durable.
    fn restart(&mut self) {
        self.replica = Replica::new(config(), self.disk.clone(), self.now);
        self.writes.clear();
        self.commit = self.replica.commit();
        for event in [Event::Tick, Event::Link(true), Event::Want(true)] {
            self.feed(event);
        }
    }
}

fn parsed(bytes: &[u8]) -> Option<PeerMsg> {
    PeerMsg::try_from(pb::PeerMessage::decode(bytes).ok()?).ok()
}

/// Gives a message the epochs and numbers that this node would listen to.
fn fit(message: &mut PeerMsg, node: &Replica, how: u8) {
    let promised = node.status().promised;
    let own = match how & 3 {
        0 => return,
        1 => promised,
        2 => promised.next("a".parse().expect("a name"), how.into()),
        _ => Epoch { counter: promised.counter, ..promised.next("a".parse().expect("a name"), 1) },
    };
    let last = match how & 4 {
        0 => node.log().last().clone(),
        _ => node.log().lsn(node.commit()).unwrap_or_else(|| node.log().base()).clone(),
    };
    match message {
        PeerMsg::Append { epoch, prev, entries, .. } => {
            *epoch = own.clone();
            *prev = last;
            renumber(prev, entries, &own);
        }
        PeerMsg::Promise { epoch, supply, .. } => {
            *epoch = own.clone();
            if let Supply::Entries { prev, entries } = supply {
                *prev = last;
                renumber(prev, entries, &own);
            }
        }
        PeerMsg::Snapshot { epoch, .. }
        | PeerMsg::Claim { epoch, .. }
        | PeerMsg::Yield { epoch }
        | PeerMsg::Ack { epoch, .. }
        | PeerMsg::Behind { epoch, .. } => *epoch = own,
        PeerMsg::Hello(hello) => hello.active = hello.active.take().map(|_| own),
        PeerMsg::Wish { .. } | PeerMsg::Stale { .. } => {}
    }
}

fn renumber(prev: &Lsn, entries: &mut [Entry], epoch: &Epoch) {
    for (entry, seq) in entries.iter_mut().zip(prev.seq + 1..) {
        entry.lsn = Lsn { epoch: epoch.clone(), seq };
    }
}
