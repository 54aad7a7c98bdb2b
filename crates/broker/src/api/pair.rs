//! The administrator's view of the pair.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tonic::{Code, Request, Response, Status};
use vsm_core::{
    AgentName, Epoch, Row,
    replica::{Second, Standing, Status as Replica},
};
use vsm_daemon::{clock, trouble::Kind};
use vsm_proto::{
    admin::v1::{self as pb, ha_client::HaClient, ha_server},
    replica::epoch_message,
};
use vsm_sync::{State, peer::Stream};

use crate::{
    api::place,
    broker::Broker,
    hosts::agents::{Link, LinkState, Up},
    pair::{Ha, Pair, card, check, fenced, health, verify},
};

/// How long the other node may take for its own view.
const PEER_DEADLINE: Duration = Duration::from_secs(3);
/// How long a planned hand-over is watched.
const TAKE_OVER: Duration = Duration::from_secs(15);
/// How long the resource address may take to follow before that is said.
const ADDRESS_WAIT: Duration = Duration::from_secs(5);
/// Rows in one message.
const PAGE: usize = 512;

/// The service.
#[derive(Debug, Clone)]
pub struct HaApi {
    /// The broker.
    pub broker: Arc<Broker>,
}

impl HaApi {
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        place::check_admin(&self.broker, request)
    }

    fn pair(&self) -> Result<&Arc<Pair>, Status> {
        match &self.broker.ha {
            Ha::On(pair) => Ok(pair),
            Ha::Apart(apart) => Err(Status::failed_precondition(apart.why.clone())),
            Ha::Off { unsafe_because: Some(why) } => {
                Err(Status::failed_precondition(format!("HA could not be turned on: {why}")))
            }
            Ha::Off { unsafe_because: None } => Err(Status::failed_precondition(
                "this broker is not one of a pair (/vsmserver/HA/enabled)",
            )),
        }
    }
}

#[tonic::async_trait]
impl ha_server::Ha for HaApi {
    async fn list_nodes(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        self.check(&request)?;
        let mut nodes = vec![own_view(&self.broker)];
        if let (Ha::On(pair), false) = (&self.broker.ha, request.into_inner().local_only) {
            nodes.push(peer_view(pair).await);
        }
        Ok(Response::new(pb::ListNodesResponse { nodes }))
    }

    async fn health(
        &self,
        request: Request<pb::HealthRequest>,
    ) -> Result<Response<pb::HealthResponse>, Status> {
        self.check(&request)?;
        Ok(Response::new(health::answer(&self.broker)))
    }

    async fn take_over(
        &self,
        request: Request<pb::TakeOverRequest>,
    ) -> Result<Response<pb::TakeOverResponse>, Status> {
        self.check(&request)?;
        let pair = self.pair()?;
        let answer = |done, detail: String, took: Duration| {
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            Ok(Response::new(pb::TakeOverResponse { done, detail, took_ms }))
        };
        let state = self.broker.table.state();
        if state.serving().is_some() {
            return answer(true, format!("{} is active already", pair.own), Duration::ZERO);
        }
        if pair.source == vsm_config::RoleSource::Cluster {
            // It would see two nodes that are to be active, and mend that.
            let why = "Pacemaker says which node is to be active: put the other one on standby (crm node standby NODE)";
            return answer(false, why.to_owned(), Duration::ZERO);
        }
        if let Some(why) = hindrance(&state) {
            return answer(false, why, Duration::ZERO);
        }
        if request.into_inner().dry_run {
            return answer(true, prospect(pair, &state), Duration::ZERO);
        }
        tracing::info!("an administrator asks for a hand-over to this node");
        let began = clock::now();
        self.broker
            .table
            .take_over()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let mut states = self.broker.table.watch();
        let served = states.wait_for(|state| state.serving().is_some());
        let served = tokio::time::timeout(TAKE_OVER, served).await.is_ok();
        let took = clock::now().duration_since(began);
        if served {
            let address =
                if follows(pair).await { "" } else { "; the resource address is still elsewhere" };
            return answer(true, format!("{} is active{address}", pair.own), took);
        }
        let why = hindrance(&self.broker.table.state());
        answer(false, why.unwrap_or_else(|| "it did not get the votes".to_owned()), took)
    }

