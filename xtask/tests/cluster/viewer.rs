//! A real viewer on a real display, as at a user's own machine.

use std::process::{Child, Output, Stdio};

use crate::service::{Row, Service};

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
