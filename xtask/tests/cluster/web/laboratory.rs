//! The laboratory itself: a browser on a host in miniature does what a person would, says what went wrong, and leaves
//! nothing behind.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::json;
use xtask::browser::{Browser, Kind, Seat};
use xtask::cluster::Cluster;

use super::{artifacts, becomes, colour, log_in, obstacles, open, shows, submit};
use crate::cluster;
use crate::service::{BROKER, WAIT};

/// A web site at tlha, whose certificate the cluster's authority has signed.
struct Site(Child);

impl Site {
    fn up(cluster: &Cluster) -> Self {
        let words = ["python3", "-c", include_str!("page.py")];
        let mut python = cluster.contained(BROKER, "root", &words).unwrap();
        let site = Self(python.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        let listens = "until ss -ltn | grep -q ':443 '; do sleep 0.05; done";
        cluster.output(BROKER, "root", &["timeout", "20", "sh", "-c", listens]).unwrap();
        site
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is left of browsers on the client.
fn left(cluster: &Cluster) -> String {
    let look = "ls -d /tmp/browser.* /tmp/.org.chromium.* 2>/dev/null; pgrep -a 'chrom|firefox|gecko'; true";
    cluster.output("client", "root", &["sh", "-c", look]).unwrap()
}

fn a_person_at_a_browser(kind: Kind, name: &str) {
    let cluster = cluster(name);
    let _site = Site::up(&cluster);
    let browser = open(&cluster, kind, name);
    browser.go("https://tlha/").unwrap();
    assert_eq!(browser.title().unwrap(), "User");
    browser.fill("input[name=answer]", "alice").unwrap();
    submit(&browser);
    assert_eq!(log_in(&browser, "alice"), ["Password:", "Verification code:"]);
    assert_eq!(browser.url().unwrap(), "https://tlha/");
    let cookies = browser.cookies().unwrap();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert_eq!((cookies[0].name(), cookies[0].http_only()), ("__Host-lab", Some(true)));
    assert_eq!(browser.execute("return document.cookie", &[]).unwrap(), json!(""));
    shows(&browser, "canvas", (100, 50), [0x30, 0x50, 0xa0]);
    browser.click_at("canvas", 20, 30).unwrap();
    becomes(&browser, "return window.clicked", &json!([20, 30]));
    browser.keys("ab\n").unwrap();
    shows(&browser, "canvas", (100, 50), [0xa0, 0x50, 0x30]);
    assert!(browser.picture("typed").unwrap().metadata().unwrap().len() > 1000);
    browser.resize(600, 400).unwrap();
    browser.reload().unwrap();
    assert_eq!(
        browser.execute("return [innerWidth, innerHeight]", &[]).unwrap(),
        json!([600, 400])
    );
    // A telephone's width, which no window of Firefox has.
    let telephone = browser.resize(360, 640);
    assert_eq!(telephone.is_ok(), kind == Kind::Chromium, "{telephone:?}");
    finds_obstacles(&browser);
    tells_what_went_wrong(&browser, name);
    assert_ne!(left(&cluster), "", "nothing is found of a browser that runs");
    drop(browser);
    assert_eq!(left(&cluster), "");
}

fn finds_obstacles(browser: &Browser<'_>) {
    let before = obstacles(browser);
    assert!(before.iter().all(|found| !found.starts_with("image-alt")), "{before:?}");
    browser.execute("document.body.append(new Image())", &[]).unwrap();
    let after = obstacles(browser);
    assert!(after.contains(&"image-alt: <img>".to_owned()), "{after:?}");
}

/// The error of a wait that is over has the reason, the page's words, and a picture.
fn tells_what_went_wrong(browser: &Browser<'_>, name: &str) {
    browser.execute("document.body.append('words on the page')", &[]).unwrap();
    let error = browser.wait_css("#never", Duration::from_millis(200)).unwrap_err();
    let error = format!("{error:#}");
    let picture = artifacts(name).join("failed--never.png");
    for part in ["there is none", "words on the page", "https://tlha/", picture.to_str().unwrap()] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    assert!(picture.is_file());
    assert!(colour(browser, "canvas", 5000, 1).is_err());
    assert!(browser.click("#never").is_err());
}

#[test]
fn chromium_is_used_as_by_a_person() {
    a_person_at_a_browser(Kind::Chromium, "web-chromium");
}

#[test]
fn firefox_is_used_as_by_a_person() {
    a_person_at_a_browser(Kind::Firefox, "web-firefox");
}

/// Trust comes from the authority that was given, and from nothing else; a browser that was killed leaves nothing.
#[test]
fn a_browser_without_the_authority_refuses_the_site() {
    let cluster = cluster("web-untrusted");
    let _site = Site::up(&cluster);
    let artifacts = artifacts("web-untrusted");
    for (kind, word) in [(Kind::Chromium, "AUTHORITY_INVALID"), (Kind::Firefox, "insecure")] {
        let (host, user) = ("client", "alice");
        let seat = Seat { kind, host, user, authority: None, artifacts: &artifacts };
        let browser = Browser::open(&cluster, &seat).unwrap();
        assert_eq!(browser.kind(), kind);
        let error = format!("{:#}", browser.go("https://tlha/").unwrap_err()).to_lowercase();
        assert!(error.contains(&word.to_lowercase()), "{error}");
        cluster.output(host, "root", &["pkill", "-KILL", "chromedriver|geckodriver"]).unwrap();
        assert!(browser.go("https://tlha/").is_err());
        drop(browser);
        xtask::clock::wait_for("the client to be clean", WAIT, || match &*left(&cluster) {
            "" => Ok(()),
            left => Err(left.to_owned()),
        })
        .unwrap();
    }
}
