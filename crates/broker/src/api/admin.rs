//! The administrator's API on the local admin socket, which only root and the admin group can open, and over mutual TLS
//! for administrators on other hosts. A standby forwards to the active node.

mod agents;
mod events;
mod log;
mod notify;
mod select;
mod terminate;
mod watch;

use std::{pin::Pin, sync::Arc};

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, metadata::MetadataValue, transport::Channel};
use vsm_core::Proposal;
use vsm_daemon::grpc;
use vsm_proto::{
    admin::v1::{self as pb, admin_client::AdminClient, admin_server::Admin},
    convert,
};

pub(crate) use agents::is_revoked;

use crate::api::{
    Edge, caller,
    forward::{self, Place},
    pair::view::role,
    web_keys,
};

use select::{Pages, Selector};

/// A list as it is streamed.
type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;
type Sessions = Stream<pb::ListSessionsResponse>;

/// The service.
#[derive(Debug, Clone)]
pub struct AdminApi {
    /// What it serves.
    pub edge: Arc<Edge>,
}

impl AdminApi {
    /// Where to serve: here, or on the active node.
    async fn place<T>(&self, request: &Request<T>) -> Option<AdminClient<Channel>> {
        match self.look(request).await {
            Seen::There(client) => Some(client),
            Seen::Here(_) => None,
        }
    }

    /// The same of a list. While nobody is active each node shows what it has, and says so.
    async fn look<T>(&self, request: &Request<T>) -> Seen {
        match forward::find(&self.edge, request).await {
            Ok(Place::There(channel)) => Seen::There(AdminClient::new(channel)),
            Ok(Place::Here) => Seen::Here(None),
            Err(_) => Seen::Here(Some(forward::stale(&self.edge))),
        }
    }
}

/// Where a list comes from.
enum Seen {
    /// The active node.
    There(AdminClient<Channel>),
    /// This node; why what it has may be old, if it may.
    Here(Option<String>),
}

/// A list, with what is to be known of it in the call's metadata.
fn marked<T>(list: T, stale: Option<String>) -> Response<T> {
    let mut response = Response::new(list);
    // As bytes: a reason may hold anything that is printable.
    if let Some(value) = stale.and_then(|text| MetadataValue::try_from(text.into_bytes()).ok()) {
        response.metadata_mut().insert(grpc::STALE_KEY, value);
    }
    response
}

#[tonic::async_trait]
impl Admin for AdminApi {
    type ListSessionsStream = Sessions;

    async fn list_sessions(
        &self,
        request: Request<pb::SessionSelector>,
    ) -> Result<Response<Sessions>, Status> {
        let stale = match self.look(&request).await {
            Seen::There(mut there) => {
                let list =
                    there.list_sessions(caller::forwarded(request.into_inner(), None)).await?;
                return Ok(list.map(|list| Box::pin(list) as Sessions));
            }
            Seen::Here(stale) => stale,
        };
        let selector = Selector::parse(request.into_inner(), &self.edge).await?;
        let list: Sessions = match selector.by_id(&self.edge).await {
            Some(page) => Box::pin(tokio_stream::once(Ok(page))),
            None => Box::pin(tokio_stream::iter(Pages::new(Arc::clone(&self.edge), selector))),
        };
        Ok(marked(list, stale))
    }

    type WatchSessionsStream = Stream<pb::WatchSessionsResponse>;

    async fn watch_sessions(
        &self,
        request: Request<pb::SessionSelector>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        let stale = match self.look(&request).await {
            Seen::There(mut there) => {
                let told =
                    there.watch_sessions(caller::forwarded(request.into_inner(), None)).await?;
                return Ok(told.map(|told| Box::pin(told) as Self::WatchSessionsStream));
            }
            Seen::Here(stale) => stale,
        };
        let selector = Selector::parse(request.into_inner(), &self.edge).await?;
        let place = self.edge.follower()?;
        let told = watch::begin(Arc::clone(&self.edge), selector, place);
        let told: Self::WatchSessionsStream = Box::pin(ReceiverStream::new(told));
        Ok(marked(told, stale))
    }

    type ListEventsStream = Stream<pb::ListEventsResponse>;

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<Self::ListEventsStream>, Status> {
        let stale = match self.look(&request).await {
            Seen::There(mut there) => {
                let told = there.list_events(caller::forwarded(request.into_inner(), None)).await?;
                return Ok(told.map(|told| Box::pin(told) as Self::ListEventsStream));
            }
            Seen::Here(stale) => stale,
        };
        let place = self.edge.follower()?;
        let told = events::begin(Arc::clone(&self.edge), request.get_ref(), place)?;
        let told: Self::ListEventsStream = Box::pin(ReceiverStream::new(told));
        Ok(marked(told, stale))
    }

