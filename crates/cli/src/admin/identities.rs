//! `vsmctl agent enrol` and `vsmctl pki list|revoke`: the identities of hosts.

use clap::Args;
use serde::Serialize;
use vsm_core::IdentityName;
use vsm_daemon::{clock, grpc, tls::Role};
use vsm_proto::admin::v1::{self as pb, identities_client::IdentitiesClient};

use super::{AdminOptions, DEADLINE, agent::refused, confirm, few, select::seconds};
use crate::{
    broker::with_deadline,
    exit::{Failure, USAGE},
    output::{self, Cells, Columns},
    said,
};

/// How long a token may count, in seconds.
pub(crate) const VALID_S: std::ops::RangeInclusive<u64> = 60..=604_800;
/// Hosts that a question names.
const NAMED_MAX: usize = 8;

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
    replaces: bool,
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
    let record = InvitedRecord {
        command: command(&answer),
        replaces: answer.has_certificate,
        agent: answer.agent,
        token: answer.token,
        until: output::time(answer.until_unix_ms),
        authority: answer.authority,
        broker: answer.broker,
        port: answer.port,
    };
    output::report(options.output, &record, |record| {
        let until = record.until.as_deref().map(output::to_the_second).unwrap_or_default();
        let there = if record.replaces {
            "it replaces the certificate that is there"
        } else {
            "add --replace where there is a certificate"
        };
        format!(
            "Run this as root on {}, until {until}. It works once, and an earlier one for this host no more; {there}.\n\n  {}\n",
            record.agent, record.command
        )
    })
}

/// The command that gets a host its first certificate, by this invitation.
pub(crate) fn command(invited: &pb::InviteResponse) -> String {
    let pb::InviteResponse { token, authority, broker, port, agent, .. } = invited;
    let replace = if invited.has_certificate { " --replace" } else { "" };
    format!(
        "echo {token} | vsm-setup enrol --agent {agent} --broker {broker} --port {port} --authority {authority}{replace}"
    )
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
    revoked_as: Option<String>,
    issued_by: Option<String>,
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
            revoked_as: given(identity.revoked_as),
            issued_by: given(identity.issued_by),
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
        let revoked = second(&self.revoked_before).map(|before| {
            let by = self.revoked_by.as_deref().unwrap_or("-");
            let own = format!("{}/{}", self.role, self.name);
            let with = self.revoked_as.as_deref().filter(|name| *name != own);
            let with = with.map(|name| format!(" with {name}")).unwrap_or_default();
            let why = self.revoked_why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("revoked before {before}{with} by {by}{why}")
        });
        let invited = second(&self.invited_until).map(|until| format!("invited until {until}"));
        let remarks: Vec<String> = invited.into_iter().chain(revoked).collect();
        let remark = Some(remarks.join("; ")).filter(|text| !text.is_empty());
        vec![
            self.role.clone(),
            self.name.clone(),
            self.state.to_owned(),
            output::or_dash(second(&self.until)),
            output::or_dash(remark),
        ]
    }
}

/// The identities as `vsmctl pki list` has them.
pub(crate) fn cells(identities: Vec<pb::IdentityStatus>, now: u64) -> Cells {
    let rows = identities.into_iter().map(|one| IdentityRow::new(one, now));
    Cells::of(&rows.collect::<Vec<_>>())
}

/// `vsmctl pki list`.
///
/// # Errors
/// If the broker cannot be asked.
pub async fn pki_list(options: &AdminOptions) -> Result<(), Failure> {
    let identities = identities(options).await?;
    let now = clock::unix_millis().0;
    let rows = identities.into_iter().map(|one| IdentityRow::new(one, now));
    output::list(options.output, &rows.collect::<Vec<_>>())
}

async fn identities(options: &AdminOptions) -> Result<Vec<pb::IdentityStatus>, Failure> {
    let mut client = IdentitiesClient::new(options.channel().await?)
        .max_decoding_message_size(grpc::MESSAGE_MAX);
    let request = with_deadline(pb::ListIdentitiesRequest {}, DEADLINE);
    Ok(client.list_identities(request).await?.into_inner().identities)
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
    /// Also revoke what nothing is known of, or the certificate of this broker or of the active one
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
        let mut what = format!(
            "All certificates of {name} are to count no more, from now on. It comes back by a new one only.\n"
        );
        if name.role() == "issuer" {
            what += &signed(&name, &identities(options).await?, clock::unix_millis().0);
        }
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
        said::revoked(&record.identity, record.told, &record.not_told).join("\n") + "\n"
    })
}

/// What goes with an issuer: the hosts whose present certificate it has signed.
fn signed(issuer: &IdentityName, all: &[pb::IdentityStatus], now: u64) -> String {
    let is_its = |one: &&pb::IdentityStatus| {
        let by = IdentityName::new(issuer.role(), &one.issued_by);
        one.role == Role::Agent.word() && by.as_ref() == Ok(issuer) && state(one, now) == "valid"
    };
    let hosts: Vec<String> = all.iter().filter(is_its).map(|one| one.name.clone()).collect();
    if hosts.is_empty() {
        return "No host has a certificate that it has signed.\n".to_owned();
    }
    format!(
        "{} host(s) go with it, as it has signed their certificates: {}.\nWhere the other broker has an issuer, \
         vsmctl ha takeover there and vsmctl pki renew --all first keep them.\n",
        hosts.len(),
        few(&hosts, NAMED_MAX)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(role: &str, name: &str) -> pb::IdentityStatus {
        pb::IdentityStatus {
            role: role.to_owned(),
            name: name.to_owned(),
            issued_unix_ms: 2000,
            until_unix_ms: 9000,
            ..Default::default()
        }
    }

    #[test]
    fn an_invitation_and_a_revocation_are_both_shown() {
        let both = pb::IdentityStatus {
            invited_until_unix_ms: 8000,
            revoked_before_unix_ms: 3000,
            revoked_by: "root".to_owned(),
            revoked_why: "stolen".to_owned(),
            revoked_as: "issuer/a".to_owned(),
            ..identity("agent", "lab7")
        };
        let cells = IdentityRow::new(both, 5000).cells();
        assert_eq!(cells[2], "invited");
        assert_eq!(
            cells[4],
            "invited until 1970-01-01T00:00:08Z; revoked before 1970-01-01T00:00:03Z with issuer/a by root: stolen"
        );
        assert_eq!(IdentityRow::new(identity("agent", "lab7"), 5000).cells()[4], "-");
    }

    #[test]
    fn whoever_revokes_an_issuer_is_told_which_hosts_go_with_it() {
        let by = |name: &str, by: &str| pb::IdentityStatus {
            issued_by: by.to_owned(),
            ..identity("agent", name)
        };
        let all = [by("lab7", "A"), by("lab8", "b"), by("lab9", "a"), identity("agent", "lab1")];
        let said = |issuer: &str, now| signed(&issuer.parse().unwrap(), &all, now);
        assert!(said("issuer/a", 5000).starts_with("2 host(s) go with it, "));
        assert!(said("issuer/a", 5000).contains(": lab7 lab9.\n"));
        assert!(said("issuer/c", 5000).starts_with("No host"));
        assert!(said("issuer/a", 9000).starts_with("No host"), "theirs have ended");
    }
}
