//! What a viewer says that may only look: bytes from anybody who may shadow.
//!
//! The first byte says into which pieces the rest is cut, and whether the handshake is put before it.

use vsm_agent::fuzzing::LookOnly;

const HELLO: &[u8] = b"RFB 003.008\n\x01\x01";

pub(crate) fn run(bytes: &[u8]) {
    let Some((how, said)) = bytes.split_first() else { return };
    let said = if how & 0x80 == 0 { [HELLO, said].concat() } else { said.to_vec() };
    let whole = passed(said.chunks(said.len().max(1)));
    let piece = usize::from(how & 0x7f).max(1);
    assert_eq!(passed(said.chunks(piece)), whole, "cut into pieces of {piece}");
    let (out, known) = whole;
    assert!(out.len() <= said.len());
    assert_looks_only(&out);
    let (again, _) = passed([out.as_slice()].into_iter());
    assert_eq!(again, out, "what has passed passes again");
    if known && said.len() >= HELLO.len() {
        assert_eq!(out[13], 1, "who looks throws nobody out");
    }
}

/// What passes, and whether the viewer was not cut off.
fn passed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let (mut filter, mut out) = (LookOnly::new(), Vec::new());
    for piece in pieces {
        if !filter.pass(piece, &mut out) {
            return (out, false);
        }
    }
    (out, true)
}

/// Reads what has passed as the X server would: nothing in it may do anything.
fn assert_looks_only(out: &[u8]) {
    let Some((version, rest)) = out.split_at_checked(12) else {
        return assert!(out.is_empty(), "a version is passed whole");
    };
    assert!(matches!(version, b"RFB 003.007\n" | b"RFB 003.008\n"));
    let mut rest = rest.get(2..).unwrap_or_default();
    while let Some(kind) = rest.first() {
        let at = |index: usize| rest.get(index).copied().map_or(0, usize::from);
        let length = match kind {
            0 => 20,
            3 | 150 => 10,
            2 => 4 + 4 * (at(2) * 256 + at(3)),
            248 => 9 + at(8),
            other => unreachable!("a message of kind {other} has passed"),
        };
        // The last one may still be on its way.
        rest = rest.get(length..).unwrap_or_default();
    }
}
