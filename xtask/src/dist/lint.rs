//! What lintian says of the packages, held against what docs/packaging.md explains.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::{Built, Workshop};
use crate::command::{capture, command, tail};

/// The heading in docs/packaging.md under which a table explains one tag a row: `| tag | packages | why |`.
const HEADING: &str = "## What lintian says";

/// The outcome.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Verdict {
    /// Lines of lintian that are explained.
    pub(super) explained: usize,
    /// Lines of lintian that are not.
    pub(super) unexplained: Vec<String>,
    /// Tags that are explained and that lintian does not find any more.
    pub(super) stale: Vec<String>,
}

/// Runs lintian on the packages.
pub(super) fn lint(shop: &Workshop, packages: &[Built]) -> Result<Verdict> {
    let mut lintian = command(&["lintian", "--no-cfg", "--allow-root", "--display-info"]);
    let output = capture(lintian.args(packages.iter().map(|built| &built.file)))?;
    let said = String::from_utf8(output.stdout)?;
    // 0: nothing, or nothing grave; 2: an error among the tags. All else is lintian's own trouble.
    if !matches!(output.status.code(), Some(0 | 2)) {
        bail!("lintian: {}: {}", output.status, tail(&output.stderr));
    }
    let page = shop.root.join("docs/packaging.md");
    let page = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let verdict = compare(&said, &explained(&page));
    for line in &verdict.unexplained {
        eprintln!("not explained: {line}");
    }
    for tag in &verdict.stale {
        eprintln!("explained, and not found any more: {tag}");
    }
    Ok(verdict)
}

fn compare(said: &str, explained: &BTreeSet<String>) -> Verdict {
    let mut found = BTreeSet::new();
    let mut verdict = Verdict { explained: 0, unexplained: Vec::new(), stale: Vec::new() };
    for line in said.lines().filter(|line| !line.is_empty()) {
        // `W: vsm-agent: tag-name what it is about`
        let tag = line.split(' ').nth(2).unwrap_or_default();
        if explained.contains(tag) {
            verdict.explained += 1;
            found.insert(tag.to_owned());
        } else {
            verdict.unexplained.push(line.to_owned());
        }
    }
    verdict.stale = explained.difference(&found).cloned().collect();
    verdict
}

/// The tags in the table's first column.
fn explained(page: &str) -> BTreeSet<String> {
    let section = page.split_once(HEADING).map_or("", |(_, section)| section);
    let rows = section.lines().skip(1).take_while(|line| !line.starts_with("## "));
    rows.filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(tag, _)| tag.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_explained_passes() {
        let page = "## What lintian says\n\n| tag | why |\n| --- | --- |\n| `a-b` | x |\n| `gone` | y |\n\n## Else\n| `c-d` | z |\n";
        let verdict = compare("W: vsm-agent: a-b usr/bin/x\nE: vsm-agent: c-d\n", &explained(page));
        assert_eq!(verdict.explained, 1);
        assert_eq!(verdict.unexplained, ["E: vsm-agent: c-d"]);
        assert_eq!(verdict.stale, ["gone"]);
    }
}
