//! What must not come from a peer: each is refused, or handled as the rules say; it is counted and named, the table is
//! as it was, and the right peer is let in afterwards.

use std::sync::atomic::Ordering;

use tonic::Code;
use vsm_core::{
    Change, Epoch, LineageId, Lsn,
    replica::{Entry, Holds, PeerMsg, Status, Supply},
};
use vsm_daemon::tls::Tls;
use vsm_proto::sync::v1::{
    Introduction, ParameterDigest, Part, PeerFrame, PeerMessage, Probe, peer_frame::Kind,
};
use vsm_sync::{
    EPOCH_JUMP_MAX,
    peer::{FRAME_MAX, Stream},
};

use super::{
    node::{Authority, LONG, MESSAGE_MAX, Node, Pair, same, session},
    stranger::{Stranger, frame, introduction},
};

/// A standby with a table of two sessions whose active node is gone, and a place in its name.
struct Alone {
    pair: Pair,
    b: Node,
    before: Vec<vsm_core::Row>,
    at: Status,
}

impl Alone {
    async fn new() -> Self {
        let (pair, a, b) = Pair::new().await;
        a.table.want(true).await.unwrap();
        a.serving().await;
        session(&a, 1).await;
        session(&a, 2).await;
        b.has(a.table.read(|view| view.last_seq)).await;
        a.stop();
        let mut it = Self { pair, at: b.table.state().replica.clone(), b, before: Vec::new() };
        it.closed().await;
        it.at = it.b.table.state().replica.clone();
        it.before = it.rows();
        assert_eq!(it.at.last.seq, it.at.commit, "nothing is under way");
        it
    }

