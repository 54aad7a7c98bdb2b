//! `vsmctl` on the local admin socket.

pub(crate) mod agent;
pub(crate) mod config;
mod events;
mod explain;
mod export;
mod follow;
mod hosts;
pub(crate) mod identities;
pub(crate) mod load;
mod notify;
pub(crate) mod renew;
mod rotation;
pub(crate) mod select;
pub(crate) mod session;
mod web;

use std::{
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use tokio::net::UnixStream;
use tonic::transport::Channel;
use vsm_config::{Config, keys};
use vsm_daemon::{
    grpc, socket,
    tls::{Role, Tls},
};
use vsm_proto::admin::v1::{self as pb, admin_client::AdminClient};

pub(crate) use agent::agents;
pub use agent::{
    DrainArgs, ForgetArgs, agent_drain, agent_forget, agent_list, agent_show, agent_undrain,
};
pub use config::{PushArgs, config_diff, config_push, reload};
pub use events::{EventsArgs, events};
pub use explain::{Explanation, explain};
pub use export::{ExportArgs, pki_export};
pub use follow::session_watch;
pub use hosts::{HostsArgs, RsyncArgs, SshArgs, agent_rsync, agent_ssh};
pub use identities::{EnrolArgs, RevokeArgs, agent_enrol, pki_list, pki_revoke};
pub use load::{Sort, load_list, load_show, load_subclusters};
pub use notify::{NotifyArgs, notify};
pub use renew::{RenewArgs, pki_renew};
pub use rotation::{RotateFinishArgs, RotateStatusArgs, rotate_finish, rotate_status};
pub use select::{Condition, Selector};
pub use session::{
    LogArgs, TerminateArgs, session_list, session_log, session_show, session_terminate,
};
pub use web::{WebListArgs, WebRevokeArgs, web_list, web_revoke};

use crate::{
    broker::with_deadline,
    exit::{CONFIG, Failure, NOT_ALLOWED, SOFTWARE, UNAVAILABLE, USAGE},
    output::{self, Format},
    trouble::Trouble,
};

/// For everything that takes no time by itself.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The first of these names, and how many more there are.
fn few(names: &[String], most: usize) -> String {
    let named = names.iter().take(most).cloned().collect::<Vec<_>>().join(" ");
    match names.len().saturating_sub(most) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// How to reach the broker.
#[derive(Debug, Clone, Args)]
pub struct AdminOptions {
    /// Directory of the configuration files, which name the admin socket
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d", global = true)]
    pub config: PathBuf,
    /// Admin socket, instead of /vsmserver/admin_socket
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
    /// Broker to contact over the network, instead of the one on this host: needs a certificate with the role admin on
    /// this host, and this host in /vsmserver/allowed_clients on the broker
    #[arg(long, value_name = "HOST", global = true, conflicts_with = "socket")]
    pub broker: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t, global = true)]
    pub output: Format,
}

impl AdminOptions {
    /// The configuration; that of a host without one is the defaults.
    pub(crate) fn configuration(&self) -> Result<Config, Failure> {
        if !self.config.is_dir() {
            return Ok(Config::defaults());
        }
        Config::load(&self.config).map_err(|error| Failure::new(CONFIG, error.to_string()))
    }

    /// A channel to the broker: its admin socket, or its port.
    pub(crate) async fn channel(&self) -> Result<Channel, Failure> {
        if let Some(host) = &self.broker {
            return self.remote(host);
        }
        let path = match &self.socket {
            Some(path) => path.clone(),
            // A configuration that is bad at the moment must not keep anybody from the broker that runs: it says what
            // is wrong.
            None => self
                .configuration()
                .unwrap_or_else(|_| Config::defaults())
                .get(&keys::vsmserver::ADMIN_SOCKET),
        };
        // Tried here once, as the channel's own error would not say which socket nor why. Not the blocking way: a
        // broker that is frozen has a full queue at last.
        if let Err(error) = UnixStream::connect(&path).await {
            let path = path.display();
            return Err(if error.kind() == std::io::ErrorKind::PermissionDenied {
                Failure::new(
                    NOT_ALLOWED,
                    format!("{path} is for root and the admin group (/vsmserver/admin_group)"),
                )
            } else {
                let bad = self.configuration().err();
                let bad = bad
                    .map_or_else(String::new, |why| format!("\nthe configuration is bad: {why}"));
                Failure::new(
                    UNAVAILABLE,
                    format!("vsmserver does not run here: {path}: {error}{bad}"),
                )
            });
        }
        Ok(socket::channel(path))
    }

    fn remote(&self, host: &str) -> Result<Channel, Failure> {
        let bad = |error: String| Failure::new(CONFIG, error);
        let config = self.configuration()?;
        let tls = Tls::load(&config).map_err(|error| bad(error.to_string()))?;
        let port = config.get(&keys::vsm::VSM_SERVER_PORT);
        grpc::channel_to(Role::Broker, host, port, &tls)
            .map_err(|error| bad(format!("{host}: {error}")))
    }

    pub(crate) async fn dial(&self) -> Result<AdminClient<Channel>, Failure> {
        Ok(AdminClient::new(self.channel().await?).max_decoding_message_size(grpc::MESSAGE_MAX))
    }
}

/// Shows what is about to happen and asks; anything but yes is a no.
///
/// # Errors
/// If there is nobody to ask, or the answer is no.
#[expect(clippy::print_stderr, reason = "the question is for the person, not part of the data")]
pub(crate) fn confirm(what: &str, question: &str) -> Result<(), Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::new(USAGE, "there is no terminal to ask on; add --assume-yes"));
    }
    eprint!("{}{question} [y/N] ", vsm_core::printable_lines(what));
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let _ = input.lock().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(1, "nothing was done"))
    }
}

/// What `vsmctl status` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct StatusReport {
    node: String,
    version: String,
    role: String,
    epoch: String,
    lineage: String,
    last_seq: u64,
    sessions: u32,
    started: Option<String>,
    troubles: Vec<Trouble>,
}

/// `vsmctl status`.
///
/// # Errors
/// If the broker cannot be asked.
pub async fn status(options: &AdminOptions) -> Result<(), Failure> {
    let request = with_deadline(pb::StatusRequest {}, DEADLINE);
    let status = options.dial().await?.status(request).await?.into_inner();
    let epoch = status.epoch.ok_or_else(|| Failure::new(SOFTWARE, "the broker gave no epoch"))?;
    let report = StatusReport {
        node: status.node,
        version: status.version,
        role: status.role,
        epoch: format!("{}@{}", epoch.counter, epoch.node),
        lineage: status.lineage,
        last_seq: status.last_seq,
        sessions: status.sessions,
        started: output::time(status.started_unix_ms),
        troubles: status.troubles.into_iter().map(Into::into).collect(),
    };
    output::value(options.output, &report)
}
