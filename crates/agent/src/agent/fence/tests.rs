//! What an agent promised, through restarts, damage, lost disks and copies.

use vsm_core::Incarnation;

use super::*;

fn fence(counter: u64, lineage: u128) -> Fence {
    Fence {
        epoch: Epoch { nonce: 0, counter, node: "a".parse().unwrap() },
        incarnation: Incarnation(1),
        lineage: LineageId::new(uuid::Uuid::from_u128(lineage)),
    }
}

#[tokio::test]
async fn a_lower_epoch_is_refused_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    assert!(keeper.admit(&fence(5, 1), || false).await.is_ok());
    assert!(keeper.admit(&fence(5, 1), || false).await.is_ok());
    let again = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    let denied = again.admit(&fence(4, 1), || true).await;
    assert!(matches!(denied, Err(Denied::Fenced(epoch)) if epoch.counter == 5));
    assert!(again.admit(&fence(6, 1), || false).await.is_ok());
    assert_eq!(again.promise().await.epoch.unwrap().counter, 6);
}

/// One call cannot have this host wait for an epoch that no pair ever comes to, whichever call it is.
#[tokio::test]
async fn an_epoch_beyond_all_reason_is_not_promised_to() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    let refused =
        |denied: Result<Permit<'_>, Denied>| matches!(denied, Err(Denied::BeyondReason { .. }));
    assert!(refused(keeper.admit(&fence(u64::MAX, 1), || true).await));
    greet(&keeper, 4).await;
    assert!(keeper.ask_message(clear(u64::MAX, None), || true).await.is_err());
    assert!(keeper.admit(&fence(5, 1), || false).await.is_ok());
    for counter in [u64::MAX, 5 + JUMP_MAX + 1] {
        assert!(refused(keeper.admit(&fence(counter, 1), || false).await), "{counter}");
        assert!(keeper.check(&fence(counter, 1)).await.is_err());
        assert!(keeper.ask_message(clear(counter, None), || false).await.is_err());
    }
    assert_eq!(keeper.promise().await.epoch.unwrap().counter, 5);
    assert!(keeper.admit(&fence(5 + JUMP_MAX, 1), || false).await.is_ok());
}

#[tokio::test]
async fn another_lineage_is_served_only_when_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    assert!(keeper.admit(&fence(5, 1), || false).await.is_ok());
    assert!(matches!(keeper.admit(&fence(9, 2), || false).await, Err(Denied::OtherLineage { .. })));
    assert!(keeper.admit(&fence(1, 2), || true).await.is_ok());
    assert!(matches!(keeper.admit(&fence(5, 1), || false).await, Err(Denied::OtherLineage { .. })));
}

#[tokio::test]
async fn a_damaged_promise_serves_nobody_until_someone_looked() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    assert!(keeper.admit(&fence(5, 1), || false).await.is_ok());
    let mut bytes = fs::read(dir.path().join(FILE)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(dir.path().join(FILE), bytes).unwrap();
    for _ in 0..2 {
        let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
        assert!(matches!(keeper.admit(&fence(9, 1), || true).await, Err(Denied::Damaged(_))));
    }
    fs::remove_file(dir.path().join(DAMAGED)).unwrap();
    assert!(
        FenceKeeper::load(dir.path(), "agent1", Troubles::default())
            .unwrap()
            .admit(&fence(9, 1), || true)
            .await
            .is_ok()
    );
}

/// A crash of a file system can leave a file of no length, which no agent has ever written.
#[tokio::test]
async fn an_empty_promise_is_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), "").unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    assert!(matches!(keeper.admit(&fence(9, 1), || true).await, Err(Denied::Damaged(_))));
    assert!(dir.path().join(DAMAGED).exists());
}

fn ask(counter: u64, kind: vsm_proto::sync::v1::witness_request::Kind) -> WitnessRequest {
    let epoch = Epoch { nonce: 0, counter, node: "a".parse().unwrap() };
    let lineage = LineageId::new(uuid::Uuid::from_u128(1)).to_string();
    WitnessRequest { lineage, epoch: Some((&epoch).into()), kind: Some(kind) }
}

fn position(counter: u64, seq: u64) -> vsm_proto::sync::v1::Lsn {
    let epoch = Epoch { nonce: 0, counter, node: "a".parse().unwrap() };
    (&vsm_core::Lsn { epoch, seq }).into()
}

fn clear(counter: u64, loss: Option<u64>) -> WitnessRequest {
    use vsm_proto::sync::v1::{WitnessClear, witness_request::Kind};
    ask(counter, Kind::Clear(WitnessClear { at: Some(position(counter, 1)), loss, life: None }))
}

