//! `vsm-agent-net`: what of an agent speaks with other hosts. It is not root and holds no session; it looks who asks,
//! by their certificate, reads what they ask for, and asks [`crate::agent`] for it over a unix socket.
//!
//! | module | owns |
//! | --- | --- |
//! | [`service`] | what brokers see: the gRPC services |
//! | [`access`] | whom the configuration lets in |
//! | [`host`] | asking `vsmagent` |
//! | [`follow`] | whether that is there, and what it wants done |
//! | [`report`] | what it tells, on its way to a broker |
//! | [`announce`], [`renew`] | asking the broker |

mod access;
mod announce;
mod follow;
mod host;
mod renew;
mod report;
mod service;
mod settings;
pub(crate) mod words;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use anyhow::Context;
use parking_lot::Mutex;
use tokio::{net::TcpSocket, sync::watch};
use tonic::service::RoutesBuilder;
use vsm_config::Config;
use vsm_daemon::{
    certificates::Certificates,
    descriptors,
    duty::Duties,
    grpc,
    log::{self, LogSettings},
    notify,
    open::{self, Revoked},
    stop::Stop,
    tls::Tls,
    trouble::{Kind, Troubles},
};
use vsm_proto::{agent::v1::agent_server::AgentServer, sync::v1::witness_server::WitnessServer};

use host::Host;
use settings::Settings;

/// Connections that wait to be taken: more than there are brokers.
const BACKLOG: u32 = 1024;

/// Everything that the parts share.
#[derive(Debug)]
struct Net {
    settings: watch::Sender<Arc<Settings>>,
    host: Host,
    tls: Tls,
    /// What is in force; `vsmagent` keeps it.
    revoked: Mutex<Revoked>,
    /// Brokers that want the certificate renewed.
    renewal: renew::Renewal,
    /// What is wrong here, which brokers are told beside what is wrong with `vsmagent`.
    troubles: Troubles,
    stop: Stop,
    /// Set once it has given up to wait for a `vsmagent` that was never there.
    is_alone: OnceLock<()>,
}

/// There is no `vsmagent` to ask.
#[derive(Debug, thiserror::Error)]
#[error("vsmagent does not run: it starts this too (systemctl start vsmagent)")]
pub struct Alone;

impl Net {
    /// The settings now; a reload changes them for what begins later.
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    /// Lets those in no more, beside those of before.
    fn revoke(
        &self,
        told: impl IntoIterator<Item = (vsm_core::IdentityName, vsm_core::UnixMillis)>,
    ) {
        let told: Vec<_> = told.into_iter().collect();
        let own = self.tls.own().into_iter().next();
        let is_own = |(name, before): &(vsm_core::IdentityName, vsm_core::UnixMillis)| {
            own.as_ref()
                .is_some_and(|own| own.shown.names.contains(name) && own.shown.since < *before)
        };
        if told.iter().any(is_own) {
            // The brokers do, and who looks for the reason looks here.
            tracing::error!(
                "this host's certificate was revoked: brokers refuse it until it has a new one (vsmctl agent enrol)"
            );
        }
        let mut all = self.revoked.lock();
        open::revoke_too(&mut all, told);
        self.tls.revoke(all.clone());
    }
}

/// What a process brings along that has become the account of its own.
#[derive(Debug)]
pub struct Start {
    /// Directory of the configuration files.
    pub dir: PathBuf,
    /// The configuration.
    pub config: Config,
    /// This host's identity.
    pub tls: Tls,
    /// The port of the configuration, on which nobody can connect yet.
    pub port: TcpSocket,
}

/// Serves brokers until `stop`. It begins when `vsmagent` is there.
///
/// # Errors
/// If it cannot begin to serve.
pub async fn run(Start { dir, config, tls, port }: Start, stop: Stop) -> anyhow::Result<()> {
    let settings = Settings::from_config(&config);
    let duties = Duties::new(stop.token.clone());
    let (here, is_here) = watch::channel(None);
    let net = Arc::new(Net {
        host: Host::new(&settings.run_dir, is_here),
        settings: watch::Sender::new(Arc::new(settings)),
        tls: tls.clone(),
        revoked: Mutex::default(),
        renewal: renew::Renewal::default(),
        troubles: Troubles::default(),
        stop: stop.clone(),
        is_alone: OnceLock::new(),
    });
    // Whoever starts it need not wait until somebody is let in.
    notify::ready("waiting for vsmagent");
    duties.run_to_its_end("follow vsmagent", follow::follow(Arc::clone(&net), here));
    let Some(boot_id) = stop.token.run_until_cancelled(net.host.boot_id()).await else {
        return if net.is_alone.get().is_some() { Err(Alone.into()) } else { Ok(()) };
    };
    let certificates = Certificates::new(tls.clone(), &config, Vec::new(), net.troubles.clone());
    duties.run("certificates", Arc::clone(&certificates).follow(stop.token.clone()));
    let look = descriptors::follow("vsm-agent-net", net.troubles.clone(), stop.token.clone());
    duties.run("look at descriptors", look);
    duties.run("reloads", reload(Arc::clone(&net), certificates, dir.clone()));
    duties.run("renewal of the certificate", renew::follow(Arc::clone(&net), dir));
    let number = port.local_addr()?.port();
    duties.run_to_its_end("announcement", announce::announce(Arc::clone(&net), boot_id, number));
    let mut routes = RoutesBuilder::default();
    let _health = grpc::standard_services(&mut routes, vsm_proto::DESCRIPTORS).await?;
    let service = service::Service::new(Arc::clone(&net));
    routes.add_service(
        WitnessServer::new(service.clone())
            .max_decoding_message_size(grpc::WINDOW_MAX)
            .max_encoding_message_size(grpc::WINDOW_MAX),
    );
    routes.add_service(
        AgentServer::new(service)
            .max_decoding_message_size(grpc::MESSAGE_MAX)
            .max_encoding_message_size(grpc::MESSAGE_MAX),
    );
    let listener = port.listen(BACKLOG).context("cannot listen (/vsmagent/listen_port)")?;
    tracing::info!(port = listener.local_addr()?.port(), "ready");
    notify::ready("serving");
    let guard = access::guard(&net);
    grpc::serve_tls(listener, &tls, routes.routes(), guard, stop.token.clone()).await?;
    notify::stopping();
    if let Some(failed) = duties.failed() {
        return Err(failed.into());
    }
    tracing::info!("stopped");
    Ok(())
}

/// Takes a new configuration at SIGHUP, or when `vsmagent` has; a bad one is told, and the old one stays.
async fn reload(net: Arc<Net>, certificates: Arc<Certificates>, dir: PathBuf) {
    while net.stop.until_reload().await {
        notify::reloading();
        certificates.look_again();
        // With the certificate, as `vsmagent --check` does: an agent that could not start again is to be known of.
        let read = Config::load(&dir).map_err(anyhow::Error::from);
        match read.and_then(|config| Ok((Tls::load(&config)?, config))) {
            Ok((_, config)) => {
                log::reload(&LogSettings::vsmagent(&config, crate::LOG_PARTS).of_net());
                let mut settings = Settings::from_config(&config);
                // Where vsmagent is asked only a start changes.
                settings.run_dir.clone_from(&net.settings().run_dir);
                net.settings.send_replace(Arc::new(settings));
                net.troubles.over(Kind::Configuration, "");
                certificates.take(&config);
                tracing::info!("configuration read again");
            }
            Err(error) => net.troubles.configuration_refused(&error),
        }
        notify::ready("serving");
    }
}
