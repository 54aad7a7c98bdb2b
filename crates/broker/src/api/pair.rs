//! The administrator's view of the pair.

mod check;
mod verify;
pub(crate) mod view;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tonic::{Request, Response, Status};
use vsm_core::{Row, replica::Standing};
use vsm_daemon::clock;
use vsm_proto::admin::v1::{self as pb, ha_server};
use vsm_sync::State;

use crate::{
    api::{Edge, caller},
    journal::trail::Note,
    pair::{
        Ha, Pair,
        fenced::{self, NotTaken},
    },
};
use view::{own_view, peer_view};

/// How long a planned hand-over is watched.
const TAKE_OVER: Duration = Duration::from_secs(15);
/// How long the resource address may take to follow before that is said.
const ADDRESS_WAIT: Duration = Duration::from_secs(5);
/// Rows in one message.
const PAGE: usize = 512;

/// The service.
#[derive(Debug, Clone)]
pub struct HaApi {
    /// What it serves.
    pub edge: Arc<Edge>,
}

impl HaApi {
    fn pair(&self) -> Result<&Arc<Pair>, Status> {
        match &self.edge.side.ha {
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
        let mut nodes = vec![own_view(&self.edge)];
        if let (Ha::On(pair), false) = (&self.edge.side.ha, request.into_inner().local_only) {
            nodes.push(peer_view(pair).await);
        }
        Ok(Response::new(pb::ListNodesResponse { nodes }))
    }

    async fn health(
        &self,
        _: Request<pb::HealthRequest>,
    ) -> Result<Response<pb::HealthResponse>, Status> {
        Ok(Response::new(view::health(&self.edge)))
    }

    async fn take_over(
        &self,
        request: Request<pb::TakeOverRequest>,
    ) -> Result<Response<pb::TakeOverResponse>, Status> {
        let pair = self.pair()?;
        let answer = |done, detail: String, took: Duration| {
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            Ok(Response::new(pb::TakeOverResponse { done, detail, took_ms }))
        };
        let state = self.edge.table.state();
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
        if request.get_ref().dry_run {
            return answer(true, prospect(pair, &state), Duration::ZERO);
        }
        tracing::info!("an administrator asks for a hand-over to this node");
        let note = Note::new(caller::admin(&self.edge, &request).await, "take-over-asked");
        let note = note.detail(format!("to {}", pair.own));
        let began = clock::now();
        self.edge
            .table
            .take_over()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let mut states = self.edge.table.watch();
        let served = states.wait_for(|state| state.serving().is_some());
        let served = tokio::time::timeout(TAKE_OVER, served).await.is_ok();
        let took = clock::now().duration_since(began);
        // Whoever is active now records it; in between nobody can.
        self.edge.journal.note(note);
        if served {
            let address =
                if follows(pair).await { "" } else { "; the resource address is still elsewhere" };
            return answer(true, format!("{} is active{address}", pair.own), took);
        }
        let why = hindrance(&self.edge.table.state());
        answer(false, why.unwrap_or_else(|| "it did not get the votes".to_owned()), took)
    }

    async fn set_wanted(
        &self,
        request: Request<pb::SetWantedRequest>,
    ) -> Result<Response<pb::SetWantedResponse>, Status> {
        let pair = self.pair()?;
        if pair.source != vsm_config::RoleSource::Cluster {
            return Err(Status::failed_precondition(
                "/vsmserver/HA/role_source is not cluster: this node finds out by itself",
            ));
        }
        let wanted = request.into_inner().wanted;
        self.edge
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
        let pair = self.pair()?;
        let note = Note::new(caller::admin(&self.edge, &request).await, "peer-fenced");
        let told = fenced::told(&self.edge.table, pair, request.into_inner().at_unix_ms).await;
        if let Ok((_, detail)) = &told {
            self.edge.journal.note(note.detail(format!("{}: {detail}", pair.peer)));
        }
        match told {
            Ok((counts, detail)) => Ok(Response::new(pb::PeerFencedResponse { counts, detail })),
            Err(why @ NotTaken::NotCluster) => Err(Status::failed_precondition(why.to_string())),
            Err(why @ NotTaken::YetToCome) => Err(Status::invalid_argument(why.to_string())),
            Err(why @ NotTaken::Table(_)) => Err(Status::unavailable(why.to_string())),
        }
    }

    async fn verify(
        &self,
        _: Request<pb::VerifyRequest>,
    ) -> Result<Response<pb::VerifyResponse>, Status> {
        Ok(Response::new(verify::verify(&self.edge).await))
    }

    type ListRowsStream = std::pin::Pin<
        Box<dyn tokio_stream::Stream<Item = Result<pb::ListRowsResponse, Status>> + Send>,
    >;

    async fn list_rows(
        &self,
        _: Request<pb::ListRowsRequest>,
    ) -> Result<Response<Self::ListRowsStream>, Status> {
        let (commit, rows) =
            self.edge.table.read(|view| (view.last_seq, view.table.rows().collect::<Vec<Row>>()));
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
        let findings = if request.into_inner().local_only {
            check::local(&self.edge).await
        } else {
            check::check(&self.edge).await
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
