//! What is done for each call of `vsm-agent-net`. It says which broker asks; by what right, is looked at here.

use std::{io, sync::Arc};

use tracing::Instrument as _;
use vsm_core::{Fence, SessionId, State};
use vsm_daemon::span;

use super::{
    Agent,
    call_error::CallError,
    fence::Permit,
    identity::{Files, NotInstalled},
    keys, life, limits, link, notice, session_log, shadow,
    wish::NotDone,
};
use crate::{
    control::{self, Event, Request},
    message::{Answer, Call, Start, Wish},
    refusal::one_line,
};

/// Does it. What is told in more than a line is not asked for here.
pub(super) async fn done(agent: &Arc<Agent>, call: Call) -> Result<Answer, CallError> {
    let act = Act(agent);
    match call {
        Call::Start(start) => act.start(*start).await,
        Call::Verify { id, client, standing, fence } => {
            let client = act.client_of(fence.as_ref(), client).await;
            let standing = act.standing(id, standing).await;
            Ok(match life::verify(agent, id, client.map(|client| *client)).await {
                Ok(mut live) => {
                    live.standing = standing.or(live.standing);
                    Answer::Alive(Box::new(live))
                }
                Err(ended) => Answer::Ended(ended),
            })
        }
        Call::Terminate { fence, id, broker } => act.terminate(&fence, id, &broker).await,
        Call::Disconnect { fence, id, reason } => act.disconnect(&fence, id, &reason).await,
        Call::SetLimits { fence, sessions } => {
            // Not held until all is done, which may take seconds where a session hangs. If a broker with other words is
            // promised meanwhile, it sees in its report what came of these, and says its own again.
            drop(act.permit(&fence).await?);
            Ok(all_but(limits::set(agent, sessions).await))
        }
        Call::Revoke { fence, identities } => {
            drop(act.permit(&fence).await?);
            let (told, agent) = (identities.into_iter().collect(), Arc::clone(agent));
            act.blocking(move || agent.revoked.take(told, &agent.troubles)).await??;
            Ok(Answer::Done)
        }
        Call::Extend { fence, id } => act.extend(&fence, id).await,
        Call::Notify { fence, ids, text } => {
            drop(act.permit(&fence).await?);
            Ok(all_but(notice::show(agent, ids, text.as_str()).await))
        }
        Call::AcceptKey { fence, announced } => {
            let permit = act.permit(&fence).await?;
            let host_keys = keys::accept(agent, announced).await?;
            drop(permit);
            Ok(Answer::HostKeys(host_keys))
        }
        Call::Shadow { fence, wish } => act.shadow(&fence, wish).await,
        Call::Cancel { fence, id } => {
            let permit = act.permit(&fence).await?;
            life::forbid(agent, id, permit).await?;
            Ok(Answer::Done)
        }
        Call::Quarantine { fence, lineage, journal_id, journal } => {
            // Nothing is promised: the journal is to be found as it is.
            agent.fence.check(&fence).await?;
            let done = agent.fence.quarantine(lineage, journal_id, journal).await;
            Ok(Answer::Was(done.map_err(CallError::NotSetAside)?))
        }
        Call::Install(install) => act.identity(move |files| files.install(&install)).await,
        Call::Forget(authorities) => act.identity(move |files| files.forget(&authorities)).await,
        Call::Log { .. } | Call::Witness { .. } | Call::Report | Call::Follow => {
            Err(CallError::Broken(io::ErrorKind::InvalidInput.into()))
        }
    }
}

/// The end of a session's log; none = there is no log.
pub(super) async fn log(
    agent: &Arc<Agent>,
    fence: &Fence,
    id: SessionId,
    bytes: u64,
) -> Result<Option<Vec<u8>>, CallError> {
    let act = Act(agent);
    drop(act.permit(fence).await?);
    let store = agent.store.clone();
    let read = act.blocking(move || session_log::tail(&store, id, bytes)).await?;
    read.map_err(CallError::Log)
}

fn all_but(failed: Vec<(SessionId, NotDone)>) -> Answer {
    Answer::AllBut(failed.into_iter().map(|(id, why)| (id, one_line(&why.to_string()))).collect())
}

struct Act<'a>(&'a Arc<Agent>);

