//! Doing it: what the broker is asked, and what came of it.

use vsm_cli::{
    output::Cells,
    said,
    views::{self, NotShown},
};
use vsm_core::IdentityName;
use vsm_proto::admin::v1 as pb;

use super::Act;
use crate::{
    admin::{
        fields::Fields,
        way::{DEADLINE, LONG, NoWay, Way, now},
        words::Words,
    },
    broker::within,
};

/// What was done.
#[derive(Debug, Default)]
pub(in crate::admin) struct Done {
    /// In the broker's words.
    lines: Vec<String>,
    cells: Option<Cells>,
    /// A command that is to be run somewhere.
    code: Option<String>,
    /// Not all of it was done.
    partly: bool,
}

impl Done {
    fn said(line: impl Into<String>) -> Self {
        Self { lines: vec![line.into()], ..Self::default() }
    }

    pub(super) fn words(&self, w: &Words) -> &'static str {
        if self.partly { w.partly_done } else { w.done }
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(super) const fn cells(&self) -> Option<&Cells> {
        self.cells.as_ref()
    }

    pub(super) fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(in crate::admin) enum Undone {
    /// The login has to be made anew, or there is no way.
    #[error(transparent)]
    NoWay(#[from] NoWay),
    /// The broker refuses, in its own words.
    #[error("{0}")]
    Refused(String),
    /// What was typed is not understood.
    #[error("{0}")]
    NotUnderstood(String),
    /// Nothing says what it is about.
    #[error("nothing was chosen")]
    Nothing,
}

impl Undone {
    pub(super) fn words(&self, w: &Words) -> String {
        match self {
            Self::NoWay(error) => error.to_string(),
            Self::Refused(text) | Self::NotUnderstood(text) => format!("{}: {text}", w.not_done),
            Self::Nothing => w.nothing_chosen.to_owned(),
        }
    }
}

impl From<tonic::Status> for Undone {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code::{Cancelled, Unauthenticated, Unavailable, Unknown};
        let is_broken =
            matches!(status.code(), Unauthenticated | Unavailable | Unknown | Cancelled);
        if is_broken {
            Self::NoWay(status.into())
        } else {
            Self::Refused(status.message().to_owned())
        }
    }
}

impl From<NotShown> for Undone {
    fn from(NotShown(text): NotShown) -> Self {
        Self::NotUnderstood(text)
    }
}

impl Act {
    /// Does it, by what the form says.
    pub(in crate::admin) async fn run(self, way: &Way, fields: &Fields) -> Result<Done, Undone> {
        let text = |name: &str| fields.get(name).to_owned();
        let needed =
            |name: &str| Some(text(name)).filter(|text| !text.is_empty()).ok_or(Undone::Nothing);
        match self {
            Self::End => end(way, fields).await,
            Self::Notify => notify(way, fields).await,
            Self::Drain => drain(way, needed("agent")?, fields).await,
            Self::Undrain => undrain(way, needed("agent")?).await,
            Self::Forget => {
                let (agent, mut client) = (needed("agent")?, way.of_agents());
                let request = within(DEADLINE, pb::ForgetRequest { agent: agent.clone() });
                let sessions = client.forget(request).await?.into_inner().sessions;
                Ok(Done::said(said::forgotten(&agent, sessions)))
            }
            Self::LogOut => {
                if !fields.has("id") && !fields.has("user") {
                    return Err(Undone::Nothing);
                }
                let request = pb::RevokeWebKeysRequest { id: text("id"), user: text("user") };
                let answer = way.admin().revoke_web_keys(within(DEADLINE, request)).await?;
                let count = answer.into_inner().revoked.len();
                Ok(Done::said(said::logged_out(count)))
            }
            Self::Enrol => enrol(way, needed("agent")?, fields).await,
            Self::Revoke => revoke(way, &needed("identity")?, fields).await,
            Self::Renew => {
                let request = pb::RenewRequest { agents: vec![needed("agent")?] };
                let answer = way.identities().renew(within(LONG, request)).await?.into_inner();
                let partly = answer.agents.iter().any(|agent| agent.until_unix_ms == 0);
                let cells = Some(views::renewed(answer.agents));
                Ok(Done { cells, partly, ..Done::default() })
            }
            Self::TakeOver => {
                let request = within(LONG, pb::TakeOverRequest { dry_run: false });
                let answer = way.ha().take_over(request).await?.into_inner();
                if !answer.done {
                    return Err(Undone::Refused(answer.detail));
                }
                Ok(Done::said(format!("{} ({} ms)", answer.detail, answer.took_ms)))
            }
            Self::Reload => {
                let request = within(DEADLINE, pb::ReloadRequest {});
                let answer = way.configuration().reload(request).await?.into_inner();
                Ok(changes(answer.changes))
            }
            Self::Push => {
                let request = within(DEADLINE, pb::PushRequest { token: needed("token")? });
                let answer = way.configuration().push(request).await?.into_inner();
                Ok(changes(answer.changes))
            }
        }
    }
}

async fn end(way: &Way, fields: &Fields) -> Result<Done, Undone> {
    let ids: Vec<String> = fields.all("id").map(str::to_owned).collect();
    if ids.is_empty() {
        return Err(Undone::Nothing);
    }
    let request = pb::TerminateSessionsRequest { ids, allow_abandon: fields.has("abandon") };
    let answer = way.admin().terminate_sessions(within(LONG, request)).await?.into_inner();
    let partly = answer.terminated.iter().any(|one| !one.done);
    Ok(Done { cells: Some(views::terminated(answer.terminated)), partly, ..Done::default() })
}

async fn notify(way: &Way, fields: &Fields) -> Result<Done, Undone> {
    let selectors: Vec<pb::SessionSelector> = if fields.has("id") {
        let one = |id: &str| pb::SessionSelector { id: id.to_owned(), ..Default::default() };
        fields.all("id").map(one).collect()
    } else if fields.has("all")
        || ["user", "agent", "subcluster"].iter().any(|name| fields.has(name))
    {
        vec![pb::SessionSelector {
            user: fields.get("user").to_owned(),
            agent: fields.get("agent").to_owned(),
            subcluster: fields.get("subcluster").to_owned(),
            ..Default::default()
        }]
    } else {
        return Err(Undone::Nothing);
    };
    if !fields.has("text") {
        return Err(Undone::Nothing);
    }
    let (mut shown, mut lines) = (0, Vec::new());
    for selector in selectors {
        let request =
            pb::NotifyRequest { selector: Some(selector), text: fields.get("text").to_owned() };
        let answer = way.admin().notify(within(LONG, request)).await?.into_inner();
        shown += answer.shown;
        lines.extend(answer.not_shown.into_iter().map(|one| {
            let session = one.session.unwrap_or_default();
            said::not_shown(&session.id, &session.user, &session.agent, &one.detail)
        }));
    }
    let partly = shown == 0 || !lines.is_empty();
    lines.insert(0, said::shown(shown));
    Ok(Done { lines, partly, ..Done::default() })
}

async fn drain(way: &Way, agent: String, fields: &Fields) -> Result<Done, Undone> {
    let until = fields.get("until");
    let until_unix_ms = if until.is_empty() { 0 } else { views::until(until, now())? };
    let request = pb::DrainRequest {
        agent: agent.clone(),
        reason: fields.get("reason").to_owned(),
        until_unix_ms,
        force: fields.has("force"),
    };
    way.of_agents().drain(within(DEADLINE, request)).await?;
    Ok(Done::said(format!("{agent} takes no new sessions.")))
}

async fn undrain(way: &Way, agent: String) -> Result<Done, Undone> {
    let request = pb::UndrainRequest { agent: agent.clone() };
    let answer = way.of_agents().undrain(within(DEADLINE, request)).await?.into_inner();
    Ok(Done::said(said::undrained(&agent, answer.drained_by_configuration)))
}

async fn enrol(way: &Way, agent: String, fields: &Fields) -> Result<Done, Undone> {
    let valid_s = views::seconds(fields.get("valid"))?;
    if !views::INVITATION_S.contains(&valid_s) {
        return Err(Undone::NotUnderstood("a token is valid for 1m to 7d".to_owned()));
    }
    let request = pb::InviteRequest { agent, valid_s };
    let answer = way.identities().invite(within(DEADLINE, request)).await?.into_inner();
    let until = vsm_cli::output::time(answer.until_unix_ms).unwrap_or_default();
    let line = format!(
        "Run this as root on {}, until {}. It works once.",
        answer.agent,
        vsm_cli::output::to_the_second(&until)
    );
    Ok(Done { code: Some(views::enrol_command(&answer)), ..Done::said(line) })
}

async fn revoke(way: &Way, identity: &str, fields: &Fields) -> Result<Done, Undone> {
    let name: IdentityName =
        identity.parse().map_err(|error| Undone::NotUnderstood(format!("{error}")))?;
    let request = pb::RevokeRequest {
        role: name.role().to_owned(),
        name: name.name().to_owned(),
        reason: fields.get("reason").to_owned(),
        force: fields.has("force"),
    };
    let answer = way.identities().revoke(within(DEADLINE, request)).await?.into_inner();
    let lines = said::revoked(&name.to_string(), answer.told, &answer.not_told);
    Ok(Done { lines, ..Done::default() })
}

fn changes(all: Vec<pb::ParameterChange>) -> Done {
    if all.is_empty() {
        return Done::said("No parameter has changed.");
    }
    let line = |change: pb::ParameterChange| {
        let then = if change.restart { " (after a restart)" } else { "" };
        format!("{}: {} -> {}{then}", change.path, change.old, change.new)
    };
    Done { lines: all.into_iter().map(line).collect(), ..Done::default() }
}
