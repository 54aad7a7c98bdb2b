//! What a client tells of itself reaches the programs in its desktop, and nobody else; the last client counts.

use std::process::Stdio;

use crate::pair_of_brokers::Pair;
use crate::service::{AGENTS, BROKER, Connected, Service, connected};

const NO_PARAMETER: i32 = 1;
const USAGE: i32 = 64;
const NO_SESSION: i32 = 66;
/// The session writes down what it sees where its user finds it.
const SCRIPT: &str = r#"cat > /etc/vsm/xsession <<'END'
#!/bin/sh
vsm-session-param /client/params/room > $XDG_RUNTIME_DIR/room 2>&1
env > $XDG_RUNTIME_DIR/env.new; mv $XDG_RUNTIME_DIR/env.new $XDG_RUNTIME_DIR/env
sleep 86400
exit 0
END"#;

/// What a program of a user in the session learns, or the exit code.
fn param(service: &Service, at: &Connected, user: &str, words: &[&str]) -> Result<String, i32> {
    let id = format!("VSM_SESSION_ID={}", at.session);
    let words = [&["env", &id, "vsm-session-param"], words].concat();
    let output = service.exec(&at.agent, user, &words).unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned());
    }
    assert_eq!(output.stdout, b"");
    Err(output.status.code().unwrap())
}

fn client(service: &Service, at: &Connected, name: &str) -> Result<String, i32> {
    param(service, at, "alice", &[&format!("/client/{name}")])
}

/// The variables that the session has got.
fn environment(service: &Service, at: &Connected) -> String {
    let file = format!("/run/vsm/sessions/{}/user/env", at.session);
    service.until(&at.agent, &format!("cat {file}"))
}

/// `vsm connect` with another language.
fn connect_in(service: &Service, user: &str, language: &str) -> Connected {
    let to = format!("{user}@tlha");
    let words =
        ["env", &format!("LANG={language}"), "vsm", "connect", "--no-viewer", "--json", &to];
    connected(&service.exec("client", user, &words).unwrap()).unwrap()
}

#[test]
fn a_session_knows_its_client_and_the_last_one_counts() {
    let service = Service::up("params");
    for agent in AGENTS {
        service.sh(agent, SCRIPT);
    }
    let options = ["--param", "room=12 b", "--param", "floor=it's 3", "--start-command", "xterm"];
    let first = service.connect_with("alice", &options);
    assert!(environment(&service, &first).contains(&format!("VSM_SESSION_ID={}", first.session)));
    let room = format!("cat /run/vsm/sessions/{}/user/room", first.session);
    assert_eq!(service.sh(&first.agent, &room), "12 b", "as a program in the session sees it");
    let mac = service
        .sh("client", "cat /sys/class/net/*/address | grep -v ^00:00:00:00:00:00 | sort | head -1");
    let display = first.display.to_string();
    let wanted = [
        ("/client/name", "client"),
        ("/client/address", "10.0.0.100"),
        ("/client/language", "C.UTF-8"),
        ("/client/hardware_address", mac.as_str()),
        ("/client/params/floor", "it's 3"),
        ("/session/id", &first.session),
        ("/session/user", "alice"),
        ("/session/agent", &first.agent),
        ("/session/display", &display),
        ("/session/start_command", "xterm"),
    ];
    for (path, value) in wanted {
        assert_eq!(param(&service, &first, "alice", &[path]).as_deref(), Ok(value), "{path}");
    }
    let list = param(&service, &first, "alice", &["-a", "/client/params"]).unwrap();
    assert_eq!(list, "floor = it's 3\nroom = 12 b");
    let assigned = param(&service, &first, "alice", &["-e", "F=/client/params/floor"]).unwrap();
    assert_eq!(assigned, "F='it'\\''s 3'");
    assert_eq!(client(&service, &first, "params/door"), Err(NO_PARAMETER));
    assert_eq!(param(&service, &first, "alice", &[]), Err(USAGE));
    assert_eq!(param(&service, &first, "bob", &["/client/name"]), Err(NO_SESSION), "not bob's");
    another_client_replaces_all_of_it(&service, &first);
}

