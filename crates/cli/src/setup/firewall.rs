//! This host's firewall: which one runs, the rules that VSM needs, and opening them so that it can be undone.
//!
//! A broker's port is for agents and the other broker, an agent's for brokers; users need sshd's alone.

use std::{net::ToSocketAddrs, process::Command};

use vsm_config::{Config, keys};

use crate::{
    exit::{CANNOT_WRITE, Failure, UNAVAILABLE},
    setup::{
        answers::Answers,
        check,
        nft::{self, Chain},
        rule::{COMMENT, Rule},
    },
};

/// ufw makes no rule twice, and says so.
const UFW_HAS_IT: &str = "Skipping adding existing rule";

/// What filters packets here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tool {
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
    /// Rules of nft without one of the two above it.
    Nft {
        /// The chain that sees what comes in.
        chain: Chain,
    },
    /// Nothing.
    None,
}

/// The firewall that runs here.
///
/// # Errors
/// If nft has rules and cannot list them in JSON.
pub fn running() -> Result<Tool, Failure> {
    if answer("firewall-cmd", &["--state"]).is_some() {
        return Ok(Tool::Firewalld);
    }
    if answer("ufw", &["status"]).is_some_and(|text| text.contains("Status: active")) {
        return Ok(Tool::Ufw);
    }
    let chains = nft_list("list chains");
    if chains.is_null() && answer("nft", &["list", "chains"]).is_some_and(|text| !text.is_empty()) {
        let text = "firewall: this host's nft lists no rules in JSON; answer firewall = leave, and let the ports through yourself";
        return Err(Failure::new(UNAVAILABLE, text));
    }
    // Its table is no place for others' rules, also where it does not answer.
    if nft::has_table(&chains, "inet", "firewalld") {
        return Ok(Tool::Firewalld);
    }
    Ok(nft::input_chain(&chains).map_or(Tool::None, |chain| Tool::Nft { chain }))
}

/// What nft lists; nothing where it is not there.
fn nft_list(what: &str) -> serde_json::Value {
    let listing = answer("nft", &["--json", what]);
    listing.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// The rules that this host needs.
///
/// # Errors
/// If a name cannot be looked up: a rule is about addresses.
pub fn rules(config: &Config, answers: &Answers) -> Result<Vec<Rule>, Failure> {
    let mut rules = Vec::new();
    // What comes from this host itself does not come by the network.
    let others = |names: &[String]| {
        names.iter().filter(|name| **name != answers.public_name).cloned().collect::<Vec<_>>()
    };
    let brokers = others(&answers.brokers);
    if answers.role.is_server() {
        let port = config.get(&keys::vsmserver::LISTEN_PORT);
        if answers.agents.is_empty() {
            // Session hosts that are not known yet must be able to come all the same.
            rules.push(Rule { port, source: None });
        } else {
            rules.extend(from(port, &[others(&answers.agents), brokers.clone()].concat())?);
        }
    }
    if answers.role.is_agent() {
        rules.extend(from(config.get(&keys::vsmagent::LISTEN_PORT), &brokers)?);
    }
    Ok(rules)
}

fn from(port: u16, names: &[String]) -> Result<Vec<Rule>, Failure> {
    let mut sources = Vec::new();
    for name in names {
        let found = (name.as_str(), 0).to_socket_addrs().map_err(|error| {
            let text = format!("firewall: {name} cannot be looked up ({error}), and a rule needs its address; nothing was changed");
            Failure::new(UNAVAILABLE, text)
        })?;
        sources.extend(found.map(|address| address.ip()).filter(|address| !address.is_loopback()));
    }
    sources.sort();
    sources.dedup();
    Ok(sources.into_iter().map(|source| Rule { port, source: Some(source) }).collect())
}

/// A command that opens, and the one that takes it back.
struct Step {
    open: Vec<String>,
    undo: Vec<String>,
}

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|word| (*word).to_owned()).collect()
}

fn steps(tool: &Tool, rule: &Rule) -> Vec<Step> {
    let (port, source) = (rule.port.to_string(), rule.source.map(|source| source.to_string()));
    match tool {
        Tool::None => Vec::new(),
        Tool::Ufw => {
            let source = source.as_deref().unwrap_or("any");
            let rule = ["allow", "proto", "tcp", "from", source, "to", "any", "port", &port];
            let open = [&["ufw"], &rule[..], &["comment", COMMENT]].concat();
            vec![Step {
                open: words(&open),
                undo: words(&[&["ufw", "delete"], &rule[..]].concat()),
            }]
        }
        Tool::Firewalld => {
            let family =
                if rule.source.is_some_and(|source| source.is_ipv6()) { "ipv6" } else { "ipv4" };
            let from =
                source.map(|source| format!(" source address=\"{source}\"")).unwrap_or_default();
            let family =
                if from.is_empty() { String::new() } else { format!(" family=\"{family}\"") };
            let rich = format!("rule{family}{from} port port=\"{port}\" protocol=\"tcp\" accept");
            // Once for now and once for after the next start.
            [&[][..], &["--permanent"]]
                .into_iter()
                .map(|how| {
                    let of = |what: &str| {
                        words(&[&["firewall-cmd"], how, &[&format!("{what}={rich}")]].concat())
                    };
                    Step { open: of("--add-rich-rule"), undo: of("--remove-rich-rule") }
                })
                .collect()
        }
        Tool::Nft { chain } => {
            let family = nft::family(rule);
            let from = source.map(|source| format!("{family} saddr {source} ")).unwrap_or_default();
            let insert =
                format!("insert rule {chain} {from}tcp dport {port} accept comment \"{COMMENT}\"");
            // nft takes its whole command as one text; what takes a rule back needs a number, see `Opened::undo`.
            vec![Step { open: vec!["nft".to_owned(), insert], undo: Vec::new() }]
        }
    }
}

