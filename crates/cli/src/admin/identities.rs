//! `vsmctl agent enrol` and `vsmctl pki list|revoke`: the identities of hosts.

use clap::Args;
use serde::Serialize;
use vsm_core::IdentityName;
use vsm_daemon::clock;
use vsm_proto::admin::v1::{self as pb, identities_client::IdentitiesClient};

use super::{AdminOptions, DEADLINE, agent::refused, confirm, select::seconds};
use crate::{
    broker::with_deadline,
    exit::{Failure, USAGE},
    output::{self, Columns},
};

/// How long a token may count, in seconds.
const VALID_S: std::ops::RangeInclusive<u64> = 60..=604_800;

/// Which host is invited.
#[derive(Debug, Args)]
pub struct EnrolArgs {
    /// Agent, spelled as in /vsmserver/subclusters
    name: String,
    /// How long the token is valid: a duration from 1m to 7d
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    valid: String,
}

/// What `vsmctl agent enrol` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct InvitedRecord {
    agent: String,
    token: String,
    until: Option<String>,
    authority: String,
    broker: String,
    port: u32,
    command: String,
}

/// `vsmctl agent enrol`: lets a host have its first certificate, and prints the command that gets it.
///
/// # Errors
/// If the broker cannot be asked or refuses.
pub async fn agent_enrol(options: &AdminOptions, arguments: &EnrolArgs) -> Result<(), Failure> {
    let EnrolArgs { name, valid } = arguments;
    let valid_s = seconds(valid).map_err(|_| {
        Failure::new(USAGE, format!("--valid {valid}: it is a duration such as 30m, 2h or 1d"))
    })?;
    if !VALID_S.contains(&valid_s) {
        return Err(Failure::new(USAGE, format!("--valid {valid}: it is 1m to 7d")));
    }
    let mut client = IdentitiesClient::new(options.channel().await?);
    let request = pb::InviteRequest { agent: name.clone(), valid_s };
    let answer =
        client.invite(with_deadline(request, DEADLINE)).await.map_err(refused)?.into_inner();
    let pb::InviteResponse { token, until_unix_ms, authority, broker, port, .. } = answer;
    let record = InvitedRecord {
        command: format!(
            "echo {token} | vsm-setup enrol --agent {name} --broker {broker} --port {port} --authority {authority}"
        ),
        agent: name.clone(),
        token,
        until: output::time(until_unix_ms),
        authority,
        broker,
        port,
    };
    output::report(options.output, &record, |record| {
        let until = record.until.as_deref().map(output::to_the_second).unwrap_or_default();
        format!(
            "Run this as root on {}, until {until}. It works once; add --replace where there is a certificate.\n\n  {}\n",
            record.agent, record.command
        )
    })
}

/// An identity as `vsmctl pki list` prints it; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct IdentityRow {
    role: String,
    name: String,
    state: &'static str,
    until: Option<String>,
    issued: Option<String>,
    invited_until: Option<String>,
    revoked_before: Option<String>,
    revoked_by: Option<String>,
    revoked_why: Option<String>,
}

impl IdentityRow {
    fn new(identity: pb::IdentityStatus, now: u64) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            state: state(&identity, now),
            until: output::time(identity.until_unix_ms),
            issued: output::time(identity.issued_unix_ms),
            invited_until: output::time(identity.invited_until_unix_ms),
            revoked_before: output::time(identity.revoked_before_unix_ms),
            revoked_by: given(identity.revoked_by),
            revoked_why: given(identity.revoked_why),
            role: identity.role,
            name: identity.name,
        }
    }
}

/// The word for how it stands.
const fn state(identity: &pb::IdentityStatus, now: u64) -> &'static str {
    let revoked = identity.revoked_before_unix_ms;
    if revoked != 0 && identity.issued_unix_ms < revoked && identity.seen_unix_ms < revoked {
        return if identity.invited_until_unix_ms > now { "invited" } else { "revoked" };
    }
    match identity.until_unix_ms {
        0 if identity.invited_until_unix_ms > now => "invited",
        0 => "unknown",
        until if until <= now => "ended",
        _ => "valid",
    }
}

