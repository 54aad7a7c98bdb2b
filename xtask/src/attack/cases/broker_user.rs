//! A user with a shell on the brokers: bob against alice's desktop, the service, and its administrators.

use anyhow::Result;

use crate::attack::calls::{self, Answer, Call};
use crate::attack::case::{At, By, Case, Row, Seen, case, tool};
use crate::attack::stage::Stage;
use crate::attack::wire::Message;
use crate::pair;

const ACTIVE: &str = "active";
const BOB: &str = "bob";
const ROOT: &str = "root";
pub(super) const USERS: &str = "/run/vsm/vsmserver.sock";
/// Whose desktop is ended by way of trial.
const SPARE: &str = "user008";

/// What bob is refused and root is not.
const fn as_root(name: &'static str, gets: &'static str, words: &'static [&'static str]) -> Row {
    Row { name, gets, attempt: (ACTIVE, BOB, words), control: (ACTIVE, ROOT, words) }
}

const ROWS: &[Row] = &[
    as_root(
        "open-the-administrators-socket",
        "an administrator's calls",
        &["connect", "/run/vsm/vsmserver-admin.sock"],
    ),
    as_root(
        "list-all-sessions",
        "who has a desktop where",
        &["run", "77", "vsmctl", "session", "list"],
    ),
    as_root("read-the-trail", "who did what", &["run", "77", "vsmctl", "events"]),
    as_root(
        "read-a-log-by-vsmctl",
        "what alice's programs print",
        &["run", "77", "vsmctl", "session", "log", "{alice.session}"],
    ),
    as_root(
        "take-over",
        "another active node",
        &["run", "77", "vsmctl", "ha", "takeover", "--dry-run"],
    ),
    as_root(
        "drain-a-host",
        "a session host less",
        &["run", "77", "vsmctl", "agent", "drain", "agent3", "--reason", "x"],
    ),
    as_root(
        "invite-a-host",
        "a host's identity",
        &["run", "77", "vsmctl", "agent", "enrol", "agent3"],
    ),
    as_root(
        "list-the-identities",
        "whose certificates count",
        &["run", "77", "vsmctl", "pki", "list"],
    ),
    as_root("reload-by-vsmctl", "a reload", &["run", "77", "vsmctl", "reload"]),
    as_root(
        "tell-everybody",
        "a text on all desktops",
        &["run", "77", "vsmctl", "notify", "--user", "carol", "hello"],
    ),
    as_root(
        "say-that-a-node-is-ill",
        "the address on the other node",
        &["write", "/run/vsm/vsmserver.health"],
    ),
    as_root("read-the-table", "all sessions there are", &["list", "/var/lib/vsm"]),
    as_root(
        "read-the-brokers-key",
        "the identity of the broker",
        &["read", "/etc/vsm/pki/host.key"],
    ),
    as_root(
        "read-the-issuers-key",
        "the identity of any session host",
        &["read", "/etc/vsm/pki/issuer.key"],
    ),
    as_root(
        "add-a-hook",
        "a program that root runs",
        &["create", "/etc/vsm/sessionstartup.d/90-bob"],
    ),
    as_root(
        "add-a-parameter-to-the-broker",
        "a broker that obeys oneself",
        &["create", "/etc/vsm/conf.d/99-bob.yaml"],
    ),
    as_root(
        "replace-the-users-socket",
        "what all users say to the broker",
        &["create", "/run/vsm/bob.sock"],
    ),
    Row {
        name: "stop-the-broker",
        gets: "a service that is away",
        attempt: (ACTIVE, BOB, &["run", "1", "sh", "-c", "kill -0 $(pgrep -o vsmserver)"]),
        control: (ACTIVE, ROOT, &["run", "1", "sh", "-c", "kill -0 $(pgrep -o vsmserver)"]),
    },
    Row {
        name: "change-a-parameter",
        gets: "more desktops than one may have",
        attempt: (
            ACTIVE,
            BOB,
            &["run", "3,77", "vsm-config", "/vsmserver/max_sessions_per_user=9"],
        ),
        control: (
            ACTIVE,
            ROOT,
            &["run", "3,77", "vsm-config", "/vsmserver/max_sessions_per_user=1"],
        ),
    },
];

