//! Logins by browser, with ssh in the browser's place: a key that one broker has accepted lets its user in at both, to
//! the broker and on the way to session hosts and to nothing else, also after the broker that accepted it has died. It
//! ends by the user's word, by the administrator's, in time, and with the account; and what goes on by it ends with it.

use std::io::{BufRead, BufReader, Write};
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use xtask::clock::{self, wait_for};
use xtask::cluster::Fault;
use xtask::pair::NODES;

use crate::XTASK;
use crate::pair_of_brokers::{Pair, WAIT, host};
use crate::service::{SIGHUP, SIGKILL};

/// The private half, on the client.
const SSH: &str = "ssh -F none -i ~/web -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
                   -o LogLevel=ERROR -o ConnectTimeout=5";
/// What the client is told whose key is good no more.
const EXIT_OVER: i32 = 7;

/// A pair that leads users to session hosts, and alice with a desktop and a browser.
struct Site {
    pair: Pair,
    bench: String,
    session: String,
    public_key: String,
}

impl Deref for Site {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        &self.pair
    }
}

/// A connection by the key that goes on.
struct Live {
    child: Child,
    host: &'static str,
}

impl Site {
    fn up(name: &str) -> Self {
        let pair = Pair::up(name);
        for node in NODES {
            pair.sh(node, "vsm-config /vsmserver/bastion=true && vsmctl reload");
        }
        let bench = pair.install(&Path::new(XTASK).with_file_name("vsm-bench")).unwrap();
        let session = pair.login("alice").session;
        let made = "ssh-keygen -q -t ed25519 -N '' -C '' -f ~/web && cat ~/web.pub";
        let public_key = pair.output("client", "alice", &["sh", "-c", made]).unwrap();
        let public_key = public_key.trim().to_owned();
        Self { pair, bench: bench.display().to_string(), session, public_key }
    }

    /// Calls a method of the users' service on a node; the answer's message.
    fn call(&self, node: &str, user: &str, method: &str, body: &[u8]) -> Vec<u8> {
        let body: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
        let call = serde_json::json!([{
            "to": "/run/vsm/vsmserver.sock",
            "method": format!("vsm.broker.v1.Broker/{method}"),
            "body": body,
        }]);
        let line = format!("echo '{call}' | {} calls", self.bench);
        let answers = self.output(node, user, &["sh", "-c", &line]).unwrap();
        let answers: serde_json::Value = serde_json::from_str(&answers).unwrap();
        assert_eq!(answers[0]["code"], "Ok", "{answers}");
        let hex = answers[0]["body"].as_str().unwrap().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        hex.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    /// Has the key accepted for a user; its id.
    fn accept(&self, node: &str, user: &str, lifetime_ms: u16) -> String {
        let mut body = vec![0x0a, u8::try_from(self.public_key.len()).unwrap()];
        body.extend(self.public_key.as_bytes());
        if lifetime_ms > 0 {
            let [low, high] = [lifetime_ms & 0x7f, lifetime_ms >> 7 & 0x7f];
            let top = u8::try_from(lifetime_ms >> 14).unwrap();
            let byte = |n: u16| u8::try_from(n).unwrap() | 0x80;
            body.extend([0x10, byte(low), byte(high), top]);
        }
        body.extend([0x1a, 7]);
        body.extend(b"Firefox");
        let answer = self.call(node, user, "AcceptWebKey", &body);
        assert_eq!((answer[0], answer[1]), (0x0a, 36), "an id: {answer:?}");
        String::from_utf8(answer[2..38].to_vec()).unwrap()
    }

    /// ssh by the key: what it prints first, and its exit code.
    fn ssh(&self, user: &str, at: &str, words: &str, input: &str) -> (String, i32) {
        // It hangs up where the other side does not.
        let line = format!("printf '{input}' | {SSH} -l {user} {words} {at} | head -c 300");
        let line = format!("set -o pipefail; {line}");
        let output = self.exec("client", "alice", &["bash", "-c", &line]).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text, output.status.code().unwrap())
    }

    /// The subsystem, of which something is asked.
    fn asks(&self, at: &str, what: &str) -> (String, i32) {
        let line = format!("printf 'vsm/1 {what}\\n' | {SSH} -s {at} vsm | head -n 1");
        let line = format!("set -o pipefail; {line}");
        let output = self.exec("client", "alice", &["bash", "-c", &line]).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (text, output.status.code().unwrap())
    }

    fn is_let_in(&self, at: &str) {
        let relay = format!("relay {}", self.session);
        for what in ["broker", &relay] {
            assert_eq!(self.asks(at, what).0, "ok", "{what} at {at}");
        }
    }

    fn is_shut_out(&self, at: &str) {
        assert_eq!(self.asks(at, "broker"), (String::new(), 255), "{at}");
    }

