//! `vsmctl pki renew`: agents renew their certificates now.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use vsm_core::IdentityName;
use vsm_daemon::{grpc, tls::Role};
use vsm_proto::admin::v1::{self as pb, identities_client::IdentitiesClient};

use super::{AdminOptions, agent::refused};
use crate::{
    broker::with_deadline,
    exit::{Failure, USAGE},
    output::{self, Cells, Columns},
};

/// The broker asks for four minutes at most.
const RENEW_DEADLINE: Duration = Duration::from_secs(300);

/// Whose certificates are renewed.
#[derive(Debug, Args)]
pub struct RenewArgs {
    /// Agents: agent/NAME, spelled as in /vsmserver/subclusters
    #[arg(value_name = "agent/NAME", required_unless_present = "all")]
    identities: Vec<String>,
    /// All agents of the configuration
    #[arg(long, conflicts_with = "identities")]
    all: bool,
}

/// What came of it at one agent; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct RenewedRow {
    agent: String,
    renewed: bool,
    until: Option<String>,
    why: Option<String>,
    next_step: Option<String>,
}

impl From<pb::RenewedAgent> for RenewedRow {
    fn from(row: pb::RenewedAgent) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            agent: row.agent,
            renewed: row.until_unix_ms != 0,
            until: output::time(row.until_unix_ms),
            why: given(row.why),
            next_step: given(row.next_step),
        }
    }
}

impl Columns for RenewedRow {
    const HEADINGS: &'static [&'static str] = &["AGENT", "RENEWED", "UNTIL", "REMARK"];

    fn cells(&self) -> Vec<String> {
        let remark = match (&self.why, &self.next_step) {
            (Some(why), Some(next)) => Some(format!("{why}. Next: {next}")),
            (why, _) => why.clone(),
        };
        vec![
            self.agent.clone(),
            if self.renewed { "yes" } else { "NO" }.to_owned(),
            output::or_dash(self.until.as_deref().map(output::to_the_second)),
            output::or_dash(remark),
        ]
    }
}

/// What came of it, as `vsmctl pki renew` has it.
pub(crate) fn cells(agents: Vec<pb::RenewedAgent>) -> Cells {
    Cells::of(&agents.into_iter().map(RenewedRow::from).collect::<Vec<_>>())
}

/// `vsmctl pki renew`.
///
/// # Errors
/// If the broker cannot be asked or refuses, or an agent has no new certificate.
pub async fn pki_renew(options: &AdminOptions, arguments: &RenewArgs) -> Result<(), Failure> {
    let agents = arguments.identities.iter().map(|text| agent(text)).collect::<Result<_, _>>()?;
    let mut client = IdentitiesClient::new(options.channel().await?)
        .max_decoding_message_size(grpc::MESSAGE_MAX);
    let request = with_deadline(pb::RenewRequest { agents }, RENEW_DEADLINE);
    let answer = client.renew(request).await.map_err(refused)?.into_inner();
    let rows: Vec<RenewedRow> = answer.agents.into_iter().map(Into::into).collect();
    output::list(options.output, &rows)?;
    // The list says of which, and why.
    if rows.iter().all(|row| row.renewed) { Ok(()) } else { Err(Failure::silent(1)) }
}

/// The name of an agent's identity.
fn agent(text: &str) -> Result<String, Failure> {
    let name: IdentityName =
        text.parse().map_err(|error| Failure::new(USAGE, format!("{error}")))?;
    if name.role() == Role::Agent.word() {
        return Ok(name.name().to_owned());
    }
    let how = if name.role() == "issuer" { "vsmctl pki issuer" } else { "vsmctl pki issue" };
    let text = format!("{name}: only agents renew their certificates; make another one with {how}");
    Err(Failure::new(USAGE, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_agents_can_be_asked() {
        assert_eq!(agent("agent/lab7").unwrap(), "lab7");
        for (bad, word) in [("broker/a", "pki issue"), ("issuer/a", "pki issuer"), ("lab7", "ROLE")]
        {
            let failure = agent(bad).unwrap_err();
            assert!(failure.code == USAGE && failure.text.contains(word), "{failure}");
        }
    }

    #[test]
    fn a_row_says_what_is_to_be_done() {
        let (why, next_step) = ("down: closed".to_owned(), "ask again".to_owned());
        let not = pb::RenewedAgent { agent: "a".into(), until_unix_ms: 0, why, next_step };
        let cells = RenewedRow::from(not).cells();
        assert_eq!(cells, ["a", "NO", "-", "down: closed. Next: ask again"]);
        let done =
            pb::RenewedAgent { agent: "a".into(), until_unix_ms: 1000, ..Default::default() };
        assert_eq!(RenewedRow::from(done).cells(), ["a", "yes", "1970-01-01T00:00:01Z", "-"]);
    }
}
