//! A broker's certificate that acts by an epoch that is over, another node's, or none that can be: all that opens or
//! changes something on a session host.

use anyhow::Result;

use crate::attack::calls::{self, Answer, Call};
use crate::attack::case::{By, Case, Seen};
use crate::attack::stage::Stage;
use crate::attack::wire::{self, Message};

/// A key that somebody holds who is nobody's user.
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
/// A session that there is not.
const NONE: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const AGENT: &str = "vsm.agent.v1.Agent";
const WITNESS: &str = "vsm.sync.v1.Witness";

/// By what right something is asked.
#[derive(Debug, Clone)]
struct Right {
    counter: u64,
    node: String,
    nonce: u32,
    lineage: String,
}

impl Right {
    /// The active node's own.
    fn reigning(stage: &Stage<'_>) -> Result<Self> {
        // It may have risen since the beginning.
        let told = calls::report(stage, "agent1")?;
        let of = |name: &str| {
            let found = told.iter().find(|(fact, _)| *fact == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let (counter, nonce) = (of("epoch.counter").parse()?, of("epoch.nonce").parse()?);
        Ok(Self { counter, node: of("epoch.node"), nonce, lineage: of("lineage") })
    }

    fn epoch(&self) -> Message {
        Message::new().number(1, self.counter).text(2, &self.node).fixed32(3, self.nonce)
    }

    fn fence(&self) -> Message {
        Message::new().message(1, &self.epoch()).number(2, 1).text(3, &self.lineage)
    }
}

/// Something that is asked, and whether it was done.
struct Asked {
    name: &'static str,
    gets: &'static str,
    method: String,
    message: fn(&Right, &str) -> Message,
    is_done: fn(&[u8]) -> bool,
}

fn asked(
    name: &'static str,
    gets: &'static str,
    method: &str,
    message: fn(&Right, &str) -> Message,
    is_done: fn(&[u8]) -> bool,
) -> Asked {
    let service = if method == "Ask" || method == "Quarantine" { WITNESS } else { AGENT };
    Asked { name, gets, method: format!("{service}/{method}"), message, is_done }
}

fn always(_: &[u8]) -> bool {
    true
}

/// The answer has another result than that it is fenced, which has this number.
fn unless(answer: &[u8], fenced: u64) -> bool {
    wire::find(answer, fenced).is_none()
}

fn everything() -> Vec<Asked> {
    [of_access(), of_ends(), of_words(), of_hosts()].into_iter().flatten().collect()
}

/// What opens a desktop.
fn of_access() -> Vec<Asked> {
    let key = |right: &Right, id: &str| {
        let who = Message::new().text(1, id).text(2, "alice").text(3, KEY);
        who.number(4, 60_000).message(5, &right.fence())
    };
    let shadow = |right: &Right, id: &str| {
        let who = Message::new().text(1, id).text(2, "carol").number(3, 0).text(4, KEY);
        who.number(5, 60_000).message(6, &right.fence())
    };
    let start = |right: &Right, _: &str| {
        let who = Message::new().text(1, NONE).text(2, "user009").text(3, "agent1").number(5, 1);
        let request = "01890a5d-ac96-474b-8cce-b302099a8058";
        let session = who.text(6, request).message(7, &Message::new()).number(8, 1);
        Message::new().message(1, &right.fence()).message(2, &session)
    };
    vec![
        asked("accept-key", "a login at the session host as alice", "AcceptKey", key, always),
        asked("allow-shadow", "alice's picture and input", "AllowShadow", shadow, |answer| {
            wire::number(answer, 1) == 1
        }),
        asked("start", "a desktop in somebody's name", "Start", start, |answer| {
            unless(answer, 3) && unless(answer, 2)
        }),
    ]
}

/// What ends one, or keeps it from being there.
fn of_ends() -> Vec<Asked> {
    let end = |right: &Right, id: &str| Message::new().message(1, &right.fence()).text(2, id);
    let cancel = |right: &Right, _: &str| Message::new().message(1, &right.fence()).text(2, NONE);
    let limits = |right: &Right, _: &str| Message::new().message(1, &right.fence());
    let viewer = |right: &Right, id: &str| {
        Message::new().text(1, id).text(2, "go").message(3, &right.fence())
    };
    let not_fenced = |answer: &[u8]| unless(answer, 2);
    vec![
        asked("terminate", "the end of a desktop", "Terminate", end, not_fenced),
        asked("cancel-start", "a start that never comes to be", "CancelStart", cancel, not_fenced),
        asked("set-limits", "the end of a desktop in a while", "SetLimits", limits, not_fenced),
        asked("disconnect-viewer", "alice thrown out", "DisconnectViewer", viewer, always),
    ]
}

/// What is said and read.
fn of_words() -> Vec<Asked> {
    let extend = |right: &Right, id: &str| Message::new().text(1, id).message(2, &right.fence());
    let notify = |right: &Right, id: &str| {
        Message::new().text(1, id).text(2, "your password, please").message(3, &right.fence())
    };
    let log = |right: &Right, id: &str| {
        Message::new().text(1, id).number(2, 4096).message(3, &right.fence())
    };
    vec![
        asked("extend", "a desktop that goes on", "Extend", extend, always),
        asked("notify", "a text on alice's desktop", "Notify", notify, always),
        asked("session-log", "what alice's programs print", "SessionLog", log, always),
    ]
}

/// What is about the host as a whole.
fn of_hosts() -> Vec<Asked> {
    let revoked = |right: &Right, _: &str| Message::new().message(1, &right.fence());
    let apart = |right: &Right, _: &str| {
        Message::new().text(1, &right.lineage).number(2, 0).message(3, &right.fence())
    };
    let claim = |right: &Right, _: &str| {
        let reign = Message::new().text(1, &right.lineage).message(2, &right.epoch());
        reign.message(3, &Message::new())
    };
    vec![
        asked("set-revoked", "revoked certificates that count", "SetRevoked", revoked, always),
        asked(
            "renew-certificate",
            "certificates signed at will",
            "RenewCertificate",
            revoked,
            always,
        ),
        asked("quarantine", "a session host that serves nobody", "Quarantine", apart, always),
        asked("witness", "a witness's vote", "Ask", claim, |answer| {
            wire::find(answer, 2).is_some()
        }),
    ]
}

/// Epochs that are not the caller's to act by.
fn wrong(right: &Right, standby: &str) -> Vec<Right> {
    let with = |counter: u64, node: &str, nonce: u32| Right {
        counter,
        node: node.to_owned(),
        nonce,
        ..right.clone()
    };
    vec![
        right.clone(),
        with(1, standby, 1),
        with(right.counter.saturating_add(1), &right.node, 7),
        with(u64::MAX, standby, 7),
        with(right.counter.saturating_add(1), "evil", 7),
    ]
}

fn attempt(stage: &Stage<'_>, asked: &Asked, identity: &str, rights: &[Right]) -> Result<Seen> {
    let session = stage.fact("alice.session")?;
    let call = |right: &Right| {
        Call::by(identity, "agent1:904", &asked.method, &(asked.message)(right, session))
    };
    let calls: Vec<_> = rights.iter().map(call).collect();
    let answers = calls::make(stage, "client", "root", &calls)?;
    let is_done = |answer: &Answer| answer.code == "Ok" && (asked.is_done)(&answer.message());
    let done = rights.iter().zip(&answers).find(|(_, answer)| is_done(answer));
    Ok(match done {
        Some((right, answer)) => {
            Seen::Won(format!("by {}@{}: {}", right.counter, right.node, answer.words()))
        }
        None => Seen::Lost(answers.iter().map(Answer::words).collect::<Vec<_>>().join(" | ")),
    })
}

/// The active node by its own epoch, about what does no harm.
fn control(stage: &Stage<'_>, asked: &Asked) -> Result<Seen> {
    let right = Right::reigning(stage)?;
    let about = if asked.name == "terminate" { NONE } else { stage.fact("alice.session")? };
    // A claim would begin another reign: who asks how a witness stands is let in by the same right.
    let message = if asked.name == "witness" {
        Message::new()
            .text(1, &right.lineage)
            .message(2, &right.epoch())
            .message(6, &Message::new())
    } else {
        (asked.message)(&right, about)
    };
    let call = Call::by("{active}", "agent1:904", &asked.method, &message);
    let answer = calls::one(stage, "client", "root", call)?;
    Ok(Seen::won_if(answer.code == "Ok", answer.words()))
}

pub(super) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, identity, own) in [("epoch", "{standby}", false), ("evil-epoch", "evil", true)] {
        for asked in everything() {
            // Started by the control of the one and ended by that of the other.
            if own && !["accept-key", "terminate", "start", "quarantine"].contains(&asked.name) {
                continue;
            }
            let asked = std::rc::Rc::new(asked);
            let same = std::rc::Rc::clone(&asked);
            all.push(Case {
                name: format!("{name}-{}", asked.name),
                by: By::Certificate,
                gets: asked.gets.to_owned(),
                calls: 0,
                attempt: Box::new(move |stage| {
                    let right = Right::reigning(stage)?;
                    let rights = if own {
                        vec![Right {
                            counter: right.counter + 1,
                            node: "evil".to_owned(),
                            nonce: 7,
                            ..right
                        }]
                    } else {
                        wrong(&right, stage.fact("standby")?)
                    };
                    attempt(stage, &asked, identity, &rights)
                }),
                control: Box::new(move |stage| control(stage, &same)),
            });
        }
    }
    all
}
