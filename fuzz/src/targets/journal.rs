//! The journal of an agent's promise, as a crash, a full disk or a bad sector leaves it.
//!
//! The first byte says what is done to it. Records follow, each with its length in two bytes; what is no whole one is
//! the half record at the end.

use vsm_agent::fuzzing::{journal_record, journal_replayed};

pub(crate) fn run(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    // Whatever stands there.
    let _ = journal_replayed(rest);
    let (payloads, tail) = pieces(rest);
    let records: Vec<Vec<u8>> = payloads.iter().map(|payload| journal_record(payload)).collect();
    let whole = records.concat();
    let Some((state, position)) = journal_replayed(&whole) else { return };
    let (again, _) = journal_replayed(&state).expect("what is written anew can be read");
    assert_eq!(again, state, "the state comes back as it was");

    let torn = journal_record(&[tail, &[7; 9]].concat());
    let cut = usize::from(*how) % torn.len();
    let with_half = [whole.as_slice(), &torn[..cut]].concat();
    assert_eq!(journal_replayed(&with_half), Some((state, position)), "a half record is forgotten");

    let last = records.last().map_or(0, Vec::len);
    let before = &whole[..whole.len() - last];
    if let Some((_, earlier)) = journal_replayed(before) {
        assert_eq!(position, earlier + 1, "no whole record is lost");
    }
    let mut flipped = whole.clone();
    let payload = last.saturating_sub(8);
    if payload > 0 {
        let at = whole.len() - 1 - usize::from(*how) % payload;
        flipped[at] ^= 1 << (how % 8);
        assert_eq!(journal_replayed(&flipped), None, "a flipped bit is found");
    }
}

fn pieces(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut all = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>()
        && let Some((payload, rest)) = rest.split_at_checked(u16::from_le_bytes(*length).into())
    {
        all.push(payload);
        bytes = rest;
    }
    (all, bytes)
}
