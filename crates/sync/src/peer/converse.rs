//! One stream from the introduction to its end, whoever opened it.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use vsm_core::replica::PeerMsg;
use vsm_daemon::clock;
use vsm_proto::sync::v1::{
    Busy, Introduction, ParameterDigest, PeerFrame, Probe, ProbeReply, peer_frame::Kind,
};

use super::{
    Card, Garbled, Met, PROTOCOL, PeerStream, Refused, Stream, StreamEnd,
    frame::{self, Parts, frame},
};
use crate::{ProposeError, table::PeerLink};

/// The introduction has to come in this time.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// How often the clocks are compared, and a sign of life is sent.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// How often one that is at a large message says so.
const BUSY_EVERY: Duration = Duration::from_millis(100);
/// Most parameters that are compared.
const PARAMETERS_MAX: usize = 8192;

type Out = mpsc::Sender<PeerFrame>;

/// Has the conversation; why it ended.
pub(super) async fn converse(
    stream: &PeerStream,
    mut inbound: impl tokio_stream::Stream<Item = Result<PeerFrame, Status>> + Unpin + Send,
    out: Out,
) -> StreamEnd {
    let reopened = stream.reopened.load(Ordering::Relaxed);
    if out.send(frame(Kind::Introduction(introduce(stream)))).await.is_err() {
        return StreamEnd::Closed;
    }
    let met = tokio::select! {
        biased;
        () = stream.stop.cancelled() => return StreamEnd::Stopping,
        met = meet(stream, &mut inbound) => met,
    };
    let met = match met {
        Ok(_) if stream.reopened.load(Ordering::Relaxed) != reopened => {
            return StreamEnd::Anew;
        }
        Ok(met) => met,
        Err(why) => {
            // So that it can say why it was turned away.
            let _ = out.try_send(frame(Kind::Goodbye(why.goodbye())));
            return why;
        }
    };
    let Ok((link, messages)) = stream.table.connect().await else {
        return StreamEnd::Stopping;
    };
    tracing::info!(software = met.card.software, "the other broker is here");
    let ended = stream.opened(link.id(), met);
    let why = tokio::select! {
        biased;
        () = ended.cancelled() => StreamEnd::Anew,
        why = write(stream, messages, &out) => why,
        why = probe(&out) => why,
        why = read(stream, &mut inbound, &link, &out) => why,
    };
    stream.closed(Some(link.id()), &why);
    link.close().await;
    why
}

fn introduce(stream: &PeerStream) -> Introduction {
    let card = (stream.config.card)();
    let lineage = stream.table.read(|view| view.lineage);
    Introduction {
        version: PROTOCOL,
        software: card.software,
        node: stream.config.node.to_string(),
        lineage: lineage.to_string(),
        empty: !stream.table.state().replica.joined,
        clock_unix_ms: clock::unix_millis().0,
        parameters: card
            .parameters
            .into_iter()
            .map(|(path, digest)| ParameterDigest { path, digest })
            .collect(),
        host_keys: card.host_keys,
        incarnation: stream.table.incarnation().0,
    }
}

/// Takes the other side's introduction, or says why not.
async fn meet(
    stream: &PeerStream,
    inbound: &mut (impl tokio_stream::Stream<Item = Result<PeerFrame, Status>> + Unpin),
) -> Result<Met, StreamEnd> {
    let first = tokio::time::timeout(INTRODUCTION, inbound.next()).await;
    let first = match first {
        Ok(Some(Ok(first))) => first,
        Ok(Some(Err(status))) => return Err(StreamEnd::Failed(status.message().to_owned())),
        Ok(None) => return Err(StreamEnd::Closed),
        Err(_) => return Err(stream.refuse(Refused::Mute).into()),
    };
    let it = match first.kind {
        Some(Kind::Introduction(it)) => it,
        Some(Kind::Goodbye(goodbye)) => return Err(goodbye.into()),
        _ => {
            stream.counters.garbled.fetch_add(1, Ordering::Relaxed);
            return Err(stream.refuse(Refused::NoIntroduction).into());
        }
    };
    if it.version == 0 {
        return Err(stream.refuse(Refused::NoVersion).into());
    }
    if it.node != stream.config.peer.as_str() {
        let (name, peer) = (format!("{:?}", it.node), stream.config.peer.clone());
        return Err(stream.refuse(Refused::Stranger { name, peer }).into());
    }
    if it.parameters.len() > PARAMETERS_MAX {
        return Err(stream.refuse(Refused::Endless).into());
    }
    kinship(stream, &it).await?;
    let parameters = it.parameters.into_iter().map(|item| (item.path, item.digest)).collect();
    let card = Card { software: it.software, parameters, host_keys: it.host_keys };
    let skew_ms = difference(it.clock_unix_ms, clock::unix_millis().0);
    let since = clock::unix_millis();
    Ok(Met { card, since, incarnation: it.incarnation, rtt_us: 0, skew_ms })
}

