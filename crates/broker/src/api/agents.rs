//! The administrator's API for agents: draining, forgetting, the room that there is, and why a user would get which. A
//! standby forwards to the active node.

mod explain;
mod forget;
mod marks;

use std::sync::Arc;

use tonic::{Code, Request, Response, Status, transport::Channel};
use vsm_core::AgentName;
use vsm_daemon::grpc;
use vsm_proto::{
    admin::v1::{self as pb, agents_client::AgentsClient, agents_server::Agents},
    convert,
};

use crate::{
    api::{
        Edge, caller,
        forward::{self, Place},
    },
    hosts::capacity,
};

/// The service.
#[derive(Debug, Clone)]
pub struct AgentsApi {
    /// What it serves.
    pub edge: Arc<Edge>,
}

/// Why an administrator does not get what they asked for.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is no agent {0} in /vsmserver/subclusters")]
    UnknownAgent(AgentName),
    #[error("nothing is known of an agent {0}")]
    NothingKnown(AgentName),
    #[error(
        "{agent} is the last agent of subcluster {subcluster} that takes new sessions; --force drains it all the same"
    )]
    LastAgent { agent: AgentName, subcluster: String },
    #[error("{0} is not drained")]
    NotDrained(AgentName),
    #[error(
        "{0} is drained by the configuration: take it out of /vsmserver/agents/draining and reload"
    )]
    ByConfiguration(AgentName),
    #[error("{0} is up: only an agent that is away can be forgotten")]
    AgentUp(AgentName),
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let (reason, code) = match &refused {
            Refused::UnknownAgent(_) | Refused::NothingKnown(_) => {
                ("UNKNOWN_AGENT", Code::NotFound)
            }
            Refused::LastAgent { .. } => ("LAST_AGENT", Code::FailedPrecondition),
            Refused::NotDrained(_) => ("NOT_DRAINED", Code::FailedPrecondition),
            Refused::ByConfiguration(_) => ("BY_CONFIGURATION", Code::FailedPrecondition),
            Refused::AgentUp(_) => ("AGENT_UP", Code::FailedPrecondition),
        };
        grpc::with_reason(Self::new(code, refused.to_string()), reason)
    }
}

fn there(channel: Channel) -> AgentsClient<Channel> {
    AgentsClient::new(channel)
}

#[tonic::async_trait]
impl Agents for AgentsApi {
    async fn drain(
        &self,
        request: Request<pb::DrainRequest>,
    ) -> Result<Response<pb::DrainResponse>, Status> {
        let actor = caller::admin(&self.edge, &request).await;
        if let Place::There(channel) = forward::find(&self.edge, &request).await? {
            return there(channel).drain(caller::forwarded_for(request.into_inner(), &actor)).await;
        }
        let edge = Arc::clone(&self.edge);
        let wanted = marks::Wanted::parse(request.into_inner())?;
        self.edge.done(async move { marks::drain(&edge, actor, wanted).await }).await
    }

    async fn undrain(
        &self,
        request: Request<pb::UndrainRequest>,
    ) -> Result<Response<pb::UndrainResponse>, Status> {
        let actor = caller::admin(&self.edge, &request).await;
        if let Place::There(channel) = forward::find(&self.edge, &request).await? {
            return there(channel)
                .undrain(caller::forwarded_for(request.into_inner(), &actor))
                .await;
        }
        let edge = Arc::clone(&self.edge);
        let agent = convert::text("agent", &request.into_inner().agent)?;
        self.edge.done(async move { marks::undrain(&edge, actor, agent).await }).await
    }

    async fn forget(
        &self,
        request: Request<pb::ForgetRequest>,
    ) -> Result<Response<pb::ForgetResponse>, Status> {
        let actor = caller::admin(&self.edge, &request).await;
        if let Place::There(channel) = forward::find(&self.edge, &request).await? {
            return there(channel)
                .forget(caller::forwarded_for(request.into_inner(), &actor))
                .await;
        }
        let edge = Arc::clone(&self.edge);
        let agent = convert::text("agent", &request.into_inner().agent)?;
        self.edge.done(async move { forget::forget(&edge, &actor, agent).await }).await
    }

    async fn list_subclusters(
        &self,
        request: Request<pb::ListSubclustersRequest>,
    ) -> Result<Response<pb::ListSubclustersResponse>, Status> {
        // While nobody is active each node shows what it has.
        if let Ok(Place::There(channel)) = forward::find(&self.edge, &request).await {
            let request = caller::forwarded(request.into_inner(), None);
            return there(channel).list_subclusters(request).await;
        }
        let all = capacity::all(&self.edge.agents, &self.edge.site.settings());
        let view = |capacity: capacity::Capacity| pb::SubclusterView {
            level: self.edge.agents.fleet.level(&capacity.name).word().to_owned(),
            agents: capacity.agents.iter().map(ToString::to_string).collect(),
            taking: capacity.taking,
            users: capacity.users,
            room: Some(pb::Room {
                by_memory: capacity.room.by_memory,
                by_cap: capacity.room.by_cap,
                users: capacity.more,
            }),
            name: capacity.name,
        };
        let subclusters = all.into_iter().map(view).collect();
        Ok(Response::new(pb::ListSubclustersResponse { subclusters }))
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        if let Ok(Place::There(channel)) = forward::find(&self.edge, &request).await {
            return there(channel).explain(caller::forwarded(request.into_inner(), None)).await;
        }
        let user = convert::text("user", &request.into_inner().user)?;
        Ok(Response::new(explain::explain(&self.edge, user).await?))
    }
}
