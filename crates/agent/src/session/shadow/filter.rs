//! What a viewer may say that may only look: everything by which it asks for pictures, nothing by which it does
//! something.
//!
//! The messages are those of RFC 6143, section 7.5, and the extensions that viewers of today use. One that is not known
//! has no length that could be skipped: then the viewer is cut off.

use vsm_daemon::hole::{self, Hole};

/// Length of the client's ProtocolVersion, section 7.1.1.
const VERSION: usize = 12;
/// Longest part of a message that tells how long it is: a fence (9), or a cut text (8).
const HEAD_MAX: usize = 9;

/// A message that is not known, or a version in which the handshake is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unknown;

/// Where in what the client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many bytes of the version are still to come.
    Version(usize),
    /// The security type and ClientInit: so many bytes.
    Handshake(usize),
    /// The beginning of a message.
    Head,
    /// So many bytes of a message that is passed on, or is not.
    Body { left: usize, passes: bool },
}

/// What is left of the client's words.
#[derive(Debug)]
pub(crate) struct Filter {
    at: At,
    /// What has come of the version, or of the beginning of a message.
    head: Vec<u8>,
}

impl Filter {
    pub(crate) const fn new() -> Self {
        Self { at: At::Version(VERSION), head: Vec::new() }
    }

    /// Adds to `out` what may pass of `said`.
    pub(crate) fn pass(&mut self, mut said: &[u8], out: &mut Vec<u8>) -> Result<(), Unknown> {
        while let Some((first, rest)) = said.split_first() {
            match self.at {
                At::Version(left) => {
                    self.head.push(*first);
                    said = rest;
                    self.at = At::Version(left - 1);
                    if left == 1 {
                        // Before 3.7 the server chooses the security type, and nobody speaks that any more.
                        if !matches!(&self.head[..], b"RFB 003.007\n" | b"RFB 003.008\n") {
                            return Err(Unknown);
                        }
                        out.append(&mut self.head);
                        self.at = At::Handshake(2);
                    }
                }
                At::Handshake(left) => {
                    // ClientInit: one who may only look leaves the others connected, whatever they say.
                    out.push(if left == 1 { 1 } else { *first });
                    said = rest;
                    self.at = if left == 1 { At::Head } else { At::Handshake(left - 1) };
                }
                At::Head => {
                    self.head.push(*first);
                    said = rest;
                    if let Some((length, passes)) = measure(&self.head)? {
                        if passes {
                            out.extend(&self.head);
                        }
                        let left = length - self.head.len();
                        self.head.clear();
                        self.at = if left == 0 { At::Head } else { At::Body { left, passes } };
                    }
                }
                At::Body { left, passes } => {
                    let (now, later) = said.split_at(left.min(said.len()));
                    if passes {
                        out.extend(now);
                    }
                    said = later;
                    let left = left - now.len();
                    self.at = if left == 0 { At::Head } else { At::Body { left, passes } };
                }
            }
        }
        Ok(())
    }
}

/// How long the message is that begins so, and whether it passes; none = more is to be seen of it.
fn measure(head: &[u8]) -> Result<Option<(usize, bool)>, Unknown> {
    let byte = |at: usize| head.get(at).map(|byte| usize::from(*byte));
    let pair = |at: usize| Some((byte(at)? << 8) | byte(at + 1)?);
    let fixed = |length| Ok(Some((length, true)));
    let passes = hole::is_open(Hole::ShadowFilter);
    let dropped = |length: Option<usize>| Ok(length.map(|length| (length, passes)));
    let passed = |length: Option<usize>| Ok(length.map(|length| (length, true)));
    debug_assert!(head.len() <= HEAD_MAX);
    match head.first() {
        None => Ok(None),
        // SetPixelFormat, FramebufferUpdateRequest, EnableContinuousUpdates.
        Some(0) => fixed(20),
        Some(3 | 150) => fixed(10),
        // SetEncodings.
        Some(2) => passed(pair(2).map(|count| 4 + 4 * count)),
        // ClientFence.
        Some(248) => passed(byte(8).map(|length| 9 + length)),
        // KeyEvent, PointerEvent.
        Some(4) => dropped(Some(8)),
        Some(5) => dropped(Some(6)),
        // ClientCutText; the length of an extended one is negative.
        Some(6) => dropped(match (pair(4), pair(6)) {
            (Some(high), Some(low)) => {
                let length = (high << 16) | low;
                let is_extended = high & 0x8000 != 0;
                Some(8 + if is_extended { (1 << 32) - length } else { length })
            }
            _ => None,
        }),
        // SetDesktopSize.
        Some(251) => dropped(byte(6).map(|screens| 8 + 16 * screens)),
        // A key by QEMU's extension; its other ones are not offered.
        Some(255) => match byte(1) {
            None => Ok(None),
            Some(0) => dropped(Some(12)),
            Some(_) => Err(Unknown),
        },
        Some(_) => Err(Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = b"RFB 003.008\n\x01\x01";
    const UPDATE: [u8; 10] = [3, 1, 0, 0, 0, 0, 5, 0, 4, 0];

    fn passed(said: &[u8], piece: usize) -> Result<Vec<u8>, Unknown> {
        let (mut filter, mut out) = (Filter::new(), Vec::new());
        said.chunks(piece).try_for_each(|part| filter.pass(part, &mut out))?;
        Ok(out)
    }

    #[test]
    fn looking_passes_and_doing_does_not_however_it_is_cut() {
        let format = [&[0; 4][..], &[7; 16]].concat();
        let encodings = [2, 0, 0, 2, 0, 0, 0, 16, 0xff, 0xff, 0xff, 0x21];
        let fence = [248, 0, 0, 0, 0x80, 0, 0, 1, 3, 9, 9, 9];
        let key = [4, 1, 0, 0, 0, 0, 0, 0x61];
        let pointer = [5, 1, 0, 9, 0, 9];
        let text = [&[6, 0, 0, 0, 0, 0, 0, 5][..], b"hello"].concat();
        let extended = [&[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfc][..], &[1, 2, 3, 4]].concat();
        let size = [&[251, 0, 5, 0, 4, 0, 1, 0][..], &[8; 16]].concat();
        let qemu = [&[255, 0][..], &[1; 10]].concat();
        let good = [&format[..], &encodings, &UPDATE, &fence].concat();
        let bad = [&key[..], &pointer, &text, &extended, &size, &qemu].concat();
        let said = [HELLO, &good, &bad, &UPDATE, &bad, &good].concat();
        let wanted = [HELLO, &good, &UPDATE, &good].concat();
        for piece in [1, 2, 3, 7, 64, 4096] {
            assert_eq!(passed(&said, piece), Ok(wanted.clone()), "{piece}");
        }
    }

    #[test]
    fn who_looks_throws_nobody_out() {
        let alone = b"RFB 003.008\n\x01\x00";
        for piece in [1, 14] {
            assert_eq!(passed(alone, piece), Ok(HELLO.to_vec()), "{piece}");
        }
    }

    #[test]
    fn what_is_not_known_ends_it() {
        for said in [&[7][..], &[250, 0, 0, 0], &[255, 1, 0, 0]] {
            assert_eq!(passed(&[HELLO, said].concat(), 64), Err(Unknown));
        }
        assert_eq!(passed(b"RFB 003.003\n\x01", 64), Err(Unknown));
        assert_eq!(passed(b"GET / HTTP/1.1\n", 64), Err(Unknown));
    }
}