fn claim(counter: u64) -> WitnessRequest {
    use vsm_proto::sync::v1::{WitnessClaim, witness_request::Kind};
    ask(counter, Kind::Claim(WitnessClaim { life: None }))
}

fn accept(counter: u64, prev: Option<u64>, seq: u64) -> WitnessRequest {
    use vsm_proto::sync::v1::{Window, WitnessAccept, witness_request::Kind};
    let window = Window {
        base: Some(position(counter, 1)),
        last: Some(position(counter, seq)),
        ..Window::default()
    };
    let prev = prev.map(|seq| position(counter, seq));
    ask(counter, Kind::Accept(WitnessAccept { prev, window: Some(window), hold_ms: 0 }))
}

/// What the active node does when both brokers are in sync.
async fn greet(keeper: &FenceKeeper, counter: u64) {
    let mute = reply(keeper.ask_message(clear(counter, None), || true).await.unwrap());
    let WitnessReply::Mute { loss } = mute else { panic!("{mute:?}") };
    let cleared = reply(keeper.ask_message(clear(counter, Some(loss)), || true).await.unwrap());
    assert!(matches!(cleared, WitnessReply::Cleared { .. }), "{cleared:?}");
}

fn reply(response: WitnessResponse) -> WitnessReply {
    response.try_into().unwrap()
}

/// P1, P2: what a witness said is so after a restart too; and a new one does not vote before the pair greeted it.
#[tokio::test]
async fn a_witness_votes_when_the_pair_has_greeted_it_and_remembers() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    let refused = keeper.ask_message(claim(3), || true).await.unwrap();
    assert!(matches!(reply(refused), WitnessReply::Mute { .. }));
    greet(&keeper, 3).await;
    for message in [claim(4), accept(4, None, 5), accept(4, Some(5), 6)] {
        keeper.ask_message(message, || true).await.unwrap();
    }
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    let stale = keeper.ask_message(claim(3), || true).await.unwrap();
    assert!(matches!(reply(stale), WitnessReply::Refused { promised } if promised.counter == 4));
    let denied = keeper.admit(&fence(3, 1), || true).await;
    assert!(matches!(denied, Err(Denied::Fenced(epoch)) if epoch.counter == 4));
    let voted = reply(keeper.ask_message(claim(5), || true).await.unwrap());
    let WitnessReply::Promised { window: Some(window), .. } = voted else {
        panic!("{voted:?}");
    };
    assert_eq!(window.last.seq, 6);
    let stranger = WitnessRequest {
        lineage: LineageId::new(uuid::Uuid::from_u128(9)).to_string(),
        ..claim(9)
    };
    assert!(keeper.ask_message(stranger, || false).await.is_err(), "another table's broker");
}

#[tokio::test]
async fn a_half_record_at_the_end_is_forgotten_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    greet(&keeper, 3).await;
    keeper.ask_message(claim(4), || true).await.unwrap();
    let path = dir.path().join(FILE);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    assert_eq!(keeper.promise().await.epoch.unwrap().counter, 3);
    keeper.ask_message(claim(5), || true).await.unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    assert_eq!(keeper.promise().await.epoch.unwrap().counter, 5);
}

/// Case 16 of the fault table: a restored disk promised less than this host did.
#[tokio::test]
async fn a_disk_that_went_back_in_time_is_set_apart_until_the_pair_is_in_sync() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    greet(&keeper, 3).await;
    let old = fs::read(dir.path().join(FILE)).unwrap();
    let told = keeper.ask_message(claim(7), || true).await.unwrap();
    fs::write(dir.path().join(FILE), old).unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    let lineage = LineageId::new(uuid::Uuid::from_u128(1));
    let position = keeper.promise().await.position;
    let (id, told) = (told.journal_id, told.journal);
    assert!(!keeper.quarantine(lineage, id, position).await.unwrap(), "nothing is missing");
    assert!(!keeper.quarantine(lineage, id ^ 1, told).await.unwrap(), "another journal's");
    assert!(keeper.quarantine(lineage, id, told).await.unwrap());
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    let mute = reply(keeper.ask_message(claim(8), || true).await.unwrap());
    assert!(matches!(mute, WitnessReply::Mute { .. }), "{mute:?}");
    assert!(matches!(keeper.admit(&fence(9, 1), || true).await, Err(Denied::Damaged(_))));
    greet(&keeper, 9).await;
    assert!(matches!(keeper.admit(&fence(8, 1), || true).await, Err(Denied::Fenced(_))));
    let voted = keeper.ask_message(claim(10), || true).await.unwrap();
    assert!(matches!(reply(voted), WitnessReply::Promised { window: None, .. }));
}

