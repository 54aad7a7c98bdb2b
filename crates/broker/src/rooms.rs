//! Every room of the broker, put together from the ground up. Only `server`, and tests that stand in for it, have them
//! all: a room is handed those that it may use.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;
use vsm_core::NodeName;
use vsm_daemon::{clock::Since, tls::Tls};
use vsm_root::client::Helper;
use vsm_sync::{SessionTable, peer::Card};

use crate::{
    api::{Edge, forward::OtherTrail},
    authority::Authority,
    hosts::agents::Agents,
    identities::Identities,
    journal::{Elsewhere, Journal},
    openid::OpenId,
    pair::{Ha, Side},
    process::Process,
    sessions::Sessions,
    site::{Site, settings::Settings},
    users::Users,
    web_keys::WebKeys,
};

/// The rooms.
#[derive(Debug)]
pub struct Rooms {
    /// This process.
    pub process: Arc<Process>,
    /// What the configuration means.
    pub site: Arc<Site>,
    /// The table, and whether this node may act.
    pub authority: Arc<Authority>,
    /// What is remembered.
    pub journal: Arc<Journal>,
    /// Links to the agents.
    pub agents: Arc<Agents>,
    /// Identities of hosts.
    pub identities: Arc<Identities>,
    /// Keys by which browsers log in.
    pub web_keys: Arc<WebKeys>,
    /// Tokens of the OpenID provider.
    pub openid: Arc<OpenId>,
    /// This node's side of the pair.
    pub side: Arc<Side>,
    /// The life of sessions.
    pub sessions: Arc<Sessions>,
    /// What the services serve from.
    pub edge: Arc<Edge>,
}

/// What a broker is made of.
#[derive(Debug)]
pub struct Parts {
    /// The session table.
    pub table: SessionTable,
    /// Whether it is one of a pair.
    pub ha: Ha,
    /// Does what needs root.
    pub helper: Helper,
    /// What it tells the other broker of itself.
    pub card: Arc<RwLock<Card>>,
    /// The settings.
    pub settings: Settings,
    /// This node.
    pub node: NodeName,
    /// This host's identity.
    pub tls: Tls,
    /// When this process started.
    pub started: Since,
    /// Cancelled when the broker is to stop.
    pub stop: CancellationToken,
}

impl Rooms {
    /// Puts a broker together; nothing runs yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { table, ha, helper, card, settings, node, tls, started, stop } = parts;
        let process = Arc::new(Process::new(node, tls, helper, started, stop));
        let site = Arc::new(Site::new(settings, Users::new(process.troubles.clone())));
        let authority = Arc::new(Authority::new(table, ha.standing()));
        let other = ha.other().map(|other| Box::new(OtherTrail(other)) as Box<dyn Elsewhere>);
        let journal = Arc::new(Journal::new(
            Arc::clone(&process),
            Arc::clone(&site),
            Arc::clone(&authority),
            other,
        ));
        let agents = Arc::new(Agents::new(
            Arc::clone(&process),
            Arc::clone(&site),
            Arc::clone(&authority),
            Arc::clone(&journal),
        ));
        let nodes = ha.nodes(&process.node);
        let identities = Arc::new(Identities::new(
            Arc::clone(&process),
            Arc::clone(&site),
            Arc::clone(&authority),
            Arc::clone(&journal),
            Arc::clone(&agents),
            nodes,
        ));
        let side = Arc::new(Side::new(
            Arc::clone(&process),
            Arc::clone(&authority),
            Arc::clone(&agents),
            ha,
            card,
        ));
        let sessions = Arc::new(Sessions::new(
            Arc::clone(&process),
            Arc::clone(&site),
            Arc::clone(&authority),
            Arc::clone(&journal),
            Arc::clone(&agents),
            Arc::clone(&identities),
        ));
        let web_keys = Arc::new(WebKeys::new(
            Arc::clone(&process),
            Arc::clone(&site),
            Arc::clone(&authority),
            Arc::clone(&journal),
            Arc::clone(&agents),
        ));
        let openid =
            Arc::new(OpenId::new(Arc::clone(&process), Arc::clone(&site), Arc::clone(&authority)));
        let (below, keys) = (Arc::clone(&sessions), Arc::clone(&web_keys));
        let edge = Arc::new(Edge::new(below, Arc::clone(&side), keys, Arc::clone(&openid)));
        Self {
            process,
            site,
            authority,
            journal,
            agents,
            identities,
            web_keys,
            openid,
            side,
            sessions,
            edge,
        }
    }
}
