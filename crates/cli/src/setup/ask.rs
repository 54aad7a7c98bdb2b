//! Asking a person: one question after the other, each with the answer that holds already.

use std::io::{self, BufRead, Write};

use vsm_config::{Config, keys};

use crate::{
    exit::{Failure, USAGE},
    setup::answers::{self, Answers, HostRole, QUESTIONS},
};

/// Asks on standard error and reads standard input; a bad answer is asked for again.
pub(super) fn ask(config: &Config) -> Result<Answers, Failure> {
    let mut given = String::new();
    let mut role = None;
    for question in QUESTIONS {
        if role.is_some_and(|role| !(question.of)(role)) {
            continue;
        }
        let answer = one(&question, &so_far(config, question.key, role))?;
        if question.key == "role" {
            role = answers::role(&answer).ok();
        }
        given += &format!("{} = {answer}\n", question.key);
    }
    answers::parse(&given).map_err(|problems| {
        let lines: Vec<_> = problems.into_iter().map(|(_, text)| text).collect();
        Failure::new(USAGE, lines.join("\n"))
    })
}

/// What the configuration of this host answers.
fn so_far(config: &Config, key: &str, role: Option<HostRole>) -> String {
    let own = || hostname::get().unwrap_or_default().to_string_lossy().into_owned();
    let own_if_empty = |text: String| if text.is_empty() { own() } else { text };
    match key {
        "public_name" => own_if_empty(config.get(&keys::vsmagent::AGENT_HOSTNAME)),
        "master" => match config.get(&keys::vsmagent::MASTER_HOSTNAME) {
            default if default == "localhost" && role == Some(HostRole::Agent) => String::new(),
            master => master,
        },
        "brokers" => {
            let nodes = config.get(&keys::ha::NODES);
            let allowed = config.get(&keys::vsmagent::ALLOWED_CLIENTS);
            match (nodes.is_empty(), allowed.is_empty()) {
                (false, _) => nodes.join(" "),
                (true, false) => allowed.join(" "),
                (true, true) if role.is_some_and(HostRole::is_server) => own(),
                (true, true) => String::new(),
            }
        }
        "agents" => config.value("/vsmserver/subclusters/Default/agents").unwrap_or_default(),
        "firewall" => "leave".to_owned(),
        _ => String::new(),
    }
}

fn one(question: &answers::Question, default: &str) -> Result<String, Failure> {
    let lost = |error: &dyn std::fmt::Display| {
        Failure::new(USAGE, format!("{}: no answer: {error}", question.key))
    };
    loop {
        let hint = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        write!(io::stderr(), "{}{hint} ", question.text).map_err(|error| lost(&error))?;
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line).map_err(|error| lost(&error))? == 0 {
            return Err(lost(
                &"standard input has ended; a file of answers is given with --answers",
            ));
        }
        let answer = match line.trim() {
            "" => default,
            answer => answer,
        };
        match answers::judge(question.key, answer) {
            Ok(()) => return Ok(answer.to_owned()),
            Err(why) => {
                writeln!(io::stderr(), "{}: {why}", question.key).map_err(|error| lost(&error))?;
            }
        }
    }
}
