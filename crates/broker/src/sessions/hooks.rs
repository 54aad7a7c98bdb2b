//! Programs that root provides for logins: those in one directory run after a desktop was started and before its user
//! is answered, those in another before a reconnect is answered.
//!
//! The root helper runs them, as the broker is not root, on the broker that answers, in name order, one after the
//! other, each bounded in time. One login waits for them and nobody else does: neither the lock of its user nor a
//! thread is held. Two logins to one session do not run its hooks at the same time. A start that is asked for again, as
//! its answer was lost, runs its hooks again.

mod programs;

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Semaphore;
use tracing::Instrument as _;
use vsm_config::OnHookFailure;
use vsm_core::{Session, SessionId, StartParams};
use vsm_daemon::{
    span,
    trouble::{Kind, Troubles},
};
pub(crate) use vsm_root::message::Moment;
use vsm_root::{
    client::Lost,
    message::{Act, Answer, Hook, Said},
};

use crate::{
    error::Refusal,
    helper,
    journal::trail::{Note, SELF},
    locks::KeyedLocks,
    sessions::{
        Sessions,
        ending::{self, IfSilent},
        want::Handed,
    },
    site::settings::HookSettings,
};

/// Logins whose hooks run at a time; others wait for their turn, at most as long as a login may take.
const AT_ONCE_MAX: usize = 64;

/// What is shared by the hooks of all logins.
#[derive(Debug)]
pub(crate) struct Hooks {
    turns: Semaphore,
    sessions: KeyedLocks<SessionId>,
}

impl Default for Hooks {
    fn default() -> Self {
        let turns = Semaphore::new(AT_ONCE_MAX);
        Self { turns, sessions: KeyedLocks::default() }
    }
}

impl Hooks {
    /// Tells what of both folders is not run.
    pub(crate) fn look(settings: &HookSettings, troubles: &Troubles) {
        for moment in [Moment::Start, Moment::Reconnect] {
            Self::programs(settings, moment, troubles);
        }
    }

    /// What is to be run; what is not goes to `troubles`.
    fn programs(settings: &HookSettings, moment: Moment, troubles: &Troubles) -> Vec<String> {
        let dir = match moment {
            Moment::Start => &settings.startup_dir,
            Moment::Reconnect => &settings.reconnect_dir,
        };
        let found = programs::find(dir);
        // One by one, so that each is told whole; `moment` keeps those of both folders apart.
        let told = |skipped: &String| {
            (format!("{} {skipped}", moment.word()), format!("not run as a hook: {skipped}"))
        };
        let now: Vec<_> = found.skipped.iter().map(told).collect();
        troubles.only(Kind::Hooks, moment.word(), &now);
        found.programs
    }
}

/// Runs the hooks of a login that got this session, and waits for them. They are run to their end though the caller
/// goes away.
///
/// # Errors
/// `HOOK_FAILED` if one failed and the configuration says that this refuses the login.
pub(crate) async fn run(
    sessions: &Arc<Sessions>,
    moment: Moment,
    handed: &Handed,
    client: &StartParams,
) -> Result<(), Refusal> {
    let settings = sessions.settings();
    // Where there are none this costs the look into one directory.
    let programs = Hooks::programs(&settings.hooks, moment, &sessions.process.troubles);
    if programs.is_empty() {
        return Ok(());
    }
    let environment = environment(sessions, handed, client);
    let (worker, session) = (Arc::clone(sessions), Arc::clone(&handed.session));
    let work = async move {
        let lock = worker.hooks.sessions.of(session.id);
        let _alone = lock.lock().await;
        // Never closed; were it, running without a turn would only be less orderly.
        let _turn = worker.hooks.turns.acquire().await;
        for name in programs {
            let ended = run_one(&worker, moment, &name, &environment, &settings.hooks).await;
            if let Err(why) = ended {
                failed(&worker, &session, moment, &name, &why.to_string());
                if settings.hooks.on_failure == OnHookFailure::Refuse {
                    take_back(&worker, &session, moment).await;
                    return Err(Refusal::HookFailed(format!("{name} {why}")));
                }
            }
        }
        Ok(())
    };
    let task = sessions.process.tasks.spawn(work.instrument(span::session(&handed.session)));
    task.await.unwrap_or_else(|error| Err(Refusal::Internal(error.to_string())))
}

