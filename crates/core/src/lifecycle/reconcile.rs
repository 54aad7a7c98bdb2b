//! The table against what an agent says it runs.
//!
//! The agent owns whether a session exists. So one that the table does not know is adopted, one that the agent does not
//! know is asked about and dropped, and what was decided while the agent was away is carried out when it is back.

use std::sync::Arc;

use crate::{
    AgentName, Session, SessionId, State, Table,
    replica::mutant::{self, Mutant},
};

/// What a session that an agent runs means for the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// The table has it so, or whoever started it is at it and commits it before the user is answered.
    Known,
    /// Propose that it runs, on this display: nobody waits for its start any more.
    Commit(u32),
    /// Have the agent hold to the tombstone: its start was given up.
    Bury,
    /// Another host has it, and this one is not believed.
    Elsewhere(AgentName),
    /// The table has nothing of it: propose that it is adopted, if its host may have one more.
    Adopt(Session),
}

/// What becomes of a session that `from` says it runs. `is_starting` = a login of this broker is at its start.
#[must_use]
pub fn reported(table: &Table, from: &AgentName, session: &Session, is_starting: bool) -> Reported {
    let id = session.id;
    // One that still starts is nobody's yet: its outcome is asked for by whoever asked for the start.
    let Some(display) = session.state.display() else { return Reported::Known };
    match table.session(id) {
        Some(known) if known.agent != *from => Reported::Elsewhere(known.agent.clone()),
        Some(known) => match known.state {
            State::Starting if is_starting => Reported::Known,
            State::Starting => Reported::Commit(display),
            State::Running { .. } | State::Ending { .. } => Reported::Known,
        },
        None if table.tombstone(id).is_some() => Reported::Bury,
        None if mutant::on(Mutant::UnknownLeft) => Reported::Known,
        None => {
            let (agent, state) = (from.clone(), State::Running { display });
            Reported::Adopt(Session { agent, state, ..session.clone() })
        }
    }
}

/// The sessions that an agent should run. Those that it does not report are to be asked about. One that starts is none
/// of them: the agent may not have heard of it yet.
#[must_use]
pub fn expected(table: &Table, agent: &AgentName) -> Vec<SessionId> {
    let should_run = |session: &&Arc<Session>| {
        session.state != State::Starting || mutant::on(Mutant::StartingMissed)
    };
    table.on_agent(agent).filter(should_run).map(|session| session.id).collect()
}

/// What is to be done about a session that an agent should run and did not report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// It is gone: drop it, with what the agent tells of the reason.
    Drop,
    /// It came between the report and now.
    Keep,
    /// There is no answer: it is asked about again, with the next report.
    Later,
}

/// What the agent's answer means, when it is asked whether such a session is there; none = it did not answer.
#[must_use]
pub const fn missed(is_there: Option<bool>) -> Missed {
    match is_there {
        Some(false) => Missed::Drop,
        Some(true) => Missed::Keep,
        None => Missed::Later,
    }
}

/// Whether what an agent reported is to be reported anew: what it told a broker that did not act is in no table, and
/// what it told one that acts no more is for another broker to hear.
#[must_use]
pub fn is_stale(acted: bool, acts: bool) -> bool {
    acted != acts && !mutant::on(Mutant::OldReportKept)
}

/// What is still to be done on an agent.
#[derive(Debug, Clone)]
pub enum Owed {
    /// Its end was asked for.
    End(Arc<Session>),
    /// Nobody waits for its start any more: propose that it is given up, then bury it.
    GiveUp(Arc<Session>),
    /// Its start was given up, and the agent is to hold to that.
    Bury(SessionId),
}

