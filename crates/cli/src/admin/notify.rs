//! `vsmctl notify`: a text on desktops.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use vsm_proto::admin::v1 as pb;

use super::{AdminOptions, select::Selector};
use crate::{
    broker::with_deadline,
    exit::{Failure, NOT_FOUND, UNAVAILABLE},
    output::{self, Format},
    said,
};

/// Many desktops, a few at a time on each agent.
const NOTIFY_DEADLINE: Duration = Duration::from_secs(120);

/// On which desktops, and what.
#[derive(Debug, Args)]
pub struct NotifyArgs {
    #[command(flatten)]
    selector: Selector,
    /// All desktops of the cluster
    #[arg(long)]
    all: bool,
    /// Message to show, at most 2048 bytes
    text: String,
}

/// What `vsmctl notify` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct Report {
    shown: u32,
    not_shown: Vec<NotShown>,
}

#[derive(Debug, Serialize)]
struct NotShown {
    session: String,
    user: String,
    agent: String,
    detail: String,
}

impl Report {
    fn words(&self) -> String {
        let mut text = said::shown(self.shown) + "\n";
        for NotShown { session, user, agent, detail } in &self.not_shown {
            text += &(said::not_shown(session, user, agent, detail) + "\n");
        }
        text
    }
}

/// Shows a text on the desktops that are selected.
///
/// # Errors
/// If the broker cannot be asked, nothing matches, or it cannot be shown somewhere.
pub async fn notify(options: &AdminOptions, arguments: &NotifyArgs) -> Result<(), Failure> {
    let NotifyArgs { selector, all, text } = arguments;
    selector.check_all(*all, "say on which desktops: --user, --agent, ... or --all")?;
    let request = pb::NotifyRequest { selector: Some(selector.message()), text: text.clone() };
    let request = with_deadline(request, NOTIFY_DEADLINE);
    let pb::NotifyResponse { shown, not_shown } =
        options.dial().await?.notify(request).await?.into_inner();
    let not_shown: Vec<NotShown> = not_shown
        .into_iter()
        .map(|pb::NotShown { session, detail }| {
            let session = session.unwrap_or_default();
            NotShown { session: session.id, user: session.user, agent: session.agent, detail }
        })
        .collect();
    let left = not_shown.len();
    if shown == 0 && left == 0 {
        return Err(Failure::new(NOT_FOUND, "no desktop that runs matches"));
    }
    output::report(options.output, &Report { shown, not_shown }, Report::words)?;
    match (left, options.output) {
        (0, _) => Ok(()),
        // It stands above.
        (_, Format::Table) => Err(Failure::silent(UNAVAILABLE)),
        (left, _) => Err(Failure::new(UNAVAILABLE, format!("not shown on {left} desktop(s)"))),
    }
}
