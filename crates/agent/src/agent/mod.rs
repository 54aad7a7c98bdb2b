//! `vsmagent`: starts sessions, keeps them, adopts those that are there. It is root and speaks with no other host:
//! brokers ask [`crate::net`], which asks here.
//!
//! It holds nothing that its own end may lose: the promise and the records are files, the desktops are processes of
//! their own. [`registry`] is what it knows of them, [`link`] keeps that true, [`server`] is where it is asked.

mod adopt;
mod call_error;
mod caller;
mod calls;
mod client;
mod display;
pub(crate) mod fence;
mod identity;
mod keys;
mod life;
mod limits;
mod link;
mod load;
mod maintenance;
mod notice;
mod order;
mod pam;
mod registry;
mod report;
mod revoked;
mod server;
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
use vsm_config::Config;
use vsm_daemon::{
    account::{self, Account},
    at_start::{AtStart, Daemon},
    descriptors,
    duty::Duties,
    grant,
    log::{self, LogSettings},
    notify,
    one_time::{self, Keys},
    process::host_name,
    sshd::Sshd,
    stop::Stop,
    trouble::{Kind, Troubles},
};

pub use settings::Settings;

use crate::{displays, message::Load, record::Store};
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
    load: watch::Receiver<Load>,
    maintenance: watch::Receiver<maintenance::Maintenance>,
    /// Which certificates count no more.
    revoked: revoked::Kept,
    /// The files of this host's identity.
    files: watch::Sender<Arc<identity::Files>>,
    /// Counts how often the configuration was read again.
    reloads: watch::Sender<u64>,
    /// How many follow this process: one, where all is well.
    followers: watch::Sender<usize>,
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
/// If it cannot begin to serve: the state folder, the account of `vsm-agent-net`, the socket for it.
pub async fn run(config_dir: &Path, config: &Config, stop: Stop) -> anyhow::Result<()> {
    let settings = Settings::from_config(config);
    let account = Account::find(account::AGENT)?;
    let store = Store::open(&settings.session.state_dir)?;
    let listener = server::listen(&settings.session.run_dir, account)
        .context("cannot open the socket for vsm-agent-net")?;
    let files = identity::Files::of(config);
    files.recover()?;
    let duties = Duties::new(stop.token.clone());
    let troubles = Troubles::default();
    tell_left_out(&troubles, config);
    let agent = Arc::new(Agent {
        revoked: revoked::Kept::load(store.dir(), &troubles),
        fence: fence::FenceKeeper::load(store.dir(), &host_name(), troubles.clone())?,
        files: watch::Sender::new(Arc::new(files)),
        reloads: watch::Sender::default(),
        followers: watch::Sender::default(),
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
    identity::grant(&agent, account);
    log_file_of_net(config, account);
    start_duties(&agent, config, account, config_dir, &stop);
    tracing::info!(sessions = agent.registry.live_count(), "ready");
    notify::ready("serving");
    server::serve(Arc::clone(&agent), listener, account, stop.token.clone()).await;
    notify::stopping();
    if let Some(failed) = agent.duties.failed() {
        return Err(failed.into());
    }
    tracing::info!(sessions = agent.registry.live_count(), "stopped; desktops go on");
    Ok(())
}

/// Begins what goes on beside serving.
fn start_duties(agent: &Arc<Agent>, config: &Config, account: Account, dir: &Path, stop: &Stop) {
    let duties = &agent.duties;
    duties.run("look at displays", look_again(Arc::clone(agent), stop.token.clone()));
    let sshd = Sshd::new(agent.troubles.clone());
    duties.run("look at sshd", Arc::clone(&sshd).follow(stop.token.clone()));
    let look = descriptors::follow("vsmagent", agent.troubles.clone(), stop.token.clone());
    duties.run("look at descriptors", look);
    let at_start = AtStart::new(Daemon::Agent, config, agent.troubles.clone());
    let reload = Reload { agent: Arc::clone(agent), account, at_start, sshd, dir: dir.to_owned() };
    duties.run("reloads", reload.follow(stop.clone()));
    let keys = identity::follow(Arc::clone(agent), account, stop.token.clone());
    duties.run("look at the key", keys);
    let first = order::wait_for_first(Arc::clone(agent), stop.token.clone());
    duties.run_to_its_end("wait for vsm-agent-net", first);
    let socket = agent.settings().session.run_dir.join(one_time::AGENT_SOCKET);
    let (keys, troubles) = (Arc::clone(&agent.keys), agent.troubles.clone());
    // Users go on without both, and brokers are told.
    let serve = one_time::serve(keys, None, socket, stop.token.clone(), troubles);
    duties.run_to_its_end("one-time keys", serve);
    let serve = shadow::serve(Arc::clone(agent), stop.token.clone());
    duties.run_to_its_end("shadowing", serve);
}

/// Makes the log file of `vsm-agent-net`, which is no root and cannot.
fn log_file_of_net(config: &Config, account: Account) {
    let settings = LogSettings::vsmagent(config, crate::LOG_PARTS).of_net();
    if let Some(path) = settings.file()
        && let Err(error) = grant::log_file(path, account)
    {
        // It goes on without.
        tracing::warn!(%error, path = %path.display(), "vsm-agent-net has no log file");
    }
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
struct Reload {
    agent: Arc<Agent>,
    account: Account,
    at_start: Arc<AtStart>,
    sshd: Arc<Sshd>,
    dir: PathBuf,
}

impl Reload {
    async fn follow(self, stop: Stop) {
        while stop.until_reload().await {
            notify::reloading();
            self.sshd.look_again();
            match Config::load(&self.dir) {
                Ok(config) => self.take(&config),
                Err(error) => self.agent.troubles.configuration_refused(&error),
            }
            identity::grant(&self.agent, self.account);
            // It looks at the certificates too, whatever became of the rest.
            self.agent.reloads.send_modify(|count| *count += 1);
            notify::ready("serving");
        }
    }

    fn take(&self, config: &Config) {
        let agent = &self.agent;
        log::reload(&LogSettings::vsmagent(config, crate::LOG_PARTS));
        log::unread(config);
        log_file_of_net(config, self.account);
        let mut settings = Settings::from_config(config);
        settings.keep(&agent.settings());
        agent.set_settings(settings);
        agent.files.send_replace(Arc::new(identity::Files::of(config)));
        agent.troubles.over(Kind::Configuration, "");
        self.at_start.compare(config);
        tell_left_out(&agent.troubles, config);
        pam::look(agent);
        tracing::info!("configuration read again; what is running keeps its own");
    }
}
