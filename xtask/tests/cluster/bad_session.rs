//! Desktops that do what no desktop should, and hosts that change under them: each ends whole or goes on, and its user
//! gets the next one.

use crate::service::{AGENTS, BROKER, Connected, Service, refusal};

fn with_script(service: &Service, script: &str) {
    for agent in AGENTS {
        service.sh(agent, &format!("cat > /etc/vsm/xsession <<'END'\n#!/bin/sh\n{script}\nEND"));
    }
}

fn end(service: &Service, user: &str, at: &Connected) {
    service.end(user);
    service.clean(&at.agent);
}

#[test]
fn a_script_that_closes_all_its_descriptors_is_a_session_like_any_other() {
    let service = Service::up("descriptors");
    with_script(
        &service,
        "exec 0<&- 1>&- 2>&- 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-\nsleep 86400\nexit 0",
    );
    let alice = service.connect("alice");
    service.until(&alice.agent, "pgrep -u alice -x sleep");
    assert_eq!(service.connect("alice").session, alice.session);
    service.crash(&alice.agent, "vsmagent");
    service.agents_are("up", &AGENTS);
    assert_eq!(service.connect("alice").session, alice.session);
    end(&service, "alice", &alice);
}

/// The desktop is what the script is: when it returns the user has logged out, whatever it has left in the background.
#[test]
fn a_script_that_forks_and_exits_is_a_log_out_that_leaves_nothing() {
    let service = Service::up("forks");
    with_script(
        &service,
        "setsid setsid sleep 86400 &\nuntil test -e ~/go; do sleep 0.1; done\nexit 0",
    );
    let alice = service.connect("alice");
    service.until(&alice.agent, "pgrep -u alice -x -f 'sleep 86400'");
    service.sh(&alice.agent, "touch /home/alice/go");
    service.rows_become("no session", |rows| rows.is_empty());
    service.clean(&alice.agent);
    let ended = service
        .output("client", "alice", &["vsm", "list", "--ended", "--output", "json", "alice@tlha"])
        .unwrap();
    assert!(ended.contains("\"logout\""), "{ended}");
}

#[test]
fn a_thousand_processes_go_with_their_session() {
    let service = Service::up("thousand");
    with_script(
        &service,
        "i=0; while [ $i -lt 1000 ]; do setsid sleep 86400 & i=$((i+1)); done\nsleep 86400\nexit 0",
    );
    let alice = service.connect("alice");
    service.until(&alice.agent, "test $(pgrep -u alice -x sleep | wc -l) -ge 1001");
    end(&service, "alice", &alice);
    assert!(service.connect("alice").created);
}

#[test]
fn a_display_that_a_foreign_x_server_has_is_passed_over() {
    let service = Service::up("foreign");
    // One that is in the way of the first display of each host, and is nobody's session.
    for agent in AGENTS {
        service.sh(
            agent,
            "(setsid Xtigervnc :10 -rfbport -1 -rfbunixpath /root/foreign -SecurityTypes None -nolisten tcp \
             >/dev/null 2>&1 &); until test -S /tmp/.X11-unix/X10; do sleep 0.05; done",
        );
    }
    for user in ["alice", "bob"] {
        let at = service.connect(user);
        assert_ne!(at.display, 10, "{user}");
        service.end(user);
        service.until(&at.agent, &format!("! test -e /tmp/.X11-unix/X{}", at.display));
        // The foreign one was not touched.
        service.sh(&at.agent, "test -S /tmp/.X11-unix/X10 && pgrep -f 'Xtigervnc :10 '");
    }
}

#[test]
fn the_desktop_of_a_user_who_was_deleted_can_be_ended() {
    let service = Service::up("deleted");
    let alice = service.connect("alice");
    let bob = service.connect("bob");
    for host in [BROKER].iter().chain(&AGENTS) {
        service.sh(host, "sed -i '/^alice:/d' /etc/passwd /etc/shadow");
    }
    // It goes on, and the administrator sees it, also after restarts.
    service.crash(&alice.agent, "vsmagent");
    service.crash(BROKER, "vsmserver");
    service.agents_are("up", &AGENTS);
    service
        .rows_become("both", |rows| rows.len() == 2 && rows.iter().any(|row| row.user == "alice"));
    service.sh(BROKER, "vsmctl session terminate --user alice --assume-yes");
    service.rows_become("bob's alone", |rows| rows.len() == 1 && rows[0].user == "bob");
    service.until(&alice.agent, &format!("! test -e /run/vsm/sessions/{}", alice.session));
    assert_eq!(service.connect("bob").session, bob.session);
}

