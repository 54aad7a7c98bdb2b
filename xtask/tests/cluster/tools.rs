//! The small programs that users have in their desktops, and the one by which support gets in.

use xtask::clock::wait_for;

use crate::login::{install_viewer, state_becomes, view};
use crate::service::{Service, WAIT};

/// A line of shell as the owner, in no desktop: as from an ssh login on the session host.
fn outside(service: &Service, agent: &str, line: &str) -> (i32, String) {
    let output = service.exec(agent, "alice", &["sh", "-c", line]).unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), text.concat().trim().to_owned())
}

#[test]
fn commands_run_in_a_desktop_from_outside_of_it_and_end_with_it() {
    let service = Service::up("tools-env");
    let alice = service.connect("alice");
    let display = format!(":{}", alice.display);
    let (code, said) = outside(
        &service,
        &alice.agent,
        "echo $DISPLAY; vsm-env sh -c 'echo $DISPLAY $VSM_SESSION_ID'",
    );
    assert_eq!((code, said), (0, format!("{display} {}", alice.session)));
    let (code, said) = outside(&service, &alice.agent, "vsm-env -d sh -c 'echo $DISPLAY; exit 7'");
    assert_eq!((code, said), (7, display.clone()));
    // It reaches the X server: a real client draws on it.
    assert_eq!(outside(&service, &alice.agent, "vsm-env xsetroot -solid black").0, 0);
    let (code, said) = outside(&service, &alice.agent, "vsm-env no-such-program");
    assert_eq!(code, 127, "{said}");
    let other = service.exec(&alice.agent, "bob", &["vsm-env", "--session", &alice.session, "id"]);
    assert_eq!(other.unwrap().status.code(), Some(66), "a desktop is its owner's");
    let none = service.exec(&alice.agent, "bob", &["vsm-env", "id"]).unwrap();
    assert_eq!(none.status.code(), Some(66));

    let start = "vsm-env vsm-while-x11 sleep 86401 >/dev/null 2>&1 & echo";
    outside(&service, &alice.agent, start);
    service.until(&alice.agent, "pgrep -f '^sleep 86401'");
    let (code, said) = outside(&service, &alice.agent, "vsm-env vsm-while-x11 sh -c 'exit 5'");
    assert_eq!(code, 5, "{said}");
    service.end("alice");
    service.until(&alice.agent, "! pgrep -f '^sleep 86401'");
    service.clean(&alice.agent);
    assert_eq!(
        outside(&service, &alice.agent, &format!("vsm-while-x11 --display {display} true")).0,
        66
    );
}

#[test]
fn a_desktop_is_left_from_within() {
    let service = Service::up("tools-leave");
    let alice = service.connect("alice");
    let (code, said) = outside(&service, &alice.agent, "vsm-env vsm-disconnect");
    assert_eq!(code, 66);
    assert!(said.contains("nobody views this desktop"), "{said}");
    install_viewer(&service);
    let viewer = view(&service, "alice");
    state_becomes(&service, "alice", "connected");
    let (code, said) = outside(&service, &alice.agent, "vsm-env vsm-disconnect");
    assert_eq!(code, 0, "{said}");
    state_becomes(&service, "alice", "disconnected");
    assert!(!service.connect("alice").created, "it went on");
    // Its `vsm` says why it ended.
    let output = viewer.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn groups_are_told_and_one_program_can_be_the_desktop() {
    let service = Service::up("tools-group");
    for agent in crate::service::AGENTS {
        service.sh(agent, "groupadd -f staff9; usermod -aG staff9 alice; groupadd -f other9");
        let script = include_str!("../../../deploy/xsession");
        service.sh(agent, &format!("cat > /etc/vsm/xsession <<'END'\n{script}\nEND"));
    }
    let group = |words: &str| outside(&service, "agent1", &format!("vsm-memberof-group {words}")).0;
    assert_eq!(group("staff9"), 0);
    assert_eq!(group("alice staff9"), 0);
    assert_eq!(group("staff9 other9"), 1);
    assert_eq!(group("staff9 no-such-group"), 2);
    assert_eq!(group(""), 64);

    let alice = service.connect_with("alice", &["--start-command", "vsm-single-app xterm -T only"]);
    let geometry = || {
        let words = "vsm-env xwininfo -name only | awk '/Width|Height/ { print $2 }' | tr '\n' ' '";
        outside(&service, &alice.agent, words).1
    };
    wait_for("the program to fill the screen", WAIT, || {
        let found = geometry();
        let sides: Vec<u32> = found.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        // xterm's window is a whole number of characters.
        if sides.len() == 2 && sides[0] > 1260 && sides[1] > 770 { Ok(()) } else { Err(found) }
    })
    .unwrap();
}

/// Support comes by way of a host that both can reach, and still has to log in.
#[test]
fn support_reaches_a_host_that_cannot_be_reached() {
    let service = Service::up("tools-support");
    service.key_for("alice");
    // The hosts of these tests forbid all forwarding; a host that support comes by allows it.
    let allow = "grep -rl 'DisableForwarding yes' /etc/ssh | xargs sed -i s/DisableForwarding.yes/DisableForwarding\\ no/";
    service.sh(crate::service::BROKER, allow);
    service.restart_daemon(crate::service::BROKER, "sshd").unwrap();
    let start = "nohup vsm-support alice@tlha >$HOME/support 2>&1 & echo $! > $HOME/support.pid";
    service.output("client", "alice", &["sh", "-c", start]).unwrap();
    let back = "ssh -o StrictHostKeyChecking=no -o BatchMode=yes -p 2022 localhost uname -n";
    wait_for("the way back to the client", WAIT, || {
        let output = service.exec(crate::service::BROKER, "alice", &["sh", "-c", back]).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if said == "client" { Ok(()) } else { Err(format!("{output:?}")) }
    })
    .unwrap();
    service.output("client", "alice", &["sh", "-c", "kill $(cat $HOME/support.pid)"]).unwrap();
    for words in ["", "-p x host", "a b", "-oProxyCommand=x"] {
        let line = format!("vsm-support {words}");
        let output = service.exec("client", "alice", &["sh", "-c", &line]).unwrap();
        assert_eq!(output.status.code(), Some(64), "{words}: {output:?}");
    }
}
