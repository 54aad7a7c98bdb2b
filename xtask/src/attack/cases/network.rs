//! Anybody on the network: no certificate of the cluster, and nothing but its addresses.

use anyhow::Result;

use crate::attack::calls::{self, Call};
use crate::attack::case::{At, By, Case, Row, Seen, case, stays, tool};
use crate::attack::stage::Stage;
use crate::attack::wire::Message;

const CLIENT: &str = "client";
const BOB: &str = "bob";
/// Where the client sees identities; a user may not read their keys, which are root's.
const OPS: &str = "/run/host/ids/ops";
const STATUS: &str = "vsm.admin.v1.Admin/Status";
const HEALTH: &str = "grpc.health.v1.Health/Check";

const ROWS: &[Row] = &[
    Row {
        name: "scan-the-active-broker",
        gets: "a port that should not be open",
        attempt: (CLIENT, BOB, &["scan", "{active}", "22,9000", "1", "12000"]),
        control: (CLIENT, BOB, &["scan", "{active}", "22", "1", "10000"]),
    },
    Row {
        name: "scan-the-standby",
        gets: "a port that should not be open",
        attempt: (CLIENT, BOB, &["scan", "{standby}", "22,9000", "1", "12000"]),
        control: (CLIENT, BOB, &["scan", "{standby}", "22", "1", "10000"]),
    },
    Row {
        name: "scan-a-session-host",
        gets: "a desktop's port",
        attempt: (CLIENT, BOB, &["scan", "agent1", "22,904", "1", "12000"]),
        control: (CLIENT, BOB, &["scan", "agent1", "22", "1", "10000"]),
    },
    Row {
        name: "speak-http-to-a-broker",
        gets: "the service without TLS",
        attempt: (CLIENT, BOB, &["plain", "{active}:9000"]),
        control: ("active", BOB, &["plain", "/run/vsm/vsmserver.sock"]),
    },
    Row {
        name: "speak-http-to-an-agent",
        gets: "the service without TLS",
        attempt: (CLIENT, BOB, &["plain", "agent1:904"]),
        control: ("active", BOB, &["plain", "/run/vsm/vsmserver.sock"]),
    },
    Row {
        name: "come-without-a-certificate-to-a-broker",
        gets: "a handshake",
        attempt: (CLIENT, "root", &["tls", "{active}", "9000", "TLSv1_3"]),
        control: (CLIENT, "root", &["tls", "{active}", "9000", "TLSv1_3", OPS]),
    },
    Row {
        name: "come-without-a-certificate-to-the-standby",
        gets: "a handshake",
        attempt: (CLIENT, "root", &["tls", "{standby}", "9000", "TLSv1_3"]),
        control: (CLIENT, "root", &["tls", "{standby}", "9000", "TLSv1_3", OPS]),
    },
    Row {
        name: "come-without-a-certificate-to-an-agent",
        gets: "a handshake",
        attempt: (CLIENT, "root", &["tls", "agent1", "904", "TLSv1_3"]),
        control: (CLIENT, "root", &["tls", "agent1", "904", "TLSv1_3", OPS]),
    },
    Row {
        name: "speak-an-older-tls-to-a-broker",
        gets: "a protocol with known weaknesses",
        attempt: (CLIENT, "root", &["tls", "{active}", "9000", "TLSv1_2", OPS]),
        control: (CLIENT, "root", &["tls", "{active}", "9000", "TLSv1_3", OPS]),
    },
    Row {
        name: "speak-an-older-tls-to-an-agent",
        gets: "a protocol with known weaknesses",
        attempt: (CLIENT, "root", &["tls", "agent1", "904", "TLSv1_2", OPS]),
        control: (CLIENT, "root", &["tls", "agent1", "904", "TLSv1_3", OPS]),
    },
    Row {
        name: "ask-the-session-host-without-a-key",
        gets: "a login at sshd by guessing",
        attempt: (CLIENT, BOB, SSH_AS_ALICE),
        control: (CLIENT, "alice", SSH_AS_ALICE),
    },
    Row {
        name: "ask-the-broker-as-somebody-else",
        gets: "alice's desktops, from bob's machine",
        attempt: (CLIENT, BOB, &["run", "255,77", "vsm", "list", "--retry-for=0", "alice@tlha"]),
        control: (
            CLIENT,
            "alice",
            &["run", "255,77", "vsm", "list", "--retry-for=0", "alice@tlha"],
        ),
    },
];

const SSH_AS_ALICE: &[&str] = &["run", "255", "ssh", "-o", "BatchMode=yes", "alice@agent1", "true"];

/// TLS that goes on where another connection was shows no certificate.
fn resumes(host: &'static str, port: &'static str) -> Case {
    let attempt: At = (
        CLIENT,
        "root",
        match host {
            "agent1" => &["tls", "agent1", "904", "TLSv1_3", OPS, "again"],
            _ => &["tls", "{active}", "9000", "TLSv1_3", OPS, "again"],
        },
    );
    let control = |stage: &Stage<'_>| -> Result<Seen> {
        let listener = ["listener", "4433", "tls:/run/host/ids/ops"];
        let _plain = stays(stage, CLIENT, "root", &listener)?;
        tool(stage, CLIENT, "root", &["tls", "localhost", "4433", "TLSv1_3", OPS, "again"])
    };
    let name = format!("resume-a-connection-at-port-{port}");
    case(name, By::Network, "a connection for which no certificate is looked at", attempt, control)
}

