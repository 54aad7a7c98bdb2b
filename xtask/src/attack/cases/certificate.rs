//! Certificates that should not count: of another authority, by an issuer for others than agents, at an end, not begun,
//! revoked. Real calls, where the genuine one is let in.

use anyhow::Result;

use crate::attack::calls::{self, Answer, Call};
use crate::attack::case::{By, Case, Seen, case, stays, tool};
use crate::attack::stage::Stage;
use crate::attack::wire::Message;
use crate::clock;

const STATUS: &str = "vsm.admin.v1.Admin/Status";
const NODES: &str = "vsm.admin.v1.Ha/ListNodes";
const HEALTH: &str = "grpc.health.v1.Health/Check";
const ANNOUNCE: &str = "vsm.broker.v1.Registry/Announce";
const VERIFY: &str = "vsm.agent.v1.Agent/Verify";
const BROKER: &str = "{active}:9000";
const STANDBY: &str = "{standby}:9000";
const AGENT: &str = "agent1:904";
/// How long a revocation may take until it counts everywhere that is asked here.
const TOLD: std::time::Duration = std::time::Duration::from_secs(20);

/// `(name, what it gets, the identity, where, the method, whose identity is genuine)`.
type Passed = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const PASSED: &[Passed] = &[
    (
        "other-authority-as-an-administrator",
        "an administrator's rights",
        "other-admin",
        BROKER,
        STATUS,
        "ops",
    ),
    (
        "other-authority-as-a-broker",
        "the other broker's rights",
        "other-broker",
        BROKER,
        NODES,
        "{standby}",
    ),
    ("other-authority-as-an-agent", "an agent's rights", "other-agent", BROKER, ANNOUNCE, "agent2"),
    (
        "other-authority-at-the-standby",
        "an administrator's rights",
        "other-admin",
        STANDBY,
        STATUS,
        "ops",
    ),
    ("other-authority-at-an-agent", "a broker's rights", "other-broker", AGENT, VERIFY, "{active}"),
    (
        "issued-as-an-administrator",
        "an administrator's rights by a broker's issuer",
        "issued-admin",
        BROKER,
        STATUS,
        "ops",
    ),
    (
        "issued-as-a-broker",
        "the other broker's rights by an issuer",
        "issued-broker",
        BROKER,
        NODES,
        "{standby}",
    ),
    (
        "issued-as-a-broker-at-an-agent",
        "a broker's rights by an issuer",
        "issued-broker",
        AGENT,
        VERIFY,
        "{active}",
    ),
    (
        "issued-as-both",
        "a broker's rights by an issuer, hidden among an agent's",
        "issued-both",
        BROKER,
        NODES,
        "{standby}",
    ),
    (
        "issued-as-both-at-an-agent",
        "the same at a session host",
        "issued-both",
        AGENT,
        VERIFY,
        "{active}",
    ),
    (
        "issued-without-a-role",
        "a connection by an issuer",
        "issued-nobody",
        BROKER,
        HEALTH,
        "issued-agent",
    ),
    ("ended-broker-at-an-agent", "a broker's rights", "ended-broker", AGENT, VERIFY, "{active}"),
    (
        "ended-broker-at-the-other-one",
        "the other broker's rights",
        "ended-broker",
        STANDBY,
        NODES,
        "{active}",
    ),
    ("ended-administrator", "an administrator's rights", "ended-admin", BROKER, STATUS, "ops"),
    (
        "ended-agent-that-announces-itself",
        "an agent's rights",
        "former",
        BROKER,
        ANNOUNCE,
        "agent2",
    ),
    ("begins-in-three-days", "an administrator's rights", "early", BROKER, STATUS, "ops"),
    (
        "agent-that-asks-another-agent",
        "what another session host runs",
        "agent2",
        AGENT,
        VERIFY,
        "{active}",
    ),
    ("administrator-at-an-agent", "what a session host runs", "ops", AGENT, VERIFY, "{active}"),
];

fn ask(stage: &Stage<'_>, identity: &str, to: &str, method: &str) -> Result<Seen> {
    let body = if method == VERIFY {
        Message::new().text(1, stage.fact("alice.session")?)
    } else {
        Message::new()
    };
    let call = Call::by(identity, to, method, &body);
    let answer = calls::one(stage, "client", "root", call)?;
    // A standby asks the active node: whatever comes of it, it has let the call in.
    Ok(Seen::won_if(!answer.is_refusal(), answer.words()))
}

fn passed((name, gets, identity, to, method, genuine): Passed) -> Case {
    let attempt = move |stage: &Stage<'_>| ask(stage, identity, to, method);
    let control = move |stage: &Stage<'_>| ask(stage, genuine, to, method);
    case(name, By::Certificate, gets, attempt, control)
}

