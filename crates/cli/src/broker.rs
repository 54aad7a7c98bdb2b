//! Calls to the broker through ssh.

use std::{sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tonic::{
    Request,
    transport::{Channel, Endpoint, Uri},
};
use uuid::Uuid;
use vsm_core::SessionId;
use vsm_daemon::clock;
use vsm_proto::{
    broker::v1::{self as pb, broker_client::BrokerClient},
    session::v1::{EndReason, Ended},
};

use crate::{
    exit::{Failure, NOT_FOUND, Retry, UNAVAILABLE, USAGE},
    patience::Patience,
    retry::RetryOptions,
    ssh::{self, Destination, Pipe, SshOptions, Target},
};

/// Longer than the largest bound that a broker can have on a login (`/vsmserver/login_timeout`), so that its words are
/// the ones heard.
pub const LOGIN_DEADLINE: Duration = Duration::from_secs(3660);
/// How long the end of a desktop is waited for, and how often it is asked about.
const ENDING_MAX: Duration = Duration::from_secs(8);
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A broker that hangs, behind an sshd that lives, is noticed while a call waits for it. Each answer takes its turn in
/// four processes of a host that may be busy with many others.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// For everything else.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Opens a channel to the broker at `to`.
///
/// # Errors
/// If ssh fails or the broker does not run.
pub async fn dial(
    options: &SshOptions,
    to: &Destination,
    patience: Patience,
) -> Result<BrokerClient<Channel>, Failure> {
    let pipe = ssh::open(options, to, &Target::Broker(patience)).await?;
    let channel = over(pipe).await?;
    Ok(BrokerClient::new(channel))
}

/// A channel over one pipe: it cannot be dialled again, so a broken one is an error.
async fn over(pipe: Pipe) -> Result<Channel, Failure> {
    let once = Arc::new(Mutex::new(Some(pipe)));
    let connector = tower::service_fn(move |_: Uri| {
        let pipe = once.lock().take();
        async move {
            pipe.map(TokioIo::new).ok_or_else(|| std::io::Error::other("the connection broke"))
        }
    });
    let endpoint = Endpoint::from_static("http://vsm.local")
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        let why = crate::exit::plain(vsm_daemon::cause::of_error(&error));
        Failure::new(UNAVAILABLE, format!("the broker does not speak to us: {why}"))
            .retry(Retry::Patiently)
    })
}

/// A request with a deadline.
pub fn with_deadline<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// Whom to ask and how.
#[derive(Debug, Clone)]
pub struct Route {
    /// Broker.
    pub to: Destination,
    /// How to get there.
    pub ssh: SshOptions,
    /// How long to try again.
    pub retry: RetryOptions,
}

impl Route {
    /// [`dial`], as one of the attempts.
    ///
    /// # Errors
    /// As there.
    pub async fn dial(&self) -> Result<BrokerClient<Channel>, Failure> {
        dial(&self.ssh, &self.to, self.retry.patience()).await
    }
}

/// The id that this text means: the end of one, as tables show it, or all of it; empty stays empty.
///
/// # Errors
/// If it means none of the user's desktops, or several.
pub async fn whole_id(broker: &mut BrokerClient<Channel>, text: &str) -> Result<String, Failure> {
    if text.is_empty() || Uuid::try_parse(text).is_ok() {
        return Ok(text.to_owned());
    }
    let digits = text.chars().filter(char::is_ascii_hexdigit).count();
    if digits < 6 || text.chars().any(|c| !c.is_ascii_hexdigit() && c != '-') {
        let why = format!("{text:?} is neither a session id nor the last 6 or more digits of one");
        return Err(Failure::new(USAGE, why));
    }
    let request = with_deadline(pb::ListSessionsRequest { include_ended: false }, DEADLINE);
    let sessions = broker.list_sessions(request).await?.into_inner().sessions;
    let ids = sessions.into_iter().filter_map(|view| view.session?.id.parse::<SessionId>().ok());
    let mut fitting: Vec<SessionId> = ids.filter(|id| id.ends_with(text)).collect();
    match (fitting.pop(), fitting.len()) {
        (Some(id), 0) => Ok(id.to_string()),
        (None, _) => Err(Failure::new(NOT_FOUND, format!("you have no desktop {text}"))),
        (Some(_), others) => {
            let count = others + 1;
            let why =
                format!("{text} is the end of {count} desktops of yours: give more of the id");
            Err(Failure::new(USAGE, why))
        }
    }
}

/// Why the session ended, where the broker remembers. It hears of it once the last process is gone, which may take a
/// moment.
pub async fn why_ended(broker: &mut BrokerClient<Channel>, id: &str) -> Option<String> {
    let deadline = clock::now() + ENDING_MAX;
    loop {
        let request = with_deadline(pb::ListSessionsRequest { include_ended: true }, DEADLINE);
        let answer = broker.list_sessions(request).await.ok()?.into_inner();
        if let Some(ended) = answer.ended.iter().find(|ended| ended.id == id) {
            return Some(words(ended));
        }
        let named = |view: &pb::SessionView| view.session.as_ref().is_some_and(|s| s.id == id);
        if clock::now() >= deadline || !answer.sessions.iter().any(named) {
            return None;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Why a desktop ended, in words.
pub(crate) fn words(ended: &Ended) -> String {
    let reason = match ended.reason() {
        EndReason::Logout => "it was logged out",
        EndReason::Terminated => "it was terminated",
        // Their details are whole sentences.
        EndReason::XServer
        | EndReason::ScriptFailed
        | EndReason::OutOfMemory
        | EndReason::Killed
            if !ended.detail.is_empty() =>
        {
            return ended.detail.clone();
        }
        EndReason::XServer => "its X server ended",
        EndReason::ScriptFailed => "its session script failed",
        EndReason::HostReboot => "its host was restarted",
        EndReason::Limit => "a limit was reached",
        EndReason::OutOfMemory => "it ran out of memory",
        EndReason::Killed => "its session script was killed",
        EndReason::Lost | EndReason::Unspecified => "it was lost",
    };
    if ended.detail.is_empty() { reason.to_owned() } else { format!("{reason}: {}", ended.detail) }
}