    async fn set_wanted(
        &self,
        request: Request<pb::SetWantedRequest>,
    ) -> Result<Response<pb::SetWantedResponse>, Status> {
        self.check(&request)?;
        let pair = self.pair()?;
        if pair.source != vsm_config::RoleSource::Cluster {
            return Err(Status::failed_precondition(
                "/vsmserver/HA/role_source is not cluster: this node finds out by itself",
            ));
        }
        let wanted = request.into_inner().wanted;
        self.broker
            .table
            .want(wanted)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(pb::SetWantedResponse {}))
    }

    async fn peer_fenced(
        &self,
        request: Request<pb::PeerFencedRequest>,
    ) -> Result<Response<pb::PeerFencedResponse>, Status> {
        self.check(&request)?;
        let pair = self.pair()?;
        if !place::is_local(&request) {
            return Err(Status::permission_denied(
                "only the cluster software of this node says that",
            ));
        }
        fenced::told(&self.broker.table, pair, request.into_inner().at_unix_ms).await
    }

    async fn verify(
        &self,
        request: Request<pb::VerifyRequest>,
    ) -> Result<Response<pb::VerifyResponse>, Status> {
        self.check(&request)?;
        Ok(Response::new(verify::verify(&self.broker).await))
    }

    type ListRowsStream = std::pin::Pin<
        Box<dyn tokio_stream::Stream<Item = Result<pb::ListRowsResponse, Status>> + Send>,
    >;

    async fn list_rows(
        &self,
        request: Request<pb::ListRowsRequest>,
    ) -> Result<Response<Self::ListRowsStream>, Status> {
        self.check(&request)?;
        let (commit, rows) =
            self.broker.table.read(|view| (view.last_seq, view.table.rows().collect::<Vec<Row>>()));
        let pages = rows.len().div_ceil(PAGE).max(1);
        let page = move |index: usize| {
            let page = rows.iter().skip(index * PAGE).take(PAGE).map(Into::into).collect();
            Ok(pb::ListRowsResponse { commit, rows: page })
        };
        Ok(Response::new(Box::pin(tokio_stream::iter((0..pages).map(page)))))
    }

    async fn check(
        &self,
        request: Request<pb::CheckRequest>,
    ) -> Result<Response<pb::CheckResponse>, Status> {
        Self::check(self, &request)?;
        let findings = if request.into_inner().local_only {
            check::local(&self.broker).await
        } else {
            check::check(&self.broker).await
        };
        Ok(Response::new(pb::CheckResponse { findings }))
    }
}

/// Waits, for a bounded time, until the HA software has brought the resource address here.
async fn follows(pair: &Pair) -> bool {
    let until = clock::now() + ADDRESS_WAIT;
    let here = || pair.resource.is_empty() || pair.holds_address.load(Ordering::Relaxed);
    while !here() && clock::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    here()
}

/// Why a hand-over to this node cannot be.
fn hindrance(state: &State) -> Option<String> {
    let replica = &state.replica;
    if let Some(fault) = &state.fault {
        return Some(format!("this node cannot write its table: {fault}"));
    }
    if !replica.joined && replica.roster.is_none() && !replica.link {
        return Some("this node has no table, and the other one cannot be reached".to_owned());
    }
    if replica.link && replica.behind > 0 {
        return Some(format!(
            "this node is {} changes behind; wait until it has them",
            replica.behind
        ));
    }
    None
}

