//! `vsmctl ha check` and `vsmctl ha verify`: what the broker has looked at and found, one line each.

use serde::Serialize;
use vsm_proto::admin::v1 as pb;

use super::LONG_DEADLINE;
use crate::{
    admin::AdminOptions,
    broker::with_deadline,
    exit::Failure,
    output::{self, Columns},
};

/// A finding of `vsmctl ha check`; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct Finding {
    step: u32,
    ok: bool,
    text: String,
    remedy: String,
}

impl Columns for Finding {
    const HEADINGS: &'static [&'static str] = &["STEP", "RESULT", "FOUND", "TO DO"];

    fn cells(&self) -> Vec<String> {
        let result = if self.ok { "ok" } else { "NOT OK" };
        vec![self.step.to_string(), result.to_owned(), self.text.clone(), self.remedy.clone()]
    }
}

/// Asks for the check of the nine steps and prints it.
///
/// # Errors
/// If the broker cannot be asked, or something is not as it should be.
pub(super) async fn check(options: &AdminOptions) -> Result<(), Failure> {
    let request = with_deadline(pb::CheckRequest {}, LONG_DEADLINE);
    let mut findings = super::dial(options).await?.check(request).await?.into_inner().findings;
    findings.sort_by_key(|finding| finding.step);
    let rows: Vec<Finding> = findings
        .into_iter()
        .map(|finding| Finding {
            step: finding.step,
            ok: finding.ok,
            text: finding.text,
            remedy: finding.remedy,
        })
        .collect();
    output::list(options.output, &rows)?;
    match rows.iter().filter(|row| !row.ok).count() {
        0 => Ok(()),
        bad => Err(Failure::new(1, format!("{bad} of {} finding(s) are not ok", rows.len()))),
    }
}

/// What `vsmctl ha verify` prints; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct Compared {
    commit: Option<u64>,
    sessions: u32,
    agents: u32,
    differences: Vec<String>,
    skipped: Vec<String>,
}

/// Asks for a comparison of both tables and the agents, and prints it.
///
/// # Errors
/// If the broker cannot be asked, or something differs.
pub(super) async fn verify(options: &AdminOptions) -> Result<(), Failure> {
    let request = with_deadline(pb::VerifyRequest {}, LONG_DEADLINE);
    let answer = super::dial(options).await?.verify(request).await?.into_inner();
    let compared = Compared {
        commit: Some(answer.commit).filter(|commit| *commit != 0),
        sessions: answer.sessions,
        agents: answer.agents,
        differences: answer.differences,
        skipped: answer.skipped,
    };
    output::report(options.output, &compared, render)?;
    match compared.differences.len() {
        0 => Ok(()),
        count => Err(Failure::new(1, format!("{count} difference(s)"))),
    }
}

fn render(compared: &Compared) -> String {
    let at = compared.commit.map_or_else(
        || "the tables were never seen at the same change".to_owned(),
        |commit| format!("both tables at change {commit}"),
    );
    let mut text =
        format!("compared: {at}; {} session(s), {} agent(s)\n", compared.sessions, compared.agents);
    for line in &compared.skipped {
        text.push_str(&format!("skipped: {line}\n"));
    }
    for line in &compared.differences {
        text.push_str(&format!("DIFFERENT: {line}\n"));
    }
    if compared.differences.is_empty() {
        text.push_str("no differences\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_says_what_was_compared_what_was_not_and_what_differs() {
        let mut compared = Compared {
            commit: Some(12),
            sessions: 3,
            agents: 2,
            differences: Vec::new(),
            skipped: vec!["agent3: down".into()],
        };
        assert_eq!(
            render(&compared),
            "compared: both tables at change 12; 3 session(s), 2 agent(s)\nskipped: agent3: down\nno differences\n"
        );
        compared.commit = None;
        compared.differences.push("session x is only on b".into());
        let text = render(&compared);
        assert!(text.contains("never seen at the same change"), "{text}");
        assert!(text.ends_with("DIFFERENT: session x is only on b\n"), "{text}");
    }
}
