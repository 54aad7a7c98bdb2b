//! The questions of `vsm-setup`: which there are, who is asked which, what may be answered, and the file of answers.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use crate::exit::{Failure, NOT_FOUND, USAGE};

/// Largest file of answers that is read, in bytes: some thousand host names.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// A pair is the most brokers that there can be.
const BROKERS_MAX: usize = 2;

/// What a host is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostRole {
    /// A broker.
    Server,
    /// A session host.
    Agent,
    /// Both on one host.
    Both,
}

impl HostRole {
    /// Whether it is a broker.
    #[must_use]
    pub const fn is_server(self) -> bool {
        matches!(self, Self::Server | Self::Both)
    }

    /// Whether it is a session host.
    #[must_use]
    pub const fn is_agent(self) -> bool {
        matches!(self, Self::Agent | Self::Both)
    }
}

/// What becomes of a firewall on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firewall {
    /// Nothing is said or done.
    Leave,
    /// The commands that would open the ports are printed.
    Show,
    /// The ports are opened.
    Open,
}

/// All answers, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// `role`.
    pub role: HostRole,
    /// `public_name`.
    pub public_name: String,
    /// `master`; empty where this host is no agent.
    pub master: String,
    /// `brokers`, one or two.
    pub brokers: Vec<String>,
    /// `agents`; empty where this host is no broker, or where nothing is to be changed.
    pub agents: Vec<String>,
    /// `firewall`.
    pub firewall: Firewall,
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// What it is called in a file.
    pub key: &'static str,
    /// How a person is asked.
    pub text: &'static str,
    /// Which hosts it is asked of.
    pub of: fn(HostRole) -> bool,
    /// The answer where there is none; none = there must be one.
    pub default: Option<&'static str>,
}

/// Every question, in the order in which they are asked.
pub const QUESTIONS: [Question; 6] = [
    Question {
        key: "role",
        text: "Is this host to be a broker (server), a session host (agent), or both?",
        of: |_| true,
        default: None,
    },
    Question {
        key: "public_name",
        text: "Under which name or address do users reach this host?",
        of: |_| true,
        default: None,
    },
    Question {
        key: "master",
        text: "Under which name do agents reach the broker? With a pair: the name of the resource address.",
        of: HostRole::is_agent,
        default: None,
    },
    Question {
        key: "brokers",
        text: "The names of the brokers: one, or both of a pair.",
        of: |_| true,
        default: None,
    },
    Question {
        key: "agents",
        text: "The names of the session hosts (empty: leave what is configured).",
        of: HostRole::is_server,
        default: Some(""),
    },
    Question {
        key: "firewall",
        text: "This host's firewall: leave it, show the rules for VSM, or open the port here and now?",
        of: |_| true,
        default: Some("leave"),
    },
];

/// Reads a file of answers.
///
/// # Errors
/// If it cannot be read, or with every bad line, each with its number and the question.
pub fn read(file: &Path) -> Result<Answers, Failure> {
    let cannot = |why: &dyn fmt::Display| {
        Failure::new(NOT_FOUND, format!("cannot read {}: {why}", file.display()))
    };
    let metadata = fs::metadata(file).map_err(|error| cannot(&error))?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(cannot(&format!("not a regular file of at most {FILE_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(file).map_err(|error| cannot(&error))?;
    parse(&text).map_err(|problems| {
        let name = file.display().to_string();
        let lines: Vec<_> = problems
            .iter()
            .map(|(line, text)| match line {
                0 => format!("{name}: {text}"),
                line => format!("{name}:{line}: {text}"),
            })
            .collect();
        Failure::new(USAGE, lines.join("\n"))
    })
}

/// What is wrong with answers: the line, from 1, and what; 0 = something is missing.
pub type Problems = Vec<(usize, String)>;

/// Reads the text of a file of answers.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str) -> Result<Answers, Problems> {
    let mut problems = Problems::new();
    let mut given: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let Some((key, answer)) = line.split_once('=') else {
            problems.push((number, format!("{line:?} is not of the form `question = answer`")));
            continue;
        };
        let (key, answer) = (key.trim(), answer.trim());
        if !QUESTIONS.iter().any(|question| question.key == key) {
            let keys: Vec<_> = QUESTIONS.iter().map(|question| question.key).collect();
            problems.push((
                number,
                format!("there is no question {key:?}; there are {}", keys.join(", ")),
            ));
        } else if let Some((earlier, _)) = given.insert(key, (number, answer)) {
            problems.push((number, format!("{key}: answered in line {earlier} already")));
        }
    }
    match of(|key| given.get(key).copied()) {
        Ok(answers) if problems.is_empty() => Ok(answers),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            problems.sort();
            Err(problems)
        }
    }
}

