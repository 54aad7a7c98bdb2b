//! The agents' API over mutual TLS: an agent that has started says so, and is dialled at once.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use vsm_core::AgentName;
use vsm_daemon::{tls, trouble::Kind};
use vsm_proto::{
    broker::v1::{AnnounceRequest, AnnounceResponse, registry_server::Registry},
    convert,
};

use crate::{hosts::agents::Agents, site::Site};

/// The service.
#[derive(Debug, Clone)]
pub struct RegistryApi {
    /// Whom it wakes.
    pub agents: Arc<Agents>,
    /// Where they are called.
    pub site: Arc<Site>,
}

#[tonic::async_trait]
impl Registry for RegistryApi {
    async fn announce(
        &self,
        request: Request<AnnounceRequest>,
    ) -> Result<Response<AnnounceResponse>, Status> {
        let peer = tls::peer(request.extensions())?;
        let agent: AgentName = convert::text("certificate name", &peer.name)?;
        let AnnounceRequest { boot_id, port } = request.into_inner();
        let link = self.agents.link(&agent);
        tracing::info!(%agent, known = link.is_some(), boot_id, "an agent announces itself");
        if let Some(link) = &link {
            // It would only be seen that nobody answers.
            let called = self.site.settings().agent_port;
            let what = || {
                format!(
                    "it listens on port {port} (/vsmagent/listen_port), and is called on port {called} (/vsmserver/agent_port)"
                )
            };
            let differs = port != 0 && port != u32::from(called);
            link.troubles.set(Kind::Configuration, "port", differs.then(what));
            link.wake.notify_one();
        }
        Ok(Response::new(AnnounceResponse { known: link.is_some() }))
    }
}
