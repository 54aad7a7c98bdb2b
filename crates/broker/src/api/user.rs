//! The user's API on the unix socket: the caller is who the kernel says is at the other end. A standby forwards to the
//! active node, which takes the other broker's word for who it is.

use std::sync::Arc;

use tokio::task::JoinSet;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;
use vsm_core::{
    Choice, Extension, Session, SessionId, SshKey, StartParams, State, UserName, WebKeyId, Words,
    printable,
};
use vsm_daemon::{
    hole::{self, Hole},
    span,
};
use vsm_proto::{
    broker::v1::{self as pb, broker_client::BrokerClient, broker_server::Broker as BrokerApi},
    convert,
};

use crate::{
    api::{
        Edge, caller,
        forward::{self, Here, Place, UserCall},
        view::Viewer,
        web_keys,
    },
    error::{Refusal, list},
    hosts::agents::{ExtendAnswer, Shadowed},
    journal::trail::Note,
    pair::Ha,
    sessions::{
        ending::{self, IfSilent, Outcome},
        login, one_login, shadow,
        want::{Answer, Handed, Want, Wish},
    },
    users::Identity,
};

/// The client parameter that has the client's address.
const ADDRESS: &str = "address";

/// The service.
#[derive(Debug, Clone)]
pub struct UserApi(pub Arc<Edge>);

impl UserApi {
    /// The caller's sessions: all of them, or the one named.
    fn own(&self, who: &Identity, id: &str) -> Result<Vec<Arc<Session>>, Status> {
        let wanted = if id.is_empty() { None } else { Some(convert::text::<SessionId>("id", id)?) };
        let mut own = self.0.sessions.of_user(&who.user);
        if hole::is_open(Hole::Owner) {
            own.extend(wanted.and_then(|id| self.0.sessions.session(id)));
        }
        own.retain(|session| wanted.is_none_or(|id| session.id == id));
        Ok(own)
    }

    /// The session that the caller means: the one named, or the only one.
    fn chosen(&self, who: &Identity, id: &str) -> Result<Arc<Session>, Status> {
        Ok(only(self.own(who, id)?, id)?)
    }

    /// How the user's last desktop ended, where they may wonder why it is gone.
    fn last_ended(&self, user: &UserName) -> Option<vsm_proto::session::v1::Ended> {
        let last = self.0.sessions.ended_of(user).into_iter().next();
        last.filter(|ended| ended.reason.is_a_surprise()).as_ref().map(Into::into)
    }

