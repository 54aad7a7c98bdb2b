//! Calls to the broker through ssh, and what `vsm list`, `disconnect` and `end` print.

use std::{sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::Serialize;
use tonic::{
    Code, Request,
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
    life::LifeRow,
    output::{self, Columns, Format},
    retry::{self, RetryOptions},
    ssh::{self, Destination, Pipe, SshOptions, Target},
};

/// Longer than the largest bound that a broker can have on a login (`/vsmserver/login_timeout`), so that its words are
/// the ones heard.
pub const LOGIN_DEADLINE: Duration = Duration::from_secs(3660);
/// How long the end of a desktop is waited for, and how often it is asked about.
const ENDING_MAX: Duration = Duration::from_secs(8);
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A broker that hangs, behind an sshd that lives, is noticed while a call waits for it.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// For everything else.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Opens a channel to the broker at `to`.
///
/// # Errors
/// If ssh fails or the broker does not run.
pub async fn dial(
    options: &SshOptions,
    to: &Destination,
) -> Result<BrokerClient<Channel>, Failure> {
    let pipe = ssh::open(options, to, &Target::Broker).await?;
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

/// A session as `vsm list` and `vsmctl session list` print it; the JSON fields are stable.
#[derive(Debug, Serialize)]
pub struct SessionRow {
    /// Session id.
    pub session: String,
    /// Owner.
    pub user: String,
    /// Agent.
    pub agent: String,
    /// X display number; 0 = not known yet.
    pub display: u32,
    /// `starting`, `connected`, `disconnected`, `ending`, `unreachable`, `abandoned`.
    pub state: &'static str,
    /// RFC 3339.
    pub created: Option<String>,
    /// Where the viewer comes from; none = disconnected.
    pub viewer: Option<String>,
    /// Since when the viewer is there; none = disconnected.
    pub connected_since: Option<String>,
    /// Since when its agent is silent; none = it is not.
    pub unreachable_since: Option<String>,
    /// What was asked for instead of the full desktop; empty = the desktop.
    pub start_command: String,
    /// It was made by a broker without votes: its user may have another one elsewhere.
    pub possible_duplicate: bool,
    /// The machine from which it was asked for last, as that names itself; empty = not known.
    pub last_client: String,
    /// How it stands against its limits; none = it has none, or that is not known.
    pub life: Option<LifeRow>,
    /// For the table only.
    #[serde(skip)]
    pub age: String,
}

impl From<pb::SessionView> for SessionRow {
    fn from(view: pb::SessionView) -> Self {
        let condition = view.condition();
        let session = view.session.unwrap_or_default();
        let state = match condition {
            pb::SessionCondition::Starting => "starting",
            pb::SessionCondition::Connected => "connected",
            pb::SessionCondition::Disconnected | pb::SessionCondition::Unspecified => {
                "disconnected"
            }
            pb::SessionCondition::Ending => "ending",
            pb::SessionCondition::Unreachable => "unreachable",
            pb::SessionCondition::Abandoned => "abandoned",
        };
        Self {
            state,
            created: output::time(session.created_unix_ms),
            age: output::age(session.created_unix_ms, clock::unix_millis().0),
            connected_since: view.viewer.as_ref().and_then(|v| output::time(v.since_unix_ms)),
            viewer: view.viewer.map(|viewer| viewer.address),
            life: view.standing.map(LifeRow::from),
            last_client: view.last_client,
            unreachable_since: output::time(view.unreachable_since_unix_ms),
            possible_duplicate: session.params.as_ref().is_some_and(|params| params.unvoted),
            start_command: session.params.unwrap_or_default().start_command,
            session: session.id,
            user: session.user,
            agent: session.agent,
            display: session.display,
        }
    }
}

impl SessionRow {
    /// One line for people.
    #[must_use]
    pub fn words(&self) -> String {
        let (user, agent, display, state) = (&self.user, &self.agent, self.display, self.state);
        format!("{}  {user} on {agent}:{display}  {state}", output::short_id(&self.session))
    }
}

impl Columns for SessionRow {
    const HEADINGS: &'static [&'static str] =
        &["SESSION", "USER", "AGENT", "DISPLAY", "STATE", "AGE"];

    fn cells(&self) -> Vec<String> {
        let display = if self.display == 0 { "-".to_owned() } else { format!(":{}", self.display) };
        vec![
            output::short_id(&self.session),
            self.user.clone(),
            self.agent.clone(),
            display,
            if self.possible_duplicate {
                format!("{}, possible duplicate", self.state)
            } else {
                self.state.to_owned()
            },
            self.age.clone(),
        ]
    }
}

/// A desktop that has ended, as `vsm list --ended` prints it; the JSON fields are stable.
#[derive(Debug, Serialize)]
pub struct EndedRow {
    /// Session id.
    pub session: String,
    /// When, RFC 3339.
    pub ended: Option<String>,
    /// `logout`, `terminated`, `x-server`, `script-failed`, `host-reboot`, `lost`, `limit`, `out-of-memory`, `killed`.
    pub reason: &'static str,
    /// One line for people.
    pub detail: String,
}

impl From<&Ended> for EndedRow {
    fn from(ended: &Ended) -> Self {
        let reason = match ended.reason() {
            EndReason::Logout => "logout",
            EndReason::Terminated => "terminated",
            EndReason::XServer => "x-server",
            EndReason::ScriptFailed => "script-failed",
            EndReason::HostReboot => "host-reboot",
            EndReason::Limit => "limit",
            EndReason::OutOfMemory => "out-of-memory",
            EndReason::Killed => "killed",
            EndReason::Lost | EndReason::Unspecified => "lost",
        };
        let (session, detail) = (ended.id.clone(), ended.detail.clone());
        Self { session, ended: output::time(ended.at_unix_ms), reason, detail }
    }
}

impl Columns for EndedRow {
    const HEADINGS: &'static [&'static str] = &["SESSION", "ENDED", "REASON", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        let ended = self.ended.as_deref().map(output::to_the_second);
        vec![
            output::short_id(&self.session),
            output::or_dash(ended),
            self.reason.to_owned(),
            self.detail.clone(),
        ]
    }
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
        dial(&self.ssh, &self.to).await
    }
}

