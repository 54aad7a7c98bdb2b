//! A user gets a desktop, comes back to it, leaves, ends it; then there is nothing left of it.

use std::process::{Child, Stdio};

use xtask::clock::wait_for;

use crate::service::{AGENTS, BROKER, Connected, Row, Service, WAIT};

/// A viewer for tests: says that it is one, keeps its connection until it is dropped, then leaves.
const VIEWER: &str = "#!/usr/bin/perl\n\
    use IO::Socket::UNIX;\n\
    my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die \"$ARGV[0]: $!\";\n\
    sysread($s, my $greeting, 12) or die 'no greeting';\n\
    $| = 1; print $greeting;\n\
    1 while sysread($s, my $more, 4096);\n";

pub(crate) fn install_viewer(service: &Service) {
    let path = "/etc/vsm/viewer";
    let write = format!("mkdir -p /etc/vsm; cat > {path} <<'END'\n{VIEWER}\nEND\nchmod 755 {path}");
    service.sh("client", &write);
}

/// A viewer that runs in the background.
pub(crate) fn view(service: &Service, user: &str) -> Child {
    let to = format!("{user}@tlha");
    let words = ["vsm", "connect", "--viewer", "/etc/vsm/viewer", &to];
    let mut command = service.command("client", user, &words).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The user's own list.
fn own_rows(service: &Service, user: &str) -> Vec<Row> {
    let to = format!("{user}@tlha");
    let list = service.output("client", user, &["vsm", "list", "--output", "json", &to]).unwrap();
    serde_json::from_str(&list).unwrap()
}

/// The table's only row of a user.
pub(crate) fn row(service: &Service, user: &str) -> Row {
    let mut rows = service.rows();
    rows.retain(|row| row.user == user);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    rows.remove(0)
}

pub(crate) fn state_becomes(service: &Service, user: &str, state: &str) -> Row {
    let fits = |row: &Row| row.user == user && row.state == state;
    let rows = service.rows_become(&format!("{user} {state}"), |rows| rows.iter().any(fits));
    rows.into_iter().find(fits).unwrap()
}

#[test]
fn a_user_comes_back_to_the_same_desktop_and_another_gets_the_other_agent() {
    let service = Service::up("login");
    let first = service.connect("alice");
    assert!(first.created);
    assert_eq!(first.host, first.agent);
    let again = service.connect("alice");
    assert_eq!((&again.session, &again.agent), (&first.session, &first.agent));
    assert_eq!((again.display, again.created), (first.display, false));
    let bob = service.connect("bob");
    assert_ne!(bob.agent, first.agent);
    assert_ne!(bob.session, first.session);
    let listed = own_rows(&service, "alice");
    assert_eq!(listed, [row(&service, "alice")], "users see their own desktops");
    assert_eq!(listed[0].session, first.session);
    assert_eq!((listed[0].display, &*listed[0].state), (first.display, "disconnected"));
    assert!(listed[0].created.is_some());
    banner_on_printed_socket(&service, &first);
    json_of_the_administrator(&service);
    another_users_session(&service, &bob);
}

/// The socket that `--no-viewer` names leads to the desktop.
fn banner_on_printed_socket(service: &Service, to: &Connected) {
    let socket = to.socket.as_ref().unwrap();
    let read = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; \
                sysread($s, my $g, 12); print $g";
    let banner = service.output("client", "alice", &["perl", "-e", read, socket]).unwrap();
    assert!(banner.starts_with("RFB 003.00"), "{banner:?}");
    assert!(service.output("client", "bob", &["perl", "-e", read, socket]).is_err());
}

/// The fields that scripts rely on.
fn json_of_the_administrator(service: &Service) {
    let fields = |words: &[&str]| -> Vec<String> {
        let words = [&["vsmctl", "--output", "json"], words].concat();
        let text = service.output(BROKER, "root", &words).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        if value.is_array() {
            value = value[0].take();
        }
        value.as_object().unwrap().keys().cloned().collect()
    };
    let agent = "agent detail drain drained_by_configuration draining maintenance max_users penalised_until public_name \
                 sessions since state subclusters troubles users version weight";
    assert_eq!(fields(&["agent", "list"]).join(" "), agent);
    assert_eq!(fields(&["agent", "show", "agent1"]).join(" "), agent);
    let load = "agent bound cpu_busy_percent cpu_pressure_percent cpus load1 max_users measured \
                memory_available_mib memory_pressure_percent memory_total_mib room room_by_cap \
                room_by_memory run_queue sessions sessions_since state users";
    assert_eq!(fields(&["load", "list"]).join(" "), load);
    assert_eq!(fields(&["load", "show", "agent1"]).join(" "), load);
    let subcluster = "agents level room room_by_cap room_by_memory subcluster taking users";
    assert_eq!(fields(&["load", "subclusters"]).join(" "), subcluster);
    let explain = "agents allowed allowed_by allowed_groups chosen groups max_sessions node placement refused \
                   refused_reason sessions subcluster subcluster_group subcluster_rule user";
    assert_eq!(fields(&["explain", "alice"]).join(" "), explain);
    let status = "epoch last_seq lineage node role sessions started troubles version";
    assert_eq!(fields(&["status"]).join(" "), status);
}

/// Nobody reaches a desktop of somebody else by its id.
fn another_users_session(service: &Service, of_bob: &Connected) {
    let id = &*of_bob.session;
    let end = ["vsm", "end", "--session", id, "alice@tlha"];
    let output = service.exec("client", "alice", &end).unwrap();
    assert_eq!(output.status.code(), Some(66), "{output:?}");
    let connect = ["vsm", "connect", "--no-viewer", "--session", id, "alice@tlha"];
    let output = service.exec("client", "alice", &connect).unwrap();
    assert_eq!(output.status.code(), Some(66), "{output:?}");
    // Not even on its own host, past the broker.
    let preface = format!("printf 'vsm/1 session {id}\\n' | ssh -s {} vsm", of_bob.host);
    let output = service.exec("client", "alice", &["sh", "-c", &preface]).unwrap();
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(answer.starts_with("error refused "), "{answer:?}");
    assert_eq!(row(service, "bob").session, id);
}

#[test]
fn a_disconnected_viewer_leaves_and_the_desktop_lives_on() {
    let service = Service::up("disconnect");
    install_viewer(&service);
    let desktop = service.connect("alice");
    let viewer = view(&service, "alice");
    let seen = state_becomes(&service, "alice", "connected");
    assert_eq!(seen.viewer.as_deref(), Some("10.0.0.100"));
    service.output("client", "alice", &["vsm", "disconnect", "alice@tlha"]).unwrap();
    let output = viewer.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("RFB 003.00"), "{output:?}");
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(words.contains("Your viewer was disconnected; your desktop lives on."), "{output:?}");
    assert!(output.status.success());
    assert_eq!(state_becomes(&service, "alice", "disconnected").session, desktop.session);
    let back = service.connect("alice");
    assert_eq!((&back.session, back.created), (&desktop.session, false));
    let again = service.exec("client", "alice", &["vsm", "disconnect", "alice@tlha"]).unwrap();
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("No viewer"));
}

