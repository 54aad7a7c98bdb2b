//! What the configuration says of callers from other hosts; who may call what is in the table of
//! [`vsm_daemon::access`].

use std::{net::IpAddr, sync::Arc};

use tonic::Status;
use vsm_core::WebKeyId;
use vsm_daemon::{
    access::{Caller, Guard, Refused, Site},
    clock,
    tls::Peer,
};

use crate::{api::Edge, journal::trail::Note, pair::Ha};

/// What stands before the services of a broker.
#[must_use]
pub fn guard(edge: &Arc<Edge>) -> Arc<Guard> {
    Guard::new(OfBroker(Arc::clone(edge)))
}

struct OfBroker(Arc<Edge>);

impl Site for OfBroker {
    fn lets_in(&self, caller: Caller, peer: &Peer, address: Option<IpAddr>) -> Result<(), Status> {
        let (edge, node) = (&self.0, &self.0.process.node);
        let listed = |entries: &[String], parameter: &str| {
            if peer.is_among(entries, address) {
                return Ok(());
            }
            Err(Status::permission_denied(format!("{} is not in {parameter} of {node}", peer.name)))
        };
        let settings = edge.site.settings();
        match caller {
            Caller::RemoteAdministrator => {
                listed(&settings.allowed_clients, "/vsmserver/allowed_clients")
            }
            Caller::Observer => listed(&settings.observers, "/vsmserver/HA/observers"),
            Caller::OtherBroker => is_other_broker(edge, peer),
            // The role is enough; the services compare names.
            Caller::Agent | Caller::FormerAgent | Caller::Broker | Caller::Host => Ok(()),
            Caller::User
            | Caller::Administrator
            | Caller::Viewer
            | Caller::WebServer
            | Caller::AllowedBroker
            | Caller::Guest => Err(Status::permission_denied(format!("{node} is no session host"))),
        }
    }

    fn is_fresh(&self, key: WebKeyId) -> bool {
        let until = self.0.web_keys.may_change_until(key);
        until.is_some_and(|until| clock::unix_millis() < until)
    }

    fn refused(&self, refused: &Refused<'_>) {
        let Refused { who, from, method, why } = refused;
        let note = Note::new(*who, "access-refused").detail(format!("{method} from {from}: {why}"));
        self.0.journal.note(note);
    }
}

fn is_other_broker(edge: &Edge, peer: &Peer) -> Result<(), Status> {
    match &edge.side.ha {
        Ha::On(pair)
            if peer.name == pair.peer.as_str() || pair.peer.as_str().parse::<IpAddr>().is_ok() =>
        {
            Ok(())
        }
        Ha::On(_) => Err(Status::permission_denied(format!(
            "{} is not the other broker of this pair",
            peer.name
        ))),
        // The caller takes this one for the other of a pair, and is told by the code what is missing.
        Ha::Off { .. } | Ha::Apart(_) => {
            Err(Status::failed_precondition(format!("HA is off on {}", edge.process.node)))
        }
    }
}
