//! A malicious client or viewer: what it says first, stolen one-time keys, and a viewer that does more than look.

use anyhow::{Context, Result};

use super::broker_user;
use crate::attack::calls::{self, Call};
use crate::attack::case::{At, By, Case, Row, Seen, Staying, case, tool};
use crate::attack::stage::Stage;
use crate::attack::wire::{self, Message};
use crate::clock::wait_for;
use crate::pair;

const CLIENT: &str = "client";
const BOB: &str = "bob";
const ROOT: &str = "root";
/// How long a viewer may take to come.
const WAIT: std::time::Duration = std::time::Duration::from_secs(60);

/// What bob's client says first at the host of his desktop.
const fn preface(name: &'static str, gets: &'static str, words: &'static [&'static str]) -> Row {
    Row { name, gets, attempt: (CLIENT, BOB, words), control: (CLIENT, BOB, OWN) }
}

const OWN: &[&str] = &["service", "vsm/1 session {bob.session}\\n", "ssh", "-s", "agent1", "vsm"];

const PREFACES: &[Row] = &[
    preface(
        "open-anothers-desktop-by-ssh",
        "alice's desktop",
        &["service", "vsm/1 session {alice.session}\\n", "ssh", "-s", "agent1", "vsm"],
    ),
    preface(
        "speak-another-version",
        "an older protocol",
        &["service", "vsm/2 session {bob.session}\\n", "ssh", "-s", "agent1", "vsm"],
    ),
    preface(
        "name-a-path-for-a-session",
        "a socket of one's choice",
        &["service", "vsm/1 session ../../../tmp\\n", "ssh", "-s", "agent1", "vsm"],
    ),
    preface(
        "name-a-session-that-is-none",
        "a socket of one's choice",
        &[
            "service",
            "vsm/1 session 01890a5d-ac96-774b-bcce-b302099a8057\\n",
            "ssh",
            "-s",
            "agent1",
            "vsm",
        ],
    ),
    preface(
        "shadow-by-a-right-that-is-made-up",
        "alice's picture",
        &[
            "service",
            "vsm/1 shadow {alice.session} 01890a5d-ac96-474b-8cce-b302099a8057\\n",
            "ssh",
            "-s",
            "agent1",
            "vsm",
        ],
    ),
    preface(
        "say-more-than-a-line",
        "memory of vsm-login",
        &["service", LONG, "ssh", "-s", "agent1", "vsm"],
    ),
    preface(
        "say-what-is-no-text",
        "a parser that stumbles",
        &["service", "\\xff\\xfe\\x00vsm/1\\n", "ssh", "-s", "agent1", "vsm"],
    ),
    preface(
        "hang-up-in-the-line",
        "a request that is half taken",
        &["service", "vsm/1 sess", "ssh", "-s", "agent1", "vsm"],
    ),
    preface(
        "ask-a-session-host-for-a-broker",
        "a broker where there is none",
        &["service", "vsm/1 broker\\n", "ssh", "-s", "agent1", "vsm"],
    ),
];

const LONG: &str = "vsm/1 session AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\\n";

/// Where the key lies that was stolen from alice's machine.
const KEY: &str = "/root/stolen";

/// Has the broker announce a key for alice's desktop, as her client does, and steals it before it is used.
fn steal(stage: &Stage<'_>) -> Result<()> {
    stage.sh(
        CLIENT,
        &format!("rm -f {KEY} {KEY}.pub; ssh-keygen -q -t ed25519 -N '' -C x -f {KEY}"),
    )?;
    let key = stage.sh(CLIENT, &format!("cut -d' ' -f1,2 {KEY}.pub"))?;
    let session = stage.fact("alice.session")?;
    let body = Message::new()
        .text(1, broker_user::request())
        .message(2, &Message::new())
        .text(3, session)
        .text(5, key);
    let answer = broker_user::ask(stage, "alice", "Login", &body)?;
    let accepted = wire::number(&answer.message(), 6) == 1;
    accepted.then_some(()).with_context(|| format!("the key is not accepted: {}", answer.words()))
}

