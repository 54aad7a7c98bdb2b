//! The default session script makes a desktop that a person can work at.

use std::process::{Child, Stdio};
use std::time::Duration;

use xtask::clock::wait_for;
use xtask::cluster::Cluster;

use crate::cluster;
use crate::service::{AGENTS, BROKER, Service};

const WAIT: Duration = Duration::from_secs(120);
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

/// Files that end in .sh give variables, others are run, in the order of their names; and so at the log-out, while the
/// display is still there.
#[test]
fn what_the_administrator_wants_is_done_at_the_start_and_at_the_log_out() {
    let service = Service::up("xstartup-d");
    for agent in AGENTS {
        let script = include_str!("../../../deploy/xsession");
        service.sh(agent, &format!("cat > /etc/vsm/xsession <<'END'\n{script}\nEND"));
        let files = r#"mkdir -p /etc/vsm/xstartup.d /etc/vsm/xlogout.d
printf 'export SITE=here\n' > /etc/vsm/xstartup.d/10-site.sh
printf '#!/bin/sh\necho "$SITE $VSM_BACKGROUND_COLOR" > ~/started\n' > /etc/vsm/xstartup.d/20-program
printf '#!/bin/sh\necho not run > ~/started\n' > /etc/vsm/xstartup.d/30-not-for-running
printf '#!/bin/sh\nxset q >/dev/null && echo bye > ~/left\n' > /etc/vsm/xlogout.d/10-program
printf 'echo "sourced $USER" > ~/sourced\n' > /etc/vsm/xlogout.d/20-site.sh
chmod 755 /etc/vsm/xstartup.d/20-program /etc/vsm/xlogout.d/10-program"#;
        service.sh(agent, files);
        service.configure(
            agent,
            "vsmagent",
            &["/sessionstart/background_color=#102030", "/sessionstart/keyboard_layout=de"],
        );
    }
    let alice = service.connect_with("alice", &["--start-command", "sleep 86400"]);
    let home = |file: &str| {
        service.until(&alice.agent, &format!("grep . /home/alice/{file}")).trim().to_owned()
    };
    assert_eq!(home("started"), "here #102030");
    let layout = service
        .until(&alice.agent, "su alice -c 'vsm-env setxkbmap -query' | grep -w 'layout: *de'");
    assert!(layout.contains("de"), "{layout}");
    service.until(&alice.agent, "pkill -f '^sleep 86400'");
    assert_eq!(home("left"), "bye");
    assert_eq!(home("sourced"), "sourced alice");
    service.clean(&alice.agent);
}

#[test]
fn a_start_command_can_be_forbidden() {
    let service = Service::up("no-command");
    let with = service.connect_with("alice", &["--start-command", "sleep 86400"]);
    service.configure(BROKER, "vsmserver", &["/vsmserver/allow_start_command=false"]);
    let output = service.try_connect_with("bob", &["--start-command", "sleep 86400"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(77), "{text}");
    assert!(text.contains("/vsmserver/allow_start_command"), "{text}");
    // One that runs is come back to.
    let again = service.connect_with("alice", &["--start-command", "sleep 86400"]);
    assert_eq!((again.session, again.created), (with.session, false));
    assert!(service.connect("bob").created);
}
