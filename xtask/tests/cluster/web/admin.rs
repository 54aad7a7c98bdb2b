//! The pages for administrators in a real browser: what one sees and does there, that they are asked again before a
//! change once their login is old, and that nobody else gets anything.

use std::process::Stdio;

use serde_json::{Value, json};
use xtask::browser::{Browser, Kind};
use xtask::cluster::Fault;
use xtask::cluster::web::{PASSWORD, code};
use xtask::pair::NODES;

use super::desktops::{enter, pair};
use super::{becomes, obstacles, open, submit};
use crate::pair_of_brokers::Pair;
use crate::service::WAIT;

/// All pages, with the name of their pictures.
const PAGES: [(&str, &str); 15] = [
    ("overview", ""),
    ("sessions", "sessions"),
    ("agents", "agents"),
    ("agent", "agent?name=agent1"),
    ("explain", "explain?user=bob"),
    ("capacity", "capacity"),
    ("events", "events"),
    ("logins", "logins"),
    ("identities", "identities"),
    ("configuration", "configuration?q=vsmweb"),
    ("pair", "ha"),
    ("check", "check"),
    ("drain", "do/drain?agent=agent2&reason=new+kernel&until=2h"),
    ("enrol", "do/enrol"),
    ("take-over", "do/take-over"),
];
/// A page is this wide at least at 400 % of 1280 pixels, and on a telephone.
const NARROW: (u32, u32) = (320, 640);
const WIDE: (u32, u32) = (1280, 900);
const ERROR: &str = "return (document.getElementById('error') || {}).innerText || ''";
/// Whether all of a page is within its window.
const FITS: &str = "return document.documentElement.scrollWidth <= innerWidth";

fn go(browser: &Browser<'_>, path: &str) {
    browser.go(&format!("https://tlha/admin/{path}")).unwrap();
}

fn has(browser: &Browser<'_>, text: &str) {
    browser
        .wait(text, WAIT, |browser| {
            let page = browser.text().map_err(|error| format!("{error:#}"))?;
            if page.contains(text) { Ok(()) } else { Err(page) }
        })
        .unwrap();
}

fn administrator(pair: &Pair, user: &str) {
    for node in NODES {
        pair.sh(node, &format!("usermod -aG vsmadmin {user}"));
    }
}

/// How long a login is good for changes.
fn lifetime(pair: &Pair, life: &str) {
    for node in NODES {
        pair.sh(node, &format!("vsm-config /vsmweb/admin_lifetime={life} && vsmctl reload"));
    }
}

fn agent(pair: &Pair, name: &str) -> Value {
    let (active, _) = pair.in_step();
    let all: Vec<Value> =
        serde_json::from_str(&pair.sh(active, "vsmctl agent list --output json")).unwrap();
    all.into_iter().find(|agent| agent["agent"] == name).unwrap()
}

/// Answers the forms that stand before a change; what was asked.
fn log_in_again(browser: &Browser<'_>) -> Vec<String> {
    let is_asked =
        "return document.querySelector('form[action=\"/admin/again\"] label')?.innerText || ''";
    let mut asked = Vec::new();
    loop {
        let question = browser.execute(is_asked, &[]).unwrap();
        let question = question.as_str().unwrap().to_owned();
        if question.is_empty() {
            return asked;
        }
        let answer =
            if question.contains("assword") { PASSWORD.to_owned() } else { code().unwrap() };
        browser.fill("form input[name=answer]", &answer).unwrap();
        asked.push(question);
        submit(browser);
    }
}

/// Has the page look as it does where people like it dark.
const DARK: &str = "
    return fetch('/own/admin.css').then((answer) => answer.text()).then((text) => {
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(text.replaceAll('(prefers-color-scheme: dark)', 'all'));
        document.adoptedStyleSheets = [sheet];
        document.documentElement.style.colorScheme = 'dark';
        return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    });";

