//! `vsm-setup`: from a few answers to a host that is configured, or to a list of what is in the way.
//!
//! The order is what makes it all or nothing: answers, then every check, then the firewall, whose commands can be
//! undone, and last the configuration, which `vsm-config` changes as a whole or not at all.
//!
//! | module | owns |
//! | --- | --- |
//! | [`answers`] | the questions, what is allowed, the file of answers |
//! | `ask` | asking a person |
//! | `enrol` | this host's first certificate |
//! | [`check`] | what is missing on this host or in the way |
//! | `port` | which program has a port |
//! | [`firewall`], [`rule`] | which firewall runs here, and its rules |

pub mod answers;
mod ask;
pub mod check;
mod enrol;
pub mod firewall;
pub mod nft;
mod port;
pub mod rule;

use std::path::Path;

use vsm_config::{Config, tool};
use vsm_daemon::files::{self, Access};

use crate::{
    args::vsm_setup::{Arguments, SetupCommand},
    exit::{CANNOT_WRITE, CONFIG, Failure, NOT_ALLOWED, UNAVAILABLE},
    output,
    setup::{
        answers::{Answers, Firewall},
        rule::Rule,
    },
};

/// Sets this host up.
///
/// # Errors
/// A bad answer, something that is missing, a file that cannot be written; nothing was changed then.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(SetupCommand::Enrol(arguments)) = &arguments.command {
        return enrol::enrol(arguments);
    }
    let config = load(&arguments.config)?;
    let answers = match &arguments.answers {
        Some(file) => answers::read(file)?,
        None => ask::ask(&config)?,
    };
    let changes = changes(&config, &answers);
    let findings = check::host(&config, &answers);
    for line in findings.notes.iter().map(|note| format!("Note: {note}\n")) {
        output::write(&line)?;
    }
    if !findings.problems.is_empty() {
        let count = findings.problems.len();
        let lines = findings.problems.join("\n  ");
        let text = format!("{count} thing(s) in the way, so nothing was changed:\n  {lines}");
        return Err(Failure::new(UNAVAILABLE, text));
    }
    let rules = rules(&config, &answers)?;
    for change in &changes {
        output::write(&format!("{change}\n"))?;
    }
    if matches!(answers.firewall, Firewall::Show | Firewall::Open) {
        output::write(&firewall::shown(&firewall::running()?, &rules))?;
    }
    if !arguments.dry_run {
        if !nix::unistd::geteuid().is_root() {
            return Err(Failure::new(
                NOT_ALLOWED,
                "only root can set a host up; --dry-run needs no root",
            ));
        }
        apply(&arguments.config, &answers, &changes, &rules)?;
    }
    if let Some(file) = &arguments.write_answers {
        write_answers(file, &answers)?;
    }
    let nothing = if arguments.dry_run { "Nothing was changed (--dry-run). " } else { "" };
    output::write(&format!("{nothing}{}", check::next_steps(&config, &answers)))
}

/// A host that has no configuration yet is a host with every default.
fn load(dir: &Path) -> Result<Config, Failure> {
    if !dir.exists() {
        return Ok(Config::defaults());
    }
    Config::load(dir).map_err(|error| {
        Failure::new(CONFIG, format!("the configuration has errors; mend them first:\n{error}"))
    })
}

/// A parameter that the answers set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path.
    pub path: &'static str,
    /// What it is to be.
    pub value: String,
    /// What it is.
    pub before: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, value, before } = self;
        match before.as_str() {
            before if before == value => write!(f, "same  {path} = {value}"),
            "" => write!(f, "set   {path} = {value}"),
            before => write!(f, "set   {path} = {value} (was {before})"),
        }
    }
}

/// What the answers mean for the configuration.
#[must_use]
pub fn changes(config: &Config, answers: &Answers) -> Vec<Change> {
    let mut wanted = Vec::new();
    if answers.role.is_server() && !answers.agents.is_empty() {
        wanted.push(("/vsmserver/subclusters/Default/agents", answers.agents.join(" ")));
    }
    if answers.role.is_agent() {
        wanted.push(("/vsmagent/agent_hostname", answers.public_name.clone()));
        wanted.push(("/vsmagent/master_hostname", answers.master.clone()));
        wanted.push(("/vsmagent/allowed_clients", answers.brokers.join(" ")));
    }
    let before = |path: &str| config.value(path).unwrap_or_default();
    wanted.into_iter().map(|(path, value)| Change { path, value, before: before(path) }).collect()
}

fn rules(config: &Config, answers: &Answers) -> Result<Vec<Rule>, Failure> {
    match answers.firewall {
        Firewall::Leave => Ok(Vec::new()),
        Firewall::Show | Firewall::Open => firewall::rules(config, answers),
    }
}

fn apply(dir: &Path, answers: &Answers, changes: &[Change], rules: &[Rule]) -> Result<(), Failure> {
    let opened = match answers.firewall {
        Firewall::Open => firewall::open(&firewall::running()?, rules)?,
        Firewall::Leave | Firewall::Show => firewall::Opened::default(),
    };
    let assignments: Vec<String> = changes
        .iter()
        .filter(|change| change.before != change.value)
        .map(|Change { path, value, .. }| format!("{path}={value}"))
        .collect();
    if assignments.is_empty() {
        return Ok(());
    }
    tool::parameters(dir, &assignments).map(drop).map_err(|error| {
        opened.undo();
        let code = if error.code() == 3 { CANNOT_WRITE } else { CONFIG };
        Failure::new(code, format!("nothing was changed: {error}"))
    })
}

/// Written whole or not at all, for root alone: names of hosts are nobody else's business.
fn write_answers(file: &Path, answers: &Answers) -> Result<(), Failure> {
    files::replace(file, answers.to_string().as_bytes(), Access::OWN)
        .map_err(|error| Failure::new(CANNOT_WRITE, error.to_string()))
}
