//! What each broker could do with what it reaches: votes are two of {its own store, the other's store, most of the
//! witnesses}. A pure model of the rules in `docs/protocol.md`, for `vsmctl ha simulate`.

/// The pair and its agents at one moment; index 0 and 1 are the two brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) nodes: [Broker; 2],
    /// Whether the brokers reach each other.
    pub(super) link: bool,
    pub(super) agents: Vec<Agent>,
    /// `/vsmserver/HA/solo_create` is `allow_and_mark`.
    pub(super) solo_create: bool,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broker {
    pub(super) name: String,
    pub(super) up: bool,
    /// Whether it is the active one before the fault.
    pub(super) active: bool,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) name: String,
    pub(super) witness: bool,
    /// Whether each broker reaches it.
    pub(super) reach: [bool; 2],
    /// It can be reached, and its vote is not to be had all the same.
    pub(super) mute: [bool; 2],
}

/// What a broker is after the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It stays active, with two votes.
    Active,
    /// The active one has lost its votes, and this one has them.
    TakesOver,
    /// It has votes, and would take over if it were asked to; until then it forwards nothing, as it does not reach the
    /// active one.
    Could,
    /// It hands all requests to the active one.
    Forwards,
    /// Too few votes.
    NoVotes,
    /// Dead.
    Down,
}

impl Standing {
    /// In words.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::TakesOver => "takes over",
            Self::Could => "could take over",
            Self::Forwards => "forwards",
            Self::NoVotes => "no votes",
            Self::Down => "down",
        }
    }
}

/// Whether new desktops are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Create {
    Yes,
    /// Without votes, marked, as the administrator chose: a user may end up with too many.
    Marked,
    No,
}

impl Create {
    /// In words.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Marked => "marked",
            Self::No => "no",
        }
    }
}

/// What a broker can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Can {
    pub(super) standing: Standing,
    pub(super) create: Create,
    /// On so many agents its users reach their desktops.
    pub(super) reconnect: usize,
    /// `peer`, `witnesses`, or nothing where there is no second vote.
    pub(super) second: Option<&'static str>,
}

/// A fault and what becomes of the site by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) site: Site,
}

impl Site {
    fn linked(&self) -> bool {
        self.link && self.nodes.iter().all(|node| node.up)
    }

    fn most_witnesses(&self, node: usize) -> bool {
        let witnesses = || self.agents.iter().filter(|agent| agent.witness);
        witnesses().filter(|agent| agent.reach[node] && !agent.mute[node]).count() * 2
            > witnesses().count()
    }

