//! Findings as they are collected.

use vsm_proto::admin::v1::Finding;

#[derive(Debug, Default)]
pub(super) struct Steps {
    findings: Vec<Finding>,
}

impl Steps {
    /// A finding, with what to do if it is bad.
    pub(super) fn note(&mut self, step: u32, ok: bool, text: String, remedy: impl Into<String>) {
        let remedy = if ok { String::new() } else { remedy.into() };
        self.findings.push(Finding { step, ok, text, remedy });
    }

    pub(super) fn ok(&mut self, step: u32, text: String) {
        self.note(step, true, text, "");
    }

    pub(super) fn bad(&mut self, step: u32, text: String, remedy: impl Into<String>) {
        self.note(step, false, text, remedy);
    }

    /// Adds what the other node found, but for what is known already.
    pub(super) fn merge(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
    }

    /// By step; what is wrong first in each.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.findings.sort_by_key(|finding| (finding.step, finding.ok));
        self.findings
    }
}
