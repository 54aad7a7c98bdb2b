//! What an administrator does with `vsmctl`: choosing sessions, ending them, watching them, sending texts, and the
//! trail of who did what.

use std::process::Output;

use serde::Deserialize;
use xtask::clock::wait_for;
use xtask::cluster::{Cluster, Fault};

use crate::pair_of_brokers::{Pair, host};
use crate::service::{BROKER, Row, Service, WAIT};

/// An event as `vsmctl events --output json` prints it: all its fields, and no other.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) time: Option<String>,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) session: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) detail: String,
    pub(crate) unix_ms: u64,
    pub(crate) chain: Option<String>,
}

pub(crate) fn events(cluster: &Cluster, node: &str) -> Vec<Event> {
    let words = ["vsmctl", "events", "--last=0", "--output=json"];
    serde_json::from_str(&cluster.output(node, "root", &words).unwrap()).unwrap()
}

/// Waits until the trail has this of this user, and returns it.
pub(crate) fn event(cluster: &Cluster, node: &str, action: &str, user: Option<&str>) -> Event {
    wait_for(&format!("{action} of {user:?} on {node}"), WAIT, || {
        let all = events(cluster, node);
        let found = all.iter().find(|e| e.action == action && e.user.as_deref() == user);
        found.cloned().ok_or_else(|| format!("{all:#?}"))
    })
    .unwrap()
}

/// Waits until the trail has this of this agent, and returns it.
pub(crate) fn event_of_agent(cluster: &Cluster, node: &str, action: &str, agent: &str) -> Event {
    wait_for(&format!("{action} of {agent} on {node}"), WAIT, || {
        let all = events(cluster, node);
        let found = all.iter().find(|e| e.action == action && e.agent.as_deref() == Some(agent));
        found.cloned().ok_or_else(|| format!("{all:#?}"))
    })
    .unwrap()
}

impl Service {
    pub(crate) fn vsmctl(&self, words: &[&str]) -> Output {
        self.exec(BROKER, "root", &[&["vsmctl"], words].concat()).unwrap()
    }

