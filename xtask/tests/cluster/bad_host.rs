//! Hosts where something is missing, broken, off or not who it says it is.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::XTASK;
use crate::service::{AGENTS, BROKER, Row, Service, refusal};

const UNAVAILABLE: i32 = 69;
const SOFTWARE: i32 = 70;
const SSH: i32 = 255;

/// A login with a look at the desktop, which goes to the agent too.
fn look(service: &Service, user: &str) -> Output {
    let to = format!("{user}@tlha");
    let words = ["vsm", "connect", "--screenshot", "now.png", &to];
    service.exec("client", user, &words).unwrap()
}

#[test]
fn a_missing_x_server_sends_the_user_to_the_next_agent() {
    let service = Service::up("xvnc");
    for agent in AGENTS {
        service.configure(agent, "vsmagent", &["/vsmagent/xserver=/opt/no/Xvnc"]);
    }
    let words = ["/opt/no/Xvnc is not installed on agent", "/vsmagent/xserver"];
    service.refused_cleanly("alice", SOFTWARE, &words);
    service.configure("agent2", "vsmagent", &["/vsmagent/xserver="]);
    for user in ["alice", "bob", "carol"] {
        assert_eq!(service.connect(user).agent, "agent2");
    }
    service.clean("agent1");
    // One that is there and does not work; agent1 is behind in the queue, and still the fewer's.
    service.configure("agent1", "vsmagent", &["/vsmagent/xserver=/bin/false"]);
    service.configure("agent2", "vsmagent", &["/vsmagent/xserver=/bin/false"]);
    service.end("alice");
    service.refused_cleanly("alice", SOFTWARE, &["the X server on agent", "ended at once"]);
    service.configure("agent1", "vsmagent", &["/vsmagent/xserver="]);
    assert_eq!(service.connect("alice").agent, "agent1");
}

#[test]
fn a_session_script_that_fails_at_once_is_named() {
    let service = Service::up("script");
    let good = service.sh("agent1", "cat /etc/vsm/xsession");
    let bad = "printf '#!/bin/sh\\necho no disco >&2\\nexit 3\\n' > /etc/vsm/xsession";
    for agent in AGENTS {
        service.sh(agent, bad);
    }
    let (line, reference) =
        refusal(&look(&service, "alice"), SOFTWARE, &["session script failed", "3", "no disco"]);
    let log = service.daemon_log(BROKER, "vsmserver");
    let request = format!("request={}", reference.unwrap_or_else(|| panic!("{line}")));
    assert!(log.lines().any(|line| line.contains(&request) && line.contains("alice")), "{log}");
    service.rows_become("no session", <[Row]>::is_empty);
    for agent in AGENTS {
        service.clean(agent);
    }
    for agent in AGENTS {
        service.sh(agent, "rm /etc/vsm/xsession");
    }
    service.refused_cleanly("alice", SOFTWARE, &["/etc/vsm/xsession is missing on agent"]);
    for agent in AGENTS {
        service
            .sh(agent, &format!("echo '{good}' > /etc/vsm/xsession; chmod 755 /etc/vsm/xsession"));
    }
    assert!(look(&service, "alice").status.success());
    assert_eq!(service.rows().len(), 1);
}

#[test]
fn agents_that_are_down_are_passed_over_and_named() {
    let service = Service::up("down");
    let alice = service.connect("alice");
    service.stop_daemon(&alice.agent, "vsmagent").unwrap();
    service.agents_are("down", &[&alice.agent]);
    service.refused("alice", UNAVAILABLE, &[&alice.agent, "does not answer"]);
    let bob = service.connect("bob");
    assert_ne!(bob.agent, alice.agent);
    service.stop_daemon(&bob.agent, "vsmagent").unwrap();
    service.agents_are("down", &AGENTS);
    let words = ["no session host can take a new desktop", "agent1 is down", "agent2 is down"];
    service.refused("carol", UNAVAILABLE, &words);
    assert!(service.rows().iter().all(|row| row.user != "carol" && row.state == "unreachable"));
    for agent in AGENTS {
        service.start_daemon(agent, "vsmagent").unwrap();
    }
    service.agents_are("up", &AGENTS);
    assert!(service.connect("carol").created);
    assert_eq!(service.connect("alice").session, alice.session);
    assert_eq!(service.connect("bob").session, bob.session);
}

