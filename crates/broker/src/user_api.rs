//! The user's API on the unix socket: the caller is who the kernel says is at the other end.

use std::sync::Arc;

use tonic::{Request, Response, Status, transport::server::UdsConnectInfo};
use vsm_core::{Session, SessionId};
use vsm_proto::{
    broker::v1::{self as pb, broker_server::Broker as BrokerApi},
    convert,
};

use crate::{
    broker::Broker,
    ending,
    error::{Refusal, list},
    login::{self, Want},
    users::Identity,
    view::Viewer,
};

/// The service.
#[derive(Debug, Clone)]
pub struct UserApi(pub Arc<Broker>);

impl UserApi {
    async fn caller<T>(&self, request: &Request<T>) -> Result<Arc<Identity>, Status> {
        let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        let uid = peer
            .ok_or_else(|| Status::unauthenticated("the socket does not tell who you are"))?
            .uid();
        Ok(self.0.users.identity(uid).await.map_err(Refusal::from)?)
    }

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
        let who = match self.caller(&request).await {
            Ok(who) => who,
            Err(status) => {
                tracing::warn!(request = request.get_ref().request_id, %status, "login refused");
                return Err(status);
            }
        };
        let request = request.into_inner();
        let only = match request.session_id.as_str() {
            "" => None,
            id => Some(convert::text("session_id", id)?),
        };
        let want = Want {
            request: convert::text("request_id", &request.request_id)?,
            params: request.params.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            only,
        };
        let (user, id) = (who.user.clone(), want.request);
        match login::login(&self.0, who, want).await {
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
        let who = self.caller(&request).await?;
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
        let who = self.caller(&request).await?;
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
        let who = self.caller(&request).await?;
        let session = self.chosen(&who, &request.into_inner().id)?;
        tracing::info!(user = %who.user, session = %session.id, "the user ends a session");
        let done = ending::end(&self.0, &session).await?.is_ok();
        Ok(Response::new(pb::EndSessionResponse { id: session.id.to_string(), done }))
    }
}
