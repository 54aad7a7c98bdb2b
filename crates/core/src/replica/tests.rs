//! Each rule of the replica, by events and what they lead to.

use super::*;
use crate::{AgentName, Change, Epoch, Lsn, Proposal, UnixMillis};

fn replica(name: &str, disk: Disk) -> Replica {
    let agent = |name: &str| name.parse::<AgentName>().unwrap();
    let config = Config {
        node: name.parse().unwrap(),
        witnesses: vec![agent("w1"), agent("w2"), agent("w3")],
        ack_timeout_ms: 300,
        heartbeat_ms: 100,
        seed: 1,
        limits: Limits::DEFAULT,
        alone: false,
    };
    Replica::new(config, disk, 0)
}

fn epoch(counter: u64, name: &str) -> Epoch {
    Epoch { nonce: 0, counter, node: name.parse().unwrap() }
}

/// Two brokers, each with its disk; messages and writes are carried by hand.
struct Pair {
    nodes: [Replica; 2],
    disks: [Disk; 2],
    answers: Vec<(u64, Result<Change, Failure>)>,
    to_witness: Vec<WitnessMsg>,
    now: u64,
}

impl Pair {
    fn new() -> Self {
        Self {
            nodes: [replica("a", Disk::default()), replica("b", Disk::default())],
            disks: [Disk::default(), Disk::default()],
            answers: Vec::new(),
            to_witness: Vec::new(),
            now: 1000,
        }
    }

    /// Feeds an event, and all that follows from it.
    fn feed(&mut self, id: usize, event: Event) {
        let mut events = std::collections::VecDeque::from([(id, event)]);
        while let Some((id, event)) = events.pop_front() {
            for action in self.nodes[id].handle(self.now, event) {
                match action {
                    Action::Store(token, write) => {
                        self.disks[id].apply(&write);
                        events.push_back((id, Event::Stored(token)));
                    }
                    Action::ToPeer(message) => events.push_back((1 - id, Event::Peer(message))),
                    Action::ToWitness(_, message) => self.to_witness.push(message),
                    Action::Answer { id, result } => self.answers.push((id, result)),
                }
            }
        }
    }

    fn formed() -> Self {
        let mut pair = Self::new();
        pair.feed(0, Event::Link(true));
        pair.feed(1, Event::Link(true));
        pair.feed(0, Event::Want(true));
        pair
    }

    fn propose(&mut self, id: usize, number: u64) {
        let agent = "w1".parse().unwrap();
        let proposal = Proposal::AgentFailed { agent, at: UnixMillis(number) };
        self.feed(id, Event::Propose(vec![(number, proposal)]));
    }
}

#[test]
fn two_blank_brokers_form_a_pair_and_commit_on_both() {
    let mut pair = Pair::formed();
    let synced = Standing::Active { epoch: epoch(1, "a"), ready: true, votes: true, synced: true };
    assert_eq!(pair.nodes[0].standing(), synced);
    pair.propose(0, 7);
    assert!(matches!(pair.answers[..], [(7, Ok(_))]));
    assert_eq!(pair.disks[0].log.last(), pair.disks[1].log.last());
    pair.now += 200;
    pair.feed(0, Event::Tick);
    assert_eq!(pair.nodes[1].commit(), pair.nodes[0].commit());
}

#[test]
fn a_standby_takes_no_changes() {
    let mut pair = Pair::formed();
    pair.propose(1, 7);
    assert_eq!(pair.answers, [(7, Err(Failure::NotActive(Some(epoch(1, "a")))))]);
}

