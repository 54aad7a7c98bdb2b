//! A browser that somebody on a host in miniature sits at: Chromium or Firefox, without a window, driven as its makers
//! mean it to be driven (WebDriver).
//!
//! It runs as that person, in the host's network, and trusts the cluster's authority because it was told to, as a site
//! tells its machines; no check of it is switched off for that. It ends with the value, and with it everything that it
//! started and wrote; of a process that was killed, `cluster down` ends it.

mod driver;
mod input;
mod login;

use std::fmt;
use std::fs;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
pub use fantoccini::cookies::Cookie;
use fantoccini::error::CmdError;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use self::driver::{Driver, Inside, Place};
use crate::clock::wait_for;
use crate::cluster::Cluster;
use crate::cluster::spec::RESOURCE;
use crate::command::{capture, tail};

/// How long a browser may take to start.
const START_WAIT: Duration = Duration::from_secs(60);
/// How long it may take for anything that it is told; a page may take half of it.
const COMMAND_WAIT: Duration = Duration::from_secs(60);
const PAGE_WAIT_MS: u64 = 30_000;
/// How much of a page an error repeats.
const TEXT_MAX: usize = 2000;
/// The size of its page at the start.
const SIZE: (u32, u32) = (1280, 800);

/// Makes an authority trusted: a database as both browsers have it, in this directory.
const TRUST: &str = r#"umask 077; mkdir -p "$1" && cd "$1" && cat > authority.pem &&
certutil -N --empty-password -d sql:. && certutil -A -n authority -t C,, -d sql:. -i authority.pem"#;

/// Whether a page is Chromium's own that warns of a certificate.
const WARNS: &str = "return typeof certificateErrorPageController !== 'undefined'";

/// Which browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Debian's `chromium`.
    Chromium,
    /// Debian's `firefox-esr`.
    Firefox,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
        }
    }
}

/// Who sits where.
#[derive(Debug, Clone, Copy)]
pub struct Seat<'a> {
    /// Which browser.
    pub kind: Kind,
    /// The host.
    pub host: &'a str,
    /// The user, not root.
    pub user: &'a str,
    /// The authority that is trusted, as PEM; none = those that the browser brings, which have signed nothing here.
    pub authority: Option<&'a str>,
    /// Where pictures go, and what the browser's driver says.
    pub artifacts: &'a Path,
}

/// A browser with one window.
#[derive(Debug)]
pub struct Browser<'a> {
    client: Client,
    inside: Inside,
    artifacts: PathBuf,
    kind: Kind,
    // Last, and in this order: the driver ends before its files go.
    _driver: Driver,
    _home: Home<'a>,
}

impl<'a> Browser<'a> {
    /// Starts a browser; its page is empty.
    ///
    /// # Errors
    /// When one of its programs is missing (`cargo xtask setup`) or does not start.
    pub fn open(cluster: &'a Cluster, seat: &Seat<'_>) -> Result<Self> {
        let Seat { kind, host, user, authority, artifacts } = *seat;
        fs::create_dir_all(artifacts).with_context(|| artifacts.display().to_string())?;
        let home = Home::make(cluster, host, user)?;
        if let Some(authority) = authority {
            home.trust(kind, authority)?;
        }
        let at = Place { host, user, home: &home.path };
        let log = artifacts.join(format!("{}.log", kind.name()));
        let driver = Driver::start(cluster, &at, kind, &log)?;
        let inside = Inside::of(cluster.init_pid(host)?)?;
        let (url, wanted) = (driver.url(), capabilities(kind, &home)?);
        let connect = async move {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(wanted).connect(&url).await
        };
        let client = inside.run("start the browser", START_WAIT, connect);
        let client = client.with_context(|| {
            let said = fs::read(&log).unwrap_or_default();
            format!("{} on {host}; its driver says: {}", kind.name(), tail(&said))
        })?;
        let artifacts = artifacts.to_owned();
        let browser = Self { client, inside, artifacts, kind, _driver: driver, _home: home };
        browser.resize(SIZE.0, SIZE.1)?;
        Ok(browser)
    }