fn prospect(pair: &Pair, state: &State) -> String {
    match &state.replica.standing {
        Standing::Standby { leader: Some(epoch) } if state.replica.link => format!(
            "{} would finish what is under way and step down, and {} would be active; running desktops are not touched",
            epoch.node, pair.own
        ),
        Standing::Standby { .. } | Standing::Claiming(_) | Standing::Active { .. } => format!(
            "{} cannot be reached: {} would ask the witnesses for their votes",
            pair.peer, pair.own
        ),
    }
}

/// This node as it sees itself.
pub(crate) fn own_view(broker: &Broker) -> pb::NodeView {
    let state = broker.table.state();
    let replica = &state.replica;
    let (sessions, digest, lineage) = broker
        .table
        .read(|view| (view.table.sessions().len(), verify::digest(&view.table), view.lineage));
    let mut view = pb::NodeView {
        name: broker.node.to_string(),
        local: true,
        at_unix_ms: clock::unix_millis().0,
        promised: epoch_message(&replica.promised),
        last: Some((&replica.last).into()),
        commit: replica.commit,
        behind: replica.behind,
        wanted: replica.want,
        failed_claims: replica.attempts,
        health: Some(health::answer(broker)),
        witnesses: witnesses(broker, replica),
        sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        table_digest: digest,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        lineage: lineage.to_string(),
        peer_fenced: replica.peer_off,
        former_life: replica.foreign.is_some(),
        troubles: broker.troubles.messages(),
        store_fault: state.fault.as_ref().map(ToString::to_string).unwrap_or_default(),
        ..pb::NodeView::default()
    };
    set_standing(&mut view, replica);
    match &broker.ha {
        Ha::Off { unsafe_because } => {
            "standalone".clone_into(&mut view.role);
            "own".clone_into(&mut view.second_vote);
            "-".clone_into(&mut view.role_source);
            view.r#unsafe = unsafe_because.clone().unwrap_or_default();
            view.host_keys = card::host_keys();
        }
        Ha::Apart(apart) => {
            "apart".clone_into(&mut view.role);
            "none".clone_into(&mut view.second_vote);
            "-".clone_into(&mut view.role_source);
            view.r#unsafe.clone_from(&apart.why);
            view.host_keys = card::host_keys();
        }
        Ha::On(pair) => set_pair(&mut view, broker, pair),
    }
    view
}

/// What this node is, in one word.
pub(crate) fn role(broker: &Broker) -> &'static str {
    match (&broker.ha, &broker.table.state().replica.standing) {
        (Ha::Off { .. }, _) => "standalone",
        (Ha::Apart(_), _) => "apart",
        (Ha::On(_), Standing::Active { .. }) => "active",
        (Ha::On(_), Standing::Standby { .. }) => "standby",
        (Ha::On(_), Standing::Claiming(_)) => "claiming",
    }
}

fn set_standing(view: &mut pb::NodeView, replica: &Replica) {
    let (role, epoch): (&str, Option<&Epoch>) = match &replica.standing {
        Standing::Standby { leader } => ("standby", leader.as_ref()),
        Standing::Claiming(epoch) => ("claiming", Some(epoch)),
        Standing::Active { epoch, ready, votes, .. } => {
            (view.ready, view.votes) = (*ready, *votes);
            ("active", Some(epoch))
        }
    };
    role.clone_into(&mut view.role);
    view.epoch = epoch.map(Into::into);
    if let Some(peer) = &replica.peer {
        view.backlog = replica.last.seq.saturating_sub(peer.acked);
        let second = match peer.second {
            _ if replica.peer_off => "fenced peer",
            Second::Peer => "peer",
            Second::PeerSoon => "peer soon",
            Second::Witnesses => "witnesses",
        };
        second.clone_into(&mut view.second_vote);
    }
}

