//! Calls at the socket of `vsmagent` that no broker may make either: with what is in none, for whom they are not, or by
//! no right.

use anyhow::Result;

use super::{BOB, HOST};
use crate::attack::case::{By, Case, NET, Seen, case, tool};
use crate::attack::cases::broker_user::request;
use crate::attack::stage::Stage;

/// A key that somebody holds who is nobody's user.
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
/// What is answered where a call is none.
const NO_CALL: &str = "no call";
/// Where it is not for this one to ask.
const BY_NO_RIGHT: &str = "fenced|lineage|beyond all reason|no call";
/// A start is taken: there is nobody of this name.
const TAKEN: &str = "unknown-user";

/// Says a call, with what is answered where it is done and where it is not.
fn says(
    text: impl Into<String>,
    wins: &'static str,
    loses: &'static str,
) -> impl Fn(&Stage<'_>) -> Result<Seen> + 'static {
    let text = text.into();
    move |stage| tool(stage, HOST, NET, &["call", &text, wins, loses])
}

/// A start for a user by some right, with more in it.
pub(super) fn start(user: &str, right: &str, more: &str) -> String {
    let session = r#""session":{"id":"<ID>","user":"USER","agent":"agent1","state":"starting","request":"<ID>","params":{"geometry":null},"created":1}"#;
    let session = session.replace("USER", user);
    format!(r#"{{"start":{{{right}{session},"limits":{{}},"resources":{{}}{more}}}}}"#)
}

fn fence(kind: &str) -> String {
    format!(r#""fence":<{kind}>,"#)
}

/// A start that nothing is wrong with, but that nobody has this name.
fn good() -> String {
    start("nobody-here", &fence("NOW"), "")
}

/// A start of another shape.
fn shaped(name: &'static str, gets: &'static str, text: String, loses: &'static str) -> Case {
    case(name, By::TakenOver, gets, says(text, TAKEN, loses), says(good(), TAKEN, loses))
}

fn shapes() -> Vec<Case> {
    let more = |more: &str| start("nobody-here", &fence("NOW"), more);
    let by = |kind: &str| start("nobody-here", &fence(kind), "");
    let named = |user: &str| start(user, &fence("NOW"), "");
    let gets = "a desktop by no right";
    let of_node = r#""fence":{"epoch":{"counter":9,"node":"../x","nonce":0},"incarnation":1,"lineage":"01890a5d-ac96-774b-bcce-0000000000ff"},"#;
    vec![
        shaped("net-start-with-a-program", "root", more(r#","program":"/bin/sh""#), NO_CALL),
        shaped(
            "net-start-with-an-environment",
            "what root's programs load",
            more(r#","environment":{"LD_PRELOAD":"/tmp/x"}"#),
            NO_CALL,
        ),
        shaped("net-start-with-a-uid", "root", more(r#","uid":0"#), NO_CALL),
        shaped("net-start-with-a-path", "files of root's", more(r#","state_dir":"/tmp""#), NO_CALL),
        shaped(
            "net-start-with-two-users",
            "one who is checked and another who is started",
            good().replace(r#""user":"#, r#""user":"root","user":"#),
            NO_CALL,
        ),
        shaped("net-start-for-a-path", "files beside homes", named("../alice"), NO_CALL),
        shaped("net-start-for-a-line", "a line in a file of root's", named("a\\nroot"), NO_CALL),
        shaped("net-start-without-a-right", gets, start("nobody-here", "", ""), NO_CALL),
        shaped("net-start-by-an-old-epoch", gets, by("OLD"), BY_NO_RIGHT),
        shaped("net-start-by-a-far-epoch", gets, by("FAR"), BY_NO_RIGHT),
        shaped("net-start-by-a-lower-node", gets, by("LOWER"), BY_NO_RIGHT),
        shaped("net-start-by-another-table", gets, by("TABLE"), BY_NO_RIGHT),
        shaped(
            "net-start-by-a-node-that-is-a-path",
            gets,
            start("nobody-here", of_node, ""),
            NO_CALL,
        ),
    ]
}

/// Something else that is asked by an epoch that is over, and what is answered where it is done.
fn asked_late(what: &'static str, gets: &'static str, text: &str, done: &'static str) -> Case {
    let by = |kind: &str| says(text.replace("FENCE", &format!("<{kind}>")), done, BY_NO_RIGHT);
    case(format!("net-{what}-by-an-old-epoch"), By::TakenOver, gets, by("OLD"), by("NOW"))
}

/// All that changes or opens something. In the controls it is done, to nobody's harm.
fn late() -> Vec<Case> {
    vec![
        asked_late(
            "terminate",
            "the end of a desktop",
            r#"{"terminate":{"fence":FENCE,"id":"<ID>","broker":"x"}}"#,
            "ended",
        ),
        asked_late(
            "disconnect",
            "bob thrown out of his desktop",
            r#"{"disconnect":{"fence":FENCE,"id":"{bob.session}","reason":"x"}}"#,
            "was_connected",
        ),
        asked_late(
            "set-limits",
            "a limit for a desktop",
            r#"{"set_limits":{"fence":FENCE,"sessions":[]}}"#,
            "all_but",
        ),
        asked_late(
            "revoke",
            "a broker that counts no more",
            r#"{"revoke":{"fence":FENCE,"identities":[]}}"#,
            "done",
        ),
        asked_late(
            "extend",
            "another limit for a desktop",
            r#"{"extend":{"fence":FENCE,"id":"{bob.session}"}}"#,
            "extended",
        ),
        asked_late(
            "notify",
            "a text on desktops",
            r#"{"notify":{"fence":FENCE,"ids":[],"text":"x"}}"#,
            "all_but",
        ),
        asked_late(
            "log",
            "what bob's programs print",
            r#"{"log":{"fence":FENCE,"id":"{bob.session}","bytes":100}}"#,
            "bytes",
        ),
        asked_late(
            "accept-key",
            "a login as bob",
            &accept("{bob.session}", BOB, "FENCE"),
            "host_keys",
        ),
        asked_late(
            "shadow",
            "bob's picture",
            r#"{"shadow":{"fence":FENCE,"wish":{"session":"{bob.session}","by":"carol","control":false,"key":null,"valid":1}}}"#,
            r#"shadow":\{|not_shadowed"#,
        ),
        asked_late(
            "cancel",
            "a desktop that never starts",
            r#"{"cancel":{"fence":FENCE,"id":"<ID>"}}"#,
            "done",
        ),
        asked_late(
            "quarantine",
            "a host that serves nobody",
            r#"{"quarantine":{"fence":FENCE,"lineage":"01890a5d-ac96-774b-bcce-0000000000ff","journal_id":1,"journal":1}}"#,
            "was",
        ),
    ]
}

fn accept(session: &str, user: &str, fence: &str) -> String {
    format!(
        r#"{{"accept_key":{{"fence":{fence},"announced":{{"session":"{session}","user":"{user}","key":"{KEY}","valid":1}}}}}}"#
    )
}

/// What is somebody else's.
fn others() -> Vec<Case> {
    let log = |id: &str| format!(r#"{{"log":{{"fence":<NOW>,"id":"{id}","bytes":9}}}}"#);
    vec![
        case(
            "net-accept-a-key-for-anothers-desktop",
            By::TakenOver,
            "alice's desktop for bob",
            says(accept("{alice.session}", BOB, "<NOW>"), "host_keys", "is not bob's"),
            says(accept("{bob.session}", BOB, "<NOW>"), "host_keys", "is not bob's"),
        ),
        case(
            "net-read-a-file-by-the-id-of-a-log",
            By::TakenOver,
            "files that root alone reads",
            says(log("../../../../etc/shadow"), "bytes", NO_CALL),
            says(log("{bob.session}"), "bytes", NO_CALL),
        ),
    ]
}

/// Users whom PAM refuses, and whoever else the site has shut out.
fn shut_out() -> Case {
    const USER: &str = "user009";
    let by = |expires: &'static str| {
        move |stage: &Stage<'_>| {
            let id = request();
            stage.sh(HOST, &format!("chage -E {expires} {USER}"))?;
            let text = start(USER, &fence("NOW"), "").replacen("<ID>", &id, 1);
            let seen = tool(stage, HOST, NET, &["call", &text, "started", "account|expired"]);
            let end = format!(r#"{{"terminate":{{"fence":<NOW>,"id":"{id}","broker":"x"}}}}"#);
            tool(stage, HOST, NET, &["call", &end, "ended", BY_NO_RIGHT])?;
            stage.sh(HOST, &format!("chage -E -1 {USER}"))?;
            seen
        }
    };
    let gets = "a desktop for an account that has expired";
    case("net-start-for-whom-pam-refuses", By::TakenOver, gets, by("0"), by("-1"))
}

pub(super) fn all() -> Vec<Case> {
    [shapes(), late(), others(), vec![shut_out()]].into_iter().flatten().collect()
}
