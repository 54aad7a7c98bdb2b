//! The administrator's API on the local admin socket, which only root and the admin group can open, and over mutual TLS for
//! administrators on other hosts. A standby forwards to the active node.

mod agents;
mod events;
mod log;
mod notify;
mod select;
mod terminate;
mod watch;

use std::{pin::Pin, sync::Arc};

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, transport::Channel};
use vsm_core::Proposal;
use vsm_proto::{
    admin::v1::{self as pb, admin_client::AdminClient, admin_server::Admin},
    convert,
};

use crate::{
    broker::Broker,
    ha::{
        api,
        place::{self, Place},
    },
};

use select::{Pages, Selector};

/// A list as it is streamed.
type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;
type Sessions = Stream<pb::ListSessionsResponse>;

/// The service.
#[derive(Debug, Clone)]
pub struct AdminApi {
    /// The broker.
    pub broker: Arc<Broker>,
}

impl AdminApi {
    /// Where to serve: here, or on the active node.
    async fn place<T>(&self, request: &Request<T>) -> Result<Option<AdminClient<Channel>>, Status> {
        place::check_admin(&self.broker, request)?;
        Ok(match place::find(&self.broker, request).await {
            Ok(Place::There(channel)) => Some(AdminClient::new(channel)),
            // While nobody is active each node shows what it has.
            Ok(Place::Here) | Err(_) => None,
        })
    }
}

#[tonic::async_trait]
impl Admin for AdminApi {
    type ListSessionsStream = Sessions;

    async fn list_sessions(
        &self,
        request: Request<pb::SessionSelector>,
    ) -> Result<Response<Sessions>, Status> {
        if let Some(mut there) = self.place(&request).await? {
            let list = there.list_sessions(place::forwarded(request.into_inner(), None)).await?;
            return Ok(list.map(|list| Box::pin(list) as Sessions));
        }
        let selector = Selector::parse(request.into_inner(), &self.broker).await?;
        if let Some(page) = selector.by_id(&self.broker).await {
            return Ok(Response::new(Box::pin(tokio_stream::once(Ok(page)))));
        }
        let pages = Pages::new(Arc::clone(&self.broker), selector);
        Ok(Response::new(Box::pin(tokio_stream::iter(pages))))
    }

    type WatchSessionsStream = Stream<pb::WatchSessionsResponse>;

    async fn watch_sessions(
        &self,
        request: Request<pb::SessionSelector>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        if let Some(mut there) = self.place(&request).await? {
            let told = there.watch_sessions(place::forwarded(request.into_inner(), None)).await?;
            return Ok(told.map(|told| Box::pin(told) as Self::WatchSessionsStream));
        }
        let selector = Selector::parse(request.into_inner(), &self.broker).await?;
        let place = self.broker.follower()?;
        let told = watch::begin(Arc::clone(&self.broker), selector, place);
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }

    type ListEventsStream = Stream<pb::ListEventsResponse>;

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<Self::ListEventsStream>, Status> {
        if let Some(mut there) = self.place(&request).await? {
            let told = there.list_events(place::forwarded(request.into_inner(), None)).await?;
            return Ok(told.map(|told| Box::pin(told) as Self::ListEventsStream));
        }
        let place = self.broker.follower()?;
        let told = events::begin(Arc::clone(&self.broker), request.get_ref(), place)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }

    async fn session_log(
        &self,
        request: Request<pb::SessionLogRequest>,
    ) -> Result<Response<pb::SessionLogResponse>, Status> {
        if let Some(mut there) = self.place(&request).await? {
            return there.session_log(place::forwarded(request.into_inner(), None)).await;
        }
        Ok(Response::new(log::fetch(&self.broker, request.into_inner()).await?))
    }

    async fn record_event(
        &self,
        request: Request<pb::RecordEventRequest>,
    ) -> Result<Response<pb::RecordEventResponse>, Status> {
        place::check_peer(&self.broker, &request)?;
        let event = convert::required("event", request.into_inner().event)?;
        let noted = self.broker.table.propose(Proposal::Note(event.try_into()?)).await;
        noted.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(pb::RecordEventResponse {}))
    }

    async fn terminate_sessions(
        &self,
        request: Request<pb::TerminateSessionsRequest>,
    ) -> Result<Response<pb::TerminateSessionsResponse>, Status> {
        let there = self.place(&request).await?;
        let actor = place::admin(&self.broker, &request).await;
        if let Some(mut there) = there {
            let request = place::forwarded_for(request.into_inner(), &actor);
            return there.terminate_sessions(request).await;
        }
        Ok(Response::new(terminate::all(&self.broker, request.into_inner(), actor).await?))
    }

    async fn notify(
        &self,
        request: Request<pb::NotifyRequest>,
    ) -> Result<Response<pb::NotifyResponse>, Status> {
        let there = self.place(&request).await?;
        let actor = place::admin(&self.broker, &request).await;
        if let Some(mut there) = there {
            return there.notify(place::forwarded_for(request.into_inner(), &actor)).await;
        }
        Ok(Response::new(notify::show(&self.broker, request.into_inner(), actor).await?))
    }

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        if let Some(mut there) = self.place(&request).await? {
            return there.list_agents(place::forwarded(request.into_inner(), None)).await;
        }
        Ok(Response::new(pb::ListAgentsResponse { agents: agents::list(&self.broker) }))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        place::check_admin(&self.broker, &request)?;
        let (epoch, last_seq, sessions) = self
            .broker
            .table
            .read(|view| (view.epoch.clone(), view.last_seq, view.table.sessions().len()));
        Ok(Response::new(pb::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.broker.node.to_string(),
            role: api::role(&self.broker).to_owned(),
            epoch: Some((&epoch).into()),
            lineage: self.broker.table.fence().lineage.to_string(),
            last_seq,
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
            started_unix_ms: self.broker.started.at.0,
            troubles: self.broker.troubles.messages(),
        }))
    }
}