/// Each page can be used by everybody, is as wide as its window, and is looked at in a picture.
fn all_pages(browser: &Browser<'_>) {
    for (name, path) in PAGES {
        browser.resize(WIDE.0, WIDE.1).unwrap();
        go(browser, path);
        assert_eq!(browser.execute(ERROR, &[]).unwrap(), json!(""), "{name}");
        assert!(browser.text().unwrap().contains("vsmctl"), "{name}: the command line");
        assert_eq!(obstacles(browser), [""; 0], "{name}");
        browser.picture(name).unwrap();
        browser.execute(DARK, &[]).unwrap();
        assert_eq!(obstacles(browser), [""; 0], "{name}, dark");
        browser.picture(&format!("{name}-dark")).unwrap();
        browser.resize(NARROW.0, NARROW.1).unwrap();
        assert_eq!(browser.execute(FITS, &[]).unwrap(), json!(true), "{name}");
        browser.picture(&format!("{name}-narrow")).unwrap();
    }
    browser.resize(WIDE.0, WIDE.1).unwrap();
}

#[test]
fn an_administrator_works_in_the_browser_and_is_asked_again() {
    let name = "web-admin";
    let pair = pair(name);
    administrator(&pair, "alice");
    let bobs = pair.login("bob").session;
    let browser = open(&pair, Kind::Chromium, name);
    enter(&browser, "alice");
    browser.go("https://tlha/desktops").unwrap();
    browser.click("a[href='/admin/']").unwrap();
    has(&browser, "tlha-secondary");
    all_pages(&browser);

    // What changes elsewhere is seen without a reload.
    go(&browser, "agents");
    let (active, _) = pair.in_step();
    pair.sh(active, "vsmctl agent drain agent3 --reason elsewhere");
    has(&browser, "elsewhere");
    pair.sh(active, "vsmctl agent undrain agent3");

    // A drain, and the end of somebody's session.
    go(&browser, "do/drain?agent=agent1");
    browser.fill("#f-reason", "a new kernel").unwrap();
    submit(&browser);
    has(&browser, "agent1 takes no new sessions.");
    assert_eq!(agent(&pair, "agent1")["drain"]["by"], "alice");
    go(&browser, "sessions?user=bob");
    browser.click(&format!("input[value='{bobs}']")).unwrap();
    browser.click("button[formaction='/admin/do/end']").unwrap();
    becomes(&browser, "return location.pathname", &json!("/admin/do/end"));
    submit(&browser);
    has(&browser, "ended");
    let left = pair.sh(active, "vsmctl session list --user bob --output json");
    assert_eq!(left.trim(), "[]");

    // It is in the trail under her own name.
    go(&browser, "events?q=alice");
    let events = browser.text().unwrap();
    for word in ["agent-drained", "a new kernel", "session-terminated"] {
        assert!(events.contains(word), "{word}: {events}");
    }
    let exported = "return fetch('/admin/events.jsonl?q=kernel').then((answer) => answer.text())";
    let exported = browser.execute(exported, &[]).unwrap();
    let lines: Vec<Value> = exported
        .as_str()
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["actor"], &lines[0]["agent"]), (&json!("alice"), &json!("agent1")));

    // What is not understood comes back with what was typed.
    go(&browser, "do/drain?agent=agent2&until=tomorrow&reason=why");
    submit(&browser);
    assert!(browser.texts("#error").unwrap()[0].contains("tomorrow"));
    becomes(&browser, "return document.getElementById('f-reason').value", &json!("why"));
    the_nodes_differ(&pair, &browser);
    a_node_is_cut_off(&pair, &browser);
    asked_again(&pair, &browser);
}

/// A parameter on which the nodes differ is seen, and gets the value of the node that serves.
fn the_nodes_differ(pair: &Pair, browser: &Browser<'_>) {
    let (active, standby) = pair.in_step();
    pair.sh(active, "vsm-config '/vsmweb/title=Desktops of the site' && vsmctl reload");
    go(browser, "configuration?q=vsmweb/title");
    has(browser, "the nodes differ");
    assert_eq!(obstacles(browser), [""; 0]);
    browser.picture("differs").unwrap();
    browser.click("a[href^='/admin/do/push']").unwrap();
    becomes(browser, "return location.pathname", &json!("/admin/do/push"));
    submit(browser);
    has(browser, "Done.");
    let there = pair.sh(standby, "vsm-config /vsmweb/title");
    assert!(there.contains("Desktops of the site"), "{there}");
    // In the browser's language.
    let german = "return fetch('/admin/', { headers: { 'Accept-Language': 'de' } }).then((answer) => answer.text())";
    let german = browser.execute(german, &[]).unwrap();
    let german = german.as_str().unwrap();
    assert!(german.contains("lang=\"de\"") && german.contains("in Bereitschaft"), "{german}");
}

