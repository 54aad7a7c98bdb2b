//! Each call that changes or opens something bears a right: an epoch that is the caller's own, and not below what was
//! promised. The certificate of the other broker alone opens nothing.

use tonic::{Code, Status};
use vsm_proto::{
    agent::v1::{
        AcceptKeyRequest, AllowShadowRequest, CancelStartRequest, DisconnectViewerRequest,
        ExtendRequest, NotifyRequest, SessionLogRequest, SetLimitsRequest, StartRequest,
        TerminateRequest, VerifyRequest,
    },
    session::v1::{Epoch, Fence, StartParams},
    sync::v1::{QuarantineRequest, WitnessClaim, WitnessRequest, witness_request::Kind},
};

use crate::{
    calls::{Client, fence, new_id, request, started, verify},
    lab::{LINEAGE, Lab},
};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

fn of(node: &str, counter: u64) -> Option<Fence> {
    Some(Fence {
        epoch: Some(Epoch { nonce: 0, counter, node: node.to_owned() }),
        ..fence(1).unwrap()
    })
}

/// Every call with this right; what it is called, and what is said.
async fn all(broker: &mut Client, id: &str, fence: &Option<Fence>) -> Vec<(&'static str, Status)> {
    let (id, fence) = (|| id.to_owned(), || fence.clone());
    let mut refused = Vec::new();
    macro_rules! call {
        ($($name:literal $call:ident $request:expr;)*) => {$(
            match broker.$call($request).await {
                Ok(answer) => panic!("{}: {answer:?}", $name),
                Err(status) => refused.push(($name, status)),
            }
        )*};
    }
    let key = || KEY.to_owned();
    call! {
        "key" accept_key AcceptKeyRequest {
            id: id(), user: "alice".into(), public_key: key(), valid_ms: 1000, fence: fence(),
        };
        "shadow" allow_shadow AllowShadowRequest {
            id: id(), by: "bob".into(), control: false, public_key: key(), valid_ms: 1000, fence: fence(),
        };
        "disconnect" disconnect_viewer DisconnectViewerRequest { id: id(), reason: "x".into(), fence: fence() };
        "extend" extend ExtendRequest { id: id(), fence: fence() };
        "notify" notify NotifyRequest { ids: vec![id()], text: "x".into(), fence: fence() };
        "log" session_log SessionLogRequest { id: id(), bytes: 10, fence: fence() };
        "limits" set_limits SetLimitsRequest { sessions: Vec::new(), fence: fence() };
        "end" terminate TerminateRequest { id: id(), fence: fence() };
        "cancel" cancel_start CancelStartRequest { id: id(), fence: fence() };
        "start" start StartRequest { fence: fence(), ..request(&new_id(), "bob") };
    }
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_brokers_certificate_opens_and_changes_nothing() {
    let lab = Lab::new();
    let mut active = lab.broker().await;
    let id = new_id();
    started(&mut active, &id, "alice").await;
    let mut standby = lab.client("vsm://broker/localhost").await;
    // Without a right, by that of the other one, and by one that no pair ever comes to.
    for (right, code) in [
        (None, Code::InvalidArgument),
        (of("b1", 1), Code::PermissionDenied),
        (of("b1", 2), Code::PermissionDenied),
        (of("evil", 2), Code::PermissionDenied),
        (of("localhost", u64::MAX), Code::FailedPrecondition),
    ] {
        for (what, status) in all(&mut standby, &id, &right).await {
            assert_eq!(status.code(), code, "{what} by {right:?}: {status}");
        }
    }
    let epoch = Some(Epoch { nonce: 0, counter: 2, node: "evil".into() });
    let kind = Some(Kind::Claim(WitnessClaim { life: None }));
    let claim = WitnessRequest { lineage: LINEAGE.into(), epoch, kind };
    let mut witness = lab.witness("vsm://broker/localhost").await;
    assert_eq!(witness.ask(claim).await.unwrap_err().code(), Code::PermissionDenied);
    for fence in [None, of("b1", 1), of("localhost", u64::MAX)] {
        let apart =
            QuarantineRequest { lineage: LINEAGE.into(), journal: u64::MAX, journal_id: 0, fence };
        witness.quarantine(apart).await.unwrap_err();
    }
    // To ask whether it lives is everybody's, and changes nothing.
    let client = Some(StartParams { client_name: "evil".into(), ..StartParams::default() });
    let ask = VerifyRequest { id: id.clone(), client, standing: false, fence: of("b1", 1) };
    standby.verify(ask).await.unwrap();
    assert_eq!(verify(&mut active, &id).await.unwrap().last_client, "");
    let accept = AcceptKeyRequest {
        id: id.clone(),
        user: "alice".into(),
        public_key: KEY.into(),
        valid_ms: 1000,
        fence: fence(1),
    };
    active.accept_key(accept.clone()).await.unwrap();

    // One that takes over acts, and from then on the one before does not.
    let limits = SetLimitsRequest { sessions: Vec::new(), fence: of("localhost", 2) };
    standby.set_limits(limits).await.unwrap();
    let replaced = active.accept_key(accept).await.unwrap_err();
    assert_eq!(replaced.code(), Code::Aborted, "{replaced}");
    assert!(replaced.message().contains("2@localhost"), "{replaced}");
}
