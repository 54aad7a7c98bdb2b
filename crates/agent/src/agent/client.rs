//! The client for which a session was asked for last: programs in the session see it, and brokers are told its name.

use std::{io, sync::Arc};

use vsm_core::{SessionId, StartParams};
use vsm_daemon::span;

use super::{Agent, registry::Slot};
use crate::{control, params};

/// A client asks for a session that runs: its parameters replace those of the one before. That they cannot be kept is
/// no reason to keep the user from the desktop.
pub(super) async fn came(agent: &Arc<Agent>, slot: &Arc<Slot>, client: StartParams) {
    let known = || slot.client.lock();
    // What is not the client's but the desktop's stays what it was at the start.
    let (start_command, profile) = <(Box<str>, Box<str>)>::default();
    let client = StartParams { geometry: None, start_command, profile, ..client };
    if known().as_ref() == Some(&client) {
        return;
    }
    let (writer, name) = (Arc::clone(slot), client.client_name.clone());
    let dir = session_dir(agent, slot.id);
    let written = tokio::task::spawn_blocking(move || {
        // Held, so that of two clients the file and the memory are of the same.
        let mut known = writer.client.lock();
        let Some(record) = writer.record() else { return Ok(()) };
        let params = params::of(&record.session, writer.display(), &client);
        params::write(&dir, &params, record.uid)?;
        *known = Some(client);
        Ok(())
    });
    if let Err(error) = written.await.map_err(io::Error::other).and_then(|result| result) {
        let span = span::session(&slot.session());
        span.in_scope(|| tracing::warn!(%error, "the parameters of a client cannot be kept"));
    }
    agent.registry.set_client(slot, &name);
}

/// After a restart of the agent: who asked for this session last.
pub(super) fn recall(agent: &Agent, slot: &Slot) {
    let params = params::read(&session_dir(agent, slot.id)).unwrap_or_default();
    if let Some(name) = params.get(params::CLIENT_NAME) {
        // The file is the user's to change: it is told to nobody but themselves and administrators.
        agent.registry.set_client(slot, &crate::spec::one_line(name));
    }
}

fn session_dir(agent: &Agent, id: SessionId) -> std::path::PathBuf {
    control::session_dir(&agent.settings().session.run_dir, id)
}
