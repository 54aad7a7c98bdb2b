//! `vsmctl reload` and `vsmctl config`: a new configuration on this node, and the same one on both.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tonic::transport::Channel;
use vsm_proto::admin::v1::{self as pb, configuration_client::ConfigurationClient};

use super::{AdminOptions, confirm};
use crate::{
    broker::with_deadline,
    exit::Failure,
    output::{self, Cells, Columns, Format},
};

/// Both nodes read, write and sync a few files.
const CONFIG_DEADLINE: Duration = Duration::from_secs(30);

/// A parameter that changed; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct ChangeRow {
    path: String,
    old: String,
    new: String,
    needs_restart: bool,
}

impl From<pb::ParameterChange> for ChangeRow {
    fn from(change: pb::ParameterChange) -> Self {
        let pb::ParameterChange { path, old, new, restart } = change;
        Self { path, old, new, needs_restart: restart }
    }
}

fn print_changes(
    options: &AdminOptions,
    reloaded: pb::ReloadResponse,
    whose: &str,
) -> Result<(), Failure> {
    let pb::ReloadResponse { changes, certificates } = reloaded;
    let rows: Vec<ChangeRow> = changes.into_iter().map(Into::into).collect();
    if options.output != Format::Table {
        return output::value(options.output, &rows);
    }
    let mut text = String::new();
    if certificates {
        text.push_str(&format!("{whose}: certificates read again; new connections use them\n"));
    }
    for ChangeRow { path, old, new, needs_restart } in &rows {
        let then = if *needs_restart { "  (after a restart)" } else { "" };
        text.push_str(&format!("{path}: {} -> {}{then}\n", shown(old), shown(new)));
    }
    let restart = rows.iter().any(|row| row.needs_restart);
    text.push_str(&match (rows.len(), restart) {
        (0, _) if !text.is_empty() => String::new(),
        (0, _) => format!("{whose}: nothing has changed\n"),
        (count, false) => format!("{whose}: {count} parameter(s) changed, in effect\n"),
        (count, true) => format!(
            "{whose}: {count} parameter(s) changed; what stands \"after a restart\" takes effect with systemctl restart vsmserver\n"
        ),
    });
    output::write(&text)
}

fn shown(value: &str) -> String {
    if value.is_empty() { "(empty)".to_owned() } else { value.to_owned() }
}

async fn dial(options: &AdminOptions) -> Result<ConfigurationClient<Channel>, Failure> {
    Ok(ConfigurationClient::new(options.channel().await?))
}

/// `vsmctl reload`.
///
/// # Errors
/// If the broker cannot be asked, or the configuration is bad; then the old one stays.
pub async fn reload(options: &AdminOptions) -> Result<(), Failure> {
    let request = with_deadline(pb::ReloadRequest {}, CONFIG_DEADLINE);
    let reloaded = dial(options).await?.reload(request).await.map_err(refused)?.into_inner();
    print_changes(options, reloaded, "this node")
}

/// A bad configuration is not bad usage.
fn refused(status: tonic::Status) -> Failure {
    let bad = status.code() == tonic::Code::InvalidArgument;
    let failure = Failure::from(status);
    if bad {
        let text = format!("the configuration is refused, and the old one stays:\n{failure}");
        return Failure::new(crate::exit::CONFIG, text);
    }
    failure
}

/// A parameter on which the nodes differ; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct DifferenceRow {
    path: String,
    own: Option<String>,
    peer: Option<String>,
}

impl Columns for DifferenceRow {
    const HEADINGS: &'static [&'static str] = &["PARAMETER", "HERE", "THERE"];

    fn cells(&self) -> Vec<String> {
        let value =
            |value: &Option<String>| value.as_deref().map_or_else(|| "(default)".to_owned(), shown);
        vec![self.path.clone(), value(&self.own), value(&self.peer)]
    }
}

/// Where both nodes differ, as `vsmctl config diff` has it.
pub(crate) fn cells(answer: pb::CompareResponse) -> Cells {
    let row = |pb::Difference { path, own, peer }| DifferenceRow { path, own, peer }.cells();
    let headings = vec!["PARAMETER".to_owned(), answer.own, answer.peer];
    Cells::new(headings, answer.differences.into_iter().map(row))
}

/// What `vsmctl config diff` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct Comparison {
    own: String,
    peer: String,
    differences: Vec<DifferenceRow>,
    #[serde(skip)]
    token: String,
}

impl Comparison {
    async fn ask(client: &mut ConfigurationClient<Channel>) -> Result<Self, Failure> {
        let request = with_deadline(pb::CompareRequest {}, CONFIG_DEADLINE);
        let answer = client.compare(request).await.map_err(refused)?.into_inner();
        let row = |pb::Difference { path, own, peer }| DifferenceRow { path, own, peer };
        Ok(Self {
            own: answer.own,
            peer: answer.peer,
            differences: answer.differences.into_iter().map(row).collect(),
            token: answer.token,
        })
    }

    fn words(&self) -> String {
        if self.differences.is_empty() {
            return format!("{} and {} have the same configuration\n", self.own, self.peer);
        }
        let mut headings: Vec<String> = vec!["PARAMETER".to_owned()];
        headings.extend([self.own.clone(), self.peer.clone()]);
        output::columns(headings, self.differences.iter().map(Columns::cells))
    }
}

/// `vsmctl config diff`: exit code 1 where the nodes differ.
///
/// # Errors
/// If a node cannot be asked, or they differ.
pub async fn config_diff(options: &AdminOptions) -> Result<(), Failure> {
    let comparison = Comparison::ask(&mut dial(options).await?).await?;
    output::report(options.output, &comparison, Comparison::words)?;
    if comparison.differences.is_empty() { Ok(()) } else { Err(Failure::silent(1)) }
}

/// Whether it has been thought over.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Do not ask for confirmation
    #[arg(short = 'y', long)]
    assume_yes: bool,
}

/// `vsmctl config push`: shows what would change on the other node, asks, does it.
///
/// # Errors
/// If a node cannot be asked, the other one refuses the configuration, or either has changed meanwhile.
pub async fn config_push(options: &AdminOptions, arguments: &PushArgs) -> Result<(), Failure> {
    let mut client = dial(options).await?;
    let comparison = Comparison::ask(&mut client).await?;
    if comparison.differences.is_empty() {
        return print_changes(options, pb::ReloadResponse::default(), &comparison.peer);
    }
    if !arguments.assume_yes {
        let (own, peer, count) = (&comparison.own, &comparison.peer, comparison.differences.len());
        let question = format!("Give {count} parameter(s) of {peer} the value that {own} has?");
        confirm(&comparison.words(), &question)?;
    }
    let request = pb::PushRequest { token: comparison.token.clone() };
    let pushed = client.push(with_deadline(request, CONFIG_DEADLINE)).await.map_err(refused)?;
    let pb::PushResponse { changes } = pushed.into_inner();
    let reloaded = pb::ReloadResponse { changes, ..pb::ReloadResponse::default() };
    print_changes(options, reloaded, &comparison.peer)
}