/// The picture shows by itself that a node cannot be asked, and what is to do.
fn a_node_is_cut_off(pair: &Pair, browser: &Browser<'_>) {
    let (_, standby) = pair.in_step();
    go(browser, "");
    pair.inject(Fault::Cable { host: standby.to_owned() });
    has(browser, &format!("{standby} cannot be asked"));
    has(browser, "not in touch");
    assert_eq!(obstacles(browser), [""; 0]);
    browser.picture("cut-off").unwrap();
    pair.heal_all();
    becomes(browser, "return document.querySelectorAll('.node.good').length", &json!(2));
}

/// Once the login is old each change is asked for: with the second factor, and then as it was.
fn asked_again(pair: &Pair, browser: &Browser<'_>) {
    lifetime(pair, "20s");
    let before = browser.cookies().unwrap().remove(0).value().to_owned();
    go(browser, "do/undrain?agent=agent1");
    browser
        .wait("the login to be old", WAIT, |browser| {
            browser.reload().map_err(|error| format!("{error:#}"))?;
            let text = browser.text().map_err(|error| format!("{error:#}"))?;
            if text.contains("log in again first") { Ok(()) } else { Err(text) }
        })
        .unwrap();
    browser.picture("before-asked").unwrap();
    submit(browser);
    has(browser, "Log in again");
    assert_eq!(obstacles(browser), [""; 0]);
    browser.picture("asked").unwrap();
    assert_eq!(log_in_again(browser), ["Password", "Verification code"]);
    assert!(browser.url().unwrap().ends_with("/admin/do/undrain?agent=agent1"));
    assert!(agent(pair, "agent1")["drain"].is_object(), "nothing is done by itself");
    submit(browser);
    has(browser, "agent1 takes new sessions again.");
    assert!(agent(pair, "agent1")["drain"].is_null());
    let after = browser.cookies().unwrap().remove(0).value().to_owned();
    assert_ne!(before, after);
    let (active, _) = pair.in_step();
    let logins: Vec<Value> =
        serde_json::from_str(&pair.sh(active, "vsmctl web list --output json")).unwrap();
    assert_eq!(logins.len(), 1, "the new login replaces the old one: {logins:?}");
    by_plain_ssh(pair, active, &after);
}

/// Makes the private key of ssh's from the seed in a cookie.
const KEY: &str = r"
import base64, struct, subprocess, sys
decode = lambda text: base64.urlsafe_b64decode(text + '=' * (-len(text) % 4))
seed = decode(sys.argv[1].split('.')[2])
der = bytes.fromhex('302e020100300506032b657004220420') + seed
public = subprocess.run(['openssl', 'pkey', '-inform', 'DER', '-pubout', '-outform', 'DER'],
                        input=der, capture_output=True, check=True).stdout[-32:]
