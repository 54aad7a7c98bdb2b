//! Which of several desktops: what the user says on the command line, and on a terminal when asked.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    signal::unix::{SignalKind, signal},
};
use vsm_proto::broker::v1::{LoginChoice, LoginResponse};

use crate::{
    desktops::SessionRow,
    exit::{Failure, SOFTWARE, TRY_LATER, USAGE},
    output,
};

/// Longest answer that is read; the longest that means something is a number.
const ANSWER_MAX: u64 = 64;
/// Answers that are not understood, after which no more is asked.
const TRIES_MAX: usize = 5;
/// Desktops that an error names.
const NAMED_MAX: usize = 8;

/// Which desktop.
#[derive(Debug, Default, Args)]
pub struct ChoiceOptions {
    /// How to choose among several desktops: `single-disconnected` takes the only disconnected one, or else asks; `ask`
    /// always asks
    #[arg(long, value_enum, value_name = "POLICY", default_value_t, hide_possible_values = true)]
    policy: Policy,
    /// Start another desktop, even if you have one
    #[arg(long, conflicts_with = "session")]
    new: bool,
    /// Connect to this desktop: its id, or the end of it as `vsm list` shows it
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    session: String,
}

/// Which of several, where none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Policy {
    /// The only one that is disconnected, else the only one; else ask.
    #[default]
    SingleDisconnected,
    /// Ask.
    Ask,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// The desktop with this id.
    This(String),
    /// As the broker decides by this.
    Any(LoginChoice),
}

impl ChoiceOptions {
    /// What was asked for. An id may be the end of one.
    #[must_use]
    pub fn wish(&self) -> Wish {
        match (self.session.as_str(), self.new, self.policy) {
            ("", true, _) => Wish::Any(LoginChoice::New),
            ("", false, Policy::SingleDisconnected) => Wish::Any(LoginChoice::SingleDisconnected),
            ("", false, Policy::Ask) => Wish::Any(LoginChoice::Ask),
            (id, ..) => Wish::This(id.to_owned()),
        }
    }
}

/// Has the user choose.
///
/// # Errors
/// Without a terminal, or if the user does not choose.
pub async fn ask(answer: LoginResponse) -> Result<Wish, Failure> {
    let may_create = answer.may_create;
    let rows: Vec<SessionRow> = answer.candidates.into_iter().map(Into::into).collect();
    if rows.is_empty() {
        return Err(Failure::new(SOFTWARE, "the broker gave an empty answer"));
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::new(USAGE, without_terminal(&rows, may_create)));
    }
    // Before the question is there: whoever sees it may interrupt it.
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
    say(&menu(&rows, may_create));
    let mut input = BufReader::new(tokio::io::stdin());
    for _ in 0..TRIES_MAX {
        say(&format!("Which one? [1-{}{}] ", rows.len(), if may_create { ", n" } else { "" }));
        let mut line = Vec::new();
        let mut bounded = (&mut input).take(ANSWER_MAX);
        let read = tokio::select! {
            biased;
            _ = interrupt.recv() => Ok(0),
            read = bounded.read_until(b'\n', &mut line) => read,
        };
        if !matches!(read, Ok(1..)) {
            say("\n");
            break;
        }
        match parse(&String::from_utf8_lossy(&line), &rows, may_create) {
            Some(wish) => return Ok(wish),
            None if line.trim_ascii().is_empty() => break,
            None => say("That is none of them.\n"),
        }
    }
    Err(Failure::new(TRY_LATER, "no desktop was chosen"))
}

#[expect(
    clippy::print_stderr,
    reason = "the question goes to the terminal, data to standard output"
)]
fn say(text: &str) {
    eprint!("{}", vsm_core::printable_lines(text));
}

fn parse(answer: &str, rows: &[SessionRow], may_create: bool) -> Option<Wish> {
    match answer.trim() {
        "n" | "N" if may_create => Some(Wish::Any(LoginChoice::New)),
        number => {
            let index = number.parse::<usize>().ok()?.checked_sub(1)?;
            rows.get(index).map(|row| Wish::This(row.session.clone()))
        }
    }
}

/// Where the viewer is, else who asked for it last.
fn client(row: &SessionRow) -> &str {
    let viewer = row.viewer.as_deref().filter(|address| !address.is_empty());
    match viewer.unwrap_or(&row.last_client) {
        "" => "-",
        client => client,
    }
}

