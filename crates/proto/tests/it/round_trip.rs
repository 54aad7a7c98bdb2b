//! Whatever a replica may say comes out of its bytes as it went in; bytes that nobody wrote are refused without a
//! panic.

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*, test_runner::Config};
use prost::Message;
use uuid::Uuid;
use vsm_core::{
    AgentName, Change, Drain, Epoch, Event, Hash, Identity, IdentityName, Invitation, Issued, Key,
    LineageId, Lsn, RequestId, Revocation, Row, Session, SessionId, StartParams, State, UnixMillis,
    UserName, WebKey, WebKeyId,
    replica::{
        Entry, Hello, History, Holds, Image, PeerMsg, Supply, Window, Witness, WitnessMsg,
        WitnessReply,
    },
};
use vsm_proto::{replica::Keeping, sync::v1 as pb};

/// Above every reign that a position below is of.
const REIGN_MAX: u64 = 1000;

fn epoch() -> impl Strategy<Value = Epoch> + Clone {
    (1..REIGN_MAX, "[a-c]{1,3}", any::<u32>()).prop_map(|(counter, node, nonce)| Epoch {
        nonce,
        counter,
        node: node.parse().unwrap(),
    })
}

/// Above all of [`epoch`].
fn later() -> impl Strategy<Value = Epoch> {
    (REIGN_MAX..2000, "[a-c]").prop_map(|(counter, node)| Epoch {
        nonce: 0,
        counter,
        node: node.parse().unwrap(),
    })
}

fn position() -> impl Strategy<Value = Lsn> + Clone {
    prop_oneof![
        Just(Lsn::zero()),
        (epoch(), 1..1_000_000_u64).prop_map(|(epoch, seq)| Lsn { epoch, seq }),
    ]
}

fn id() -> impl Strategy<Value = SessionId> + Clone {
    any::<u128>().prop_map(|n| SessionId::new(Uuid::from_u128(n)))
}

fn agent() -> impl Strategy<Value = AgentName> + Clone {
    "[a-z][a-z0-9]{0,8}".prop_map(|name| name.parse().unwrap())
}

fn session() -> impl Strategy<Value = Arc<Session>> + Clone {
    let state = prop_oneof![
        Just(State::Starting),
        any::<u32>().prop_map(|display| State::Running { display }),
        any::<u32>().prop_map(|display| State::Ending { display }),
    ];
    (id(), "[a-z]{1,8}", agent(), state, any::<(u128, u64)>(), "[ -~]{0,20}").prop_map(
        |(id, user, agent, state, (request, created), start_command)| {
            Arc::new(Session {
                id,
                user: user.parse().unwrap(),
                agent,
                state,
                request: RequestId::new(Uuid::from_u128(request)),
                params: StartParams {
                    client: [("k".to_owned(), start_command.clone())].into(),
                    start_command: start_command.into(),
                    ..StartParams::default()
                },
                created: UnixMillis(created),
            })
        },
    )
}

