//! `vsmagent`: answers brokers, starts sessions, adopts those that are there.
//!
//! It holds nothing that its own end may lose: the promise and the records are files, the desktops are processes of
//! their own. [`registry`] is what it knows of them, [`link`] keeps that true, [`service`] is what brokers see.

mod access;
mod adopt;
mod announce;
mod call_error;
mod client;
mod display;
pub(crate) mod fence;
mod keys;
mod life;
mod limits;
mod link;
mod load;
mod maintenance;
mod notice;
mod pam;
mod registry;
mod renew;
mod report;
mod revoked;
pub(crate) mod service;
mod session_log;
mod settings;
mod shadow;
mod start;
mod wish;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use vsm_config::Config;
use vsm_daemon::{
    at_start::Daemon,
    duty::Duties,
    grpc,
    log::{self, LogSettings},
    looks::Looks,
    notify,
    one_time::{self, Keys},
    stop::Stop,
    tls::Tls,
    trouble::{Kind, Troubles},
};
use vsm_proto::{agent::v1::agent_server::AgentServer, sync::v1::witness_server::WitnessServer};

pub use settings::Settings;

use crate::{displays, record::Store};
use registry::Registry;

/// How often what ends without a word is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Everything that the parts of the agent share.
#[derive(Debug)]
pub(crate) struct Agent {
    settings: watch::Sender<Arc<Settings>>,
    store: Store,
    fence: fence::FenceKeeper,
    registry: Registry,
    keys: Arc<Keys>,
    shadow_rights: shadow::Rights,
    load: watch::Receiver<vsm_proto::agent::v1::Load>,
    maintenance: watch::Receiver<maintenance::Maintenance>,
    /// Which certificates count no more.
    revoked: revoked::Kept,
    /// What is wrong here, which brokers are told.
    troubles: Troubles,
    /// Tasks that it cannot be without.
    duties: Duties,
    boot_id: String,
    /// The program that is run for each session.
    session_program: PathBuf,
}

impl Agent {
    /// The settings now; a reload changes them for what begins later.
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    fn set_settings(&self, new: Settings) {
        self.settings.send_replace(Arc::new(new));
    }
}

/// `vsm-session` lies beside `vsmagent`, or where `VSM_SESSION_PROGRAM` says.
fn session_program() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("VSM_SESSION_PROGRAM") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("cannot find the own program")?;
    let beside = own.with_file_name("vsm-session");
    let installed = PathBuf::from("/usr/libexec/vsm/vsm-session");
    Ok(if beside.is_file() || !installed.is_file() { beside } else { installed })
}

/// Runs the agent until `stop`. Desktops stay.
///
/// # Errors
/// If it cannot begin to serve: the state folder, TLS, the port.
pub async fn run(config_dir: &Path, config: &Config, stop: Stop) -> anyhow::Result<()> {
    let settings = Settings::from_config(config);
    let store = Store::open(&settings.session.state_dir)?;
    renew::recover(config)?;
    let tls = Tls::load(config)?;
    let port = settings.listen_port;
    let listener = grpc::listen(port)
        .await
        .with_context(|| format!("cannot listen on port {port} (/vsmagent/listen_port)"))?;
    let duties = Duties::new(stop.token.clone());
    let troubles = Troubles::default();
    tell_left_out(&troubles, config);
    let agent = Arc::new(Agent {
        revoked: revoked::Kept::load(store.dir(), tls.clone(), &troubles),
        fence: fence::FenceKeeper::load(store.dir(), &settings::host_name(), troubles.clone())?,
        troubles,
        duties: duties.clone(),
        registry: Registry::default(),
        keys: Arc::default(),
        shadow_rights: shadow::Rights::default(),
        load: load::watch(&duties, stop.token.clone()),
        maintenance: maintenance::watch(&duties, stop.token.clone()),
        boot_id: crate::process::boot_id(),
        session_program: session_program()?,
        settings: watch::Sender::new(Arc::new(settings)),
        store,
    });
    adopt::adopt(&agent).await.context("cannot read the records of sessions")?;
    hold_displays(&agent);
    pam::look(&agent);
    start_duties(&agent, config, &tls, config_dir, &stop);
    let mut routes = RoutesBuilder::default();
    let _health = grpc::standard_services(&mut routes, vsm_proto::DESCRIPTORS).await?;
    let service = service::Service::new(Arc::clone(&agent), stop.token.clone());
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
    tracing::info!(
        port = listener.local_addr()?.port(),
        sessions = agent.registry.live_count(),
        "ready"
    );
    notify::ready("serving");
    grpc::serve_tls(listener, &tls, routes.routes(), access::guard(&agent), stop.token.clone())
        .await?;
    notify::stopping();
    if let Some(failed) = agent.duties.failed() {
        return Err(failed.into());
    }
    tracing::info!(sessions = agent.registry.live_count(), "stopped; desktops go on");
    Ok(())
}