/// Why a hook failed; the words stand behind its name.
#[derive(Debug, thiserror::Error)]
enum NotRun {
    /// In the helper's words.
    #[error("{0}")]
    Failed(String),
    #[error("was refused by the root helper (vsm-root): {0}")]
    Refused(String),
    #[error("was not run: the root helper (vsm-root) answers something else")]
    Strange,
    #[error("was not run to its end: {0}")]
    Lost(#[source] Lost),
}

/// Has the helper run one.
async fn run_one(
    sessions: &Sessions,
    moment: Moment,
    name: &str,
    environment: &BTreeMap<String, String>,
    settings: &HookSettings,
) -> Result<(), NotRun> {
    let hook = Hook { moment, name: name.to_owned(), variables: environment.clone() };
    let hook = Act::Hook(hook);
    let process = &sessions.process;
    match process.helper.ask(hook, settings.timeout).await {
        Ok(Answer::Ran { said, failed }) => {
            log(name, &said);
            failed.map_or(Ok(()), |why| Err(NotRun::Failed(why)))
        }
        Ok(Answer::Refused(why) | Answer::Failed(why) | Answer::Unwritten(why)) => {
            Err(NotRun::Refused(why))
        }
        Ok(Answer::Done) => Err(NotRun::Strange),
        Err(lost) => {
            helper::told(process, &lost);
            Err(NotRun::Lost(lost))
        }
    }
}

/// Writes what a hook said into the broker's log.
fn log(hook: &str, said: &Said) {
    for line in &said.lines {
        let line = line.trim_end().replace(char::is_control, " ");
        tracing::info!(hook, line, "a hook says");
    }
    if said.left_out > 0 {
        tracing::info!(hook, bytes = said.left_out, "a hook said more than is logged");
    }
}

fn failed(sessions: &Sessions, session: &Session, moment: Moment, name: &str, why: &str) {
    tracing::warn!(hook = name, moment = moment.word(), why, "a hook failed");
    let detail = format!("{} hook {name} {why}", moment.word());
    sessions.note(Note::new(SELF, "hook-failed").session(session).detail(detail));
}

/// A desktop that was just started, and is not handed out, is of no use to anybody.
async fn take_back(sessions: &Arc<Sessions>, session: &Arc<Session>, moment: Moment) {
    if moment != Moment::Start {
        return;
    }
    let note = Note::new(SELF, "session-end-asked").session(session).detail("a hook failed");
    if let Err(error) = ending::end(sessions, session, IfSilent::Abandon, note).await {
        tracing::warn!(%error, "a desktop whose hook failed cannot be ended");
    }
}

/// What a hook is told besides what the helper adds. Of what the client says every control character is taken out.
fn environment(
    sessions: &Sessions,
    handed: &Handed,
    client: &StartParams,
) -> BTreeMap<String, String> {
    let session = &handed.session;
    let of_client = client.client.iter().map(|(key, value)| (variable(key), value.clone()));
    let mut all: BTreeMap<String, String> = of_client.collect();
    let display = session.state.display().unwrap_or(0);
    let own = [
        ("VSM_NODE", sessions.node().to_string()),
        ("VSM_SESSION_ID", session.id.to_string()),
        ("VSM_USER", session.user.to_string()),
        ("VSM_AGENT", session.agent.to_string()),
        ("VSM_AGENT_HOST", handed.host.clone()),
        ("VSM_DISPLAY", display.to_string()),
        ("VSM_START_COMMAND", session.params.start_command.clone().into()),
        ("VSM_CLIENT_NAME", client.client_name.clone().into()),
        ("VSM_CLIENT_LANGUAGE", client.language.clone().into()),
    ];
    all.extend(own.map(|(name, value)| (name.to_owned(), value)));
    for value in all.values_mut() {
        *value = value.replace(char::is_control, " ");
    }
    all
}

/// `VSM_CLIENT_PARAMS_ROOM` for `params/room`.
fn variable(key: &str) -> String {
    let key = key.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("VSM_CLIENT_{}", key.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_variables() {
        assert_eq!(variable("hardware_address"), "VSM_CLIENT_HARDWARE_ADDRESS");
        assert_eq!(variable("params/floor-2.room"), "VSM_CLIENT_PARAMS_FLOOR_2_ROOM");
    }
}
