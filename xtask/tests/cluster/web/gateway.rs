//! `vsm-web` on a host that is no broker: what goes through it is not touched by a broker's death.

use std::process::{Child, Stdio};

use serde_json::json;
use xtask::browser::Kind;
use xtask::clock::wait_for;
use xtask::cluster::Fault;
use xtask::cluster::web::Factors;
use xtask::npm::NOVNC;
use xtask::pair;

use super::{CONNECTED, becomes, log_in, open, shows};
use crate::pair_of_brokers::Pair;
use crate::service::WAIT;

const GATEWAY: &str = "agent3";
const SITE: &str = "https://agent3/";
/// What docs/web.md says of the brokers.
const OPEN: &str = "printf 'ListenAddress 0.0.0.0:5022\\nListenAddress 0.0.0.0:5023\\n' > /etc/vsm/web/sshd_config.d/gateways.conf";
/// And of the gateway.
const SET_UP: &str = "
mkdir -p /etc/vsm/web && cd /etc/vsm/web
install -m 644 ../pki/host.pem cert.pem
install -m 400 -o nobody -g nogroup ../pki/host.key key.pem
ssh-keyscan tlha 2>/dev/null > known_hosts && test -s known_hosts
vsm-config /vsmweb/ssh_host=tlha /vsmweb/known_hosts=/etc/vsm/web/known_hosts";

struct Gateway(Child);

impl Gateway {
    fn start(pair: &Pair) -> Self {
        let words = [
            "/usr/bin/setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "--inh-caps=-all,+net_bind_service",
            "--ambient-caps=+net_bind_service",
            "/usr/bin/vsm-web",
            "--assets=/run/assets",
        ];
        let viewer = NOVNC.unpacked().unwrap();
        let copy = format!("mkdir -p /run/assets && cp -r {} /run/assets/novnc", viewer.display());
        pair.sh(GATEWAY, &copy);
        let mut web = pair.contained(GATEWAY, "root", &words).unwrap();
        let gateway = Self(web.stdin(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap());
        wait_for("the gateway", WAIT, || {
            let asked =
                "curl -sS -m 5 --cacert /etc/vsm/pki/ca.pem https://agent3/health 2>&1; true";
            match pair.sh(GATEWAY, asked) {
                said if said.trim() == "ok" => Ok(()),
                said => Err(said),
            }
        })
        .unwrap();
        gateway
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_desktop_through_a_gateway_does_not_notice_that_a_broker_dies() {
    let name = "web-gateway";
    let pair = super::pair(name, 3, Factors::PasswordAndCode, pair::BARE_SCRIPT);
    for node in pair::NODES {
        pair.sh(node, OPEN);
        pair.stop_daemon(node, "vsm-web-sshd").unwrap();
        pair.start_daemon(node, "vsm-web-sshd").unwrap();
    }
    // No desktop on the gateway itself: what is shown comes over the network.
    pair.sh("tlha-primary", "vsmctl agent drain agent3 --reason gateway");
    pair.sh(GATEWAY, SET_UP);
    let gateway = Gateway::start(&pair);

    let browser = open(&pair, Kind::Chromium, name);
    browser.go(SITE).unwrap();
    assert_eq!(log_in(&browser, "alice"), ["Login name", "Password", "Verification code"]);
    becomes(&browser, CONNECTED, &json!(1));
    super::paint(&pair, "alice", "#3050a0");
    shows(&browser, "#screen canvas", (200, 200), [0x30, 0x50, 0xa0]);

    let (active, _) = pair.in_step();
    pair.inject(Fault::Cable { host: active.to_owned() });
    pair.serves(pair::other(active));
    super::run_in(&pair, pair::other(active), "alice", "xsetroot -solid '#a05030'");
    shows(&browser, "#screen canvas", (200, 200), [0xa0, 0x50, 0x30]);
    assert_eq!(browser.execute(CONNECTED, &[]).unwrap(), json!(1), "it came back");
    browser.picture("after-the-cable").unwrap();
    // A second page finds the other broker by the same login.
    browser.go("https://agent3/desktops").unwrap();
    assert_eq!(browser.texts(".desktops li").unwrap().len(), 1, "{:?}", browser.text());
    pair.heal_all();
    drop(browser);
    drop(gateway);
}
