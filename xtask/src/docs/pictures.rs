//! Pictures for the guide: what a user sees in a browser, taken as a user would come by it. They go into the book that
//! was built; the repository has none.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::browser::{Browser, Kind, Seat};
use crate::cluster::web::{Factors, PASSWORD, code};
use crate::cluster::{Cluster, ClusterSpec};
use crate::compile::{self, root};
use crate::pair;
use crate::progress::Progress;
use crate::setup;

/// In a page of the guide: `<!-- picture NAME: what it shows -->`.
const MARK: &str = "<!-- picture ";
const END: &str = " -->";
const NAME: &str = "docs-pictures";
const WAIT: Duration = Duration::from_secs(60);
const SITE: &str = "https://tlha/";
const CONNECTED: &str = "return window.vsm?.connected >= 1";
/// Something to see on the desktop, and in the home.
const DESKTOP: &str = "printf '#!/bin/sh\\nxsetroot -solid \"#35506b\"\\nxterm -geometry 90x24+60+60 &\\nexec openbox\\n' > /etc/vsm/xsession";
const HOME: &str = "cd && mkdir -p Courses Letters && printf 'Draft\\n' > Thesis.txt && head -c 480000 /dev/zero > results.csv";

/// Takes them all, and puts them into the book.
pub(super) fn pictures(progress: &Progress) -> Result<()> {
    setup::setup(false)?;
    setup::browsers(false)?;
    let book = root().join("target/book");
    let to = book.join("pictures");
    fs::create_dir_all(&to)?;
    let mut spec = ClusterSpec::pair(NAME, compile::helper()?);
    (spec.agents, spec.fresh, spec.web) = (1, true, Some(Factors::PasswordAndCode));
    progress.step("a pair with a site for browsers comes up");
    let cluster = Cluster::up(&spec)?;
    cluster.output("agent1", "root", &["sh", "-c", DESKTOP])?;
    cluster.output("agent1", "alice", &["sh", "-c", HOME])?;
    pair::in_step(&cluster, WAIT)?;
    let authority = cluster.output("tlha-primary", "root", &["cat", "/etc/vsm/pki/ca.pem"])?;
    let seat = Seat {
        kind: Kind::Chromium,
        host: "client",
        user: "alice",
        authority: Some(&authority),
        artifacts: &to,
    };
    let browser = Browser::open(&cluster, &seat)?;
    tour(&browser)?;
    drop(browser);
    cluster.down()?;
    let count = insert(&book)?;
    progress.step(format!("{count} pictures are in {}", book.join("web.html").display()));
    Ok(())
}

/// From the address to the desktop.
fn tour(browser: &Browser<'_>) -> Result<()> {
    browser.resize(1000, 640)?;
    browser.go(SITE)?;
    browser.picture("name")?;
    browser.fill("#user", "alice")?;
    browser.submit()?;
    browser.fill("form input[type=password]", PASSWORD)?;
    browser.picture("password")?;
    browser.submit()?;
    browser.fill("form input:not([type=hidden])", &code()?)?;
    browser.picture("code")?;
    browser.submit()?;
    true_in(browser, CONNECTED)?;
    // Programs draw when they are there.
    crate::clock::pause(Duration::from_secs(3));
    browser.picture("desktop")?;
    browser.execute("document.getElementById('full').focus()", &[])?;
    crate::clock::pause(Duration::from_millis(500));
    browser.picture("bar")?;
    browser.execute("document.getElementById('files-shown').click()", &[])?;
    browser.wait_css("#entries a", WAIT)?;
    browser.picture("files")?;
    browser.go("https://tlha/desktops")?;
    browser.picture("desktops")?;
    browser.resize(390, 780)?;
    browser.go("https://tlha/desktop")?;
    true_in(browser, CONNECTED)?;
    browser.execute("document.getElementById('pad-shown').click()", &[])?;
    crate::clock::pause(Duration::from_secs(1));
    browser.picture("phone").map(drop)
}

fn true_in(browser: &Browser<'_>, script: &str) -> Result<()> {
    browser.wait(script, WAIT, |browser| match browser.execute(script, &[]) {
        Ok(Value::Bool(true)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

/// Puts each picture where a page of the book has its mark; how many that were.
fn insert(book: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(book).with_context(|| book.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "html") {
            continue;
        }
        let page = fs::read_to_string(&path)?;
        let (with, added) =
            inserted(&page, |name| book.join(format!("pictures/{name}.png")).is_file())?;
        if added > 0 {
            fs::write(&path, with)?;
            count += added;
        }
    }
    ensure!(count > 0, "no page of the book has a mark {MARK:?}");
    Ok(count)
}

/// A page with its pictures, and how many they are.
fn inserted(page: &str, is_there: impl Fn(&str) -> bool) -> Result<(String, usize)> {
    let (mut out, mut rest, mut count) = (String::new(), page, 0);
    while let Some((before, after)) = rest.split_once(MARK) {
        let (mark, after) = after.split_once(END).context("a mark of a picture has no end")?;
        let (name, shows) =
            mark.split_once(": ").with_context(|| format!("{mark:?}: NAME: what it shows"))?;
        ensure!(is_there(name), "no picture is called {name:?}");
        out.push_str(before);
        out.push_str(&format!("<p><img src=\"pictures/{name}.png\" alt=\"{shows}\"></p>"));
        (rest, count) = (after, count + 1);
    }
    out.push_str(rest);
    Ok((out, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_pictures() {
        let page = "a<!-- picture name: The first form -->b<!-- other -->";
        let wanted =
            "a<p><img src=\"pictures/name.png\" alt=\"The first form\"></p>b<!-- other -->";
        assert_eq!(inserted(page, |_| true).unwrap(), (wanted.to_owned(), 1));
        assert!(inserted(page, |name| name != "name").is_err());
        assert!(inserted("<!-- picture name -->", |_| true).is_err());
        let guide = include_str!("../../../docs/web.md");
        assert!(inserted(guide, |_| true).unwrap().1 >= 5);
    }
}
