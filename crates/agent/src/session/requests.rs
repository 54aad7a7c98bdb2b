//! What the monitor does for those on its control socket: `vsmagent` and viewers.

use vsm_core::Viewer;
use vsm_daemon::clock;

use super::{
    monitor::Monitor,
    peer::{Peer, Viewing},
    xserver,
};
use crate::{
    control::{DropCause, Event, Phase, Request},
    refusal::one_line,
    spec::SecondViewer,
};

/// Connections of the owner at a time; `vsmagent`'s are not counted against it.
const OWNER_PEERS_MAX: usize = 16;
/// Connections in all.
const PEERS_MAX: usize = 64;

impl Monitor {
    pub(super) fn viewer(&self) -> Option<Viewer> {
        let viewers = self.peers.iter().filter_map(|peer| peer.viewing.as_ref());
        viewers.max_by_key(|viewing| viewing.viewer.since).map(|viewing| viewing.viewer.clone())
    }

    fn tell_viewer(&mut self) {
        let viewer = self.viewer();
        self.tell(&Event::Viewer { viewer });
        self.viewers_changed();
    }

    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            self.peers_ever += 1;
            let Ok(peer) = Peer::new(stream, self.peers_ever) else { continue };
            let of_owner = self.peers.iter().filter(|other| other.uid != 0).count();
            if self.peers.len() < PEERS_MAX && (peer.uid == 0 || of_owner < OWNER_PEERS_MAX) {
                self.peers.push(peer);
            }
        }
    }

    pub(super) fn drop_gone_peers(&mut self) {
        let gone = |peer: &Peer| peer.over;
        if self.peers.iter().any(gone) {
            let viewed = self.peers.iter().any(|peer| peer.over && peer.viewing.is_some());
            let over = self.peers.iter_mut().filter(|peer| peer.over);
            let shadows = over.filter_map(|peer| peer.shadowing.take()).collect();
            self.peers.retain(|peer| !peer.over);
            self.shadows_ended(shadows);
            if viewed {
                self.tell_viewer();
            }
        }
    }

    pub(super) fn serve(&mut self, index: usize) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        peer.flush();
        peer.receive();
        while let Some(request) = self.peers.get_mut(index).and_then(Peer::next_request) {
            let answer = self.answer(index, request);
            if let (Some(peer), Some(answer)) = (self.peers.get_mut(index), answer) {
                peer.send(&answer);
            }
        }
    }

    fn answer(&mut self, index: usize, request: Request) -> Option<Event> {
        let refused = |why: &str| Some(Event::Refused { why: why.to_owned() });
        let uid = self.peers.get(index).map_or(u32::MAX, |peer| peer.uid);
        let owner = uid == self.desktop.account.uid;
        if self.peers.get(index).is_some_and(|peer| peer.shadowing.is_some()) {
            // It was root's, and is in the hands of one who shadows.
            return refused("this connection is for viewing alone");
        }
        match request {
            Request::Attach { address } if owner || uid == 0 => self.attach(index, &address),
            Request::Disconnect { reason } if owner || uid == 0 => {
                let was_connected = self.drop_viewers(&reason, DropCause::Disconnected);
                Some(Event::Disconnected { was_connected })
            }
            Request::EndShadows if owner || uid == 0 => {
                let was_connected = self.drop_shadows();
                Some(Event::Disconnected { was_connected })
            }
            Request::Environment if owner || uid == 0 => {
                Some(Event::Environment { variables: self.desktop.environment.clone() })
            }
            Request::Extend if owner || uid == 0 => Some(self.extend()),
            _ if uid != 0 => refused("only root may ask for that"),
            Request::Subscribe => {
                let by = self.shadowers().map(str::to_owned).collect();
                if let Some(peer) = self.peers.get_mut(index) {
                    peer.subscribed = true;
                    peer.send(&Event::Shadowers { by });
                }
                Some(self.status())
            }
            Request::Status => Some(self.status()),
            Request::Terminate { reason, detail } => {
                self.ask_to_end(reason, &detail);
                Some(Event::Terminating)
            }
            Request::Notify { program, text } => self.notify(index, &program, &text),
            Request::AskShadow { by, control, program } => {
                self.ask_shadow(index, &by, control, &program)
            }
            Request::Shadow { by, address, control } => self.shadow(index, &by, &address, control),
            Request::Limits { limits } => Some(self.set_limits(*limits)),
            Request::Standing => self.ask_standing(index),
            Request::Attach { .. }
            | Request::Disconnect { .. }
            | Request::EndShadows
            | Request::Environment
            | Request::Extend => refused("it is not your session"),
        }
    }

    pub(super) fn drop_viewers(&mut self, why: &str, cause: DropCause) -> bool {
        let mut any = false;
        for peer in &mut self.peers {
            if peer.viewing.is_some() {
                peer.send(&Event::Dropped { why: one_line(why), cause });
                any |= peer.stop_viewing();
                // Its other end may hang on a line that is dead: nothing of it is waited for, and it counts no more.
                peer.over |= !peer.wants_to_send();
            }
        }
        if any {
            self.tell_viewer();
        }
        any
    }

    fn attach(&mut self, index: usize, address: &str) -> Option<Event> {
        let refused = |why: String| Some(Event::Refused { why });
        let (Phase::Running, Some(kept)) = (self.phase(), &self.kept) else {
            // Not a refusal: the caller is to learn why there is no session any more.
            return Some(Event::Terminating);
        };
        let address = one_line(address);
        let viewed = self.peers.iter().any(|peer| peer.viewing.is_some());
        match kept.spec.settings.second_viewer {
            SecondViewer::Refuse if viewed => {
                return refused(
                    "the session is viewed already (/vsmagent/second_viewer)".to_owned(),
                );
            }
            SecondViewer::Replace if viewed => {
                let by =
                    if address.is_empty() { String::new() } else { format!(" from {address}") };
                let why = format!("another viewer{by} has taken the session over");
                self.drop_viewers(&why, DropCause::Replaced);
            }
            SecondViewer::Replace | SecondViewer::Refuse | SecondViewer::Share => {}
        }
        let rfb = match xserver::connect(&self.desktop.paths, &self.desktop.account) {
            Ok(rfb) => rfb,
            Err(error) => return refused(format!("the X server cannot be reached: {error}")),
        };
        let viewer = Viewer { address, since: clock::unix_millis() };
        let peer = self.peers.get_mut(index)?;
        if let Err(error) = peer.attach(Viewing { rfb, viewer, since: clock::now() }) {
            return refused(format!("the connection cannot be handed over: {error}"));
        }
        self.tell_viewer();
        None
    }
}
