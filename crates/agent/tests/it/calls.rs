//! What a broker asks, with the answers unpacked.

use tonic::transport::Channel;
use vsm_proto::{
    agent::v1::{
        StartRefused, StartRequest, StartResponse, TerminateRequest, VerifyRequest,
        agent_client::AgentClient, start_response, terminate_response, verify_response,
    },
    session::v1::{Ended, Epoch, Fence, LiveSession, Session, SessionState, StartParams},
};

use crate::lab::LINEAGE;

/// A session id that is not used elsewhere.
pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

pub(crate) fn fence(counter: u64) -> Option<Fence> {
    let epoch = Some(Epoch { nonce: 0, counter, node: "b1".to_owned() });
    Some(Fence { epoch, incarnation: 1, lineage: LINEAGE.to_owned() })
}

pub(crate) fn request(id: &str, user: &str) -> StartRequest {
    let session = Session {
        id: id.to_owned(),
        user: user.to_owned(),
        agent: "agent1".to_owned(),
        display: 0,
        state: SessionState::Starting.into(),
        request_id: new_id(),
        params: Some(StartParams { language: "POSIX".into(), ..StartParams::default() }),
        created_unix_ms: 1,
    };
    StartRequest { fence: fence(1), session: Some(session), limits: None, resources: None }
}

pub(crate) type Client = AgentClient<Channel>;

pub(crate) async fn start(client: &mut Client, request: StartRequest) -> start_response::Result {
    let StartResponse { result } = client.start(request).await.unwrap().into_inner();
    result.unwrap()
}

pub(crate) async fn started(client: &mut Client, id: &str, user: &str) -> Session {
    match start(client, request(id, user)).await {
        start_response::Result::Started(session) => session,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn refused(client: &mut Client, id: &str, user: &str) -> StartRefused {
    match start(client, request(id, user)).await {
        start_response::Result::Refused(refused) => refused,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn verify(client: &mut Client, id: &str) -> Result<LiveSession, Ended> {
    let answer = client
        .verify(VerifyRequest { id: id.to_owned(), client: None, standing: false, fence: None })
        .await
        .unwrap()
        .into_inner();
    match answer.result.unwrap() {
        verify_response::Result::Alive(live) => Ok(live),
        verify_response::Result::Gone(ended) => Err(ended),
    }
}

pub(crate) async fn terminate(client: &mut Client, id: &str) -> Ended {
    let request = TerminateRequest { fence: fence(1), id: id.to_owned() };
    match client.terminate(request).await.unwrap().into_inner().result.unwrap() {
        terminate_response::Result::Ended(ended) => ended,
        terminate_response::Result::Fenced(fenced) => panic!("{fenced:?}"),
    }
}