    /// The users of the sessions that these words select.
    fn selected(&self, words: &[&str]) -> Vec<String> {
        let words = [&["session", "list", "--output", "json"], words].concat();
        let output = self.vsmctl(&words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        let rows: Vec<Row> = serde_json::from_slice(&output.stdout).unwrap();
        rows.into_iter().map(|row| row.user).collect()
    }

    /// Words that must be refused with this code, and say this.
    pub(crate) fn no(&self, code: i32, says: &str, words: &[&str]) {
        let output = self.vsmctl(words);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        assert!(text.contains(says), "{words:?}: {text}");
    }
}

#[test]
fn selectors_choose_and_what_matches_nothing_is_said() {
    let service = Service::up("selectors");
    let [alice, bob] = ["alice", "bob"].map(|user| service.connect(user));
    assert_ne!(alice.agent, bob.agent, "two users go to two agents");
    let display = alice.display.to_string();
    let both = ["alice", "bob"];
    assert_eq!(service.selected(&[]), both);
    assert_eq!(service.selected(&["--user=bob"]), ["bob"]);
    assert_eq!(service.selected(&["--agent", &alice.agent]), ["alice"]);
    assert_eq!(service.selected(&["--display", &display, "--user=alice"]), ["alice"]);
    assert_eq!(service.selected(&["--subcluster=Default"]), both);
    assert_eq!(service.selected(&["--state=disconnected"]), both);
    assert_eq!(service.selected(&["--state=connected"]), [""; 0]);
    assert_eq!(service.selected(&["--older-than=1h"]), [""; 0]);
    assert_eq!(service.selected(&["--older-than=0s", "--agent", &bob.agent]), ["bob"]);
    assert_eq!(service.selected(&["--user=bob", "--agent", &alice.agent]), [""; 0]);
    // An id is shown by its last group, and that names it.
    let short = alice.session.rsplit('-').next().unwrap();
    assert_eq!(service.selected(&["--id", short]), ["alice"]);
    let table = String::from_utf8(service.vsmctl(&["session", "list"]).stdout).unwrap();
    assert!(table.contains(short), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(service.vsmctl(&["session", "show", short]).status.success());

    service.no(66, "there is no agent agent9", &["session", "list", "--agent=agent9"]);
    service.no(66, "there is no subcluster lab", &["session", "list", "--subcluster=lab"]);
    service.no(64, "neither a session id", &["session", "list", "--id=xyz"]);
    service.no(64, "--display", &["session", "list", "--display=0"]);
    service.no(64, "30m, 12h or 7d", &["session", "list", "--older-than=soon"]);
    service.no(66, "there is no session 000000", &["session", "show", "000000"]);
    service.no(64, "say which", &["session", "terminate", "-y"]);
    service.no(64, "contradict", &["session", "terminate", "-y", "--all", "--user=bob"]);
    service.no(64, "no terminal", &["session", "terminate", "--user=bob"]);
    service.no(66, "no session matches", &["session", "terminate", "-y", "--user=carol"]);
    assert_eq!(service.selected(&[]), both, "nothing was ended by what was refused");

    assert!(service.vsmctl(&["session", "terminate", "-y", "--id", short]).status.success());
    assert_eq!(service.selected(&[]), ["bob"]);
    service.clean(&alice.agent);
}

/// P9, decisions 24 and 25: a session that cannot be reached is given up only if that was said, and is then ended when
/// its agent returns.
#[test]
fn an_unreachable_session_is_left_alone_unless_it_may_be_abandoned() {
    let service = Service::up("abandon-admin");
    let alice = service.connect("alice");
    service.fault(&Fault::Cable { host: alice.agent.clone() }).unwrap();
    service.agents_are("down", &[&alice.agent]);
    assert_eq!(service.selected(&["--state=unreachable"]), ["alice"]);
    let terminate = ["session", "terminate", "-y", "--user=alice"];
    service.no(69, "1 of 1 session(s) not ended", &terminate);
    assert_eq!(service.selected(&["--state=unreachable"]), ["alice"], "it is as it was");

    let output = service.vsmctl(&[&terminate[..], &["--allow-abandon"]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("abandoned"), "{output:?}");
    assert_eq!(service.selected(&["--state=abandoned"]), ["alice"]);
    let second = service.connect("alice");
    assert!(second.created && second.agent != alice.agent, "{second:?}");

    service.heal(&[]).unwrap();
    service.rows_become("the abandoned one to go", |rows| {
        rows.len() == 1 && rows[0].session == second.session
    });
    service.clean(&alice.agent);
    let noted = event(&service, BROKER, "session-terminated", Some("alice"));
    assert_eq!((noted.actor.as_str(), noted.session), ("root", Some(alice.session)));
}

#[test]
fn the_trail_is_the_same_on_both_nodes_and_outlives_a_failover() {
    let pair = Pair::up("trail");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    let started = event(&pair, active, "session-started", Some("alice"));
    assert_eq!(started.session.as_deref(), Some(alice.session.as_str()));
    assert_eq!(started.agent.as_deref(), Some(alice.agent.as_str()));
    // By a member of the admin group on the standby: it is they who did it, there.
    pair.sh(standby, "groupadd -f vsmadmin; usermod -aG vsmadmin carol");
    pair.restart_daemon(standby, "vsmserver").unwrap();
    pair.in_step();
    let words = ["vsmctl", "session", "terminate", "-y", "--user=alice"];
    pair.output(standby, "carol", &words).unwrap();
    let ended = event(&pair, standby, "session-terminated", Some("alice"));
    assert_eq!(ended.actor, "carol");
    event(&pair, active, "session-ended", Some("alice"));
    let before = events(&pair, active);
    let ends = before.iter().filter(|event| event.action == "session-ended").count();
    assert_eq!(ends, 1, "one end is told once: {before:#?}");
    assert_eq!(before, events(&pair, standby));
    assert!(before.windows(2).all(|pair| pair[1].number == pair[0].number + 1), "{before:#?}");

    pair.inject(Fault::Power { host: host(active) });
    pair.serves(standby);
    let bob = pair.login("bob");
    event(&pair, standby, "session-started", Some("bob"));
    let after = events(&pair, standby);
    assert_eq!(after[..before.len()], before);
    let words = ["vsmctl", "events", "--session", &bob.session, "--output=json"];
    let of_bob: Vec<Event> =
        serde_json::from_str(&pair.output(standby, "root", &words).unwrap()).unwrap();
    assert_eq!(of_bob.len(), 1);
    pair.heal_all();
    pair.all_agree();
}

/// Watching goes on through a failover, on whichever node.
#[test]
fn watching_and_following_go_on_when_the_active_node_dies() {
    let pair = Pair::up("watch");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    let start = "nohup vsmctl session watch --output json > /tmp/watch 2>&1 & echo $! > /tmp/pids
        nohup vsmctl events --follow --output json > /tmp/events 2>&1 & echo $! >> /tmp/pids";
    pair.sh(standby, start);
    let told = |file: &str, what: &str| {
        wait_for(&format!("{what} in {file}"), WAIT, || {
            let text = pair.sh(standby, &format!("cat /tmp/{file}"));
            if text.lines().any(|line| line.contains(what)) { Ok(()) } else { Err(text) }
        })
        .unwrap();
    };
    told("watch", &alice.session);
    told("events", &alice.session);
    pair.inject(Fault::Power { host: host(active) });
    pair.serves(standby);
    let bob = pair.login("bob");
    told("watch", &bob.session);
    told("events", &bob.session);
    pair.output("client", "bob", &["vsm", "end", "bob@tlha"]).unwrap();
    told("watch", &format!("\"gone\",\"session\":\"{}\"", bob.session));
    let once = pair.sh(standby, &format!("grep -c {} /tmp/events || true", alice.session));
    assert_eq!(once.trim(), "1", "an event is told once");
    pair.sh(standby, "kill $(cat /tmp/pids)");
    pair.heal_all();
    pair.all_agree();
}

/// A text is seen on every desktop of the cluster, and where it cannot be shown that is told.
#[test]
fn a_text_is_shown_on_the_desktops_that_are_meant() {
    let service = Service::up("notify");
    for agent in crate::service::AGENTS {
        // The desktop that is shipped.
        let script = include_str!("../../../deploy/xsession");
        service.sh(agent, &format!("cat > /etc/vsm/xsession <<'END'\n{script}\nEND"));
    }
    let [alice, bob] = ["alice", "bob"].map(|user| service.connect(user));
    let windows = |at: &crate::service::Connected| {
        let (id, display) = (&at.session, at.display);
        let tree = format!(
            "XAUTHORITY=/run/vsm/sessions/{id}/user/Xauthority xwininfo -root -tree -display :{display} 2>&1"
        );
        service.sh(&at.agent, &tree)
    };
    let shown = |at: &crate::service::Connected, times: usize| {
        wait_for("the text to be on the desktop", WAIT, || {
            let tree = windows(at);
            let found = tree.matches("\"System message\"").count();
            if found == times { Ok(()) } else { Err(tree) }
        })
        .unwrap();
    };
    wait_for("the desktops to have a window manager", WAIT, || {
        let ready = |at| windows(at).contains("openbox") || windows(at).contains("Openbox");
        if ready(&alice) && ready(&bob) { Ok(()) } else { Err(windows(&alice)) }
    })
    .unwrap();
    let sent = service.vsmctl(&["notify", "--all", "Down at 18:00.\nSave your work; $(reboot)"]);
    assert_eq!(String::from_utf8_lossy(&sent.stdout), "shown on 2 desktop(s)\n", "{sent:?}");
    shown(&alice, 1);
    shown(&bob, 1);
    assert!(service.vsmctl(&["notify", "--user=bob", "only you"]).status.success());
    shown(&bob, 2);
    shown(&alice, 1);
    let noted = event(&service, BROKER, "text-sent", None);
    assert_eq!(noted.actor, "root");

    service.no(64, "text: is empty", &["notify", "--all", ""]);
    service.no(64, "longer than 2048", &["notify", "--all", &"x".repeat(2049)]);
    service.no(64, "control characters", &["notify", "--all", "\u{1b}[2J"]);
    service.no(64, "say on which", &["notify", "hello"]);
    service.no(66, "no desktop that runs", &["notify", "--user=carol", "hello"]);

    // A host that cannot show anything says so, and the others do.
    service
        .sh(&alice.agent, "printf '#!/bin/sh\\necho no screen today; exit 3\\n' > /etc/vsm/notify");
    let output = service.vsmctl(&["notify", "--all", "again"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(text.contains("shown on 1 desktop(s)") && text.contains("no screen today"), "{text}");
    // One that hangs is waited for no longer than any other call, and its desktop lives on.
    service.sh(&alice.agent, "printf '#!/bin/sh\\nsleep 1000\\n' > /etc/vsm/notify");
    let output = service.vsmctl(&["notify", "--user=alice", "again"]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(!service.connect("alice").created);
}

/// An administrator on another host needs a certificate that says so, and to be let in by name; then it is as on the
/// broker.
#[test]
fn an_administrator_works_from_another_host_that_is_let_in() {
    let service = Service::up("remote-admin");
    let alice = service.connect("alice");
    let ask = |words: &[&str]| {
        let words = [&["vsmctl", "--broker", BROKER], words].concat();
        let output = service.exec("agent1", "root", &words).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    service.sh(BROKER, "vsm-config /vsmserver/allowed_clients=agent1 && vsmctl reload");
    let (code, _, said) = ask(&["session", "list"]);
    assert_eq!(code, 77, "the certificate of an agent is not enough: {said}");

    let state = format!("/run/vsm-cluster/{}", crate::named("remote-admin"));
    let vsmctl = std::path::Path::new(crate::XTASK).with_file_name("vsmctl");
    let pki = [
        "pki",
        "issue",
        "agent1",
        "--role",
        "agent",
        "--role",
        "admin",
        "--dir",
        &format!("{state}/pki"),
        "--out",
        &format!("{state}/hosts/agent1/vsm/pki"),
    ]
    .map(str::to_owned);
    assert!(std::process::Command::new(vsmctl).args(pki).status().unwrap().success());
    let (code, said, error) = ask(&["session", "list"]);
    assert!(code == 0 && said.contains("alice"), "{said}{error}");

    service.sh(BROKER, "vsm-config /vsmserver/allowed_clients=agent2 && vsmctl reload");
    let (code, _, said) = ask(&["session", "terminate", "-y", "--all"]);
    assert_eq!(code, 77);
    assert!(said.contains("agent1 is not in /vsmserver/allowed_clients of tlha-primary"), "{said}");
    assert_eq!(service.rows().len(), 1);

    service.sh(BROKER, "vsm-config /vsmserver/allowed_clients=agent1 && vsmctl reload");
    assert_eq!(ask(&["session", "terminate", "-y", "--user=alice"]).0, 0);
    service.clean(&alice.agent);
    assert_eq!(event(&service, BROKER, "session-terminated", Some("alice")).actor, "admin agent1");
    let (code, said, error) = ask(&["reload"]);
    assert_eq!((code, said.as_str()), (0, "this node: nothing has changed\n"), "{error}");
    assert_eq!(ask(&["ha", "health"]).0, 0);
}

/// The same command on all session hosts or on some of them, by ssh; where it fails is said.
#[test]
fn a_command_runs_on_all_session_hosts_or_on_some() {
    let service = Service::up("agent-ssh");
    service.sh(BROKER, "mkdir -p /root/.ssh; rm -f /root/.ssh/id_ed25519; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519");
    let key = service.sh(BROKER, "cat /root/.ssh/id_ed25519.pub");
    for agent in crate::service::AGENTS {
        let line =
            format!("mkdir -p /root/.ssh && echo '{}' >> /root/.ssh/authorized_keys", key.trim());
        service.sh(agent, &line);
        service.sh(BROKER, &format!("ssh -o StrictHostKeyChecking=no {agent} true"));
    }
    let agents = |words: &[&str]| {
        let output = service.vsmctl(&[&["agent"], words].concat());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let mut lines: Vec<String> = text(output.stdout).lines().map(str::to_owned).collect();
        lines.sort();
        (output.status.code().unwrap(), lines.join(";"), text(output.stderr))
    };
    let (code, said, error) = agents(&["ssh", "--", "uname -n; echo again"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(said, "agent1: again;agent1: agent1;agent2: again;agent2: agent2");
    assert_eq!(agents(&["ssh", "--agent=agent2", "uname", "-n"]).1, "agent2: agent2");
    let (code, _, error) = agents(&["ssh", "--", "test $(uname -n) = agent1"]);
    assert_eq!(code, 69);
    assert!(error.contains("failed on 1 of 2 agent(s)\nagent2: ssh: exit status: 1"), "{error}");
    service.no(66, "there is no agent agent9", &["agent", "ssh", "--agent=agent9", "true"]);
    service.no(66, "there is no subcluster lab", &["agent", "ssh", "--subcluster=lab", "true"]);
    service.no(64, "begins with a colon", &["agent", "rsync", "--", "-a", "/etc/hosts", "/tmp/"]);
}

/// What a session's programs printed is to be had on either node, also when it is over.
#[test]
fn the_log_of_a_session_is_read_from_the_broker_though_it_is_over() {
    let service = Service::up("session-log");
    for agent in crate::service::AGENTS {
        service.sh(agent, "printf '#!/bin/sh\\necho one; echo \"\\033[2Jtwo\"; echo three; sleep 86400\\n' > /etc/vsm/xsession");
    }
    let alice = service.connect("alice");
    let short = alice.session.rsplit('-').next().unwrap().to_owned();
    let log = |words: &[&str]| {
        let output = service.vsmctl(&[&["session", "log", &short], words].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    wait_for("the script's words", WAIT, || {
        let text = log(&[]);
        if text.contains("three\n") { Ok(()) } else { Err(text) }
    })
    .unwrap();
    let text = log(&["--lines=0"]);
    assert!(
        text.contains("one\n") && text.contains("[2Jtwo\n") && !text.contains('\u{1b}'),
        "{text}"
    );
    assert_eq!(log(&["--lines=1"]).lines().count(), 1);
    service.end("alice");
    service.clean(&alice.agent);
    event(&service, BROKER, "session-ended", Some("alice"));
    let text = log(&["--lines=0"]);
    assert!(text.contains("three\n") && text.contains("the session ends"), "{text}");
    service.no(66, "neither the table nor the trail knows", &["session", "log", "abcdef123456"]);
    service.sh(&alice.agent, "rm /var/lib/vsm-agent/log/*");
    service.no(66, "has no log of session", &["session", "log", &short]);
    service.stop_daemon(&alice.agent, "vsmagent").unwrap();
    service.agents_are("down", &[&alice.agent]);
    service.no(69, "cannot be reached", &["session", "log", &short]);
}
