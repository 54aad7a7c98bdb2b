//! The edge: what users, administrators, agents and the other node ask for, as gRPC services. A request is read and
//! allowed here, and served here or passed on to the active node; the rooms below decide. Nothing below uses this room.
//!
//! | module | owns |
//! | --- | --- |
//! | [`user`] | what users ask for |
//! | [`admin`] | what administrators ask of sessions and hosts |
//! | [`agents`] | marks of agents, and why a user gets which |
//! | [`configuration`] | the configuration in force, and taking a new one |
//! | [`identities`] | invitations, revocations, and certificates for agents |
//! | [`openid`] | logins by OpenID Connect, which `vsm-web` hands in |
//! | [`pair`] | the administrator's view of the pair |
//! | [`registry`] | agents that announce themselves |
//! | [`access`] | what the configuration says of who may call |
//! | `caller` | who makes a call |
//! | `forward` | where a call is served: here, or on the active node, to which it is passed on |
//! | `web_keys` | keys by which browsers log in, as users and administrators ask for them |
//! | `view` | a session as users and administrators see it |

pub mod access;
pub mod admin;
pub mod agents;
pub(crate) mod caller;
pub mod configuration;
pub(crate) mod forward;
pub mod identities;
pub mod openid;
pub mod pair;
pub mod registry;
pub mod user;
pub(crate) mod view;
pub(crate) mod web_keys;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Response, Status};
use vsm_sync::SessionTable;

use crate::{
    error::Refusal, hosts::agents::Agents, journal::Journal, openid::OpenId, pair::Side,
    process::Process, sessions::Sessions, site::Site, web_keys::WebKeys,
};

/// Administrators' calls that follow something at a time: each costs work with every change.
const FOLLOWERS_MAX: usize = 32;

/// What the services serve from: each room below.
#[derive(Debug)]
pub struct Edge {
    pub(crate) process: Arc<Process>,
    pub(crate) site: Arc<Site>,
    pub(crate) table: SessionTable,
    pub(crate) journal: Arc<Journal>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) side: Arc<Side>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) web_keys: Arc<WebKeys>,
    pub(crate) openid: Arc<OpenId>,
    followers: Arc<Semaphore>,
}

impl Edge {
    /// An edge before these rooms.
    #[must_use]
    pub fn new(
        sessions: Arc<Sessions>,
        side: Arc<Side>,
        web_keys: Arc<WebKeys>,
        openid: Arc<OpenId>,
    ) -> Self {
        Self {
            process: Arc::clone(&sessions.process),
            site: Arc::clone(&sessions.site),
            table: sessions.table.clone(),
            journal: Arc::clone(&sessions.journal),
            agents: Arc::clone(&sessions.agents),
            side,
            sessions,
            web_keys,
            openid,
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
        }
    }

    /// Hands what changes something to a task of the broker's, so that it does not die with its caller.
    pub(crate) async fn done<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let done = self.process.tasks.spawn(work).await;
        done.unwrap_or_else(|error| Err(Refusal::Internal(error.to_string()).into()))
            .map(Response::new)
    }

    /// A place for a call that follows something.
    ///
    /// # Errors
    /// If there are too many already.
    pub(crate) fn follower(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.followers).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{FOLLOWERS_MAX} calls follow this broker already; end one of them"
            ))
        })
    }
}
