//! One who takes all that they can reach takes their own share alone: others log in meanwhile, what it costs is
//! bounded, and who it is can be read.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use xtask::clock::wait_for;
use xtask::cluster::Cluster;
use xtask::pair::{self, Desktop};

use crate::XTASK;
use crate::bastion::cut_off;
use crate::one_login::{connect, has_picture, strict};
use crate::operator::{event, event_of_agent};
use crate::pair_of_brokers::Pair;
use crate::service::{AGENTS, BROKER, Service, WAIT};

/// What opens connections; see there.
const FLOOD: &str = include_str!("floods/flood.py");
/// Connections to each socket and port: more than a user, or a host, may have anywhere.
const EACH: &str = "400";
/// Reigns that one host may cost by its word, with some that are the pair's own.
const REIGNS_MAX: usize = 15;
/// By how many KiB the memory of a daemon may grow with one who does all that they can.
const MEMORY_MAX: u64 = 256 << 10;

/// Connections that somebody opens to all of some places, until it is dropped.
#[derive(Debug)]
struct Flood(Child);

impl Flood {
    /// By bob, as soon as all that can be had is held.
    fn of(service: &Cluster, host: &str, mode: &str, places: &[&str]) -> Self {
        Self::by(service, host, &[&[FLOOD, mode, EACH], places].concat())
    }