    /// Which browser it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Goes to an address, and waits until the page is there.
    ///
    /// # Errors
    /// When it cannot be reached, or is not trusted; the browser's own word for it.
    pub fn go(&self, url: &str) -> Result<()> {
        let to = url.to_owned();
        self.tell(&format!("go to {url}"), |client| async move { client.goto(&to).await })?;
        // Chromium's driver does not tell, as the page that warns of it is one too.
        if self.kind == Kind::Chromium && self.execute(WARNS, &[])? == json!(true) {
            bail!("go to {url}: not trusted: {}", self.text()?);
        }
        Ok(())
    }

    /// Loads the page again.
    ///
    /// # Errors
    /// As [`Self::go`].
    pub fn reload(&self) -> Result<()> {
        self.tell("load the page again", |client| async move { client.refresh().await })
    }

    /// The page's address.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn url(&self) -> Result<String> {
        let url = |client: Client| async move { client.current_url().await };
        Ok(self.tell("the address", url)?.to_string())
    }

    /// The page's title.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn title(&self) -> Result<String> {
        self.tell("the title", |client| async move { client.title().await })
    }

    /// The page's text, as people see it.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn text(&self) -> Result<String> {
        let text = self.execute("return document.body ? document.body.innerText : ''", &[])?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Runs a script in the page: the body of a function, which has `arguments`; what it returns, once promises in it
    /// have come true.
    ///
    /// # Errors
    /// When it throws.
    pub fn execute(&self, script: &str, arguments: &[Value]) -> Result<Value> {
        let (script, arguments) = (script.to_owned(), arguments.to_vec());
        self.tell("a script", |client| async move { client.execute(&script, arguments).await })
    }

    /// What all elements that fit a CSS selector say, in the page's order.
    ///
    /// # Errors
    /// When the selector is none.
    pub fn texts(&self, css: &str) -> Result<Vec<String>> {
        let script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)";
        let texts = self.execute(script, &[json!(css)])?;
        Ok(serde_json::from_value(texts)?)
    }

    /// The cookies of the page, also those that no script sees.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn cookies(&self) -> Result<Vec<Cookie<'static>>> {
        self.tell("the cookies", |client| async move { client.get_all_cookies().await })
    }

    /// Sets a cookie for the page.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub fn set_cookie(&self, cookie: Cookie<'static>) -> Result<()> {
        self.tell("set a cookie", |client| async move { client.add_cookie(cookie).await })
    }

    /// Gives the page this size.
    ///
    /// # Errors
    /// When the browser does not: no window of Firefox is narrower than 500 pixels.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        let (mut outer, mut seen) = ((width, height), Value::Null);
        // What is around the page is known once there is a window.
        for _ in 0..2 {
            let size = outer;
            let resize =
                |client: Client| async move { client.set_window_size(size.0, size.1).await };
            self.tell("the window's size", resize)?;
            seen = self.execute("return [innerWidth, innerHeight]", &[])?;
            if seen == json!([width, height]) {
                return Ok(());
            }
            let part = |n: usize| seen[n].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            outer = (outer.0 + width - part(0).min(width), outer.1 + height - part(1).min(height));
        }
        bail!("the page is {seen} instead of {width} × {height}")
    }

    /// Puts a picture of the page into the artifacts; its path.
    ///
    /// # Errors
    /// When the browser gives none.
    pub fn picture(&self, name: &str) -> Result<PathBuf> {
        let image = self.tell("a picture", |client| async move { client.screenshot().await })?;
        let path = self.artifacts.join(format!("{name}.png"));
        fs::write(&path, image).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// A picture of one element, as PNG.
    ///
    /// # Errors
    /// When there is none that fits.
    pub fn picture_of(&self, css: &str) -> Result<Vec<u8>> {
        let of = css.to_owned();
        self.tell(&format!("a picture of {css}"), |client| async move {
            client.find(Locator::Css(&of)).await?.screenshot().await
        })
    }

    /// Waits until `probe` succeeds.
    ///
    /// # Errors
    /// When the time is over: the last reason, the page's address and text, and where a picture of it is.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut(&Self) -> Result<T, String>,
    ) -> Result<T> {
        wait_for(what, limit, || probe(self)).map_err(|error| {
            let name: String =
                what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let picture = match self.picture(&format!("failed-{name}")) {
                Ok(path) => path.display().to_string(),
                Err(why) => format!("{why:#}"),
            };
            let say = |said: Result<String>| said.unwrap_or_else(|why| format!("{why:#}"));
            let text: String = say(self.text()).chars().take(TEXT_MAX).collect();
            let url = say(self.url());
            error.context(format!("picture: {picture}; page {url} says:\n{text}\n"))
        })
    }

    /// Waits until the page has an element that fits.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_css(&self, css: &str, limit: Duration) -> Result<()> {
        self.wait(css, limit, |browser| {
            let found = browser.texts(css).map_err(|error| format!("{error:#}"))?;
            if found.is_empty() { Err("there is none".to_owned()) } else { Ok(()) }
        })
    }

    fn tell<T, F>(&self, what: &str, command: impl FnOnce(Client) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CmdError>> + Send + 'static,
    {
        let command = command(self.client.clone());
        self.inside.run(what, COMMAND_WAIT, async move {
            command.await.map_err(|error| {
                // Its message may be empty where its kind says it all.
                if let CmdError::Standard(told) = &error {
                    return anyhow::anyhow!("{}: {}", told.error, told.message);
                }
                error.into()
            })
        })
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        let client = self.client.clone();
        // The driver is killed next, and the browser with it.
        let _ = self.inside.run("close", COMMAND_WAIT, async move { client.close().await });
    }
}