/// `vsm list`.
///
/// # Errors
/// If the broker cannot be asked.
pub async fn list(route: &Route, ended: bool, format: Format) -> Result<(), Failure> {
    let answer = retry::riding(&route.retry, async || {
        let mut broker = route.dial().await?;
        let request = with_deadline(pb::ListSessionsRequest { include_ended: ended }, DEADLINE);
        Ok(broker.list_sessions(request).await?.into_inner())
    })
    .await?;
    if ended {
        let rows: Vec<EndedRow> = answer.ended.iter().map(Into::into).collect();
        if rows.is_empty() && format == Format::Table {
            return output::say("None of your desktops has ended lately.");
        }
        return output::list(format, &rows);
    }
    let rows: Vec<SessionRow> = answer.sessions.into_iter().map(Into::into).collect();
    if rows.is_empty() && format == Format::Table {
        return output::say("You have no desktop.");
    }
    output::list(format, &rows)
}

/// `vsm disconnect`.
///
/// # Errors
/// If the broker cannot be asked, or there is no such session.
pub async fn disconnect(route: &Route, id: String) -> Result<(), Failure> {
    let answer = retry::riding(&route.retry, async || {
        let mut broker = route.dial().await?;
        let id = whole_id(&mut broker, &id).await?;
        let request = with_deadline(pb::DisconnectSessionRequest { id }, DEADLINE);
        Ok(broker.disconnect_session(request).await?.into_inner())
    })
    .await?;
    let said = if answer.was_connected {
        "The viewer was disconnected"
    } else {
        "No viewer was connected"
    };
    output::say(&format!("{said}; your desktop {} lives on.", answer.id))
}

/// `vsm end`.
///
/// # Errors
/// If the broker cannot be asked, or there is no such session.
pub async fn end(route: &Route, mut id: String) -> Result<(), Failure> {
    let mut asked = false;
    let answer = retry::riding(&route.retry, async || {
        let mut broker = route.dial().await?;
        // Asking again must not end another desktop, one that was begun meanwhile.
        id = match id.as_str() {
            "" => only(&mut broker).await?,
            id => whole_id(&mut broker, id).await?,
        };
        let again = std::mem::replace(&mut asked, true);
        match broker
            .end_session(with_deadline(pb::EndSessionRequest { id: id.clone() }, DEADLINE))
            .await
        {
            Ok(answer) => Ok(answer.into_inner()),
            // The attempt before has ended it and its answer was lost.
            Err(status) if again && !id.is_empty() && status.code() == Code::NotFound => {
                Ok(pb::EndSessionResponse { id: id.clone(), done: true })
            }
            Err(status) => Err(status.into()),
        }
    })
    .await?;
    let said =
        if answer.done { "was ended" } else { "will be ended as soon as its host can do it" };
    output::say(&format!("Your desktop {} {said}.", answer.id))
}

/// `vsm abandon`.
///
/// # Errors
/// If the broker cannot be asked, there is no such session, or its host answers.
pub async fn abandon(route: &Route, mut id: String) -> Result<(), Failure> {
    let answer = retry::riding(&route.retry, async || {
        let mut broker = route.dial().await?;
        // Kept for asking again: it must not give another one up.
        id = whole_id(&mut broker, &id).await?;
        let request = with_deadline(pb::AbandonSessionRequest { id: id.clone() }, DEADLINE);
        Ok(broker.abandon_session(request).await?.into_inner())
    })
    .await?;
    output::say(&format!(
        "Your desktop {} was given up; {} ends it when it is back. You can get a new one now.",
        answer.id, answer.agent
    ))
}

/// The id of the only desktop; nothing where there are several or none, which the broker then says.
async fn only(broker: &mut BrokerClient<Channel>) -> Result<String, Failure> {
    let request = with_deadline(pb::ListSessionsRequest { include_ended: false }, DEADLINE);
    let mut sessions = broker.list_sessions(request).await?.into_inner().sessions;
    let one = sessions.pop().filter(|_| sessions.is_empty()).and_then(|view| view.session);
    Ok(one.map(|session| session.id).unwrap_or_default())
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
