//! All states of a reduced model of the votes.
//!
//! The real replica has clocks, logs and tables, and far too many states. The model keeps what safety hangs on: durable
//! promises and accepted values, votes, crashes, messages that stay in the network for ever, and agents that check the
//! epoch as they act. Two brokers and three witness agents, each an acceptor; two users, each with one cell that names
//! the agent of their desktop; a start is a message that any agent may receive at any time. A second agent is tried
//! only after a tombstone of the first start was committed, as a later value of the cell.

use std::collections::{HashSet, VecDeque};

const USERS: usize = 2;
const AGENTS: usize = 3;
const ACCEPTORS: usize = 2 + AGENTS;

/// What an acceptor holds of a cell: the epoch that wrote it, and the value. A value is the number of the attempt: 1 is
/// reserved, 2 is running, 3 is a tombstone, and so on with the next agent.
type Cell = (u8, u8);

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Acceptor {
    promised: u8,
    cells: [Cell; USERS],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Broker {
    /// Volatile: 0 after a crash.
    epoch: u8,
    promises: u8,
    is_active: bool,
    learnt: [Cell; USERS],
    /// The value that is being committed, and who has it.
    writing: [u8; USERS],
    has: [u8; USERS],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct State {
    acceptors: [Acceptor; ACCEPTORS],
    brokers: [Broker; 2],
    /// Starts under way: a bit for each user, attempt and epoch.
    starts: [[u16; 2]; USERS],
    /// Desktops that run: a bit for each attempt.
    runs: [u8; USERS],
    /// Desktops that were handed out.
    handed: [u8; USERS],
    claims: u8,
    crashes: u8,
}

/// How the search ended.
#[derive(Debug, Clone)]
pub struct Search {
    /// Distinct states.
    pub states: usize,
    /// What broke, if anything.
    pub violation: Option<String>,
}

/// How many votes each step needs; 2 is right.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// To become active.
    pub claim: u32,
    /// To commit.
    pub commit: u32,
    /// Most claims.
    pub claims: u8,
    /// Most crashes.
    pub crashes: u8,
    /// Users that log in, 1 or 2.
    pub users: usize,
}

impl Rules {
    /// The protocol's, within the bounds that are searched.
    #[must_use]
    pub const fn right() -> Self {
        Self { claim: 2, commit: 2, claims: 2, crashes: 0, users: 1 }
    }
}

/// Votes of a set of acceptors: each broker one, most of the witnesses one.
const fn votes(set: u8) -> u32 {
    (set & 3).count_ones() + if (set >> 2).count_ones() >= 2 { 1 } else { 0 }
}

/// Searches every state, breadth first, up to `most` states.
#[must_use]
pub fn search(rules: Rules, most: usize) -> Search {
    let none = Broker {
        epoch: 0,
        promises: 0,
        is_active: false,
        learnt: [(0, 0); USERS],
        writing: [0; USERS],
        has: [0; USERS],
    };
    let first = State {
        acceptors: [Acceptor { promised: 0, cells: [(0, 0); USERS] }; ACCEPTORS],
        brokers: [none; 2],
        starts: [[0; 2]; USERS],
        runs: [0; USERS],
        handed: [0; USERS],
        claims: 0,
        crashes: 0,
    };
    let mut seen = HashSet::from([first]);
    let mut queue = VecDeque::from([first]);
    let mut next = Vec::new();
    while let Some(state) = queue.pop_front() {
        if state.handed.iter().any(|handed| handed.count_ones() > 1) {
            let violation = Some("a user was handed two desktops".to_owned());
            return Search { states: seen.len(), violation };
        }
        if seen.len() > most {
            let violation = Some(format!("not finished after {most} states"));
            return Search { states: seen.len(), violation };
        }
        successors(&state, rules, &mut next);
        for mut state in next.drain(..) {
            // Nothing tells a broker's former life or a vote that was counted twice apart.
            for broker in &mut state.brokers {
                if broker.is_active {
                    (broker.promises, broker.learnt) = (0, [(0, 0); USERS]);
                }
            }
            if seen.insert(state) {
                queue.push_back(state);
            }
        }
    }
    Search { states: seen.len(), violation: None }
}

fn successors(state: &State, rules: Rules, out: &mut Vec<State>) {
    for id in 0..2 {
        let broker = state.brokers[id];
        if state.claims < rules.claims {
            out.push(claim(state, id));
        }
        if broker.epoch > 0 && state.crashes < rules.crashes {
            let mut new = *state;
            new.crashes += 1;
            new.brokers[id] = Broker { epoch: 0, promises: 0, is_active: false, ..broker };
            new.brokers[id].learnt = [(0, 0); USERS];
            (new.brokers[id].writing, new.brokers[id].has) = ([0; USERS], [0; USERS]);
            out.push(new);
        }
        if broker.epoch > 0 && !broker.is_active {
            promises(state, id, rules, out);
        }
        if broker.is_active {
            for user in 0..rules.users {
                active(state, id, user, rules, out);
            }
        }
    }
    for user in 0..rules.users {
        for attempt in 0..2 {
            acts(state, user, attempt, out);
        }
    }
}

fn claim(state: &State, id: usize) -> State {
    let mut new = *state;
    // Above all that this broker knows of; never one of the other's.
    let known = state.acceptors[id].promised.max(state.brokers[id].epoch) / 2;
    let epoch = (known + 1) * 2 + u8::from(id == 1);
    new.claims += 1;
    new.acceptors[id].promised = epoch;
    let cells = new.acceptors[id].cells;
    new.brokers[id] = Broker {
        epoch,
        promises: 1 << id,
        is_active: false,
        learnt: cells,
        writing: [0; USERS],
        has: [0; USERS],
    };
    new
}

fn promises(state: &State, id: usize, rules: Rules, out: &mut Vec<State>) {
    let broker = state.brokers[id];
    for (voter, acceptor) in state.acceptors.iter().enumerate() {
        if broker.promises >> voter & 1 == 0 && broker.epoch > acceptor.promised {
            let mut new = *state;
            new.acceptors[voter].promised = broker.epoch;
            new.brokers[id].promises |= 1 << voter;
            for user in 0..USERS {
                let learnt = &mut new.brokers[id].learnt[user];
                *learnt = (*learnt).max(acceptor.cells[user]);
            }
            out.push(new);
        }
    }
    if votes(broker.promises) >= rules.claim {
        let mut new = *state;
        new.brokers[id].is_active = true;
        // What was learnt is committed anew before anything else.
        new.brokers[id].writing = new.brokers[id].learnt.map(|(_, value)| value);
        out.push(new);
    }
}

/// A broker that believes to be active, rightly or not.
fn active(state: &State, id: usize, user: usize, rules: Rules, out: &mut Vec<State>) {
    let broker = state.brokers[id];
    let (epoch, value) = (broker.epoch, broker.writing[user]);
    if value > 0 {
        for voter in 0..ACCEPTORS {
            if broker.has[user] >> voter & 1 == 0 && state.acceptors[voter].promised <= epoch {
                let mut new = *state;
                new.acceptors[voter].promised = epoch;
                new.acceptors[voter].cells[user] = (epoch, value);
                new.brokers[id].has[user] |= 1 << voter;
                out.push(new);
            }
        }
        if votes(broker.has[user]) < rules.commit {
            return;
        }
    }
    let mut write = |value: u8| {
        let mut new = *state;
        new.brokers[id].writing[user] = value;
        new.brokers[id].has[user] = 0;
        out.push(new);
    };
    let attempt = usize::from(value.saturating_sub(1) / 3).min(1);
    match value {
        0 => write(1),
        // Reserved: the agent is asked, or the start, of unknown outcome, is given up.
        1 | 4 => {
            write(value + 2);
            let asked = 1u16 << epoch;
            if state.starts[user][attempt] & asked == 0 {
                let mut new = *state;
                new.starts[user][attempt] |= asked;
                out.push(new);
            }
            if state.runs[user] >> attempt & 1 == 1 {
                let mut new = *state;
                new.brokers[id].writing[user] = value + 1;
                new.brokers[id].has[user] = 0;
                out.push(new);
            }
        }
        // Running is committed: the user may be answered.
        2 | 5 => {
            let mut new = *state;
            new.handed[user] |= 1 << attempt;
            out.push(new);
        }
        // A tombstone: the next agent.
        3 => write(4),
        _ => {}
    }
}

/// An agent receives a start, however late, if it has not promised to a higher epoch.
fn acts(state: &State, user: usize, attempt: usize, out: &mut Vec<State>) {
    let agent = 2 + attempt;
    for epoch in 0..16u8 {
        let is_asked = state.starts[user][attempt] >> epoch & 1 == 1;
        if is_asked
            && state.acceptors[agent].promised <= epoch
            && state.runs[user] >> attempt & 1 == 0
        {
            let mut new = *state;
            new.acceptors[agent].promised = epoch;
            new.runs[user] |= 1 << attempt;
            out.push(new);
        }
    }
}
