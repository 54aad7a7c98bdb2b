//! Clients that are no browsers: garbage, too much, too slowly, too many. Others do not notice.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use xtask::browser::Kind;
use xtask::clock::wait_for;
use xtask::cluster::web::Factors;
use xtask::pair;

use super::{CONNECTED, enter, open, paint, shows};
use crate::service::WAIT;

/// Resident memory of vsm-web, in KiB.
const RESIDENT: &str =
    "sed -n 's/^VmRSS:[[:space:]]*\\([0-9]*\\) kB/\\1/p' /proc/$(pgrep -x vsm-web)/status";
/// Connections to it that the kernel has.
const OPEN: &str = "ss -Htn state established '( sport = :443 )' | wc -l";

#[test]
fn clients_that_are_no_browsers_get_nothing_and_disturb_nobody() {
    let name = "web-hostile";
    let pair = super::pair(name, 3, Factors::Password, pair::BARE_SCRIPT);
    let (active, _) = pair.in_step();
    let browser = open(&pair, Kind::Chromium, name);
    enter(&browser, "alice");
    let number = |line: &str| pair.sh(active, line).trim().parse::<u64>().unwrap();
    let before = number(RESIDENT);

    let words = ["python3", "-c", include_str!("hostile.py"), "/etc/vsm/pki/ca.pem"];
    // From another host than alice's, since the share of an address is what bounds it.
    let mut hostile = pair.contained("agent3", "root", &words).unwrap();
    let mut hostile = hostile.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let said: Vec<Value> = BufReader::new(hostile.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .take(7)
        .collect();
    let of = |what: &str| {
        said.iter().find(|it| it["what"] == what).unwrap_or_else(|| panic!("{what}: {said:?}"))
    };
    assert_eq!(of("plain")["said"], true, "{said:?}");
    for what in ["garbage", "http2"] {
        assert_eq!(of(what)["refused"], true, "{said:?}");
    }
    // 20 s, and what a busy machine adds.
    assert!(of("slow headers")["seconds"].as_u64().unwrap() < 50, "{said:?}");
    for what in ["announced", "chunked"] {
        assert!(of(what)["mib"].as_u64().unwrap() < 32, "{said:?}");
    }
    // What one address has of all of them, and alice's few, once those that the kernel holds have been taken.
    wait_for("few connections", WAIT, || match number(OPEN) {
        open if open <= 560 => Ok(()),
        open => Err(format!("{open} of {said:?}")),
    })
    .unwrap();
    let after = number(RESIDENT);
    assert!(after < before + (64 << 10), "{before} KiB, then {after} KiB");

    // Alice goes on, and bob comes.
    assert_eq!(browser.execute(CONNECTED, &[]).unwrap(), json!(1), "she was disturbed");
    paint(&pair, "alice", "#3050a0");
    shows(&browser, "#screen canvas", (200, 200), [0x30, 0x50, 0xa0]);
    browser.go("https://tlha/desktops").unwrap();
    assert_eq!(browser.texts(".desktops li").unwrap().len(), 1);
    drop(hostile.stdin.take());
    hostile.wait().unwrap();
}