    /// Waits until no stream is open; why.
    async fn closed(&self) -> String {
        let wait = async {
            loop {
                if let Stream::Closed { why, .. } = self.b.stream.state() {
                    return why.to_string();
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, wait).await.expect("the stream is closed")
    }

    fn rows(&self) -> Vec<vsm_core::Row> {
        self.b.table.read(|view| view.table.rows().collect())
    }

    async fn call(&self) -> Stranger {
        Stranger::call(self.pair.port, &self.pair.tls[0]).await.unwrap()
    }

    /// As the other node, introduced.
    async fn met(&self) -> Stranger {
        Stranger::met(&self.b, self.pair.port, &self.pair.tls[0]).await
    }

    /// Refused and garbled so far.
    fn counts(&self) -> (u64, u64) {
        let counters = self.b.stream.counters();
        (counters.refused.load(Ordering::Relaxed), counters.garbled.load(Ordering::Relaxed))
    }

    /// Nothing of it is in the table.
    fn untouched(&self) {
        assert_eq!(self.rows(), self.before);
        let now = self.b.table.state().replica.clone();
        assert_eq!((&now.last, now.commit), (&self.at.last, self.at.commit));
    }

    /// One that is let in and then says this is hung up on.
    async fn garbles(&self, frames: Vec<PeerFrame>, why: &str) {
        let counts = self.counts();
        let mut it = self.met().await;
        for frame in frames {
            it.send(frame).await;
        }
        it.end().await;
        let told = self.closed().await;
        assert!(told.contains(why), "{told:?} is to name {why:?}");
        assert_eq!(self.counts(), (counts.0, counts.1 + 1), "{told}");
        assert_eq!(self.b.table.state().replica.promised, self.at.promised, "{told}");
        self.untouched();
    }

    async fn garbles_message(&self, message: &PeerMsg, why: &str) {
        self.garbles(vec![frame(Kind::Message(PeerMessage::from(message)))], why).await;
    }

    /// One that introduces itself so is turned away.
    async fn refuses(&self, first: PeerFrame, why: &str) {
        let counts = self.counts();
        let mut it = self.call().await;
        it.send(first).await;
        let told = it.end().await;
        assert!(told.contains(why), "{told:?} is to name {why:?}");
        assert_eq!(self.counts().0, counts.0 + 1, "{told}");
        assert!(!self.b.table.state().replica.link, "the table never heard of it: {told}");
        self.untouched();
    }

    fn next(&self, epoch: &Epoch, seqs: &[u64]) -> Vec<Entry> {
        let entry = |ahead: &u64| Entry {
            lsn: Lsn { epoch: epoch.clone(), seq: self.at.last.seq + ahead },
            change: Change::Began { pair: true },
        };
        seqs.iter().map(entry).collect()
    }

    /// Entries that are said to follow what is there; each number counts from its last.
    fn append(&self, epoch: &Epoch, seqs: &[u64]) -> PeerMsg {
        let entries = self.next(epoch, seqs);
        PeerMsg::Append {
            epoch: epoch.clone(),
            prev: self.at.last.clone(),
            entries,
            commit: 0,
            round: 0,
        }
    }

    fn above(&self, by: u64) -> Epoch {
        Epoch { nonce: 0, counter: self.at.promised.counter + by, node: "a".parse().unwrap() }
    }

    /// The real one comes back and goes on.
    async fn goes_on(self) {
        let a = self.pair.a();
        a.table.want(true).await.unwrap();
        a.serving().await;
        session(&a, 77).await;
        self.b.has(a.table.read(|view| view.last_seq)).await;
        same(&a, &self.b);
        assert!(matches!(self.b.stream.state(), Stream::Open(_)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_other_broker_of_this_cluster_may_call() {
    let alone = Alone::new().await;
    let dir = alone.pair.dir.path();
    // The first is not let in to the service, which counts those that it turns away.
    for (role, name, why, counted) in [
        ("agent", "a", "the certificate of a is not that of a broker", 0),
        ("broker", "c", "c is not a, the other node of this pair", 1),
    ] {
        let counts = alone.counts();
        let tls = alone.pair.authority.issue(dir, role, name);
        let refused = Stranger::<PeerFrame>::call(alone.pair.port, &tls).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains(why), "{refused}");
        assert_eq!(alone.counts().0, counts.0 + counted);
    }
    let other: Tls = Authority::new().issue(&dir.join("other"), "broker", "a");
    assert!(Stranger::<PeerFrame>::call(alone.pair.port, &other).await.is_err());
    alone.untouched();
    alone.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_introduces_itself_wrongly_is_turned_away() {
    let alone = Alone::new().await;
    let right = introduction(&alone.b);
    let wrong = |it: Introduction| frame(Kind::Introduction(it));
    let other = LineageId::new(uuid::Uuid::from_u128(99)).to_string();
    let lineage = Introduction { lineage: other, ..right.clone() };
    alone.refuses(wrong(lineage), "a has a table of its own").await;
    let lineage = Introduction { lineage: "none".to_owned(), ..right.clone() };
    alone.refuses(wrong(lineage), "is no lineage").await;
    let name = Introduction { node: "c".to_owned(), ..right.clone() };
    alone.refuses(wrong(name), "\"c\" is not a").await;
    let version = Introduction { version: 0, ..right.clone() };
    alone.refuses(wrong(version), "no version of this protocol").await;
    let parameters = vec![ParameterDigest::default(); 8193];
    let endless = Introduction { parameters, ..right };
    alone.refuses(wrong(endless), "its configuration has no end").await;
    let message = PeerMessage::from(&PeerMsg::Wish { planned: true });
    alone.refuses(frame(Kind::Message(message)), "its first frame is no introduction").await;
    alone.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_given_up() {
    let alone = Alone::new().await;
    // One that never introduces itself, and takes nothing away from the one that does.
    let counts = alone.counts();
    let mut mute = alone.call().await;
    let mut silent = alone.met().await;
    silent.end().await;
    assert!(alone.closed().await.contains("it was silent for 3000 ms"));
    assert!(mute.end().await.contains("it did not introduce itself"));
    assert_eq!(alone.counts(), (counts.0 + 1, counts.1));
    alone.untouched();
    alone.goes_on().await;
}

/// A frame as a later version has it: a kind that we do not know, and fields that we do not know.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterFrame {
    #[prost(message, tag = "1")]
    introduction: Option<LaterIntroduction>,
    #[prost(message, tag = "5")]
    probe: Option<Probe>,
    #[prost(string, tag = "99")]
    unknown_kind: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LaterIntroduction {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "3")]
    node: String,
    #[prost(string, tag = "4")]
    lineage: String,
    #[prost(string, tag = "98")]
    unknown_field: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_version_is_understood() {
    let alone = Alone::new().await;
    let counts = alone.counts();
    let mut later =
        Stranger::<LaterFrame>::call(alone.pair.port, &alone.pair.tls[0]).await.unwrap();
    let Introduction { node, lineage, .. } = introduction(&alone.b);
    let unknown_field = "of version 2".to_owned();
    let introduction = Some(LaterIntroduction { version: 2, node, lineage, unknown_field });
    later.send(LaterFrame { introduction, ..LaterFrame::default() }).await;
    let unknown_kind = "of version 2".to_owned();
    later.send(LaterFrame { unknown_kind, ..LaterFrame::default() }).await;
    let probe = Some(Probe { clock_unix_ms: 0, sent_us: 4711 });
    later.send(LaterFrame { probe, ..LaterFrame::default() }).await;
    loop {
        if let Kind::ProbeReply(reply) = later.next().await.expect("the stream stays open") {
            assert_eq!(reply.sent_us, 4711);
            break;
        }
    }
    assert_eq!(alone.counts(), counts);
    drop(later);
    alone.closed().await;
    alone.untouched();
    alone.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_ends_the_stream() {
    let alone = Alone::new().await;
    let again = frame(Kind::Introduction(introduction(&alone.b)));
    alone.garbles(vec![again], "a second introduction").await;
    let unknown = frame(Kind::Message(PeerMessage { kind: None }));
    alone.garbles(vec![unknown], "message.kind: is missing").await;
    let own = alone.at.promised.clone();
    alone.garbles_message(&alone.append(&own, &[2]), "does not follow").await;
    alone.garbles_message(&alone.append(&own, &[1, 1]), "does not follow").await;
    alone.garbles_message(&alone.append(&own, &[2, 1]), "does not follow").await;
    let entries = alone.next(&alone.above(1), &[1]);
    let prev = alone.at.last.clone();
    let above = PeerMsg::Append { epoch: own, prev, entries, commit: 0, round: 0 };
    alone.garbles_message(&above, "is of a reign above").await;
    let jump = alone.above(EPOCH_JUMP_MAX + 1);
    alone.garbles_message(&alone.append(&jump, &[1]), "beyond all reason").await;
    alone.garbles_message(&PeerMsg::Stale { promised: jump }, "beyond all reason").await;
    alone.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_no_message_ends_the_stream() {
    let alone = Alone::new().await;
    let part = |data: Vec<u8>, last| frame(Kind::Part(Part { data, last }));
    alone.garbles(vec![part(vec![0; FRAME_MAX], true)], "too large").await;
    let parts = vec![part(vec![0; 256 << 10], false); MESSAGE_MAX / (256 << 10) + 1];
    alone.garbles(parts, "a message of more than 1048576 bytes").await;
    alone.garbles(vec![part(vec![0xff; 100], true)], "cannot be understood").await;
    let whole = prost::Message::encode_to_vec(&PeerMessage::from(
        &alone.append(&alone.at.promised, &[1, 2, 3]),
    ));
    let torn = part(whole[..whole.len() - 2].to_vec(), true);
    alone.garbles(vec![torn], "cannot be understood").await;
    alone.garbles(vec![part(Vec::new(), true)], "message.kind: is missing").await;
    alone.goes_on().await;
}

/// Not garbage, and not what follows: the rules of the protocol answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_a_gap_and_another_reign_are_answered_by_the_rules() {
    let alone = Alone::new().await;
    let counts = alone.counts();
    let mut it = alone.met().await;
    let own = alone.at.promised.clone();
    let behind = |message: &PeerMsg| matches!(message, PeerMsg::Behind { .. });
    let far = Lsn { epoch: own.clone(), seq: alone.at.last.seq + 5 };
    let gap =
        PeerMsg::Append { epoch: own.clone(), prev: far, entries: Vec::new(), commit: 0, round: 0 };
    it.say(&gap).await;
    let PeerMsg::Behind { holds, .. } = it.answer(behind).await else { unreachable!() };
    assert_eq!(holds.last, alone.at.last, "it names what it has");
    // What it holds already, once more, and once more.
    for _ in 0..2 {
        it.say(&alone.append(&own, &[])).await;
        let ack = it.answer(|message| matches!(message, PeerMsg::Ack { .. })).await;
        assert_eq!(ack, PeerMsg::Ack { epoch: own.clone(), last: alone.at.last.seq, round: 0 });
    }
    // A reign that was replaced.
    let old = Epoch { nonce: 0, counter: own.counter - 1, node: own.node.clone() };
    let (prev, entries) = (Lsn::zero(), Vec::new());
    it.say(&PeerMsg::Append { epoch: old, prev, entries, commit: 0, round: 0 }).await;
    let stale = it.answer(|message| matches!(message, PeerMsg::Stale { .. })).await;
    assert_eq!(stale, PeerMsg::Stale { promised: own });
    // A jump within reason is a later reign.
    let later = alone.above(1000);
    it.say(&alone.append(&later, &[])).await;
    it.answer(|message| matches!(message, PeerMsg::Ack { epoch, .. } if *epoch == later)).await;
    // What is shown follows what was sent.
    let mut state = alone.b.table.watch();
    let promised = state.wait_for(|state| state.replica.promised == later);
    tokio::time::timeout(LONG, promised).await.expect("it promised").unwrap();
    it.is_heard(1).await;
    assert_eq!(alone.counts(), counts, "nothing of this is garbage");
    alone.untouched();
    drop(it);
    alone.closed().await;
    alone.goes_on().await;
}

/// A stranger that has the other node's certificate and is turned away leaves the stream alone; a second stream of the
/// right one replaces the first.
#[tokio::test(flavor = "multi_thread")]
async fn only_one_that_was_let_in_replaces_the_stream() {
    let alone = Alone::new().await;
    let mut first = alone.met().await;
    let wrong = Introduction { node: "c".to_owned(), ..introduction(&alone.b) };
    let mut stranger = alone.call().await;
    stranger.send(frame(Kind::Introduction(wrong))).await;
    stranger.end().await;
    assert!(matches!(alone.b.stream.state(), Stream::Open(_)));
    first.is_heard(1).await;
    let mut second = alone.met().await;
    first.end().await;
    second.is_heard(2).await;
    assert!(matches!(alone.b.stream.state(), Stream::Open(_)), "the end of the first is old news");
    assert!(alone.b.table.state().replica.link);
    drop(second);
    alone.closed().await;
    alone.untouched();
    alone.goes_on().await;
}

/// A vote brings what the voter holds; entries that follow nothing of ours cannot be taken, so it is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_vote_that_does_not_join_on_is_not_counted() {
    let alone = Alone::new().await;
    let mut it = alone.met().await;
    alone.b.table.want(true).await.unwrap();
    let claim = it.answer(|message| matches!(message, PeerMsg::Claim { .. })).await;
    let PeerMsg::Claim { epoch, .. } = claim else { unreachable!() };
    let own = alone.at.promised.clone();
    let prev = Lsn { epoch: own.clone(), seq: alone.at.last.seq + 5 };
    let entries = alone.next(&own, &[6, 7]);
    let holds = Holds {
        joined: true,
        paired: true,
        last: entries[1].lsn.clone(),
        history: Vec::new(),
        reach: 0,
    };
    let supply = Supply::Entries { prev, entries };
    it.say(&PeerMsg::Promise { epoch, holds, supply }).await;
    // The witnesses vote instead.
    alone.b.serving().await;
    assert_eq!(alone.rows(), alone.before);
    assert_eq!(
        alone.b.table.state().replica.last.seq,
        alone.at.last.seq + 1,
        "its own first entry"
    );
    alone.b.table.want(false).await.unwrap();
    drop(it);
    alone.closed().await;
    alone.goes_on().await;
}