impl<'a> Act<'a> {
    async fn shadow(&self, fence: &Fence, wish: Wish) -> Result<Answer, CallError> {
        drop(self.permit(fence).await?);
        let verdict = shadow::allow(self.0, wish).await?;
        // The user may have taken their time. A right that nobody is told of lets nobody in.
        self.0.fence.check(fence).await?;
        Ok(match verdict {
            shadow::Verdict::Refused(why) => Answer::NotShadowed(why),
            shadow::Verdict::Granted { control, right, host_keys } => {
                Answer::Shadow { control, right, host_keys }
            }
        })
    }

    /// Changes the files of this host's identity.
    async fn identity(
        &self,
        change: impl FnOnce(&Files) -> Result<(), NotInstalled> + Send + 'static,
    ) -> Result<Answer, CallError> {
        let files = Arc::clone(&self.0.files.borrow());
        self.blocking(move || change(&files)).await??;
        Ok(Answer::Done)
    }

    async fn permit(&self, fence: &Fence) -> Result<Permit<'a>, CallError> {
        Ok(self.0.admit(fence).await?)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| CallError::Broken(io::Error::other(error)))
    }

    async fn start(&self, start: Start) -> Result<Answer, CallError> {
        let Start { fence, mut session, limits, resources } = start;
        session.state = State::Starting;
        let span = span::session(&session);
        let begun = life::begin(self.0, &fence, session, limits, resources);
        Ok(match begun.instrument(span).await? {
            life::Start::Running(slot) => Answer::Started(Box::new(slot.session())),
            life::Start::Refused(refused) => Answer::Refused(refused),
            life::Start::Fenced(promised) => Answer::Fenced(promised),
        })
    }

    /// Whoever asks may know whether it lives. A broker that was replaced changes nothing by asking.
    async fn client_of<T>(&self, fence: Option<&Fence>, client: Option<T>) -> Option<T> {
        let acts = self.0.fence.check(fence?).await.is_ok();
        client.filter(|_| acts)
    }

    async fn standing(&self, id: SessionId, wanted: bool) -> Option<Arc<vsm_core::Standing>> {
        let slot = self.0.registry.slot(id).filter(|_| wanted)?;
        limits::standing(self.0, &slot).await.map(Arc::new)
    }

    async fn terminate(
        &self,
        fence: &Fence,
        id: SessionId,
        broker: &str,
    ) -> Result<Answer, CallError> {
        let permit = self.permit(fence).await?;
        let Some(slot) = self.0.registry.slot(id) else {
            return Ok(Answer::Ended(life::how_it_ended(self.0, id)));
        };
        let why = format!("ended at the request of broker {}", one_line(broker));
        let span = span::session(&slot.session());
        Ok(Answer::Ended(life::end(self.0, &slot, &why, permit).instrument(span).await?))
    }

    async fn disconnect(
        &self,
        fence: &Fence,
        id: SessionId,
        reason: &str,
    ) -> Result<Answer, CallError> {
        // Not held, here and below, where a session is asked that may hang: what is told to it is one line.
        drop(self.permit(fence).await?);
        let slot = self.0.registry.slot(id).ok_or(CallError::NoSession(id))?;
        let dir = control::session_dir(&self.0.settings().session.run_dir, slot.id);
        let ask = Request::Disconnect { reason: one_line(reason) };
        let answer = link::ask(&dir, &ask).await.map_err(NotDone::from)?;
        let Event::Disconnected { was_connected } = answer else {
            let what = format!("the session answered {answer:?}");
            return Err(CallError::Broken(io::Error::other(what)));
        };
        Ok(Answer::Disconnected { was_connected })
    }

    async fn extend(&self, fence: &Fence, id: SessionId) -> Result<Answer, CallError> {
        drop(self.permit(fence).await?);
        let slot = self.0.registry.slot(id).ok_or(CallError::NoSession(id))?;
        match limits::extend(self.0, &slot).await {
            Ok(limits::Extended { limit, left_ms, more }) => {
                Ok(Answer::Extended { limit, left_ms, more })
            }
            // A session that does not answer is no refusal.
            Err(error @ NotDone::NoAnswer(_)) => Err(error.into()),
            Err(why) => Ok(Answer::NotExtended(why.to_string())),
        }
    }
}
