//! Logins, told in words: what is done of each event, one line for each.

use uuid::Uuid;

use super::*;
use crate::{UnixMillis, table::testing};

const UP: Host = Host::Up { connected: false, open: true };
const BUSY: Host = Host::Up { connected: true, open: true };
const CLOSED: Host = Host::Up { connected: false, open: false };
const RUNS: State = State::Running { display: 3 };
const ANY: Wish = Wish::Any(Choice::SingleDisconnected);
const NEW: Wish = Wish::Any(Choice::New);

fn id(n: u128) -> SessionId {
    SessionId::new(Uuid::from_u128(n))
}

/// Session `n` of request `n` on agent `n`.
fn session(n: u128, state: State) -> Arc<Session> {
    Arc::new(Session {
        id: id(n),
        user: "ann".parse().unwrap(),
        agent: format!("agent{n}").parse().unwrap(),
        state,
        request: RequestId::new(Uuid::from_u128(n)),
        params: StartParams::default(),
        created: UnixMillis(7),
    })
}

fn runs(n: u128, host: Host) -> Own {
    Own { session: session(n, RUNS), host }
}

fn starts(n: u128) -> Own {
    Own { session: session(n, State::Starting), host: UP }
}

/// Request `n`.
fn want(n: u128, wish: Wish) -> Wanted {
    let (user, request) = ("ann".parse().unwrap(), RequestId::new(Uuid::from_u128(n)));
    Wanted { user, request, params: StartParams::default(), wish }
}

const TERMS: Terms = Terms { cap: 2, attempts: 2, solo_create: false };

/// A login with request `n` that may make a session and knows which agents answer.
fn login(n: u128, wish: Wish) -> Login {
    let mut login = Login::find_or_make(want(n, wish), TERMS);
    assert_eq!(words(&login.begin()), ["settle"]);
    assert_eq!(words(&login.handle(Event::Settled)), ["look"]);
    login
}

fn places() -> Event {
    let eligible = |name: &str| Eligible {
        agent: name.parse().unwrap(),
        weight: 100,
        max_users: 0,
        measured: None,
    };
    let eligible = [eligible("agent8"), eligible("agent9")].into();
    let rule = Rule { strategy: crate::Strategy::Users, now: UnixMillis(7), penalty_ms: 0, tie: 0 };
    Event::Places(Places { id: id(9), eligible, uncounted: Vec::new(), rule })
}

fn reserved(n: u128) -> Event {
    let session = session(n, State::Starting);
    Event::Proposed(Proposed::Committed(Change::Reserved(session)))
}

fn refused(rejected: Rejected) -> Event {
    Event::Proposed(Proposed::Rejected(rejected, None))
}

fn at_limit() -> Rejected {
    Rejected::AtLimit { user: "ann".parse().unwrap(), cap: 2 }
}

/// The effects, each in a word or two.
fn words(effects: &[Effect]) -> Vec<String> {
    let number = |id: &SessionId| id.uuid().as_u128();
    let outcome = |outcome: &Outcome| match outcome {
        Outcome::Found(session) => format!("found {}", number(&session.id)),
        Outcome::Started(session, display) => format!("started {} {display}", number(&session.id)),
        Outcome::Choose(sessions) => {
            let ids: Vec<_> = sessions.iter().map(|session| number(&session.id)).collect();
            format!("choose {ids:?}")
        }
        Outcome::NoSuch(id) => format!("no such {}", number(id)),
        Outcome::Unreachable(agent) => format!("unreachable {agent}"),
        Outcome::Unvoted(_) => "unvoted".to_owned(),
        Outcome::Nothing | Outcome::NoHost | Outcome::Refused => format!("{outcome:?}"),
    };
    let word = |effect: &Effect| match effect {
        Effect::Settle(agents) if agents.is_empty() => "settle".to_owned(),
        Effect::Settle(agents) => format!("settle {}", agents.len()),
        Effect::Look => "look".to_owned(),
        Effect::Verify(session) => format!("verify {}", number(&session.id)),
        Effect::Drop(id) => format!("drop {}", number(id)),
        Effect::Place => "place".to_owned(),
        Effect::Propose(proposal) => {
            let Proposal::Reserve { draft, cap, eligible, .. } = proposal.as_ref() else {
                panic!("{proposal:?}")
            };
            format!("reserve {} under {cap} on {}", number(&draft.id), eligible.len())
        }
        Effect::Start { session, may_be_there } => {
            format!("{} {}", if *may_be_there { "resume" } else { "start" }, number(&session.id))
        }
        Effect::Over(of) => outcome(of),
    };
    effects.iter().map(word).collect()
}