    fn goes_on(&self, at: &'static str, what: &str) -> Live {
        let line = format!("exec {SSH} -s {at} vsm");
        let mut command = self.command("client", "alice", &["sh", "-c", &line]).unwrap();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = child.spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(format!("vsm/1 {what}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ok\n", "{what} at {at}");
        Live { child, host: at }
    }

    /// One to each broker, and one to a session host by way of each.
    fn all_go_on(&self) -> Vec<Live> {
        let relay = format!("relay {}", self.session);
        let both = NODES.into_iter().flat_map(|node| [(node, "broker"), (node, relay.as_str())]);
        both.map(|(node, what)| self.goes_on(node, what)).collect()
    }
}

impl Live {
    fn goes_on(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "{} hung up", self.host);
    }

    /// Waits until it has ended for want of a key.
    fn is_over(&mut self) {
        let ended = wait_for("the connection to end", WAIT, || {
            self.child.try_wait().unwrap().ok_or_else(|| "it goes on".to_owned())
        });
        assert_eq!(ended.unwrap().code(), Some(EXIT_OVER), "{}", self.host);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long it takes from here until all have ended.
fn all_over(live: Vec<Live>) -> Duration {
    let began: Instant = clock::now();
    for mut one in live {
        one.is_over();
    }
    began.elapsed()
}

#[test]
fn a_browser_is_let_in_at_both_brokers_to_what_it_needs_and_nothing_else() {
    let site = Site::up("web-in");
    let (active, standby) = site.in_step();
    site.is_shut_out(active);
    let id = site.accept(standby, "alice", 0);
    assert_eq!(site.accept(active, "alice", 0), id, "the same again");
    for node in NODES {
        site.is_let_in(node);
        // With it the program of users works as with any key.
        let list = ["vsm", "list", "-o", "IdentityFile=~/web", "-o", "IdentitiesOnly=yes"];
        let list = site.output("client", "alice", &[&list[..], &[node]].concat()).unwrap();
        assert!(list.contains("alice"), "{list}");
        let (text, _) = site.asks(node, &format!("session {}", site.session));
        assert!(text.starts_with("error refused"), "{text}");
        for (words, what) in [("", "a command"), ("-t", "a terminal")] {
            let (text, code) = site.ssh("alice", &format!("{node} id"), words, "");
            assert!(text.starts_with("error bad-request") && code != 0, "{what}: {text} {code}");
        }
        // One that this sshd does not have, and one that it is given.
        for subsystem in ["none", "sftp"] {
            let (text, code) = site.ssh("alice", &format!("{node} {subsystem}"), "-s", "");
            let has_none = text.is_empty() && code == 255;
            let is_login = subsystem == "sftp" && text.starts_with("error bad-request");
            assert!(has_none != is_login && code != 0, "{subsystem}: {text} {code}");
            site.sh(
                node,
                "echo 'Subsystem sftp internal-sftp' > /etc/ssh/sshd_config.d/50-sftp.conf",
            );
            site.kill_daemon(node, "sshd", SIGHUP).unwrap();
            wait_for("sshd", WAIT, || match site.asks(node, "broker") {
                (text, _) if text == "ok" => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .unwrap();
        }
        let (text, code) = site.ssh("alice", node, "-W 127.0.0.1:22", "x\\n");
        assert!(text.is_empty() && code != 0, "a forward: {text} {code}");
        for other in ["bob", "root"] {
            let (text, code) = site.ssh(other, &format!("{node} vsm"), "-s", "vsm/1 broker\\n");
            assert_eq!((text.as_str(), code), ("", 255), "{other}");
        }
    }
    let logins = site.output("client", "alice", &["vsm", "web", "logins", "alice@tlha"]).unwrap();
    assert!(logins.contains("Firefox"), "{logins}");
}

/// Each by another's word: the user's from a browser that is logged in, an administrator's, the end of its time.
#[test]
fn what_goes_on_by_a_key_ends_with_it_on_both_brokers() {
    let site = Site::up("web-out");
    let (active, standby) = site.in_step();
    let revokes: [(&str, &str, Vec<&str>); 3] = [
        ("client", "alice", vec!["vsm", "web", "revoke", "alice@tlha"]),
        (standby, "root", vec!["vsmctl", "web", "revoke"]),
        (active, "root", vec!["vsmctl", "web", "revoke", "--user", "alice"]),
    ];
    for (at, by, words) in revokes {
        let id = site.accept(active, "alice", 0);
        let mut live = site.all_go_on();
        live.iter_mut().for_each(Live::goes_on);
        let named = if words.contains(&"--user") { vec![] } else { vec![id.as_str()] };
        let said = site.output(at, by, &[words, named].concat()).unwrap();
        assert_eq!(said.trim(), "1 browser(s) logged out.");
        let took = all_over(live);
        println!("four connections ended {} ms after {by} had the answer", took.as_millis());
        assert!(took < Duration::from_secs(5), "{took:?}");
        NODES.iter().for_each(|node| site.is_shut_out(node));
        let log = site.daemon_log(active, "vsmserver");
        assert!(log.contains("a login by browser was revoked"), "{log}");
    }

    let began = clock::now();
    site.accept(standby, "alice", 8000);
    let live = site.all_go_on();
    all_over(live);
    let took = began.elapsed();
    assert!((Duration::from_secs(7)..Duration::from_secs(20)).contains(&took), "{took:?}");
    NODES.iter().for_each(|node| site.is_shut_out(node));

    // All of it is in the trail, by whom.
    wait_for("the trail", WAIT, || {
        let events = site.sh(active, "vsmctl events --user alice");
        let has = |action: &str, by: &str| {
            events.lines().any(|line| line.contains(action) && line.contains(by))
        };
        let all = [
            has("web-key-accepted", "alice"),
            has("web-key-revoked", "alice"),
            has("web-key-revoked", "root"),
            has("web-key-expired", "vsmserver"),
        ];
        if all.iter().all(|has| *has) { Ok(()) } else { Err(events) }
    })
    .unwrap();
}

#[test]
fn a_login_outlives_the_broker_that_let_it_in() {
    let site = Site::up("web-on");
    let (active, standby) = site.in_step();
    let id = site.accept(active, "alice", 0);
    // A broker that is started again asks nobody to log in anew, and cuts nobody off.
    let mut live = site.all_go_on();
    site.kill_daemon(standby, "vsmserver", SIGKILL).unwrap();
    site.in_step();
    site.is_let_in(standby);
    let to_host = |live: &mut Vec<Live>, at: &str| {
        let on_the_way = live.iter_mut().skip(1).step_by(2).filter(|one| one.host == at);
        on_the_way.for_each(Live::goes_on);
    };
    to_host(&mut live, standby);
    to_host(&mut live, active);

    site.inject(Fault::Cable { host: host(active) });
    site.serves(standby);
    let began = clock::now();
    wait_for("alice to be let in at the address", WAIT, || match site.asks("tlha", "broker") {
        (text, _) if text == "ok" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    println!("let in {} ms after {standby} serves", began.elapsed().as_millis());
    site.is_let_in(standby);
    to_host(&mut live, standby);
    // It is revoked while the other one cannot hear of it.
    site.sh(standby, &format!("vsmctl web revoke {id}"));
    site.is_shut_out(standby);
    let (gone, stays): (Vec<_>, Vec<_>) = live.into_iter().partition(|one| one.host == standby);
    let on_the_way = gone.into_iter().skip(1).collect();
    all_over(on_the_way);
    site.heal_all();
    site.in_step();
    drop(stays);
    site.is_shut_out(active);
    site.all_agree();
}

#[test]
fn a_key_goes_with_the_account() {
    let site = Site::up("web-account");
    let (active, _) = site.in_step();
    site.accept(active, "carol", 0);
    for node in NODES {
        let (text, _) = site.ssh("carol", &format!("{node} vsm"), "-s", "vsm/1 broker\\n");
        assert!(text.starts_with("ok"), "{text}");
        site.sh(node, "sed -i '/^carol:/d' /etc/passwd");
        let (text, code) = site.ssh("carol", &format!("{node} vsm"), "-s", "vsm/1 broker\\n");
        assert_eq!((text.as_str(), code), ("", 255));
    }
    wait_for("carol's key to go", WAIT, || {
        let list = site.sh(active, "vsmctl web list --user carol --output json");
        if list.trim() == "[]" { Ok(()) } else { Err(list) }
    })
    .unwrap();
    let told = site.sh(active, "vsmctl events --user carol");
    assert!(told.contains("web-key-revoked"), "{told}");
}

/// One with a one-time key, which the session host has accepted: its agent drops it.
#[test]
fn a_viewer_that_does_not_go_through_the_brokers_ends_too() {
    let site = Site::up("web-view");
    let (active, _) = site.in_step();
    for node in NODES {
        site.sh(node, "vsm-config /vsmserver/bastion=false && vsmctl reload");
    }
    let prepare = "mv /home/alice/.ssh/id_ed25519 /home/alice/own-key
        printf '#!/bin/sh\\nexec sleep 1000\\n' > /usr/local/bin/sleeper; chmod 755 /usr/local/bin/sleeper";
    site.sh("client", prepare);
    let id = site.accept(active, "alice", 0);
    let by_web = ["-o", "IdentityFile=~/web", "-o", "IdentitiesOnly=yes", "alice@tlha"];
    let words = [&["vsm", "connect", "--viewer", "/usr/local/bin/sleeper"][..], &by_web].concat();
    let mut viewer = site.command("client", "alice", &words).unwrap();
    let mut viewer = viewer.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let becomes = |wanted: &str| {
        wait_for(wanted, WAIT, || {
            let rows = xtask::pair::rows(&site.pair, active).map_err(|e| format!("{e:#}"))?;
            let is_so = rows.iter().any(|row| row.user == "alice" && row.state == wanted);
            if is_so { Ok(()) } else { Err(format!("{rows:?}")) }
        })
        .unwrap();
    };
    becomes("connected");
    // By the end of its id, as the list shows it.
    let (_, end) = id.rsplit_once('-').unwrap();
    assert!(site.sh(active, "vsmctl web list").contains(end));
    site.sh(active, &format!("vsmctl web revoke {end}"));
    becomes("disconnected");
    site.sh("client", "kill $(pgrep -f '^sleep 1000'); true");
    viewer.wait().unwrap();
}