    /// A login that is served here; `standby` is why this node is not to make anything.
    async fn log_in(
        &self,
        who: Arc<Identity>,
        want: Want,
        standby: Option<Refusal>,
        web: Option<WebKeyId>,
    ) -> Result<Response<pb::LoginResponse>, Status> {
        let user = who.user.clone();
        let answer = match standby {
            None => login::login(&self.0.sessions, who, want).await,
            // Nobody is active: what runs can still be reached.
            Some(standby) => match login::existing(&self.0.sessions, &who, &want).await {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) | Err(Refusal::NoSession(_)) => Err(standby),
                Err(refusal) => Err(refusal),
            },
        };
        match answer {
            Ok(Answer::Desktop(handed)) => {
                tracing::debug!(session = %handed.session.id, created = handed.created, "handed out");
                self.0.web_keys.handed_out(&handed.session, web);
                let relay = self.0.site.settings().bastion.is_some();
                let last_ended = handed.created.then(|| self.last_ended(&user)).flatten();
                Ok(Response::new(pb::LoginResponse { relay, last_ended, ..desktop(handed) }))
            }
            Ok(Answer::Choose { sessions, may_create }) => {
                tracing::debug!(sessions = sessions.len(), "the user is to choose");
                let mut viewer = Viewer::new(&self.0);
                let candidates = sessions.iter().map(|session| viewer.view(session)).collect();
                let answer = pb::LoginResponse { candidates, may_create, ..Default::default() };
                Ok(Response::new(answer))
            }
            Err(refusal) => {
                tracing::warn!(reason = refusal.code().0, %refusal, "login refused");
                Err(refusal.into())
            }
        }
    }

    /// Tells in the log and in the trail what a user was refused.
    fn refused(&self, who: &Identity, action: &'static str, id: &str, status: &Status) {
        let (user, why) = (&who.user, status.message());
        let session = printable(id);
        tracing::info!(%user, action, session, why, "refused");
        let named = if session.is_empty() { String::new() } else { format!("{session}: ") };
        self.0
            .journal
            .note(Note::new(user.as_str(), action).user(user).detail(format!("{named}{why}")));
    }

    /// Refuses a user who has logged in by a web key what would have that last for as long as they like. Asked of the
    /// node that they are at, which alone knows.
    async fn not_by_web_key<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let Some(id) = caller::web_key(request) else { return Ok(()) };
        let (_, who) = caller::caller(&self.0, request).await?;
        let status = Refusal::NotByWebKey.into();
        self.refused(&who, "web-key-refused", &id.to_string(), &status);
        Err(status)
    }

    /// Does what `disconnect_session` is asked for, here.
    async fn disconnect(
        &self,
        who: &Identity,
        id: &str,
    ) -> Result<pb::DisconnectSessionResponse, Status> {
        let session = self.chosen(who, id)?;
        let away = |why: String| unreachable(&session, why);
        let reached = self.0.agents.reach(&session.agent).await;
        let (link, _) = reached.map_err(|(why, _)| away(why.to_string()))?;
        let was_connected = link
            .disconnect(self.0.table.fence(), session.id, "you disconnected it from elsewhere")
            .await
            .map_err(|error| away(error.why))?;
        if was_connected {
            let by = who.user.as_str();
            self.0.journal.note(Note::new(by, "session-disconnected").session(&session));
        }
        Ok(pb::DisconnectSessionResponse { id: session.id.to_string(), was_connected })
    }

    /// Does what `extend_session` is asked for, here.
    async fn extend(&self, who: &Identity, id: &str) -> Result<pb::ExtendSessionResponse, Status> {
        let session = self.chosen(who, id)?;
        let away = |why: String| unreachable(&session, why);
        let reached = self.0.agents.reach(&session.agent).await;
        let (link, _) = reached.map_err(|(why, _)| away(why.to_string()))?;
        let extended =
            link.extend(self.0.table.fence(), session.id).await.map_err(|error| away(error.why))?;
        let Extension { limit, left_ms, more } = match extended {
            ExtendAnswer::Extended(extension) => extension,
            ExtendAnswer::Refused(why) => return Err(Refusal::NotExtended(why).into()),
        };
        let detail = format!("{}: {} left", limit.key(), Words(left_ms));
        let note = Note::new(who.user.as_str(), "session-extended").session(&session);
        self.0.journal.note(note.detail(detail));
        let (id, limit) = (session.id.to_string(), limit.key().to_owned());
        Ok(pb::ExtendSessionResponse { id, limit, left_ms, more })
    }

    /// Does what `end_session` is asked for, here.
    async fn end(&self, who: &Identity, id: &str) -> Result<pb::EndSessionResponse, Status> {
        let session = self.chosen(who, id)?;
        span::session(&session).in_scope(|| tracing::info!("the user ends a session"));
        let note = Note::new(who.user.as_str(), "session-end-asked").session(&session);
        let done = match ending::end(&self.0.sessions, &session, IfSilent::Leave, note).await? {
            Outcome::Ended => true,
            Outcome::Later(_) | Outcome::Abandoned(_) => false,
            Outcome::Silent(why) => return Err(unreachable(&session, why).into()),
        };
        Ok(pb::EndSessionResponse { id: session.id.to_string(), done })
    }

    /// Does what `abandon_session` is asked for, here.
    async fn abandon(
        &self,
        who: &Identity,
        id: &str,
    ) -> Result<pb::AbandonSessionResponse, Status> {
        let session = self.silent(who, id).await?;
        span::session(&session).in_scope(|| tracing::info!("the user gives up a session"));
        let note = Note::new(who.user.as_str(), "session-abandoned").session(&session);
        match ending::end(&self.0.sessions, &session, IfSilent::Abandon, note).await? {
            // It came back in this very moment, or was given up before: what was wanted.
            Outcome::Ended | Outcome::Later(_) | Outcome::Abandoned(_) => {}
            Outcome::Silent(why) => return Err(unreachable(&session, why).into()),
        }
        let (id, agent) = (session.id.to_string(), session.agent.to_string());
        Ok(pb::AbandonSessionResponse { id, agent })
    }

    /// The session that the caller gives up: the one named, or the only one whose agent is silent.
    async fn silent(&self, who: &Identity, id: &str) -> Result<Arc<Session>, Status> {
        let mut asked = JoinSet::new();
        for session in self.own(who, id)? {
            let sessions = Arc::clone(&self.0.sessions);
            asked.spawn(async move { (ending::silent(&sessions, &session).await, session) });
        }
        let asked = asked.join_all().await;
        let answers = asked.iter().find(|(why, _)| why.is_none()).map(|(_, session)| session);
        let silent = asked.iter().filter(|(why, _)| why.is_some());
        let silent: Vec<_> = silent.map(|(_, session)| Arc::clone(session)).collect();
        match answers {
            Some(session) if silent.is_empty() => {
                Err(Refusal::Reachable(session.id, session.agent.clone()).into())
            }
            Some(_) | None => Ok(only(silent, id)?),
        }
    }
}