/// Feeds events; each must be answered by these words.
#[track_caller]
fn follow<const N: usize>(login: &mut Login, steps: [(Event, &[&str]); N]) {
    for (event, expected) in steps {
        let what = format!("{event:?}");
        assert_eq!(words(&login.handle(event)), expected, "{what:.200}");
    }
}

#[test]
fn what_is_chosen_of_what_the_user_has() {
    let cases: [(Wish, Vec<Own>, &str); 13] = [
        (ANY, vec![], "place"),
        (ANY, vec![runs(1, UP)], "verify 1"),
        (ANY, vec![runs(1, BUSY), runs(2, UP)], "verify 2"),
        (ANY, vec![runs(1, UP), runs(2, UP)], "choose [1, 2]"),
        (ANY, vec![runs(1, Host::Silent), runs(2, BUSY)], "verify 2"),
        (ANY, vec![runs(1, Host::Silent), runs(2, Host::Silent)], "verify 1"),
        (ANY, vec![runs(1, UP), runs(2, CLOSED)], "verify 1"),
        (ANY, vec![runs(1, UP), runs(2, Host::Connecting)], "settle 2"),
        (ANY, vec![starts(1)], "resume 1"),
        (NEW, vec![runs(1, UP)], "place"),
        (NEW, vec![starts(1)], "place"),
        (Wish::This(id(2)), vec![runs(1, UP), runs(2, Host::Silent)], "verify 2"),
        (Wish::This(id(3)), vec![runs(1, UP)], "no such 3"),
    ];
    for (wish, own, expected) in cases {
        let what = format!("{wish:?} {own:?}");
        assert_eq!(words(&login(9, wish).handle(Event::Has(own))), [expected], "{what}");
    }
    let mut login = login(9, ANY);
    let own = || Event::Has(vec![runs(1, UP), runs(2, Host::Connecting)]);
    follow(&mut login, [(own(), &["settle 2"]), (Event::Settled, &["look"])]);
    follow(&mut login, [(own(), &["verify 1"])]);
}

#[test]
fn a_desktop_with_a_command_of_its_own_is_another_thing() {
    let mut other = Session::clone(&session(1, RUNS));
    other.params.start_command = "xterm".into();
    let own = || Event::Has(vec![Own { session: Arc::new(other.clone()), host: UP }]);
    assert_eq!(words(&login(9, ANY).handle(own())), ["place"]);
    assert_eq!(words(&login(1, ANY).handle(own())), ["verify 1"], "what the request has made");
}

/// P8: whatever else its user has, and whether or not its agent is heard.
#[test]
fn a_repeated_request_is_about_what_it_has_made() {
    for wish in [ANY, NEW, Wish::Any(Choice::Ask)] {
        let mut login = login(1, wish);
        // Nor is a start that another request has left behind.
        let own = || Event::Has(vec![starts(3), runs(1, Host::Silent), runs(2, UP)]);
        let steps = [
            (own(), &["verify 1"][..]),
            (Event::Silent, &["look"]),
            (own(), &["unreachable agent1"]),
        ];
        follow(&mut login, steps);
        let own = vec![starts(3), starts(1), runs(2, UP)];
        assert_eq!(words(&self::login(1, wish).handle(Event::Has(own))), ["resume 1"]);
    }
    let mut find = Login::find(want(1, ANY), TERMS);
    follow(&mut find, [(Event::Has(vec![starts(1), runs(2, UP)]), &["Nothing"])]);
}

/// P5.
#[test]
fn what_is_handed_out_runs_as_its_agent_says() {
    let both = || Event::Has(vec![runs(1, UP), runs(2, BUSY)]);
    let mut login = login(9, ANY);
    follow(
        &mut login,
        [
            (both(), &["verify 1"]),
            (Event::Gone, &["drop 1", "look"]),
            // It may not have left the table yet.
            (both(), &["verify 2"]),
            (Event::Alive, &["found 2"]),
            (Event::Alive, &[]),
        ],
    );
}

#[test]
fn silence_is_nobodys_end() {
    let own = || Event::Has(vec![runs(1, UP)]);
    let mut makes = login(9, ANY);
    follow(
        &mut makes,
        [
            (own(), &["verify 1"]),
            (Event::Silent, &["look"]),
            (own(), &["place"]),
            (places(), &["reserve 9 under 2 on 2"]),
            (refused(at_limit()), &["unreachable agent1"]),
        ],
    );
    let mut named = login(9, Wish::This(id(1)));
    follow(&mut named, [(own(), &["verify 1"]), (Event::Silent, &["look"])]);
    follow(&mut named, [(own(), &["unreachable agent1"])]);
    let mut finds = Login::find(want(9, ANY), TERMS);
    assert_eq!(words(&finds.begin()), ["look"]);
    follow(&mut finds, [(own(), &["verify 1"]), (Event::Silent, &["look"])]);
    follow(&mut finds, [(own(), &["unreachable agent1"])]);
}

