//! Which sessions an administrator means.

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Span, SpanRelativeTo};
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use vsm_proto::{
    admin::v1::{self as pb, admin_client::AdminClient},
    broker::v1::SessionCondition,
};

use super::DEADLINE;
use crate::{
    broker::with_deadline,
    desktops::SessionRow,
    exit::{Failure, USAGE},
    output,
};

/// Which sessions; all that are given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Selector {
    /// Only this session: its id, or the last 6 or more digits of it
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub id: String,
    /// Only those of this user
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    pub user: String,
    /// Only those on this agent
    #[arg(long, value_name = "AGENT", default_value = "", hide_default_value = true)]
    pub agent: String,
    /// Only those on the agents of this subcluster
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub subcluster: String,
    /// Only those with this display number
    #[arg(long, value_name = "N", value_parser = display)]
    pub display: Option<u32>,
    /// Only those in this state
    #[arg(long, value_name = "STATE", value_enum)]
    pub state: Option<Condition>,
    /// Only those that are at least this old, such as 30m, 12h or 7d
    #[arg(long, value_name = "AGE", value_parser = seconds)]
    pub older_than: Option<u64>,
}

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Condition {
    /// Reserved on an agent, not handed out yet
    Starting,
    /// Running, with a viewer
    Connected,
    /// Running, without a viewer
    Disconnected,
    /// Being ended by its agent
    Ending,
    /// Its agent does not report
    Unreachable,
    /// Given up while its agent is away
    Abandoned,
}

impl From<Condition> for SessionCondition {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Starting => Self::Starting,
            Condition::Connected => Self::Connected,
            Condition::Disconnected => Self::Disconnected,
            Condition::Ending => Self::Ending,
            Condition::Unreachable => Self::Unreachable,
            Condition::Abandoned => Self::Abandoned,
        }
    }
}

fn display(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix(':').unwrap_or(text);
    let number = number.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "a display is a number such as 10 or :10".to_owned())
}

/// An age as seconds: `30m`, `2d 12h`, `1 week`.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let bad = || "an age is a number and a unit, such as 30m, 12h or 7d".to_owned();
    let span: Span = text.parse().map_err(|_| bad())?;
    let days = SpanRelativeTo::days_are_24_hours();
    let age: SignedDuration = span.to_duration(days).map_err(|_| bad())?;
    u64::try_from(age.as_secs()).map_err(|_| bad())
}

impl Selector {
    /// Whether it selects everything.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses to act on every session unless `--all` says so; `say` = what is to be said instead.
    pub(super) fn check_all(&self, all: bool, say: &str) -> Result<(), Failure> {
        match (self.is_empty(), all) {
            (true, false) => Err(Failure::new(USAGE, say)),
            (false, true) => Err(Failure::new(USAGE, "--all and a selector contradict each other")),
            (true, true) | (false, false) => Ok(()),
        }
    }

    pub(super) fn message(&self) -> pb::SessionSelector {
        let condition = self.state.map_or(SessionCondition::Unspecified, Into::into);
        pb::SessionSelector {
            id: self.id.clone(),
            user: self.user.clone(),
            agent: self.agent.clone(),
            display: self.display.unwrap_or(0),
            subcluster: self.subcluster.clone(),
            condition: condition.into(),
            older_than_seconds: self.older_than.unwrap_or(0),
        }
    }

    /// The sessions that match, oldest first.
    pub(super) async fn sessions(
        &self,
        client: &mut AdminClient<Channel>,
    ) -> Result<Vec<SessionRow>, Failure> {
        let mut rows = Vec::new();
        let all = |page| {
            rows.extend(page);
            Ok(true)
        };
        self.pages(client, all).await?;
        Ok(rows)
    }

    /// The same page by page, as they come, until `take` has seen enough.
    pub(super) async fn pages(
        &self,
        client: &mut AdminClient<Channel>,
        mut take: impl FnMut(Vec<SessionRow>) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let request = with_deadline(self.message(), DEADLINE);
        let answer = client.list_sessions(request).await?;
        output::say_if_stale(&answer);
        let mut pages = answer.into_inner();
        while let Some(page) = pages.next().await {
            if !take(page?.sessions.into_iter().map(SessionRow::from).collect())? {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_units() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("30m"), Ok(1800));
        assert_eq!(seconds("1d 12h"), Ok(129_600));
        assert_eq!(seconds("2 weeks"), Ok(1_209_600));
        for bad in ["", "5", "-5m", "yesterday", "1 month"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }
}