#[test]
fn a_promise_waits_for_its_write() {
    let mut node = replica("b", Disk::default());
    node.handle(1, Event::Link(true));
    let holds =
        Holds { joined: false, paired: false, last: Lsn::zero(), history: Vec::new(), reach: 0 };
    let claim = PeerMsg::Claim { epoch: epoch(5, "a"), holds };
    let actions = node.handle(2, Event::Peer(claim.clone()));
    let [Action::Store(token, write)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(write.promised, Some(epoch(5, "a")));
    let actions = node.handle(3, Event::Stored(*token));
    assert!(matches!(actions[..], [Action::ToPeer(PeerMsg::Promise { .. })]), "{actions:?}");
    let actions = node.handle(4, Event::Peer(claim));
    assert!(matches!(actions[..], [Action::ToPeer(PeerMsg::Stale { .. })]), "promised once");
}

#[test]
fn alone_without_witnesses_nothing_is_committed_and_one_witness_is_not_enough() {
    let mut pair = Pair::formed();
    pair.feed(0, Event::Link(false));
    pair.propose(0, 7);
    assert!(pair.answers.is_empty());
    let last = pair.nodes[0].log().last().clone();
    let accepted = WitnessReply::Accepted { epoch: epoch(1, "a"), last };
    pair.feed(0, Event::Witness("w1".parse().unwrap(), accepted.clone()));
    assert!(pair.answers.is_empty());
    pair.feed(0, Event::Witness("w2".parse().unwrap(), accepted));
    assert!(matches!(pair.answers[..], [(7, Ok(_))]));
}

#[test]
fn the_other_broker_reigns_by_what_the_witnesses_keep() {
    let mut pair = Pair::formed();
    pair.feed(0, Event::Link(false));
    pair.feed(1, Event::Link(false));
    pair.propose(0, 7);
    let Some(WitnessMsg::Accept { window, .. }) = pair.to_witness.last().cloned() else {
        panic!("nothing was sent to the witnesses")
    };
    assert_eq!(window.last, *pair.nodes[0].log().last());
    pair.now += 5000;
    pair.feed(1, Event::Want(true));
    let promised = |window| WitnessReply::Promised { epoch: epoch(2, "b"), window };
    pair.feed(1, Event::Witness("w1".parse().unwrap(), promised(None)));
    assert!(matches!(pair.nodes[1].standing(), Standing::Claiming(_)), "one is not most");
    pair.feed(1, Event::Witness("w3".parse().unwrap(), promised(Some(window.clone()))));
    let Standing::Active { ready: false, .. } = pair.nodes[1].standing() else {
        panic!("{:?}", pair.nodes[1])
    };
    assert!(pair.nodes[1].table().failed_at(&"w1".parse().unwrap()).is_some());
    let mark = pair.disks[1].mark.clone().unwrap();
    assert_eq!((mark.base, mark.keys.len()), (window.base, 1), "durable with the rows");
}

#[test]
fn a_higher_epoch_ends_a_reign_at_once_and_what_was_under_way_is_unknown() {
    let mut pair = Pair::formed();
    pair.feed(0, Event::Link(false));
    pair.propose(0, 7);
    pair.feed(0, Event::Fenced(epoch(9, "b")));
    assert!(matches!(pair.nodes[0].standing(), Standing::Standby { .. }));
    assert_eq!(pair.answers, [(7, Err(Failure::Unknown))]);
}

#[test]
fn a_broker_that_lost_its_disk_is_taken_in_by_a_new_reign_only() {
    let mut pair = Pair::formed();
    pair.feed(0, Event::Link(false));
    (pair.nodes[1], pair.disks[1]) = (replica("b", Disk::default()), Disk::default());
    pair.feed(1, Event::Link(true));
    pair.feed(0, Event::Link(true));
    assert_eq!(pair.nodes[0].standing(), Standing::Claiming(epoch(2, "a")));
    assert!(!pair.disks[1].joined, "its vote does not count");
    for name in ["w1", "w2"] {
        let promised = WitnessReply::Promised { epoch: epoch(2, "a"), window: None };
        pair.feed(0, Event::Witness(name.parse().unwrap(), promised));
    }
    assert!(matches!(pair.nodes[0].standing(), Standing::Active { synced: true, .. }));
    assert_eq!(pair.disks[0].log.last(), pair.disks[1].log.last());
}

#[test]
fn the_witnesses_are_changed_by_both_brokers_only() {
    let mut pair = Pair::formed();
    pair.feed(0, Event::Link(false));
    pair.feed(0, Event::Propose(vec![(7, Proposal::SetRoster([].into()))]));
    assert_eq!(pair.answers, [(7, Err(Failure::PeerAway))]);
}

fn window(seq: u64) -> Window {
    let last = Lsn { epoch: epoch(1, "a"), seq };
    Window { base: Lsn::zero(), last, rows: std::collections::BTreeMap::new(), history: Vec::new() }
}

#[test]
fn a_witness_keeps_its_promise_and_newer_rows() {
    let mut witness = Witness::default();
    let e = |counter| epoch(counter, "a");
    let accept = |prev, seq| WitnessMsg::Accept { epoch: e(1), prev, window: window(seq) };
    let lsn = |seq| Lsn { epoch: e(1), seq };
    assert!(matches!(witness.handle(accept(Some(lsn(1)), 2)), WitnessReply::Gap { .. }));
    assert_eq!(
        witness.handle(accept(None, 3)),
        WitnessReply::Accepted { epoch: e(1), last: lsn(3) }
    );
    witness.handle(WitnessMsg::Clear { epoch: e(1), at: lsn(2) });
    assert!(witness.window().is_some(), "the message is older than what is kept");
    let WitnessReply::Promised { window: Some(_), .. } =
        witness.handle(WitnessMsg::Claim { epoch: e(2) })
    else {
        panic!("no promise")
    };
    assert_eq!(witness.handle(accept(None, 9)), WitnessReply::Refused { promised: e(2) });
    assert_eq!(witness.admit(&e(1)), Err(e(2)));
}

#[test]
fn a_witness_that_lost_what_it_held_votes_only_after_a_later_reign() {
    let e = |counter| epoch(counter, "a");
    let mut witness = Witness::after_loss(e(5));
    let refused = WitnessReply::Refused { promised: e(5) };
    assert_eq!(witness.handle(WitnessMsg::Claim { epoch: e(6) }), refused);
    assert_eq!(witness.handle(WitnessMsg::Clear { epoch: e(5), at: Lsn::zero() }), refused);
    assert_eq!(witness.admit(&e(4)), Err(e(5)));
    witness.handle(WitnessMsg::Clear { epoch: e(6), at: Lsn::zero() });
    assert!(matches!(
        witness.handle(WitnessMsg::Claim { epoch: e(7) }),
        WitnessReply::Promised { .. }
    ));
}

#[test]
fn after_a_planned_hand_over_the_old_node_asks_for_nothing_while_the_new_one_reigns() {
    let mut pair = Pair::formed();
    pair.feed(1, Event::TakeOver);
    assert!(matches!(pair.nodes[1].standing(), Standing::Active { ready: true, .. }));
    // It still holds the address, and is told so again and again.
    for _ in 0..20 {
        pair.now += 100;
        pair.feed(0, Event::Want(true));
        pair.feed(1, Event::Tick);
    }
    assert!(pair.nodes[0].status().relieved && !pair.nodes[0].status().want);
    assert!(matches!(pair.nodes[1].standing(), Standing::Active { ready: true, .. }));
    pair.feed(0, Event::Want(false));
    assert!(!pair.nodes[0].status().relieved, "the address has left it");
}

/// Seed 864: the one that was asked to take over was told before it could that it is not wanted.
#[test]
fn a_node_that_handed_over_takes_it_back_where_nobody_took_it() {
    let mut pair = Pair::formed();
    pair.feed(0, Event::Peer(PeerMsg::Wish { planned: true }));
    assert!(matches!(pair.nodes[0].standing(), Standing::Standby { .. }));
    assert!(matches!(pair.nodes[1].standing(), Standing::Standby { .. }));
    for _ in 0..20 {
        pair.now += 100;
        pair.feed(0, Event::Tick);
        pair.feed(1, Event::Tick);
    }
    assert!(matches!(pair.nodes[0].standing(), Standing::Active { ready: true, .. }));
}