/// Revokes; it does no harm to do it again.
fn revoke(stage: &Stage<'_>, what: &str) -> Result<()> {
    stage.sh("active", &format!("vsmctl pki revoke {what} -y --reason stolen --force")).map(drop)
}

/// Lost as soon as it is refused.
fn at_last_refused(stage: &Stage<'_>, identity: &str, to: &str, method: &str) -> Result<Seen> {
    let until = clock::now() + TOLD;
    loop {
        let seen = ask(stage, identity, to, method)?;
        if matches!(seen, Seen::Lost(_)) || clock::now() > until {
            return Ok(seen);
        }
        clock::pause(std::time::Duration::from_millis(200));
    }
}

fn revoked(
    name: &'static str,
    what: &'static str,
    by: (&'static str, &'static str, &'static str),
) -> Case {
    let (identity, to, method) = by;
    let attempt = move |stage: &Stage<'_>| {
        revoke(stage, what)?;
        at_last_refused(stage, identity, to, method)
    };
    // Another one of the same role, that is not revoked.
    let genuine = match what {
        "agent/agent9" => "agent2",
        "broker/evil" => "{standby}",
        _ => "ops",
    };
    let control = move |stage: &Stage<'_>| ask(stage, genuine, to, method);
    case(name, By::Certificate, "rights that were taken away", attempt, control)
}

/// Poses as the broker for an administrator's tool, with an agent's certificate.
fn pose_as_a_broker() -> Case {
    const ASK: &[&str] =
        &["run", "69,70,77,1", "vsmctl", "--broker", "localhost", "session", "list"];
    let own = |stage: &Stage<'_>| {
        stage.sh("client", "mkdir -p /etc/vsm/pki; cp /run/host/ids/ops/* /etc/vsm/pki; chmod 600 /etc/vsm/pki/host.key")
    };
    let attempt = move |stage: &Stage<'_>| {
        own(stage)?;
        let _false =
            stays(stage, "client", "root", &["listener", "9000", "tls:/run/host/ids/agent9"])?;
        let words = [
            "finds",
            "not that of a host with the role",
            "sh",
            "-c",
            "vsmctl --broker localhost session list 2>&1; exit 0",
        ];
        // It says whose certificate it was shown, and asks nothing.
        match tool(stage, "client", "root", &words)? {
            Seen::Won(said) => Ok(Seen::Lost(said)),
            Seen::Lost(said) => Ok(Seen::Won(said)),
        }
    };
    let control = move |stage: &Stage<'_>| {
        own(stage)?;
        let words: Vec<_> =
            ASK.iter().map(|word| if *word == "localhost" { "{active}" } else { word }).collect();
        tool(stage, "client", "root", &words)
    };
    case(
        "pose-as-a-broker-with-an-agents-certificate",
        By::Certificate,
        "an administrator's commands",
        attempt,
        control,
    )
}

/// Opens the pair's own stream as a broker that is none of it.
fn join_the_pair() -> Case {
    let exchange = |identity: &'static str| {
        move |stage: &Stage<'_>| {
            let mut answers = Vec::new();
            for to in [BROKER, STANDBY] {
                let method = "vsm.sync.v1.Peer/Exchange";
                let call = Call::by(identity, to, method, &Message::new()).empty();
                answers.push(calls::one(stage, "client", "root", call)?);
            }
            // One of the two takes no stream at all: it opens it.
            let refused =
                |answer: &Answer| answer.is_refusal() || answer.code == "FailedPrecondition";
            let words: Vec<_> = answers.iter().map(Answer::words).collect();
            Ok(Seen::won_if(!answers.iter().all(refused), words.join(" | ")))
        }
    };
    let gets = "the table, as the other broker has it";
    // The first by name opens it.
    let control = exchange("tlha-primary");
    case("join-the-pair", By::Certificate, gets, exchange("evil"), control)
}

pub(super) fn all() -> Vec<Case> {
    let mut all: Vec<Case> = PASSED.iter().copied().map(passed).collect();
    all.extend([pose_as_a_broker(), join_the_pair()]);
    all.extend([
        revoked(
            "revoked-administrator-at-the-active-broker",
            "admin/gone",
            ("gone", BROKER, STATUS),
        ),
        revoked("revoked-administrator-at-the-standby", "admin/gone", ("gone", STANDBY, STATUS)),
        revoked("revoked-administrator-at-an-agent", "admin/gone", ("gone", AGENT, HEALTH)),
        revoked("revoked-agent-at-the-active-broker", "agent/agent9", ("agent9", BROKER, HEALTH)),
        revoked("revoked-agent-at-the-standby", "agent/agent9", ("agent9", STANDBY, HEALTH)),
        revoked("revoked-agent-at-another-agent", "agent/agent9", ("agent9", AGENT, HEALTH)),
        revoked("revoked-broker-at-an-agent", "broker/evil", ("evil", AGENT, HEALTH)),
    ]);
    all
}