text = lambda data: struct.pack('>I', len(data)) + data
kind = text(b'ssh-ed25519')
private = b'\0' * 8 + kind + text(public) + text(seed + public) + text(b'')
private += bytes(range(1, 1 + -len(private) % 8))
whole = b'openssh-key-v1\0' + text(b'none') * 2 + text(b'') + struct.pack('>I', 1)
whole += text(kind + text(public)) + text(private)
print('-----BEGIN OPENSSH PRIVATE KEY-----')
print(base64.encodebytes(whole).decode(), end='')
print('-----END OPENSSH PRIVATE KEY-----')
";
/// A socket behind which the broker's one for administrators is, by ssh with that key.
const WAY: &str = r"
import os, socket, subprocess, sys, threading
server = socket.socket(socket.AF_UNIX)
server.bind('/tmp/way.sock')
server.listen()
def serve(one):
    ssh = subprocess.Popen(['ssh', '-F', 'none', '-i', '/tmp/key.web', '-o', 'BatchMode=yes',
        '-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR',
        '-p', '5023', '-s', 'alice@127.0.0.1', 'vsm'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    ssh.stdin.write(b'vsm/1 admin\n')
    line = b''
    while not line.endswith(b'\n'):
        byte = ssh.stdout.read(1)
        if not byte: return one.close()
        line += byte
    if line != b'ok\n': return one.close()
    def up():
        while data := one.recv(65536): ssh.stdin.write(data)
        ssh.stdin.close()
    threading.Thread(target=up, daemon=True).start()
    while data := ssh.stdout.read(65536): one.sendall(data)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
";

/// Whoever has the cookie and no password looks, and changes nothing, whatever they speak to the broker with.
fn by_plain_ssh(pair: &Pair, node: &str, cookie: &str) {
    let made = ["python3", "-c", KEY, cookie];
    let key = pair.output(node, "root", &made).unwrap();
    let write = format!("umask 077; cat > /tmp/key.web <<'END'\n{key}\nEND");
    pair.sh(node, &write);
    let mut way = pair.contained(node, "root", &["python3", "-c", WAY]).unwrap();
    let mut way = way.stderr(Stdio::null()).spawn().unwrap();
    let vsmctl = |words: &str| {
        let line = format!("timeout 30 vsmctl --socket /tmp/way.sock {words} 2>&1; true");
        pair.sh(node, &line)
    };
    xtask::clock::wait_for("the login to be old", WAIT, || {
        // A change that changes nothing.
        let said = vsmctl("reload");
        if said.contains("log in again") { Ok(()) } else { Err(said) }
    })
    .unwrap();
    let listed = vsmctl("agent list");
    assert!(listed.contains("agent2") && !listed.contains("draining"), "{listed}");
    for words in [
        "agent drain agent2",
        "agent forget agent2 --assume-yes",
        "session terminate --all --assume-yes",
        "notify --all hello",
        "web revoke --user alice",
        "agent enrol agent9",
        "pki revoke agent/agent2 --assume-yes",
        "ha takeover",
        "ha demote",
    ] {
        let said = vsmctl(words);
        assert!(said.contains("log in again"), "{words}: {said}");
    }
    let refused = pair.sh(node, "vsmctl events --last 50");
    assert!(refused.contains("access-refused"), "{refused}");
    way.kill().unwrap();
    way.wait().unwrap();
}

/// Whoever is not in the group gets nothing, neither by a page nor by ssh.
#[test]
fn who_is_no_administrator_gets_nothing() {
    let name = "web-no-admin";
    let pair = pair(name);
    let browser = open(&pair, Kind::Chromium, name);
    enter(&browser, "bob");
    browser.go("https://tlha/desktops").unwrap();
    let link = "return document.querySelectorAll('a[href^=\"/admin\"]').length";
    assert_eq!(browser.execute(link, &[]).unwrap(), json!(0));
    let pages = ["", "sessions", "events", "do/drain?agent=agent1", "do/take-over"];
    for path in pages {
        go(&browser, path);
        let text = browser.text().unwrap();
        assert!(text.contains("These pages are for administrators."), "{path}: {text}");
        assert!(!text.contains("agent1") && !text.contains("tlha-secondary"), "{path}: {text}");
    }
    browser.picture("no-administrator").unwrap();
    let status = "
        const form = new URLSearchParams({ agent: 'agent1' });
        return Promise.all([
            fetch('/admin/do/drain', { method: 'POST', body: form }),
            fetch('/admin/live/sessions'), fetch('/admin/events.jsonl'), fetch('/admin/nothing'),
        ]).then((all) => all.map((answer) => answer.status));";
    assert_eq!(browser.execute(status, &[]).unwrap(), json!([403, 403, 403, 404]));
    let asked = "printf 'vsm/1 admin\\n' | vsm-login; true";
    let said = pair.output("tlha-primary", "bob", &["sh", "-c", asked]).unwrap();
    assert!(said.starts_with("error refused"), "{said}");
    assert!(agent(&pair, "agent1")["drain"].is_null());
}
