//! `vsmctl session`: looking at sessions, and ending them.

use std::{
    io::{BufRead, IsTerminal, Write},
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use vsm_proto::admin::v1::{self as pb, admin_client::AdminClient};

use super::{AdminOptions, DEADLINE};
use crate::{
    broker::{SessionRow, with_deadline},
    exit::{Failure, NOT_FOUND, UNAVAILABLE, USAGE},
    output::{self, Columns, Format},
};

/// Ending many sessions, each with the grace of its processes.
const TERMINATE_DEADLINE: Duration = Duration::from_secs(120);

/// Which sessions; all that are given must match.
#[derive(Debug, Clone, Default, Args)]
pub struct Selector {
    /// Only this session
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub id: String,
    /// Only those of this user
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    pub user: String,
    /// Only those on this agent
    #[arg(long, value_name = "AGENT", default_value = "", hide_default_value = true)]
    pub agent: String,
    /// Only those with this display number
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub display: u32,
}

impl Selector {
    const fn is_empty(&self) -> bool {
        self.id.is_empty() && self.user.is_empty() && self.agent.is_empty() && self.display == 0
    }

    fn message(&self) -> pb::SessionSelector {
        pb::SessionSelector {
            id: self.id.clone(),
            user: self.user.clone(),
            agent: self.agent.clone(),
            display: self.display,
        }
    }
}

async fn sessions(
    client: &mut AdminClient<Channel>,
    selector: &Selector,
) -> Result<Vec<SessionRow>, Failure> {
    let mut pages =
        client.list_sessions(with_deadline(selector.message(), DEADLINE)).await?.into_inner();
    let mut rows = Vec::new();
    while let Some(page) = pages.next().await {
        rows.extend(page?.sessions.into_iter().map(SessionRow::from));
    }
    Ok(rows)
}

/// `vsmctl session list`.
///
/// # Errors
/// If the broker cannot be asked.
pub async fn session_list(options: &AdminOptions, selector: &Selector) -> Result<(), Failure> {
    let rows = sessions(&mut options.dial().await?, selector).await?;
    output::list(options.output, &rows)?;
    if options.output == Format::Table {
        output::say(&format!("{} session(s)", rows.len()))
    } else {
        Ok(())
    }
}

/// `vsmctl session show`.
///
/// # Errors
/// If the broker cannot be asked, or there is no such session.
pub async fn session_show(options: &AdminOptions, id: String) -> Result<(), Failure> {
    let selector = Selector { id, ..Selector::default() };
    match sessions(&mut options.dial().await?, &selector).await?.pop() {
        Some(row) => output::value(options.output, &row),
        None => Err(Failure::new(NOT_FOUND, format!("there is no session {}", selector.id))),
    }
}

/// What `vsmctl session terminate` prints of each session.
#[derive(Debug, Serialize)]
struct TerminatedRow {
    session: String,
    user: String,
    agent: String,
    done: bool,
    detail: String,
}

impl Columns for TerminatedRow {
    const HEADINGS: &'static [&'static str] = &["SESSION", "USER", "AGENT", "RESULT"];

    fn cells(&self) -> Vec<String> {
        let result = if self.done { "ended".to_owned() } else { self.detail.clone() };
        vec![self.session.clone(), self.user.clone(), self.agent.clone(), result]
    }
}

/// Which sessions to end, and whether it has been thought over.
#[derive(Debug, Args)]
pub struct TerminateArgs {
    #[command(flatten)]
    selector: Selector,
    /// Every session of the cluster
    #[arg(long)]
    all: bool,
    /// Do not ask
    #[arg(short = 'y', long)]
    assume_yes: bool,
}

/// `vsmctl session terminate`: shows which, asks, ends them.
///
/// # Errors
/// If the broker cannot be asked, nothing matches, or one cannot be ended now.
pub async fn session_terminate(
    options: &AdminOptions,
    arguments: &TerminateArgs,
) -> Result<(), Failure> {
    if arguments.selector.is_empty() && !arguments.all {
        return Err(Failure::new(USAGE, "say which: --id, --user, --agent, --display or --all"));
    }
    let mut client = options.dial().await?;
    let rows = sessions(&mut client, &arguments.selector).await?;
    if rows.is_empty() {
        return Err(Failure::new(NOT_FOUND, "no session matches"));
    }
    if !arguments.assume_yes {
        confirm(&rows)?;
    }
    // Just those that were shown, whatever has come meanwhile.
    let ids = rows.iter().map(|row| row.session.clone()).collect();
    let request = with_deadline(pb::TerminateSessionsRequest { ids }, TERMINATE_DEADLINE);
    let terminated = client.terminate_sessions(request).await?.into_inner().terminated;
    let rows: Vec<TerminatedRow> = terminated
        .into_iter()
        .map(|row| {
            let session = row.session.unwrap_or_default();
            let (done, detail) = (row.done, row.detail);
            TerminatedRow {
                session: session.id,
                user: session.user,
                agent: session.agent,
                done,
                detail,
            }
        })
        .collect();
    output::list(options.output, &rows)?;
    let left = rows.iter().filter(|row| !row.done).count();
    if left == 0 {
        Ok(())
    } else {
        Err(Failure::new(UNAVAILABLE, format!("{left} of {} not ended yet", rows.len())))
    }
}

#[expect(clippy::print_stderr, reason = "the question is for the person, not part of the data")]
fn confirm(rows: &[SessionRow]) -> Result<(), Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::new(USAGE, "there is no terminal to ask on; add --assume-yes"));
    }
    for row in rows {
        eprintln!("{}  {}  {}:{}  {}", row.session, row.user, row.agent, row.display, row.state);
    }
    eprint!("End {} session(s)? What is not saved is lost. [y/N] ", rows.len());
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let _ = input.lock().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(1, "nothing was ended"))
    }
}