#[test]
fn a_broker_or_an_sshd_that_is_down_is_said() {
    let service = Service::up("nobody");
    let alice = service.connect("alice");
    service.stop_daemon(BROKER, "vsmserver").unwrap();
    refusal(
        &service.try_connect("alice"),
        UNAVAILABLE,
        &["tlha", "no VSM broker runs on this host"],
    );
    let ctl = service.exec(BROKER, "root", &["vsmctl", "session", "list"]).unwrap();
    assert_eq!(ctl.status.code(), Some(UNAVAILABLE), "{ctl:?}");
    service.start_daemon(BROKER, "vsmserver").unwrap();
    service.agents_are("up", &AGENTS);
    assert_eq!(service.connect("alice").session, alice.session);
    for (host, name) in [(BROKER, "tlha"), (&*alice.agent, &*alice.host)] {
        service.stop_daemon(host, "sshd").unwrap();
        let output = look(&service, "alice");
        assert_eq!(output.status.code(), Some(SSH), "{output:?}");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(words.contains("Connection refused"), "{words}");
        assert!(words.contains(&format!("vsm: ssh to {name} failed")), "{words}");
        service.start_daemon(host, "sshd").unwrap();
        service.until(host, "ss -H -ltn | grep :22");
    }
    assert!(look(&service, "alice").status.success());
    assert_eq!(service.connect("alice").session, alice.session);
}

/// The cluster's own `vsmctl pki` on the machine.
pub(crate) fn pki(words: &[&str]) {
    let vsmctl = PathBuf::from(XTASK).with_file_name("vsmctl");
    let output = Command::new(vsmctl).arg("pki").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
}

/// Gives agent1 another identity and looks at how it is shut out and let in again.
fn shut_out(service: &Service, what: &str, files: &str) {
    let swap = format!("mv /etc/vsm/pki /etc/vsm/pki.good; cp -r /run/host/{files} /etc/vsm/pki");
    service.sh("agent1", &swap);
    service.restart_daemon("agent1", "vsmagent").unwrap();
    service.agents_are("down", &["agent1"]);
    for user in ["alice", "bob", "carol"] {
        assert_eq!(service.connect(user).agent, "agent2", "{what}");
    }
    let list = service.sh(BROKER, "vsmctl agent list --output json");
    assert!(list.to_lowercase().contains("certificate"), "{what}: {list}");
    assert_eq!(service.traces("agent1").len(), 0);
    service.sh(BROKER, "vsmctl session terminate --all --assume-yes");
    service.sh("agent1", "rm -r /etc/vsm/pki; mv /etc/vsm/pki.good /etc/vsm/pki");
    service.restart_daemon("agent1", "vsmagent").unwrap();
    service.agents_are("up", &["agent1"]);
}

#[test]
fn an_agent_with_the_wrong_certificate_gets_no_desktops() {
    let service = Service::up("cert");
    let state = format!("/run/vsm-cluster/{}", service.name());
    let out = |name: &str| format!("{state}/hosts/agent1/{name}");
    let (own, other) = (format!("{state}/pki"), format!("{state}/pki-other"));
    pki(&["init", "--dir", &other]);
    let address = ["--address", "agent9", "--address", "10.0.0.99"];
    let issue = ["issue", "agent9", "--role", "agent", "--dir", &own, "--out"];
    pki(&[&issue[..], &[&out("another-name")], &address].concat());
    let issue = ["issue", "agent1", "--role", "agent", "--dir", &other, "--out"];
    let address = ["--address", "agent1", "--address", "10.0.0.11"];
    pki(&[&issue[..], &[&out("another-authority")], &address].concat());
    shut_out(&service, "another host's", "another-name");
    shut_out(&service, "another authority's", "another-authority");
    // With both it is the user who is told.
    service.stop_daemon("agent2", "vsmagent").unwrap();
    service.sh(
        "agent1",
        "mv /etc/vsm/pki /etc/vsm/pki.good; cp -r /run/host/another-name /etc/vsm/pki",
    );
    service.restart_daemon("agent1", "vsmagent").unwrap();
    service.agents_are("down", &AGENTS);
    service.refused_cleanly(
        "alice",
        UNAVAILABLE,
        &["agent1 is down", "ertificate", "agent2 is down"],
    );
    service.sh("agent1", "rm -r /etc/vsm/pki; mv /etc/vsm/pki.good /etc/vsm/pki");
    service.restart_daemon("agent1", "vsmagent").unwrap();
    service.agents_are("up", &["agent1"]);
    assert_eq!(service.connect("alice").agent, "agent1");
}
