//! What is a call, and what is none.

use vsm_core::Incarnation;

use super::*;

fn fence() -> Fence {
    let epoch = Epoch { counter: 7, node: "b1".parse().unwrap(), nonce: 1 };
    let lineage = "01890a5d-ac96-774b-bcce-000000000001".parse().unwrap();
    Fence { epoch, incarnation: Incarnation(3), lineage }
}

fn session() -> Session {
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    serde_json::from_value(serde_json::json!({
        "id": id, "user": "alice", "agent": "agent1", "state": "starting", "request": id,
        "params": {"geometry": "800x600"}, "created": 1,
    }))
    .unwrap()
}

fn id() -> SessionId {
    session().id
}

fn start(change: impl FnOnce(&mut Start)) -> Call {
    let (limits, resources) = (Limits::default(), Resources::default());
    let mut start = Start { fence: fence(), session: session(), limits, resources };
    change(&mut start);
    Call::Start(Box::new(start))
}

fn install(text: &str) -> Install {
    let (chain, key, authorities) = (text.to_owned(), "y".to_owned(), "z".to_owned());
    Install { chain, key: key.into(), authorities, better: Better::Later }
}

fn read(call: Call) -> Result<Call, Malformed> {
    Call::parse(&call.line().unwrap())
}

#[test]
fn what_is_sent_is_what_is_read() {
    let (key, valid) = ("ssh-ed25519 AAAA".parse().unwrap(), Valid::try_from(1000).unwrap());
    let by: UserName = "carol".parse().unwrap();
    let (fence, id) = (fence(), id());
    let all = [
        start(|_| {}),
        Call::Verify { id, client: Some(Box::default()), standing: true, fence: None },
        Call::Terminate { fence: fence.clone(), id, broker: "b1".to_owned() },
        Call::Disconnect { fence: fence.clone(), id, reason: "bye".to_owned() },
        Call::SetLimits { fence: fence.clone(), sessions: vec![(id, Limits::default())] },
        Call::Revoke {
            fence: fence.clone(),
            identities: vec![("agent/lab7".parse().unwrap(), UnixMillis(1))],
        },
        Call::Extend { fence: fence.clone(), id },
        Call::Notify {
            fence: fence.clone(),
            ids: vec![id],
            text: Notice::try_from("hi".to_owned()).unwrap(),
        },
        Call::Log { fence: fence.clone(), id, bytes: 1 },
        Call::AcceptKey {
            fence: fence.clone(),
            announced: Announced { session: id, user: by.clone(), key, valid },
        },
        Call::Shadow {
            fence: fence.clone(),
            wish: Wish { session: id, by, control: true, key: None, valid },
        },
        Call::Cancel { fence: fence.clone(), id },
        Call::Witness { bytes: BYTES_MAX },
        Call::Quarantine { lineage: fence.lineage, fence, journal_id: 1, journal: 2 },
        Call::Install(Box::new(install("x"))),
        Call::Forget("z".to_owned()),
        Call::Report,
        Call::Follow,
    ];
    for call in all {
        assert_eq!(read(call.clone()).unwrap(), call);
    }
}

#[test]
fn no_log_shows_a_key() {
    let key = Secret::from("canary".to_owned());
    let install = Install { key, ..install("x") };
    let call = Call::Install(Box::new(install));
    assert!(!format!("{call:?}").contains("canary"));
    let line = String::from_utf8(call.line().unwrap()).unwrap();
    assert!(line.contains("canary"), "the control: {line}");
}

