//! Desktops in real browsers, served by `vsm-web` on a pair.

use std::path::Path;

use serde_json::{Value, json};
use xtask::browser::{Browser, Kind};
use xtask::cluster::web::Factors;
use xtask::cluster::{Cluster, ClusterSpec, Fault};
use xtask::pair;

use super::{becomes, log_in, open, shows, submit};
use crate::XTASK;
use crate::pair_of_brokers::Pair;
use crate::service::know_hosts;

const SITE: &str = "https://tlha/";
/// noVNC's picture.
const PICTURE: &str = "#screen canvas";
const CONNECTED: &str = "return window.vsm ? window.vsm.connected : null";

/// A pair with a site for browsers on both nodes.
fn pair(name: &str) -> Pair {
    let mut spec = ClusterSpec::pair(crate::named(name), Path::new(XTASK));
    spec.fresh = true;
    spec.agents = 3;
    spec.web = Some(Factors::PasswordAndCode);
    let pair = Pair(Cluster::up(&spec).unwrap());
    for number in 1..=spec.agents {
        pair.sh(&format!("agent{number}"), pair::BARE_SCRIPT);
    }
    pair.in_step();
    know_hosts(&pair);
    pair
}

/// Paints a user's only desktop.
fn paint(pair: &Pair, user: &str, colour: &str) -> String {
    let (active, _) = pair.in_step();
    let rows: Vec<Value> =
        serde_json::from_str(&pair.sh(active, "vsmctl session list --output json")).unwrap();
    let row = rows.iter().find(|row| row["user"] == user).unwrap();
    let session = row["session"].as_str().unwrap();
    let cookie = format!("XAUTHORITY=/run/vsm/sessions/{session}/user/Xauthority");
    let display = format!("DISPLAY=:{}", row["display"]);
    let words = ["env", &cookie, &display, "xsetroot", "-solid", colour];
    pair.output(row["agent"].as_str().unwrap(), user, &words).unwrap();
    session.to_owned()
}

/// Logs in with password and code; the page is then the desktop's.
fn enter(browser: &Browser<'_>, user: &str) {
    browser.go(SITE).unwrap();
    assert_eq!(log_in(browser, user), ["Login name", "Password", "Verification code"]);
    becomes(browser, CONNECTED, &json!(1));
}

fn a_desktop_outlives_its_broker(kind: Kind, name: &str) {
    let pair = pair(name);
    let browser = open(&pair, kind, name);
    enter(&browser, "alice");
    let session = paint(&pair, "alice", "#3050a0");
    shows(&browser, PICTURE, (200, 200), [0x30, 0x50, 0xa0]);
    browser.picture("desktop").unwrap();
    // What a script can see of the login is nothing.
    assert_eq!(browser.execute("return document.cookie", &[]).unwrap(), json!(""));

    let (active, _) = pair.in_step();
    pair.inject(Fault::Cable { host: active.to_owned() });
    becomes(&browser, CONNECTED, &json!(2));
    shows(&browser, PICTURE, (200, 200), [0x30, 0x50, 0xa0]);
    browser.picture("after-the-cable").unwrap();
    let asked = browser.execute("return document.querySelectorAll('form input').length", &[]);
    assert_eq!(asked.unwrap(), json!(0), "nothing is asked");
    assert!(!browser.url().unwrap().ends_with("/login"));
    pair.heal_all();
    assert_eq!(paint(&pair, "alice", "#a05030"), session, "the same desktop");
    shows(&browser, PICTURE, (200, 200), [0xa0, 0x50, 0x30]);
}

#[test]
fn a_desktop_in_chromium_outlives_its_broker() {
    a_desktop_outlives_its_broker(Kind::Chromium, "web-desktop");
}

#[test]
fn a_desktop_in_firefox_outlives_its_broker() {
    a_desktop_outlives_its_broker(Kind::Firefox, "web-desktop-fx");
}

/// A wrong password, a wrong code, a name that is none; then the right ones, and out again.
#[test]
fn who_logs_out_is_out_and_who_is_wrong_is_never_in() {
    let name = "web-out";
    let pair = pair(name);
    let browser = open(&pair, Kind::Chromium, name);
    for (user, password) in [("alice", "wrong"), ("nobody-here", "x"), ("<b>alice</b>", "x")] {
        browser.go(SITE).unwrap();
        browser.fill("#user", user).unwrap();
        submit(&browser);
        while !browser.texts("form input[type=password]").unwrap().is_empty() {
            browser.fill("form input[type=password]", password).unwrap();
            submit(&browser);
        }
        let error = browser.texts("#error").unwrap();
        assert!(error.iter().any(|words| words.contains("not right")), "{user}: {error:?}");
        assert!(browser.cookies().unwrap().is_empty(), "{user}");
    }
    browser.picture("refused").unwrap();

    enter(&browser, "alice");
    let kept = browser.cookies().unwrap();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!((kept[0].http_only(), kept[0].secure()), (Some(true), Some(true)));
    let listed = pair.sh("tlha-primary", "vsmctl web list --output json");
    assert!(listed.contains("alice"), "{listed}");
    browser.execute("document.querySelector('form[action=\"/logout\"]').submit()", &[]).unwrap();
    becomes(&browser, "return !!document.getElementById('user')", &json!(true));
    assert!(browser.cookies().unwrap().is_empty());
    let listed = pair.sh("tlha-primary", "vsmctl web list --output json");
    assert!(!listed.contains("alice"), "{listed}");

    // What was copied before is good no more.
    let mut copied = kept[0].clone();
    // One with such a name has no domain.
    copied.unset_domain();
    browser.set_cookie(copied).unwrap();
    browser.go("https://tlha/desktop").unwrap();
    becomes(&browser, "return !!document.getElementById('user')", &Value::Bool(true));
}
