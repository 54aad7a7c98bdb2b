//! The way to the broker's socket for administrators, as the user: `vsm-login` opens it, so the socket's group decides.
//! Each page goes it anew, and nothing of it is kept.

use std::time::Duration;

use parking_lot::Mutex;
use tonic::{Code, Response, transport::Channel};
use vsm_core::{Event, UnixMillis};
use vsm_daemon::{clock, event_record::EventRecord, grpc};
use vsm_proto::admin::v1::{
    self as pb, admin_client::AdminClient, agents_client::AgentsClient,
    configuration_client::ConfigurationClient, ha_client::HaClient,
    identities_client::IdentitiesClient,
};

use crate::{
    app::App,
    broker::{self, Broker, within},
    error::Refused,
    pages::Guest,
};

/// For what takes no time by itself.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// For what asks every agent: less than a page may take.
pub(super) const LONG: Duration = Duration::from_secs(80);
/// A login that is fresh for no longer than that is asked for again before a change, not in its middle.
const MARGIN_MS: u64 = 2000;

/// A connection as an administrator.
pub(super) struct Way {
    /// Held as long as it is used.
    _broker: Broker,
    channel: Channel,
    /// What the broker says of itself, and of the caller.
    pub(super) status: pb::StatusResponse,
    /// That what was shown may be old.
    stale: Mutex<Option<String>>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Why there is none, or why something was not done on it.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoWay {
    /// The user is no administrator.
    #[error("the socket for administrators is not for this user")]
    NotAllowed,
    /// The login is too old for a change.
    #[error("the login is too old for a change")]
    Old,
    /// Something else.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl From<tonic::Status> for NoWay {
    fn from(status: tonic::Status) -> Self {
        if status.code() == Code::Unauthenticated {
            Self::Old
        } else {
            Self::Refused(status.into())
        }
    }
}

impl Way {
    /// Goes there with what the browser brings.
    pub(super) async fn open(app: &App, guest: &Guest) -> Result<Self, NoWay> {
        let cookie = guest.cookie.as_ref().ok_or(Refused::LoggedOut)?;
        let broker = guest.broker(app, cookie).await?;
        let pipe = broker.ssh().join("admin").await.map_err(|refused| {
            let is_closed =
                matches!(&refused, Refused::Subsystem(line) if line.starts_with("error refused "));
            if is_closed { NoWay::NotAllowed } else { refused.into() }
        })?;
        let channel = broker::channel(pipe).await?;
        let mut client = AdminClient::new(channel.clone());
        let status = client.status(within(DEADLINE, pb::StatusRequest {})).await?.into_inner();
        Ok(Self { _broker: broker, channel, status, stale: Mutex::default() })
    }

    /// Whether a change would be let through.
    pub(super) fn may_change(&self) -> bool {
        let now = clock::unix_millis().0 + MARGIN_MS;
        self.status.changes_until_unix_ms.is_none_or(|until| now < until)
    }

    /// Whether none would, after another login either.
    pub(super) fn never_changes(&self) -> bool {
        self.status.changes_until_unix_ms == Some(0)
    }

    /// For how long it is.
    pub(super) fn left(&self) -> Option<Duration> {
        let until = self.status.changes_until_unix_ms?;
        Some(Duration::from_millis(until.saturating_sub(clock::unix_millis().0)))
    }

    /// Why what was shown may be old; none = it is not.
    pub(super) fn stale(&self) -> Option<String> {
        self.stale.lock().clone()
    }

    fn heard<T>(&self, answer: Response<T>) -> T {
        if let Some(why) = answer.metadata().get(grpc::STALE_KEY) {
            let why = String::from_utf8_lossy(why.as_encoded_bytes()).into_owned();
            *self.stale.lock() = Some(why);
        }
        answer.into_inner()
    }

    pub(super) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(grpc::MESSAGE_MAX)
    }

    pub(super) fn of_agents(&self) -> AgentsClient<Channel> {
        AgentsClient::new(self.channel.clone()).max_decoding_message_size(grpc::MESSAGE_MAX)
    }

    pub(super) fn ha(&self) -> HaClient<Channel> {
        HaClient::new(self.channel.clone()).max_decoding_message_size(grpc::MESSAGE_MAX)
    }

    pub(super) fn configuration(&self) -> ConfigurationClient<Channel> {
        ConfigurationClient::new(self.channel.clone()).max_decoding_message_size(grpc::MESSAGE_MAX)
    }

    pub(super) fn identities(&self) -> IdentitiesClient<Channel> {
        IdentitiesClient::new(self.channel.clone()).max_decoding_message_size(grpc::MESSAGE_MAX)
    }

    /// Both nodes, the one that was asked first.
    pub(super) async fn nodes(&self) -> Result<Vec<pb::NodeView>, NoWay> {
        let request = within(DEADLINE, pb::ListNodesRequest { local_only: false });
        Ok(self.ha().list_nodes(request).await?.into_inner().nodes)
    }

    /// The agents, by name.
    pub(super) async fn agents(&self) -> Result<Vec<pb::AgentView>, NoWay> {
        let request = within(DEADLINE, pb::ListAgentsRequest {});
        Ok(self.heard(self.admin().list_agents(request).await?).agents)
    }

    /// The sessions that match, oldest first: those at these places among them, and how many there are.
    pub(super) async fn sessions(
        &self,
        selector: pb::SessionSelector,
        places: std::ops::Range<usize>,
    ) -> Result<(Vec<vsm_proto::broker::v1::SessionView>, usize), NoWay> {
        let answer = self.admin().list_sessions(within(DEADLINE, selector)).await?;
        let mut pages = self.heard(answer);
        let (mut shown, mut count) = (Vec::new(), 0);
        while let Some(page) = pages.message().await? {
            for session in page.sessions {
                if places.contains(&count) {
                    shown.push(session);
                }
                count += 1;
            }
        }
        Ok((shown, count))
    }

    /// Events of the trail, oldest first.
    pub(super) async fn events(
        &self,
        which: pb::ListEventsRequest,
    ) -> Result<Vec<EventRecord>, NoWay> {
        let answer = self.admin().list_events(within(DEADLINE, which)).await?;
        let mut pages = self.heard(answer);
        let mut events = Vec::new();
        while let Some(page) = pages.message().await? {
            events.extend(records(page));
        }
        Ok(events)
    }

    /// Parameters that are not at their defaults, nor a node's own: each in one spelling.
    pub(super) async fn parameters(&self) -> Result<Vec<(String, String)>, NoWay> {
        let request = within(DEADLINE, pb::ParametersRequest {});
        let all = self.configuration().parameters(request).await?.into_inner().parameters;
        let mut all: Vec<_> = all.into_iter().map(|(path, value)| (path, value.meaning)).collect();
        all.sort();
        Ok(all)
    }
}

/// The events of a page, as they are shown and exported. What is none is left out: its broker is a newer one.
pub(super) fn records(page: pb::ListEventsResponse) -> Vec<EventRecord> {
    let events = page.events.into_iter().filter_map(|event| Event::try_from(event).ok());
    events.map(|event| EventRecord::from(&event)).collect()
}

/// The present moment, by the clock here.
pub(super) fn now() -> u64 {
    let UnixMillis(now) = clock::unix_millis();
    now
}