/// As what comes from another host, though it comes from this one.
#[test]
fn what_no_broker_may_say_is_no_call() {
    let long: String = "x".repeat(5000);
    let bad = |change: fn(&mut Start)| read(start(change));
    assert!(matches!(
        bad(|s| s.session.params.start_command = "a\0b".into()),
        Err(Malformed::Value(_))
    ));
    assert!(matches!(bad(|s| s.session.params.profile = "../x".into()), Err(Malformed::Value(_))));
    assert!(matches!(bad(|s| s.limits.origin = "a\nb".into()), Err(Malformed::Value(_))));
    assert!(matches!(bad(|s| s.limits.idle_ms = u64::MAX), Err(Malformed::Value(_))));
    let client = StartParams { client_name: long.into(), ..StartParams::default() };
    let verify =
        Call::Verify { id: id(), client: Some(Box::new(client)), standing: false, fence: None };
    assert!(matches!(read(verify), Err(Malformed::Value(_))));
    let sessions = vec![(id(), Limits::default()); PART_MAX + 1];
    let many = Call::SetLimits { fence: fence(), sessions };
    assert!(matches!(read(many), Err(Malformed::TooMany)));
    let most = Call::Witness { bytes: BYTES_MAX + 1 };
    assert!(matches!(read(most), Err(Malformed::TooLong(..))));
    let long = "x".repeat(PEM_MAX + 1);
    for long in [Call::Install(Box::new(install(&long))), Call::Forget(long)] {
        assert!(matches!(read(long), Err(Malformed::TooLong(..))));
    }
}

#[test]
fn what_is_no_call_is_refused() {
    let good = String::from_utf8(start(|_| {}).line().unwrap()).unwrap();
    let with = |from: &str, to: &str| {
        let changed = good.replace(from, to);
        assert_ne!(changed, good, "{from}");
        changed
    };
    for line in [
        String::new(),
        "\n".to_owned(),
        "GET / HTTP/1.1".to_owned(),
        "{}".to_owned(),
        r#"{"version":1}"#.to_owned(),
        r#"{"version":1,"call":"shell"}"#.to_owned(),
        r#"{"version":1,"call":{"run":{"path":"/bin/sh"}}}"#.to_owned(),
        // No path, no program, no user id and no environment has a place in it.
        with(r#""resources":"#, r#""program":"/bin/sh","resources":"#),
        with(r#""resources":"#, r#""uid":0,"resources":"#),
        with(r#""resources":"#, r#""environment":{"LD_PRELOAD":"x"},"resources":"#),
        with(r#""user":"alice""#, r#""user":"../alice""#),
        with(r#""user":"alice""#, r#""user":"-alice""#),
        with(r#""node":"b1""#, r#""node":"b/1""#),
        with(r#""counter":7"#, r#""counter":-7"#),
        with("800x600", "0x600"),
        with("01890a5d-ac96-774b-bcce-b302099a8057", "../../etc"),
        good.trim_end_matches(['}', '\n']).to_owned(),
    ] {
        assert!(matches!(Call::parse(line.as_bytes()), Err(Malformed::Unreadable(_))), "{line}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(Call::parse(deep.as_bytes()), Err(Malformed::Unreadable(_))));
    let other = with(r#""version":1"#, r#""version":2"#);
    assert!(matches!(Call::parse(other.as_bytes()), Err(Malformed::Version(2))));
}

#[test]
fn the_largest_call_is_a_line() {
    let text: Box<str> = "\u{1}".repeat(4096).into();
    let client = (0..3).map(|n| (format!("{n}"), "\"".repeat(1024))).collect();
    let largest = start(|start| {
        let params = &mut start.session.params;
        (params.start_command, params.language, params.client_name) =
            (text.clone(), text.clone(), text);
        params.client = client;
    });
    let line = largest.clone().line().unwrap();
    assert!((line.len() as u64) < CALL_MAX, "{}", line.len());
    assert_eq!(read(largest).unwrap(), Call::parse(&line).unwrap());
    let limits = Limits {
        origin: "\"".repeat(253),
        lifetime_ms: vsm_core::LIMIT_MAX_MS,
        ..Limits::default()
    };
    let most = Call::SetLimits { fence: fence(), sessions: vec![(id(), limits); PART_MAX] };
    let line = most.line().unwrap();
    assert!((line.len() as u64) < CALL_MAX, "{}", line.len());
    let name: IdentityName = format!("broker/{}", "a".repeat(253)).parse().unwrap();
    let identities = vec![(name, UnixMillis(u64::MAX)); PART_MAX];
    let most = Call::Revoke { fence: fence(), identities }.line().unwrap();
    assert!((most.len() as u64) < CALL_MAX, "{}", most.len());
}