    /// The same by a script of another kind, with what it is to be told.
    fn by(service: &Cluster, host: &str, script: &[&str]) -> Self {
        let words = [&["python3", "-c"], script].concat();
        let mut command = service.command(host, "bob", &words).unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "all\n", "it has not begun");
        Self(child)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // Its input's end is its own.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The sockets of the service that a user can open on a host.
fn reachable(service: &Cluster, host: &str, user: &str) -> Vec<String> {
    let find = "find /run/vsm* -maxdepth 1 -type s -writable 2>/dev/null; true";
    let found = service.output(host, user, &["sh", "-c", find]).unwrap();
    found.lines().map(str::to_owned).collect()
}

/// KiB of memory that a daemon has now.
fn memory(service: &Cluster, host: &str, daemon: &str) -> u64 {
    let pid = service.daemon(host, daemon).unwrap().pid.unwrap();
    let line =
        service.output(host, "root", &["grep", "VmRSS", &format!("/proc/{pid}/status")]).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What attackers do on a host; its `full` puts a socket in the place of one's own, whose queue is full for ever.
const TOOL: &str = include_str!("../../src/attack/tools/tool.py");

/// What bob is refused of somebody else's is in the trail and in the log.
fn bob_tries_alices_desktop(service: &Service, session: &str) {
    for word in ["end", "disconnect", "extend", "abandon"] {
        let words = ["vsm", word, "--retry-for=0", "--session", session, "bob@tlha"];
        let refused = service.exec("client", "bob", &words).unwrap();
        assert!(!refused.status.success(), "{word}: {refused:?}");
        let action = format!("{word}-refused");
        let told = event(service, BROKER, &action, Some("bob"));
        assert!(told.actor == "bob" && told.detail.contains(session), "{told:?}");
        let log = service.daemon_log(BROKER, "vsmserver");
        let line = |line: &str| line.contains(&action) && line.contains("bob");
        assert!(log.lines().any(line), "no line of {action}: {log}");
    }
}

#[test]
fn a_user_who_opens_everything_has_their_own_share_alone() {
    // Each login needs the sockets of both daemons here: session hosts take one-time keys alone, and the way is the
    // broker's.
    let service = strict("floods");
    cut_off(&service);
    service.configure(
        BROKER,
        "vsmserver",
        &["/vsmserver/bastion=true", "/vsmserver/subclusters/Default/agents=agent1"],
    );
    let agent = AGENTS[0];
    has_picture(&service, &connect(&service, "", &[]));
    let alice = service.rows().remove(0);
    let bob = service.connect("bob");
    bob_tries_alices_desktop(&service, &alice.session);

    let daemons = [(BROKER, "vsmserver"), (agent, "vsmagent")];
    let before = daemons.map(|(host, daemon)| memory(&service, host, daemon));
    let rfb = format!("/run/vsm/sessions/{}/user/rfb.sock", bob.session);
    let _full = Flood::by(&service, agent, &[TOOL, "full", &rfb]);
    let sockets = [BROKER, agent].map(|host| reachable(&service, host, "bob"));
    let mut floods = Vec::new();
    for (host, sockets) in [BROKER, agent].into_iter().zip(&sockets) {
        let is_for_calls = |path: &&str| *path == "/run/vsm/vsmserver.sock";
        let (calls, silent): (Vec<_>, Vec<_>) =
            sockets.iter().map(String::as_str).partition(is_for_calls);
        assert_eq!((calls.len(), silent.len()), if host == BROKER { (1, 2) } else { (0, 2) });
        for (mode, places) in [("calls", calls), ("silent", silent)] {
            floods.push(Flood::of(&service, host, mode, &places));
        }
    }
    has_picture(&service, &connect(&service, "", &[]));
    service.end("alice");
    has_picture(&service, &connect(&service, "", &[]));
    for (before, (host, daemon)) in before.iter().zip(daemons) {
        let after = memory(&service, host, daemon);
        assert!(after < before + MEMORY_MAX, "{daemon}: {before} KiB before, {after} KiB after");
    }

    service.sh(BROKER, "vsmctl session terminate --user bob --assume-yes");
    service.until(agent, &format!("! test -e /run/vsm/sessions/{}", bob.session));
    for ((host, daemon), sockets) in daemons.into_iter().zip(&sockets) {
        let log = service.daemon_log(host, daemon);
        for socket in sockets {
            let line = |line: &str| {
                line.contains("too many connections")
                    && line.contains("uid 2002")
                    && line.contains(socket)
            };
            assert!(log.lines().any(line), "{socket}: {log}");
        }
    }
    drop(floods);
    // Their share is theirs again.
    assert!(service.connect("bob").created);
}

/// From the hosts of those who are to be served, by users there, so in the share of these hosts.
#[test]
fn idle_connections_to_all_ports_hold_nobody_up() {
    let service = Service::up("idle");
    let alice = service.connect("alice");
    // Each has to dial the others again, where all that is to be had is taken.
    service.stop_daemon(BROKER, "vsmserver").unwrap();
    let _floods = [
        (BROKER, &["agent1:904", "agent2:904"][..]),
        ("agent1", &["tlha:9000", "agent2:904"]),
        ("agent2", &["tlha:9000", "agent1:904"]),
    ]
    .map(|(host, ports)| Flood::of(&service, host, "silent", ports));

    service.start_daemon(BROKER, "vsmserver").unwrap();
    // Each is full before anything is asked of it.
    for (host, daemon, from) in [
        (BROKER, "vsmserver", "10.0.0.11"),
        ("agent1", "vsm-agent-net", "10.0.0.2"),
        ("agent2", "vsm-agent-net", "10.0.0.11"),
    ] {
        wait_for(&format!("{host} to say that {from} has too many connections"), WAIT, || {
            let log = service.daemon_log(host, daemon);
            let line = |line: &str| line.contains("too many connections") && line.contains(from);
            if log.lines().any(line) { Ok(()) } else { Err(log) }
        })
        .unwrap();
    }
    service.agents_are("up", &AGENTS);
    service.crash("agent1", "vsm-agent-net");
    service.agents_are("up", &AGENTS);
    assert!(service.connect("carol").created);
    assert_eq!(service.connect("alice").session, alice.session);
    service.sh(&alice.agent, &format!("kill -9 {}", service.processes(&alice).monitor));
    service.rows_become("alice's end to be recorded", |rows| {
        rows.iter().all(|row| row.user != "alice")
    });
}

/// What `vsm-bench hostile-broker` prints of one call.
#[derive(Debug, Deserialize)]
struct Answer {
    call: String,
    epoch: String,
    done: bool,
    said: String,
}

/// A pair in its second reign, a desktop in it, and what root on the standby and on a session host knows.
#[derive(Debug)]
struct Wronged {
    pair: Pair,
    active: &'static str,
    standby: &'static str,
    alice: Desktop,
    /// Of the table.
    lineage: String,
    /// The reign, and its number.
    epoch: String,
    counter: u64,
    /// Where the hosts see `vsm-bench`.
    bench: PathBuf,
}

impl Wronged {
    fn up() -> Self {
        let pair = Pair::up("wrong-hands");
        let (standby, _) = pair.in_step();
        let active = pair::other(standby);
        pair.sh(active, "vsmctl ha takeover");
        assert_eq!(pair.in_step(), (active, standby));
        let bench = pair.0.install(&Path::new(XTASK).with_file_name("vsm-bench")).unwrap();
        let alice = pair.login("alice");
        let find = "grep -aoE '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' /var/lib/vsm-agent/promise | head -n 1";
        let lineage = pair.sh(&alice.agent, find);
        let epoch = pair::node(&pair, active).unwrap().epoch.unwrap();
        let counter = epoch.split_once('@').unwrap().0.parse().unwrap();
        Self { pair, active, standby, alice, lineage, epoch, counter, bench }
    }

    /// Runs `vsm-bench`, which is no program of the hosts.
    fn bench(&self, host: &str, words: &[&str]) -> Command {
        let words = [&[self.bench.to_str().unwrap()], words].concat();
        self.pair.command(host, "root", &words).unwrap()
    }

    /// What the session host of alice answers to the standby's certificate.
    fn ask(&self, more: &[&str]) -> Vec<Answer> {
        let Desktop { agent, session, .. } = &self.alice;
        let to = ["hostile-broker", "--agent", agent, "--session", session, "--user", "alice"];
        let of = ["--lineage", &self.lineage];
        let output = self.bench(self.standby, &[&to[..], &of, more].concat()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Root on a host serves in place of its agent.
    fn serve(&self, host: &str, epoch: u64, sessions: &str) -> Flood {
        let epoch = epoch.to_string();
        let words = ["hostile-agent", "--lineage", &self.lineage, "--sessions", sessions];
        let of = ["--epoch", &epoch, "--node", self.standby];
        let mut command = self.bench(host, &[&words[..], &of].concat());
        Flood(command.stdin(Stdio::piped()).spawn().unwrap())
    }

    /// Waits until both brokers' lists, which obey nobody's terminal, have a host aside.
    fn put_aside(&self, host: &str, why: &str) {
        wait_for(&format!("{host} to be put aside, as it {why}"), WAIT, || {
            let list = self.pair.sh(self.standby, "vsmctl agent list");
            assert!(!list.contains(['\u{1b}', '\u{7}']), "{list:?}");
            let line = list.lines().find(|line| line.starts_with(host)).unwrap_or_default();
            let is_told = line.contains("put aside, as it") && line.contains(why);
            if is_told { Ok(()) } else { Err(list) }
        })
        .unwrap();
    }
}

/// The standby's certificate, by an epoch that is over, another's, or none that can be.
#[test]
fn certificates_in_the_wrong_hands_do_not_stop_the_service() {
    let wronged = Wronged::up();
    let Wronged { pair, active, standby, alice, epoch, counter, .. } = &wronged;
    let (stale, above) = (format!("1@{standby}"), format!("{}@{active}", counter + 1));
    let (huge, evil) = (format!("{}@{standby}", u64::MAX), format!("{}@evil", counter + 1));
    let answers = wronged.ask(&[epoch, &stale, &above, &huge, &evil]);
    assert_eq!(answers.len(), 25, "{answers:#?}");
    for Answer { call, epoch, done, said } in &answers {
        assert!(!done, "{call} by {epoch}: {said}");
    }
    assert_eq!(pair::node(pair, active).unwrap().epoch.as_ref(), Some(epoch));
    pair.same("alice", alice);
    // An epoch of its own is how one takes over, and that is told; the broker rises above it.
    let own = format!("{}@{standby}", counter + 1);
    assert!(wronged.ask(&["--only-key", &own])[0].done);
    pair.same("alice", alice);
    assert_eq!(pair.in_step().0, *active);
    let log = pair.daemon_log(&alice.agent, "vsmagent");
    assert!(log.lines().any(|line| line.contains("promised") && line.contains(&own)), "{log}");
    a_session_host_is_put_aside(&wronged);
}

/// One on which nobody has a desktop: first it names more epochs than can be, then more sessions.
fn a_session_host_is_put_aside(wronged: &Wronged) {
    let Wronged { pair, active, standby, alice, counter, .. } = wronged;
    let hosts = ["agent1", "agent2", "agent3"];
    let hostile = hosts.into_iter().find(|name| *name != alice.agent).unwrap();
    pair.stop_daemon(hostile, "vsmagent").unwrap();
    let reigns = || pair.daemon_log(active, "vsmserver").matches("active epoch=").count();
    let reigned = reigns();
    let root = wronged.serve(hostile, counter + 2, "0");
    wronged.put_aside(hostile, "named more than 8 new epochs");
    let named = event_of_agent(pair, active, "agent-put-aside", hostile);
    assert_eq!(named.actor, "vsmserver", "{named:?}");
    assert_eq!(pair.in_step().0, *active, "the service moved");
    let after = reigns();
    assert!(after < reigned + REIGNS_MAX, "it was followed too often: {after} after {reigned}");
    pair.same("alice", alice);
    let bob = pair.login("bob");
    assert!(bob.created && bob.agent != hostile, "{bob:?}");
    drop(root);

    // The other broker has not heard anything of it yet.
    let _root = wronged.serve(hostile, 1, "30000");
    let before = memory(pair, standby, "vsmserver");
    pair.sh(standby, "vsmctl ha takeover");
    wronged.put_aside(hostile, "says that it has 30000 sessions");
    assert_eq!(pair.in_step().0, *standby);
    let after = memory(pair, standby, "vsmserver");
    assert!(after < before + MEMORY_MAX, "{before} KiB before, {after} KiB after");
    pair.same("alice", alice);
    pair.same("bob", &bob);
    assert_eq!(pair::rows(pair, standby).unwrap().len(), 2);
}
