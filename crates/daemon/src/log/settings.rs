//! What the configuration says of a daemon's log.

use std::{collections::BTreeMap, path::PathBuf};

use vsm_config::{Config, Key, LogLevel, keys};

use super::syslog::Target;

/// Parts of a daemon whose level can be set apart: the name of each, and how the names of its modules begin.
pub type Parts = [(&'static str, &'static [&'static str])];

/// What is logged, and where to besides standard error.
#[derive(Debug, Clone)]
pub struct LogSettings {
    default: String,
    parts: Vec<(&'static str, String)>,
    pub(super) file: Option<PathBuf>,
    pub(super) syslog: Option<Target>,
}

/// Where the parameters of a daemon are.
struct Folder {
    path: &'static str,
    to_file: &'static Key<bool>,
    file: &'static Key<PathBuf>,
    to_syslog: &'static Key<bool>,
    facility: &'static Key<String>,
    socket: &'static Key<PathBuf>,
    level: &'static Key<LogLevel>,
    levels: &'static Key<LogLevel>,
}

impl LogSettings {
    /// Those of `vsmserver`, with these parts: `/vsmserver/logging`.
    #[must_use]
    pub fn vsmserver(config: &Config, parts: &Parts) -> Self {
        use keys::vsmserver_logging as k;
        let folder = Folder {
            path: "/vsmserver/logging/levels",
            to_file: &k::LOG_TO_FILE,
            file: &k::LOGFILE,
            to_syslog: &k::LOG_TO_SYSLOG,
            facility: &k::SYSLOG_FACILITY,
            socket: &k::SYSLOG_SOCKET,
            level: &k::DEFAULTLEVEL,
            levels: &k::LEVELS,
        };
        folder.read(config, "vsmserver", parts)
    }

    /// Those of `vsmagent`, with these parts: `/vsmagent/logging`.
    #[must_use]
    pub fn vsmagent(config: &Config, parts: &Parts) -> Self {
        use keys::vsmagent_logging as k;
        let folder = Folder {
            path: "/vsmagent/logging/levels",
            to_file: &k::LOG_TO_FILE,
            file: &k::LOGFILE,
            to_syslog: &k::LOG_TO_SYSLOG,
            facility: &k::SYSLOG_FACILITY,
            socket: &k::SYSLOG_SOCKET,
            level: &k::DEFAULTLEVEL,
            levels: &k::LEVELS,
        };
        folder.read(config, "vsmagent", parts)
    }

    /// The same for `vsm-agent-net`, in a file beside that one.
    #[must_use]
    pub fn of_net(mut self) -> Self {
        if let Some(file) = &mut self.file {
            let mut name = file.file_stem().unwrap_or_default().to_owned();
            name.push("-net");
            if let Some(end) = file.extension() {
                name.push(".");
                name.push(end);
            }
            file.set_file_name(name);
        }
        if let Some(target) = &mut self.syslog {
            target.program = "vsm-agent-net";
        }
        self
    }

    /// Those of a program that writes to standard error alone.
    #[must_use]
    pub fn plain() -> Self {
        Self { default: "info".to_owned(), parts: Vec::new(), file: None, syslog: None }
    }

    /// The file, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&std::path::Path> {
        self.file.as_deref()
    }

    /// The levels as a filter.
    pub(super) fn filter(&self) -> String {
        let parts = self.parts.iter().map(|(module, level)| format!(",{module}={level}"));
        self.default.clone() + &parts.collect::<String>()
    }
}

impl Folder {
    fn read(&self, config: &Config, program: &'static str, known: &Parts) -> LogSettings {
        let set: BTreeMap<String, String> = config.folder(self.path);
        let modules = known.iter().filter(|(part, _)| set.contains_key(*part));
        let parts = modules.flat_map(|(part, modules)| {
            let level = config.get_in(self.levels, part).to_string();
            modules.iter().map(move |module| (*module, level.clone()))
        });
        let syslog = config.get(self.to_syslog).then(|| Target {
            program,
            facility: config.get(self.facility),
            socket: config.get(self.socket),
        });
        LogSettings {
            default: config.get(self.level).to_string(),
            parts: parts.collect(),
            file: config.get(self.to_file).then(|| config.get(self.file)),
            syslog,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PARTS: &Parts = &[("ha", &["one", "two::three"]), ("session", &["two::four"])];

    #[test]
    fn parts_have_levels_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let text = "vsmserver:\n  logging:\n    defaultlevel: warn\n    log_to_file: true\n    levels: {ha: debug, other: info}\n";
        fs::write(dir.path().join("a.yaml"), text).unwrap();
        let settings = LogSettings::vsmserver(&Config::load(dir.path()).unwrap(), PARTS);
        assert_eq!(settings.filter(), "warn,one=debug,two::three=debug");
        assert_eq!(settings.file, Some("/var/log/vsmserver.log".into()));
        assert!(settings.syslog.is_none());
        assert_eq!(settings.of_net().file, Some("/var/log/vsmserver-net.log".into()));
        let default = LogSettings::vsmagent(&Config::defaults(), PARTS);
        assert_eq!((default.filter().as_str(), default.file), ("info", None));
    }
}
