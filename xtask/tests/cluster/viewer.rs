//! A real viewer on a real display, as at a user's own machine.

use std::process::{Child, Output, Stdio};
use std::time::Duration;

use xtask::clock::wait_for;
use xtask::cluster::{Fault, Traffic};

use crate::service::{AGENTS, Row, Service};

/// Starts a program for alice on the client; its output is kept.
fn start(service: &Service, line: &str) -> Child {
    let mut command = service.command("client", "alice", &["sh", "-c", line]).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The screen that alice sits at.
fn screen(service: &Service) -> Child {
    let line = "xauth -q add :5 . 0123456789abcdef0123456789abcdef; \
                exec Xtigervnc :5 -rfbunixpath /home/alice/screen.sock -rfbport -1 \
                -SecurityTypes None -nolisten tcp -nolisten local -auth /home/alice/.Xauthority";
    let server = start(service, line);
    let ready = "su alice -c 'DISPLAY=:5 XAUTHORITY=/home/alice/.Xauthority xdpyinfo >/dev/null'";
    service.until("client", ready);
    server
}

/// `vsm connect` with the viewer that it finds by itself.
fn view(service: &Service) -> Child {
    start(service, "DISPLAY=:5 XAUTHORITY=/home/alice/.Xauthority exec vsm connect alice@tlha")
}

fn state_becomes(service: &Service, state: &str) -> Row {
    let fits = |row: &Row| row.user == "alice" && row.state == state;
    let rows = service.rows_become(&format!("alice {state}"), |rows| rows.iter().any(fits));
    rows.into_iter().find(fits).unwrap()
}

/// Waits until so many viewer windows with the desktop's name are on alice's screen.
fn windows(service: &Service, name: &str, count: usize) {
    let search = format!(
        "test $(su alice -c \"DISPLAY=:5 XAUTHORITY=/home/alice/.Xauthority \
         xdotool search --onlyvisible --name '{name}'\" | wc -l) -eq {count}"
    );
    service.until("client", &search);
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_real_viewer_shows_the_desktop_and_a_second_replaces_it() {
    let service = Service::up("viewer");
    let mut screen = screen(&service);
    let first = view(&service);
    let connected = state_becomes(&service, "connected");
    let name = format!("alice@{} :{}", connected.agent, connected.display);
    windows(&service, &name, 1);
    let second = view(&service);
    let output = first.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Another viewer has taken your desktop over."), "{output:?}");
    assert!(output.status.success());
    let now = state_becomes(&service, "connected");
    assert_eq!(now.session, connected.session);
    windows(&service, &name, 1);
    service.sh("client", "pkill -9 -f '^[^ ]*vncviewer'");
    let output = second.wait_with_output().unwrap();
    let said = words(&output);
    assert_eq!(output.status.code(), Some(70), "{said}");
    assert!(said.lines().last().unwrap().starts_with("vsm: the viewer "), "{said}");
    assert_eq!(state_becomes(&service, "disconnected").session, connected.session);
    the_desktop_ends_under_the_viewer(&service);
    screen.kill().unwrap();
    screen.wait().unwrap();
}

/// A log-out closes the viewer, and that is not an error.
fn the_desktop_ends_under_the_viewer(service: &Service) {
    let third = view(service);
    let row = state_becomes(service, "connected");
    service.until(&row.agent, "pkill -f '^sleep 86400'");
    let output = third.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    service.rows_become("no session", <[Row]>::is_empty);
    service.clean(&row.agent);
}

/// Within twice what docs/errors.md promises both ends have missed each other, on a slow machine too.
const MISSED_MAX: Duration = Duration::from_secs(120);

/// alice's desktop never rests, so that sshd has no reason to ask whether anybody is there; bob's is still.
#[test]
fn viewers_whose_network_is_gone_are_missed_on_both_ends_and_come_back() {
    let service = Service::up("viewer-net");
    let mut screen = screen(&service);
    service.sh("client", "install -m 644 /home/alice/.Xauthority /tmp/screen");
    let at_screen = |user: &str| {
        let line =
            format!("DISPLAY=:5 XAUTHORITY=/tmp/screen exec vsm connect {user}@tlha 2>/tmp/{user}");
        let mut command = service.command("client", user, &["sh", "-c", &line]).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
    };
    let mut viewers = ["alice", "bob"].map(at_screen);
    let all = |state: &'static str| {
        move |rows: &[Row]| rows.len() == 2 && rows.iter().all(|row| row.state == state)
    };
    let before = service.rows_become("both to be connected", all("connected"));
    for row in &before {
        windows(&service, &format!("{}@{} :{}", row.user, row.agent, row.display), 1);
    }
    let alice = before.iter().find(|row| row.user == "alice").unwrap();
    let paint = format!(
        "export DISPLAY=:{} XAUTHORITY=/run/vsm/sessions/{}/user/Xauthority; xsetroot -solid red && \
         (while xsetroot -solid red && sleep 0.3 && xsetroot -solid blue; do sleep 0.3; done) \
         >/dev/null 2>&1 &",
        alice.display, alice.session
    );
    service.until(&alice.agent, &paint);
    for fault in AGENTS.iter().flat_map(|agent| Fault::partition("client", agent, Traffic::All)) {
        service.fault(&fault).unwrap();
    }
    wait_for("both to be missed on both ends", MISSED_MAX, || {
        let rows = service.rows();
        let said =
            service.sh("client", "grep -l 'broke; connecting again' /tmp/alice /tmp/bob || :");
        let missed = all("disconnected")(&rows) && said.lines().count() == 2;
        if missed { Ok(()) } else { Err(format!("{rows:?}, said by {said}")) }
    })
    .unwrap();
    service.heal(&[]).unwrap();
    let after = service.rows_become("both to be connected again", all("connected"));
    let ids = |rows: &[Row]| rows.iter().map(|row| row.session.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&after), ids(&before));
    for (row, viewer) in after.iter().zip(&mut viewers) {
        windows(&service, &format!("{}@{} :{}", row.user, row.agent, row.display), 1);
        assert!(viewer.try_wait().unwrap().is_none(), "vsm has ended");
    }
    service.sh("client", "pkill -9 -f '^[^ ]*vncviewer'");
    for child in viewers.iter_mut().chain([&mut screen]) {
        let _ = child.kill();
        child.wait().unwrap();
    }
}
