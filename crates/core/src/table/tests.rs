//! The rules of the table.

use super::{testing::*, *};

fn agents() -> Arc<[Eligible]> {
    Arc::new([Eligible { agent: "a".parse().unwrap(), weight: 100, max_users: 0, measured: None }])
}

#[test]
fn a_session_lives_and_leaves() {
    let mut table = Table::default();
    let session = reserve(&mut table, "ann", &agents()).unwrap();
    let id = session.id;
    commit(&mut table, Proposal::Running { id, display: 10 }).unwrap();
    assert_eq!(table.session(id).unwrap().state, State::Running { display: 10 });
    assert_eq!(
        commit(&mut table, Proposal::GiveUp { id, now: NOW }),
        Err(Rejected::AlreadyRunning(id))
    );
    commit(&mut table, Proposal::End { id }).unwrap();
    assert_eq!(table.session(id).unwrap().state, State::Ending { display: 10 });
    commit(&mut table, Proposal::Gone { id }).unwrap();
    assert_eq!(table.sessions().len(), 0);
    assert_eq!(table.agents_in_use().count(), 0);
    assert_eq!(commit(&mut table, Proposal::Gone { id }), Err(Rejected::UnknownSession(id)));
}

/// P7: with a cap of one the second session is refused, unless the first is being ended or does not count.
#[test]
fn the_cap_holds() {
    let mut table = Table::default();
    let first = reserve(&mut table, "ann", &agents()).unwrap();
    let second = draft(&table, "ann");
    let refused = table.check(propose(second.clone(), 1, &agents())).unwrap_err();
    assert_eq!(refused, Rejected::AtLimit { user: "ann".parse().unwrap(), cap: 1 });
    assert!(table.check(propose(second.clone(), 2, &agents())).is_ok());
    assert!(table.check(propose(second.clone(), 0, &agents())).is_ok());
    let Proposal::Reserve { draft, cap, eligible, rule, .. } =
        propose(second.clone(), 1, &agents())
    else {
        unreachable!()
    };
    let uncounted = vec![first.id];
    assert!(table.check(Proposal::Reserve { draft, cap, uncounted, eligible, rule }).is_ok());
    commit(&mut table, Proposal::Running { id: first.id, display: 10 }).unwrap();
    commit(&mut table, Proposal::End { id: first.id }).unwrap();
    assert!(table.check(propose(second, 1, &agents())).is_ok());
}

/// P8: the same request never makes a second session.
#[test]
fn a_repeated_request_finds_its_session() {
    let mut table = Table::default();
    let session = reserve(&mut table, "ann", &agents()).unwrap();
    let again = Draft { request: session.request, ..draft(&table, "ann") };
    assert_eq!(
        table.check(propose(again, 0, &agents())).unwrap_err(),
        Rejected::Repeated(session.id)
    );
}

#[test]
fn a_start_that_was_given_up_never_runs() {
    let mut table = Table::default();
    let session = reserve(&mut table, "ann", &agents()).unwrap();
    let id = session.id;
    commit(&mut table, Proposal::GiveUp { id, now: NOW }).unwrap();
    assert_eq!(
        commit(&mut table, Proposal::Running { id, display: 1 }),
        Err(Rejected::GivenUp(id))
    );
    let mut late = Session::clone(&session);
    late.state = State::Running { display: 1 };
    assert_eq!(commit(&mut table, Proposal::Adopt(late)), Err(Rejected::GivenUp(id)));
    assert_eq!(table.tombstones().count(), 1);
    commit(&mut table, Proposal::TombstoneDone { id }).unwrap();
    assert_eq!(table.tombstones().count(), 0);
}

/// A node that is handed rows has the marks and the trail too, and they go when they are taken back.
#[test]
fn marks_and_events_are_rows() {
    let agent: AgentName = "a".parse().unwrap();
    let (by, why) = ("root".to_owned(), "new kernel".to_owned());
    let mark = Arc::new(Drain { by, why, since: NOW, until: None });
    let event = Event {
        number: 0,
        at: NOW,
        actor: "root".to_owned(),
        action: "agent-drained".to_owned(),
        session: None,
        user: None,
        agent: Some(agent.clone()),
        detail: String::new(),
        chain: None,
    };
    let mut table = Table::default();
    let drain = |mark| Proposal::Drain { agent: agent.clone(), mark };
    commit(&mut table, drain(Some(Arc::clone(&mark)))).unwrap();
    commit(&mut table, Proposal::Note(event.clone())).unwrap();
    let noted = commit(&mut table, Proposal::Note(event)).unwrap();
    assert!(matches!(&noted, Change::Noted(event) if event.number == 2));
    let mut copy = Table::default();
    table.rows().for_each(|row| copy.set_row(&row));
    assert_eq!(copy.drain(&agent), Some(&mark));
    assert_eq!(copy.events_after(0).count(), 2);
    let back = commit(&mut table, drain(None)).unwrap();
    copy.set_row(&table.row(&back.key().unwrap()).unwrap());
    assert_eq!(copy.drain(&agent), None);
    assert_eq!(copy.rows().count(), table.rows().count());
}

#[test]
fn a_lost_session_is_adopted_once() {
    let mut table = Table::default();
    let session = reserve(&mut table, "ann", &agents()).unwrap();
    let mut fresh = Table::default();
    commit(&mut fresh, Proposal::Adopt(Session::clone(&session))).unwrap();
    let again = commit(&mut fresh, Proposal::Adopt(Session::clone(&session)));
    assert_eq!(again, Err(Rejected::IdUsed(session.id)));
    assert_eq!(fresh.of_user(&session.user).count(), 1);
}