/// Checks answers one by one and together; `given` has the line and the text of each.
fn of<'a>(given: impl Fn(&str) -> Option<(usize, &'a str)>) -> Result<Answers, Problems> {
    let mut problems = Problems::new();
    let role = match given("role").map(|(line, text)| (line, role(text))) {
        Some((_, Ok(role))) => role,
        Some((line, Err(why))) => return Err(vec![(line, format!("role: {why}"))]),
        None => return Err(vec![(0, "no answer to role: server, agent or both".to_owned())]),
    };
    let mut hosts = |key: &str, least: usize, most: usize| {
        let asked = QUESTIONS.iter().find(|question| question.key == key && (question.of)(role));
        let Some(question) = asked else { return Vec::new() };
        let (line, text) = given(key).unwrap_or_else(|| (0, question.default.unwrap_or_default()));
        names(text, least, most).unwrap_or_else(|why| {
            let text = if line == 0 {
                format!("no answer to {key}: {}", question.text)
            } else {
                format!("{key}: {why}")
            };
            problems.push((line, text));
            Vec::new()
        })
    };
    let one = |names: Vec<String>| names.into_iter().next().unwrap_or_default();
    let public_name = one(hosts("public_name", 1, 1));
    let master = one(hosts("master", 1, 1));
    let brokers = hosts("brokers", 1, BROKERS_MAX);
    let agents = hosts("agents", 0, usize::MAX);
    let line = |key| given(key).map_or(0, |(line, _)| line);
    // On the other hosts a loopback name is a different host, or none.
    for (key, names) in [
        ("public_name", std::slice::from_ref(&public_name)),
        ("brokers", &brokers),
        ("agents", &agents),
    ] {
        for name in names.iter().filter(|name| is_loopback(name)) {
            problems.push((
                line(key),
                format!("{key}: {name} means another host on each host; give its own name"),
            ));
        }
    }
    if role == HostRole::Agent && is_loopback(&master) {
        problems.push((
            line("master"),
            format!("master: {master} is this host, and it is to be no broker"),
        ));
    }
    let firewall = given("firewall").map_or(Ok(Firewall::Leave), |(line, text)| {
        firewall(text).map_err(|why| problems.push((line, format!("firewall: {why}"))))
    });
    match firewall {
        Ok(firewall) if problems.is_empty() => {
            Ok(Answers { role, public_name, master, brokers, agents, firewall })
        }
        _ => Err(problems),
    }
}

/// Whether one answer is good by itself, for one who is asked.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn judge(key: &str, text: &str) -> Result<(), String> {
    match key {
        "role" => role(text).map(drop),
        "firewall" => firewall(text).map(drop),
        "brokers" => names(text, 1, BROKERS_MAX).map(drop),
        "agents" => names(text, 0, usize::MAX).map(drop),
        _ => names(text, 1, 1).map(drop),
    }
}

pub(crate) fn role(text: &str) -> Result<HostRole, String> {
    match text {
        "server" => Ok(HostRole::Server),
        "agent" => Ok(HostRole::Agent),
        "both" => Ok(HostRole::Both),
        _ => Err(format!("{text:?} is not allowed; allowed: server, agent, both")),
    }
}

fn firewall(text: &str) -> Result<Firewall, String> {
    match text {
        "leave" => Ok(Firewall::Leave),
        "show" => Ok(Firewall::Show),
        "open" => Ok(Firewall::Open),
        _ => Err(format!("{text:?} is not allowed; allowed: leave, show, open")),
    }
}