/// A4: what was known of a lost journal says nothing of the one that was begun after it.
#[tokio::test]
async fn a_host_that_lost_its_disk_acts_at_once_and_votes_when_it_was_greeted() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    greet(&keeper, 3).await;
    let before = keeper.ask_message(claim(7), || true).await.unwrap();
    fs::remove_file(dir.path().join(FILE)).unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    let lineage = LineageId::new(uuid::Uuid::from_u128(1));
    assert!(keeper.admit(&fence(8, 1), || true).await.is_ok());
    let known = (before.journal_id, before.journal);
    assert!(!keeper.quarantine(lineage, known.0, known.1).await.unwrap());
    assert_ne!(keeper.promise().await.journal, known.0);
    greet(&keeper, 9).await;
    let voted = reply(keeper.ask_message(claim(10), || true).await.unwrap());
    assert!(matches!(voted, WitnessReply::Promised { .. }), "{voted:?}");
}

/// A7: two hosts with one disk would be one witness that votes twice.
#[tokio::test]
async fn a_copied_host_keeps_the_promise_and_gives_no_vote_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    greet(&keeper, 3).await;
    keeper.ask_message(claim(7), || true).await.unwrap();
    let journal = keeper.promise().await.journal;
    drop(keeper);
    let copy = FenceKeeper::load(dir.path(), "agent2", Troubles::default()).unwrap();
    assert_ne!(copy.promise().await.journal, journal);
    let mute = reply(copy.ask_message(claim(8), || true).await.unwrap());
    assert!(matches!(mute, WitnessReply::Mute { .. }), "{mute:?}");
    let denied = copy.admit(&fence(6, 1), || true).await;
    assert!(matches!(denied, Err(Denied::Fenced(epoch)) if epoch.counter == 7));
    greet(&copy, 8).await;
    let again = FenceKeeper::load(dir.path(), "agent2", Troubles::default()).unwrap();
    let voted = reply(again.ask_message(claim(9), || true).await.unwrap());
    assert!(matches!(voted, WitnessReply::Promised { .. }), "{voted:?}");
}

/// Whoever speaks with the brokers can have a promise set aside, and say in their name that all is well again. Nothing
/// that was promised is undone by it, nor by the name of another table.
#[tokio::test]
async fn no_word_undoes_a_promise() {
    let dir = tempfile::tempdir().unwrap();
    let load = || FenceKeeper::load(dir.path(), "agent1", Troubles::default()).unwrap();
    let keeper = load();
    assert!(keeper.admit(&fence(5, 1), || false).await.is_ok());
    let Promise { position, journal, lineage, .. } = keeper.promise().await;
    assert!(keeper.quarantine(lineage.unwrap(), journal, position + 1).await.unwrap());
    let is_fenced = |denied: Result<Permit<'_>, Denied>| matches!(denied, Err(Denied::Fenced(by)) if by.counter == 5);
    // Also after a restart in between.
    for keeper in [keeper, load()] {
        let mute = reply(keeper.ask_message(claim(9), || true).await.unwrap());
        let WitnessReply::Mute { loss } = mute else { panic!("{mute:?}") };
        let set_aside = fs::read(dir.path().join(DAMAGED)).unwrap();
        // Not for another table either, as long as this one has sessions here.
        let other = LineageId::new(uuid::Uuid::from_u128(2)).to_string();
        let other = WitnessRequest { lineage: other, ..clear(4, Some(loss)) };
        let denied = keeper.ask_message(other, || false).await;
        assert!(matches!(denied, Err(Denied::OtherLineage { .. })), "{denied:?}");
        let refused = reply(keeper.ask_message(clear(4, Some(loss)), || true).await.unwrap());
        assert!(matches!(refused, WitnessReply::Refused { .. }), "{refused:?}");
        assert!(is_fenced(keeper.admit(&fence(4, 1), || true).await));
        fs::write(dir.path().join(DAMAGED), set_aside).unwrap();
    }
    fs::remove_file(dir.path().join(DAMAGED)).unwrap();
    let keeper = load();
    assert!(keeper.admit(&fence(1, 2), || true).await.is_ok());
    assert!(is_fenced(load().admit(&fence(4, 1), || true).await));
    // It was the first table's again for that call.
    assert!(keeper.admit(&fence(1, 3), || true).await.is_ok());
    for lineage in 4..70 {
        let admitted = keeper.admit(&fence(1, lineage), || true).await.map(drop);
        let is_refused = matches!(admitted, Err(Denied::TooManyTables(_)));
        assert_eq!(is_refused, lineage as usize > FORMER_MAX + 1, "{lineage}: {admitted:?}");
    }
    assert!(is_fenced(keeper.admit(&fence(4, 1), || true).await));
    assert!(keeper.admit(&fence(6, 1), || true).await.is_ok());
}