/// A file system whose server never answers; whoever touches it hangs until they are killed. It ends with the process.
const HUNG: &str = r#"
use strict; use warnings;
open(my $fuse, "+<", "/dev/fuse") or die "fuse: $!";
my ($what, $dir, $type, $options) = ("hung", $ARGV[0], "fuse", "fd=" . fileno($fuse) . ",rootmode=40000,user_id=0,group_id=0,allow_other");
syscall(165, $what, $dir, $type, 0, $options) == 0 or die "mount: $!";
open(my $pid, ">", "/run/hung.pid") or die; print $pid $$; close($pid);
sleep 1000;
"#;

#[test]
fn a_home_that_hangs_holds_up_its_user_alone() {
    let service = Service::up("hung-home");
    let bob = service.connect("bob");
    for agent in AGENTS {
        service.sh(
            agent,
            &format!("cat > /root/hung.pl <<'END'\n{HUNG}END\n(setsid perl /root/hung.pl /home/alice >/dev/null 2>&1 &)"),
        );
        service.until(agent, "test -s /run/hung.pid");
    }
    std::thread::scope(|scope| {
        let alice = scope.spawn(|| service.try_connect("alice"));
        // While she waits others come, go and come back.
        for agent in AGENTS {
            service.until(agent, "pgrep -x vsm-session || true");
        }
        assert_eq!(service.connect("bob").session, bob.session);
        let carol = service.connect("carol");
        assert!(carol.created);
        let (line, _) = refusal(&alice.join().unwrap(), 70, &["the home of alice", "hangs"]);
        assert!(line.contains("/home/alice"), "{line}");
        service.end("carol");
    });
    // Nothing is left of hers, and with the file server's return she is served.
    service.rows_become("bob alone", |rows| rows.len() == 1 && rows[0].user == "bob");
    for agent in AGENTS {
        service.sh(agent, "kill $(cat /run/hung.pid)");
        service.until(agent, "umount /home/alice");
    }
    let alice = service.connect("alice");
    end(&service, "bob", &bob);
    // And when it is gone again under her desktop, that can be ended all the same.
    service.sh(
        &alice.agent,
        "rm /run/hung.pid; (setsid perl /root/hung.pl /home/alice >/dev/null 2>&1 &)",
    );
    service.until(&alice.agent, "test -s /run/hung.pid");
    service.crash(&alice.agent, "vsmagent");
    service.agents_are("up", &AGENTS);
    service.sh(BROKER, "vsmctl session terminate --user alice --assume-yes");
    service.rows_become("no session", |rows| rows.is_empty());
    service.clean(&alice.agent);
}

#[test]
fn a_full_tmp_is_told_and_leaves_nothing_in_the_way_of_the_next() {
    let service = Service::up("full-tmp");
    let bob = service.connect("bob");
    for agent in AGENTS {
        service.sh(agent, "mount -o remount,size=64k /tmp; cat /dev/zero > /tmp/fill || true");
    }
    service.refused_cleanly("alice", 70, &["the X server on agent", "lock file", "/tmp"]);
    for agent in AGENTS {
        service.sh(agent, "! ls /tmp/.tX*");
    }
    assert_eq!(service.connect("bob").session, bob.session);
    for agent in AGENTS {
        service.sh(agent, "rm /tmp/fill");
        // What another X server has left of itself, which alice could not take away.
        service.sh(
            agent,
            "for n in $(seq 10 19); do touch /tmp/.tX$n-lock; chown bob /tmp/.tX$n-lock; done",
        );
    }
    assert!(service.connect("alice").display >= 20);
}
