//! Shadowing: somebody else looks at the desktop, or works at it where its user allows that.
//!
//! Who may at all is the broker's to say. What the desktop makes of it is the mode of its start; control is given by
//! its user alone, whatever the mode.

pub(crate) mod filter;

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
};

use filter::Filter;

use super::{
    account::Account,
    xserver::{self, Paths},
};
use crate::spec::ShadowMode;

/// Shadowers at a time.
const SHADOWS_MAX: usize = 4;
/// Bytes on their way in one direction.
const BUFFER: usize = 64 << 10;
/// A thread that copies needs next to no stack.
const STACK: usize = 128 << 10;

/// Somebody who shadows the desktop.
#[derive(Debug)]
pub(super) struct Shadowing {
    pub(super) by: String,
    /// Whether the user is told.
    pub(super) told: bool,
    /// The connection to the X server, which is cut with the value.
    rfb: UnixStream,
}

impl Shadowing {
    pub(super) const fn new(by: String, told: bool, rfb: UnixStream) -> Self {
        Self { by, told, rfb }
    }

    /// Ends it.
    pub(super) fn cut(&self) {
        // Fails where the X server has closed it already.
        let _ = self.rfb.shutdown(Shutdown::Both);
    }
}

impl Drop for Shadowing {
    fn drop(&mut self) {
        self.cut();
    }
}

/// What one who wants to shadow the desktop is to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They may look, and no more.
    Look,
    /// What the user of the desktop says, who is to be asked.
    AskUser,
    /// They may not, for this reason.
    No(String),
}

/// Whether somebody may shadow a desktop in this mode, which so many shadow already; `viewed` = its user is there.
pub(super) fn judge(mode: ShadowMode, shadowers: usize, viewed: bool, control: bool) -> Verdict {
    if mode == ShadowMode::Reject {
        Verdict::No("this desktop cannot be shadowed (/shadowing/shadowing_mode)".to_owned())
    } else if shadowers >= SHADOWS_MAX {
        Verdict::No(format!("{SHADOWS_MAX} shadow this desktop already"))
    } else if mode != ShadowMode::Ask && !control {
        Verdict::Look
    } else if !viewed {
        Verdict::No("nobody is at the desktop who could allow it".to_owned())
    } else {
        Verdict::AskUser
    }
}

/// Opens a connection to the X server for one who shadows the desktop: the end that can be cut, and theirs.
pub(super) fn open(
    paths: &Paths,
    account: &Account,
    control: bool,
) -> io::Result<(UnixStream, UnixStream)> {
    let rfb = xserver::connect(paths, account)?;
    if control { Ok((rfb.try_clone()?, rfb)) } else { look_only(rfb) }
}

/// The end of the X server, to be cut; and that of a viewer who may only look.
fn look_only(rfb: UnixStream) -> io::Result<(UnixStream, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let (server, viewer) = (rfb.try_clone()?, ours.try_clone()?);
    let (to_server, to_viewer) = (rfb.try_clone()?, ours);
    let copy = || thread::Builder::new().stack_size(STACK).name("shadow".to_owned());
    copy().spawn(move || drop(pictures(&server, &to_viewer)))?;
    copy().spawn(move || drop(wishes(&viewer, &to_server)))?;
    Ok((rfb, theirs))
}

/// From the X server, as it comes.
fn pictures(server: &UnixStream, viewer: &UnixStream) -> io::Result<()> {
    let done = io::copy(&mut &*server, &mut &*viewer);
    // Either end is both ends.
    let _ = server.shutdown(Shutdown::Both);
    let _ = viewer.shutdown(Shutdown::Both);
    done.map(drop)
}

/// From the viewer, what may pass of it.
fn wishes(mut viewer: &UnixStream, mut server: &UnixStream) -> io::Result<()> {
    let (mut filter, mut out, mut buffer) = (Filter::new(), Vec::new(), vec![0; BUFFER]);
    let done = loop {
        let said = match viewer.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break Err(error),
        };
        out.clear();
        if filter.pass(said, &mut out).is_err() {
            break Err(io::Error::other("a message that is not known"));
        }
        if let Err(error) = server.write_all(&out) {
            break Err(error);
        }
    };
    let _ = server.shutdown(Shutdown::Both);
    let _ = viewer.shutdown(Shutdown::Both);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_to_shadow_is_told_what_the_mode_says() {
        let no = |verdict: Verdict| matches!(verdict, Verdict::No(_));
        assert!(no(judge(ShadowMode::Reject, 0, true, false)));
        assert!(no(judge(ShadowMode::Silent, SHADOWS_MAX, true, false)));
        for mode in [ShadowMode::Silent, ShadowMode::Notify] {
            assert_eq!(judge(mode, SHADOWS_MAX - 1, false, false), Verdict::Look);
            // Control is given by the user alone, whatever the mode.
            assert_eq!(judge(mode, 0, true, true), Verdict::AskUser);
            assert!(no(judge(mode, 0, false, true)));
        }
        assert_eq!(judge(ShadowMode::Ask, 0, true, false), Verdict::AskUser);
        assert!(no(judge(ShadowMode::Ask, 0, false, false)));
    }
}
