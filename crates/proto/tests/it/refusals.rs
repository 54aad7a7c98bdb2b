//! Messages that can be read and make no sense: each is refused by the name of its field.

use vsm_core::{
    Change, Epoch, Lsn,
    replica::{Entry, Image, PeerMsg, Supply, Window, WitnessMsg, WitnessReply},
};
use vsm_proto::{convert::Invalid, sync::v1 as pb};

fn epoch(counter: u64) -> Epoch {
    Epoch { nonce: 0, counter, node: "a".parse().unwrap() }
}

fn lsn(counter: u64, seq: u64) -> Lsn {
    Lsn { epoch: epoch(counter), seq }
}

fn list(positions: &[(u64, u64)]) -> Vec<Entry> {
    let entry = |(counter, seq): &(u64, u64)| Entry {
        lsn: lsn(*counter, *seq),
        change: Change::Began { pair: true },
    };
    positions.iter().map(entry).collect()
}

/// Entries that a node of reign 5 says to follow 3 of reign 2.
fn append(positions: &[(u64, u64)]) -> Result<PeerMsg, Invalid> {
    let entries = list(positions);
    pb::PeerMessage::from(&PeerMsg::Append {
        epoch: epoch(5),
        prev: lsn(2, 3),
        entries,
        commit: 3,
        round: 0,
    })
    .try_into()
}

fn why(result: Result<PeerMsg, Invalid>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn entries_follow_each_other_and_what_they_are_said_to_follow() {
    assert!(append(&[(2, 4), (5, 5)]).is_ok());
    assert!(why(append(&[(2, 5)])).contains("2@a/5 does not follow 2@a/3"), "a gap");
    assert!(why(append(&[(2, 4), (2, 4)])).contains("does not follow"), "a duplicate");
    assert!(why(append(&[(2, 5), (2, 4)])).contains("does not follow"), "out of order");
    assert!(why(append(&[(2, 4), (1, 5)])).contains("does not follow"), "an older reign");
}

#[test]
fn no_entry_is_of_a_later_reign_than_its_message() {
    assert!(why(append(&[(6, 4)])).contains("6@a/4 is of a reign above 5@a"));
    let image = Image { at: lsn(6, 3), rows: Vec::new(), history: Vec::new(), entries: Vec::new() };
    let snapshot = PeerMsg::Snapshot { epoch: epoch(5), image: image.clone() };
    assert!(why(pb::PeerMessage::from(&snapshot).try_into()).contains("is of a reign above 5@a"));
    let entries = Supply::Entries { prev: lsn(2, 3), entries: list(&[(6, 4)]) };
    for supply in [entries, Supply::Image(image)] {
        let holds = vsm_core::replica::Holds {
            joined: true,
            paired: true,
            last: lsn(2, 3),
            history: Vec::new(),
            reach: 0,
        };
        let promise = PeerMsg::Promise { epoch: epoch(5), holds, supply };
        assert!(why(pb::PeerMessage::from(&promise).try_into()).contains("above 5@a"));
    }
}

#[test]
fn no_number_is_so_high_that_nothing_could_follow() {
    let at =
        |seq| Image { at: lsn(2, seq), rows: Vec::new(), history: Vec::new(), entries: Vec::new() };
    let snapshot = |seq| PeerMsg::Snapshot { epoch: epoch(5), image: at(seq) };
    let parse = |message: &PeerMsg| PeerMsg::try_from(pb::PeerMessage::from(message));
    assert!(parse(&snapshot(1 << 40)).is_ok());
    for message in [
        snapshot(u64::MAX),
        PeerMsg::Ack { epoch: epoch(5), last: u64::MAX, round: 0 },
        PeerMsg::Append {
            epoch: epoch(5),
            prev: lsn(2, 3),
            entries: Vec::new(),
            commit: u64::MAX,
            round: 0,
        },
        PeerMsg::Append {
            epoch: epoch(5),
            prev: lsn(2, u64::MAX),
            entries: Vec::new(),
            commit: 3,
            round: 0,
        },
    ] {
        assert!(why(parse(&message)).contains("is above every number"), "{message:?}");
    }
}

#[test]
fn what_is_missing_or_out_of_order_is_named() {
    let kind = |kind| PeerMsg::try_from(pb::PeerMessage { kind });
    assert!(
        why(kind(None)).contains("field message.kind: is missing"),
        "a kind of a later version"
    );
    use pb::peer_message::Kind;
    assert!(why(kind(Some(Kind::Append(pb::Append::default())))).contains("field epoch"));
    let reign = |counter, first_seq| pb::Reign { epoch: Some((&epoch(counter)).into()), first_seq };
    let claim = |history| {
        let holds = pb::Holds { last: Some((&lsn(2, 3)).into()), history, ..pb::Holds::default() };
        kind(Some(Kind::Claim(pb::Claim { epoch: Some((&epoch(5)).into()), holds: Some(holds) })))
    };
    assert!(claim(vec![reign(1, 1), reign(2, 3)]).is_ok());
    assert!(why(claim(vec![reign(2, 1), reign(1, 3)])).contains("history: is not in order"));
    assert!(why(claim(vec![reign(1, 3), reign(2, 3)])).contains("history: is not in order"));
    assert!(why(claim(vec![reign(1, 1); 2000])).contains("history: has more than 1024"));
}

#[test]
fn no_window_is_of_a_later_reign_than_its_message() {
    let window = Window {
        base: lsn(2, 3),
        last: lsn(6, 9),
        rows: std::collections::BTreeMap::new(),
        history: Vec::new(),
    };
    let accept =
        WitnessMsg::Accept { epoch: epoch(5), prev: None, window: window.clone(), hold_ms: 0 };
    let asked = WitnessMsg::try_from(pb::WitnessRequest::from(&accept));
    assert!(asked.unwrap_err().to_string().contains("accept.window: 6@a/9 is of a reign above"));
    let promised = WitnessReply::Promised { epoch: epoch(5), window: Some(window) };
    let told = WitnessReply::try_from(pb::WitnessResponse::from(&promised));
    assert!(told.unwrap_err().to_string().contains("promised.window: 6@a/9 is of a reign above"));
}
