//! What must not come from a broker to an agent as a witness: it is refused, and what was promised is as it was.

use tonic::{Code, Status, transport::Channel};
use vsm_proto::{
    session::v1::Epoch,
    sync::v1::{
        AgentFailed, Lsn, Row, Window, WitnessAccept, WitnessClaim, WitnessClear, WitnessRequest,
        WitnessResponse, row, witness_client::WitnessClient, witness_request::Kind,
        witness_response::Kind as Answer,
    },
};

use crate::{
    calls::{new_id, started},
    lab::{LINEAGE, Lab},
};

const OTHER_LINEAGE: &str = "01890a5d-ac96-774b-bcce-000000000002";

fn epoch(counter: u64) -> Option<Epoch> {
    Some(Epoch { nonce: 0, counter, node: "b1".to_owned() })
}

fn request(counter: u64, kind: Kind) -> WitnessRequest {
    WitnessRequest { lineage: LINEAGE.to_owned(), epoch: epoch(counter), kind: Some(kind) }
}

fn claim(counter: u64) -> WitnessRequest {
    request(counter, Kind::Claim(WitnessClaim { life: None }))
}

/// Has the witness keep nothing: both brokers are in sync, and were so after this loss of it.
fn clear(counter: u64, loss: Option<u64>) -> WitnessRequest {
    request(counter, Kind::Clear(WitnessClear { at: position(counter, 1), loss, life: None }))
}

fn position(counter: u64, seq: u64) -> Option<Lsn> {
    Some(Lsn { epoch: epoch(counter), seq })
}

/// A window whose only row names an agent of so many bytes.
fn accept(counter: u64, bytes: usize) -> WitnessRequest {
    let agent = AgentFailed { agent: "a".repeat(bytes), at_unix_ms: 1 };
    let window = Window {
        base: position(counter, 1),
        last: position(counter, 2),
        rows: vec![Row { kind: Some(row::Kind::Agent(agent)) }],
        history: Vec::new(),
    };
    request(counter, Kind::Accept(WitnessAccept { prev: None, window: Some(window), hold_ms: 0 }))
}

async fn ask(
    witness: &mut WitnessClient<Channel>,
    request: WitnessRequest,
) -> Result<WitnessResponse, Status> {
    witness.ask(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_refuses_strangers_and_nonsense_and_keeps_its_promise() {
    let lab = Lab::new();
    started(&mut lab.broker().await, &new_id(), "alice").await;
    let mut witness = lab.witness("vsm://broker/b1").await;
    let new = ask(&mut witness, clear(3, None)).await.unwrap();
    let Some(Answer::Mute(mute)) = new.kind else { panic!("a new one gives no vote: {new:?}") };
    let greeted = ask(&mut witness, clear(3, Some(mute.loss))).await.unwrap();
    assert!(matches!(greeted.kind, Some(Answer::Cleared(_))), "{greeted:?}");
    for stranger in ["vsm://broker/b9", "vsm://agent/b1", "vsm://admin/b1"] {
        let refused = ask(&mut lab.witness(stranger).await, claim(9)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{stranger}");
    }
    let lineage = |lineage: &str| WitnessRequest { lineage: lineage.to_owned(), ..claim(9) };
    let seq = u64::MAX;
    let beyond =
        request(9, Kind::Clear(WitnessClear { at: position(9, seq), loss: None, life: None }));
    let nonsense = [
        (lineage("x"), Code::InvalidArgument, "lineage"),
        (lineage(OTHER_LINEAGE), Code::FailedPrecondition, "has sessions of the brokers with"),
        (WitnessRequest { epoch: None, ..claim(9) }, Code::InvalidArgument, "field epoch"),
        (WitnessRequest { kind: None, ..claim(9) }, Code::InvalidArgument, "field kind"),
        (accept(9, 0), Code::InvalidArgument, "row.agent"),
        (beyond, Code::InvalidArgument, "above every number"),
        (accept(9, 65 << 20), Code::OutOfRange, "too large"),
    ];
    for (request, code, why) in nonsense {
        let refused = ask(&mut witness, request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(why), "{refused}");
    }
    // Nothing of all this is in its journal, and it votes above what it promised before.
    let stale = ask(&mut witness, claim(2)).await.unwrap();
    assert!(
        matches!(&stale.kind, Some(Answer::Refused(by)) if by.promised == epoch(3)),
        "{stale:?}"
    );
    assert_eq!(stale.journal, greeted.journal);
    let voted = ask(&mut witness, claim(4)).await.unwrap();
    assert!(matches!(&voted.kind, Some(Answer::Promised(it)) if it.window.is_none()), "{voted:?}");
    assert_eq!(voted.journal, greeted.journal + 1);
}
