//! Whether every link of the documents leads somewhere: to a file of the workspace, and to a heading in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

/// The folders and files whose links are looked at.
const LOOKED_AT: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs"];
/// The folder that becomes a book: its pages may only lead to each other.
const BOOK: &str = "docs";

/// Checks all documents below `root`; returns one line for each link that leads nowhere.
///
/// # Errors
/// When a document cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut documents = BTreeMap::new();
    for name in LOOKED_AT {
        read(root, Path::new(name), &mut documents)?;
    }
    let anchors: BTreeMap<&Path, BTreeSet<String>> =
        documents.iter().map(|(name, text)| (&**name, anchors(text))).collect();
    let mut broken = Vec::new();
    for (name, text) in &documents {
        for (line, link) in links(text) {
            if let Err(why) = leads(root, name, &link, &anchors) {
                broken.push(format!("{}:{line}: {link}: {why}", name.display()));
            }
        }
    }
    for name in documents.keys().filter(|name| name.starts_with(BOOK)) {
        let within = name.strip_prefix(BOOK).unwrap_or(name).display().to_string();
        let summary = documents.get(&Path::new(BOOK).join("SUMMARY.md"));
        if within != "SUMMARY.md"
            && summary.is_some_and(|text| !links(text).iter().any(|(_, link)| *link == within))
        {
            broken.push(format!("{}: is not in SUMMARY.md", name.display()));
        }
    }
    Ok(broken)
}

fn read(root: &Path, name: &Path, documents: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let path = root.join(name);
    if path.is_dir() {
        for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
            read(root, &name.join(entry?.file_name()), documents)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "md") && path.exists() {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        documents.insert(name.to_owned(), text);
    }
    Ok(())
}

fn leads(
    root: &Path,
    from: &Path,
    link: &str,
    anchors: &BTreeMap<&Path, BTreeSet<String>>,
) -> Result<(), String> {
    if ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
        return Ok(());
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => from.to_owned(),
        path => normal(&from.with_file_name(path)),
    };
    if !root.join(&target).exists() {
        return Err("there is no such file".to_owned());
    }
    if from.starts_with(BOOK) && !target.starts_with(BOOK) {
        return Err("leads out of the book, where readers do not have it".to_owned());
    }
    let known = anchors.get(&*target).is_some_and(|known| known.contains(anchor));
    if anchor.is_empty() || known { Ok(()) } else { Err("there is no such heading".to_owned()) }
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => normal.push(part),
        }
    }
    normal
}

/// The lines of a document that are no code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// The targets of `[text](target)`, with the line; what stands between backquotes is none.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        let spoken: Vec<_> = line.split('`').step_by(2).collect();
        let spoken = spoken.join("`");
        let mut rest = spoken.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, after)) = after.split_once(')') else { break };
            links.push((number, target.to_owned()));
            rest = after;
        }
    }
    links
}

/// The anchors of a document's headings, as mdBook makes them; a second one of a name gets `-1`.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let wanted = slug(heading.trim());
        let mut anchor = wanted.clone();
        let mut number = 0;
        while !anchors.insert(anchor.clone()) {
            number += 1;
            anchor = format!("{wanted}-{number}");
        }
    }
    anchors
}

fn slug(heading: &str) -> String {
    let kept = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
        c if c.is_whitespace() => Some('-'),
        _ => None,
    };
    heading.chars().filter_map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_in_prose_alone() {
        let text = "a [b](c.md#d) and [e](f)\n```\n[g](h)\n```\n`[i](j)` [k](l)\n";
        let found: Vec<_> = links(text).into_iter().map(|(_, link)| link).collect();
        assert_eq!(found, ["c.md#d", "f", "l"]);
    }

    #[test]
    fn headings_have_anchors() {
        let text = "# A `vsm` page, 1.2\n## A\n## A\n```\n# no\n```\n#no\n";
        let wanted = ["a", "a-1", "a-vsm-page-12"].map(str::to_owned);
        assert_eq!(anchors(text), wanted.into());
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let root = std::env::temp_dir().join(format!("vsm-links-{}", std::process::id()));
        fs::create_dir_all(root.join("docs")).unwrap();
        let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
        write("README.md", "# R\n[d](docs/a.md#two) [x](docs/x.md)\n");
        write("docs/a.md", "# A\n## One\n[o](#one) [r](../README.md) [b](b.md#no)\n");
        write("docs/b.md", "# B\n");
        write("docs/SUMMARY.md", "[A](a.md)\n");
        let broken = check(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();
        let wanted = [
            "README.md:2: docs/a.md#two: there is no such heading",
            "README.md:2: docs/x.md: there is no such file",
            "docs/a.md:3: ../README.md: leads out of the book, where readers do not have it",
            "docs/a.md:3: b.md#no: there is no such heading",
            "docs/b.md: is not in SUMMARY.md",
        ];
        assert_eq!(broken, wanted);
    }
}
