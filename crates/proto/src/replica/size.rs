//! What a message to a witness is once it is read: a row that says nothing has two bytes on its way and hundreds in
//! memory. So rows are counted before they are read, where whoever says them may be anybody.

use prost::{
    Message as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use crate::{convert::Invalid, sync::v1 as pb};

/// Most rows and reigns of a window: more than the largest one has, which is as long as a message may be.
const PARTS_MAX: usize = 1 << 19;
/// Where a window is in a request.
const WINDOW: [u32; 2] = [4, 2];
/// Rows and reigns in it.
const PARTS: [u32; 2] = [3, 4];

/// Why a request is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no message.
    #[error("the message cannot be read: {0}")]
    Message(#[from] prost::DecodeError),
    /// It is larger than it looks.
    #[error(transparent)]
    Size(#[from] Invalid),
}

/// Reads a request as it came.
///
/// # Errors
/// If it is none, or has more parts than any window.
pub fn witness_request(message: &[u8]) -> Result<pb::WitnessRequest, Unreadable> {
    let parts = parts(message, &WINDOW);
    if parts > PARTS_MAX {
        let why = format!("it has {parts} parts, and may have {PARTS_MAX}");
        return Err(Invalid { field: "accept.window", why }.into());
    }
    Ok(pb::WitnessRequest::decode(message)?)
}

/// How many parts there are in all messages on this way; of one that is broken, those before the fault.
fn parts(mut message: &[u8], way: &[u32]) -> usize {
    let mut count = 0;
    while !message.is_empty() {
        let Ok((field, wire)) = decode_key(&mut message) else { break };
        if wire != WireType::LengthDelimited {
            if skip_field(wire, field, &mut message, DecodeContext::default()).is_err() {
                break;
            }
            continue;
        }
        let length = decode_varint(&mut message).ok().and_then(|length| length.try_into().ok());
        let Some((part, after)) = length.and_then(|length| message.split_at_checked(length)) else {
            break;
        };
        count += match way.split_first() {
            Some((first, rest)) if *first == field => parts(part, rest),
            None if PARTS.contains(&field) => 1,
            _ => 0,
        };
        message = after;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(rows: usize, reigns: usize) -> pb::WitnessRequest {
        let (rows, history) = (vec![pb::Row::default(); rows], vec![pb::Reign::default(); reigns]);
        let window = pb::Window { rows, history, ..pb::Window::default() };
        let accept = pb::WitnessAccept { window: Some(window), ..pb::WitnessAccept::default() };
        let kind = Some(pb::witness_request::Kind::Accept(accept));
        pb::WitnessRequest { lineage: "x".to_owned(), epoch: None, kind }
    }

    #[test]
    fn a_message_that_is_far_larger_than_it_looks_is_not_read() {
        let (small, large) = (request(3, 2).encode_to_vec(), request(PARTS_MAX, 1).encode_to_vec());
        assert_eq!(parts(&small, &WINDOW), 5);
        assert_eq!(witness_request(&small), Ok(request(3, 2)));
        // What is small on its way is at least a hundred times that in memory.
        assert!(large.len() < 2 << 20);
        assert!(size_of::<pb::Row>() > 200, "{}", size_of::<pb::Row>());
        assert!(matches!(witness_request(&large), Err(Unreadable::Size(_))));
        // In several windows, which are read as one.
        let half = request(PARTS_MAX / 2 + 1, 0).encode_to_vec();
        witness_request(&half).unwrap();
        let twice = [half.clone(), half].concat();
        assert!(matches!(witness_request(&twice), Err(Unreadable::Size(_))));
    }

    #[test]
    fn what_is_no_message_is_told_by_the_reader() {
        for bytes in [&b"\xff"[..], b"\x22\x05", b"\x22\x02\x12\x09", b"\x0b", &[0x22; 100]] {
            assert!(matches!(witness_request(bytes), Err(Unreadable::Message(_))), "{bytes:?}");
        }
    }
}