fn another_client_replaces_all_of_it(service: &Service, first: &Connected) {
    service.key_for("alice");
    let words = ["vsm", "connect", "--no-viewer", "--json", "--no-hardware-address"];
    let words =
        [&words[..], &["--start-command", "xterm", "--param", "door=1", "alice@tlha"]].concat();
    let again = connected(&service.exec(BROKER, "alice", &words).unwrap()).unwrap();
    assert_eq!((&again.session, again.created), (&first.session, false));
    let seen = || {
        assert_eq!(client(service, first, "name").as_deref(), Ok(BROKER));
        assert_eq!(client(service, first, "params/door").as_deref(), Ok("1"));
        assert_eq!(client(service, first, "params/room"), Err(NO_PARAMETER));
        assert_eq!(client(service, first, "hardware_address"), Err(NO_PARAMETER));
        assert_eq!(param(service, first, "alice", &["/session/user"]).as_deref(), Ok("alice"));
        let last = |rows: &[crate::service::Row]| rows.len() == 1 && rows[0].last_client == BROKER;
        service.rows_become("the last client", last);
    };
    seen();
    let address = client(service, first, "address").unwrap();
    assert!(["10.0.0.2", "10.0.0.4"].contains(&&*address), "{address}");
    service.crash(&first.agent, "vsmagent");
    service.agents_are("up", &AGENTS);
    seen();
    service.crash(BROKER, "vsmserver");
    service.agents_are("up", &AGENTS);
    seen();
    // The user's own word about the address is not taken.
    let words = ["--param", "address=6.6.6.6", "--start-command", "xterm"];
    service.connect_with("alice", &words);
    assert_eq!(client(service, first, "address").as_deref(), Ok("10.0.0.100"));
    service.end("alice");
    assert_eq!(client(service, first, "name"), Err(NO_SESSION), "it goes with the session");
}

#[test]
fn the_language_counts_where_the_host_has_it_and_the_screen_gives_the_size() {
    let service = Service::up("screen");
    for agent in AGENTS {
        service.sh(agent, SCRIPT);
    }
    let of = |at: &Connected| {
        let all = environment(&service, at);
        all.lines().find_map(|line| line.strip_prefix("LANG=").map(str::to_owned))
    };
    let alice = connect_in(&service, "alice", "POSIX");
    assert_eq!(of(&alice).as_deref(), Some("POSIX"));
    let bob = connect_in(&service, "bob", "xx_YY.UTF-8");
    assert_ne!(of(&bob).as_deref(), Some("xx_YY.UTF-8"));
    assert_eq!(param(&service, &bob, "bob", &["/client/language"]).as_deref(), Ok("xx_YY.UTF-8"));
    // At a real screen.
    let line = "xauth -q add :5 . 0123456789abcdef0123456789abcdef; \
                exec Xtigervnc :5 -geometry 1111x777 -rfbunixpath /home/carol/screen.sock -rfbport -1 \
                -SecurityTypes None -nolisten tcp -auth /home/carol/.Xauthority";
    let mut server = service.command("client", "carol", &["sh", "-c", line]).unwrap();
    let mut server =
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    service.until(
        "client",
        "su carol -c 'DISPLAY=:5 XAUTHORITY=/home/carol/.Xauthority xdpyinfo >/dev/null'",
    );
    let words = ["env", "DISPLAY=:5", "vsm", "connect", "--no-viewer", "--json", "carol@tlha"];
    let carol = connected(&service.exec("client", "carol", &words).unwrap()).unwrap();
    assert_eq!(param(&service, &carol, "carol", &["/client/screen"]).as_deref(), Ok("1111x777"));
    let size = format!(
        "env XAUTHORITY=/run/vsm/sessions/{}/user/Xauthority DISPLAY=:{} xdpyinfo | grep dimensions",
        carol.session, carol.display
    );
    let size = service.sh(&carol.agent, &size);
    assert!(size.contains("1111x777 pixels"), "{size}");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn parameters_that_may_not_be_are_refused_before_anything_is_asked() {
    let service = Service::up("bad-params");
    let long = format!("a={}", "x".repeat(1025));
    let bad = ["room", "=12", "Room=1", "a b=1", "a=x\ny", long.as_str()];
    for param in bad {
        let output = service.try_connect_with("alice", &["--param", param]);
        assert_eq!(output.status.code(), Some(USAGE), "{param:?}: {output:?}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("--param=k{n}=1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for options in [&["--param=a=1", "--param=a=2"], &many[..]] {
        let output = service.try_connect_with("alice", options);
        assert_eq!(output.status.code(), Some(USAGE), "{output:?}");
    }
    assert_eq!(service.rows(), []);
}

/// A standby passes on where the client is.
#[test]
fn the_address_is_the_clients_by_either_broker() {
    let pair = Pair::up("params-pair");
    let (_, standby) = pair.in_step();
    let words = ["vsm", "connect", "--no-viewer", "--json", &format!("alice@{standby}")];
    let there: xtask::pair::Desktop =
        serde_json::from_str(&pair.output("client", "alice", &words).unwrap()).unwrap();
    let id = format!("VSM_SESSION_ID={}", there.session);
    let words = ["env", &id, "vsm-session-param", "/client/address"];
    assert_eq!(pair.output(&there.agent, "alice", &words).unwrap(), "10.0.0.100");
}
