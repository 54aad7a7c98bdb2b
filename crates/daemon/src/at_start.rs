//! Parameters that a daemon takes at its start and keeps until the next: where the files say something else by now,
//! that is told.

use std::sync::Arc;

use vsm_config::Config;

use crate::trouble::{Kind, Troubles};

/// What a trouble with parameters is about.
const PARAMETERS: &str = "parameters";

/// Which daemon it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// `vsmserver`.
    Broker,
    /// `vsmagent`.
    Agent,
}

impl Daemon {
    /// Whether it uses a parameter that is read at a start alone.
    fn reads(self, path: &str) -> bool {
        let own: &[&str] = match self {
            Self::Broker => &["/vsmserver/", "/vsm/vsm_agent_port"],
            Self::Agent => &["/vsmagent/"],
        };
        own.iter().any(|start| path.starts_with(start))
    }
}

/// What it took at its start.
#[derive(Debug)]
pub struct AtStart {
    daemon: Daemon,
    config: Config,
    troubles: Troubles,
}

impl AtStart {
    /// For a daemon that starts with `config`.
    #[must_use]
    pub fn new(daemon: Daemon, config: &Config, troubles: Troubles) -> Arc<Self> {
        Arc::new(Self { daemon, config: config.clone(), troubles })
    }

    /// Tells which parameters of a configuration that was taken now wait for a restart.
    pub fn compare(&self, now: &Config) {
        let changes = self.config.diff(now).into_iter();
        let waiting = changes.filter(|change| change.restart && self.daemon.reads(&change.path));
        let waiting: Vec<String> = waiting.map(|change| change.path).collect();
        let what = || format!("changed, and in effect after a restart only: {}", waiting.join(" "));
        self.troubles.set(Kind::Restart, PARAMETERS, (!waiting.is_empty()).then(what));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_waits_for_a_restart_is_told_until_it_is_as_it_runs() {
        let dir = tempfile::tempdir().unwrap();
        let config = |lines: &str| {
            fs::write(dir.path().join("a.yaml"), lines).unwrap();
            Config::load(dir.path()).unwrap()
        };
        let troubles = Troubles::default();
        let daemon = AtStart::new(Daemon::Agent, &config(""), troubles.clone());
        // Another daemon's, and what a reload is enough for.
        let other =
            "vsmserver: {listen_port: 9001}\nvsmagent: {max_sessions: 7}\ntls: {ca_file: /x}";
        daemon.compare(&config(other));
        assert_eq!(troubles.now(), []);
        daemon.compare(&config("vsmagent: {listen_port: 905, run_dir: /run/x}"));
        let said = troubles.of(Kind::Restart, PARAMETERS).unwrap().what;
        assert!(said.ends_with("only: /vsmagent/listen_port /vsmagent/run_dir"), "{said}");
        daemon.compare(&config("vsmagent: {listen_port: 904}"));
        assert_eq!(troubles.now(), []);
    }
}