/// Names or addresses with blanks between them.
fn names(text: &str, least: usize, most: usize) -> Result<Vec<String>, String> {
    let names: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if names.len() < least || names.len() > most {
        let allowed = match (least, most) {
            (1, 1) => "one name or address".to_owned(),
            (least, most) => format!("{least} to {most} names or addresses"),
        };
        return Err(format!("{text:?} is not allowed; allowed: {allowed}"));
    }
    let good = |name: &String| {
        name.len() <= 253
            && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b))
    };
    match names.iter().find(|name| !good(name)) {
        Some(bad) => Err(format!("{bad:?} is no host name or address")),
        None => Ok(names),
    }
}

fn is_loopback(name: &str) -> bool {
    name == "localhost"
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Answers {
    /// As a file of answers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            HostRole::Server => "server",
            HostRole::Agent => "agent",
            HostRole::Both => "both",
        };
        let firewall = match self.firewall {
            Firewall::Leave => "leave",
            Firewall::Show => "show",
            Firewall::Open => "open",
        };
        writeln!(f, "# Answers for vsm-setup --answers")?;
        for question in QUESTIONS.iter().filter(|question| (question.of)(self.role)) {
            let answer = match question.key {
                "role" => role,
                "public_name" => &self.public_name,
                "master" => &self.master,
                "brokers" => &self.brokers.join(" "),
                "agents" => &self.agents.join(" "),
                _ => firewall,
            };
            writeln!(f, "\n# {}\n{} = {answer}", question.text, question.key)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "role = agent\npublic_name = agent1\nmaster = tlha\nbrokers = a b # both\nfirewall = open\n";

    fn problem(text: &str) -> String {
        let problems = parse(text).unwrap_err();
        problems.iter().map(|(line, text)| format!("{line}: {text}")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn answers_are_read_as_they_are_written() {
        for text in [
            AGENT,
            "role = server\npublic_name = s\nbrokers = s\nagents = agent1 agent2\n",
            "role = both\npublic_name = 10.0.0.1\nmaster = localhost\nbrokers = s\nagents =\n",
        ] {
            let answers = parse(text).unwrap();
            assert_eq!(parse(&answers.to_string()), Ok(answers));
        }
        assert_eq!(parse(AGENT).unwrap().brokers, ["a", "b"]);
    }

    #[test]
    fn what_is_wrong_names_line_and_question() {
        assert_eq!(problem(""), "0: no answer to role: server, agent or both");
        assert_eq!(
            problem("role = srever\n"),
            "1: role: \"srever\" is not allowed; allowed: server, agent, both"
        );
        assert!(
            problem(&AGENT.replace("master = tlha", "")).starts_with("0: no answer to master: ")
        );
        assert!(
            problem(&AGENT.replace("= tlha", "= a b"))
                .starts_with("3: master: \"a b\" is not allowed")
        );
        assert!(problem(&AGENT.replace("a b", "a b c")).starts_with("4: brokers: "));
        assert!(
            problem(&AGENT.replace("a b", "a/b")).ends_with("\"a/b\" is no host name or address")
        );
        assert!(problem(&AGENT.replace("open", "yes")).starts_with("5: firewall: "));
        assert!(
            problem(&format!("{AGENT}rolle = agent\n"))
                .starts_with("6: there is no question \"rolle\"")
        );
        assert_eq!(
            problem(&format!("{AGENT}master = x\n")),
            "6: master: answered in line 3 already"
        );
        assert!(
            problem(&format!("{AGENT}nonsense\n"))
                .starts_with("6: \"nonsense\" is not of the form")
        );
    }

    #[test]
    fn a_loopback_name_is_nobody_elses() {
        assert!(
            problem(&AGENT.replace("tlha", "127.0.0.1"))
                .starts_with("3: master: 127.0.0.1 is this host")
        );
        assert!(
            problem(&AGENT.replace("= agent1", "= localhost"))
                .starts_with("2: public_name: localhost means")
        );
    }
}