fn change() -> impl Strategy<Value = Change> + Clone {
    let at = any::<u64>().prop_map(UnixMillis);
    let starting = session().prop_map(|session| {
        Arc::new(Session { state: State::Starting, ..Session::clone(&session) })
    });
    prop_oneof![
        starting.prop_map(Change::Reserved),
        (id(), any::<u32>()).prop_map(|(id, display)| Change::Running { id, display }),
        (id(), agent(), at.clone()).prop_map(|(id, agent, at)| Change::Tombstone { id, agent, at }),
        id().prop_map(|id| Change::TombstoneDone { id }),
        id().prop_map(|id| Change::Ending { id }),
        id().prop_map(|id| Change::Gone { id }),
        session().prop_map(Change::Adopted),
        (agent(), at).prop_map(|(agent, at)| Change::AgentFailed { agent, at }),
        any::<bool>().prop_map(|pair| Change::Began { pair }),
        vec(agent(), 0..4).prop_map(|agents| Change::Roster(agents.into())),
        (agent(), option::of(drain())).prop_map(|(agent, mark)| Change::Drained { agent, mark }),
        event().prop_map(Change::Noted),
        identity().prop_map(|(name, known)| Change::Identity { name, known }),
        web_keys().prop_map(|(user, keys)| Change::WebKeys { user, keys }),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let stone = option::of((agent(), any::<u64>().prop_map(UnixMillis)));
    prop_oneof![
        (session(), any::<bool>(), stone).prop_map(|(session, there, tombstone)| Row::Session {
            id: session.id,
            session: there.then_some(session),
            tombstone,
        }),
        (agent(), any::<u64>())
            .prop_map(|(agent, at)| Row::Agent { agent, failed: UnixMillis(at) }),
        vec(agent(), 0..4).prop_map(|agents| Row::Roster(agents.into())),
        (agent(), option::of(drain())).prop_map(|(agent, mark)| Row::Drain { agent, mark }),
        event().prop_map(Row::Event),
        identity().prop_map(|(name, known)| Row::Identity { name, known }),
        web_keys().prop_map(|(user, keys)| Row::WebKeys { user, keys }),
    ]
}

fn web_keys() -> impl Strategy<Value = (UserName, Arc<[WebKey]>)> {
    let key =
        (any::<u128>(), "[a-zA-Z0-9+/]{43}", 0..1_000_000_u64, 1..u64::MAX / 2, "[ -~]{0,40}");
    ("[a-z]{1,8}", vec(key, 0..4)).prop_map(|(user, keys)| {
        let user: UserName = user.parse().unwrap();
        let key = |(id, text, created, life, asked_by): (u128, String, u64, u64, String)| {
            let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{text}").parse().unwrap();
            let (id, times) = (Uuid::from_u128(id), (created, created + life));
            let times = (UnixMillis(times.0), UnixMillis(times.1));
            let made = WebKey::new(WebKeyId::new(id), user.clone(), key, times, asked_by).unwrap();
            made.with_openid(times.0.0.is_multiple_of(2))
        };
        let keys = keys.into_iter().map(key).collect();
        (user, keys)
    })
}

fn identity() -> impl Strategy<Value = (IdentityName, Arc<Identity>)> {
    let hash = || any::<[u8; 32]>().prop_map(Hash);
    let at = || any::<u64>().prop_map(UnixMillis);
    let invited = (hash(), "[a-z]{1,8}", at(), option::of(hash()))
        .prop_map(|(token, by, until, used_for)| Invitation { token, by, until, used_for });
    let issued = (hash(), at(), at(), "[a-z]{1,8}").prop_map(|(key, at, until, by)| Issued {
        key,
        at,
        until,
        by,
    });
    let revoked = (at(), "[a-z]{1,8}", "[ -~]{0,20}").prop_map(|(before, by, why)| Revocation {
        before,
        by,
        why,
    });
    let known = (option::of(invited), option::of(issued), option::of(revoked))
        .prop_map(|(invited, issued, revoked)| Arc::new(Identity { invited, issued, revoked }));
    ("(broker|agent|admin|issuer)/[a-z]{1,8}".prop_map(|name| name.parse().unwrap()), known)
}

fn drain() -> impl Strategy<Value = Arc<Drain>> + Clone {
    ("[a-z]{1,8}", "[ -~]{0,20}", any::<u64>(), option::of(1..u64::MAX)).prop_map(
        |(by, why, since, until)| {
            let (since, until) = (UnixMillis(since), until.map(UnixMillis));
            Arc::new(Drain { by, why, since, until })
        },
    )
}

fn event() -> impl Strategy<Value = Arc<Event>> + Clone {
    let about =
        (option::of(id()), option::of(agent()), any::<bool>(), option::of(any::<[u8; 32]>()));
    (1..1u64 << 62, any::<u64>(), "[a-z]{1,8}", "[a-z-]{1,20}", about, "[ -~]{0,40}").prop_map(
        |(number, at, actor, action, (session, agent, user, chain), detail)| {
            let user = user.then(|| actor.parse().unwrap());
            let at = UnixMillis(at);
            Arc::new(Event {
                number,
                at,
                actor,
                action,
                session,
                user,
                agent,
                detail,
                chain: chain.map(Hash),
            })
        },
    )
}

/// Entries after a position, each of its reign or of the next.
fn after(prev: Lsn, changes: Vec<(bool, Change)>) -> Vec<Entry> {
    let mut last = prev;
    let mut entries = Vec::new();
    for (anew, change) in changes {
        if anew || last.seq == 0 {
            last.epoch = last.epoch.next("a".parse().unwrap(), 0);
        }
        last.seq += 1;
        entries.push(Entry { lsn: last.clone(), change });
    }
    entries
}

fn entries() -> impl Strategy<Value = (Lsn, Vec<Entry>)> {
    // As few as that no reign is above the highest.
    let low = position().prop_map(|mut lsn| {
        lsn.epoch.counter = lsn.epoch.counter.min(REIGN_MAX - 10);
        lsn
    });
    (low, vec((any::<bool>(), change()), 0..5))
        .prop_map(|(prev, changes)| (prev.clone(), after(prev, changes)))
}

fn history() -> impl Strategy<Value = History> {
    vec((1..5_u64, 1..50_u64), 0..6).prop_map(|steps| {
        let (mut counter, mut first) = (0, 0);
        let reign = |(up, on): (u64, u64)| {
            (counter, first) = (counter + up, first + on);
            (Epoch { nonce: 0, counter, node: "b".parse().unwrap() }, first)
        };
        steps.into_iter().map(reign).collect()
    })
}

fn holds() -> impl Strategy<Value = Holds> {
    (any::<(bool, bool, u64)>(), position(), history()).prop_map(
        |((joined, paired, reach), last, history)| Holds { joined, paired, last, history, reach },
    )
}

fn image() -> impl Strategy<Value = Image> {
    (entries(), vec(row(), 0..5), history()).prop_map(|((at, entries), rows, history)| Image {
        at,
        rows,
        history,
        entries,
    })
}

fn supply() -> impl Strategy<Value = Supply> {
    prop_oneof![
        Just(Supply::Nothing),
        entries().prop_map(|(prev, entries)| Supply::Entries { prev, entries }),
        image().prop_map(Supply::Image),
    ]
}

fn message() -> impl Strategy<Value = PeerMsg> {
    let number = 0..1_000_000_u64;
    let hello = (holds(), prop_oneof![Just(Epoch::zero()), epoch()], option::of(epoch()));
    prop_oneof![
        hello.prop_map(|(holds, promised, active)| PeerMsg::Hello(Hello {
            holds,
            promised,
            active
        })),
        (epoch(), holds()).prop_map(|(epoch, holds)| PeerMsg::Claim { epoch, holds }),
        (later(), holds(), supply()).prop_map(|(epoch, holds, supply)| PeerMsg::Promise {
            epoch,
            holds,
            supply
        }),
        any::<bool>().prop_map(|planned| PeerMsg::Wish { planned }),
        epoch().prop_map(|epoch| PeerMsg::Yield { epoch }),
        (later(), entries(), number.clone(), any::<u64>()).prop_map(
            |(epoch, (prev, entries), commit, round)| PeerMsg::Append {
                epoch,
                prev,
                entries,
                commit,
                round,
            }
        ),
        (later(), image()).prop_map(|(epoch, image)| PeerMsg::Snapshot { epoch, image }),
        (epoch(), number, any::<u64>()).prop_map(|(epoch, last, round)| PeerMsg::Ack {
            epoch,
            last,
            round
        }),
        (epoch(), holds()).prop_map(|(epoch, holds)| PeerMsg::Behind { epoch, holds }),
        epoch().prop_map(|promised| PeerMsg::Stale { promised }),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    (position(), position(), vec(row(), 0..5), history()).prop_map(|(base, last, rows, history)| {
        let rows = rows.into_iter().map(|row| (row.key(), row)).collect();
        Window { base, last, rows, history }
    })
}

fn asked() -> impl Strategy<Value = WitnessMsg> {
    prop_oneof![
        epoch().prop_map(|epoch| WitnessMsg::Probe { epoch }),
        (epoch(), option::of(epoch())).prop_map(|(epoch, life)| WitnessMsg::Claim { epoch, life }),
        (later(), option::of(position()), window(), any::<u64>()).prop_map(
            |(epoch, prev, window, hold_ms)| WitnessMsg::Accept { epoch, prev, window, hold_ms }
        ),
        (epoch(), position(), option::of(any::<u64>()), option::of(epoch()))
            .prop_map(|(epoch, at, loss, life)| WitnessMsg::Clear { epoch, at, loss, life }),
    ]
}

fn answered() -> impl Strategy<Value = WitnessReply> {
    prop_oneof![
        (later(), option::of(window()))
            .prop_map(|(epoch, window)| WitnessReply::Promised { epoch, window }),
        (epoch(), position()).prop_map(|(epoch, last)| WitnessReply::Accepted { epoch, last }),
        epoch().prop_map(|epoch| WitnessReply::Gap { epoch }),
        epoch().prop_map(|epoch| WitnessReply::Cleared { epoch }),
        epoch().prop_map(|promised| WitnessReply::Refused { promised }),
        any::<u64>().prop_map(|loss| WitnessReply::Mute { loss }),
        prop_oneof![Just(Epoch::zero()), epoch()]
            .prop_map(|promised| WitnessReply::Free { promised }),
        epoch().prop_map(|reign| WitnessReply::Held { reign }),
        epoch().prop_map(|life| WitnessReply::Foreign { life }),
    ]
}

fn witness() -> impl Strategy<Value = Witness> {
    let kept = option::of((epoch(), window()));
    (option::of(epoch()), kept, option::of(any::<u64>()), option::of(epoch()))
        .prop_map(|(promised, kept, mute, life)| Witness { promised, kept, mute, life })
}

/// Through bytes and back.
fn carried<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #![proptest_config(Config { cases: 128, failure_persistence: None, ..Config::default() })]

    #[test]
    fn what_brokers_say_is_what_they_understand(message in message()) {
        let told = carried(&pb::PeerMessage::from(&message));
        prop_assert_eq!(PeerMsg::try_from(told), Ok(message));
    }

    #[test]
    fn what_witnesses_are_asked_and_answer_is_understood(
        message in asked(), reply in answered(), state in witness(), position in any::<u64>(),
    ) {
        let told = carried(&pb::WitnessRequest::from(&message));
        prop_assert_eq!(WitnessMsg::try_from(told), Ok(message));
        let told = carried(&pb::WitnessResponse::from(&reply));
        prop_assert_eq!(WitnessReply::try_from(told), Ok(reply));
        let (journal, host) = (position ^ 1, "agent1".to_owned());
        let former = state.promised.iter().map(|epoch| (LineageId::new(Uuid::from_u128(7)), epoch.clone()));
        let former = former.collect();
        let keeping = Keeping { lineage: None, witness: state, position, journal, host, former };
        let told = Keeping::try_from(carried(&pb::WitnessState::from(&keeping)));
        prop_assert_eq!(told, Ok(keeping));
    }

    #[test]
    fn a_key_names_its_row(row in row()) {
        let key: Key = row.key();
        prop_assert_eq!(Row::try_from(carried(&pb::Row::from(&row))).map(|row| row.key()), Ok(key));
    }

    /// A message in which some bytes were changed, and bytes that never were one.
    #[test]
    fn garbage_is_refused_and_never_a_panic(
        message in message(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        noise in vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = pb::PeerMessage::from(&message).encode_to_vec();
        for (at, value) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        for bytes in [bytes, noise] {
            // What can be read at all is turned into a message, or refused.
            let _ = pb::PeerMessage::decode(bytes.as_slice()).map(PeerMsg::try_from);
            let _ = pb::WitnessRequest::decode(bytes.as_slice()).map(WitnessMsg::try_from);
            let _ = pb::WitnessResponse::decode(bytes.as_slice()).map(WitnessReply::try_from);
        }
    }
}