impl Columns for IdentityRow {
    const HEADINGS: &'static [&'static str] = &["ROLE", "NAME", "STATE", "UNTIL", "REMARK"];

    fn cells(&self) -> Vec<String> {
        let second = |time: &Option<String>| time.as_deref().map(output::to_the_second);
        let remark = match (&self.revoked_before, &self.invited_until) {
            (Some(_), _) if self.state == "revoked" => {
                let by = self.revoked_by.as_deref().unwrap_or("-");
                let why = self.revoked_why.as_deref().map(|why| format!(": {why}"));
                Some(format!("by {by}{}", why.unwrap_or_default()))
            }
            (_, Some(_)) => {
                second(&self.invited_until).map(|until| format!("invited until {until}"))
            }
            (Some(_), None) => {
                second(&self.revoked_before).map(|at| format!("revoked before {at}"))
            }
            (None, None) => None,
        };
        vec![
            self.role.clone(),
            self.name.clone(),
            self.state.to_owned(),
            output::or_dash(second(&self.until)),
            output::or_dash(remark),
        ]
    }
}

/// `vsmctl pki list`.
///
/// # Errors
/// If the broker cannot be asked.
pub async fn pki_list(options: &AdminOptions) -> Result<(), Failure> {
    let mut client = IdentitiesClient::new(options.channel().await?);
    let request = with_deadline(pb::ListIdentitiesRequest {}, DEADLINE);
    let answer = client.list_identities(request).await?.into_inner();
    let now = clock::unix_millis().0;
    let rows = answer.identities.into_iter().map(|one| IdentityRow::new(one, now));
    output::list(options.output, &rows.collect::<Vec<_>>())
}

/// What is revoked.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Identity: agent/NAME, broker/NAME, admin/NAME or issuer/BROKER
    #[arg(value_name = "ROLE/NAME")]
    identity: String,
    /// Reason, in one line; shown to other administrators
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Also revoke the certificate of the active broker itself
    #[arg(long)]
    force: bool,
    /// Do not ask for confirmation
    #[arg(short = 'y', long)]
    assume_yes: bool,
}

/// What `vsmctl pki revoke` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct RevokedRecord {
    identity: String,
    before: Option<String>,
    told: u32,
    not_told: Vec<String>,
}

/// `vsmctl pki revoke`.
///
/// # Errors
/// If the broker cannot be asked or refuses.
pub async fn pki_revoke(options: &AdminOptions, arguments: &RevokeArgs) -> Result<(), Failure> {
    let RevokeArgs { identity, reason, force, assume_yes } = arguments;
    let name: IdentityName =
        identity.parse().map_err(|error| Failure::new(USAGE, format!("{error}")))?;
    if !assume_yes {
        let what = format!(
            "All certificates of {name} are to count no more, from now on. It comes back by a new one only.\n"
        );
        confirm(&what, "Revoke them?")?;
    }
    let request = pb::RevokeRequest {
        role: name.role().to_owned(),
        name: name.name().to_owned(),
        reason: reason.clone(),
        force: *force,
    };
    let mut client = IdentitiesClient::new(options.channel().await?);
    let answer =
        client.revoke(with_deadline(request, DEADLINE)).await.map_err(refused)?.into_inner();
    let record = RevokedRecord {
        identity: name.to_string(),
        before: output::time(answer.before_unix_ms),
        told: answer.told,
        not_told: answer.not_told,
    };
    output::report(options.output, &record, |record| {
        let (name, told) = (&record.identity, record.told);
        let rest = if record.not_told.is_empty() {
            String::new()
        } else {
            format!("Told as soon as they can be reached: {}\n", record.not_told.join(" "))
        };
        format!(
            "Certificates of {name} count no more, on this cluster's brokers and on {told} agent(s).\n{rest}"
        )
    })
}
