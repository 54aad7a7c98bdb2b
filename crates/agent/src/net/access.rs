//! What the configuration says of callers; who may call what is in the table of [`vsm_daemon::access`].

use std::{net::IpAddr, sync::Arc};

use tonic::Status;
use vsm_daemon::{
    access::{Caller, Guard, Site},
    grpc,
    hole::{self, Hole},
    tls::Peer,
};

use super::Net;

/// What stands before the services of an agent.
pub(super) fn guard(net: &Arc<Net>) -> Arc<Guard> {
    Guard::new(OfAgent(Arc::clone(net)))
}

struct OfAgent(Arc<Net>);

impl Site for OfAgent {
    fn lets_in(&self, caller: Caller, peer: &Peer, address: Option<IpAddr>) -> Result<(), Status> {
        let settings = self.0.settings();
        match caller {
            Caller::AllowedBroker if hole::is_open(Hole::AllowedClients) => Ok(()),
            Caller::AllowedBroker if !peer.is_among(&settings.allowed_brokers, address) => {
                let at = address.map_or_else(String::new, |address| format!(" at {address}"));
                let host = &settings.public_name;
                let text = format!(
                    "broker {}{at} is not in /vsmagent/allowed_clients of {host}",
                    peer.name
                );
                Err(grpc::with_reason(Status::permission_denied(text), grpc::BROKER_NOT_ALLOWED))
            }
            Caller::AllowedBroker | Caller::Host => Ok(()),
            Caller::User
            | Caller::Administrator
            | Caller::Viewer
            | Caller::WebServer
            | Caller::RemoteAdministrator
            | Caller::OtherBroker
            | Caller::Broker
            | Caller::Agent
            | Caller::FormerAgent
            | Caller::Guest
            | Caller::Observer => {
                Err(Status::permission_denied(format!("{} is no broker", settings.public_name)))
            }
        }
    }
}