/// The only one of these sessions of a user, who named this id or none. Of several, one whose end was asked for
/// already is not meant.
fn only(mut sessions: Vec<Arc<Session>>, id: &str) -> Result<Arc<Session>, Refusal> {
    if sessions.len() > 1 {
        sessions.retain(|session| !matches!(session.state, State::Ending { .. }));
    }
    let mut sessions = sessions.into_iter();
    match (sessions.next(), sessions.next()) {
        (Some(session), None) => Ok(session),
        (None, _) => Err(Refusal::NoSession(id.to_owned())),
        (Some(first), Some(second)) => {
            let ids = [first, second].into_iter().chain(sessions).map(|session| session.id);
            Err(Refusal::WhichSession(list(ids)))
        }
    }
}

fn public_key(text: &str) -> Result<Option<SshKey>, Status> {
    let key = Some(text).filter(|text| !text.is_empty());
    Ok(key.map(|key| convert::text("public_key", key)).transpose()?)
}

fn shadow_wish(request: pb::ShadowRequest) -> Result<shadow::Wish, Status> {
    let session = Some(request.session_id).filter(|id| !id.is_empty());
    Ok(shadow::Wish {
        user: convert::text("user", &request.user)?,
        session: session.map(|id| convert::text("session_id", &id)).transpose()?,
        control: request.control,
        key: public_key(&request.public_key)?,
    })
}

fn shadowed(shadow::Granted { session, host, shadowed }: shadow::Granted) -> pb::ShadowResponse {
    let Shadowed { control, right, host_keys } = shadowed;
    let (session, key_accepted) = (Some(session.as_ref().into()), host_keys.is_some());
    let host_keys = host_keys.iter().flatten().map(ToString::to_string).collect();
    let (relay, caller) = (false, String::new());
    pb::ShadowResponse { session, host, control, right, key_accepted, host_keys, relay, caller }
}

/// A login as it was asked for.
fn wanted(request: pb::LoginRequest) -> Result<Want, Status> {
    let choice = request.choice.map(pb::LoginChoice::try_from);
    let wish = match (request.session_id.as_str(), choice) {
        ("", None | Some(Ok(pb::LoginChoice::SingleDisconnected))) => {
            Wish::Any(Choice::SingleDisconnected)
        }
        ("", Some(Ok(pb::LoginChoice::Ask))) => Wish::Any(Choice::Ask),
        ("", Some(Ok(pb::LoginChoice::New))) => Wish::Any(Choice::New),
        ("", Some(Ok(pb::LoginChoice::Unspecified) | Err(_))) => {
            return Err(Status::invalid_argument("field choice: it is not a known choice"));
        }
        (id, _) => Wish::This(convert::text("session_id", id)?),
    };
    let params: StartParams =
        request.params.map(TryInto::try_into).transpose()?.unwrap_or_default();
    // That is for a broker to say.
    let params = StartParams { unvoted: false, ..params };
    let key = public_key(&request.public_key)?;
    Ok(Want { request: convert::text("request_id", &request.request_id)?, params, wish, key })
}

/// The message of a login, with the client's address among the client parameters as the broker says it, and nobody
/// else. The broker that has forwarded a call has done so.
fn with_address(request: Request<pb::LoginRequest>) -> pb::LoginRequest {
    let local = caller::is_local(&request).then(|| caller::client_address(&request));
    let mut message = request.into_inner();
    if let Some(address) = local {
        let params = message.params.get_or_insert_default();
        params.client.remove(ADDRESS);
        params.client.extend(address.map(|address| (ADDRESS.to_owned(), address.to_string())));
    }
    message
}