fn set_pair(view: &mut pb::NodeView, broker: &Broker, pair: &Pair) {
    view.role_source = pair.source.to_string();
    view.holds_address = pair.holds_address.load(Ordering::Relaxed);
    let ours = broker.card();
    let counters = pair.stream.counters();
    let mut stream = pb::StreamView {
        opened: counters.opened.load(Ordering::Relaxed),
        refused: counters.refused.load(Ordering::Relaxed),
        garbled: counters.garbled.load(Ordering::Relaxed),
        ..pb::StreamView::default()
    };
    match pair.stream.state() {
        Stream::Open(met) => {
            stream.open = true;
            stream.since_unix_ms = met.since.0;
            stream.rtt_us = met.rtt_us;
            stream.clock_skew_ms = met.skew_ms;
            view.parameters_differ = card::differing(&ours, &met.card);
            view.host_keys_differ = ours.host_keys != met.card.host_keys;
        }
        Stream::Closed { why, since } => {
            stream.why = why;
            stream.since_unix_ms = since.0;
        }
    }
    view.stream = Some(stream);
    view.host_keys = card::host_keys();
}

fn witnesses(broker: &Broker, replica: &Replica) -> Vec<pb::WitnessView> {
    let kept: BTreeMap<&AgentName, u64> =
        replica.witnesses.iter().map(|witness| (&witness.agent, witness.acked)).collect();
    let view = |agent: &AgentName| {
        let link = broker.agents.link(agent);
        let (up, trouble) = match link.as_ref().map(|link| link.state()) {
            Some(LinkState::Up(_)) if replica.mute.contains(agent) => (true, MUTE.to_owned()),
            Some(LinkState::Up(up)) => (true, no_vote(link.as_deref(), &up)),
            Some(LinkState::Down { why, .. }) => (false, why),
            Some(LinkState::Connecting) => (false, "not reached yet".to_owned()),
            None => (false, "it is in no subcluster".to_owned()),
        };
        pb::WitnessView {
            agent: agent.to_string(),
            up,
            promised: link.and_then(|link| link.promised()).as_ref().map(Into::into),
            kept: kept.get(agent).copied().unwrap_or(0),
            trouble,
        }
    };
    replica.roster.iter().flat_map(|roster| roster.iter()).map(view).collect()
}

/// Why the vote of a witness that is there is not to be had, as it says itself or as it was when it was last asked.
fn no_vote(link: Option<&Link>, up: &Up) -> String {
    let own = up.troubles.iter().find(|trouble| trouble.kind == Kind::Promise.word());
    let asked = link.and_then(|link| link.troubles.of(Kind::Witness, ""));
    own.map(|trouble| trouble.what.clone())
        .or_else(|| asked.map(|trouble| trouble.what))
        .unwrap_or_default()
}

/// What is said of an agent that gives no vote, and of an agent that acts for nobody, until it is greeted.
pub(crate) const MUTE: &str = "it is new, or lost what it had promised: it counts again within seconds once both brokers are in sync";

/// Why a node that is there is not to be asked: one that is by itself says so by the code.
pub(crate) const HA_IS_OFF: &str = "HA is off there, or could not be turned on";

pub(crate) async fn peer_view(pair: &Pair) -> pb::NodeView {
    let mut client = HaClient::new(pair.channel.clone());
    let request = place::forwarded(pb::ListNodesRequest { local_only: true }, None);
    let unreachable = match tokio::time::timeout(PEER_DEADLINE, client.list_nodes(request)).await {
        Ok(Ok(response)) => match response.into_inner().nodes.into_iter().next() {
            Some(view) => return pb::NodeView { local: false, ..view },
            None => "it told nothing of itself".to_owned(),
        },
        Ok(Err(status)) if status.code() == Code::FailedPrecondition => HA_IS_OFF.to_owned(),
        Ok(Err(status)) => crate::hosts::agents::CallError::from(status).why,
        Err(_) => format!("no answer within {} s", PEER_DEADLINE.as_secs()),
    };
    pb::NodeView { name: pair.peer.to_string(), unreachable, ..pb::NodeView::default() }
}