/// Who has no certificate is let in while somebody is invited, and to nothing but that.
fn as_a_guest(name: &'static str, method: &'static str, gets: &'static str) -> Case {
    let attempt = move |stage: &Stage<'_>| {
        invited(stage)?;
        let call = Call::by("guest", "{active}:9000", method, &Message::new());
        calls::any_let_in(stage, CLIENT, "root", &[call])
    };
    let control = |stage: &Stage<'_>| {
        let token = invited(stage)?;
        enrol(stage, "agent3", &token, &request(stage)?)
    };
    Case { calls: 0, ..case(name, By::Network, gets, attempt, control) }
}

/// Invites the third session host; the token.
pub(super) fn invited(stage: &Stage<'_>) -> Result<String> {
    let said = stage.sh("active", "vsmctl agent enrol agent3 --output json")?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    let command = said["command"].as_str().unwrap_or_default();
    let is_token =
        |word: &&str| word.len() == 26 && word.chars().all(|c| c.is_ascii_alphanumeric());
    let token = command.split(|c: char| !c.is_ascii_alphanumeric()).find(is_token);
    token.map(str::to_owned).ok_or_else(|| anyhow::anyhow!("no token in {command:?}"))
}

/// A request for a certificate, as hexadecimal digits.
pub(super) fn request(stage: &Stage<'_>) -> Result<String> {
    let said = stage.cluster.output(CLIENT, "root", &[&stage.bench, "request"])?;
    Ok(serde_json::from_str(&said)?)
}

/// Asks for a certificate with a token.
pub(super) fn enrol(stage: &Stage<'_>, agent: &str, token: &str, request: &str) -> Result<Seen> {
    let ask =
        Message::new().text(1, agent).text(2, token).text(3, crate::attack::wire::bytes(request));
    let call = Call::by("guest", "{active}:9000", "vsm.broker.v1.Enrolment/Enrol", &ask);
    let answer = calls::one(stage, CLIENT, "root", call)?;
    Ok(Seen::won_if(answer.code == "Ok", answer.words()))
}

/// A good token for a key: what the attempts with other tokens are compared with.
fn good(stage: &Stage<'_>) -> Result<Seen> {
    let token = invited(stage)?;
    enrol(stage, "agent3", &token, &request(stage)?)
}

fn tokens() -> Vec<Case> {
    vec![
        case(
            "token-that-is-guessed",
            By::Network,
            "a session host's certificate",
            |stage: &Stage<'_>| {
                invited(stage)?;
                enrol(stage, "agent3", "abcdefghjkmnpqrstuvwxyz234", &request(stage)?)
            },
            good,
        ),
        case(
            "token-again",
            By::Network,
            "a second key by a token that was used",
            |stage: &Stage<'_>| {
                let token = invited(stage)?;
                enrol(stage, "agent3", &token, &request(stage)?)?;
                enrol(stage, "agent3", &token, &request(stage)?)
            },
            good,
        ),
        case(
            "token-of-another-host",
            By::Network,
            "the identity of agent1",
            |stage: &Stage<'_>| {
                let token = invited(stage)?;
                enrol(stage, "agent1", &token, &request(stage)?)
            },
            good,
        ),
        case(
            "token-for-a-broker",
            By::Network,
            "the identity of a broker",
            |stage: &Stage<'_>| {
                let token = invited(stage)?;
                enrol(stage, "tlha-primary", &token, &request(stage)?)
            },
            good,
        ),
        case(
            "token-that-was-replaced",
            By::Network,
            "a certificate by an older invitation",
            |stage: &Stage<'_>| {
                let old = invited(stage)?;
                invited(stage)?;
                enrol(stage, "agent3", &old, &request(stage)?)
            },
            good,
        ),
        case(
            "token-with-no-request",
            By::Network,
            "a certificate for a key that one does not have",
            |stage: &Stage<'_>| {
                let token = invited(stage)?;
                let request = request(stage)?;
                let (start, _) = request.split_at(request.len() - 8);
                enrol(stage, "agent3", &token, &format!("{start}00000000"))
            },
            good,
        ),
    ]
}

pub(super) fn all() -> Vec<Case> {
    let mut all: Vec<Case> = ROWS.iter().map(|row| row.by(By::Network)).collect();
    all.extend([resumes("{active}", "9000"), resumes("agent1", "904")]);
    all.extend(tokens());
    all.extend([
        as_a_guest(
            "ask-as-a-guest-for-sessions",
            "vsm.admin.v1.Admin/ListSessions",
            "who has a desktop",
        ),
        as_a_guest("ask-as-a-guest-for-health", HEALTH, "whether it serves"),
        as_a_guest("ask-as-a-guest-for-status", STATUS, "how it stands"),
        as_a_guest("ask-as-a-guest-to-log-in", "vsm.broker.v1.Broker/Login", "a desktop"),
        as_a_guest(
            "ask-as-a-guest-for-renewal",
            "vsm.broker.v1.Enrolment/Renew",
            "a certificate without a token",
        ),
    ]);
    all
}