    fn second(&self, node: usize) -> Option<&'static str> {
        if self.linked() { Some("peer") } else { self.most_witnesses(node).then_some("witnesses") }
    }

    fn reached(&self, node: usize) -> usize {
        self.agents.iter().filter(|agent| agent.reach[node]).count()
    }

    /// What each broker can do.
    pub(super) fn outcome(&self) -> [Can; 2] {
        let votes = [0, 1].map(|node| self.nodes[node].up && self.second(node).is_some());
        let incumbent = (0..2).find(|node| self.nodes[*node].active && votes[*node]);
        let server = incumbent.or_else(|| (0..2).find(|node| votes[*node]));
        [0, 1].map(|node| self.can(node, votes[node], incumbent, server))
    }

    fn can(
        &self,
        node: usize,
        votes: bool,
        incumbent: Option<usize>,
        server: Option<usize>,
    ) -> Can {
        let none = |standing| Can { standing, create: Create::No, reconnect: 0, second: None };
        if !self.nodes[node].up {
            return none(Standing::Down);
        }
        let own = |standing, create| {
            let reconnect = self.reached(node);
            let create = if reconnect == 0 { Create::No } else { create };
            Can { standing, create, reconnect, second: self.second(node) }
        };
        match server {
            Some(server) if server == node && incumbent.is_some() => {
                own(Standing::Active, Create::Yes)
            }
            Some(server) if server == node => own(Standing::TakesOver, Create::Yes),
            Some(server) if self.linked() => {
                let there = self.can(server, true, incumbent, Some(server));
                Can { standing: Standing::Forwards, ..there }
            }
            Some(_) if votes => own(Standing::Could, Create::Yes),
            _ => own(Standing::NoVotes, if self.solo_create { Create::Marked } else { Create::No }),
        }
    }

    fn with(&self, name: impl Into<String>, change: impl FnOnce(&mut Self)) -> Case {
        let mut site = self.clone();
        change(&mut site);
        Case { name: name.into(), site }
    }

    fn cut(&mut self, node: usize, which: impl Fn(usize, &Agent) -> bool) {
        for (number, agent) in self.agents.iter_mut().enumerate() {
            agent.reach[node] &= !which(number, agent);
        }
    }

    /// The network falls into two parts, each with one broker.
    fn part(&mut self, with_first: impl Fn(usize, &Agent) -> bool) {
        self.link = false;
        self.cut(0, |number, agent| !with_first(number, agent));
        self.cut(1, with_first);
    }

    /// Every single cut or loss, on top of what is lost already; the site as it is comes first.
    pub(super) fn cases(&self) -> Vec<Case> {
        let mut cases = vec![self.with("as it is now", |_| {})];
        let names = [&self.nodes[0].name, &self.nodes[1].name];
        let [first, second] = names;
        for (node, name) in names.iter().enumerate() {
            cases.push(self.with(format!("{name} dies"), |site| site.nodes[node].up = false));
        }
        cases.push(
            self.with(format!("the link {first} - {second} is cut"), |site| site.link = false),
        );
        for (node, name) in names.iter().enumerate() {
            cases.push(self.with(format!("{name} is cut from everything"), |site| {
                site.link = false;
                site.cut(node, |_, _| true);
            }));
        }
        self.witness_cases(&mut cases);
        if let Some(agent) = self.agents.iter().find(|agent| !agent.witness) {
            let lost = agent.name.clone();
            cases.push(self.with(format!("{lost} (no witness) is lost"), |site| {
                for node in 0..2 {
                    site.cut(node, |_, agent| agent.name == lost);
                }
            }));
        }
        cases.push(self.with("the resource address is on both or on neither", |_| {}));
        cases
    }

    fn witness_cases(&self, cases: &mut Vec<Case>) {
        let witnesses: Vec<usize> =
            (0..self.agents.len()).filter(|number| self.agents[*number].witness).collect();
        if witnesses.is_empty() {
            return;
        }
        let names = [&self.nodes[0].name, &self.nodes[1].name];
        for lost in &witnesses {
            cases.push(self.with(format!("witness {} is lost", self.agents[*lost].name), |site| {
                for node in 0..2 {
                    site.cut(node, |number, _| number == *lost);
                }
            }));
        }
        if witnesses.len() > 1 {
            let most = &witnesses[..witnesses.len() / 2 + 1];
            cases.push(self.with("most witnesses are lost", |site| {
                for node in 0..2 {
                    site.cut(node, |number, _| most.contains(&number));
                }
            }));
        }
        for (node, name) in names.iter().enumerate() {
            cases.push(self.with(format!("{name} is cut from the witnesses"), |site| {
                site.cut(node, |_, agent| agent.witness);
            }));
        }
        // The network in two parts: the witnesses on one side, all other agents on the other; or split themselves.
        let [first, second] = names;
        if self.agents.iter().any(|agent| !agent.witness) {
            let sides = |one: &str, other: &str| {
                format!("in two: {one} + witnesses | {other} + other agents")
            };
            cases.push(self.with(sides(first, second), |site| site.part(|_, agent| agent.witness)));
            cases
                .push(self.with(sides(second, first), |site| site.part(|_, agent| !agent.witness)));
        }
        if witnesses.len() > 2 {
            let one = witnesses[0];
            let sides = |few: &str, rest: &str| {
                format!("in two: {few} + witness {} | {rest} + all else", self.agents[one].name)
            };
            cases
                .push(self.with(sides(first, second), |site| site.part(|number, _| number == one)));
            cases
                .push(self.with(sides(second, first), |site| site.part(|number, _| number != one)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Create::*, Standing::*, *};

    fn site() -> Site {
        let broker = |name: &str, active| Broker { name: name.into(), up: true, active };
        let agent = |name: &str, witness| Agent {
            name: name.into(),
            witness,
            reach: [true; 2],
            mute: [false; 2],
        };
        Site {
            nodes: [broker("a", true), broker("b", false)],
            link: true,
            agents: vec![
                agent("w1", true),
                agent("w2", true),
                agent("w3", true),
                agent("x", false),
            ],
            solo_create: false,
        }
    }

    fn after(site: &Site, name: &str) -> [(Standing, Create, usize); 2] {
        let case = site.cases().into_iter().find(|case| case.name == name);
        let outcome = case.unwrap_or_else(|| panic!("no case {name}")).site.outcome();
        outcome.map(|can| (can.standing, can.create, can.reconnect))
    }

    #[test]
    fn one_loss_leaves_one_that_makes_new_desktops() {
        let site = site();
        assert_eq!(after(&site, "as it is now"), [(Active, Yes, 4), (Forwards, Yes, 4)]);
        assert_eq!(after(&site, "a dies"), [(Down, No, 0), (TakesOver, Yes, 4)]);
        assert_eq!(after(&site, "b dies"), [(Active, Yes, 4), (Down, No, 0)]);
        assert_eq!(after(&site, "the link a - b is cut"), [(Active, Yes, 4), (Could, Yes, 4)]);
        assert_eq!(after(&site, "witness w2 is lost"), [(Active, Yes, 3), (Forwards, Yes, 3)]);
        assert_eq!(after(&site, "x (no witness) is lost"), [(Active, Yes, 3), (Forwards, Yes, 3)]);
        let most = after(&site, "most witnesses are lost");
        assert_eq!(most, [(Active, Yes, 2), (Forwards, Yes, 2)], "the other's vote is enough");
        let isolated = after(&site, "a is cut from everything");
        assert_eq!(isolated, [(NoVotes, No, 0), (TakesOver, Yes, 4)]);
        let standby = after(&site, "b is cut from everything");
        assert_eq!(standby, [(Active, Yes, 4), (NoVotes, No, 0)]);
        let blind = after(&site, "a is cut from the witnesses");
        assert_eq!(blind, [(Active, Yes, 1), (Forwards, Yes, 1)]);
    }

    #[test]
    fn the_side_with_most_witnesses_serves_and_the_other_reconnects_where_it_can() {
        let site = site();
        let minority = after(&site, "in two: a + witness w1 | b + all else");
        assert_eq!(minority, [(NoVotes, No, 1), (TakesOver, Yes, 3)]);
        let majority = after(&site, "in two: b + witness w1 | a + all else");
        assert_eq!(majority, [(Active, Yes, 3), (NoVotes, No, 1)]);
        let desks = after(&site, "in two: b + witnesses | a + other agents");
        assert_eq!(desks, [(NoVotes, No, 1), (TakesOver, Yes, 3)]);
        let marked = Site { solo_create: true, ..site };
        let minority = after(&marked, "in two: a + witness w1 | b + all else");
        assert_eq!(minority[0], (NoVotes, Marked, 1));
        assert_eq!(after(&marked, "a is cut from everything")[0].1, No, "no agent to start it on");
    }

    #[test]
    fn never_do_both_make_new_desktops_by_votes_of_their_own_at_once() {
        for case in site().cases() {
            let both = case.site.outcome();
            let serve = |can: &&Can| matches!(can.standing, Active | TakesOver);
            assert!(both.iter().filter(serve).count() <= 1, "{}", case.name);
        }
    }

    #[test]
    fn what_is_lost_already_counts() {
        let mut site = site();
        site.agents[0].reach = [false; 2];
        let second = after(&site, "witness w2 is lost");
        assert_eq!(second, [(Active, Yes, 2), (Forwards, Yes, 2)]);
        site.nodes[1].up = false;
        assert_eq!(after(&site, "as it is now")[0], (Active, Yes, 3));
        assert_eq!(after(&site, "witness w2 is lost")[0], (NoVotes, No, 2), "both losses at once");
        site.agents.clear();
        let bare = after(&site, "as it is now");
        assert_eq!(bare[0], (NoVotes, No, 0), "no witnesses, no third vote");
        assert!(!site.cases().iter().any(|case| case.name.contains("witness")));
    }
}
