//! The default session script makes a desktop that a person can work at.

use std::process::{Child, Stdio};
use std::time::Duration;

use xtask::clock::wait_for;
use xtask::cluster::Cluster;

use crate::cluster;

const WAIT: Duration = Duration::from_secs(20);
const COOKIE: &str = "0123456789abcdef0123456789abcdef";
const ENVIRONMENT: [&str; 3] = ["env", "DISPLAY=:71", "XAUTHORITY=/home/alice/.t-cookie"];

/// Starts `words` for alice on agent1 with a display.
fn start(cluster: &Cluster, words: &[&str]) -> Child {
    let words = [&ENVIRONMENT, words].concat();
    let mut command = cluster.command("agent1", "alice", &words).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs `words` for alice on agent1 with a display until they succeed.
fn until_works(cluster: &Cluster, what: &str, words: &[&str]) -> String {
    let words = [&ENVIRONMENT, words].concat();
    wait_for(what, WAIT, || {
        cluster.output("agent1", "alice", &words).map_err(|error| format!("{error:#}"))
    })
    .unwrap()
}

fn display(cluster: &Cluster) -> Child {
    until_works(cluster, "the cookie", &["xauth", "-q", "add", ":71", ".", COOKIE]);
    let words = "Xtigervnc :71 -noreset -rfbunixpath /home/alice/rfb.sock -rfbport -1 -SecurityTypes None \
                 -nolisten tcp -nolisten local -auth /home/alice/.t-cookie";
    let server = start(cluster, &words.split_whitespace().collect::<Vec<_>>());
    until_works(cluster, "the X server", &["xdpyinfo"]);
    server
}

/// Types a command until the shell has run it: keys typed while it starts are lost.
fn type_until_obeyed(cluster: &Cluster) {
    wait_for("the terminal to obey", WAIT, || {
        until_works(cluster, "typing", &["xdotool", "key", "ctrl+u"]);
        until_works(cluster, "typing", &["xdotool", "type", "--delay", "20", "tty > typed\n"]);
        let typed = cluster.output("agent1", "alice", &["grep", "/dev/pts/", "typed"]);
        typed.map_err(|error| format!("{error:#}"))
    })
    .unwrap();
}

#[test]
fn the_session_script_brings_a_window_manager_and_a_terminal_and_ends_with_it() {
    let cluster = cluster("desktop");
    let mut server = display(&cluster);
    let mut session = start(&cluster, &["/etc/vsm/xsession"]);
    let search = ["xdotool", "search", "--onlyvisible", "--class", "xterm"];
    let terminal = until_works(&cluster, "the terminal", &search);
    let name = ["xdotool", "getwindowname", &terminal];
    assert!(until_works(&cluster, "its title", &name).starts_with("alice@agent1"));
    until_works(
        &cluster,
        "the window manager",
        &["xdotool", "windowactivate", "--sync", &terminal],
    );
    type_until_obeyed(&cluster);
    assert!(session.try_wait().unwrap().is_none(), "the session ended too early");
    until_works(&cluster, "the log-out", &["openbox", "--exit"]);
    wait_for("the session to end", WAIT, || match session.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    cluster.output("agent1", "alice", &["pkill", "Xtigervnc"]).unwrap();
    server.wait().unwrap();
}

#[test]
fn the_user_can_have_a_session_script_of_their_own() {
    let cluster = cluster("xstartup");
    let script = "mkdir .vsm; printf '#!/bin/sh\\necho mine > ran; exit 3\\n' > .vsm/xstartup; \
                  chmod +x .vsm/xstartup";
    cluster.output("agent1", "alice", &["sh", "-c", script]).unwrap();
    let status = start(&cluster, &["/etc/vsm/xsession"]).wait().unwrap();
    assert_eq!(status.code(), Some(3));
    assert_eq!(cluster.output("agent1", "alice", &["cat", "ran"]).unwrap(), "mine");
}
