//! The demo's second user: bob sits at a browser, while the broker that he has logged in at goes away.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{DESKTOP_WAIT, Desktop, SERVICE_WAIT};
use crate::browser::{Browser, Kind, Seat};
use crate::clock;
use crate::cluster::Cluster;

const USER: &str = "bob";
const SITE: &str = "https://tlha/";
/// How often the page has had its desktop.
const CONNECTED: &str = "return window.vsm ? window.vsm.connected : 0";
/// What the page would have its user type.
const FIELDS: &str = "return document.querySelectorAll('form input:not([type=hidden])').length";
/// How long the browser may take to have its desktop again.
const BACK_WAIT: Duration = Duration::from_secs(60);

/// How it went, in the demo's last line.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// From the address to the desktop, with a password and a code, in milliseconds.
    login_ms: u128,
    /// From the fault until the page has its desktop again.
    pub(super) back_ms: u64,
    /// It is the same desktop.
    pub(super) same: bool,
    /// What he was asked for by then.
    pub(super) asked: u64,
    screenshots: [PathBuf; 2],
}

/// Bob at his desktop.
pub(super) struct Desk<'a> {
    cluster: &'a Cluster,
    browser: Browser<'a>,
    session: Session,
    pub(super) login_ms: u128,
    before: PathBuf,
}

/// His desktop, as `vsm list` has it.
#[derive(Debug, PartialEq, Deserialize)]
struct Session {
    session: String,
    agent: String,
    display: u32,
}

impl<'a> Desk<'a> {
    /// He opens a browser, logs in and has a desktop.
    pub(super) fn sit_down(cluster: &'a Cluster, artifacts: &std::path::Path) -> Result<Self> {
        let host = "tlha-primary";
        let authority = cluster.output(host, "root", &["cat", "/etc/vsm/pki/ca.pem"])?;
        let seat = Seat {
            kind: Kind::Chromium,
            host: "client",
            user: USER,
            authority: Some(&authority),
            artifacts,
        };
        let browser = Browser::open(cluster, &seat)?;
        let began = clock::now();
        browser.go(SITE)?;
        browser.log_in(USER)?;
        connected(&browser, 1)?;
        let login_ms = began.elapsed().as_millis();
        let session = session(cluster)?;
        Desktop::find(cluster, USER, &session.agent, session.display)?.terminal()?;
        let before = browser.picture("browser-before")?;
        Ok(Self { cluster, browser, session, login_ms, before })
    }

    /// Waits until the page has its desktop again; the milliseconds since `began`.
    pub(super) fn back(&self, began: u64) -> Result<u64> {
        connected(&self.browser, 2)?;
        Ok((clock::unix_micros() - began) / 1000)
    }

    /// What has become of his desktop.
    pub(super) fn report(&self, back_ms: u64) -> Result<Report> {
        let now = session(self.cluster)?;
        let desktop = Desktop::find(self.cluster, USER, &now.agent, now.display)?;
        let same = now == self.session && desktop.terminal().is_ok();
        let asked = self.browser.execute(FIELDS, &[])?.as_u64().context("a number of fields")?;
        let screenshots = [self.before.clone(), self.browser.picture("browser-after")?];
        Ok(Report { login_ms: self.login_ms, back_ms, same, asked, screenshots })
    }
}

fn connected(browser: &Browser<'_>, times: u64) -> Result<()> {
    browser.wait("the desktop in the browser", BACK_WAIT, |browser| {
        let now = browser.execute(CONNECTED, &[]).map_err(|error| format!("{error:#}"))?;
        if now == json!(times) { Ok(()) } else { Err(format!("it was there {now} times")) }
    })
}

/// The only desktop that he has.
fn session(cluster: &Cluster) -> Result<Session> {
    let to = format!("{USER}@tlha");
    let words = ["vsm", "list", "--output", "json", &to];
    clock::wait_for("the list of his desktops", SERVICE_WAIT.max(DESKTOP_WAIT), || {
        let list = cluster.output("client", USER, &words).map_err(|error| format!("{error:#}"))?;
        let mut rows: Vec<Session> =
            serde_json::from_str(&list).map_err(|error| format!("{error}: {list}"))?;
        match rows.pop() {
            Some(row) if rows.is_empty() => Ok(row),
            _ => Err(list),
        }
    })
}
