//! Finding the sessions again when the agent starts.
//!
//! Three things are looked at: the records, the folders of sessions under the run directory, and the processes. A
//! live `vsm-session` is the best witness: it is asked for its record, which also rebuilds a file that was damaged.
//! Nothing is ended here but what is left of a session whose `vsm-session` is dead.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    sync::Arc,
    time::Duration,
};

use tracing::{Instrument as _, Span};
use vsm_core::{EndReason, SessionId};
use vsm_daemon::{clock, span};

use super::{Agent, client, link, registry::made_out};
use crate::{
    control::{self, Event, Request},
    record::{ReadError, Record},
};

/// How long a start that was under way when the last agent died may take to be ready.
const UNDER_WAY_MAX: Duration = Duration::from_secs(60);

/// Reads what is there and takes it over.
pub(super) async fn adopt(agent: &Arc<Agent>) -> io::Result<()> {
    let settings = agent.settings();
    for done in agent.store.all_done()? {
        let forget = agent.registry.remember(done, &settings);
        link::forget_on_disk(agent, forget);
    }
    let mut records = BTreeMap::new();
    for (id, record) in agent.store.records()? {
        records.insert(id, readable(agent, id, record));
    }
    let run_dir = &settings.session.run_dir;
    let all: BTreeSet<SessionId> = records.keys().copied().chain(folders(run_dir)).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for id in all {
        let (agent, record) = (Arc::clone(agent), records.remove(&id).flatten());
        tasks.spawn(async move { adopt_one(&agent, id, record).await });
    }
    while let Some(result) = tasks.join_next().await {
        result.map_err(io::Error::other)?;
    }
    Ok(())
}

fn readable(agent: &Agent, id: SessionId, record: Result<Record, ReadError>) -> Option<Record> {
    let error = match record {
        Ok(record) => return Some(record),
        Err(error) => error,
    };
    match agent.store.move_aside(id, clock::unix_millis()) {
        Ok(to) => {
            tracing::error!(session = %id, %error, moved_to = %to.display(), "a session's record cannot be read");
        }
        Err(moving) => {
            tracing::error!(session = %id, %error, %moving, "a session's record cannot be read nor moved");
        }
    }
    None
}

fn folders(run_dir: &Path) -> Vec<SessionId> {
    let entries = fs::read_dir(run_dir.join("sessions")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

async fn adopt_one(agent: &Arc<Agent>, id: SessionId, record: Option<Record>) {
    let known_dead = record.as_ref().is_some_and(|record| !record.monitor.is_alive());
    if known_dead || agent.registry.done(id).is_some() {
        return bury(agent, id, record).await;
    }
    match ask_for_record(agent, id).await {
        Some(found) => {
            if record.as_ref() != Some(&found) {
                rebuild(agent, &found).await;
            }
            take_over(agent, found);
        }
        // It lives and does not answer: it counts as alive, and is asked again and again.
        None => match record {
            Some(record) if record.monitor.is_alive() => take_over(agent, record),
            record => bury(agent, id, record).await,
        },
    }
}

fn take_over(agent: &Arc<Agent>, record: Record) {
    let span = span::session(&record.session);
    span.in_scope(|| tracing::info!("session adopted"));
    let slot = agent.registry.adopt(record);
    client::recall(agent, &slot);
    let follow = link::follow(Arc::clone(agent), slot).instrument(span);
    agent.duties.run_to_its_end("follower of a session", follow);
}

/// Asks the session's process; waits for one that is just being started.
async fn ask_for_record(agent: &Agent, id: SessionId) -> Option<Record> {
    let dir = control::session_dir(&agent.settings().session.run_dir, id);
    let deadline = clock::now() + UNDER_WAY_MAX;
    while clock::now() < deadline {
        match link::ask(&dir, &Request::Status).await {
            Ok(Event::Status { record: Some(record), phase, .. }) => match phase {
                control::Phase::Running | control::Phase::Ending => return Some(*record),
                control::Phase::Starting => {}
            },
            Ok(_) => {}
            // It lives and is busy with PAM.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(_) => return None,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

async fn rebuild(agent: &Agent, record: &Record) {
    let (store, copy) = (agent.store.clone(), record.clone());
    let span = span::session(&record.session);
    let saved = tokio::task::spawn_blocking(move || store.save_record(&copy)).await;
    match saved.map_err(io::Error::other).and_then(|result| result) {
        Ok(()) => {
            span.in_scope(|| tracing::warn!("the record was rebuilt from the running session"));
        }
        Err(error) => {
            span.in_scope(|| tracing::error!(%error, "the record cannot be rebuilt"));
        }
    }
}

/// Ends what is left of a session whose process is gone, and remembers why it is gone.
async fn bury(agent: &Agent, id: SessionId, record: Option<Record>) {
    let same_boot = record.as_ref().is_none_or(|record| record.boot_id == agent.boot_id);
    let span = record.as_ref().map_or_else(Span::none, |record| span::session(&record.session));
    // The numbers of another boot mean other processes now.
    link::sweep(agent, id, record.filter(|_| same_boot)).await;
    if agent.registry.done(id).is_some() {
        return agent.store.remove_record(id);
    }
    let done = if same_boot {
        made_out(id, EndReason::Lost, "its monitor process was killed while the agent was away")
    } else {
        made_out(id, EndReason::HostReboot, "the host was restarted")
    };
    span.in_scope(
        || tracing::warn!(session = %id, reason = ?done.ended().reason, "session is gone"),
    );
    link::keep(agent, &done).await;
    let forget = agent.registry.remember(done, &agent.settings());
    link::forget_on_disk(agent, forget);
}
