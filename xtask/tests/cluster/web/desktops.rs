//! Desktops in real browsers, served by `vsm-web` on a pair.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::json;
use xtask::browser::{Browser, Kind};
use xtask::cluster::Fault;
use xtask::cluster::web::Factors;
use xtask::pair;

use super::{CONNECTED, PICTURE, SITE, becomes, open, paint, shows, submit};
use crate::pair_of_brokers::Pair;

/// Three session hosts, and logins with password and code.
pub(super) fn pair(name: &str) -> Pair {
    super::pair(name, 3, Factors::PasswordAndCode, pair::BARE_SCRIPT)
}

/// Logs in with password and code; the page is then the desktop's.
pub(super) fn enter(browser: &Browser<'_>, user: &str) {
    let asked = super::enter(browser, user);
    assert_eq!(asked, ["Login name", "Password", "Verification code"]);
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

/// Where users cannot reach session hosts the picture goes through the broker too, by the web key, and ends with it.
#[test]
fn a_desktop_through_the_brokers_outlives_one_of_them_and_ends_with_its_login() {
    let name = "web-bastion";
    let pair = pair(name);
    for node in ["tlha-primary", "tlha-secondary"] {
        pair.sh(node, "vsm-config /vsmserver/bastion=true && vsmctl reload");
    }
    let browser = open(&pair, Kind::Chromium, name);
    enter(&browser, "alice");
    let session = paint(&pair, "alice", "#3050a0");
    shows(&browser, PICTURE, (200, 200), [0x30, 0x50, 0xa0]);
    let (active, standby) = pair.in_step();
    // What leads there stays, as nothing does of a login whose picture comes directly.
    assert_ne!(pair.sh(active, "pgrep -cf '[v]sm-login --web'"), "0");
    pair.inject(Fault::Cable { host: active.to_owned() });
    becomes(&browser, CONNECTED, &json!(2));
    shows(&browser, PICTURE, (200, 200), [0x30, 0x50, 0xa0]);
    pair.heal_all();
    assert_eq!(paint(&pair, "alice", "#a05030"), session, "the same desktop");
    shows(&browser, PICTURE, (200, 200), [0xa0, 0x50, 0x30]);
    pair.sh(standby, "vsmctl web revoke --user alice");
    let error = "return (document.getElementById('error') || {}).innerText || ''";
    becomes(&browser, error, &json!("You are not logged in any more. Please log in again."));
}

#[test]
fn a_desktop_in_firefox_outlives_its_broker() {
    a_desktop_outlives_its_broker(Kind::Firefox, "web-desktop-fx");
}

/// A wrong password, a wrong code, a name that is none; then the right ones, and out again.
#[test]
fn who_logs_out_is_out_and_who_is_wrong_is_never_in() {
    let name = "web-logout";
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
    let old = format!("Cookie: {}={}", kept[0].name(), kept[0].value());
    let words = ["curl", "-sS", "-m", "30", "--cacert", "/etc/vsm/pki/ca.pem", "-H", &old];
    let said = [&words[..], &["-o", "/dev/null", "-w", "%{http_code}", "https://tlha/desktops"]];
    assert_eq!(pair.output("tlha-primary", "root", &said.concat()).unwrap(), "401");

    // Logged out by an administrator: the page says so, and leads to the form.
    enter(&browser, "alice");
    pair.sh("tlha-primary", "vsmctl web revoke --user alice");
    browser.go("https://tlha/desktop").unwrap();
    let error = "return (document.getElementById('error') || {}).innerText || ''";
    becomes(&browser, error, &json!("You are not logged in any more. Please log in again."));
    browser.click("a[href='/login']").unwrap();
    becomes(&browser, "return !!document.getElementById('user')", &json!(true));
}

/// Opens a thousand connections and begins a TLS handshake on none of them, for as long as it lives.
const SILENT: &str = "
import socket, time
all = []
for _ in range(1000):
    one = socket.socket()
    one.connect(('tlha', 443))
    all.append(one)
print('open', flush=True)
time.sleep(600)
";

/// From the very address that the user comes from, too.
#[test]
fn a_thousand_who_say_nothing_keep_nobody_out() {
    let name = "web-silent";
    let pair = pair(name);
    let mut flood = pair.contained("client", "bob", &["python3", "-c", SILENT]).unwrap();
    let mut flood = flood.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(flood.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "open\n");
    let browser = open(&pair, Kind::Chromium, name);
    enter(&browser, "alice");
    paint(&pair, "alice", "#3050a0");
    shows(&browser, PICTURE, (200, 200), [0x30, 0x50, 0xa0]);
    flood.kill().unwrap();
    flood.wait().unwrap();
}

/// What a browser is told with each answer, and what is refused without one.
#[test]
fn pages_of_others_get_nothing() {
    let name = "web-foreign";
    let pair = pair(name);
    let curl = |options: &str| {
        let line = format!(
            "curl -sS -m 20 --cacert /etc/vsm/pki/ca.pem -o /dev/null -D - {options} 2>&1; true"
        );
        pair.sh("tlha-primary", &line).to_lowercase()
    };
    let said = curl("https://tlha/");
    for header in [
        "http/1.1 200",
        "content-security-policy: default-src 'none'",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
        "referrer-policy: same-origin",
        "strict-transport-security: max-age=31536000",
        "cache-control: no-store",
    ] {
        assert!(said.contains(header), "no {header:?} in {said}");
    }
    let post = "--data user=alice https://tlha/login";
    for origin in ["", "-H 'Origin: https://evil.example'", "-H 'Origin: null'"] {
        let said = curl(&format!("{origin} {post}"));
        assert!(said.contains("http/1.1 403"), "{origin}: {said}");
    }
    let own = "-H 'Origin: https://tlha'";
    assert!(curl(&format!("{own} {post}")).contains("http/1.1 200"));
    // A body, a name and headers beyond all bounds; paths out of the viewer's folder.
    let long = "$(head -c 20000 /dev/zero | tr '\\0' a)";
    let large = format!("{own} --data user={long} https://tlha/login");
    assert!(curl(&large).contains("http/1.1 413"));
    // It hangs up on the rest, at times before its answer is read.
    // What comes at once is read at once, and measured when it is found to go on.
    let very = "$(head -c 100000 /dev/zero | tr '\\0' a)";
    let said = curl(&format!("-H X:{very} -H Y:{very} -H Z:{very} https://tlha/"));
    assert!(said.contains("http/1.1 431") || said.contains("curl: ("), "{said}");
    for path in ["novnc/..%2f..%2f..%2fetc%2fpasswd", "novnc/core", "own/none", "%00"] {
        let said = curl(&format!("--path-as-is https://tlha/{path}"));
        assert!(said.contains("http/1.1 404") || said.contains("http/1.1 400"), "{path}: {said}");
    }
    let forged = "-H 'Cookie: __Host-vsm=YWxpY2U.AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'";
    assert!(curl(&format!("{forged} https://tlha/desktops")).contains("http/1.1 401"));

    // What it may do, and see, on the broker.
    let status = pair.sh("tlha-primary", "cat /proc/$(pgrep -x vsm-web)/status");
    assert!(status.contains("\nCapEff:\t0000000000000000\n"), "{status}");
    assert!(status.contains("\nCapPrm:\t0000000000000000\n"), "{status}");
    assert!(!status.contains("\nUid:\t0"), "{status}");
    let as_it = "setpriv --reuid=nobody --regid=nogroup --clear-groups";
    for file in ["/etc/vsm/pki/host.key", "/var/lib/vsm", "/etc/shadow"] {
        let refused = format!("{as_it} cat {file} >/dev/null 2>&1 || echo refused");
        assert_eq!(pair.sh("tlha-primary", &refused).trim(), "refused", "{file}");
    }
}