/// Begins what goes on beside serving.
fn start_duties(agent: &Arc<Agent>, config: &Config, tls: &Tls, dir: &Path, stop: &Stop) {
    let duties = &agent.duties;
    duties.run("look at displays", look_again(Arc::clone(agent), stop.token.clone()));
    let looks = Looks::new(Daemon::Agent, config, tls, &agent.troubles);
    looks.follow(duties, &stop.token);
    let reloads = reload(Arc::clone(agent), looks, dir.to_owned(), stop.clone());
    duties.run("reloads", reloads);
    let renew = renew::follow(Arc::clone(agent), tls.clone(), dir.to_owned(), stop.clone());
    duties.run("renewal of the certificate", renew);
    let announce = announce::announce(Arc::clone(agent), tls.clone(), stop.token.clone());
    duties.run_to_its_end("announcement", announce);
    let socket = agent.settings().session.run_dir.join(one_time::AGENT_SOCKET);
    let (keys, troubles) = (Arc::clone(&agent.keys), agent.troubles.clone());
    // Users go on without both, and brokers are told.
    let serve = one_time::serve(keys, socket, stop.token.clone(), troubles);
    duties.run_to_its_end("one-time keys", serve);
    let serve = shadow::serve(Arc::clone(agent), stop.token.clone());
    duties.run_to_its_end("shadowing", serve);
}

/// Takes the names of displays before a user can, and says where that is too late.
fn hold_displays(agent: &Agent) {
    match displays::Place::open() {
        Ok(place) => {
            for moved in place.moved {
                tracing::warn!(moved, "a folder for displays was somebody else's");
            }
        }
        Err(error) => {
            let what = format!("no desktop can be started here: {error}");
            agent.troubles.raise(Kind::Displays, "place", what);
        }
    }
    tell_taken(agent, agent.registry.hold_displays(&agent.settings()));
}

fn tell_taken(agent: &Agent, taken: usize) {
    let what = || format!("{taken} names of displays are taken by others, and passed over");
    agent.troubles.set(Kind::Displays, "names", (taken > 0).then(what));
}

/// Says what of the configuration is not followed, and why.
fn tell_left_out(troubles: &Troubles, config: &Config) {
    troubles.set(Kind::Configuration, "xserver_args", settings::left_out(config));
}

/// What is looked at again now and then, since nobody says when it is over.
async fn look_again(agent: Arc<Agent>, stop: CancellationToken) {
    let mut before = 0;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let taken = agent.registry.hold_displays(&agent.settings());
        // The X server of a session that has just ended may still have its name.
        tell_taken(&agent, taken.min(before));
        before = taken;
        agent.troubles.expire();
        pam::look(&agent);
    }
}

/// Takes a new configuration at SIGHUP; a bad one is told, and the old one stays.
async fn reload(agent: Arc<Agent>, looks: Looks, dir: PathBuf, stop: Stop) {
    loop {
        tokio::select! {
            biased;
            () = stop.token.cancelled() => return,
            () = stop.reload.notified() => {}
        }
        notify::reloading();
        looks.at_reload();
        // With the certificate, as `vsmagent --check` does: an agent that could not start again is to be known of.
        let read = Config::load(&dir).map_err(anyhow::Error::from);
        match read.and_then(|config| Ok((Tls::load(&config)?, config))) {
            Ok((_, config)) => {
                log::reload(&LogSettings::vsmagent(&config, crate::LOG_PARTS));
                log::unread(&config);
                let mut settings = Settings::from_config(&config);
                settings.keep(&agent.settings());
                agent.set_settings(settings);
                agent.troubles.over(Kind::Configuration, "");
                looks.taken(&config);
                tell_left_out(&agent.troubles, &config);
                pam::look(&agent);
                tracing::info!("configuration read again; what is running keeps its own");
            }
            Err(error) => {
                // Each time: whoever asked for it looks into the log.
                tracing::error!(%error, "the new configuration is bad; the old one stays");
                let what = format!("a new configuration is bad, and the old one stays: {error}");
                agent.troubles.raise(Kind::Configuration, "", what);
            }
        }
        notify::ready("serving");
    }
}
