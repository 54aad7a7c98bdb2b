//! A user's files, beside their desktop in the page.

use serde_json::json;
use xtask::browser::{Browser, Kind};
use xtask::clock::wait_for;
use xtask::pair;

use super::viewer::Site;
use super::{CONNECTED, SITE, becomes, enter, log_in, obstacles, open};
use crate::service::WAIT;

const ENTRIES: &str =
    "return [...document.querySelectorAll('#entries li')].map((row) => row.firstChild.innerText)";
const DOING: &str =
    "return [...document.querySelectorAll('#doing li')].map((row) => row.innerText)";
/// What was told last.
const LATEST: &str = "return document.querySelector('#doing li')?.innerText ?? ''";
const SHOW: &str = "document.getElementById('files-shown').click()";
const HOME: &str = "/home/alice";
/// What is there at first.
const FILES: &str =
    "cd && mkdir -p folder && printf content > 'a file.txt' && ln -sfn folder link && : > .hidden";
/// Fetches a file as its link does: its name there, and the sum of its content.
const FETCH: &str = "
    const fetched = async (name) => {
      const links = [...document.querySelectorAll('#entries a')];
      const answer = await fetch(links.find((it) => it.download === name).href);
      const sum = new Uint8Array(await crypto.subtle.digest('SHA-256', await answer.arrayBuffer()));
      const hex = [...sum].map((byte) => byte.toString(16).padStart(2, '0')).join('');
      return [answer.headers.get('content-disposition'), hex];
    };
    return fetched(arguments[0]);";
const CLICK: &str = "
    const links = [...document.querySelectorAll('#entries a')];
    links.find((it) => it.download === arguments[0]).click();";

/// A file of alice's on the client: its path, and the sum of its content.
fn file(site: &Site, name: &str, bytes: usize) -> (String, String) {
    let path = format!("/tmp/{name}");
    let line = format!("head -c {bytes} /dev/urandom > {path} && sha256sum < {path}");
    let sum = site.pair.output("client", "alice", &["sh", "-c", &line]).unwrap();
    (path, sum.split(' ').next().unwrap().to_owned())
}

/// Waits until a line tells this.
fn told(browser: &Browser<'_>, words: &str) {
    browser
        .wait(words, WAIT, |browser| {
            let seen = browser.execute(DOING, &[]).map_err(|error| error.to_string())?;
            if seen.to_string().contains(words) { Ok(()) } else { Err(seen.to_string()) }
        })
        .unwrap();
}

fn shows_the_home(browser: &Browser<'_>) {
    browser.execute(SHOW, &[]).unwrap();
    browser
        .wait("the home", WAIT, |browser| {
            let seen = browser.execute(ENTRIES, &[]).map_err(|error| error.to_string())?;
            let names: Vec<String> = serde_json::from_value(seen.clone()).unwrap();
            let has = |name: &str| names.iter().any(|seen| seen == name);
            let right = has("folder/") && has("link/") && has("a file.txt") && !has(".hidden");
            if right { Ok(()) } else { Err(seen.to_string()) }
        })
        .unwrap();
    browser.picture("files").unwrap();
    assert_eq!(obstacles(browser), Vec::<String>::new());
}

/// There, whole; a second one of the name only if it is meant; and back.
fn goes_there_and_back(site: &Site, browser: &Browser<'_>, name: &str) {
    let (path, sum) = file(site, name, 3_000_001);
    let sent = json!(format!("{name}: sent"));
    browser.choose_file("#chosen", &path).unwrap();
    becomes(browser, LATEST, &sent);
    let there = format!("sha256sum < {name}; ls -A | grep -c part; stat -c %U {name}; true");
    let there = site.pair.sh("agent1", &format!("cd {HOME} && {there}"));
    assert_eq!(there, format!("{sum}  -\n0\nalice"));
    browser.choose_file("#chosen", &path).unwrap();
    told(browser, "of this name already");
    browser.click("#doing li button").unwrap();
    becomes(browser, LATEST, &sent);

    let fetched = browser.execute(FETCH, &[json!(name)]).unwrap();
    assert_eq!(fetched, json!([format!("attachment; filename*=UTF-8''{name}"), sum]));
    // A click saves it.
    browser.execute(CLICK, &[json!("a file.txt")]).unwrap();
}

/// The address by which this page has asked for its files.
fn address(browser: &Browser<'_>) -> String {
    let asked_for = "
        const all = performance.getEntriesByType('resource').map((it) => it.name);
        return all.find((it) => it.includes('/files/'));";
    browser.execute(asked_for, &[]).unwrap().as_str().unwrap().to_owned()
}

fn cookie(browser: &Browser<'_>) -> String {
    let kept = browser.cookies().unwrap();
    format!("Cookie: {}={}", kept[0].name(), kept[0].value())
}