fn desktop(Handed { session, host, created, host_keys }: Handed) -> pb::LoginResponse {
    let (session, key_accepted) = (Some(session.as_ref().into()), host_keys.is_some());
    let host_keys = host_keys.iter().flatten().map(ToString::to_string).collect();
    pb::LoginResponse { session, host, created, key_accepted, host_keys, ..Default::default() }
}

fn unreachable(session: &Session, why: String) -> Refusal {
    let later = ", or give it up with `vsm abandon`".to_owned();
    Refusal::Unreachable { agent: session.agent.clone(), why, later }
}

#[tonic::async_trait]
impl BrokerApi for UserApi {
    async fn login(
        &self,
        request: Request<pb::LoginRequest>,
    ) -> Result<Response<pb::LoginResponse>, Status> {
        let (uid, who) = match caller::caller(&self.0, &request).await {
            Ok(caller) => caller,
            Err(status) => {
                tracing::warn!(request = request.get_ref().request_id, %status, "login refused");
                return Err(status);
            }
        };
        let place = forward::find(&self.0, &request).await;
        let (local, web) = (caller::is_local(&request), caller::web_key(&request));
        let message = with_address(request);
        let key = message.public_key.clone();
        let answer = if let Ok(Place::There(channel)) = place {
            let request = caller::forwarded(message, Some((uid, &who)));
            BrokerClient::new(channel).login(caller::by_web_key(request, web)).await?
        } else {
            let want = wanted(message)?;
            let span = span::login(want.request, &who.user);
            self.log_in(Arc::clone(&who), want, place.err(), web).instrument(span).await?
        };
        let (session, relay) = (answer.get_ref().session.as_ref(), answer.get_ref().relay);
        // A web key leads there by itself, and what goes on by it ends with it.
        if let Some(session) = session.filter(|_| local && relay && web.is_none()) {
            one_login::on_the_way(&self.0.sessions, uid, &who, &key, session);
        }
        Ok(answer)
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let Here { who, message, .. } = match forward::user(&self.0, request).await? {
            UserCall::There(mut there, request) => return there.list_sessions(request).await,
            UserCall::Here(here) => here,
        };
        let own = self.0.sessions.of_user(&who.user);
        let mut viewer = Viewer::new(&self.0);
        let sessions = own.iter().map(|session| viewer.view(session)).collect();
        let ended =
            if message.include_ended { self.0.sessions.ended_of(&who.user) } else { Vec::new() };
        let ended = ended.iter().map(Into::into).collect();
        Ok(Response::new(pb::ListSessionsResponse { sessions, ended }))
    }

    async fn disconnect_session(
        &self,
        request: Request<pb::DisconnectSessionRequest>,
    ) -> Result<Response<pb::DisconnectSessionResponse>, Status> {
        let Here { who, message, .. } = match forward::user(&self.0, request).await? {
            UserCall::There(mut there, request) => return there.disconnect_session(request).await,
            UserCall::Here(here) => here,
        };
        let id = message.id;
        let done = self.disconnect(&who, &id).await;
        done.map(Response::new)
            .inspect_err(|status| self.refused(&who, "disconnect-refused", &id, status))
    }

    async fn extend_session(
        &self,
        request: Request<pb::ExtendSessionRequest>,
    ) -> Result<Response<pb::ExtendSessionResponse>, Status> {
        let Here { who, message, .. } = match forward::user(&self.0, request).await? {
            UserCall::There(mut there, request) => return there.extend_session(request).await,
            UserCall::Here(here) => here,
        };
        let id = message.id;
        let done = self.extend(&who, &id).await;
        done.map(Response::new)
            .inspect_err(|status| self.refused(&who, "extend-refused", &id, status))
    }