fn login(session: &str) -> Message {
    Message::new().text(1, request()).message(2, &Message::new()).text(3, session)
}

/// The id of a request, another one each time.
pub(super) fn request() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("01890a5d-ac96-474b-8cce-b302{:08x}", LAST.fetch_add(1, Ordering::Relaxed))
}

fn of_session(id: &str) -> Message {
    Message::new().text(1, id)
}

/// Asks at the users' socket of the active node.
pub(super) fn ask(stage: &Stage<'_>, user: &str, method: &str, body: &Message) -> Result<Answer> {
    let call = Call::at(USERS, &format!("vsm.broker.v1.Broker/{method}"), body);
    calls::one(stage, ACTIVE, user, call)
}

/// Something that is asked about a session: won where the broker takes it for the caller's own.
fn about(stage: &Stage<'_>, user: &str, method: &str, id: &str) -> Result<Seen> {
    let body = if method == "Login" { login(id) } else { of_session(id) };
    let answer = ask(stage, user, method, &body)?;
    let is_own = !["NotFound", "PermissionDenied", "NoAnswer"].contains(&&*answer.code);
    Ok(Seen::won_if(is_own, answer.words()))
}

/// bob asks about alice's desktop; in the control about his own.
fn anothers(name: &'static str, gets: &'static str, method: &'static str) -> Case {
    let attempt = move |stage: &Stage<'_>| about(stage, BOB, method, stage.fact("alice.session")?);
    let control = move |stage: &Stage<'_>| about(stage, BOB, method, stage.fact("bob.session")?);
    case(name, By::BrokerUser, gets, attempt, control)
}

/// A desktop that is there to be lost.
pub(super) fn spare(stage: &Stage<'_>, user: &str) -> Result<pair::Desktop> {
    pair::login(stage.cluster, user, 60)
}

fn end_anothers() -> Case {
    let attempt = |stage: &Stage<'_>| about(stage, BOB, "EndSession", stage.fact("alice.session")?);
    let control = |stage: &Stage<'_>| {
        let desktop = spare(stage, SPARE)?;
        about(stage, SPARE, "EndSession", &desktop.session)
    };
    case("end-anothers-desktop", By::BrokerUser, "the end of alice's desktop", attempt, control)
}

/// What a standby says of a call that it passes on, said by somebody else.
fn forged(name: &'static str, gets: &'static str, call: fn(Call) -> (Call, At)) -> Case {
    let list = |call: fn(Call) -> (Call, At), stage: &Stage<'_>| {
        let plain = Call::at(USERS, "vsm.broker.v1.Broker/ListSessions", &Message::new());
        let named =
            plain.with("vsm-forwarded", "1").with("vsm-uid", "2001").with("vsm-user", "alice");
        let (call, (host, user, _)) = call(named);
        let answer = calls::one(stage, host, user, call)?;
        let alice = stage.fact("alice.session")?;
        let text = String::from_utf8_lossy(&answer.message()).into_owned();
        Ok(Seen::won_if(text.contains(alice), answer.words()))
    };
    let by_standby = |call: Call| (call.by_identity("{standby}"), ("client", ROOT, &[][..]));
    let attempt = move |stage: &Stage<'_>| list(call, stage);
    let control = move |stage: &Stage<'_>| list(by_standby, stage);
    case(name, By::BrokerUser, gets, attempt, control)
}

/// What others have is in no list of one's own.
fn list_of_others() -> Case {
    let listed = |of: &'static str| {
        move |stage: &Stage<'_>| {
            let answer = ask(stage, BOB, "ListSessions", &Message::new().number(1, 1))?;
            let text = String::from_utf8_lossy(&answer.message()).into_owned();
            Ok(Seen::won_if(text.contains(stage.fact(of)?), answer.words()))
        }
    };
    let gets = "alice's sessions among one's own";
    case(
        "list-others-among-ones-own",
        By::BrokerUser,
        gets,
        listed("alice.session"),
        listed("bob.session"),
    )
}

