//! Looking at somebody else's desktop: who may, what its user is asked and told, and what one who looks cannot do.

use std::process::{Child, Output, Stdio};

use serde_json::Value;
use xtask::clock::wait_for;

use crate::on;
use crate::service::{AGENTS, BROKER, Connected, Row, Service, WAIT};

/// A viewer that moves the pointer into a corner, waits until that was heard, and tells how it went.
const POINTER: &str = r#"#!/usr/bin/perl
use strict; use warnings; use Socket;
socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die; connect($s, sockaddr_un($ARGV[-1])) or die;
sub get { my ($n) = @_; my $all = ""; while (length($all) < $n) { my $r = sysread($s, my $part, $n - length($all)); die "cut off\n" unless $r; $all .= $part } $all }
sub put { defined syswrite($s, $_[0]) or die }
get(12); put("RFB 003.008\n"); get(unpack("C", get(1))); put("\x01"); get(4); put("\x01");
my $init = get(24); get(unpack("N", substr($init, 20)));
put(pack("CCnn", 5, 0, 3, 3));
put(pack("CCnN", 4, 1, 0, 0xffe1)); put(pack("CCnN", 4, 0, 0, 0xffe1));
put(pack("CCnnnn", 3, 0, 0, 0, 1, 1));
get(4);
if (-e "/tmp/stay") { 1 while sysread($s, my $more, 4096); exit 0 }
"#;

/// A service in which carol may shadow and whose desktops take it in `mode`.
fn service(name: &str, mode: &str) -> Service {
    let service = Service::up(name);
    allow(&service, mode);
    service
}

/// Makes a service one of that kind.
pub(crate) fn allow(service: &Service, mode: &str) {
    for agent in AGENTS {
        let mode = format!("/shadowing/shadowing_mode={mode}");
        service.configure(agent, "vsmagent", &[&mode]);
        // The user's answer is the word in a file; who asked, and for what, is noted.
        service.sh(
            agent,
            "printf '#!/bin/sh\\necho \"$*\" >> ~/asked\\nexit $(cat ~/answer)\\n' > /etc/vsm/ask; \
             printf '#!/bin/sh\\necho \"$*\" >> ~/told\\n' > /etc/vsm/notify",
        );
    }
    for (path, text) in [
        ("/usr/local/bin/pointer", POINTER),
        ("/usr/local/bin/sleeper", "#!/bin/sh\nexec sleep 1000\n"),
    ] {
        service.sh("client", &format!("cat > {path} <<'END'\n{text}END\nchmod 755 {path}"));
    }
    service.configure(BROKER, "vsmserver", &["/shadowing/allowed_shadowers=+carol"]);
}

fn shadow(service: &Service, by: &str, options: &[&str]) -> Output {
    let to = format!("{by}@tlha");
    let words = ["vsm", "shadow", "--viewer=/usr/local/bin/pointer", &to, "alice"];
    service.exec("client", by, &[&words, options].concat()).unwrap()
}

fn refused(output: &Output, code: i32, says: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{text}");
}

