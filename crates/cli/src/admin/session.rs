//! `vsmctl session`: looking at sessions, and ending them.

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use serde::Serialize;
use vsm_proto::admin::v1 as pb;

use super::{AdminOptions, DEADLINE, confirm, select::Selector};
use crate::{
    broker::with_deadline,
    desktops::SessionRow,
    exit::{Failure, NOT_FOUND, UNAVAILABLE, USAGE},
    output::{self, Cells, Columns, Format, LongList},
};

/// Ending many sessions, each with the grace of its processes.
const TERMINATE_DEADLINE: Duration = Duration::from_secs(120);
/// Most of a log that is asked for, in bytes.
const LOG_MAX: u64 = 1 << 20;

/// `vsmctl session list`.
///
/// # Errors
/// If the broker cannot be asked, or there is no such agent or subcluster.
pub async fn session_list(options: &AdminOptions, selector: &Selector) -> Result<(), Failure> {
    // A hundred thousand are shown as they come.
    let mut list = LongList::new(options.output);
    selector.pages(&mut options.dial().await?, |page| list.page(&page)).await?;
    let count = list.end::<SessionRow>()?;
    if options.output == Format::Table {
        output::say(&format!("{count} session(s)"))
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
    let mut rows = selector.sessions(&mut options.dial().await?).await?;
    match (rows.pop(), rows.len()) {
        (Some(row), 0) => output::value(options.output, &row),
        (Some(_), more) => Err(Failure::new(
            USAGE,
            format!("{} sessions have an id that ends so: give more of it", more + 1),
        )),
        (None, _) => Err(Failure::new(NOT_FOUND, format!("there is no session {}", selector.id))),
    }
}

/// Of which session, and how much.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Session id, or the last 6 or more digits of it
    id: String,
    /// Only the last N lines; 0 = as many as fit in 1 MiB
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: usize,
}

/// What `vsmctl session log` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct LogReport {
    session: String,
    agent: String,
    text: String,
}

/// `vsmctl session log`.
///
/// # Errors
/// If the broker or the agent cannot be asked, or there is no such log.
pub async fn session_log(options: &AdminOptions, arguments: &LogArgs) -> Result<(), Failure> {
    let request = pb::SessionLogRequest { id: arguments.id.clone(), bytes: LOG_MAX };
    let request = with_deadline(request, DEADLINE);
    let pb::SessionLogResponse { id, agent, text } =
        options.dial().await?.session_log(request).await?.into_inner();
    let text = log_text(&text);
    let lines: Vec<&str> = text.lines().collect();
    let first = if arguments.lines == 0 { 0 } else { lines.len().saturating_sub(arguments.lines) };
    let text: String = lines.iter().skip(first).map(|line| format!("{line}\n")).collect();
    output::report(options.output, &LogReport { session: id, agent, text }, |log| log.text.clone())
}

/// What `vsmctl session terminate` prints of each session.
#[derive(Debug, Serialize)]
struct TerminatedRow {
    session: String,
    user: String,
    agent: String,
    done: bool,
    abandoned: bool,
    detail: String,
}

impl Columns for TerminatedRow {
    const HEADINGS: &'static [&'static str] = &["SESSION", "USER", "AGENT", "RESULT"];

    fn cells(&self) -> Vec<String> {
        let result = match (self.done, self.abandoned) {
            (true, _) => "ended".to_owned(),
            (false, true) => format!("abandoned: {}", self.detail),
            (false, false) => format!("not ended: {}", self.detail),
        };
        vec![output::short_id(&self.session), self.user.clone(), self.agent.clone(), result]
    }
}

impl From<pb::Terminated> for TerminatedRow {
    fn from(terminated: pb::Terminated) -> Self {
        let session = terminated.session.unwrap_or_default();
        Self {
            session: session.id,
            user: session.user,
            agent: session.agent,
            done: terminated.done,
            abandoned: terminated.abandoned,
            detail: terminated.detail,
        }
    }
}

/// What came of it, as `vsmctl session terminate` has it.
pub(crate) fn terminated_cells(all: Vec<pb::Terminated>) -> Cells {
    Cells::of(&all.into_iter().map(TerminatedRow::from).collect::<Vec<_>>())
}

/// The text of a log as it can be shown: whatever the session's programs printed moves no cursor.
pub(crate) fn log_text(bytes: &[u8]) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    String::from_utf8_lossy(bytes).chars().map(plain).collect()
}

/// Which sessions to end, and whether it has been thought over.
#[derive(Debug, Args)]
pub struct TerminateArgs {
    #[command(flatten)]
    selector: Selector,
    /// All sessions of the cluster
    #[arg(long)]
    all: bool,
    /// Also abandon sessions whose agent is away: they no longer count, and end when it returns
    #[arg(long)]
    allow_abandon: bool,
    /// Do not ask for confirmation
    #[arg(short = 'y', long)]
    assume_yes: bool,
}

/// `vsmctl session terminate`: shows which, asks, ends them.
///
/// # Errors
/// If the broker cannot be asked, nothing matches, or one is not ended.
pub async fn session_terminate(
    options: &AdminOptions,
    arguments: &TerminateArgs,
) -> Result<(), Failure> {
    let say =
        "say which: --id, --user, --agent, --subcluster, --display, --state, --older-than or --all";
    arguments.selector.check_all(arguments.all, say)?;
    let mut client = options.dial().await?;
    let rows = arguments.selector.sessions(&mut client).await?;
    if rows.is_empty() {
        return Err(Failure::new(NOT_FOUND, "no session matches"));
    }
    if !arguments.assume_yes {
        confirm(&output::table(&rows), &question(&rows))?;
    }
    // Just those that were shown, whatever has come meanwhile.
    let ids = rows.iter().map(|row| row.session.clone()).collect();
    let request = pb::TerminateSessionsRequest { ids, allow_abandon: arguments.allow_abandon };
    let request = with_deadline(request, TERMINATE_DEADLINE);
    let terminated = client.terminate_sessions(request).await?.into_inner().terminated;
    let rows: Vec<TerminatedRow> = terminated.into_iter().map(Into::into).collect();
    output::list(options.output, &rows)?;
    let abandoned = rows.iter().filter(|row| row.abandoned).count();
    let left = rows.iter().filter(|row| !row.done && !row.abandoned).count();
    match (left, abandoned) {
        (0, 0) => Ok(()),
        (0, _) if arguments.allow_abandon => Ok(()),
        _ => Err(Failure::new(
            UNAVAILABLE,
            format!("{} of {} session(s) not ended", left + abandoned, rows.len()),
        )),
    }
}

/// The summary that is to be agreed to.
fn question(rows: &[SessionRow]) -> String {
    let users: BTreeSet<&str> = rows.iter().map(|row| row.user.as_str()).collect();
    let agents: BTreeSet<&str> = rows.iter().map(|row| row.agent.as_str()).collect();
    let count = |state: &str| rows.iter().filter(|row| row.state == state).count();
    format!(
        "End {} session(s) of {} user(s) on {} agent(s), {} of them connected and {} unreachable? \
         What is not saved is lost.",
        rows.len(),
        users.len(),
        agents.len(),
        count("connected"),
        count("unreachable"),
    )
}