/// The way to session hosts by the broker.
fn relayed(name: &'static str, gets: &'static str, line: &'static str) -> Case {
    const OWN: &str = r#"{"op":"relay","session":"{bob.session}"}"#;
    let by_relay = |line: &'static str| {
        move |stage: &Stage<'_>| {
            let words = ["say", "/run/vsm/vsmserver-relay.sock", line, "joined"];
            tool(stage, ACTIVE, BOB, &words)
        }
    };
    case(name, By::BrokerUser, gets, by_relay(line), by_relay(OWN))
}

fn shadows() -> Vec<Case> {
    let look = |user: &'static str| -> At {
        let words: &[&str] = match user {
            BOB => {
                &["run", "77", "vsm", "shadow", "--screenshot", "/dev/null", "bob@tlha", "alice"]
            }
            _ => {
                &["run", "77", "vsm", "shadow", "--screenshot", "/dev/null", "carol@tlha", "alice"]
            }
        };
        ("client", user, words)
    };
    let tells = |user: &'static str| {
        move |stage: &Stage<'_>| {
            let of = |name: &str| ask(stage, user, "Shadow", &Message::new().text(1, name));
            let (there, not) = (of("alice")?, of("user010")?);
            let same = (&there.code, there.said.replace("alice", "user010"))
                == (&not.code, not.said.clone());
            Ok(Seen::won_if(!same, format!("{} | {}", there.words(), not.words())))
        }
    };
    vec![
        case("shadow-without-leave", By::BrokerUser, "alice's picture", look(BOB), look("carol")),
        case(
            "ask-by-shadowing-who-is-there",
            By::BrokerUser,
            "whether alice has a desktop",
            tells(BOB),
            tells("carol"),
        ),
    ]
}

/// Many refused requests, which must not push what others did out of the trail.
fn hide_in_the_trail() -> Case {
    const MANY: usize = 400;
    let hidden = |count: usize, user: &'static str| {
        move |stage: &Stage<'_>| {
            let mark = format!("marked {count}");
            stage.sh(ACTIVE, &format!("vsmctl agent drain agent3 --reason '{mark}'"))?;
            let call =
                Call::at(USERS, "vsm.broker.v1.Broker/Shadow", &Message::new().text(1, "alice"));
            calls::make(stage, ACTIVE, user, &vec![call; count])?;
            let events = stage.sh(ACTIVE, "vsmctl events --output json")?;
            let all: Vec<serde_json::Value> = serde_json::from_str(&events)?;
            let theirs = all.iter().filter(|event| event["actor"] == user).count();
            let is_there = events.contains(&mark);
            Ok(Seen::won_if(
                !is_there || theirs > 100,
                format!("{theirs} of {} events are theirs", all.len()),
            ))
        }
    };
    let control = |stage: &Stage<'_>| {
        let told = stage.sh(ACTIVE, "vsmctl events --output json")?;
        let all: Vec<serde_json::Value> = serde_json::from_str(&told)?;
        // What is told of others is found by the same look.
        Ok(Seen::won_if(
            all.iter().any(|event| event["actor"] == "root"),
            format!("{} events", all.len()),
        ))
    };
    case(
        "hide-among-refusals",
        By::BrokerUser,
        "a trail in which nobody finds anything",
        hidden(MANY, BOB),
        control,
    )
}

