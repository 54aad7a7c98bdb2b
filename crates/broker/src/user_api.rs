//! The user's API on the unix socket: the caller is who the kernel says is at the other end. A standby forwards to the
//! active node, which takes the other broker's word for who it is.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use vsm_core::{Session, SessionId, StartParams};
use vsm_proto::{
    broker::v1::{self as pb, broker_client::BrokerClient, broker_server::Broker as BrokerApi},
    convert,
};

use crate::{
    broker::Broker,
    ending,
    error::{Refusal, list},
    ha::place::{self, Place},
    login::{self, Want},
    users::Identity,
    view::Viewer,
};

/// The service.
#[derive(Debug, Clone)]
pub struct UserApi(pub Arc<Broker>);

impl UserApi {
    /// The session that the caller means: the one named, or the only one.
    fn chosen(&self, who: &Identity, id: &str) -> Result<Arc<Session>, Status> {
        let wanted = if id.is_empty() { None } else { Some(convert::text::<SessionId>("id", id)?) };
        let own: Vec<_> =
            self.0.table.read(|view| view.table.of_user(&who.user).cloned().collect());
        let mut fitting =
            own.into_iter().filter(|session| wanted.is_none_or(|id| session.id == id));
        match (fitting.next(), fitting.next()) {
            (Some(session), None) => Ok(session),
            (None, _) => Err(Refusal::NoSession(id.to_owned()).into()),
            (Some(first), Some(second)) => {
                let ids = [first, second].into_iter().chain(fitting).map(|session| session.id);
                Err(Refusal::WhichSession(list(ids)).into())
            }
        }
    }
}

#[tonic::async_trait]
impl BrokerApi for UserApi {
    async fn login(
        &self,
        request: Request<pb::LoginRequest>,
    ) -> Result<Response<pb::LoginResponse>, Status> {
        let (uid, who) = match place::caller(&self.0, &request).await {
            Ok(caller) => caller,
            Err(status) => {
                tracing::warn!(request = request.get_ref().request_id, %status, "login refused");
                return Err(status);
            }
        };
        let place = place::find(&self.0, &request).await;
        if let Ok(Place::There(channel)) = place {
            let request = place::forwarded(request.into_inner(), Some((uid, &who)));
            return BrokerClient::new(channel).login(request).await;
        }
        let request = request.into_inner();
        let only = match request.session_id.as_str() {
            "" => None,
            id => Some(convert::text("session_id", id)?),
        };
        let want = Want {
            request: convert::text("request_id", &request.request_id)?,
            // That is for a broker to say.
            params: StartParams {
                unvoted: false,
                ..request.params.map(TryInto::try_into).transpose()?.unwrap_or_default()
            },
            only,
        };
        let (user, id) = (who.user.clone(), want.request);
        let handed = match place {
            Ok(_) => login::login(&self.0, who, want).await,
            // Nobody is active: what runs can still be reached.
            Err(refusal) => login::existing(&self.0, &who, &want).await.ok_or(refusal),
        };
        match handed {
            Ok(handed) => {
                tracing::debug!(%user, request = %id, session = %handed.session.id, created = handed.created, "handed out");
                let session = Some(handed.session.as_ref().into());
                Ok(Response::new(pb::LoginResponse {
                    session,
                    host: handed.host,
                    created: handed.created,
                }))
            }
            Err(refusal) => {
                tracing::warn!(%user, request = %id, reason = refusal.code().0, %refusal, "login refused");
                Err(refusal.into())
            }
        }
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let (uid, who) = place::caller(&self.0, &request).await?;
        let place = place::find(&self.0, &request).await;
        if let Ok(Place::There(channel)) = place {
            let request = place::forwarded(request.into_inner(), Some((uid, &who)));
            return BrokerClient::new(channel).list_sessions(request).await;
        }
        let own: Vec<_> =
            self.0.table.read(|view| view.table.of_user(&who.user).cloned().collect());
        let mut viewer = Viewer::new(&self.0);
        let sessions = own.iter().map(|session| viewer.view(session)).collect();
        let ended = if request.into_inner().include_ended {
            self.0.ended_of(&who.user)
        } else {
            Vec::new()
        };
        let ended = ended.iter().map(Into::into).collect();
        Ok(Response::new(pb::ListSessionsResponse { sessions, ended }))
    }

    async fn disconnect_session(
        &self,
        request: Request<pb::DisconnectSessionRequest>,
    ) -> Result<Response<pb::DisconnectSessionResponse>, Status> {
        let (uid, who) = place::caller(&self.0, &request).await?;
        let place = place::find(&self.0, &request).await;
        if let Ok(Place::There(channel)) = place {
            let request = place::forwarded(request.into_inner(), Some((uid, &who)));
            return BrokerClient::new(channel).disconnect_session(request).await;
        }
        let session = self.chosen(&who, &request.into_inner().id)?;
        let unreachable = |why: String| Refusal::Unreachable {
            agent: session.agent.clone(),
            why,
            later: String::new(),
        };
        let link = self
            .0
            .agents
            .link(&session.agent)
            .ok_or_else(|| unreachable("it is in no subcluster".into()))?;
        link.up().await.map_err(|(why, _)| unreachable(why))?;
        let was_connected = link
            .disconnect(session.id, "you disconnected it from elsewhere")
            .await
            .map_err(|error| unreachable(error.why))?;
        Ok(Response::new(pb::DisconnectSessionResponse {
            id: session.id.to_string(),
            was_connected,
        }))
    }

    async fn end_session(
        &self,
        request: Request<pb::EndSessionRequest>,
    ) -> Result<Response<pb::EndSessionResponse>, Status> {
        let (uid, who) = place::caller(&self.0, &request).await?;
        let place = place::find(&self.0, &request).await;
        if let Ok(Place::There(channel)) = place {
            let request = place::forwarded(request.into_inner(), Some((uid, &who)));
            return BrokerClient::new(channel).end_session(request).await;
        }
        place?;
        let session = self.chosen(&who, &request.into_inner().id)?;
        tracing::info!(user = %who.user, session = %session.id, "the user ends a session");
        let done = ending::end(&self.0, &session).await?.is_ok();
        Ok(Response::new(pb::EndSessionResponse { id: session.id.to_string(), done }))
    }
}
