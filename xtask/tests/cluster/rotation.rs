//! A new authority takes the place of the old one on real hosts while users log in, and the way without the old key.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use xtask::clock::wait_for;
use xtask::pair::{self, NODES};

use crate::pair_of_brokers::{Pair, WAIT};

/// Where a host sees its own folder, and where the authority is on the first broker.
const HERE: &str = "/run/host";
const CA: &str = "/run/host/ca";
/// The host of the authority.
const HOME: &str = NODES[0];
const SIGHUP: i32 = 1;

/// A pair whose authority is on a broker's host.
struct Site {
    pair: Pair,
    dir: PathBuf,
}

impl Site {
    fn up(name: &str, agents: u8) -> Self {
        let site = Self {
            pair: Pair::with_agents(name, agents),
            dir: PathBuf::from(format!("/run/vsm-cluster/{}", crate::named(name))),
        };
        let to = site.folder(HOME).join("ca");
        fs::create_dir(&to).unwrap();
        for file in ["ca.pem", "ca.key"] {
            fs::copy(site.dir.join("pki").join(file), to.join(file)).unwrap();
        }
        site
    }

    /// A host's own folder, from outside.
    fn folder(&self, host: &str) -> PathBuf {
        self.dir.join("hosts").join(host)
    }

    fn ca(&self, words: &str) -> String {
        self.pair.sh(HOME, &format!("vsmctl pki {words} --dir {CA}"))
    }

    /// What a command says that is refused.
    fn refused(&self, words: &str) -> String {
        let line = format!("vsmctl pki {words}");
        let there = self.pair.exec(HOME, "root", &["sh", "-c", &line]).unwrap();
        assert_eq!(there.status.code(), Some(1), "{line}: {there:?}");
        String::from_utf8_lossy(&[there.stdout, there.stderr].concat()).into_owned()
    }

    /// Gives a host files that were made on the authority's host.
    fn give(&self, host: &str, from: &str, files: &[&str]) {
        let to = self.folder(host).join("given");
        fs::create_dir_all(&to).unwrap();
        for file in files {
            fs::copy(self.folder(HOME).join(from).join(file), to.join(file)).unwrap();
            self.pair.sh(host, &format!("cp {HERE}/given/{file} /etc/vsm/pki/{file}"));
        }
        let daemon = if NODES.contains(&host) { "vsmserver" } else { "vsmagent" };
        if NODES.contains(&host) {
            self.pair.sh(host, "chmod 600 /etc/vsm/pki/*.key; vsmctl reload");
        } else {
            self.pair.sh(host, "chmod 600 /etc/vsm/pki/*.key");
            self.pair.kill_daemon(host, daemon, SIGHUP).unwrap();
        }
    }

    /// Gives a broker a certificate and an issuer of the authority that signs now.
    fn renew_broker(&self, node: &str) {
        let addresses = "--address tlha --address tlha-primary --address tlha-secondary";
        self.ca(&format!("issue {node} --role broker {addresses} --out {HERE}/out-{node}"));
        self.ca(&format!("issuer {node} --out {HERE}/out-{node}"));
        let files = ["ca.pem", "host.key", "host.pem", "issuer.key", "issuer.pem"];
        self.give(node, &format!("out-{node}"), &files);
    }

    /// Has a host get its certificate by an invitation.
    fn enrol(&self, agent: &str) {
        let (active, _) = self.pair.in_step();
        let words = ["vsmctl", "agent", "enrol", agent, "--output", "json"];
        let text = self.pair.output(active, "root", &words).unwrap();
        let invited: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(invited["replaces"], true, "it has one already");
        self.pair.sh(agent, invited["command"].as_str().unwrap());
        self.pair.restart_daemon(agent, "vsmagent").unwrap();
        self.is_up(agent);
    }

    fn is_up(&self, agent: &str) {
        wait_for(&format!("{agent} to be up"), WAIT, || {
            let (active, _) = self.pair.in_step();
            let list = self.pair.sh(active, "vsmctl agent list --output json");
            let list: Value = serde_json::from_str(&list).unwrap();
            let row = list.as_array().unwrap().iter().find(|row| row["agent"] == agent);
            match row {
                Some(row) if row["state"] == "up" => Ok(()),
                row => Err(format!("{row:?}")),
            }
        })
        .unwrap();
    }

