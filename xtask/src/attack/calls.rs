//! Calls of any method by any identity, by way of `vsm-bench calls`: what is asked, and how an answer is judged.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::case::Seen;
use super::identities;
use super::stage::Stage;
use super::wire::{self, Message};

/// One message that is no protobuf. So a service that is reached says that, and does nothing.
const NO_MESSAGE: &str = "0f";

/// A call.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Call {
    to: String,
    identity: Option<String>,
    browser: Option<String>,
    method: String,
    body: String,
    metadata: BTreeMap<String, String>,
}

/// How it was answered.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Answer {
    pub(super) code: String,
    pub(super) said: String,
    pub(super) body: String,
}

impl Answer {
    /// Whether whoever asked was turned away, or could not even ask.
    pub(super) fn is_refusal(&self) -> bool {
        ["PermissionDenied", "Unauthenticated", "Unimplemented", "NoAnswer"].contains(&&*self.code)
    }

    /// The first message of the answer.
    pub(super) fn message(&self) -> Vec<u8> {
        wire::bytes(&self.body)
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        if self.code == "Ok" {
            format!("Ok, {} bytes", self.body.len() / 2)
        } else {
            format!("{}: {}", self.code, self.said)
        }
    }
}

impl Call {
    /// A call over the network, from the client's host, with one of the attackers' identities.
    pub(super) fn by(identity: &str, to: &str, method: &str, body: &Message) -> Self {
        Self {
            to: to.to_owned(),
            identity: Some(identities::of(identity)),
            browser: None,
            method: method.to_owned(),
            body: body.hex(),
            metadata: BTreeMap::new(),
        }
    }

    /// A call by a socket.
    pub(super) fn at(socket: &str, method: &str, body: &Message) -> Self {
        Self { to: socket.to_owned(), identity: None, ..Self::by("", "", method, body) }
    }

    /// The same by somebody who has logged in by this web key.
    pub(super) fn by_browser(self, id: &str) -> Self {
        Self { browser: Some(id.to_owned()), ..self }
    }

    /// The same over the network to the active broker, with an identity.
    pub(super) fn by_identity(self, identity: &str) -> Self {
        Self { to: "{active}:9000".to_owned(), identity: Some(identities::of(identity)), ..self }
    }

    /// The same without a message that could be obeyed.
    pub(super) fn empty(mut self) -> Self {
        NO_MESSAGE.clone_into(&mut self.body);
        self
    }

    /// The same with something in the metadata.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.metadata.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// Makes calls on a host as a user; their answers.
pub(super) fn make(
    stage: &Stage<'_>,
    host: &str,
    user: &str,
    calls: &[Call],
) -> Result<Vec<Answer>> {
    let filled = |call: &Call| -> Result<Call> {
        let (to, identity) = (stage.fill(&call.to)?, call.identity.as_deref());
        let identity = identity.map(|identity| stage.fill(identity)).transpose()?;
        Ok(Call { to, identity, ..call.clone() })
    };
    let calls: Vec<_> = calls.iter().map(filled).collect::<Result<_>>()?;
    let mut command = stage.cluster.command(
        &stage.fill(host)?,
        &stage.fill(user)?,
        &["timeout", "120", &stage.bench, "calls"],
    )?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("vsm-bench")?;
    let mut input = child.stdin.take().context("it has no input")?;
    input.write_all(&serde_json::to_vec(&calls)?)?;
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("the calls were not made: {}", String::from_utf8_lossy(&output.stderr));
    }
    let answers: Vec<Answer> = serde_json::from_slice(&output.stdout)?;
    if answers.len() != calls.len() {
        bail!("{} answers to {} calls", answers.len(), calls.len());
    }
    Ok(answers)
}

/// Makes one call.
pub(super) fn one(stage: &Stage<'_>, host: &str, user: &str, call: Call) -> Result<Answer> {
    make(stage, host, user, &[call])?.pop().context("no answer")
}

/// Won where any of the calls is not turned away.
pub(super) fn any_let_in(
    stage: &Stage<'_>,
    host: &str,
    user: &str,
    calls: &[Call],
) -> Result<Seen> {
    let answers = make(stage, host, user, calls)?;
    let mut let_in = calls.iter().zip(&answers).filter(|(_, answer)| !answer.is_refusal());
    Ok(match let_in.next() {
        Some((call, answer)) => Seen::Won(format!("{}: {}", call.method, answer.words())),
        None => Seen::Lost(answers.first().map(Answer::words).unwrap_or_default()),
    })
}

/// Won where none of the calls is turned away.
pub(super) fn all_let_in(
    stage: &Stage<'_>,
    host: &str,
    user: &str,
    calls: &[Call],
) -> Result<Seen> {
    let answers = make(stage, host, user, calls)?;
    let mut refused = calls.iter().zip(&answers).filter(|(_, answer)| answer.is_refusal());
    Ok(match refused.next() {
        Some((call, answer)) => Seen::Lost(format!("{}: {}", call.method, answer.words())),
        None => Seen::Won(answers.first().map(Answer::words).unwrap_or_default()),
    })
}

/// What an agent tells a broker: the lineage and the reign that it has promised to.
pub(super) fn report(stage: &Stage<'_>, agent: &str) -> Result<Vec<(&'static str, String)>> {
    let active = stage.fact("active")?.to_owned();
    let ask = Message::new().text(1, &active);
    let call = Call::by(&active, &format!("{agent}:904"), "vsm.agent.v1.Agent/Report", &ask);
    let answer = one(stage, "client", "root", call)?;
    let message = answer.message();
    let told = wire::part(&message, 1).with_context(|| answer.words())?;
    let epoch = wire::part(&told, 4).context("it has promised nothing")?;
    let text = |message: &[u8], field| -> Result<String> {
        Ok(String::from_utf8(wire::part(message, field).context("a text")?)?)
    };
    Ok(vec![
        ("lineage", text(&told, 6)?),
        ("epoch.counter", wire::number(&epoch, 1).to_string()),
        ("epoch.node", text(&epoch, 2)?),
        ("epoch.nonce", wire::number(&epoch, 3).to_string()),
    ])
}
