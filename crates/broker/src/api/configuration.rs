//! The administrator's service for the configuration: reload, compare both nodes, make the other one's the same.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tonic::{Request, Response, Status};
use vsm_config::{Change, keys};
use vsm_proto::admin::v1::{
    self as pb, configuration_client::ConfigurationClient, configuration_server::Configuration,
};

use crate::{
    api::{Edge, caller},
    pair::{Ha, Pair, card, open},
    reload::{Refused, Reloaded, Reloader},
};

/// How long the other node may take: it reads, writes and syncs a few files.
const PEER_CALL: Duration = Duration::from_secs(10);

/// Parameters by path: as written, and what they mean.
type Parameters = BTreeMap<String, (String, String)>;

/// The service.
#[derive(Debug, Clone)]
pub struct ConfigApi {
    /// What it serves.
    pub edge: Arc<Edge>,
    /// What is in force.
    pub reloader: Arc<Reloader>,
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let why = refused.to_string();
        match refused {
            Refused::Bad(_) => Self::invalid_argument(why),
            Refused::Write(_) => Self::failed_precondition(why),
            Refused::Changed(_) => Self::aborted(why),
        }
    }
}

impl ConfigApi {
    fn pair(&self) -> Result<&Arc<Pair>, Status> {
        match &self.edge.side.ha {
            Ha::On(pair) => Ok(pair),
            Ha::Off { .. } | Ha::Apart(_) => Err(Status::failed_precondition(
                "this broker is not one of a pair (/vsmserver/HA/enabled): there is nothing to compare with",
            )),
        }
    }

    /// The parameters of both nodes.
    async fn both(&self, pair: &Pair) -> Result<(Parameters, Parameters), Status> {
        let own = self.reloader.shared().await?;
        let mut peer = ConfigurationClient::new(pair.channel.clone());
        let call = peer.parameters(caller::forwarded(pb::ParametersRequest {}, None));
        let theirs = within(pair, call).await?.parameters;
        Ok((own, theirs.into_iter().map(|(path, value)| (path, parts(value))).collect()))
    }
}

fn parts(parameter: pb::Parameter) -> (String, String) {
    (parameter.written, parameter.meaning)
}

fn messages(parameters: Parameters) -> BTreeMap<String, pb::Parameter> {
    parameters
        .into_iter()
        .map(|(path, (written, meaning))| (path, pb::Parameter { written, meaning }))
        .collect()
}

/// Waits for the other node, for a bounded time; an error names it.
async fn within<T>(
    pair: &Pair,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    let named = |status: &Status| {
        Status::new(status.code(), format!("{}: {}", pair.peer, status.message()))
    };
    match tokio::time::timeout(PEER_CALL, call).await {
        Ok(answer) => answer.map(Response::into_inner).map_err(|status| named(&status)),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "{} does not answer within {} s",
            pair.peer,
            PEER_CALL.as_secs()
        ))),
    }
}

fn differences(own: &Parameters, peer: &Parameters) -> Vec<pb::Difference> {
    let paths: std::collections::BTreeSet<&String> = own.keys().chain(peer.keys()).collect();
    let meaning = |of: &Parameters, path: &str| of.get(path).map(|(_, meaning)| meaning.clone());
    let written = |of: &Parameters, path: &str| of.get(path).map(|(written, _)| written.clone());
    paths
        .into_iter()
        .filter(|path| meaning(own, path) != meaning(peer, path))
        .map(|path| pb::Difference {
            path: path.clone(),
            own: written(own, path),
            peer: written(peer, path),
        })
        .collect()
}

/// Whether root runs what this parameter names.
fn is_roots_program(path: &str) -> bool {
    keys::PARAMS.iter().any(|param| param.path == path && param.names_roots_program())
}

/// Stands for what both nodes have.
fn token(own: &Parameters, peer: &Parameters) -> String {
    format!("{:016x}", card::hash(&format!("{own:?} {peer:?}")))
}

fn changes(changes: Vec<Change>) -> Vec<pb::ParameterChange> {
    let message =
        |Change { path, old, new, restart }| pb::ParameterChange { path, old, new, restart };
    changes.into_iter().map(message).collect()
}

