//! What the broker finds wrong with its host by looking now and then: what waits for a restart, certificates that end,
//! whether sshd lets users in, and how many files are open.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use vsm_config::Config;
use vsm_daemon::{
    at_start::{AtStart, Daemon},
    certificates::Certificates,
    descriptors,
    duty::Duties,
    sshd::Sshd,
    tls::Tls,
    trouble::Troubles,
};

/// What is looked at.
#[derive(Debug)]
pub(super) struct Looks {
    at_start: Arc<AtStart>,
    certificates: Arc<Certificates>,
    sshd: Arc<Sshd>,
    troubles: Troubles,
}

impl Looks {
    /// For a broker that starts with `config`, by which `tls` was loaded just now, and is reached by these names.
    pub(super) fn new(config: &Config, tls: &Tls, names: Vec<String>, troubles: &Troubles) -> Self {
        let at_start = AtStart::new(Daemon::Broker, config, troubles.clone());
        let certificates = Certificates::new(tls.clone(), config, names, troubles.clone());
        let sshd = Sshd::new(troubles.clone());
        Self { at_start, certificates, sshd, troubles: troubles.clone() }
    }

    /// Looks until `stop`.
    pub(super) fn follow(&self, duties: &Duties, stop: &CancellationToken) {
        duties.run("certificates", Arc::clone(&self.certificates).follow(stop.clone()));
        let look = descriptors::follow("vsmserver", self.troubles.clone(), stop.clone());
        duties.run("look at descriptors", look);
        duties.run("look at sshd", Arc::clone(&self.sshd).follow(stop.clone()));
    }

    /// Looks at once: whoever has mended something asks for a reload. Whether certificates were read again.
    pub(super) fn at_reload(&self) -> bool {
        self.sshd.look_again();
        self.certificates.look_again()
    }

    /// A configuration was taken: takes its certificates, and tells what of it waits for a restart.
    pub(super) fn taken(&self, config: &Config) {
        self.certificates.take(config);
        self.at_start.compare(config);
    }
}
