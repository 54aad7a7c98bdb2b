//! The file of the promise: records, each durable before it is acted on, each with its length and checksum. The first
//! is the whole state, the others are what changed it. When many have come the file is written anew.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use prost::Message;
use vsm_core::{Epoch, replica::Witness};
use vsm_daemon::files::{self, Access};
use vsm_proto::{
    replica::Keeping,
    sync::v1::{WitnessRecord, WitnessRequest, witness_record::Kind},
};

/// A file is written anew when it is four times as large as its state, and larger than this.
const SIZE_MIN: u64 = 1 << 20;
const HEAD: usize = 8;

/// What an agent promised and keeps.
pub(crate) type Kept = Keeping;

/// What a host has that never promised anything, or lost all that it did: a journal of its own, and no vote before the
/// pair has made up for the loss, which has the journal's number.
pub(super) fn fresh(host: &str) -> Kept {
    let journal = rand::random();
    let witness = Witness::fresh(journal);
    let (host, former) = (host.to_owned(), Vec::new());
    Kept { lineage: None, witness, position: 0, journal, host, former }
}

/// What is wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("it holds no whole record")]
    NoRecord,
    #[error("the checksum of record {0} is wrong")]
    Checksum(u64),
    #[error("{0}")]
    Record(#[from] prost::DecodeError),
    #[error("{0}")]
    Value(#[from] vsm_proto::convert::Invalid),
    #[error("a record of a kind that this version does not know")]
    Kind,
    #[error("its records are not in order")]
    Order,
}

fn apply(kept: &mut Kept, kind: Kind) -> Result<(), Damage> {
    match kind {
        Kind::State(state) => {
            *kept = state.try_into()?;
            return Ok(());
        }
        Kind::Request(request) => {
            // The reply was given when the record was written.
            let _ = kept.witness.handle(request.try_into()?);
        }
        Kind::Admitted(epoch) => {
            let epoch: Epoch = epoch.try_into()?;
            let _ = kept.witness.admit(&epoch);
        }
    }
    kept.position += 1;
    Ok(())
}

/// The open file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    bound: u64,
    /// A record may be half written: the file is written anew before the next.
    torn: bool,
}

impl Journal {
    /// Reads the file; a half record at its end was never acted on and is forgotten.
    ///
    /// # Errors
    /// Says what is wrong with a file that is damaged.
    pub(super) fn load(path: &Path, host: &str) -> io::Result<(Self, Result<Kept, Damage>)> {
        let journal =
            |size| Self { path: path.to_owned(), file: None, size, bound: 0, torn: false };
        let data = match std::fs::read(path) {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((journal(0), Ok(fresh(host))));
            }
            Err(error) => return Err(error),
        };
        Ok((journal(data.len() as u64), replay(&data, host)))
    }

    /// Whether the file is to be written anew before a record is added: it is new, half written, or large.
    pub(super) const fn needs_rewrite(&self) -> bool {
        self.file.is_none() || self.torn || self.size > self.bound
    }

    /// Makes a record durable.
    pub(super) fn append(&mut self, kind: Kind) -> io::Result<()> {
        let bytes = encode(&WitnessRecord { kind: Some(kind) });
        let Some(file) = &mut self.file else { return Err(io::Error::other("no journal")) };
        self.torn = true;
        file.write_all(&bytes)?;
        file.sync_data()?;
        self.torn = false;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Replaces the file by one with this state alone.
    pub(super) fn rewrite(&mut self, kept: &Kept) -> io::Result<()> {
        let bytes = state(kept);
        files::replace(&self.path, &bytes, Access::OWN)?;
        self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        (self.size, self.torn) = (bytes.len() as u64, false);
        self.bound = self.size * 4 + SIZE_MIN;
        Ok(())
    }
}

/// The record of the whole state.
pub(crate) fn state(kept: &Kept) -> Vec<u8> {
    encode(&WitnessRecord { kind: Some(Kind::State(kept.into())) })
}

fn encode(record: &WitnessRecord) -> Vec<u8> {
    framed(&record.encode_to_vec())
}

/// A record with its length and checksum.
pub(crate) fn framed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEAD + payload.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What the records of a file come to; a half one at its end is forgotten.
pub(crate) fn replay(mut data: &[u8], host: &str) -> Result<Kept, Damage> {
    if data.is_empty() {
        // It is never written so: a crash of the file system took what was promised.
        return Err(Damage::NoRecord);
    }
    let mut kept = fresh(host);
    let mut first = true;
    while !data.is_empty() {
        let Some((payload, sum, rest)) = split(data) else {
            if first {
                return Err(Damage::NoRecord);
            }
            // The crash came before the record was durable, so nothing was answered by it.
            tracing::warn!(
                bytes = data.len(),
                "a half record at the end of the promise is forgotten"
            );
            break;
        };
        if crc32fast::hash(payload) != sum {
            return Err(Damage::Checksum(kept.position));
        }
        let record = WitnessRecord::decode(payload)?;
        let kind = record.kind.ok_or(Damage::Kind)?;
        if first != matches!(kind, Kind::State(_)) {
            return Err(Damage::Order);
        }
        apply(&mut kept, kind)?;
        (first, data) = (false, rest);
    }
    Ok(kept)
}

fn split(data: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((payload, u32::from_le_bytes(*sum), rest))
}

/// The record of a message that is taken.
pub(super) const fn taken(request: WitnessRequest) -> Kind {
    Kind::Request(request)
}