/// Both tables must be one: where they are not, an empty one takes up the other's lineage.
async fn kinship(stream: &PeerStream, it: &Introduction) -> Result<(), StreamEnd> {
    let ours = stream.table.read(|view| view.lineage);
    let Ok(theirs) = it.lineage.parse() else {
        return Err(stream.refuse(Refused::NoLineage(it.lineage.clone())).into());
    };
    if ours == theirs {
        return Ok(());
    }
    let empty = !stream.table.state().replica.joined;
    if empty && (!it.empty || theirs < ours) {
        return match stream.table.take_up(theirs).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(stream.refuse(Refused::NotEmpty).into()),
            Err(error) => Err(StreamEnd::Failed(error.to_string())),
        };
    }
    if it.empty {
        // It takes up ours.
        return Ok(());
    }
    let peer = stream.config.peer.clone();
    Err(stream.refuse(Refused::Apart { peer, theirs, ours }).into())
}

/// Sends what the replica says.
async fn write(stream: &PeerStream, mut messages: mpsc::Receiver<PeerMsg>, out: &Out) -> StreamEnd {
    while let Some(message) = messages.recv().await {
        stream.counters.sent.fetch_add(1, Ordering::Relaxed);
        let frames = if frame::is_large(&message) {
            if out.send(frame(Kind::Busy(Busy {}))).await.is_err() {
                return StreamEnd::Closed;
            }
            // Encoding a whole table is work, and others are served meanwhile.
            match tokio::task::spawn_blocking(move || frame::frames(&message)).await {
                Ok(frames) => frames,
                Err(error) => return StreamEnd::Failed(error.to_string()),
            }
        } else {
            frame::frames(&message)
        };
        for piece in frames {
            if out.send(piece).await.is_err() {
                return StreamEnd::Closed;
            }
        }
    }
    StreamEnd::Behind
}

async fn probe(out: &Out) -> StreamEnd {
    let mut every = tokio::time::interval(PROBE_EVERY);
    loop {
        every.tick().await;
        let probe = Probe { clock_unix_ms: clock::unix_millis().0, sent_us: now_us() };
        if out.send(frame(Kind::Probe(probe))).await.is_err() {
            return StreamEnd::Closed;
        }
    }
}