    async fn end_session(
        &self,
        request: Request<pb::EndSessionRequest>,
    ) -> Result<Response<pb::EndSessionResponse>, Status> {
        let Here { who, message, standby } = match forward::user(&self.0, request).await? {
            UserCall::There(mut there, request) => return there.end_session(request).await,
            UserCall::Here(here) => here,
        };
        let id = message.id;
        let done = match (standby, &self.0.side.ha) {
            (None, _) => self.end(&who, &id).await,
            // For want of votes nobody is active; an end needs none, if the agent is there.
            (Some(refusal), Ha::On(_)) => {
                self.end(&who, &id).await.map_err(|_| Status::from(refusal))
            }
            (Some(refusal), Ha::Off { .. } | Ha::Apart(_)) => Err(refusal.into()),
        };
        done.map(Response::new).inspect_err(|status| self.refused(&who, "end-refused", &id, status))
    }

    async fn abandon_session(
        &self,
        request: Request<pb::AbandonSessionRequest>,
    ) -> Result<Response<pb::AbandonSessionResponse>, Status> {
        let Here { who, message, standby } = match forward::user(&self.0, request).await? {
            UserCall::There(mut there, request) => return there.abandon_session(request).await,
            UserCall::Here(here) => here,
        };
        let id = message.id;
        let done = match standby {
            None => self.abandon(&who, &id).await,
            Some(refusal) => Err(refusal.into()),
        };
        done.map(Response::new)
            .inspect_err(|status| self.refused(&who, "abandon-refused", &id, status))
    }

    async fn shadow(
        &self,
        request: Request<pb::ShadowRequest>,
    ) -> Result<Response<pb::ShadowResponse>, Status> {
        let (uid, who) = caller::caller(&self.0, &request).await?;
        let place = forward::find(&self.0, &request).await;
        let (local, web) = (caller::is_local(&request), caller::web_key(&request));
        let message = request.into_inner();
        let key = message.public_key.clone();
        let answer = if let Ok(Place::There(channel)) = place {
            let request = caller::forwarded(message, Some((uid, &who)));
            BrokerClient::new(channel).shadow(request).await?
        } else {
            // The trail is to have it.
            place?;
            let granted = shadow::ask(&self.0.sessions, &who, shadow_wish(message)?).await?;
            let relay = self.0.site.settings().bastion.is_some();
            let caller = who.user.to_string();
            Response::new(pb::ShadowResponse { relay, caller, ..shadowed(granted) })
        };
        let (session, relay) = (answer.get_ref().session.as_ref(), answer.get_ref().relay);
        if let Some(session) = session.filter(|_| local && relay) {
            if web.is_none() {
                one_login::on_the_way(&self.0.sessions, uid, &who, &key, session);
            }
            if let Ok(id) = session.id.parse() {
                self.0.sessions.ways.open(uid, id);
            }
        }
        Ok(answer)
    }

    async fn accept_web_key(
        &self,
        request: Request<pb::AcceptWebKeyRequest>,
    ) -> Result<Response<pb::AcceptWebKeyResponse>, Status> {
        self.not_by_web_key(&request).await?;
        let Here { who, message, standby } = match forward::user(&self.0, request).await? {
            UserCall::There(mut there, request) => return there.accept_web_key(request).await,
            UserCall::Here(here) => here,
        };
        let done = match standby {
            None => web_keys::accept(&self.0, &who, message).await,
            Some(refusal) => Err(refusal.into()),
        };
        done.inspect_err(|status| self.refused(&who, "web-key-refused", "", status))
    }

    async fn list_web_keys(
        &self,
        request: Request<pb::ListWebKeysRequest>,
    ) -> Result<Response<pb::ListWebKeysResponse>, Status> {
        let Here { who, .. } = match forward::user(&self.0, request).await? {
            UserCall::There(mut there, request) => return there.list_web_keys(request).await,
            UserCall::Here(here) => here,
        };
        let keys = web_keys::good(&self.0.web_keys.of(&who.user));
        Ok(Response::new(pb::ListWebKeysResponse { keys }))
    }

    async fn revoke_web_key(
        &self,
        request: Request<pb::RevokeWebKeyRequest>,
    ) -> Result<Response<pb::RevokeWebKeyResponse>, Status> {
        let Here { who, message, standby } = match forward::user(&self.0, request).await? {
            UserCall::There(mut there, request) => return there.revoke_web_key(request).await,
            UserCall::Here(here) => here,
        };
        let id = message.id;
        let done = match standby {
            None => web_keys::revoke_own(&self.0, &who, &id).await,
            Some(refusal) => Err(refusal.into()),
        };
        done.inspect_err(|status| self.refused(&who, "web-key-refused", &id, status))
    }
}
