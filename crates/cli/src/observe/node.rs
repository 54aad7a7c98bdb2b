//! One node of the pair as an observer hears it: its standing, its whole table, and what changes.

use std::{fmt, str::FromStr, time::Duration};

use serde::Serialize;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::{Request, Streaming};
use vsm_core::{Row, Table};
use vsm_daemon::{grpc, tls::Tls};
use vsm_proto::sync::v1::{
    self as pb, FollowRequest, FollowResponse, follow_response::Kind, observe_client::ObserveClient,
};

use crate::{ha, output};

/// Dialling and the first message.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// The standing comes each second.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Where a node is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or address; its certificate must be for it.
    pub host: String,
    /// Port; none = `/vsm/vsm_server_port`.
    pub port: Option<u16>,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not HOST or HOST:PORT");
        let (host, port) = match text.rsplit_once(':') {
            // An IPv6 address has more of them, and stands in brackets where a port follows.
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => (text, None),
            Some((host, port)) => (host, Some(port.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() { Err(bad()) } else { Ok(Self { host, port }) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// How a node is, by its own words; the JSON fields are stable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Node name.
    pub node: String,
    /// `standalone`, `active`, `standby` or `claiming`.
    pub role: String,
    /// Whether it serves.
    pub ready: bool,
    /// `COUNTER@NODE`: its own reign, or that of the node which it follows.
    pub epoch: Option<String>,
    /// Last position of its log.
    pub last: Option<String>,
    /// Committed up to this number.
    pub commit: u64,
    /// Changes that it lacks, as far as it has heard.
    pub behind: u64,
    /// Lineage of its table.
    pub lineage: String,
    /// Software version.
    pub version: String,
    /// Its clock.
    pub at: Option<String>,
}

impl From<pb::Standing> for Standing {
    fn from(standing: pb::Standing) -> Self {
        let epoch = standing.epoch.map(|epoch| format!("{}@{}", epoch.counter, epoch.node));
        Self {
            epoch,
            last: standing.last.as_ref().map(ha::position),
            at: output::time(standing.at_unix_ms),
            node: standing.node,
            role: standing.role,
            ready: standing.ready,
            commit: standing.commit,
            behind: standing.behind,
            lineage: standing.lineage,
            version: standing.version,
        }
    }
}

/// What a node tells.
#[derive(Debug)]
pub(super) enum Told {
    /// How it is.
    Standing(Standing),
    /// Everything, at this committed number.
    Whole(Box<Table>, u64),
    /// What changed, at this committed number.
    Changed(Vec<Row>, u64),
}

/// A node that is followed.
#[derive(Debug)]
pub(super) struct Following {
    stream: Streaming<FollowResponse>,
    whole: Table,
    rows: Vec<Row>,
}

impl Following {
    /// Dials the node; its first words are its standing. On failure why, in one line.
    pub(super) async fn open(
        address: &Address,
        port: u16,
        tls: &Tls,
        standing_only: bool,
    ) -> Result<(Self, Standing), String> {
        let open = async {
            let port = address.port.unwrap_or(port);
            let channel = grpc::channel_to(vsm_daemon::tls::Role::Broker, &address.host, port, tls)
                .map_err(|e| e.to_string())?;
            let mut client =
                ObserveClient::new(channel).max_decoding_message_size(grpc::MESSAGE_MAX);
            let call = client.follow(Request::new(FollowRequest { standing_only }));
            let stream = call.await.map_err(|status| crate::exit::cause(&status))?.into_inner();
            let mut following = Self { stream, whole: Table::default(), rows: Vec::new() };
            match following.next().await? {
                Told::Standing(standing) => Ok((following, standing)),
                Told::Whole(..) | Told::Changed(..) => Err("it does not say how it is".to_owned()),
            }
        };
        let late = || Err(format!("no answer within {} s", ANSWER_MAX.as_secs()));
        timeout(ANSWER_MAX, open).await.unwrap_or_else(|_| late())
    }

    /// What comes next; on failure why there is nothing more.
    pub(super) async fn next(&mut self) -> Result<Told, String> {
        loop {
            let message = timeout(SILENCE_MAX, self.stream.next())
                .await
                .map_err(|_| format!("silent for {} s", SILENCE_MAX.as_secs()))?
                .ok_or_else(|| "it has closed the stream".to_owned())?
                .map_err(|status| crate::exit::cause(&status))?;
            if let Some(told) = self.take(message)? {
                return Ok(told);
            }
        }
    }

    /// Takes a message in; what it completes.
    fn take(&mut self, message: FollowResponse) -> Result<Option<Told>, String> {
        let parse = |rows: Vec<pb::Row>| -> Result<Vec<Row>, String> {
            rows.into_iter()
                .map(|row| Row::try_from(row).map_err(|error| error.to_string()))
                .collect()
        };
        Ok(match message.kind {
            Some(Kind::Standing(standing)) => Some(Told::Standing(standing.into())),
            Some(Kind::Page(page)) => {
                if page.first {
                    self.whole = Table::default();
                }
                for row in parse(page.rows)? {
                    self.whole.set_row(&row);
                }
                None
            }
            Some(Kind::Complete(complete)) => {
                let whole = std::mem::take(&mut self.whole);
                Some(Told::Whole(Box::new(whole), complete.commit))
            }
            Some(Kind::Update(update)) => {
                self.rows.extend(parse(update.rows)?);
                let done = !update.more;
                done.then(|| Told::Changed(std::mem::take(&mut self.rows), update.commit))
            }
            // Of a newer version.
            None => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_or_without_ports() {
        let of = |text: &str| text.parse::<Address>().map(|a| (a.host, a.port));
        assert_eq!(of("tlha-primary"), Ok(("tlha-primary".into(), None)));
        assert_eq!(of("10.0.0.2:9000"), Ok(("10.0.0.2".into(), Some(9000))));
        assert_eq!(of("fd00::2"), Ok(("fd00::2".into(), None)));
        assert_eq!(of("[fd00::2]:9000"), Ok(("fd00::2".into(), Some(9000))));
        for bad in ["", ":9000", "host:port", "host:70000"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
