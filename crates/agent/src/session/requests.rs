//! What a running session does for those on its control socket, and no other phase: `vsmagent` and viewers ask for it.

use std::path::Path;

use vsm_core::Viewer;
use vsm_daemon::clock;

use super::{
    limits::Enforcer,
    monitor::Monitor,
    notices::Waits,
    peer::Viewing,
    shadow::{self, Shadowing, Verdict},
    xserver,
};
use crate::{
    control::{DropCause, Event},
    refusal::one_line,
    spec::{SecondViewer, ShadowMode},
};

fn refused(why: impl Into<String>) -> Option<Event> {
    Some(Event::Refused { why: why.into() })
}

/// Hands a connection to the X server over to a viewer.
pub(super) fn attach(
    monitor: &mut Monitor,
    limits: &mut Enforcer,
    index: usize,
    address: &str,
) -> Option<Event> {
    let address = one_line(address);
    match monitor.spec.settings.second_viewer {
        SecondViewer::Refuse if monitor.peers.viewer().is_some() => {
            return refused("the session is viewed already (/vsmagent/second_viewer)");
        }
        SecondViewer::Replace => {
            let by = if address.is_empty() { String::new() } else { format!(" from {address}") };
            let why = format!("another viewer{by} has taken the session over");
            if monitor.peers.drop_viewers(&why, DropCause::Replaced) {
                limits.viewers_changed(monitor.peers.viewed_since());
            }
        }
        SecondViewer::Refuse | SecondViewer::Share => {}
    }
    let rfb = match xserver::connect(&monitor.desktop.paths, &monitor.desktop.account) {
        Ok(rfb) => rfb,
        Err(error) => return refused(format!("the X server cannot be reached: {error}")),
    };
    let viewer = Viewer { address, since: clock::unix_millis() };
    let peer = monitor.peers.get_mut(index)?;
    if let Err(error) = peer.attach(Viewing { rfb, viewer, since: clock::now() }) {
        return refused(format!("the connection cannot be handed over: {error}"));
    }
    monitor.peers.tell_who_views();
    limits.viewers_changed(monitor.peers.viewed_since());
    None
}

/// Starts to show a text; the answer comes when the program ends, unless there is one at once.
pub(super) fn notify(
    monitor: &mut Monitor,
    index: usize,
    program: &Path,
    text: &str,
) -> Option<Event> {
    let peer = monitor.peers.get(index)?.number;
    let shown = monitor.show(program, &[text], Waits::Text(peer));
    refused(shown.err()?.to_string())
}

/// Somebody wants to shadow the desktop: the answer, or a question to its user, whose answer comes later.
pub(super) fn ask_shadow(
    monitor: &mut Monitor,
    index: usize,
    by: &str,
    control: bool,
    program: &Path,
) -> Option<Event> {
    let (mode, shadowers) = (monitor.spec.settings.shadowing, monitor.peers.shadowers().count());
    let viewed = monitor.peers.viewer().is_some();
    let (granted, why) = match shadow::judge(mode, shadowers, viewed, control) {
        Verdict::Look => (true, String::new()),
        Verdict::No(why) => (false, why),
        Verdict::AskUser => {
            let peer = monitor.peers.get(index)?.number;
            let what = if control { "control" } else { "view" };
            let shown = monitor.show(program, &[what, by], Waits::Question { peer, control });
            return refused(shown.err()?.to_string());
        }
    };
    Some(Event::ShadowAnswer { granted, control: false, why })
}

/// Hands a connection to the desktop over to one who shadows it.
pub(super) fn shadow(
    monitor: &mut Monitor,
    index: usize,
    by: &str,
    address: &str,
    control: bool,
) -> Option<Event> {
    let told = monitor.spec.settings.shadowing != ShadowMode::Silent;
    let opened = shadow::open(&monitor.desktop.paths, &monitor.desktop.account, control);
    let (rfb, theirs) = match opened {
        Ok(pair) => pair,
        Err(error) => return refused(format!("the X server cannot be reached: {error}")),
    };
    let peer = monitor.peers.get_mut(index)?;
    let by = one_line(by);
    if let Err(error) = peer.hand_over(&theirs) {
        return refused(format!("the connection cannot be handed over: {error}"));
    }
    peer.shadowing = Some(Shadowing::new(by.clone(), told, rfb));
    let from = if address.is_empty() { String::new() } else { format!(" from {address}") };
    let how = if control { "works at" } else { "looks at" };
    monitor.log.note(&format!("{by}{from} {how} the desktop"));
    if told {
        monitor.say(&format!("{by} {how} your desktop."));
    }
    monitor.peers.tell_who_shadows();
    None
}