#[tonic::async_trait]
impl Configuration for ConfigApi {
    async fn reload(
        &self,
        request: Request<pb::ReloadRequest>,
    ) -> Result<Response<pb::ReloadResponse>, Status> {
        let actor = caller::admin(&self.edge, &request).await;
        let Reloaded { changes, certificates } = self.reloader.reload(&actor).await?;
        Ok(Response::new(pb::ReloadResponse { changes: self::changes(changes), certificates }))
    }

    async fn compare(
        &self,
        _: Request<pb::CompareRequest>,
    ) -> Result<Response<pb::CompareResponse>, Status> {
        let pair = self.pair()?;
        let (own, peer) = self.both(pair).await?;
        Ok(Response::new(pb::CompareResponse {
            own: pair.own.to_string(),
            peer: pair.peer.to_string(),
            differences: differences(&own, &peer),
            token: token(&own, &peer),
        }))
    }

    async fn push(
        &self,
        request: Request<pb::PushRequest>,
    ) -> Result<Response<pb::PushResponse>, Status> {
        let actor = caller::admin(&self.edge, &request).await;
        let pair = self.pair()?;
        let (own, peer) = self.both(pair).await?;
        if request.get_ref().token != token(&own, &peer) {
            return Err(Status::aborted(
                "a configuration has changed since it was shown; compare again",
            ));
        }
        let differing = differences(&own, &peer);
        let programs = differing.iter().map(|one| &one.path).find(|path| is_roots_program(path));
        if let Some(path) = programs {
            // The other node's root helper would not take it.
            return Err(Status::permission_denied(format!(
                "{path} names what root runs, and no broker gives that to another: set it by hand on {} (vsm-config), then push again",
                pair.peer
            )));
        }
        if differing.iter().any(|one| one.path.starts_with("/vsmserver/HA/")) {
            let files = self.reloader.read().await?;
            let stands = tokio::task::spawn_blocking(move || open::could_be_on(&files)).await;
            let stands = stands.map_err(|error| Status::internal(error.to_string()))?;
            stands.map_err(|why| {
                Status::failed_precondition(format!(
                    "by this node's files it would be no node of the pair: {why}. Pushed, they would stop the service of both nodes when \
                     they restart. Mend them here, or change each node by hand"
                ))
            })?;
        }
        // What the other node is given is to be in force here too.
        self.reloader.reload(&actor).await?;
        let (mut set, mut drop) = (BTreeMap::new(), Vec::new());
        for pb::Difference { path, own, .. } in differing {
            match own {
                Some(value) => std::mem::drop(set.insert(path, value)),
                None => drop.push(path),
            }
        }
        let adopt = pb::AdoptRequest { set, drop, expected: messages(peer) };
        let mut client = ConfigurationClient::new(pair.channel.clone());
        let adopted = within(pair, client.adopt(caller::forwarded_for(adopt, &actor))).await?;
        Ok(Response::new(pb::PushResponse { changes: adopted.changes }))
    }

    async fn parameters(
        &self,
        _: Request<pb::ParametersRequest>,
    ) -> Result<Response<pb::ParametersResponse>, Status> {
        let parameters = messages(self.reloader.shared().await?);
        Ok(Response::new(pb::ParametersResponse { parameters }))
    }

    async fn adopt(
        &self,
        request: Request<pb::AdoptRequest>,
    ) -> Result<Response<pb::AdoptResponse>, Status> {
        let actor = caller::admin(&self.edge, &request).await;
        let pb::AdoptRequest { set, drop, expected } = request.into_inner();
        if let Some(own) = set.keys().chain(&drop).find(|path| vsm_config::is_nodes_own(path)) {
            return Err(Status::invalid_argument(format!(
                "{own} is a parameter of each node's own"
            )));
        }
        let expected = expected.into_iter().map(|(path, value)| (path, parts(value))).collect();
        // Not in the caller's task: what was begun is done.
        let reloader = Arc::clone(&self.reloader);
        let task = self
            .edge
            .process
            .tasks
            .spawn(async move { reloader.adopt(set, drop, &expected, &actor).await });
        let adopted = task.await.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(pb::AdoptResponse { changes: changes(adopted?) }))
    }
}
