//! Shadowing: somebody else looks at the desktop, or works at it where its user allows that.
//!
//! Who may at all is the broker's to say. What the desktop makes of it is the mode of its start; control is given by
//! its user alone, whatever the mode.

mod filter;

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    thread,
};

use filter::Filter;

use super::{monitor::Monitor, xserver};
use crate::{
    control::{DropCause, Event, Phase},
    refusal::one_line,
    spec::ShadowMode,
};

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
    told: bool,
    /// The connection to the X server, which is cut with the value.
    rfb: UnixStream,
}

impl Shadowing {
    fn cut(&self) {
        // Fails where the X server has closed it already.
        let _ = self.rfb.shutdown(Shutdown::Both);
    }
}

impl Drop for Shadowing {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Monitor {
    /// Somebody wants to shadow the desktop: the answer, or a question to its user, whose answer comes later.
    pub(super) fn ask_shadow(
        &mut self,
        index: usize,
        by: &str,
        control: bool,
        program: &Path,
    ) -> Option<Event> {
        let no = |why: String| Some(Event::ShadowAnswer { granted: false, control: false, why });
        let (Phase::Running, Some(kept)) = (self.phase(), &self.kept) else {
            return Some(Event::Terminating);
        };
        let mode = kept.spec.settings.shadowing;
        if mode == ShadowMode::Reject {
            return no("this desktop cannot be shadowed (/shadowing/shadowing_mode)".to_owned());
        }
        if self.shadowers().count() >= SHADOWS_MAX {
            return no(format!("{SHADOWS_MAX} shadow this desktop already"));
        }
        if mode != ShadowMode::Ask && !control {
            return Some(Event::ShadowAnswer { granted: true, control: false, why: String::new() });
        }
        if self.viewer().is_none() {
            return no("nobody is at the desktop who could allow it".to_owned());
        }
        let what = if control { "control" } else { "view" };
        self.question(index, program, &[what, by], control)
    }

    /// Those who shadow the desktop now.
    pub(super) fn shadowers(&self) -> impl Iterator<Item = &str> {
        self.peers.iter().filter_map(|peer| peer.shadowing.as_ref()).map(|one| one.by.as_str())
    }

    /// Hands a connection to the desktop over to one who shadows it.
    pub(super) fn shadow(
        &mut self,
        index: usize,
        by: &str,
        address: &str,
        control: bool,
    ) -> Option<Event> {
        let refused = |why: String| Some(Event::Refused { why });
        let (Phase::Running, Some(kept)) = (self.phase(), &self.kept) else {
            return Some(Event::Terminating);
        };
        let told = kept.spec.settings.shadowing != ShadowMode::Silent;
        let rfb = xserver::connect(&self.desktop.paths, &self.desktop.account)
            .and_then(|rfb| if control { Ok((rfb.try_clone()?, rfb)) } else { look_only(rfb) });
        let (rfb, theirs) = match rfb {
            Ok(pair) => pair,
            Err(error) => return refused(format!("the X server cannot be reached: {error}")),
        };
        let peer = self.peers.get_mut(index)?;
        let by = one_line(by);
        if let Err(error) = peer.hand_over(&theirs) {
            return refused(format!("the connection cannot be handed over: {error}"));
        }
        peer.shadowing = Some(Shadowing { by: by.clone(), told, rfb });
        let from = if address.is_empty() { String::new() } else { format!(" from {address}") };
        let how = if control { "works at" } else { "looks at" };
        self.log.note(&format!("{by}{from} {how} the desktop"));
        if told {
            self.say(&format!("{by} {how} your desktop."));
        }
        self.tell_shadowers();
        None
    }

    /// Says that some who have shadowed the desktop do so no more.
    pub(super) fn shadows_ended(&mut self, ended: Vec<Shadowing>) {
        if ended.is_empty() {
            return;
        }
        for Shadowing { by, told, .. } in &ended {
            self.log.note(&format!("{by} shadows the desktop no more"));
            if *told {
                self.say(&format!("{by} no longer sees your desktop."));
            }
        }
        drop(ended);
        self.tell_shadowers();
    }

    /// Ends all shadowing, as the user wants.
    pub(super) fn drop_shadows(&mut self) -> bool {
        let mut any = false;
        for peer in self.peers.iter_mut().filter(|peer| peer.shadowing.is_some()) {
            // Before the picture stops: who sees its end looks for the reason once.
            let why = "the user of the desktop has ended it".to_owned();
            peer.send(&Event::Dropped { why, cause: DropCause::Disconnected });
            peer.shadowing.iter().for_each(Shadowing::cut);
            peer.over = true;
            any = true;
        }
        any
    }

    fn tell_shadowers(&mut self) {
        let by = self.shadowers().map(str::to_owned).collect();
        self.tell(&Event::Shadowers { by });
    }
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