/// All that is to be done on an agent that can be reached. `is_starting` = a login of this broker is at the start.
#[must_use]
pub fn owed(
    table: &Table,
    agent: &AgentName,
    is_starting: impl Fn(SessionId) -> bool,
) -> Vec<Owed> {
    let of_session = |session: &Arc<Session>| match session.state {
        State::Ending { .. } if mutant::on(Mutant::EndsForgotten) => None,
        State::Ending { .. } => Some(Owed::End(Arc::clone(session))),
        State::Starting if !is_starting(session.id) => Some(Owed::GiveUp(Arc::clone(session))),
        State::Starting | State::Running { .. } => None,
    };
    let stones = table.tombstones().filter(|(_, of, _)| **of == *agent);
    let stones = stones.filter(|_| !mutant::on(Mutant::StonesForgotten));
    let stones = stones.map(|(id, ..)| Owed::Bury(id));
    table.on_agent(agent).filter_map(of_session).chain(stones).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, RequestId, StartParams, UnixMillis};
    use uuid::Uuid;

    fn agent(name: &str) -> AgentName {
        name.parse().unwrap()
    }

    fn id(n: u128) -> SessionId {
        SessionId::new(Uuid::from_u128(n))
    }

    fn session(n: u128, state: State) -> Session {
        Session {
            id: id(n),
            user: "ann".parse().unwrap(),
            agent: agent("agent1"),
            state,
            request: RequestId::new(Uuid::from_u128(n)),
            params: StartParams::default(),
            created: UnixMillis(7),
        }
    }

    const RUNS: State = State::Running { display: 3 };

    /// 1 starts, 2 runs, 3 is to end, of 4 there is a tombstone.
    fn table() -> Table {
        let mut table = Table::default();
        table.apply(&Change::Reserved(Arc::new(session(1, State::Starting))));
        for n in [2, 3] {
            table.apply(&Change::Adopted(Arc::new(session(n, RUNS))));
        }
        table.apply(&Change::Ending { id: id(3) });
        table.apply(&Change::Reserved(Arc::new(session(4, State::Starting))));
        let (agent, at) = (agent("agent1"), UnixMillis(9));
        table.apply(&Change::Tombstone { id: id(4), agent, at });
        table
    }

    #[test]
    fn each_state_of_the_table_meets_what_an_agent_runs() {
        let (table, here) = (table(), agent("agent1"));
        let of = |n, is_starting| reported(&table, &here, &session(n, RUNS), is_starting);
        assert_eq!(of(1, true), Reported::Known);
        assert_eq!(of(1, false), Reported::Commit(3));
        assert_eq!((of(2, false), of(3, false)), (Reported::Known, Reported::Known));
        assert_eq!(of(4, false), Reported::Bury);
        assert_eq!(of(5, false), Reported::Adopt(session(5, RUNS)));
        let other = reported(&table, &agent("agent2"), &session(2, RUNS), false);
        assert_eq!(other, Reported::Elsewhere(here.clone()));
        let starts = reported(&table, &here, &session(5, State::Starting), false);
        assert_eq!(starts, Reported::Known, "its outcome is asked for");
    }

    #[test]
    fn a_session_that_was_not_reported_is_asked_about() {
        assert_eq!(missed(Some(false)), Missed::Drop);
        assert_eq!(missed(Some(true)), Missed::Keep);
        assert_eq!(missed(None), Missed::Later);
    }

    #[test]
    fn what_was_told_to_one_that_did_not_act_is_told_again() {
        assert!(is_stale(false, true) && is_stale(true, false));
        assert!(!is_stale(true, true) && !is_stale(false, false));
    }

    #[test]
    fn an_adopted_session_is_of_the_host_that_reports_it() {
        let Reported::Adopt(adopted) = reported(
            &Table::default(),
            &agent("agent2"),
            &session(2, State::Ending { display: 3 }),
            false,
        ) else {
            panic!("it is adopted")
        };
        assert_eq!((adopted.agent, adopted.state), (agent("agent2"), RUNS));
    }

    #[test]
    fn what_starts_is_not_missed_and_what_was_decided_is_owed() {
        let (table, here) = (table(), agent("agent1"));
        assert_eq!(expected(&table, &here), [id(2), id(3)]);
        let words = |is_starting| {
            let word = |owed: Owed| match owed {
                Owed::End(session) => format!("end {}", session.id),
                Owed::GiveUp(session) => format!("give up {}", session.id),
                Owed::Bury(id) => format!("bury {id}"),
            };
            owed(&table, &here, |_| is_starting).into_iter().map(word).collect::<Vec<_>>()
        };
        let (give_up, end, bury) =
            (format!("give up {}", id(1)), format!("end {}", id(3)), format!("bury {}", id(4)));
        assert_eq!(words(false), [give_up, end.clone(), bury.clone()]);
        assert_eq!(words(true), [end, bury]);
        assert_eq!(owed(&table, &agent("agent2"), |_| false).len(), 0);
    }
}