fn menu(rows: &[SessionRow], may_create: bool) -> String {
    let headings = ["", "AGENT", "AGE", "STATE", "LAST CLIENT"].map(str::to_owned).to_vec();
    let lines = (1..).zip(rows).map(|(number, row)| {
        let (age, state) = (row.age.clone(), row.state.to_owned());
        vec![format!("{number:>3}"), row.agent.clone(), age, state, client(row).to_owned()]
    });
    let new = if may_create { "  n  a new desktop\n" } else { "" };
    format!("You have several desktops:\n{}{new}", output::columns(headings, lines))
}

fn without_terminal(rows: &[SessionRow], may_create: bool) -> String {
    let named = rows.iter().rev().take(NAMED_MAX);
    let named: Vec<_> = named
        .map(|row| {
            let id = output::short_id(&row.session);
            format!("{id} ({}, {}, {} old)", row.agent, row.state, row.age)
        })
        .collect();
    let more = match rows.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let how = if may_create {
        "name one with --session, or use --new"
    } else {
        "name one with --session"
    };
    format!("you have several desktops; {how}: {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use vsm_daemon::clock;
    use vsm_proto::{
        broker::v1::{SessionCondition, SessionView},
        session::v1::{Session, Viewer},
    };

    use super::*;

    fn view(number: u32, viewer: Option<&str>) -> SessionView {
        let session = Session {
            id: format!("01890a5d-ac96-774b-bcce-{number:012}"),
            agent: format!("agent{number}"),
            created_unix_ms: clock::unix_millis().0 - 65_000,
            ..Session::default()
        };
        let condition = match viewer {
            Some(_) => SessionCondition::Connected,
            None => SessionCondition::Disconnected,
        };
        let viewer = viewer.map(|address| Viewer { address: address.to_owned(), since_unix_ms: 1 });
        SessionView {
            session: Some(session),
            viewer,
            last_client: "laptop".to_owned(),
            condition: condition.into(),
            ..SessionView::default()
        }
    }

    fn rows(count: u32) -> Vec<SessionRow> {
        (1..=count).map(|number| view(number, None).into()).collect()
    }

    #[test]
    fn the_menu_fits_a_terminal_and_answers_are_understood() {
        let views = [view(1, None), view(2, Some("10.0.0.100"))];
        let rows: Vec<SessionRow> = views.into_iter().map(Into::into).collect();
        let text = menu(&rows, true);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2], ["1", "agent1", "1m", "5s", "disconnected", "laptop"], "{text}");
        assert_eq!(lines[3], ["2", "agent2", "1m", "5s", "connected", "10.0.0.100"], "{text}");
        assert_eq!(lines[4], ["n", "a", "new", "desktop"]);
        assert!(text.lines().all(|line| line.len() <= 80));
        let this = |row: usize| Some(Wish::This(rows[row].session.clone()));
        assert_eq!(parse("2\n", &rows, true), this(1));
        assert_eq!(parse(" 1 ", &rows, true), this(0));
        assert_eq!(parse("n", &rows, true), Some(Wish::Any(LoginChoice::New)));
        for bad in ["", "0", "3", "-1", "x", "99999999999999999999", "1 2"] {
            assert_eq!(parse(bad, &rows, true), None, "{bad:?}");
        }
        assert_eq!(parse("n", &rows, false), None, "no more are allowed");
    }

    #[test]
    fn without_a_terminal_the_newest_are_named_in_one_line() {
        let text = without_terminal(&rows(20), false);
        assert!(text.contains("000000000020 (agent20, disconnected, 1m 5s old)"), "{text}");
        assert!(text.ends_with(", and 12 more") && !text.contains("--new"), "{text}");
        assert!(!text.contains('\n') && text.len() < 1000, "{}", text.len());
        assert!(without_terminal(&rows(2), true).contains("or use --new"));
    }

    #[test]
    fn the_command_line_says_what_is_wanted() {
        let options = |policy, new, session: &str| {
            ChoiceOptions { policy, new, session: session.to_owned() }.wish()
        };
        let default = options(Policy::SingleDisconnected, false, "");
        assert_eq!(default, Wish::Any(LoginChoice::SingleDisconnected));
        assert_eq!(options(Policy::Ask, false, ""), Wish::Any(LoginChoice::Ask));
        assert_eq!(options(Policy::Ask, true, ""), Wish::Any(LoginChoice::New));
        assert_eq!(options(Policy::Ask, false, "0189"), Wish::This("0189".to_owned()));
    }
}
