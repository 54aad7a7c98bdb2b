//! Placement: which agent gets a new session.
//!
//! Pure and cheap: it runs inside the table's owner, in the same step as the promise of the session, so that two logins
//! never see the same free place and an agent that is drained gets none from that moment on. What `vsmctl explain`
//! shows comes from [`consider`], which is what [`place`] decides by.

mod board;

use std::{cmp::Ordering, collections::HashSet, sync::Arc};

pub(crate) use self::board::Boards;

use crate::{AgentName, AgentUse, Busy, Drain, Measured, Need, Table, UnixMillis, UserName};

/// An agent that may take a new session, with what the broker knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eligible {
    /// Agent.
    pub agent: AgentName,
    /// Share of users relative to the others, at least 1.
    pub weight: u32,
    /// Most users; at the limit it takes no *new* user. 0 = no limit.
    pub max_users: u32,
    /// What it last measured; none = it has not told.
    pub measured: Option<Measured>,
}

/// By what agents are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// By users per weight.
    Users,
    /// By how busy they are per weight, with so much for each user who is not measured yet.
    Load(Need),
}

/// How an agent is chosen at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// By what.
    pub strategy: Strategy,
    /// Now.
    pub now: UnixMillis,
    /// How long a failed start keeps an agent at the back of the queue, in milliseconds.
    pub penalty_ms: u64,
    /// Random number that breaks ties.
    pub tie: u64,
}

/// For whom a place is sought, and how.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// User.
    pub user: &'a UserName,
    /// How.
    pub rule: Rule,
}

/// Why an agent is out of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    /// It is drained by an administrator's word.
    Drained(Arc<Drain>),
    /// It has as many users as it may, and this one is not among them.
    Full {
        /// Users there.
        users: u32,
    },
}

/// What an agent is compared by. See [`Rank::order`] for the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank<'a> {
    /// The agent.
    pub candidate: &'a Eligible,
    /// A start failed there a short while ago.
    pub failed: bool,
    /// The user has no session there.
    pub stranger: bool,
    /// With [`Strategy::Load`], how busy it is once the user is there; none = it has told no figures.
    pub busy: Option<Busy>,
    /// Users there once this one is.
    pub users: u64,
    /// Sessions there, starts under way included.
    pub sessions: u32,
    by_load: bool,
    chance: u64,
}

impl Rank<'_> {
    /// The lower one goes first: without a recent failed start before with one; where the user is already before
    /// elsewhere; with [`Strategy::Load`] one with figures before one without, then the less busy per weight; then the
    /// fewest users per weight, starts under way counted; then the fewest sessions; then chance.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        self.order_but_chance(other).then(self.chance.cmp(&other.chance))
    }

    /// The same without chance: equal means that chance decides.
    #[must_use]
    pub fn order_but_chance(&self, other: &Self) -> Ordering {
        let weights = (self.candidate.weight, other.candidate.weight);
        self.failed
            .cmp(&other.failed)
            .then(self.stranger.cmp(&other.stranger))
            .then(self.without_figures().cmp(&other.without_figures()))
            .then(per_weight(self.steps(), other.steps(), weights))
            .then(per_weight(self.users, other.users, weights))
            .then(self.sessions.cmp(&other.sessions))
    }

    const fn without_figures(&self) -> bool {
        self.by_load && self.busy.is_none()
    }

    fn steps(&self) -> u64 {
        self.busy.map_or(0, |busy| u64::from(busy.steps()))
    }
}

/// `a` and `b`, each divided by its weight, compared without division.
fn per_weight(a: u64, b: u64, weights: (u32, u32)) -> Ordering {
    let weight = |weight: u32| u64::from(weight.max(1));
    (a * weight(weights.1)).cmp(&(b * weight(weights.0)))
}

/// The best agent of a list. [`Table::place`] says the same, and faster where the list is one that it knows.
#[must_use]
pub fn place<'a>(
    table: &Table,
    eligible: &'a [Eligible],
    want: Placement<'_>,
) -> Option<&'a AgentName> {
    let ranks = consider(table, eligible, want).filter_map(Result::ok);
    Some(&ranks.min_by(Rank::order)?.candidate.agent)
}

/// What is to be said of each agent, in the order that they are given in: what it is compared by, or why it is out.
pub fn consider<'a>(
    table: &Table,
    eligible: &'a [Eligible],
    want: Placement<'_>,
) -> impl Iterator<Item = Result<Rank<'a>, Out>> {
    let marks = Marks::new(table, want);
    eligible.iter().zip(0u64..).map(move |(candidate, index)| marks.rank(candidate, index))
}

/// What sets single agents apart from the others. Few agents are among these: one look-up for each agent is left.
struct Marks<'t> {
    table: &'t Table,
    rule: Rule,
    drained: HashSet<&'t AgentName>,
    failed: HashSet<&'t AgentName>,
    /// Where the user has sessions.
    own: HashSet<&'t AgentName>,
}

impl<'t> Marks<'t> {
    fn new(table: &'t Table, want: Placement<'_>) -> Self {
        let Placement { user, rule } = want;
        let Rule { now, penalty_ms, .. } = rule;
        let recent = |at: UnixMillis| now.0.saturating_sub(at.0) < penalty_ms;
        let drained = table.drains().filter(|(_, drain)| drain.holds(now));
        let failed = table.failures().filter(|(_, at)| recent(*at));
        Self {
            table,
            rule,
            drained: drained.map(|(agent, _)| agent).collect(),
            failed: failed.map(|(agent, _)| agent).collect(),
            own: table.of_user(user).map(|session| &session.agent).collect(),
        }
    }

    /// All of them, some more than once.
    fn agents(&self) -> impl Iterator<Item = &'t AgentName> {
        self.drained.iter().chain(&self.failed).chain(&self.own).copied()
    }

    fn rank<'a>(&self, candidate: &'a Eligible, index: u64) -> Result<Rank<'a>, Out> {
        let Self { table, rule, .. } = self;
        let among = |set: &HashSet<&AgentName>| !set.is_empty() && set.contains(&candidate.agent);
        if among(&self.drained)
            && let Some(drain) = table.drain(&candidate.agent)
        {
            return Err(Out::Drained(Arc::clone(drain)));
        }
        let stranger = !among(&self.own);
        let used = table.agent_use(&candidate.agent);
        let users = used.map_or(0, AgentUse::users);
        if stranger && candidate.max_users != 0 && users >= candidate.max_users {
            return Err(Out::Full { users });
        }
        let sessions = used.map_or(0, AgentUse::sessions);
        let (by_load, busy) = match rule.strategy {
            Strategy::Users => (false, None),
            Strategy::Load(need) => {
                (true, candidate.measured.map(|measured| measured.busy(sessions, need)))
            }
        };
        Ok(Rank {
            candidate,
            failed: among(&self.failed),
            stranger,
            busy,
            users: u64::from(users) + u64::from(stranger),
            sessions,
            by_load,
            chance: mix(rule.tie ^ index),
        })
    }
}

/// The finaliser of splitmix64: spreads a counter over all bits.
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
