//! The agents' API over mutual TLS: an agent that has started says so, and is dialled at once.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use vsm_core::AgentName;
use vsm_daemon::tls;
use vsm_proto::{
    broker::v1::{AnnounceRequest, AnnounceResponse, registry_server::Registry},
    convert,
};

use crate::hosts::agents::Agents;

/// The service.
#[derive(Debug, Clone)]
pub struct RegistryApi(pub Arc<Agents>);

#[tonic::async_trait]
impl Registry for RegistryApi {
    async fn announce(
        &self,
        request: Request<AnnounceRequest>,
    ) -> Result<Response<AnnounceResponse>, Status> {
        let peer = tls::peer(request.extensions())?;
        let agent: AgentName = convert::text("certificate name", &peer.name)?;
        let link = self.0.link(&agent);
        tracing::info!(%agent, known = link.is_some(), boot_id = request.into_inner().boot_id, "an agent announces itself");
        if let Some(link) = &link {
            link.wake.notify_one();
        }
        Ok(Response::new(AnnounceResponse { known: link.is_some() }))
    }
}