/// A browser that goes while it sends or is sent a file leaves nothing of it: no part, and nothing open.
fn leaves_nothing_when_it_goes(site: &Site, browser: &Browser<'_>) {
    let list = address(browser);
    let to = |verb: &str, name: &str| {
        let (base, _) = list.split_once("/list?").unwrap();
        format!("{base}/{verb}?path={HOME}/{name}")
    };
    let curl = "timeout 3 curl -sS -o /dev/null --limit-rate 200k --cacert /etc/vsm/pki/ca.pem -H 'Origin: https://tlha'";
    let own = cookie(browser);
    site.pair.sh("tlha-primary", "head -c 30000000 /dev/zero > /tmp/zeros");
    let (put, get) = (to("put", "broken.bin"), to("get", "large.bin"));
    site.pair
        .output("agent1", "alice", &["sh", "-c", "head -c 30000000 /dev/zero > ~/large.bin"])
        .unwrap();
    let gone = format!("{curl} -H '{own}' -T /tmp/zeros '{put}'; test $? = 124");
    site.pair.sh("tlha-primary", &gone);
    let gone = format!("{curl} -H '{own}' '{get}'; test $? = 124");
    site.pair.sh("tlha-primary", &gone);
    for _ in 0..5 {
        let head =
            format!("curl -sS -o /dev/null -I --cacert /etc/vsm/pki/ca.pem -H '{own}' '{get}'");
        site.pair.sh("tlha-primary", &head);
    }
    wait_for("nothing to be left", WAIT, || {
        let open =
            "ls -l $(printf '/proc/%s/fd ' $(pgrep -u alice -x sftp-server)) | grep /home/alice";
        let parts = format!("ls -A {HOME} | grep -E 'broken|part'");
        match site.pair.sh("agent1", &format!("{open}; {parts}; true")) {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        }
    })
    .unwrap();
}

/// Whose login is over has no files any more, and no other login ever had them.
fn are_for_their_login_alone(site: &Site, browser: &Browser<'_>, name: &str) {
    let list = address(browser);
    let asked = |cookie: &str| {
        let fixed = "curl -sS -m 30 --cacert /etc/vsm/pki/ca.pem -o /dev/null -w %{http_code} -H";
        let words: Vec<_> = fixed.split(' ').chain([cookie, &list]).collect();
        site.pair.output("tlha-primary", "root", &words).unwrap()
    };
    let own = cookie(browser);
    assert_eq!(asked(&own), "200");
    assert_eq!(asked("Cookie: x=y"), "401");
    let bob = open(&site.pair, Kind::Chromium, name);
    bob.go(SITE).unwrap();
    log_in(&bob, "bob");
    becomes(&bob, CONNECTED, &json!(1));
    assert_eq!(asked(&cookie(&bob)), "410");
    drop(bob);
    site.pair.sh("tlha-primary", "vsmctl web revoke --user alice");
    wait_for("the files to be gone", WAIT, || match asked(&own) {
        code if code == "410" => Ok(()),
        code => Err(code),
    })
    .unwrap();
    let left = site.pair.sh("agent1", "pgrep -u alice -x sftp-server || true");
    assert_eq!(left.trim(), "", "a server of files is left");
}

fn files(kind: Kind, name: &str) {
    let site = Site::up(name, pair::BARE_SCRIPT);
    site.pair.output("agent1", "alice", &["sh", "-c", FILES]).unwrap();
    let browser = open(&site.pair, kind, name);
    enter(&browser, "alice");
    shows_the_home(&browser);
    goes_there_and_back(&site, &browser, &format!("{name}.bin"));
    leaves_nothing_when_it_goes(&site, &browser);
    are_for_their_login_alone(&site, &browser, name);
}

#[test]
fn files_go_both_ways_with_a_desktop_in_chromium() {
    files(Kind::Chromium, "web-files");
}

#[test]
fn files_go_both_ways_with_a_desktop_in_firefox() {
    files(Kind::Firefox, "web-files-fx");
}

/// Each direction by itself.
#[test]
fn files_go_only_where_the_administrator_lets_them() {
    let name = "web-file-bans";
    let site = Site::up(name, pair::BARE_SCRIPT);
    site.pair.output("agent1", "alice", &["sh", "-c", "printf content > ~/kept.txt"]).unwrap();
    let browser = open(&site.pair, Kind::Chromium, name);
    let (path, _) = file(&site, "from-here.txt", 10);
    enter(&browser, "alice");
    for (to_client, from_client) in [(false, true), (true, false), (false, false)] {
        let set = format!(
            "vsm-config /vsmagent/files_to_client={to_client} /vsmagent/files_from_client={from_client}"
        );
        site.pair.sh("agent1", &format!("{set} && kill -HUP $(pgrep -x vsmagent)"));
        site.pair.sh("agent1", "rm -f ~alice/from-here.txt");
        // What holds for a desktop is what held when it began. At first there is one by the login's page.
        site.pair.exec("client", "alice", &["vsm", "end", "alice@tlha"]).unwrap();
        browser.go("https://tlha/desktop").unwrap();
        becomes(&browser, CONNECTED, &json!(1));
        browser.execute(SHOW, &[]).unwrap();
        if !to_client && !from_client {
            told(&browser, "/vsmagent/files_to_client");
            continue;
        }
        browser.wait_css("#entries a", WAIT).unwrap();
        browser.execute(CLICK, &[json!("kept.txt")]).unwrap();
        if !to_client {
            told(&browser, "kept.txt: You may not do that");
        }
        browser.choose_file("#chosen", &path).unwrap();
        let outcome = if from_client { "sent" } else { "You may not do that" };
        told(&browser, &format!("from-here.txt: {outcome}"));
        let there = site.pair.sh("agent1", "ls -A ~alice | grep -c from-here || true");
        assert_eq!(there.trim() == "1", from_client, "{there}");
    }
}