#[test]
fn nothing_of_an_ended_desktop_is_left_and_the_next_login_makes_a_new_one() {
    let service = Service::up("end");
    install_viewer(&service);
    // Children that leave their parent, their terminal and their process group.
    let script = r#"cat > /etc/vsm/xsession <<'END'
#!/bin/sh
setsid nohup sleep 86401 >/dev/null 2>&1 &
(trap '' TERM HUP; setsid sh -c 'trap "" TERM HUP; while :; do sleep 86402; done' &) &
env -i setsid nohup sleep 86403 >/dev/null 2>&1 &
exec sleep 86400
END"#;
    for agent in AGENTS {
        service.sh(agent, script);
    }
    let desktop = service.connect("alice");
    let agent = &*desktop.agent;
    for strays in ["86401", "86402", "86403"] {
        service.until(agent, &format!("pgrep -f '^sleep {strays}'"));
    }
    let kinds = ["folder", "display", "cgroup", "record", "process"];
    let traces = service.traces(agent);
    for kind in kinds {
        assert!(traces.iter().any(|trace| trace.starts_with(kind)), "no {kind}: {traces:#?}");
    }
    service.end("alice");
    assert_eq!(service.traces(agent), std::collections::BTreeSet::new(), "vsm end came too early");
    assert_eq!(service.rows(), []);
    let nothing = service.exec("client", "alice", &["vsm", "end", "alice@tlha"]).unwrap();
    assert_eq!(nothing.status.code(), Some(66), "{nothing:?}");
    let next = service.connect("alice");
    assert!(next.created && next.session != desktop.session);
    logout_ends_it_too(&service, &next);
    the_administrator_ends_it(&service);
}

/// The end of the session script is the user's log-out.
fn logout_ends_it_too(service: &Service, desktop: &Connected) {
    service.until(&desktop.agent, "pkill -f '^sleep 86400'");
    service.rows_become("the log-out", <[Row]>::is_empty);
    service.clean(&desktop.agent);
}

fn the_administrator_ends_it(service: &Service) {
    let desktop = service.connect("bob");
    let viewer = view(service, "bob");
    state_becomes(service, "bob", "connected");
    let terminate = ["vsmctl", "session", "terminate", "--user", "bob", "--assume-yes"];
    service.output(BROKER, "root", &terminate).unwrap();
    assert_eq!(service.rows(), []);
    service.clean(&desktop.agent);
    let output = viewer.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(70), "{output:?}");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("vsm: your desktop has ended: it was terminated"), "{words}");
    let none = service.exec(BROKER, "root", &terminate).unwrap();
    assert_eq!(none.status.code(), Some(66), "{none:?}");
    let unasked = service.exec(BROKER, "root", &["vsmctl", "session", "terminate"]).unwrap();
    assert_eq!(unasked.status.code(), Some(64), "{unasked:?}");
}

#[test]
fn a_session_keeps_a_log_that_only_root_reads() {
    let service = Service::up("log");
    let script = "printf '#!/bin/sh\\necho words of the script >&2\\nexec sleep 86400\\n' > /etc/vsm/xsession";
    for agent in AGENTS {
        service.sh(agent, script);
    }
    let desktop = service.connect("alice");
    let log = format!("/var/lib/vsm-agent/log/{}.log", desktop.session);
    service.until(&desktop.agent, &format!("grep 'words of the script' {log}"));
    wait_for("the log to be closed to others", WAIT, || {
        match service.output(&desktop.agent, "bob", &["cat", &log]) {
            Ok(text) => Err(format!("bob reads {text:?}")),
            Err(_) => Ok(()),
        }
    })
    .unwrap();
}
