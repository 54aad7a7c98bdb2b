//! Lines that are not those of a laboratory: narrow, and with a deep queue.

use serde_json::json;
use xtask::browser::Kind;
use xtask::cluster::web::Factors;
use xtask::pair;

use super::{CONNECTED, enter, open};
use crate::service::WAIT;

const LEVEL: &str = "return window.vsm.quality?.level ?? null";
/// A desktop that never rests.
const BUSY: &str = "printf '#!/bin/sh\\nexec xterm -geometry 150x60+0+0 -e sh -c \"while :; do head -c 3000 /dev/urandom | base64; sleep 0.1; done\"\\n' > /etc/vsm/xsession";
/// What goes to browsers gets 800 kbit/s and a queue of two seconds; nothing else does.
const NARROW: &str = "
nft add table ip narrow
nft 'add chain ip narrow out { type filter hook postrouting priority 0; }'
nft add rule ip narrow out tcp sport 443 meta priority set 1:2
tc qdisc add dev eth0 root handle 1: htb default 1
tc class add dev eth0 parent 1: classid 1:1 htb rate 10gbit quantum 60000
tc class add dev eth0 parent 1: classid 1:2 htb rate 800kbit
tc qdisc add dev eth0 parent 1:2 bfifo limit 200000";
const WIDE: &str = "tc qdisc del dev eth0 root && nft delete table ip narrow";

#[test]
fn on_a_narrow_line_pictures_are_coarser_and_the_desktop_stays() {
    let name = "web-narrow";
    let pair = super::pair(name, 1, Factors::Password, BUSY);
    let browser = open(&pair, Kind::Chromium, name);
    enter(&browser, "alice");
    let level = || browser.execute(LEVEL, &[]).unwrap().as_u64();
    assert_eq!(level(), Some(8), "the best");
    for node in pair::NODES {
        pair.sh(node, NARROW);
    }
    browser
        .wait("coarser pictures", WAIT, |_| match level() {
            Some(level) if level <= 4 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .unwrap();
    browser.picture("narrow").unwrap();
    for node in pair::NODES {
        pair.sh(node, WIDE);
    }
    let low = level().unwrap();
    browser
        .wait("better pictures", WAIT, |_| match level() {
            Some(level) if level > low => Ok(()),
            other => Err(format!("{other:?}, {low} before")),
        })
        .unwrap();
    assert_eq!(browser.execute(CONNECTED, &[]).unwrap(), json!(1), "it was taken for dead");
}
