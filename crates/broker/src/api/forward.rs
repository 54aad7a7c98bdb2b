//! Where a call is served: here, or on the active node, to which a standby forwards. So connecting to either node
//! works. All that a standby passes on goes through this file.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Status, transport::Channel};
use vsm_config::RoleSource;
use vsm_core::{Event, replica::Standing};
use vsm_daemon::clock;
use vsm_proto::{
    admin::v1::{RecordEventRequest, admin_client::AdminClient},
    broker::v1::broker_client::BrokerClient,
};
use vsm_sync::peer::Stream;

use crate::{
    api::{Edge, caller},
    error::Refusal,
    journal::{Elsewhere, NotRecorded},
    pair::{Apart, Ha, Pair},
    users::Identity,
};

/// How long a call waits for somebody to become active.
const WAIT: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the other node may take to record an event.
const RECORD_MAX: Duration = Duration::from_secs(5);

/// Where a call is to be served.
pub(crate) enum Place {
    Here,
    There(Channel),
}

/// Where a call is to be served now; waits, for a bounded time, while nobody is active.
pub(crate) async fn find<T>(edge: &Arc<Edge>, request: &Request<T>) -> Result<Place, Refusal> {
    let forwarded = caller::is_forwarded(request);
    let pair = match &edge.side.ha {
        Ha::Off { .. } => return Ok(Place::Here),
        Ha::Apart(Apart { other: Some(other), .. }) if !forwarded => {
            return Ok(Place::There(other.clone()));
        }
        Ha::Apart(apart) => return Err(Refusal::Standby(apart.why.clone())),
        Ha::On(pair) => pair,
    };
    let until = clock::now() + WAIT;
    loop {
        if edge.table.is_serving() {
            return Ok(Place::Here);
        }
        if !forwarded && peer_serves(edge, pair) {
            return Ok(Place::There(pair.channel.clone()));
        }
        if pair.source == RoleSource::Request && !forwarded {
            // Users come here: this node is to be active, if nobody is.
            let _ = edge.table.want(true).await;
        }
        if clock::now() >= until || edge.process.stop.is_cancelled() {
            return Err(Refusal::Standby(why(edge, pair)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A user's call.
pub(crate) enum UserCall<T> {
    /// It is served here.
    Here(Here<T>),
    /// The active node serves it.
    There(BrokerClient<Channel>, Request<T>),
}

/// A user's call that is served here.
pub(crate) struct Here<T> {
    pub(crate) who: Arc<Identity>,
    pub(crate) message: T,
    /// Why nothing can be changed, where no node is active; none = this one is.
    pub(crate) standby: Option<Refusal>,
}

/// Takes a user's call: finds who makes it and where it is served.
pub(crate) async fn user<T>(edge: &Arc<Edge>, request: Request<T>) -> Result<UserCall<T>, Status> {
    let (uid, who) = caller::caller(edge, &request).await?;
    let place = find(edge, &request).await;
    let message = request.into_inner();
    Ok(match place {
        Ok(Place::There(channel)) => {
            let request = caller::forwarded(message, Some((uid, &who)));
            UserCall::There(BrokerClient::new(channel), request)
        }
        Ok(Place::Here) => UserCall::Here(Here { who, message, standby: None }),
        // Else it would say that they have none.
        Err(refusal) if !edge.table.is_known() => return Err(refusal.into()),
        Err(refusal) => UserCall::Here(Here { who, message, standby: Some(refusal) }),
    })
}

/// The trail of the other node, which records what a standby notes.
#[derive(Debug)]
pub(crate) struct OtherTrail(pub(crate) Channel);

#[tonic::async_trait]
impl Elsewhere for OtherTrail {
    async fn record(&self, event: &Event) -> Result<(), NotRecorded> {
        let mut other = AdminClient::new(self.0.clone());
        let mut request = Request::new(RecordEventRequest { event: Some(event.into()) });
        request.set_timeout(RECORD_MAX);
        let told = tokio::time::timeout(RECORD_MAX, other.record_event(request)).await;
        let told = told.map_err(|_| NotRecorded::NoAnswer)?;
        told.map(|_| ()).map_err(|status| NotRecorded::There(status.message().to_owned()))
    }
}

fn peer_serves(edge: &Edge, pair: &Pair) -> bool {
    let state = edge.table.state();
    state.replica.link
        && matches!(&state.replica.standing, Standing::Standby { leader: Some(epoch) } if epoch.node == pair.peer)
}

/// Why what this node has may be old, for who is shown it while no node that could be asked serves.
pub(crate) fn stale(edge: &Edge) -> String {
    let node = &edge.process.node;
    let (since, why) = match &edge.side.ha {
        Ha::On(pair) => match pair.stream.state() {
            Stream::Closed { why, since } => {
                (Some(since), format!("{} cannot be reached: {why}", pair.peer))
            }
            Stream::Open(_) => (None, why(edge, pair)),
        },
        Ha::Apart(apart) => (None, apart.why.clone()),
        Ha::Off { .. } => (None, "it does not serve".to_owned()),
    };
    let since = since.map_or_else(String::new, |since| format!(" since {}", clock::shown(since)));
    if !edge.table.is_known() {
        return vsm_core::printable(&format!(
            "{node} does not know of any session: since it started no active node has confirmed its copy of the table ({why})"
        ));
    }
    vsm_core::printable(&format!(
        "this is the copy that {node} has, which follows no active node{since} and may be old ({why})"
    ))
}

fn why(edge: &Edge, pair: &Pair) -> String {
    let state = edge.table.state();
    let peer = match pair.stream.state() {
        Stream::Open(_) => format!("{} is not active either", pair.peer),
        Stream::Closed { why, .. } => format!("{} cannot be reached: {why}", pair.peer),
    };
    match &state.replica.standing {
        Standing::Active { .. } => "it is taking over".to_owned(),
        Standing::Claiming(_) => format!("it asks for votes; {peer}"),
        Standing::Standby { .. } => peer,
    }
}