/// The commands, for a person who wants to look or to run them.
#[must_use]
pub fn shown(tool: &Tool, rules: &[Rule]) -> String {
    let steps = |tool: &Tool| -> Vec<String> {
        rules.iter().flat_map(|rule| steps(tool, rule)).map(|step| line(&step.open)).collect()
    };
    let indented =
        |lines: Vec<String>| lines.iter().map(|line| format!("  {line}\n")).collect::<String>();
    match tool {
        Tool::None => {
            let lines = rules.iter().map(|Rule { port, source }| {
                let from =
                    source.map_or_else(|| "everywhere".to_owned(), |source| source.to_string());
                format!("TCP port {port} from {from}")
            });
            format!(
                "No firewall runs on this host. One between the hosts has to let in:\n{}",
                indented(lines.collect())
            )
        }
        Tool::Nft { .. } => format!(
            "Firewall (nft; until its rules are loaded anew: to keep them, put them into /etc/nftables.conf):\n{}",
            indented(steps(tool))
        ),
        Tool::Ufw | Tool::Firewalld => format!("Firewall:\n{}", indented(steps(tool))),
    }
}

fn line(words: &[String]) -> String {
    let quoted = words
        .iter()
        .map(|word| if word.contains([' ', '"']) { format!("'{word}'") } else { word.clone() });
    quoted.collect::<Vec<_>>().join(" ")
}

/// What was opened, for the case that it has to be taken back.
#[derive(Debug, Default)]
pub struct Opened {
    undo: Vec<Vec<String>>,
}

impl Opened {
    /// Takes back what was opened, the last first. What fails is left: there is nothing better to be done.
    pub(super) fn undo(&self) {
        for words in self.undo.iter().rev() {
            drop(run(words));
        }
    }
}

/// Opens the ports. A rule that is there already is not made twice.
///
/// # Errors
/// If a command fails; what the ones before it opened is closed again.
pub fn open(tool: &Tool, rules: &[Rule]) -> Result<Opened, Failure> {
    let mut opened = Opened::default();
    for rule in rules {
        for step in steps(tool, rule) {
            if is_there(tool, rule, &step) {
                continue;
            }
            let done = run(&step.open);
            // What was there before is not ours to take back.
            if done.as_ref().is_ok_and(|said| said.contains(UFW_HAS_IT)) {
                continue;
            }
            if let Err(why) = done {
                opened.undo();
                return Err(Failure::new(
                    CANNOT_WRITE,
                    format!("firewall: {}: {why}; nothing was changed", line(&step.open)),
                ));
            }
            opened.undo.extend(undo(tool, rule, step));
        }
    }
    Ok(opened)
}

/// Whether a rule is there already, as far as the tool tells without making it.
fn is_there(tool: &Tool, rule: &Rule, step: &Step) -> bool {
    match tool {
        Tool::Nft { chain } => nft_handle(chain, rule).is_some(),
        Tool::Firewalld => {
            let ask =
                step.open.iter().map(|word| word.replace("--add-rich-rule", "--query-rich-rule"));
            run(&ask.collect::<Vec<_>>()).is_ok()
        }
        Tool::Ufw | Tool::None => false,
    }
}

fn undo(tool: &Tool, rule: &Rule, step: Step) -> Option<Vec<String>> {
    match tool {
        Tool::Nft { chain } => {
            let handle = nft_handle(chain, rule)?;
            Some(vec!["nft".to_owned(), format!("delete rule {chain} handle {handle}")])
        }
        Tool::Ufw | Tool::Firewalld | Tool::None => Some(step.undo),
    }
}

/// The number of a rule of ours in the chain, if it is there.
fn nft_handle(chain: &Chain, rule: &Rule) -> Option<u64> {
    nft::handle(&nft_list(&format!("list chain {chain}")), rule)
}

/// Runs a command and returns what it prints.
fn run(words: &[String]) -> Result<String, String> {
    let Some((program, arguments)) = words.split_first() else { return Ok(String::new()) };
    let program = check::program(program).ok_or_else(|| format!("{program} is not installed"))?;
    let output =
        Command::new(program).args(arguments).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.trim().lines().last().unwrap_or("it failed").to_owned())
}

/// What a command prints, if it can be run and succeeds.
fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(check::program(program)?).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_is_told_port_and_source() {
        let rule = Rule { port: 904, source: Some("10.0.0.2".parse().unwrap()) };
        let lines = |tool: &Tool| {
            steps(tool, &rule).iter().map(|step| line(&step.open)).collect::<Vec<_>>()
        };
        assert_eq!(
            lines(&Tool::Ufw),
            ["ufw allow proto tcp from 10.0.0.2 to any port 904 comment vsm-setup"]
        );
        let chains = serde_json::json!({ "nftables": [{ "chain": {
            "family": "inet", "table": "filter", "name": "input", "type": "filter", "hook": "input"
        } }] });
        let chain = nft::input_chain(&chains).unwrap();
        assert_eq!(
            lines(&Tool::Nft { chain }),
            [
                "nft 'insert rule inet filter input ip saddr 10.0.0.2 tcp dport 904 accept comment \"vsm-setup\"'"
            ]
        );
        assert_eq!(
            lines(&Tool::Firewalld)[1],
            "firewall-cmd --permanent '--add-rich-rule=rule family=\"ipv4\" source address=\"10.0.0.2\" port port=\"904\" protocol=\"tcp\" accept'"
        );
    }
}
