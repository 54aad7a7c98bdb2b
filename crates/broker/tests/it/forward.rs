//! A call that the other broker forwards is served in the name of the user whom it names, and nobody else may name one;
//! while nobody is active a call waits, and not for ever.

use tonic::{
    Code, Request, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use vsm_proto::{
    admin::v1::{ListAgentsRequest, admin_client::AdminClient},
    broker::v1::{EndSessionRequest, ListSessionsRequest, broker_client::BrokerClient},
};

use super::lab::{LONG, Lab, Node};

/// A request as a broker forwards it.
pub(crate) fn forwarded<T>(message: T, who: Option<(u32, &str)>) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("vsm-forwarded", MetadataValue::from_static("1"));
    if let Some((uid, name)) = who {
        metadata.insert("vsm-uid", MetadataValue::from(uid));
        metadata.insert("vsm-user", name.parse().unwrap());
    }
    request
}

/// The ids that the user is told.
async fn list(
    channel: Channel,
    request: Request<ListSessionsRequest>,
) -> Result<Vec<String>, Status> {
    let call = async { BrokerClient::new(channel).list_sessions(request).await };
    let answer = tokio::time::timeout(LONG, call).await.expect("an answer")?;
    let id = |view: vsm_proto::broker::v1::SessionView| view.session.unwrap().id;
    Ok(answer.into_inner().sessions.into_iter().map(id).collect())
}

async fn end(channel: Channel, request: Request<EndSessionRequest>) -> Status {
    let call = async { BrokerClient::new(channel).end_session(request).await };
    tokio::time::timeout(LONG, call).await.expect("an answer").unwrap_err()
}

pub(crate) fn local(node: &Node) -> Channel {
    Endpoint::from_shared(format!("unix://{}", node.socket.display())).unwrap().connect_lazy()
}

/// The kernel says who is at the standby's socket, whatever the caller says, and the standby says it to the active
/// node.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_forwards_in_the_name_of_its_caller() {
    let lab = Lab::with_b_active().await;
    let id = lab.b.session_of_root().await.to_string();
    let told = list(local(&lab.a), Request::new(ListSessionsRequest::default())).await.unwrap();
    assert_eq!(told, [id.as_str()]);
    let pretends = forwarded(ListSessionsRequest::default(), Some((65534, "nobody")));
    assert_eq!(list(local(&lab.b), pretends).await.unwrap(), [id.as_str()]);
    let none = EndSessionRequest { id: uuid::Uuid::nil().to_string() };
    let status = end(local(&lab.a), Request::new(none)).await;
    assert_eq!(status.code(), Code::NotFound, "the active node's answer comes back: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_call_names_a_user_whom_both_nodes_know() {
    let lab = Lab::with_b_active().await;
    let id = lab.b.session_of_root().await.to_string();
    let ask = |who| {
        let channel = lab.call(&lab.b, "broker", "a");
        list(channel, forwarded(ListSessionsRequest::default(), who))
    };
    assert_eq!(ask(Some((0, "root"))).await.unwrap(), [id.as_str()]);
    let wrong = ask(Some((0, "alice"))).await.unwrap_err();
    assert_eq!(wrong.code(), Code::PermissionDenied);
    assert!(
        wrong.message().contains("uid 0 is alice on the other broker and root here"),
        "{wrong}"
    );
    let unknown = ask(Some((4_000_000_000, "root"))).await.unwrap_err();
    assert_eq!(unknown.code(), Code::PermissionDenied);
    assert!(unknown.message().contains("uid 4000000000 has no login name"), "{unknown}");
    assert_eq!(ask(None).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_other_broker_may_forward() {
    let lab = Lab::with_b_active().await;
    lab.b.session_of_root().await;
    for (role, name, why) in [
        ("broker", "c", "c is not the other broker of this pair"),
        ("broker", "b", "b is not the other broker of this pair"),
        ("agent", "a", "the certificate of a is not that of a broker"),
        ("admin", "a", "the certificate of a is not that of a broker"),
    ] {
        let request = forwarded(ListSessionsRequest::default(), Some((0, "root")));
        let refused = list(lab.call(&lab.b, role, name), request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{role} {name}");
        assert!(refused.message().contains(why), "{refused}");
        let admin = AdminClient::new(lab.call(&lab.b, role, name))
            .list_agents(forwarded(ListAgentsRequest::default(), None))
            .await;
        assert_eq!(admin.unwrap_err().code(), Code::PermissionDenied, "{role} {name}");
    }
    let mut right = AdminClient::new(lab.call(&lab.b, "broker", "a"));
    right.list_agents(forwarded(ListAgentsRequest::default(), None)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_for_an_active_node_and_not_for_ever() {
    let lab = Lab::new().await;
    let none = || EndSessionRequest { id: uuid::Uuid::nil().to_string() };
    let refused = end(local(&lab.a), Request::new(none())).await;
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("this broker is not active"), "{refused}");
    assert!(refused.message().contains("b cannot be reached"), "{refused}");
    // It has no table: it does not say that the user has no session.
    let unknown = list(local(&lab.a), Request::new(ListSessionsRequest::default())).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unavailable);
    // One that was forwarded is not sent back, even where the sender is active.
    lab.join().await;
    lab.b.serving().await;
    let who = Some((0, "root"));
    let refused = end(lab.call(&lab.a, "broker", "b"), forwarded(none(), who)).await;
    assert_eq!(refused.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_is_served_once_somebody_is_active() {
    let lab = Lab::new().await;
    let none = EndSessionRequest { id: uuid::Uuid::nil().to_string() };
    let waits = tokio::spawn(end(local(&lab.a), Request::new(none)));
    lab.join().await;
    lab.a.serving().await;
    let status = waits.await.unwrap();
    assert_eq!(status.code(), Code::NotFound, "it was served: {status}");
}