/// What somebody is refused has to be in the trail, and in the log.
fn no_trace() -> Case {
    let told = |stage: &Stage<'_>, action: &str| -> Result<bool> {
        let events = stage.sh(ACTIVE, "vsmctl events --user carol --output json")?;
        let all: Vec<serde_json::Value> = serde_json::from_str(&events)?;
        Ok(all.iter().any(|event| event["action"] == *action))
    };
    let attempt = move |stage: &Stage<'_>| {
        let answer =
            ask(stage, "carol", "AbandonSession", &of_session(stage.fact("alice.session")?))?;
        let log = stage.cluster.daemon_log(stage.fact("active")?, "vsmserver");
        let logged =
            log.lines().any(|line| line.contains("abandon-refused") && line.contains("carol"));
        Ok(Seen::won_if(!logged || !told(stage, "abandon-refused")?, answer.words()))
    };
    let control = move |stage: &Stage<'_>| {
        Ok(Seen::won_if(
            !told(stage, "never-done")? && told(stage, "session-started")?,
            "the look tells both apart",
        ))
    };
    case(
        "be-refused-without-a-trace",
        By::BrokerUser,
        "attempts that nobody hears of",
        attempt,
        control,
    )
}

/// A name that a terminal obeys, in what an administrator looks at.
fn terminal() -> Case {
    let listed = |name: &'static str| {
        move |stage: &Stage<'_>| {
            let session = spare(stage, "user007")?.session;
            let params = Message::new().text(4, name).text(2, name);
            let body = Message::new().text(1, request()).message(2, &params).text(3, session);
            let answer = ask(stage, "user007", "Login", &body)?;
            let lists = "vsmctl session list; vsmctl session list --output json; vsmctl events --output json; vsmctl events";
            let text = stage.sh(ACTIVE, lists)?;
            Ok(Seen::won_if(text.contains('\u{1b}'), answer.words()))
        }
    };
    let control = |stage: &Stage<'_>| {
        let text = stage.sh(ACTIVE, "printf 'a\\033]0;title\\007'")?;
        Ok(Seen::won_if(text.contains('\u{1b}'), "it is seen"))
    };
    let name = "a\u{1b}]0;title\u{7}\u{1b}[2J";
    case(
        "name-oneself-so-that-a-terminal-obeys",
        By::BrokerUser,
        "an administrator's terminal",
        listed(name),
        control,
    )
}

pub(super) fn all() -> Vec<Case> {
    let mut all: Vec<Case> = ROWS.iter().map(|row| row.by(By::BrokerUser)).collect();
    all.push(end_anothers());
    all.extend([
        anothers("disconnect-anothers-desktop", "alice thrown out", "DisconnectSession"),
        anothers("extend-anothers-desktop", "another limit for alice's desktop", "ExtendSession"),
        anothers("abandon-anothers-desktop", "alice's desktop given up", "AbandonSession"),
        anothers("log-in-to-anothers-desktop", "alice's desktop as one's own", "Login"),
        list_of_others(),
        forged("forward-a-call-as-a-user", "alice's sessions", |call| (call, (ACTIVE, BOB, &[]))),
        forged("forward-a-call-as-an-administrator", "alice's sessions", |call| {
            (call.by_identity("ops"), ("client", ROOT, &[]))
        }),
        forged("forward-a-call-as-an-agent", "alice's sessions", |call| {
            (call.by_identity("agent2"), ("client", ROOT, &[]))
        }),
        relayed(
            "relay-to-anothers-desktop",
            "a way to alice's host",
            r#"{"op":"relay","session":"{alice.session}"}"#,
        ),
        relayed(
            "relay-to-no-desktop",
            "a way to a host of one's choice",
            r#"{"op":"relay","session":"01890a5d-ac96-774b-bcce-b302099a8057","host":"10.0.0.12"}"#,
        ),
    ]);
    all.extend(shadows());
    all.extend([hide_in_the_trail(), no_trace(), terminal()]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::wire;

    #[test]
    fn a_session_is_named_in_the_first_field() {
        let bytes = wire::bytes(&of_session("x").hex());
        assert_eq!(wire::part(&bytes, 1).unwrap(), b"x");
        let bytes = wire::bytes(&login("y").hex());
        assert_eq!(wire::part(&bytes, 3).unwrap(), b"y");
    }
}