/// ssh with the stolen key, as the tool runs it.
fn ssh(user: &str, host: &str, line: &str, rest: &[&str]) -> Vec<String> {
    let to = format!("{user}@{host}");
    let options = [
        "-i",
        KEY,
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
    ];
    let words = [&["service", line, "ssh"][..], &options[..], &[&*to][..], rest].concat();
    words.into_iter().map(str::to_owned).collect()
}

/// What is done with the stolen key before the look, and the look.
type Theft = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str]);

const TO_ALICE: &str = "vsm/1 session {alice.session}\\n";
const SUBSYSTEM: &[&str] = &["-s", "vsm"];

const THEFTS: &[Theft] = &[
    ("one-time-key-of-another-user", "bob", "agent1", TO_ALICE, SUBSYSTEM),
    ("one-time-key-for-root", "root", "agent1", TO_ALICE, SUBSYSTEM),
    (
        "one-time-key-for-another-desktop",
        "alice",
        "agent1",
        "vsm/1 session {bob.session}\\n",
        SUBSYSTEM,
    ),
    ("one-time-key-for-a-broker", "alice", "agent1", "vsm/1 broker\\n", SUBSYSTEM),
    ("one-time-key-for-a-shell", "alice", "agent1", "id\\n", &["id"]),
    ("one-time-key-for-a-terminal", "alice", "agent1", "id\\n", &["-tt"]),
    ("one-time-key-at-another-host", "alice", "agent2", TO_ALICE, SUBSYSTEM),
    ("one-time-key-at-the-broker", "alice", "{active}", "vsm/1 broker\\n", SUBSYSTEM),
];

fn taken(stage: &Stage<'_>, words: &[String]) -> Result<Seen> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    tool(stage, CLIENT, ROOT, &words)
}

/// It is good once, for what it is for.
fn good(stage: &Stage<'_>) -> Result<Seen> {
    steal(stage)?;
    taken(stage, &ssh("alice", "agent1", TO_ALICE, SUBSYSTEM))
}

fn theft((name, user, host, line, rest): Theft) -> Case {
    let attempt = move |stage: &Stage<'_>| {
        steal(stage)?;
        taken(stage, &ssh(user, host, line, rest))
    };
    case(name, By::Client, "a login by a key that was stolen", attempt, good)
}

fn keys() -> Vec<Case> {
    let again = |stage: &Stage<'_>| {
        good(stage)?;
        taken(stage, &ssh("alice", "agent1", TO_ALICE, SUBSYSTEM))
    };
    let late = |stage: &Stage<'_>| {
        // What a broker announces for a moment only.
        accept_for_a_moment(stage)?;
        crate::clock::pause(std::time::Duration::from_millis(1500));
        taken(stage, &ssh("alice", "agent1", TO_ALICE, SUBSYSTEM))
    };
    let port = |stage: &Stage<'_>| {
        steal(stage)?;
        let forward = "-W 127.0.0.1:22".to_owned();
        let line = format!(
            "timeout 20 ssh -i {KEY} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no \
             -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR {forward} alice@agent1 </dev/null 2>&1 | head -c 200; true"
        );
        let said = stage.sh(CLIENT, &line)?;
        Ok(Seen::won_if(said.contains("SSH-2.0"), said))
    };
    let mut all: Vec<Case> = THEFTS.iter().copied().map(theft).collect();
    let gets = "a login by a key that was stolen";
    all.extend([
        case("one-time-key-twice", By::Client, gets, again, good),
        case("one-time-key-too-late", By::Client, gets, late, good),
        case(
            "one-time-key-for-a-port",
            By::Client,
            "a way into the session host's network",
            port,
            good,
        ),
    ]);
    all
}

