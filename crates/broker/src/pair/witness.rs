//! Carries messages to the witnesses and their answers back, each witness by itself, over the channel of its report.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use vsm_core::{
    AgentName, Epoch,
    replica::{WitnessMsg, WitnessReply},
};
use vsm_daemon::{grpc, trouble::Kind};
use vsm_proto::{
    convert::Invalid,
    sync::v1::{QuarantineRequest, WitnessRequest, WitnessResponse, witness_client::WitnessClient},
};

use crate::{
    authority::Authority,
    hosts::{
        agents::{CallError, Link},
        behaviour::Aside,
        conduct,
    },
    pair::Side,
};

/// Messages that wait for one witness; beyond it they are lost, and the replica asks again.
const BOUND: usize = 32;
/// A witness that does not answer by then is asked again by the replica, which waits for less.
const DEADLINE: Duration = Duration::from_secs(5);
/// So long an answer that did not come is told: who is asked no more says no more that it is well.
const COUNTS_FOR: Duration = Duration::from_secs(15);

/// Why a witness gave no vote.
#[derive(Debug, thiserror::Error)]
enum NoVote {
    #[error("it is in no subcluster")]
    NoAgent,
    #[error("{}", .0.words())]
    Aside(Aside),
    #[error(transparent)]
    Call(CallError),
    #[error("its disk went back in time; it is set apart")]
    SetApart,
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("it names epoch {0}, which is not believed")]
    Unbelieved(Epoch),
}

/// Carries until the broker stops.
pub(crate) async fn carry(side: Arc<Side>, mut asked: mpsc::Receiver<(AgentName, WitnessMsg)>) {
    let mut lines: HashMap<AgentName, mpsc::Sender<WitnessMsg>> = HashMap::new();
    while let Some((agent, message)) = asked.recv().await {
        let line = lines.entry(agent.clone()).or_insert_with(|| {
            let (line, messages) = mpsc::channel(BOUND);
            let ask = ask(Arc::clone(&side), agent, messages);
            side.process.duties.run_to_its_end("line to a witness", ask);
            line
        });
        // Lost, and asked again.
        let _ = line.try_send(message);
    }
}

/// Asks one witness, one message after the other.
async fn ask(side: Arc<Side>, agent: AgentName, mut messages: mpsc::Receiver<WitnessMsg>) {
    while let Some(message) = messages.recv().await {
        let answer = match side.agents.link(&agent) {
            Some(link) => one(&side, &link, &message).await,
            None => Err(NoVote::NoAgent),
        };
        match answer {
            Ok(reply) => {
                tell(&side, &agent, None);
                if side.authority.table.witness(agent.clone(), reply).await.is_err() {
                    return;
                }
            }
            Err(why) => {
                tell(&side, &agent, Some(&why));
                // What waits behind is as old; the replica sends what counts again.
                while messages.try_recv().is_ok() {}
            }
        }
    }
}

/// Notes how it went, where the host's link does not tell that anyway.
fn tell(side: &Side, agent: &AgentName, failed: Option<&NoVote>) {
    let Some(link) = side.agents.link(agent) else { return };
    let there = link.is_up() && link.aside().is_none();
    match failed.filter(|_| there) {
        // As long as its vote is wanted it is asked all the time.
        Some(why) => {
            let what = format!("it does not answer as a witness: {why}");
            link.troubles.raise_for(COUNTS_FOR, Kind::Witness, "", what);
        }
        None => link.troubles.over(Kind::Witness, ""),
    }
}

async fn one(side: &Side, link: &Link, message: &WitnessMsg) -> Result<WitnessReply, NoVote> {
    if let Some(aside) = link.aside() {
        return Err(NoVote::Aside(aside));
    }
    let lineage = side.authority.table.read(|view| view.lineage).to_string();
    let request = WitnessRequest { lineage, ..message.into() };
    let mut client = WitnessClient::new(link.channel())
        .max_decoding_message_size(grpc::WINDOW_MAX)
        .max_encoding_message_size(grpc::WINDOW_MAX);
    let response: WitnessResponse = match tokio::time::timeout(DEADLINE, client.ask(request)).await
    {
        Ok(Ok(response)) => response.into_inner(),
        // An agent of a version that does not know the question: nobody is disturbed that it knows of.
        Ok(Err(status))
            if matches!(message, WitnessMsg::Probe { .. })
                && status.code() == tonic::Code::InvalidArgument =>
        {
            return Ok(WitnessReply::Free { promised: Epoch::zero() });
        }
        Ok(Err(status)) => return Err(NoVote::Call(status.into())),
        Err(_) => return Err(NoVote::Call(CallError::timed_out(DEADLINE))),
    };
    if set_apart(&side.authority, link, response.journal_id, response.journal).await {
        return Err(NoVote::SetApart);
    }
    let reply: WitnessReply = response.try_into()?;
    if let WitnessReply::Refused { promised } | WitnessReply::Free { promised } = &reply
        && !conduct::believes(&side.agents, link, promised)
    {
        return Err(NoVote::Unbelieved(promised.clone()));
    }
    Ok(reply)
}

/// Has an agent whose journal is shorter than it was set itself apart; whether it did.
pub(crate) async fn set_apart(authority: &Authority, link: &Link, id: u64, journal: u64) -> bool {
    let known = link.journal(id, journal);
    if journal >= known {
        return false;
    }
    let fence = authority.table.fence();
    let (lineage, fence) = (fence.lineage.to_string(), Some((&fence).into()));
    let request = QuarantineRequest { lineage, journal: known, journal_id: id, fence };
    let call = async { WitnessClient::new(link.channel()).quarantine(request).await };
    // An answer that was overtaken by a later one looks the same: the agent itself knows.
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(response)) => response.into_inner().done,
        Ok(Err(_)) | Err(_) => false,
    }
}
