//! Certificates that run out in 90 seconds, and logins all the while: nobody notices a renewal, nor that a host is
//! revoked on which they have no desktop.
//!
//! Two minutes unless `VSM_TEST_MINUTES` says otherwise; that is for `cargo test`, as nextest ends what takes long.

use std::time::Duration;

use xtask::clock::{now, wait_for};
use xtask::pair;

use crate::pair_of_brokers::{Pair, WAIT};

const AGENTS: [&str; 3] = ["agent1", "agent2", "agent3"];
/// Renewed at two thirds of it.
const LIFE_S: u64 = 90;

fn minutes() -> u64 {
    std::env::var("VSM_TEST_MINUTES").map_or(2, |text| text.parse().unwrap())
}

/// How often an agent has renewed its certificate.
fn renewals(pair: &Pair, agent: &str) -> u64 {
    let log = pair.daemon_log(agent, "vsmagent");
    log.matches("this host's certificate is renewed").count().try_into().unwrap()
}

/// Logs in at once or not at all, and on every other round ends the desktop.
fn round(pair: &Pair, user: &str, number: u64) {
    let desktop = pair::login(&pair.0, user, 0).unwrap();
    assert!(AGENTS.contains(&desktop.agent.as_str()), "{desktop:?}");
    if number.is_multiple_of(2) {
        let end = ["vsm", "end", &format!("{user}@tlha")];
        pair.output("client", user, &end).unwrap();
    }
}

fn is_out(pair: &Pair, node: &str, agent: &str) {
    wait_for(&format!("{agent} to be out"), WAIT, || {
        let list = pair.sh(node, "vsmctl agent list");
        let line = list.lines().find(|line| line.starts_with(agent)).unwrap_or_default();
        if line.contains(" down ") && line.contains("revoked") { Ok(()) } else { Err(list) }
    })
    .unwrap();
}

#[test]
fn nobody_notices_that_certificates_run_out_every_other_minute() {
    let pair = Pair::up("short-lives");
    let (active, standby) = pair.in_step();
    for node in [active, standby] {
        let life = format!("/vsmserver/agent_certificate_life={LIFE_S}");
        pair.sh(node, &format!("vsm-config {life} && vsmctl reload"));
    }
    let up = |agent: &str| {
        wait_for(&format!("{agent} to be up"), WAIT, || {
            let list = pair.sh(active, "vsmctl agent list");
            let is_up = |line: &str| line.starts_with(agent) && line.contains(" up ");
            if list.lines().any(is_up) { Ok(()) } else { Err(list) }
        })
        .unwrap();
    };
    for agent in AGENTS {
        // Which certificate it shows is known by then, and that the new one takes its place.
        up(agent);
        let command = pair.sh(active, &format!("vsmctl agent enrol {agent} | grep -o 'echo .*'"));
        pair.sh(agent, &command);
        pair.restart_daemon(agent, "vsmagent").unwrap();
    }
    pair.in_step();
    for agent in AGENTS {
        up(agent);
    }
    // Whose host it is that is revoked.
    let alice = pair.login("alice");
    let others: Vec<_> = AGENTS.into_iter().filter(|agent| *agent != alice.agent).collect();
    let (began, all) = (now(), Duration::from_secs(60 * minutes()));
    let mut number = 0;
    let mut revoked = false;
    while began.elapsed() < all {
        for user in ["bob", "carol"] {
            round(&pair, user, number);
        }
        number += 1;
        if !revoked && began.elapsed() > all / 2 {
            // Bob and Carol are elsewhere, or have none.
            for user in ["bob", "carol"] {
                let _ =
                    pair.exec("client", user, &["vsm", "end", &format!("{user}@tlha")]).unwrap();
            }
            pair.sh(active, &format!("vsmctl pki revoke agent/{} -y", alice.agent));
            for node in [active, standby] {
                is_out(&pair, node, &alice.agent);
            }
            // Later, when her desktop does not count any more, she may have another one.
            let connect = ["vsm", "connect", "--no-viewer", "--retry-for=0", "alice@tlha"];
            let out = pair.exec("client", "alice", &connect).unwrap();
            assert!(!out.status.success(), "her host is out");
            revoked = true;
        }
    }
    assert!(revoked && number > 10, "{number} rounds");
    // At two thirds each time, with a little for a slow machine.
    let least = 60 * minutes() / LIFE_S;
    for agent in &others {
        let count = renewals(&pair, agent);
        assert!(count >= least.max(1), "{agent} has renewed {count} times of {least}");
        up(agent);
    }
    for node in [active, standby] {
        is_out(&pair, node, &alice.agent);
    }
}