/// The active node announces the stolen key anew, for a second.
fn accept_for_a_moment(stage: &Stage<'_>) -> Result<()> {
    stage.sh(
        CLIENT,
        &format!("rm -f {KEY} {KEY}.pub; ssh-keygen -q -t ed25519 -N '' -C x -f {KEY}"),
    )?;
    let key = stage.sh(CLIENT, &format!("cut -d' ' -f1,2 {KEY}.pub"))?;
    let told = calls::report(stage, "agent1")?;
    let of =
        |name: &str| told.iter().find(|(fact, _)| *fact == name).map(|(_, value)| value.clone());
    let epoch = Message::new()
        .number(1, of("epoch.counter").unwrap_or_default().parse()?)
        .text(2, of("epoch.node").unwrap_or_default())
        .fixed32(3, of("epoch.nonce").unwrap_or_default().parse()?);
    let fence =
        Message::new().message(1, &epoch).number(2, 1).text(3, of("lineage").unwrap_or_default());
    let body = Message::new()
        .text(1, stage.fact("alice.session")?)
        .text(2, "alice")
        .text(3, key)
        .number(4, 1000)
        .message(5, &fence);
    let call = Call::by("{active}", "agent1:904", "vsm.agent.v1.Agent/AcceptKey", &body);
    let answer = calls::one(stage, CLIENT, ROOT, call)?;
    (answer.code == "Ok").then_some(()).with_context(|| answer.words())
}

/// A viewer that does things: the pointer to a corner, a key, a text, another size; shared or not.
const DOES: &str = r#"#!/usr/bin/perl
use strict; use warnings; use Socket;
socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die; connect($s, sockaddr_un($ARGV[-1])) or die;
sub get { my ($n) = @_; my $all = ""; while (length($all) < $n) { my $r = sysread($s, my $part, $n - length($all)); die "cut off\n" unless $r; $all .= $part } $all }
sub put { defined syswrite($s, $_[0]) or die }
get(12); put("RFB 003.008\n"); get(unpack("C", get(1))); put("\x01"); get(4); put(-e "/tmp/alone" ? "\0" : "\x01");
my $init = get(24); get(unpack("N", substr($init, 20)));
if (-e "/tmp/unknown") { put(pack("C", 77) x 40); get(4); exit 0 }
put(pack("CCnn", 5, 0, 3, 3)); put(pack("CCnN", 4, 1, 0, 0xffe1)); put(pack("CCnN", 4, 0, 0, 0xffe1));
put(pack("CCCCN", 6, 0, 0, 0, 5) . "taken");
put(pack("CCnnnn", 3, 0, 0, 0, 1, 1));
get(4);
"#;

/// A viewer that stays until it is thrown out.
const STAYS: &str = r#"#!/usr/bin/perl
use Socket; $0 = "attack-viewer"; socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die; connect($s, sockaddr_un($ARGV[-1])) or die;
sysread($s, my $more, 12); syswrite($s, "RFB 003.008\n"); sysread($s, $more, 16); syswrite($s, "\x01"); sysread($s, $more, 4);
syswrite($s, "\x01"); 1 while sysread($s, $more, 4096);
"#;

fn viewers(stage: &Stage<'_>) -> Result<()> {
    for (path, text) in [("/usr/local/bin/does", DOES), ("/usr/local/bin/stays", STAYS)] {
        let line = format!(
            "cat > {path} <<'END'\n{text}END\nchmod 755 {path}; rm -f /tmp/alone /tmp/unknown"
        );
        stage.cluster.output(CLIENT, ROOT, &["sh", "-c", &line])?;
    }
    Ok(())
}

/// Where the pointer is on alice's desktop.
fn pointer(stage: &Stage<'_>) -> Result<String> {
    let display = "DISPLAY=:{alice.display} XAUTHORITY={alice.dir}/user/Xauthority";
    stage.sh_as("agent1", "alice", &format!("{display} xdotool getmouselocation"))
}

fn type_while_looking() -> Case {
    const SHADOW: &str = "vsm shadow --viewer=/usr/local/bin/does carol@tlha alice";
    const OWN: &str = "vsm connect --viewer=/usr/local/bin/does alice@tlha";
    let moves = |user: &'static str, line: &'static str| {
        move |stage: &Stage<'_>| {
            viewers(stage)?;
            let display = "DISPLAY=:{alice.display} XAUTHORITY={alice.dir}/user/Xauthority";
            stage.sh_as("agent1", "alice", &format!("{display} xdotool mousemove 400 300"))?;
            let said = stage.sh_as(CLIENT, user, &format!("timeout 60 {line} 2>&1; true"))?;
            let now = pointer(stage)?;
            Ok(Seen::won_if(now.starts_with("x:3 y:3 "), format!("{now}; {said}")))
        }
    };
    case(
        "type-while-looking",
        By::Client,
        "alice's input",
        moves("carol", SHADOW),
        moves("alice", OWN),
    )
}