/// What the browser is to be like.
fn capabilities(kind: Kind, home: &Home<'_>) -> Result<serde_json::Map<String, Value>> {
    let profile = home.profile();
    let own = match kind {
        Kind::Chromium => {
            let mut arguments = vec![
                "--headless=new".to_owned(),
                "--disable-gpu".to_owned(),
                "--no-first-run".to_owned(),
                // There is no network but the cluster's.
                "--disable-background-networking".to_owned(),
                "--disable-component-update".to_owned(),
                "--disable-sync".to_owned(),
                format!("--host-resolver-rules=MAP {} {}", RESOURCE.0, RESOURCE.1),
                format!("--user-data-dir={profile}"),
            ];
            arguments.extend((!home.has_namespaces()?).then(|| "--no-sandbox".to_owned()));
            json!({ "goog:chromeOptions": { "binary": "/usr/bin/chromium", "args": arguments } })
        }
        Kind::Firefox => json!({ "moz:firefoxOptions": {
            "binary": "/usr/bin/firefox-esr",
            "args": ["-headless", "-profile", profile],
        } }),
    };
    let mut all = own.as_object().cloned().unwrap_or_default();
    all.insert("timeouts".to_owned(), json!({ "pageLoad": PAGE_WAIT_MS, "script": PAGE_WAIT_MS }));
    Ok(all)
}

/// The directory on the host that a browser takes for its user's home.
struct Home<'a> {
    cluster: &'a Cluster,
    host: String,
    user: String,
    path: String,
}

impl fmt::Debug for Home<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.path)
    }
}

impl<'a> Home<'a> {
    fn make(cluster: &'a Cluster, host: &str, user: &str) -> Result<Self> {
        let path = cluster.output(host, user, &["mktemp", "--directory", "/tmp/browser.XXXXXX"])?;
        let home = Self { cluster, host: host.to_owned(), user: user.to_owned(), path };
        cluster.output(host, user, &["mkdir", &home.profile()])?;
        Ok(home)
    }

    fn profile(&self) -> String {
        format!("{}/profile", self.path)
    }

    /// Puts an authority where the browser looks: Firefox into the profile, Chromium into the home.
    fn trust(&self, kind: Kind, authority: &str) -> Result<()> {
        let database = match kind {
            Kind::Chromium => format!("{}/.pki/nssdb", self.path),
            Kind::Firefox => self.profile(),
        };
        let words = ["sh", "-c", TRUST, "sh", &database];
        let mut certutil = self.cluster.command(&self.host, &self.user, &words)?;
        let (read, mut write) = std::io::pipe()?;
        write.write_all(authority.as_bytes())?;
        drop(write);
        let output = capture(certutil.stdin(Stdio::from(read)))?;
        if !output.status.success() {
            bail!("certutil: {}: {}", output.status, tail(&output.stderr));
        }
        Ok(())
    }

    /// Whether its user may make the namespaces that Chromium locks its pages into.
    fn has_namespaces(&self) -> Result<bool> {
        let words = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "true"];
        Ok(self.cluster.exec(&self.host, &self.user, &words)?.status.success())
    }
}

impl Drop for Home<'_> {
    fn drop(&mut self) {
        // A host whose power is off has no such directory any more.
        let _ = self.cluster.exec(&self.host, "root", &["rm", "-rf", "--", &self.path]);
    }
}
