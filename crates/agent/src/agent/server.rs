//! The socket on which `vsm-agent-net` asks: who may call, and one call after the other on each connection. It alone
//! speaks with other hosts; here is root, which has no port, no TLS and no key.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::Path,
    sync::Arc,
};

use tokio::{net::UnixListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use vsm_daemon::{
    access::Refusals,
    account::Account,
    socket::{self, Access, Asked, Bounds, Kept},
    trouble,
};

use super::{Agent, call_error::CallError, caller::Caller, calls, order, report};
use crate::{
    message::{self, Answer, CALL_MAX, Call, Failure, Kind},
    refusal::one_line,
};

/// Calls at a time; for an account of the system there are sixteen times as many. A host has some hundred desktops, and
/// a call lasts as long as the desktop takes.
const EACH: usize = 64;
/// Messages to the witness at a time, each as large as one may be: both brokers have one under way.
const WITNESS_MAX: usize = 4;

/// Opens the socket for the account alone.
///
/// # Errors
/// If somebody else's folder is in its place, another agent serves it, or the system refuses.
pub(super) fn listen(run_dir: &Path, account: Account) -> io::Result<UnixListener> {
    let dir = message::folder(run_dir);
    fs::create_dir_all(run_dir)?;
    match fs::DirBuilder::new().mode(0o710).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // The one above may be open to others, who could have made it first.
    let found = fs::symlink_metadata(&dir)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        let what = format!("{} is not root's folder: remove it", dir.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    chown(&dir, None, Some(account.gid))?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o710))?;
    let access = Access { mode: 0o660, group: Some(account.gid) };
    socket::listen(&message::socket(run_dir), access).map_err(io::Error::other)
}

/// Serves the account until `stop`, then ends calls that are under way, bounded in time.
pub(super) async fn serve(
    agent: Arc<Agent>,
    listener: UnixListener,
    account: Account,
    stop: CancellationToken,
) {
    let (run_dir, troubles) = (agent.settings().session.run_dir.clone(), agent.troubles.clone());
    let open = || {
        let opened = listen(&run_dir, account);
        let what = |error| format!("the socket for vsm-agent-net was taken away: {error:#}");
        let wrong = opened.as_ref().err().map(what);
        troubles.set(trouble::Kind::Socket, "vsm-agent-net", wrong);
        opened
    };
    let path = message::socket(&run_dir);
    let under_way = TaskTracker::new();
    let server = Arc::new(Server {
        agent,
        account,
        stop: stop.clone(),
        witness: Semaphore::new(WITNESS_MAX),
        refusals: Refusals::default(),
    });
    let tracker = under_way.clone();
    let answer = move |asked: Asked| {
        let server = Arc::clone(&server);
        // In a task of its own: a deed does not die with whoever asked for it.
        let answered = tracker.spawn(async move { server.answer(asked).await });
        async move { answered.await.map_err(io::Error::other)? }
    };
    let bounds = Bounds { each: EACH, line: CALL_MAX };
    socket::answer(Kept::new(listener, path, open), bounds, &stop, answer).await;
    under_way.close();
    if tokio::time::timeout(order::STOP_MAX, under_way.wait()).await.is_err() {
        tracing::warn!("calls that are still under way are left");
    }
}

struct Server {
    agent: Arc<Agent>,
    account: Account,
    stop: CancellationToken,
    witness: Semaphore,
    /// Whoever asks may ask without end, and the log is everybody's.
    refusals: Refusals,
}

impl Server {
    async fn answer(&self, Asked { uid, mut line, stream }: Asked) -> io::Result<()> {
        let mut caller = Caller::new(stream);
        // Whoever gave up while this process was held up has nothing left to ask.
        while !line.is_empty() {
            let call = match self.call(uid, &line) {
                Ok(call) => call,
                Err(failure) => {
                    let who = format!("uid {uid}");
                    self.refusals.tell(&who, "its socket", "a call", &failure.text);
                    return caller.say(&Answer::Failed(failure)).await;
                }
            };
            if matches!(call, Call::Report) {
                return report::tell(&self.agent, caller, &self.stop).await;
            }
            if matches!(call, Call::Follow) {
                return order::give(&self.agent, caller, &self.stop).await;
            }
            self.one(&mut caller, call).await?;
            tokio::select! {
                next = caller.next() => line = next?.unwrap_or_default(),
                () = self.stop.cancelled() => return Ok(()),
            }
        }
        Ok(())
    }

    /// What is answered once.
    async fn one(&self, caller: &mut Caller, call: Call) -> io::Result<()> {
        match call {
            Call::Witness { bytes } => self.witness(caller, bytes).await,
            Call::Log { fence, id, bytes } => {
                match calls::log(&self.agent, &fence, id, bytes).await {
                    Ok(text) => caller.say_bytes(text.as_deref()).await,
                    Err(error) => caller.say(&Answer::from(error)).await,
                }
            }
            one @ (Call::Start(_)
            | Call::Verify { .. }
            | Call::Terminate { .. }
            | Call::Disconnect { .. }
            | Call::SetLimits { .. }
            | Call::Revoke { .. }
            | Call::Extend { .. }
            | Call::Notify { .. }
            | Call::AcceptKey { .. }
            | Call::Shadow { .. }
            | Call::Cancel { .. }
            | Call::Quarantine { .. }
            | Call::Install(_)
            | Call::Forget(_)
            | Call::Report
            | Call::Follow) => {
                let done = calls::done(&self.agent, one).await;
                caller.say(&done.unwrap_or_else(Answer::from)).await
            }
        }
    }

    fn call(&self, uid: u32, line: &[u8]) -> Result<Call, Failure> {
        if uid != self.account.uid {
            let text = format!("only the user {} may ask", self.account.name);
            return Err(Failure { kind: Kind::NotAllowed, text });
        }
        // It may repeat what was asked, which can be as long as a call.
        let no_call = |why| one_line(&format!("no call: {why}"));
        Call::parse(line).map_err(|why| Failure { kind: Kind::Invalid, text: no_call(why) })
    }

    /// They may be large, so few are taken at a time.
    async fn witness(&self, caller: &mut Caller, bytes: u64) -> io::Result<()> {
        let _turn = self.witness.acquire().await.map_err(io::Error::other)?;
        caller.say(&Answer::Go).await?;
        let message = caller.bytes(bytes).await?;
        let is_empty = || self.agent.registry.live_count() == 0;
        match self.agent.fence.ask(&message, is_empty).await {
            Ok(answer) => caller.say_bytes(Some(&answer)).await,
            Err(denied) => caller.say(&Answer::from(CallError::from(denied))).await,
        }
    }
}