/// A viewer that does not share throws the others out, if it may.
fn throw_out() -> Case {
    let thrown = |user: &'static str, line: &'static str| {
        move |stage: &Stage<'_>| {
            viewers(stage)?;
            let words = ["vsm", "connect", "--viewer", "/usr/local/bin/stays", "alice@tlha"];
            let mut own = Staying::silent(stage.cluster.command(CLIENT, "alice", &words)?)?;
            wait_for("alice to be connected", WAIT, || {
                let rows = pair::rows(stage.cluster, stage.fact("active").unwrap_or_default());
                let rows = rows.map_err(|error| format!("{error:#}"))?;
                let is_there =
                    rows.iter().any(|row| row.user == "alice" && row.state == "connected");
                if is_there { Ok(()) } else { Err(format!("{rows:?}")) }
            })?;
            stage.sh(CLIENT, "touch /tmp/alone")?;
            let said = stage.sh_as(CLIENT, user, &format!("timeout 60 {line} 2>&1; true"))?;
            crate::clock::pause(std::time::Duration::from_millis(1000));
            let out = !own.runs();
            stage.sh(CLIENT, "rm -f /tmp/alone; pkill -u alice -f '^attack-viewer'; true")?;
            drop(own);
            Ok(Seen::won_if(out, said))
        }
    };
    const SHADOW: &str = "vsm shadow --viewer=/usr/local/bin/does carol@tlha alice";
    const OWN: &str = "vsm connect --viewer=/usr/local/bin/does alice@tlha";
    case(
        "throw-the-user-out-while-looking",
        By::Client,
        "alice's place",
        thrown("carol", SHADOW),
        thrown("alice", OWN),
    )
}

/// Control over a desktop at which nobody is asked.
fn control_nobody_gave() -> Case {
    const WITH: At = (
        CLIENT,
        "carol",
        &[
            "run",
            "77",
            "vsm",
            "shadow",
            "--control",
            "--screenshot",
            "/dev/null",
            "carol@tlha",
            "alice",
        ],
    );
    const WITHOUT: At = (
        CLIENT,
        "carol",
        &["run", "77", "vsm", "shadow", "--screenshot", "/dev/null", "carol@tlha", "alice"],
    );
    case("take-control-that-nobody-gave", By::Client, "alice's input", WITH, WITHOUT)
}

/// A message that nobody needs.
fn too_long() -> Case {
    let said = |length: usize| {
        move |stage: &Stage<'_>| {
            let params = Message::new().text(4, "x".repeat(length));
            let body = Message::new()
                .text(1, broker_user::request())
                .message(2, &params)
                .text(3, stage.fact("bob.session")?);
            let answer = broker_user::ask(stage, BOB, "Login", &body)?;
            Ok(Seen::won_if(answer.code == "Ok", answer.words()))
        }
    };
    case("say-too-much", By::Client, "the broker's memory", said(3 << 20), said(10))
}

/// What no message is.
fn no_message() -> Case {
    let said = |bytes: &'static [u8]| {
        move |stage: &Stage<'_>| {
            let answer =
                broker_user::ask(stage, BOB, "ListSessions", &Message::new().text(200, bytes))?;
            Ok(Seen::won_if(answer.code == "Ok", answer.words()))
        }
    };
    let broken = |stage: &Stage<'_>| {
        let call =
            Call::at(broker_user::USERS, "vsm.broker.v1.Broker/ListSessions", &Message::new());
        let answer = calls::one(stage, "active", BOB, call.empty())?;
        Ok(Seen::won_if(answer.code == "Ok", answer.words()))
    };
    case("say-what-is-no-message", By::Client, "a broker that stumbles", broken, said(b"unknown"))
}

pub(super) fn all() -> Vec<Case> {
    let mut all: Vec<Case> = PREFACES.iter().map(|row| row.by(By::Client)).collect();
    all.extend(keys());
    all.extend([
        type_while_looking(),
        throw_out(),
        control_nobody_gave(),
        too_long(),
        no_message(),
    ]);
    all
}