    /// Authorities that a host trusts.
    fn trusts(&self, host: &str) -> usize {
        let count = self.pair.sh(host, "grep -c BEGIN /etc/vsm/pki/ca.pem");
        count.trim().parse().unwrap()
    }

    /// Who is not there yet.
    fn behind(&self) -> Vec<String> {
        let status = self.ca("rotate status --output json");
        let status: Value = serde_json::from_str(&status).unwrap();
        let hosts = status["hosts"].as_array().unwrap().iter();
        let behind = hosts.filter(|host| host["ready"] == false);
        let mut names: Vec<_> =
            behind.map(|host| host["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(status["ready"] == true, names.is_empty(), "{status}");
        names
    }
}

/// Logs in again and again, each time to a desktop that is new, until it is told to stop; how often.
fn logins(pair: &Pair, user: &str, stop: &AtomicBool, count: &AtomicU32) {
    while !stop.load(Ordering::Acquire) {
        let desktop = pair::login(pair, user, 30).unwrap();
        assert!(desktop.created, "{desktop:?}");
        let end = ["vsm", "end", "--retry-for=30", &format!("{user}@tlha")];
        let ended = pair.exec("client", user, &end).unwrap();
        assert!(ended.status.success(), "{ended:?}");
        count.fetch_add(1, Ordering::AcqRel);
    }
}

/// Waits until a user logged in and ended the desktop, both after this was called.
fn served(count: &AtomicU32) {
    let before = count.load(Ordering::Acquire);
    // The first of two may have begun earlier.
    wait_for("a login", WAIT, || match count.load(Ordering::Acquire) {
        now if now >= before + 2 => Ok(()),
        now => Err(format!("{now} logins, {before} before")),
    })
    .unwrap();
}

/// Each step of it, with one host that is off all the time.
fn rotate(site: &Site, count: &AtomicU32) {
    let pair = &site.pair;
    for agent in ["agent1", "agent2", "agent4"] {
        site.enrol(agent);
    }
    pair.stop_daemon("agent4", "vsmagent").unwrap();
    let said = site.ca("rotate begin");
    assert!(said.contains("From now on vsmctl pki issue and issuer sign with it"), "{said}");
    assert!(site.refused(&format!("rotate begin --dir {CA}")).contains("has begun already"));
    assert_eq!(site.behind().len(), 6, "nobody is there yet");
    let said = site.refused(&format!("rotate finish --dir {CA}"));
    assert!(["broker/tlha-primary", "agent/agent1"].iter().all(|it| said.contains(it)), "{said}");
    // The standby first; each is trusted by all while the others know the old authority alone.
    let (active, standby) = pair.in_step();
    for node in [standby, active] {
        site.renew_broker(node);
        pair.in_step();
        for agent in ["agent1", "agent2", "agent3"] {
            site.is_up(agent);
            assert_eq!(site.trusts(agent), 1, "it has heard of nothing");
        }
        served(count);
    }
    // Agents learn it by renewal; what was issued by hand is issued by hand again.
    let said = site.refused("renew --all");
    assert!(said.contains("agent3") && said.contains("issued by hand"), "{said}");
    assert_eq!(["agent1", "agent2", "agent3"].map(|agent| site.trusts(agent)), [2, 2, 1]);
    assert_eq!(site.behind(), ["agent3", "agent4"]);
    site.ca(&format!("issue agent3 --role agent --out {HERE}/out-agent3"));
    site.give("agent3", "out-agent3", &["ca.pem", "host.key", "host.pem"]);
    wait_for("agent3 to be there", WAIT, || match site.behind() {
        behind if behind == ["agent4"] => Ok(()),
        behind => Err(format!("{behind:?}")),
    })
    .unwrap();
    served(count);
    let said = site.refused(&format!("rotate finish --dir {CA}"));
    assert!(said.contains("1 host(s)") && said.contains("agent/agent4"), "{said}");
    let said = site.ca("rotate finish --force");
    assert!(said.contains("The old authority is in /run/host/ca/old-"), "{said}");
    // The old one goes: from brokers by hand, from agents by renewal.
    assert_eq!(site.behind().len(), 6, "all trust it still");
    for node in NODES {
        site.give(node, "ca", &["ca.pem"]);
        pair.in_step();
    }
    served(count);
    let said = site.refused("renew agent/agent1 agent/agent2 agent/agent4");
    let renewed = |agent: &str| {
        let words =
            |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
        said.lines().any(|line| words(line) == [agent, "yes"])
    };
    assert!(renewed("agent1") && renewed("agent2") && !renewed("agent4"), "{said}");
    wait_for("the old one to go", WAIT, || {
        match ["agent1", "agent2"].map(|agent| site.trusts(agent)) {
            [1, 1] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
    site.give("agent3", "ca", &["ca.pem"]);
    for agent in ["agent1", "agent2", "agent3"] {
        site.is_up(agent);
    }
    // Who was away all the time knows nobody here any more, and comes back by an invitation.
    pair.start_daemon("agent4", "vsmagent").unwrap();
    wait_for("the others to be there", WAIT, || match site.behind() {
        behind if behind == ["agent4"] => Ok(()),
        behind => Err(format!("{behind:?}")),
    })
    .unwrap();
    site.enrol("agent4");
    let said = site.ca("rotate status");
    assert!(said.contains("destroy its key"), "{said}");
}

#[test]
fn a_new_authority_takes_the_place_of_the_old_one_while_users_log_in() {
    let site = Site::up("rotation", 4);
    let alice = site.pair.login("alice");
    let stop = AtomicBool::new(false);
    let count = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let bob = scope.spawn(|| logins(&site.pair, "bob", &stop, &count));
        let all = std::panic::AssertUnwindSafe(|| rotate(&site, &count));
        let rotated = std::panic::catch_unwind(all);
        stop.store(true, Ordering::Release);
        bob.join().expect("each login works");
        rotated.unwrap_or_else(|why| std::panic::resume_unwind(why));
    });
    site.pair.same("alice", &alice);
    // The desktop and the pair are none the wiser after a take-over.
    let (active, standby) = site.pair.in_step();
    site.pair.stop_daemon(active, "vsmserver").unwrap();
    site.pair.serves(standby);
    site.pair.same("alice", &alice);
    site.pair.start_daemon(active, "vsmserver").unwrap();
    site.pair.all_agree();
}

/// Nobody can vouch then, so both authorities are given to all hosts by hand first.
#[test]
fn the_authority_changes_without_the_old_key() {
    let site = Site::up("lost-key", 2);
    let pair = &site.pair;
    let alice = pair.login("alice");
    site.enrol("agent1");
    pair.sh(HOME, &format!("rm {CA}/ca.key"));
    let line = format!("vsmctl pki rotate begin --dir {CA}");
    let there = pair.exec(HOME, "root", &["sh", "-c", &line]).unwrap();
    let said = String::from_utf8_lossy(&there.stderr).into_owned();
    assert!(!there.status.success() && said.contains("ca.key"), "{said}");
    pair.sh(HOME, &format!("mv {CA} {HERE}/lost; vsmctl pki init --dir {CA} --name another"));
    pair.sh(
        HOME,
        &format!("mkdir {HERE}/both; cat {CA}/ca.pem {HERE}/lost/ca.pem > {HERE}/both/ca.pem"),
    );
    for host in NODES.into_iter().chain(["agent1", "agent2"]) {
        site.give(host, "both", &["ca.pem"]);
    }
    let (active, standby) = pair.in_step();
    for node in [standby, active] {
        site.renew_broker(node);
        // What was made has the new authority alone.
        site.give(node, "both", &["ca.pem"]);
        pair.in_step();
    }
    site.is_up("agent1");
    let renew = ["vsmctl", "pki", "renew", "agent/agent1"];
    let renewed = pair.exec(active, "root", &renew).unwrap();
    assert!(renewed.status.success(), "{renewed:?}");
    site.ca(&format!("issue agent2 --role agent --out {HERE}/out-agent2"));
    site.give("agent2", "out-agent2", &["ca.pem", "host.key", "host.pem"]);
    for node in NODES {
        site.give(node, "ca", &["ca.pem"]);
    }
    pair.in_step();
    for agent in ["agent1", "agent2"] {
        site.is_up(agent);
    }
    wait_for("agent1 to drop the lost one", Duration::from_secs(60), || {
        let said = pair.exec(active, "root", &renew).unwrap();
        match site.trusts("agent1") {
            1 => Ok(()),
            count => Err(format!("{count}: {said:?}")),
        }
    })
    .unwrap();
    pair.same("alice", &alice);
}