fn works(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// Starts a viewer for `user` that stays.
fn stays(service: &Service, user: &str, words: &[&str]) -> Child {
    let mut command = service.command("client", user, words).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Puts alice before her desktop.
fn sits_down(service: &Service) -> Child {
    let words = ["vsm", "connect", "--viewer=/usr/local/bin/sleeper", "alice@tlha"];
    let viewer = stays(service, "alice", &words);
    let connected = |rows: &[Row]| rows.iter().any(|row| row.state == "connected");
    service.rows_become("alice to be connected", connected);
    viewer
}

/// Where the pointer is on alice's desktop.
fn pointer(service: &Service, at: &Connected) -> String {
    let words = ["vsm-env", "xdotool", "getmouselocation"];
    service.output(&at.agent, "alice", &words).unwrap()
}

/// What carol has done, by the trail.
fn trail(service: &Service) -> Vec<String> {
    let events = on(service, BROKER, &["vsmctl", "events", "--output", "json"]);
    let events: Vec<Value> = serde_json::from_str(&events).unwrap();
    let by_carol = events.iter().filter(|event| event["actor"] == "carol");
    let shadow = by_carol.filter_map(|event| event["action"].as_str()?.strip_prefix("shadow-"));
    shadow.map(str::to_owned).collect()
}

fn trail_becomes(service: &Service, wanted: &[&str]) {
    wait_for("the trail", WAIT, || {
        let now = trail(service);
        if now == wanted { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .unwrap();
}

fn home(service: &Service, at: &Connected, file: &str) -> String {
    let line = format!("cat /home/alice/{file} 2>/dev/null; true");
    service.sh(&at.agent, &line)
}

#[test]
fn who_may_look_looks_and_can_do_nothing() {
    let service = service("shadow", "notify");
    let at = service.connect("alice");
    refused(&shadow(&service, "bob", &[]), 77, "bob may not shadow anybody");
    refused(
        &shadow(&service, "carol", &["--session", &service.connect("bob").session]),
        66,
        "alice",
    );
    let before = pointer(&service, &at);
    assert!(!before.starts_with("x:3 y:3 "), "{before}");
    works(&shadow(&service, "carol", &[]));
    assert_eq!(pointer(&service, &at), before, "one who may only look has moved the pointer");
    trail_becomes(&service, &["allowed", "began", "ended"]);
    service.until(&at.agent, "grep -q 'no longer sees' /home/alice/told");
    let told = home(&service, &at, "told");
    assert_eq!(told, "carol looks at your desktop.\ncarol no longer sees your desktop.");
    // A picture of it.
    let picture = ["vsm", "shadow", "--screenshot", "seen.png", "carol@tlha", "alice"];
    service.output("client", "carol", &picture).unwrap();
    service.sh("client", "test -s /home/carol/seen.png");
    // Control is the user's to give, and nobody is there.
    refused(&shadow(&service, "carol", &["--control"]), 77, "nobody is at the desktop");
    assert_eq!(home(&service, &at, "asked"), "");
}

#[test]
fn the_user_is_asked_gives_control_or_not_and_can_end_it() {
    is_asked(&service("shadow-ask", "ask"));
}

pub(crate) fn is_asked(service: &Service) {
    let at = service.connect("alice");
    refused(&shadow(service, "carol", &[]), 77, "nobody is at the desktop");
    let mut viewer = sits_down(service);
    let answer = |code: &str| {
        let line = format!("echo {code} > /home/alice/answer; chown alice /home/alice/answer");
        service.sh(&at.agent, &line);
    };
    answer("1");
    refused(&shadow(service, "carol", &[]), 77, "does not allow it");
    let before = pointer(service, &at);
    answer("2");
    let output = shadow(service, "carol", &["--control"]);
    works(&output);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("You may look, and nothing else."), "{said}");
    assert_eq!(pointer(service, &at), before);
    answer("0");
    works(&shadow(service, "carol", &["--control"]));
    let now = pointer(service, &at);
    assert!(now.starts_with("x:3 y:3 "), "{now}");
    assert_eq!(home(service, &at, "asked"), "view carol\ncontrol carol\ncontrol carol");
    // Her own viewer is as it was all the time.
    assert!(viewer.try_wait().unwrap().is_none(), "the user's own viewer is gone");

    // She ends it.
    service.sh("client", "touch /tmp/stay");
    let words = ["vsm", "shadow", "--viewer=/usr/local/bin/pointer", "carol@tlha", "alice"];
    let shadowed = stays(service, "carol", &words);
    let began = [
        "refused", "refused", "allowed", "began", "ended", "allowed", "began", "ended", "allowed",
        "began",
    ];
    trail_becomes(service, &began);
    let leave = ["vsm-disconnect", "--shadowers"];
    service.output(&at.agent, "alice", &leave).unwrap();
    let output = shadowed.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("alice has ended it."), "{output:?}");
    trail_becomes(service, &[&began[..], &["ended"]].concat());
    assert!(service.exec(&at.agent, "alice", &leave).unwrap().status.code() == Some(66));
    service.sh("client", "kill $(pgrep -f '^sleep 1000')");
    viewer.wait().unwrap();
}

/// The trail has an end for each beginning, whatever became of agent, broker or desktop in between.
#[test]
fn the_end_of_a_shadowing_is_in_the_trail_though_nobody_could_tell_of_it_then() {
    is_in_the_trail(&service("shadow-trail", "silent"));
}

pub(crate) fn is_in_the_trail(service: &Service) {
    let at = service.connect("alice");
    service.sh("client", "touch /tmp/stay");
    let words = ["vsm", "shadow", "--viewer=/usr/local/bin/pointer", "carol@tlha", "alice"];
    let shadowed = stays(service, "carol", &words);
    trail_becomes(service, &["allowed", "began"]);
    // The user ends it while the agent is away.
    service.stop_daemon(&at.agent, "vsmagent").unwrap();
    service.output(&at.agent, "alice", &["vsm-disconnect", "--shadowers"]).unwrap();
    shadowed.wait_with_output().unwrap();
    assert_eq!(trail(service), ["allowed", "began"]);
    service.start_daemon(&at.agent, "vsmagent").unwrap();
    trail_becomes(service, &["allowed", "began", "ended"]);
    // A broker that starts anew finds one that has begun before, and tells that once.
    let shadowed = stays(service, "carol", &words);
    let two = ["allowed", "began", "ended", "allowed", "began"];
    trail_becomes(service, &two);
    service.crash(BROKER, "vsmserver");
    service.agents_are("up", &AGENTS);
    // The desktop ends under them.
    service.end("alice");
    shadowed.wait_with_output().unwrap();
    trail_becomes(service, &[&two[..], &["ended"]].concat());
}

#[test]
fn a_desktop_keeps_the_mode_of_its_start() {
    let service = service("shadow-mode", "reject");
    let at = service.connect("alice");
    service.configure(&at.agent, "vsmagent", &["/shadowing/shadowing_mode=silent"]);
    refused(&shadow(&service, "carol", &[]), 77, "/shadowing/shadowing_mode");
    service.end("alice");
    for agent in AGENTS {
        service.configure(agent, "vsmagent", &["/shadowing/shadowing_mode=silent"]);
    }
    let at = service.connect("alice");
    works(&shadow(&service, "carol", &[]));
    trail_becomes(&service, &["refused", "allowed", "began", "ended"]);
    assert_eq!(home(&service, &at, "told"), "", "nobody is told of it");
    // Taken from the list, by a reload.
    service.configure(BROKER, "vsmserver", &["/shadowing/allowed_shadowers=bob"]);
    refused(&shadow(&service, "carol", &[]), 77, "may not shadow");
}

/// The question as users get it, with the program that is on every desktop.
#[test]
fn the_question_is_a_window_and_its_buttons_are_the_answer() {
    let service = Service::up("shadow-question");
    let at = service.connect("alice");
    let inside = |line: &str| {
        let words = ["vsm-env", "sh", "-c", line];
        service.output(&at.agent, "alice", &words).unwrap()
    };
    for (kind, from, code) in [("view", 150, "0"), ("control", 92, "2"), ("view", 10, "1")] {
        let line = format!(
            "PATH=/usr/bin; rm -f ~/said; (/etc/vsm/ask {kind} carol; echo $? > ~/said) >/dev/null 2>&1 &"
        );
        inside(&line);
        let search = "xdotool search --onlyvisible --name 'May carol see your desktop'";
        service.until(&at.agent, &format!("su alice -c \"vsm-env sh -c \\\"{search}\\\"\""));
        // From the right or the left of the row of buttons until one is hit.
        let click = format!(
            "w=$({search} | head -n 1); h=$(xdotool getwindowgeometry $w | sed -n 's/.*x//p' | tail -n 1); x={from}; \
             while [ ! -s ~/said ] && [ $x -gt 0 ] && [ $x -lt 400 ]; do \
             xdotool mousemove --window $w $x $((h - 16)) click 1; x=$((x {} 8)); xdotool sleep 0.1; done; cat ~/said",
            if code == "1" { "+" } else { "-" }
        );
        assert_eq!(inside(&click), code, "{kind}");
    }
}
