//! What came of a run of the guide.

use serde::Serialize;

use super::page::{Block, Page, What};

/// The page with the nine steps.
const STEPS_PAGE: &str = "ha.md";
/// Its number of steps.
const STEPS: u8 = 9;

/// What is to be shown of a session: blocks of this page with this label print the same one, before and after
/// something that contains these words is typed or done.
struct Proof {
    page: &'static str,
    step: Option<u8>,
    label: &'static str,
    between: &'static str,
}

const FAILOVER: Proof = Proof {
    page: STEPS_PAGE,
    step: Some(9),
    label: "failover",
    between: "pull the cable of tlha-primary",
};
const CONVERTED: Proof = Proof {
    page: "convert.md",
    step: None,
    label: "converted",
    between: "/vsmserver/HA/enabled=true",
};

/// The result; the fields of its JSON form are in docs/json.md.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How many blocks passed or failed.
    pub blocks: usize,
    /// How many did not do what the page says.
    pub failed: usize,
    /// How many were not run, as one before them failed or other pages were asked for.
    pub not_run: usize,
    /// How many of the nine steps have blocks, all of which passed.
    pub steps: usize,
    /// Whether a user had the same session before and after the primary's cable was pulled.
    pub failover_ok: bool,
    /// Whether a session went on while its single server became a pair.
    pub converted_ok: bool,
    /// Why blocks failed.
    #[serde(skip)]
    pub failures: Vec<String>,
    #[serde(skip)]
    passed: Vec<Passed>,
    /// The step of each block of the page with the steps.
    #[serde(skip)]
    wanted: Vec<u8>,
}

/// A block that did what its page says.
#[derive(Debug)]
pub(crate) struct Passed {
    page: String,
    step: Option<u8>,
    label: Option<String>,
    text: String,
}

impl Passed {
    pub(crate) fn new(page: &Page, block: &Block) -> Self {
        let label = match &block.what {
            What::Commands { options, .. } => options.session.clone(),
            What::Deeds(_) => None,
        };
        Self { page: page.name.clone(), step: block.step, label, text: block.what.to_string() }
    }
}

impl Report {
    pub(crate) fn new(pages: &[Page]) -> Self {
        let of = |page: &Page| page.blocks.iter().filter_map(|block| block.step).collect();
        let steps = pages.iter().find(|page| page.name == STEPS_PAGE);
        Self {
            blocks: 0,
            failed: 0,
            not_run: pages.iter().map(|page| page.blocks.len()).sum(),
            steps: 0,
            failover_ok: false,
            converted_ok: false,
            failures: Vec::new(),
            passed: Vec::new(),
            wanted: steps.map(of).unwrap_or_default(),
        }
    }

    pub(crate) fn passed(&mut self, block: Passed) {
        self.passed.push(block);
        self.count();
    }

    pub(crate) fn failed(&mut self, why: String) {
        self.failures.push(why);
        self.count();
    }

    fn count(&mut self) {
        let all = self.blocks + self.not_run;
        self.failed = self.failures.len();
        self.blocks = self.passed.len() + self.failed;
        self.not_run = all - self.blocks;
        let passed = |step: u8| {
            let of = |block: &&Passed| block.page == STEPS_PAGE && block.step == Some(step);
            self.passed.iter().filter(of).count()
        };
        let wanted = |step: u8| self.wanted.iter().filter(|wanted| **wanted == step).count();
        self.steps =
            (1..=STEPS).filter(|step| wanted(*step) > 0 && passed(*step) == wanted(*step)).count();
        self.failover_ok = self.shows(&FAILOVER);
        self.converted_ok = self.shows(&CONVERTED);
    }

    /// Blocks of one label that printed another session have failed, so it is enough that they passed.
    fn shows(&self, proof: &Proof) -> bool {
        let of_page = |block: &&Passed| {
            block.page == proof.page && (proof.step.is_none() || block.step == proof.step)
        };
        let blocks: Vec<_> = self.passed.iter().filter(of_page).collect();
        let told = |block: &&Passed| block.label.as_deref() == Some(proof.label);
        let Some(first) = blocks.iter().position(told) else { return false };
        let Some(done) = blocks.iter().position(|block| block.text.contains(proof.between)) else {
            return false;
        };
        first < done && blocks[done..].iter().any(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docs::page;

    const PAGE: &str = "<!-- run: fresh -->\n## Step 1: a\n```console,host=a\n$ x\n```\n\
        ```console,host=a\n$ y\n```\n## Step 9: b\n```console,host=a,session=failover\n$ z\n```\n\
        ```text,host=lab\npull the cable of tlha-primary\n```\n\
        ```console,host=a,session=failover\n$ z\n```\n";

    fn after(blocks: usize) -> Report {
        let page = page::read("ha.md", PAGE).unwrap();
        let pages = [page];
        let mut report = Report::new(&pages);
        for block in &pages[0].blocks[..blocks] {
            report.passed(Passed::new(&pages[0], block));
        }
        report
    }

    #[test]
    fn a_step_counts_when_all_of_its_blocks_passed() {
        assert_eq!([0, 1, 2, 4, 5].map(|blocks| after(blocks).steps), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn a_failover_is_shown_by_the_same_session_before_and_after_it() {
        assert_eq!([3, 4, 5].map(|blocks| after(blocks).failover_ok), [false, false, true]);
        assert!(!after(5).converted_ok);
    }

    #[test]
    fn a_block_that_failed_and_those_after_it_are_told() {
        let mut report = after(1);
        report.failed("why".to_owned());
        assert_eq!((report.blocks, report.failed, report.not_run, report.steps), (2, 1, 3, 0));
    }
}