#[test]
fn one_that_only_finds_makes_nothing() {
    for own in [vec![], vec![starts(1)]] {
        let mut finds = Login::find(want(9, ANY), TERMS);
        assert_eq!(words(&finds.handle(Event::Has(own))), ["Nothing"]);
    }
    let mut named = Login::find(want(9, Wish::This(id(1))), TERMS);
    assert_eq!(words(&named.handle(Event::Has(vec![starts(1)]))), ["Nothing"]);
}

#[test]
fn one_agent_after_the_other_is_asked() {
    let mut login = login(9, ANY);
    follow(
        &mut login,
        [
            (Event::Has(vec![starts(1)]), &["resume 1"]),
            // What was left behind does not count as an attempt.
            (Event::Started(Attempt::Next), &["place"]),
            (places(), &["reserve 9 under 2 on 2"]),
            (reserved(8), &["start 8"]),
            (Event::Started(Attempt::Next), &["place"]),
            (places(), &["reserve 9 under 2 on 1"]),
            (reserved(9), &["start 9"]),
        ],
    );
    let mut other = login.clone();
    follow(&mut login, [(Event::Started(Attempt::Next), &["NoHost"])]);
    follow(&mut other, [(Event::Started(Attempt::Running(4)), &["started 9 4"])]);
}

#[test]
fn what_the_table_says_of_a_reservation_decides() {
    let solo = Terms { solo_create: true, ..TERMS };
    for (terms, event, expected) in [
        (TERMS, refused(Rejected::NoAgent), "NoHost"),
        (TERMS, Event::Proposed(Proposed::NoVotes), "Refused"),
        (solo, Event::Proposed(Proposed::NoVotes), "unvoted"),
        (solo, Event::Proposed(Proposed::NotActive), "Refused"),
        (TERMS, Event::Proposed(Proposed::Failed), "Refused"),
    ] {
        let mut login = Login::find_or_make(want(9, ANY), terms);
        follow(&mut login, [(Event::Settled, &["look"]), (Event::Has(vec![]), &["place"])]);
        follow(&mut login, [(places(), &["reserve 9 under 2 on 2"]), (event, &[expected])]);
    }
    for attempt in [Attempt::EndedMeanwhile, Attempt::EndedAtOnce, Attempt::Undecided] {
        let mut login = login(9, ANY);
        follow(&mut login, [(Event::Has(vec![starts(1)]), &["resume 1"])]);
        follow(&mut login, [(Event::Started(attempt), &["Refused"])]);
    }
}

/// Right after a take-over with a new table an agent's report may come between the look and the reservation.
#[test]
fn a_limit_that_was_not_seen_is_looked_at_again_once() {
    let full = || Event::Has(vec![runs(1, UP), runs(2, UP)]);
    let mut login_of_one = login(9, ANY);
    let reserve: [(Event, &[&str]); 3] = [
        (Event::Has(vec![]), &["place"]),
        (places(), &["reserve 9 under 2 on 2"]),
        (refused(at_limit()), &["look"]),
    ];
    follow(&mut login_of_one, reserve);
    follow(&mut login_of_one, [(Event::Has(vec![runs(1, UP)]), &["verify 1"])]);
    let mut at_the_limit = login(9, NEW);
    follow(&mut at_the_limit, [(full(), &["place"]), (places(), &["reserve 9 under 2 on 2"])]);
    follow(&mut at_the_limit, [(refused(at_limit()), &["Refused"])]);
    let mut again = login(9, NEW);
    follow(&mut again, [(Event::Has(vec![]), &["place"]), (places(), &["reserve 9 under 2 on 2"])]);
    follow(&mut again, [(refused(at_limit()), &["look"]), (Event::Has(vec![]), &["place"])]);
    follow(
        &mut again,
        [(places(), &["reserve 9 under 2 on 2"]), (refused(at_limit()), &["Refused"])],
    );
}

#[test]
fn a_session_does_not_count_once_its_agent_was_silent_for_the_grace() {
    let mut table = Table::default();
    let eligible: Arc<[Eligible]> =
        [Eligible { agent: "agent1".parse().unwrap(), weight: 100, max_users: 0, measured: None }]
            .into();
    let session = testing::reserve(&mut table, "ann", &eligible).unwrap();
    for (silent, expected) in [(None, 0), (Some(99), 0), (Some(100), 1)] {
        let found = uncounted(&table, &session.user, 100, |_| silent);
        assert_eq!(found.len(), expected, "{silent:?}");
    }
    assert!(uncounted(&table, &"bob".parse().unwrap(), 100, |_| Some(100)).is_empty());
}
