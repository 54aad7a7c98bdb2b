//! Each rule of the replica, by events and what they lead to.

use super::*;
use crate::{AgentName, Change, Epoch, Lsn, Proposal, UnixMillis};

fn config(name: &str) -> Config {
    let agent = |name: &str| name.parse::<AgentName>().unwrap();
    Config {
        node: name.parse().unwrap(),
        witnesses: vec![agent("w1"), agent("w2"), agent("w3")],
        ack_timeout_ms: 300,
        heartbeat_ms: 100,
        seed: 1,
        limits: Limits::DEFAULT,
        alone: false,
    }
}

fn replica(name: &str, disk: Disk) -> Replica {
    Replica::new(config(name), disk, 0)
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

    /// The reign that a node has promised last, with the nonce that was drawn for it.
    fn reign(&self, id: usize) -> Epoch {
        self.nodes[id].status().promised
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
    let epoch = pair.reign(0);
    assert_eq!((epoch.counter, epoch.node.as_str()), (1, "a"));
    let synced = Standing::Active { epoch, ready: true, votes: true, synced: true };
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
    assert_eq!(pair.answers, [(7, Err(Failure::NotActive(Some(pair.reign(0)))))]);
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
    let accepted = WitnessReply::Accepted { epoch: pair.reign(0), last };
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
    assert!(matches!(pair.nodes[1].standing(), Standing::Standby { .. }), "it looks first");
    let free = WitnessReply::Free { promised: pair.reign(0) };
    pair.feed(1, Event::Witness("w1".parse().unwrap(), free.clone()));
    pair.feed(1, Event::Witness("w3".parse().unwrap(), free));
    let own = pair.reign(1);
    assert_eq!((own.counter, own.node.as_str()), (2, "b"));
    let promised = |window| WitnessReply::Promised { epoch: own.clone(), window };
    pair.feed(1, Event::Witness("w1".parse().unwrap(), promised(None)));
    assert!(matches!(pair.nodes[1].standing(), Standing::Claiming(_)), "one is not most");
    pair.feed(1, Event::Witness("w3".parse().unwrap(), promised(Some(window.clone()))));
    let Standing::Active { ready: false, .. } = pair.nodes[1].standing() else {
        panic!("{:?}", pair.nodes[1])
    };
    assert!(pair.nodes[1].table().failed_at(&"w1".parse().unwrap()).is_some());
    assert!(!pair.nodes[1].is_sure(), "one witness had it: nobody is shown it yet");
    assert!(pair.disks[1].unsure, "nor after a restart");
    let mark = pair.disks[1].mark.clone().unwrap();
    assert_eq!((mark.base, mark.keys.len()), (window.base, 1), "durable with the rows");
}

/// What a witness keeps may take longer to send than one time-out: a claim that failed for that is followed by one that
/// waits for longer.
#[test]
fn a_witness_that_has_much_to_send_is_waited_for() {
    let mut pair = Pair::formed();
    pair.feed(0, Event::Link(false));
    pair.feed(1, Event::Link(false));
    let promised = pair.reign(0);
    let both = |reply: &WitnessReply| {
        ["w1", "w3"].map(|agent| Event::Witness(agent.parse().unwrap(), reply.clone()))
    };
    let sends_for = 3 * pair.nodes[1].config.ack_timeout_ms;
    for attempt in 0..5 {
        pair.now += 60_000;
        pair.feed(1, Event::Want(true));
        pair.feed(1, Event::Tick);
        for free in both(&WitnessReply::Free { promised: promised.clone() }) {
            pair.feed(1, free);
        }
        assert!(matches!(pair.nodes[1].standing(), Standing::Claiming(_)), "attempt {attempt}");
        let own = pair.reign(1);
        for _ in 0..10 {
            pair.now += sends_for / 10;
            pair.feed(1, Event::Tick);
        }
        for vote in both(&WitnessReply::Promised { epoch: own, window: None }) {
            pair.feed(1, vote);
        }
        if matches!(pair.nodes[1].standing(), Standing::Active { .. }) {
            assert!(attempt > 0, "the first waits for one time-out");
            return;
        }
    }
    panic!("it never waits for long enough");
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
    let own = pair.reign(0);
    assert_eq!(own.counter, 2);
    assert_eq!(pair.nodes[0].standing(), Standing::Claiming(own.clone()));
    assert!(!pair.disks[1].joined, "its vote does not count");
    for name in ["w1", "w2"] {
        let promised = WitnessReply::Promised { epoch: own.clone(), window: None };
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
    let accept =
        |prev, seq| WitnessMsg::Accept { epoch: e(1), prev, window: window(seq), hold_ms: 0 };
    let lsn = |seq| Lsn { epoch: e(1), seq };
    assert!(matches!(witness.handle(accept(Some(lsn(1)), 2)), WitnessReply::Gap { .. }));
    assert_eq!(
        witness.handle(accept(None, 3)),
        WitnessReply::Accepted { epoch: e(1), last: lsn(3) }
    );
    witness.handle(WitnessMsg::Clear { epoch: e(1), at: lsn(2), loss: None, life: None });
    assert!(witness.window().is_some(), "the message is older than what is kept");
    let WitnessReply::Promised { window: Some(_), .. } =
        witness.handle(WitnessMsg::Claim { epoch: e(2), life: None })
    else {
        panic!("no promise")
    };
    assert_eq!(witness.handle(accept(None, 9)), WitnessReply::Refused { promised: e(2) });
    assert_eq!(witness.admit(&e(1)), Err(e(2)));
}

/// A3: what makes up for one loss is of no use for the next.
#[test]
fn a_witness_that_lost_what_it_held_votes_when_this_very_loss_was_made_up_for() {
    let e = |counter| epoch(counter, "a");
    let claim = |counter| WitnessMsg::Claim { epoch: e(counter), life: None };
    let clear = |loss| WitnessMsg::Clear { epoch: e(6), at: Lsn::zero(), loss, life: None };
    let mut witness = Witness::fresh(7);
    let mute = WitnessReply::Mute { loss: 7 };
    assert_eq!(witness.handle(claim(6)), mute);
    assert_eq!(witness.handle(clear(None)), mute);
    assert_eq!(witness.handle(clear(Some(5))), mute, "of an earlier loss");
    assert_eq!(witness.admit(&e(4)), Ok(()), "it acts, as it does not know of a loss");
    assert!(matches!(witness.handle(clear(Some(7))), WitnessReply::Cleared { .. }));
    assert!(matches!(witness.handle(claim(7)), WitnessReply::Promised { .. }));
}

/// A3: the peer's word counts when it was given after the loss was known.
#[test]
fn a_loss_is_made_up_for_by_an_acknowledgement_that_was_asked_for_after_it_was_told() {
    let mut pair = Pair::formed();
    let w1: AgentName = "w1".parse().unwrap();
    let (epoch, last) = (pair.reign(0), pair.nodes[0].log().last().seq);
    pair.to_witness.clear();
    // By hand from here on: what the active node says does not reach the peer at once.
    let mute = WitnessReply::Mute { loss: 7 };
    let mut said = pair.nodes[0].handle(pair.now, Event::Witness(w1, mute));
    let ack = |round| Event::Peer(PeerMsg::Ack { epoch: epoch.clone(), last, round });
    said.extend(pair.nodes[0].handle(pair.now + 1, ack(0)));
    let clears = |said: &[Action]| {
        let clears = |action: &&Action| {
            matches!(action, Action::ToWitness(_, WitnessMsg::Clear { loss: Some(7), .. }))
        };
        said.iter().filter(clears).count()
    };
    assert_eq!(clears(&said), 0, "that one was on its way before: {said:?}");
    let round = said.iter().find_map(|action| match action {
        Action::ToPeer(PeerMsg::Append { round, .. }) => Some(*round),
        Action::Store(..) | Action::ToPeer(_) | Action::ToWitness(..) | Action::Answer { .. } => {
            None
        }
    });
    let said = pair.nodes[0].handle(pair.now + 2, ack(round.expect("the peer is asked at once")));
    assert_eq!(clears(&said), 1, "{said:?}");
}

/// A5: a reign that is alive and wanted keeps who cannot win from asking for votes.
#[test]
fn a_witness_holds_others_off_while_a_reign_is_alive() {
    let mut living = Living::default();
    let accept = |hold_ms| WitnessMsg::Accept {
        epoch: epoch(3, "a"),
        prev: None,
        window: window(1),
        hold_ms,
    };
    living.heard(&accept(900), 1000);
    assert_eq!(living.other(&epoch(4, "b"), 1899), Some(&epoch(3, "a")));
    assert_eq!(living.other(&epoch(4, "a"), 1899), None, "its own");
    assert_eq!(living.other(&epoch(4, "b"), 1900), None);
    living.heard(&accept(u64::MAX), 1000);
    assert_eq!(living.other(&epoch(4, "b"), 11_000), None, "nobody is held off for ever");
    living.heard(&accept(0), 1000);
    assert_eq!(living.other(&epoch(4, "b"), 1000), None, "a reign that is not wanted");
}

/// A8: a node whose disk was put back from before both were lost gets no vote by it.
#[test]
fn a_copy_of_a_former_life_is_no_vote_and_nothing_is_learnt_from_it() {
    let mut former = Pair::formed();
    (1..5).for_each(|number| former.propose(0, number));
    let mut pair = Pair::new();
    pair.nodes[0] = Replica::new(Config { seed: 99, ..config("a") }, Disk::default(), 0);
    pair.feed(0, Event::Link(true));
    pair.feed(1, Event::Link(true));
    pair.feed(0, Event::Want(true));
    pair.propose(0, 9);
    assert_ne!(former.reign(0), pair.reign(0), "one number, two reigns");
    pair.feed(0, Event::Link(false));
    let old = former.disks[1].clone();
    (pair.nodes[1], pair.disks[1]) = (replica("b", old.clone()), old);
    let before = pair.disks[0].log.last().clone();
    for id in [1, 0] {
        pair.feed(id, Event::Link(true));
    }
    // It cannot have kept to what it promised in this life: the active node claims anew, and needs the witnesses for
    // it.
    assert!(!matches!(pair.nodes[0].standing(), Standing::Active { .. }), "{:?}", pair.nodes[0]);
    assert!(pair.disks[0].log.contains(&before), "nothing of this life is lost");
    assert!(pair.nodes[0].status().peer_foreign);
    let life = pair.disks[0].log.life().cloned();
    let mut witness = Witness { life, ..Witness::default() };
    let claim =
        WitnessMsg::Claim { epoch: epoch(99, "b"), life: former.disks[1].log.life().cloned() };
    assert!(matches!(witness.handle(claim), WitnessReply::Foreign { .. }));
}

/// A node that left the pair and served alone is not overtaken by the copy that the other one still has.
#[test]
fn the_copy_of_a_node_that_was_left_never_reigns_and_votes_for_who_left() {
    let mut pair = Pair::formed();
    pair.propose(0, 1);
    for id in [0, 1] {
        pair.feed(id, Event::Link(false));
    }
    let left = pair.disks[0].leave_pair("a".parse().unwrap(), 9);
    pair.disks[0].apply(&left);
    let life = pair.disks[0].log.life().cloned();
    assert_ne!(life, pair.disks[1].log.life().cloned());
    let alone = Config { alone: true, witnesses: Vec::new(), ..config("a") };
    pair.nodes[0] = Replica::new(alone, pair.disks[0].clone(), pair.now);
    pair.feed(0, Event::Want(true));
    pair.feed(0, Event::WitnessUp("w1".parse().unwrap()));
    pair.propose(0, 2);
    // The agents hear which life goes on.
    let told =
        |message: &WitnessMsg| matches!(message, WitnessMsg::Clear { life: of, .. } if *of == life);
    pair.now += 1000;
    pair.feed(0, Event::Tick);
    assert!(pair.to_witness.iter().any(told), "{:?}", pair.to_witness);
    let done = pair.disks[0].log.last().clone();

    pair.nodes[0] = replica("a", pair.disks[0].clone());
    pair.nodes[1] = replica("b", pair.disks[1].clone());
    pair.feed(1, Event::TakeOver);
    let foreign = WitnessReply::Foreign { life: life.unwrap() };
    pair.feed(1, Event::Witness("w1".parse().unwrap(), foreign));
    assert!(pair.nodes[1].status().foreign.is_some());
    pair.feed(1, Event::Want(false));
    for id in [0, 1] {
        pair.feed(id, Event::Link(true));
    }
    pair.feed(0, Event::Want(true));
    for _ in 0..20 {
        pair.now += 100;
        pair.feed(1, Event::Tick);
        pair.feed(0, Event::Tick);
    }
    assert!(
        matches!(pair.nodes[0].standing(), Standing::Active { ready: true, .. }),
        "{:?}",
        pair.nodes
    );
    assert!(pair.disks[0].log.contains(&done), "what was done alone");
    assert_eq!(pair.disks[0].log.last(), pair.disks[1].log.last());
    assert_eq!(pair.disks[0].log.life(), pair.disks[1].log.life());
    assert!(pair.nodes[0].status().roster.is_some(), "and the pair is formed anew");
}

/// Both disks were lost, and the one that formed the pair anew dies before the witnesses are told of the new life.
#[test]
fn a_new_life_that_the_witnesses_do_not_know_yet_is_no_copy_once_both_nodes_have_it() {
    let mut pair = Pair::formed();
    for id in [0, 1] {
        pair.feed(id, Event::Link(false));
    }
    pair.feed(1, Event::TakeOver);
    assert!(matches!(pair.nodes[1].standing(), Standing::Claiming(_)), "{:?}", pair.nodes[1]);
    let foreign = || {
        let former = WitnessReply::Foreign { life: epoch(1, "former") };
        Event::Witness("w1".parse().unwrap(), former)
    };
    pair.feed(1, foreign());
    assert!(pair.nodes[1].status().foreign.is_some(), "it may be a copy");
    pair.feed(1, Event::Want(false));
    pair.feed(1, Event::Link(true));
    assert_eq!(
        pair.nodes[1].status().foreign,
        None,
        "nothing says that the other node is of another life"
    );
    pair.feed(0, Event::Link(true));
    pair.feed(0, Event::Want(true));
    for _ in 0..20 {
        pair.now += 100;
        pair.feed(1, Event::Tick);
        pair.feed(0, Event::Tick);
    }
    assert!(matches!(pair.nodes[0].standing(), Standing::Active { ready: true, .. }));
    pair.feed(1, foreign());
    pair.feed(1, Event::Link(false));
    assert_eq!(
        pair.nodes[1].status().foreign,
        None,
        "a late answer, and it followed a reign since"
    );
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

#[test]
fn a_claim_that_is_not_durable_asks_nobody_however_long_that_takes() {
    // One of a pair that is formed, alone.
    let mut pair = Pair::formed();
    let mut node = replica("a", std::mem::take(&mut pair.disks[0]));
    let mut actions = node.handle(1000, Event::Want(true));
    for now in [1200, 1400, 1700] {
        let free = |agent: &str| {
            Event::Witness(agent.parse().unwrap(), WitnessReply::Free { promised: Epoch::zero() })
        };
        actions.extend(node.handle(now, free("w1")));
        actions.extend(node.handle(now, free("w2")));
    }
    let claims = |actions: &[Action]| {
        let is_claim =
            |action: &&Action| matches!(action, Action::ToWitness(_, WitnessMsg::Claim { .. }));
        actions.iter().filter(is_claim).count()
    };
    let written = |action: &Action| {
        let Action::Store(token, write) = action else { return None };
        write.promised.is_some().then_some(*token)
    };
    let token = actions.iter().find_map(written).unwrap();
    for now in [2000, 5000, 60_000] {
        actions.extend(node.handle(now, Event::Tick));
    }
    assert_eq!(claims(&actions), 0, "{actions:?}");
    assert_eq!(claims(&node.handle(60_001, Event::Stored(token))), 3);
}

#[test]
fn a_word_from_before_a_loss_does_not_give_a_mute_witness_its_vote_back() {
    let mut pair = Pair::formed();
    let epoch = pair.reign(0);
    let witness = |reply| Event::Witness("w1".parse().unwrap(), reply);
    let is_mute = |pair: &Pair| pair.nodes[0].status().mute.contains(&"w1".parse().unwrap());
    pair.feed(0, Event::Link(false));
    pair.feed(0, witness(WitnessReply::Mute { loss: 9 }));
    let last = pair.nodes[0].log().last().clone();
    pair.feed(0, witness(WitnessReply::Accepted { epoch: epoch.clone(), last }));
    pair.feed(0, witness(WitnessReply::Cleared { epoch: epoch.clone() }));
    assert!(is_mute(&pair), "it was told nothing since");
    // The pair is in sync again: it is told, and has forgotten.
    pair.feed(1, Event::Link(true));
    pair.feed(0, Event::Link(true));
    pair.now += 1000;
    pair.feed(0, Event::Tick);
    let told = |message: &WitnessMsg| matches!(message, WitnessMsg::Clear { loss: Some(9), .. });
    assert!(pair.to_witness.iter().any(told), "{:?}", pair.to_witness);
    pair.feed(0, witness(WitnessReply::Cleared { epoch }));
    assert!(!is_mute(&pair));
}
