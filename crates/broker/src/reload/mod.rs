//! The configuration as it is in force, and taking a new one: whole or not at all, whoever asks for it: SIGHUP, an
//! administrator, a file that changed (`watch_files` finds it), or the other node.

mod looks;
pub(crate) mod watch_files;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Mutex;
use vsm_config::{Change, Config, keys};
use vsm_daemon::{
    log::{self, LogSettings},
    notify,
    tls::Tls,
    trouble::Kind,
};

use vsm_root::message::{Act, Answer};

use looks::Looks;

use crate::{
    helper,
    journal::{Journal, trail::Note},
    pair::{Ha, Side, card},
    process::Process,
    sessions::Sessions,
    site::{Site, settings::Settings},
};

/// What is in force, and where it comes from.
#[derive(Debug)]
pub struct Reloader {
    process: Arc<Process>,
    site: Arc<Site>,
    journal: Arc<Journal>,
    side: Arc<Side>,
    sessions: Arc<Sessions>,
    dir: PathBuf,
    looks: Looks,
    /// Locked for as long as a new one is being taken: one after the other.
    config: Mutex<Config>,
}

/// Why a new configuration is not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is bad: every problem, one a line.
    #[error("{0}")]
    Bad(String),
    /// A file cannot be written.
    #[error("{0}")]
    Write(String),
    /// The files are not as the caller saw them.
    #[error("the configuration of {0} has changed meanwhile; compare again")]
    Changed(String),
}

/// What a reload changed.
#[derive(Debug)]
pub struct Reloaded {
    /// Parameters.
    pub changes: Vec<Change>,
    /// Whether files of certificates were replaced since they were read last.
    pub certificates: bool,
}

impl Reloader {
    /// For a broker that runs with `config` from `dir`.
    #[must_use]
    pub fn new(
        sessions: Arc<Sessions>,
        side: Arc<Side>,
        config: Config,
        dir: PathBuf,
    ) -> Arc<Self> {
        let (process, site) = (Arc::clone(&sessions.process), Arc::clone(&sessions.site));
        let journal = Arc::clone(&sessions.journal);
        let looks = Looks::new(&config, &process.tls, side.ha.own_names(), &process.troubles);
        let config = Mutex::new(config);
        Arc::new(Self { process, site, journal, side, sessions, dir, looks, config })
    }

    /// Looks at this host between reloads too, until the broker stops.
    pub fn look_on(&self) {
        self.looks.follow(&self.process.duties, &self.process.stop);
    }

    /// Where the files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads the files again and takes them, whole or not at all.
    ///
    /// # Errors
    /// If they are bad; what is in force stays so.
    pub async fn reload(&self, actor: &str) -> Result<Reloaded, Refused> {
        let mut config = self.config.lock().await;
        notify::reloading();
        // It reads the same files, and lets this broker read the keys that they name.
        self.process.helper.look_again().await;
        let certificates = self.looks.at_reload();
        let new = self.read().await.and_then(|new| {
            let settings = settings(&new)?;
            on_this_host(&new)?;
            Ok((settings, new))
        });
        let taken = match new {
            Ok((settings, new)) => {
                let changes = self.take(&mut config, settings, new, actor);
                Ok(Reloaded { changes, certificates })
            }
            Err(error) => {
                self.process.troubles.configuration_refused(&error);
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                self.journal.note(Note::new(actor, "configuration-refused").detail(first));
                Err(error)
            }
        };
        notify::ready(self.side.ha.word());
        taken
    }

    /// The parameters in the files that have to be the same on both nodes: as written, and what they mean.
    ///
    /// # Errors
    /// If the files are bad.
    pub async fn shared(&self) -> Result<BTreeMap<String, (String, String)>, Refused> {
        Ok(shared(&self.read().await?))
    }

