//! People who log in with a browser, and what they see: real browsers on the client, real sshd, PAM and Xvnc.
//!
//! What is needed for them beside the rest is installed by `setup::browsers`; `cargo xtask test --no-browser` leaves
//! this module out.

mod admin;
mod desktops;
mod files;
mod gateway;
mod hostile;
mod laboratory;
mod line;
mod npm;
mod openid;
mod provider;
mod sshd;
mod unit;
mod viewer;

use std::io::Cursor;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use xtask::browser::{Browser, Kind, Seat};
use xtask::cluster::web::Factors;
use xtask::cluster::{Cluster, ClusterSpec};
use xtask::npm::AXE;

use crate::pair_of_brokers::Pair;
use crate::service::{BROKER, WAIT, know_hosts};
use crate::{XTASK, on};

/// Runs after axe itself, in the page.
const OBSTACLES: &str = "
    return axe.run().then((found) => found.violations
        .filter((broken) => ['serious', 'critical'].includes(broken.impact))
        .map((broken) => `${broken.id}: ${broken.nodes.map((node) => node.html).join(' ')}`));";
const SITE: &str = "https://tlha/";
/// noVNC's picture.
const PICTURE: &str = "#screen canvas";
/// How often the page has had its desktop.
const CONNECTED: &str = "return window.vsm ? window.vsm.connected : null";
/// How far two colours may be apart in each part: pictures of a desktop may be compressed.
const COLOUR_TOLERANCE: u8 = 8;

/// Where pictures of a test go.
fn artifacts(test: &str) -> PathBuf {
    let target = Path::new(XTASK).parent().and_then(Path::parent).unwrap();
    target.join("artifacts").join(test)
}

/// Alice's browser on the client, which trusts the cluster's authority.
fn open<'a>(cluster: &'a Cluster, kind: Kind, test: &str) -> Browser<'a> {
    let authority = on(cluster, BROKER, &["cat", "/etc/vsm/pki/ca.pem"]);
    let artifacts = artifacts(test);
    let authority = Some(&*authority);
    let seat = Seat { kind, host: "client", user: "alice", authority, artifacts: &artifacts };
    Browser::open(cluster, &seat).unwrap()
}

/// A user's only desktop, by what this broker lists: its session and agent, and the words that run something in it.
fn within(pair: &Pair, node: &str, user: &str) -> (String, String, [String; 3]) {
    let rows = pair.sh(node, "vsmctl session list --output json");
    let rows: Vec<Value> = serde_json::from_str(&rows).unwrap();
    let row = rows.iter().find(|row| row["user"] == user).unwrap();
    let session = row["session"].as_str().unwrap();
    let cookie = format!("XAUTHORITY=/run/vsm/sessions/{session}/user/Xauthority");
    let display = format!("DISPLAY=:{}", row["display"]);
    let agent = row["agent"].as_str().unwrap().to_owned();
    (session.to_owned(), agent, ["env".to_owned(), cookie, display])
}

/// Runs something in a user's only desktop, by what this broker lists; what it prints.
fn run_in(pair: &Pair, node: &str, user: &str, line: &str) -> String {
    let (_, agent, env) = within(pair, node, user);
    let words = env.iter().map(String::as_str).chain(["timeout", "20", "sh", "-c", line]);
    pair.output(&agent, user, &words.collect::<Vec<_>>()).unwrap()
}

/// Paints a user's only desktop.
fn paint(pair: &Pair, user: &str, colour: &str) -> String {
    let (active, _) = pair.in_step();
    run_in(pair, active, user, &format!("xsetroot -solid '{colour}'"));
    within(pair, active, user).0
}

/// A pair with a site for browsers on both nodes, whose desktops run what `script` puts in place.
fn pair(name: &str, agents: u8, factors: Factors, script: &str) -> Pair {
    let mut spec = ClusterSpec::pair(crate::named(name), Path::new(XTASK));
    (spec.fresh, spec.agents, spec.web) = (true, agents, Some(factors));
    let pair = Pair(Cluster::up(&spec).unwrap());
    for number in 1..=agents {
        pair.sh(&format!("agent{number}"), script);
    }
    pair.in_step();
    know_hosts(&pair);
    pair
}

/// Logs in; the page is then the desktop's. What was asked.
fn enter(browser: &Browser<'_>, user: &str) -> Vec<String> {
    browser.go(SITE).unwrap();
    let asked = log_in(browser, user);
    becomes(browser, CONNECTED, &json!(1));
    asked
}

/// Answers one form after the other until there is none; what was asked.
fn log_in(browser: &Browser<'_>, user: &str) -> Vec<String> {
    browser.log_in(user).unwrap()
}

/// Sends the form, and waits for the next page.
fn submit(browser: &Browser<'_>) {
    browser.submit().unwrap();
}

/// What keeps people from using the page, of what axe finds serious: the rule, and the elements that break it.
fn obstacles(browser: &Browser<'_>) -> Vec<String> {
    let axe = std::fs::read_to_string(AXE.unpacked().unwrap().join("axe.min.js")).unwrap();
    let found = browser.execute(&format!("{axe}\n{OBSTACLES}"), &[]).unwrap();
    serde_json::from_value(found).unwrap()
}

/// The colour of an element where it is looked at, in pixels from its upper left corner.
fn colour(browser: &Browser<'_>, css: &str, x: usize, y: usize) -> Result<[u8; 3], String> {
    let image = browser.picture_of(css).map_err(|error| format!("{error:#}"))?;
    let mut reader = png::Decoder::new(Cursor::new(image)).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut bytes).unwrap();
    let samples = frame.color_type.samples();
    assert!(samples >= 3, "{frame:?}");
    if x >= frame.width as usize || y >= frame.height as usize {
        return Err(format!("no pixel {x}, {y} in {frame:?}"));
    }
    let at = y * frame.line_size + x * samples;
    Ok([bytes[at], bytes[at + 1], bytes[at + 2]])
}

/// Waits until an element has a colour there, as the desktop has whose picture it is.
fn shows(browser: &Browser<'_>, css: &str, (x, y): (usize, usize), wanted: [u8; 3]) {
    browser
        .wait(&format!("{css} to be {wanted:?}"), WAIT, |browser| {
            let seen = colour(browser, css, x, y)?;
            let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= COLOUR_TOLERANCE;
            let same = seen.iter().zip(&wanted).all(near);
            if same { Ok(()) } else { Err(format!("{seen:?} at {x}, {y}")) }
        })
        .unwrap();
}

/// What a script in the page returns, once it is what is wanted.
fn becomes(browser: &Browser<'_>, script: &str, wanted: &Value) {
    browser
        .wait(script, WAIT, |browser| {
            let now = browser.execute(script, &[]).map_err(|error| format!("{error:#}"))?;
            if now == *wanted { Ok(()) } else { Err(now.to_string()) }
        })
        .unwrap();
}