    async fn session_log(
        &self,
        request: Request<pb::SessionLogRequest>,
    ) -> Result<Response<pb::SessionLogResponse>, Status> {
        let actor = caller::admin(&self.edge, &request).await;
        if let Some(mut there) = self.place(&request).await {
            let request = caller::forwarded_for(request.into_inner(), &actor);
            return there.session_log(request).await;
        }
        Ok(Response::new(log::fetch(&self.edge, request.into_inner(), actor).await?))
    }

    async fn record_event(
        &self,
        request: Request<pb::RecordEventRequest>,
    ) -> Result<Response<pb::RecordEventResponse>, Status> {
        let event = convert::required("event", request.into_inner().event)?;
        let noted = self.edge.table.propose(Proposal::Note(event.try_into()?)).await;
        noted.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(pb::RecordEventResponse {}))
    }

    async fn terminate_sessions(
        &self,
        request: Request<pb::TerminateSessionsRequest>,
    ) -> Result<Response<pb::TerminateSessionsResponse>, Status> {
        let there = self.place(&request).await;
        let actor = caller::admin(&self.edge, &request).await;
        if let Some(mut there) = there {
            let request = caller::forwarded_for(request.into_inner(), &actor);
            return there.terminate_sessions(request).await;
        }
        Ok(Response::new(terminate::all(&self.edge, request.into_inner(), actor).await?))
    }

    async fn notify(
        &self,
        request: Request<pb::NotifyRequest>,
    ) -> Result<Response<pb::NotifyResponse>, Status> {
        let there = self.place(&request).await;
        let actor = caller::admin(&self.edge, &request).await;
        if let Some(mut there) = there {
            return there.notify(caller::forwarded_for(request.into_inner(), &actor)).await;
        }
        Ok(Response::new(notify::show(&self.edge, request.into_inner(), actor).await?))
    }

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        let stale = match self.look(&request).await {
            Seen::There(mut there) => {
                return there.list_agents(caller::forwarded(request.into_inner(), None)).await;
            }
            Seen::Here(stale) => stale,
        };
        let list = pb::ListAgentsResponse { agents: agents::list(&self.edge) };
        Ok(marked(list, stale))
    }

    type ListWebKeysStream = Stream<pb::ListWebKeysResponse>;

    async fn list_web_keys(
        &self,
        request: Request<pb::ListWebKeysRequest>,
    ) -> Result<Response<Self::ListWebKeysStream>, Status> {
        let stale = match self.look(&request).await {
            Seen::There(mut there) => {
                let list =
                    there.list_web_keys(caller::forwarded(request.into_inner(), None)).await?;
                return Ok(list.map(|list| Box::pin(list) as Self::ListWebKeysStream));
            }
            Seen::Here(stale) => stale,
        };
        let pages = web_keys::pages(&self.edge, request.get_ref())?;
        let list: Self::ListWebKeysStream = Box::pin(tokio_stream::iter(pages.map(Ok)));
        Ok(marked(list, stale))
    }

    async fn revoke_web_keys(
        &self,
        request: Request<pb::RevokeWebKeysRequest>,
    ) -> Result<Response<pb::RevokeWebKeysResponse>, Status> {
        let there = self.place(&request).await;
        let actor = caller::admin(&self.edge, &request).await;
        if let Some(mut there) = there {
            let request = caller::forwarded_for(request.into_inner(), &actor);
            return there.revoke_web_keys(request).await;
        }
        web_keys::revoke(&self.edge, request.into_inner(), actor).await
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let (epoch, last_seq, sessions) = self
            .edge
            .table
            .read(|view| (view.epoch.clone(), view.last_seq, view.table.sessions().len()));
        Ok(Response::new(pb::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.edge.process.node.to_string(),
            role: role(&self.edge).to_owned(),
            epoch: Some((&epoch).into()),
            lineage: self.edge.table.fence().lineage.to_string(),
            last_seq,
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
            started_unix_ms: self.edge.process.started.at.0,
            troubles: self.edge.process.troubles.messages(),
            changes_until_unix_ms: caller::web_key(&request)
                .map(|key| self.edge.web_keys.may_change_until(key).map_or(0, |until| until.0)),
        }))
    }
}
