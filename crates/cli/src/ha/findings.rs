//! `vsmctl ha check` and `vsmctl ha verify`: what the broker has looked at and found, one line each.

use serde::Serialize;
use vsm_proto::admin::v1 as pb;

use super::LONG_DEADLINE;
use crate::{
    admin::AdminOptions,
    broker::with_deadline,
    exit::{CONFIG, Failure, UNAVAILABLE},
    output,
};

/// A finding of `vsmctl ha check`; the JSON fields are stable.
#[derive(Debug, Serialize)]
struct Finding {
    step: u32,
    ok: bool,
    text: String,
    remedy: String,
}

/// A line each, and below what is wrong a line with what to do.
fn lines(rows: &Vec<Finding>) -> String {
    let mut text = "STEP  RESULT  FOUND\n".to_owned();
    for row in rows {
        let result = if row.ok { "ok" } else { "NOT OK" };
        text.push_str(&format!("{:<4}  {result:<6}  {}\n", row.step, row.text));
        if !row.remedy.is_empty() {
            text.push_str(&format!("              to do: {}\n", row.remedy));
        }
    }
    text
}

/// Asks for the check of the nine steps and prints it.
///
/// # Errors
/// If the broker cannot be asked, or something is not as it should be.
pub(super) async fn check(options: &AdminOptions) -> Result<(), Failure> {
    let mut rows = match asked(options).await {
        Err(failure) if matches!(failure.code, UNAVAILABLE | CONFIG) => {
            without_broker(options, failure)
        }
        asked => asked?,
    };
    rows.sort_by_key(|row| (row.step, row.ok));
    output::report(options.output, &rows, lines)?;
    match rows.iter().filter(|row| !row.ok).count() {
        0 => Ok(()),
        bad => Err(Failure::new(1, format!("{bad} of {} finding(s) are not ok", rows.len()))),
    }
}

async fn asked(options: &AdminOptions) -> Result<Vec<Finding>, Failure> {
    let request = with_deadline(pb::CheckRequest { local_only: false }, LONG_DEADLINE);
    let findings = super::dial(options).await?.check(request).await?.into_inner().findings;
    let row = |finding: pb::Finding| Finding {
        step: finding.step,
        ok: finding.ok,
        text: finding.text,
        remedy: finding.remedy,
    };
    Ok(findings.into_iter().map(row).collect())
}

/// What can be seen while the broker does not run: that it does not, and a configuration with which it never would.
fn without_broker(options: &AdminOptions, failure: Failure) -> Vec<Finding> {
    let bad = |step, text: String, remedy: &str| Finding {
        step,
        ok: false,
        text,
        remedy: remedy.to_owned(),
    };
    let mend =
        "mend it with vsm-config (vsm-config check tells more), then systemctl start vsmserver";
    match options.configuration() {
        Err(refused) => vec![bad(6, format!("vsmserver cannot start: {}", refused.text), mend)],
        Ok(config) => match config.check_broker() {
            Err(refused) => vec![bad(6, format!("vsmserver cannot start: {refused}"), mend)],
            Ok(()) => vec![bad(
                1,
                failure.text,
                "systemctl start vsmserver; journalctl -u vsmserver says why it ended",
            )],
        },
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

impl Compared {
    /// The other node's table could not be looked at: what was not compared is not equal.
    fn tables_unknown(&self) -> bool {
        self.skipped.iter().any(|line| line.starts_with("the table of "))
    }
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
        0 if compared.tables_unknown() => {
            Err(Failure::new(1, "the tables could not be compared, and may differ"))
        }
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
        text.push_str(if compared.tables_unknown() {
            "NOT COMPARED: the tables may differ\n"
        } else {
            "no differences\n"
        });
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
        compared.skipped.push("the table of b: it cannot be reached".into());
        assert!(render(&compared).ends_with("NOT COMPARED: the tables may differ\n"));
        compared.skipped.pop();
        compared.commit = None;
        compared.differences.push("session x is only on b".into());
        let text = render(&compared);
        assert!(text.contains("never seen at the same change"), "{text}");
        assert!(text.ends_with("DIFFERENT: session x is only on b\n"), "{text}");
    }
}
