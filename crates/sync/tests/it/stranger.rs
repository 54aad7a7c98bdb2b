//! The other end of a broker's stream in the hands of a test: any certificate, any frame.

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;
use vsm_core::replica::PeerMsg;
use vsm_daemon::{grpc, tls::Tls};
use vsm_proto::sync::v1::{Introduction, PeerFrame, PeerMessage, Probe, peer_frame::Kind};

use super::node::{LONG, Node};

/// A call that is open. `F` is the frame as the caller has it, which may be that of another version.
pub(crate) struct Stranger<F = PeerFrame> {
    out: mpsc::Sender<F>,
    inbound: Streaming<PeerFrame>,
}

pub(crate) fn frame(kind: Kind) -> PeerFrame {
    PeerFrame { kind: Some(kind) }
}

/// What node `a` would say of itself to `b`.
pub(crate) fn introduction(b: &Node) -> Introduction {
    let lineage = b.table.read(|view| view.lineage).to_string();
    Introduction { version: 1, node: "a".to_owned(), lineage, ..Introduction::default() }
}

impl<F: Message + Send + Sync + 'static> Stranger<F> {
    /// Calls the node that listens on the port.
    pub(crate) async fn call(port: u16, tls: &Tls) -> Result<Self, Status> {
        let channel = grpc::channel("localhost", port, tls).unwrap();
        let mut client = Grpc::new(channel);
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let (out, frames) = mpsc::channel(64);
        let codec = ProstCodec::<F, PeerFrame>::default();
        let path = PathAndQuery::from_static("/vsm.sync.v1.Peer/Exchange");
        let request = Request::new(ReceiverStream::new(frames));
        let inbound = client.streaming(request, path, codec).await?.into_inner();
        Ok(Self { out, inbound })
    }

    /// Says something; one that was hung up on says it to nobody.
    pub(crate) async fn send(&self, frame: F) {
        let _ = self.out.send(frame).await;
    }

    /// The next frame; none = the other side ended the stream.
    pub(crate) async fn next(&mut self) -> Option<Kind> {
        let next = tokio::time::timeout(LONG, self.inbound.message());
        next.await.expect("it says something").ok().flatten().and_then(|frame| frame.kind)
    }

    /// Waits for the end; the reason that was given, if any.
    pub(crate) async fn end(&mut self) -> String {
        let mut reason = String::new();
        while let Some(kind) = self.next().await {
            if let Kind::Goodbye(goodbye) = kind {
                reason = goodbye.reason;
            }
        }
        reason
    }
}

impl Stranger {
    /// Calls as node `a` and is let in.
    pub(crate) async fn met(b: &Node, port: u16, tls: &Tls) -> Self {
        let mut it = Self::call(port, tls).await.unwrap();
        it.send(frame(Kind::Introduction(introduction(b)))).await;
        it.hello().await;
        it
    }

    /// Waits for the table's first word.
    async fn hello(&mut self) {
        let is_hello = |message: &PeerMsg| matches!(message, PeerMsg::Hello(_));
        self.answer(is_hello).await;
    }

    pub(crate) async fn say(&self, message: &PeerMsg) {
        self.send(frame(Kind::Message(PeerMessage::from(message)))).await;
    }

    /// The next message that fits.
    pub(crate) async fn answer(&mut self, fits: impl Fn(&PeerMsg) -> bool) -> PeerMsg {
        loop {
            if let Kind::Message(message) = self.next().await.expect("it answers") {
                let message = PeerMsg::try_from(message).unwrap();
                if fits(&message) {
                    return message;
                }
            }
        }
    }

    /// The stream works in both directions: a probe comes back.
    pub(crate) async fn is_heard(&mut self, sent_us: u64) {
        self.send(frame(Kind::Probe(Probe { clock_unix_ms: 0, sent_us }))).await;
        loop {
            if let Kind::ProbeReply(reply) = self.next().await.expect("it answers") {
                assert_eq!(reply.sent_us, sent_us);
                return;
            }
        }
    }
}