/// Takes what the other side says.
async fn read(
    stream: &PeerStream,
    inbound: &mut (impl tokio_stream::Stream<Item = Result<PeerFrame, Status>> + Unpin),
    link: &PeerLink,
    out: &Out,
) -> StreamEnd {
    let mut parts = Parts::new(stream.config.message_max);
    let mut told = Instant::now();
    loop {
        let next = match tokio::time::timeout(stream.config.idle, inbound.next()).await {
            Ok(Some(Ok(next))) => next,
            // A frame that is too large, or none: a connection that broke has other codes.
            Ok(Some(Err(status))) if matches!(status.code(), Code::OutOfRange | Code::Internal) => {
                let what = Garbled::Frame(status.message().to_owned());
                return garbled(stream, what);
            }
            Ok(Some(Err(status))) => return StreamEnd::Failed(status.message().to_owned()),
            Ok(None) => return StreamEnd::Closed,
            Err(_) => return StreamEnd::Silent(stream.config.idle),
        };
        let message = match next.kind {
            Some(Kind::Message(message)) => match PeerMsg::try_from(message) {
                Ok(message) => Ok(Some(message)),
                Err(error) => return garbled(stream, error.into()),
            },
            Some(Kind::Part(part)) => {
                if told.elapsed() >= BUSY_EVERY || parts.is_empty() {
                    told = Instant::now();
                    // Never waited for: a reader that waits for room may wait for itself.
                    let _ = out.try_send(frame(Kind::Busy(Busy {})));
                    let _ = link.busy().await;
                }
                match parts.add(&part) {
                    Ok(None) => Ok(None),
                    Ok(Some(data)) => match decode(link, out, data).await {
                        Ok(message) => Ok(Some(message)),
                        Err(error) => return garbled(stream, error),
                    },
                    Err(error) => return garbled(stream, error),
                }
            }
            Some(Kind::Busy(_)) => link.busy().await.map(|()| None),
            Some(Kind::Probe(probe)) => {
                let (clock_unix_ms, sent_us) = (clock::unix_millis().0, probe.sent_us);
                let reply = frame(Kind::ProbeReply(ProbeReply { clock_unix_ms, sent_us }));
                // Nothing may wait for the other side to read: a reply that finds no room is not needed.
                let _ = out.try_send(reply);
                Ok(None)
            }
            Some(Kind::ProbeReply(reply)) => {
                measured(stream, &reply);
                Ok(None)
            }
            Some(Kind::Goodbye(goodbye)) => return goodbye.into(),
            Some(Kind::Introduction(_)) => return garbled(stream, Garbled::Introduction),
            // Of a newer version.
            None => Ok(None),
        };
        let done = match message {
            Ok(Some(message)) => {
                if let Some(epoch) = frame::epoch(&message)
                    && stream.table.is_beyond_reason(epoch)
                {
                    return garbled(stream, Garbled::Epoch(epoch.clone()));
                }
                take(stream, link, out, message).await
            }
            Ok(None) => Ok(()),
            Err(stopping) => Err(stopping),
        };
        if done.is_err() {
            return StreamEnd::Stopping;
        }
    }
}

/// Hands a message to the table; says that we are busy while a large one is being taken.
async fn take(
    stream: &PeerStream,
    link: &PeerLink,
    out: &Out,
    message: PeerMsg,
) -> Result<(), ProposeError> {
    stream.counters.received.fetch_add(1, Ordering::Relaxed);
    let large = frame::is_large(&message);
    link.receive(message).await?;
    if large { busy_while(link.taken(), out).await } else { Ok(()) }
}

async fn decode(link: &PeerLink, out: &Out, data: Vec<u8>) -> Result<PeerMsg, Garbled> {
    let decoding = tokio::task::spawn_blocking(move || frame::decode(&data));
    let _ = link.busy().await;
    let decoded = busy_while(decoding, out).await;
    decoded.map_err(|error| Garbled::NoMessage(error.to_string()))?
}

async fn busy_while<T>(work: impl Future<Output = T>, out: &Out) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(BUSY_EVERY) => {
                // One that cannot be sent means that frames are under way anyway.
                let _ = out.try_send(frame(Kind::Busy(Busy {})));
            }
        }
    }
}

fn garbled(stream: &PeerStream, what: Garbled) -> StreamEnd {
    stream.counters.garbled.fetch_add(1, Ordering::Relaxed);
    tracing::error!(%what, "the other broker cannot be understood");
    what.into()
}

fn measured(stream: &PeerStream, reply: &ProbeReply) {
    let rtt_us = now_us().saturating_sub(reply.sent_us);
    let there = reply.clock_unix_ms.saturating_add(rtt_us / 2000);
    let skew_ms = difference(there, clock::unix_millis().0);
    stream.stream.send_modify(|state| {
        if let Stream::Open(met) = state {
            (met.rtt_us, met.skew_ms) = (rtt_us, skew_ms);
        }
    });
}

fn difference(a: u64, b: u64) -> i64 {
    i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(0)
}

/// Microseconds of a clock that only this process reads.
fn now_us() -> u64 {
    use std::sync::OnceLock;
    static BEGAN: OnceLock<std::time::Instant> = OnceLock::new();
    let since = BEGAN.get_or_init(clock::now).elapsed();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