    /// Writes parameters into the files and takes them, whole or not at all; what changed. `expected` = what
    /// [`Reloader::shared`] said when it was decided on.
    ///
    /// # Errors
    /// If something is bad, cannot be written, or is not as expected. Neither files nor what is in force change then.
    pub async fn adopt(
        &self,
        set: BTreeMap<String, String>,
        drop: Vec<String>,
        expected: &BTreeMap<String, (String, String)>,
        actor: &str,
    ) -> Result<Vec<Change>, Refused> {
        let mut config = self.config.lock().await;
        if self.shared().await? != *expected {
            return Err(Refused::Changed(self.process.node.to_string()));
        }
        let dir = self.dir.clone();
        let (new, gone) = (set.clone(), drop.clone());
        let look = move || vsm_config::proposed(&dir, &new, &gone);
        match tokio::task::spawn_blocking(look).await {
            // What this broker makes of them, before they are written.
            Ok(Ok(proposed)) => std::mem::drop(settings(&proposed)?),
            Ok(Err(error @ vsm_config::ToolError::Write(_))) => {
                return Err(Refused::Write(error.to_string()));
            }
            Ok(Err(error)) => return Err(Refused::Bad(error.to_string())),
            Err(error) => return Err(Refused::Write(error.to_string())),
        }
        // The files are root's.
        match self.process.helper.ask(Act::Adopt { set, drop }, Duration::ZERO).await {
            Ok(Answer::Done) => {}
            Ok(Answer::Failed(why) | Answer::Refused(why)) => return Err(Refused::Bad(why)),
            Ok(Answer::Unwritten(why)) => return Err(Refused::Write(why)),
            Ok(Answer::Ran { .. }) => {
                let why = "the root helper (vsm-root) answers something else";
                return Err(Refused::Write(why.to_owned()));
            }
            Err(lost) => {
                helper::told(&self.process, &lost);
                return Err(Refused::Write(lost.to_string()));
            }
        }
        let new = self.read().await?;
        let settings = settings(&new)?;
        Ok(self.take(&mut config, settings, new, actor))
    }

    pub(crate) async fn read(&self) -> Result<Config, Refused> {
        let dir = self.dir.clone();
        let read = tokio::task::spawn_blocking(move || Config::load(&dir)).await;
        let read = read.map_err(|error| Refused::Bad(error.to_string()))?;
        read.map_err(|error| Refused::Bad(error.to_string()))
    }

    /// Puts a configuration that was checked in force.
    fn take(&self, old: &mut Config, settings: Settings, new: Config, actor: &str) -> Vec<Change> {
        let changes = old.diff(&new);
        for change in &changes {
            let needs = if change.restart { "takes effect after a restart" } else { "in effect" };
            let (path, old, new) = (&change.path, &change.old, &change.new);
            tracing::info!(path, old, new, needs, "parameter changed");
        }
        log::reload(&LogSettings::vsmserver(&new, crate::LOG_PARTS));
        log::unread(&new);
        self.site.set_settings(settings);
        self.process.troubles.over(Kind::Configuration, "");
        self.looks.taken(&new);
        let mail = [keys::vsmserver::ADMIN_EMAIL.path(), keys::vsmserver::MAIL_PROGRAM.path()];
        if changes.iter().any(|change| mail.contains(&change.path.as_str())) {
            // The next mail tells.
            self.process.troubles.over(Kind::Mail, "");
        }
        let told_otherwise = self.side.set_card(card::card(&new));
        if let Ha::On(pair) = &self.side.ha
            && told_otherwise
        {
            // Both nodes are to see what differs now. Where nothing does, they go on as they are: for the moment
            // without a stream the witnesses would have to vote.
            pair.stream.reopen();
        }
        self.sessions.follow_agents();
        *old = new;
        if !changes.is_empty() {
            let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
            let detail = format!("on {}: {}", self.process.node, paths.join(" "));
            self.journal.note(Note::new(actor, "configuration-changed").detail(detail));
        }
        changes
    }
}

/// What the broker makes of a good configuration. One with which the next start would have HA off is refused too.
fn settings(config: &Config) -> Result<Settings, Refused> {
    config.check().map_err(|error| Refused::Bad(error.to_string()))?;
    Settings::new(config).map_err(|error| Refused::Bad(error.to_string()))
}

/// What only this host knows of a configuration, and `vsmserver --check` looks at too: a broker that could not start
/// again is to be known of while one runs. Small files: read on the spot.
fn on_this_host(config: &Config) -> Result<(), Refused> {
    Tls::load(config).map(drop).map_err(|error| Refused::Bad(error.to_string()))
}

fn shared(config: &Config) -> BTreeMap<String, (String, String)> {
    let mut written = config.effective_as_written();
    let meaning = card::shared(config).into_iter();
    meaning
        .filter_map(|(path, meaning)| Some((path.clone(), (written.remove(&path)?, meaning))))
        .collect()
}
