//! The life of a desktop: limits with their warnings, what puts them off, and what a second viewer means.

use std::path::PathBuf;
use std::process::{Child, Output};

use serde_json::Value;
use xtask::clock::wait_for;
use xtask::cluster::{Cluster, ClusterSpec, Fault};

use crate::login::{install_viewer, row, state_becomes, view};
use crate::operator::event;
use crate::pair_of_brokers::{Pair, host};
use crate::service::{AGENTS, BROKER, Connected, Row, SIGKILL, Service, WAIT};
use crate::{on, spec};

const SOFTWARE: i32 = 70;
/// A text that is shown goes into a file.
pub(crate) const NOTIFY: &str =
    r#"printf '#!/bin/sh\nprintf "%%s\\n" "$1" >> "$HOME/warned"\n' > /etc/vsm/notify"#;

/// A service whose desktops keep what they are warned with, and the viewer of tests on the client.
fn service(name: &str) -> Service {
    let service = Service::up(name);
    for agent in AGENTS {
        service.sh(agent, NOTIFY);
    }
    install_viewer(&service);
    service
}

/// Sets parameters of a folder of limits, all short, and has the broker take them.
pub(crate) fn limit(service: &Service, folder: &str, words: &str) {
    let set: Vec<String> = words
        .split_whitespace()
        .map(|assignment| format!("/vsmserver/limits/{folder}/{assignment}"))
        .collect();
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    service.configure(BROKER, "vsmserver", &set);
}

/// How a session stands, as `vsmctl session show` on this node says.
fn life(cluster: &Cluster, node: &str, session: &str) -> Result<Value, String> {
    let words = ["vsmctl", "session", "show", session, "--output", "json"];
    let shown = cluster.output(node, "root", &words).map_err(|error| format!("{error:#}"))?;
    let mut shown: Value = serde_json::from_str(&shown).unwrap();
    Ok(shown["life"].take())
}

/// Waits until a session stands as `fits` looks for, and returns how.
fn stands(
    cluster: &Cluster,
    node: &str,
    session: &str,
    what: &str,
    fits: impl Fn(&Value) -> bool,
) -> Value {
    wait_for(what, WAIT, || {
        let life = life(cluster, node, session)?;
        if fits(&life) { Ok(life) } else { Err(life.to_string()) }
    })
    .unwrap()
}

/// Waits until a user's desktop was warned so often with these words, and returns all that was said.
pub(crate) fn warned(
    service: &Service,
    at: &Connected,
    user: &str,
    words: &str,
    times: usize,
) -> String {
    wait_for(&format!("{times} times {words:?}"), WAIT, || {
        let said = service.exec(&at.agent, user, &["cat", "warned"]).unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        if said.matches(words).count() >= times { Ok(said) } else { Err(said) }
    })
    .unwrap()
}

/// Waits until a session is over, and returns what `vsm list --ended` says of it: reason and detail.
fn ended(service: &Service, user: &str, session: &str) -> (String, String) {
    let to = format!("{user}@tlha");
    let words = ["vsm", "list", "--ended", "--output", "json", &to];
    wait_for("the desktop to end", WAIT, || {
        let list = service.output("client", user, &words).map_err(|error| format!("{error:#}"))?;
        let list: Vec<Value> = serde_json::from_str(&list).unwrap();
        let found = list.iter().find(|row| row["session"] == session);
        let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
        found
            .map(|row| (text(row, "reason"), text(row, "detail")))
            .ok_or_else(|| format!("{list:?}"))
    })
    .unwrap()
}

fn words(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// A line of shell in a user's desktop.
fn inside(service: &Service, at: &Connected, user: &str, line: &str) -> (i32, String) {
    let output = service.exec(&at.agent, user, &["vsm-env", "sh", "-c", line]).unwrap();
    (output.status.code().unwrap(), words(&output))
}

/// Kills a viewer without a word, as a terminal that is switched off.
fn switch_off(service: &Service, mut viewer: Child) {
    service.sh("client", "pkill -9 -f '^/usr/bin/perl /etc/vsm/viewer'");
    viewer.wait().unwrap();
}

/// The picture of alice's desktop now, also kept as `target/tmp/NAME.png`: lines of red, green and blue.
fn picture(service: &Service, name: &str) -> (usize, Vec<u8>) {
    let file = format!("{name}.png");
    let taken = ["vsm", "connect", "--screenshot", &file, "alice@tlha"];
    service.output("client", "alice", &taken).unwrap();
    let bytes = service.exec("client", "alice", &["cat", &file]).unwrap().stdout;
    let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&file);
    std::fs::write(kept, &bytes).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    (frame.width as usize, pixels)
}

/// Where the warning's window is: left, top, width, height.
fn warning_window(service: &Service, at: &Connected) -> [usize; 4] {
    let (id, display) = (&at.session, at.display);
    let line = format!(
        "XAUTHORITY=/run/vsm/sessions/{id}/user/Xauthority xwininfo -name 'System message' -display :{display}"
    );
    let told = service.until(&at.agent, &line);
    ["Absolute upper-left X:", "Absolute upper-left Y:", "Width:", "Height:"].map(|field| {
        let (_, rest) = told.split_once(field).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    })
}

/// The desktop that is shipped, and a limit that comes while it runs: the warning is a window that its user sees,
/// before the end and for all of the time that it names.
#[test]
fn a_warning_is_seen_on_the_desktop_before_it_ends() {
    let service = Service::up("life-seen");
    for agent in AGENTS {
        let script = include_str!("../../../deploy/xsession");
        service.sh(agent, &format!("cat > /etc/vsm/xsession <<'END'\n{script}\nEND"));
    }
    let alice = service.connect("alice");
    let (id, display) = (&alice.session, alice.display);
    let manager = format!(
        "XAUTHORITY=/run/vsm/sessions/{id}/user/Xauthority xwininfo -root -tree -display :{display} | grep -qi openbox"
    );
    service.until(&alice.agent, &manager);
    let (width, before) = picture(&service, "life-before");
    assert_eq!(life(&service, BROKER, id).unwrap()["limits"]["lifetime_max"], 0.0);
    // The desktop is older than that already: all of the warning's time is given all the same.
    limit(&service, "all", "warn_before=25s warn_again=8s lifetime_max=26s");
    let [left, top, across, down] = warning_window(&service, &alice);
    let stood = life(&service, BROKER, id).unwrap();
    assert_eq!((&stood["ends_by"], &stood["warned"]), (&"lifetime_max".into(), &true.into()));
    let (_, after) = picture(&service, "life-warned");
    assert_eq!(before.len(), after.len());
    let differs = |x: usize, y: usize| {
        let at = (y * width + x) * 3;
        before[at..at + 3] != after[at..at + 3]
    };
    let all = (top..top + down).flat_map(|y| (left..left + across).map(move |x| (x, y)));
    let changed = all.filter(|(x, y)| differs(*x, *y)).count();
    assert!(changed * 2 > across * down, "{changed} of {across}x{down} pixels changed");
    let (reason, detail) = ended(&service, "alice", id);
    assert_eq!(reason, "limit");
    assert_eq!(detail, "it ran for 26 s (/vsmserver/limits/all/lifetime_max = 26 s)");
    let noted = event(&service, BROKER, "session-ended", Some("alice"));
    assert_eq!(noted.detail, detail);
    let log = words(&service.vsmctl(&["session", "log", id]));
    assert!(log.contains("warning: This desktop will be ended in 25 s"), "{log}");
    assert!(log.contains("warning: This desktop will be ended in 8 s"), "{log}");
    assert!(log.contains("the session ends: it ran for 26 s"), "{log}");
    service.clean(&alice.agent);
}

#[test]
fn who_comes_back_keeps_a_desktop_and_who_stays_away_loses_it() {
    let service = service("life-away");
    limit(&service, "all", "warn_before=6s warn_again=2s disconnected_max=8s");
    let alice = service.connect("alice");
    warned(&service, &alice, "alice", "ended in 6 s, as nobody is connected to it (limit: 8 s)", 1);
    let viewer = view(&service, "alice");
    let seen = state_becomes(&service, "alice", "connected");
    assert_eq!((&seen.session, seen.viewer.as_deref()), (&alice.session, Some("10.0.0.100")));
    let off = |life: &Value| life["ends_by"].is_null() && life["disconnected_since"].is_null();
    let stood = stands(&service, BROKER, &alice.session, "no end in sight", off);
    assert!(stood["idle"].is_number(), "{stood}");
    assert!(seen.connected_since.is_some());
    switch_off(&service, viewer);
    let away = |life: &Value| life["ends_by"] == "disconnected_max";
    let stood = stands(&service, BROKER, &alice.session, "the time to run again", away);
    assert!(stood["disconnected_since"].is_string() && stood["ends_at"].is_string(), "{stood}");
    let said = warned(&service, &alice, "alice", "ended in 2 s", 1);
    assert_eq!(said.matches("ended in 6 s").count(), 2, "{said}");
    let (reason, detail) = ended(&service, "alice", &alice.session);
    assert_eq!(reason, "limit");
    let wanted = "nobody was connected for 8 s (/vsmserver/limits/all/disconnected_max = 8 s)";
    assert_eq!(detail, wanted);
    service.clean(&alice.agent);
    assert!(service.connect("alice").created);
}

#[test]
fn an_end_is_put_off_from_within_and_from_without_as_often_as_is_allowed() {
    let service = service("life-extend");
    let bob = service.connect("bob");
    let (code, said) = inside(&service, &bob, "bob", "vsm-extend");
    assert_eq!((code, said.trim()), (1, "vsm-extend: no limit is about to end this desktop"));
    limit(&service, "all", "warn_before=20s connected_max=22s extension=1h extensions_max=1");
    limit(&service, "bob", "users=bob warn_before=4s connected_max=6s extension=0");
    let alice = service.connect("alice");
    let viewer = view(&service, "alice");
    state_becomes(&service, "alice", "connected");
    let said = warned(&service, &alice, "alice", "as long as is allowed (22 s)", 1);
    assert!(said.contains("To put it off by 1 h: vsm-extend"), "{said}");
    let (code, said) = inside(&service, &alice, "alice", "vsm-extend");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("until this desktop ends. It cannot be extended again."), "{said}");
    let extended = |life: &Value| life["extensions_used"] == 1 && life["warned"] == false;
    let stood = stands(&service, BROKER, &alice.session, "the end to be put off", extended);
    assert_eq!(stood["extensions_max"], 1);
    let (code, said) = inside(&service, &alice, "alice", "vsm-extend");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("extended 1 time(s), which is all"), "{said}");
    let from_client = |user: &str| {
        let to = format!("{user}@tlha");
        service.exec("client", user, &["vsm", "extend", "--retry-for=0", &to]).unwrap()
    };
    let output = from_client("alice");
    assert_eq!(output.status.code(), Some(SOFTWARE), "{output:?}");
    assert!(words(&output).contains("extended 1 time(s)"), "{output:?}");
    // A new connection counts anew.
    switch_off(&service, viewer);
    state_becomes(&service, "alice", "disconnected");
    let viewer = view(&service, "alice");
    state_becomes(&service, "alice", "connected");
    let output = from_client("alice");
    assert!(output.status.success() && words(&output).contains("There are 1 h"), "{output:?}");
    let noted = event(&service, BROKER, "session-extended", Some("alice"));
    assert!(noted.detail.starts_with("connected_max: 1 h"));
    // Nobody extends what is another's, nor what the administrator does not allow.
    let id = alice.session.as_str();
    let other = service.exec(&alice.agent, "bob", &["vsm-extend", "--session", id]).unwrap();
    assert_eq!(other.status.code(), Some(66), "{other:?}");
    let watched = view(&service, "bob");
    warned(&service, &bob, "bob", "as long as is allowed (6 s)", 1);
    let output = from_client("bob");
    assert!(words(&output).contains("the administrator allows no extension"), "{output:?}");
    // Its viewer is told why the desktop is gone.
    let output = watched.wait_with_output().unwrap();
    let said = words(&output);
    assert_eq!(output.status.code(), Some(SOFTWARE), "{said}");
    let wanted = "your desktop has ended: a limit was reached: it was viewed for 6 s without a break \
                  (/vsmserver/limits/bob/connected_max = 6 s)";
    assert!(said.contains(wanted), "{said}");
    assert_eq!(row(&service, "alice").session, alice.session);
    switch_off(&service, viewer);
}

#[test]
fn who_does_not_use_a_desktop_is_disconnected_and_then_loses_it() {
    let service = service("life-idle");
    limit(&service, "all", "warn_before=5s warn_again=0 idle_disconnect=8s idle_max=1h");
    let alice = service.connect("alice");
    let viewer = view(&service, "alice");
    warned(&service, &alice, "alice", "disconnected from this desktop in 5 s", 1);
    // A key calls it off, and no more: the time begins anew.
    let (code, said) = inside(&service, &alice, "alice", "xdotool key a");
    assert_eq!(code, 0, "{said}");
    let off = |life: &Value| life["warned"] == false && life["idle"].as_f64().unwrap() < 8.0;
    stands(&service, BROKER, &alice.session, "the key to count", off);
    let output = viewer.wait_with_output().unwrap();
    let said = words(&output);
    assert!(output.status.success() && said.contains("as you did not use your desktop"), "{said}");
    warned(&service, &alice, "alice", "disconnected from this desktop in 5 s", 2);
    let left = state_becomes(&service, "alice", "disconnected");
    assert_eq!(left.session, alice.session, "it lives on");
    let log = words(&service.vsmctl(&["session", "log", &alice.session]));
    let noted = "the viewer is disconnected: there was no key and no move of the pointer for 8 s";
    assert!(log.contains(noted), "{log}");
    limit(&service, "all", "idle_max=6s");
    warned(&service, &alice, "alice", "ended in 5 s, as it was not used (limit: 6 s)", 1);
    let (reason, detail) = ended(&service, "alice", &alice.session);
    assert_eq!(reason, "limit");
    assert!(detail.contains("/vsmserver/limits/all/idle_max = 6 s"), "{detail}");
}

/// User before group before subcluster before the rest; and what is not clear is refused, naming both.
#[test]
fn limits_are_those_of_the_user_or_the_group_or_the_subcluster_or_all() {
    let service = Service::with(&ClusterSpec { users: 5, ..spec("life-whose") });
    service.sh(BROKER, "printf 'staff2:x:7001:alice,bob\nlab2:x:7002:carol\nboth1:x:7003:user005\nboth2:x:7004:user005\n' >> /etc/group");
    let sub = "/vsmserver/subclusters";
    service.configure(
        BROKER,
        "vsmserver",
        &[&format!("{sub}/lab/agents=agent1 agent2"), &format!("{sub}/lab/groups=lab2 staff2")],
    );
    limit(&service, "one", "users=alice idle_max=1h");
    limit(&service, "staff", "groups=staff2 idle_max=2h");
    limit(&service, "lab", "subclusters=lab idle_max=3h");
    limit(&service, "rest", "idle_max=4h idle_disconnect=30m");
    for (user, from, hours) in [
        ("alice", "one", 1.0),
        ("bob", "staff", 2.0),
        ("carol", "lab", 3.0),
        ("user004", "rest", 4.0),
    ] {
        let desktop = service.connect(user);
        let life = life(&service, BROKER, &desktop.session).unwrap();
        let limits = &life["limits"];
        assert_eq!(
            (&limits["from"], &limits["idle_max"]),
            (&from.into(), &(hours * 3600.0).into())
        );
        let table = words(&service.vsmctl(&["session", "show", &desktop.session]));
        assert!(table.contains("idle_max"), "{table}");
    }
    limit(&service, "two", "groups=both1");
    limit(&service, "three", "groups=both2");
    service.refused_cleanly(
        "user005",
        77,
        &["/vsmserver/limits/two", "both1", "/vsmserver/limits/three", "both2"],
    );
    // Who is named now has other limits from now on, without a new login.
    let bob = row(&service, "bob");
    limit(&service, "one", "users=bob");
    let now = |life: &Value| life["limits"]["from"] == "one";
    stands(&service, BROKER, &bob.session, "bob's to be the others", now);
    // Whom nobody names any more is limited by nothing.
    let carol = row(&service, "carol").session;
    let nobody = "/vsmserver/limits/rest/users=nobody";
    on(&service, BROKER, &["vsm-config", nobody]);
    limit(&service, "lab", "subclusters= users=nobody2");
    let none = |life: &Value| life["limits"]["idle_max"] == 0.0;
    stands(&service, BROKER, &carol, "carol's to be none", none);
}

/// What the agent keeps to is on its disk: it holds without brokers and after a restart, and a later word of either
/// broker reaches it.
#[test]
fn a_change_of_limits_reaches_desktops_on_both_sides_of_a_failover_and_outlives_the_agents_restart()
{
    let pair = Pair::up("life-pair");
    let (active, standby) = pair.in_step();
    let set = |node: &str, time: &str| {
        pair.sh(
            node,
            &format!("vsm-config /vsmserver/limits/all/lifetime_max={time} && vsmctl reload"),
        );
    };
    for node in [active, standby] {
        set(node, "10h");
    }
    let alice = pair.login("alice");
    let is = |node: &str, seconds: f64| {
        let fits = |life: &Value| life["limits"]["lifetime_max"] == seconds;
        stands(&pair, node, &alice.session, &format!("{seconds} s"), fits)
    };
    is(active, 36_000.0);
    set(active, "9h");
    is(active, 32_400.0);
    let record = format!("grep lifetime_ms /var/lib/vsm-agent/sessions/{}.json", alice.session);
    assert!(pair.sh(&alice.agent, &record).contains("32400000"));
    pair.inject(Fault::Cable { host: host(active) });
    pair.same("alice", &alice);
    pair.serves(standby);
    // The other node was never told of the change: its own word holds now, and each that follows.
    is(standby, 36_000.0);
    set(standby, "8h");
    is(standby, 28_800.0);
    pair.kill_daemon(&alice.agent, "vsmagent", SIGKILL).unwrap();
    pair.same("alice", &alice);
    is(standby, 28_800.0);
    assert!(pair.sh(&alice.agent, &record).contains("28800000"));
    pair.heal_all();
    pair.all_agree();
    pair.same("alice", &alice);
}

/// A limit needs no broker: the desktop is warned and ended while none runs, and that is told when one is back.
#[test]
fn a_limit_holds_while_there_is_no_broker() {
    let service = service("life-alone");
    limit(&service, "all", "warn_before=6s warn_again=0 lifetime_max=8s");
    let alice = service.connect("alice");
    service.stop_daemon(BROKER, "vsmserver").unwrap();
    service.kill_daemon(&alice.agent, "vsmagent", SIGKILL).unwrap();
    warned(&service, &alice, "alice", "it has run for as long as is allowed (8 s)", 1);
    service.clean(&alice.agent);
    service.start_daemon(BROKER, "vsmserver").unwrap();
    service.rows_become("no session", <[Row]>::is_empty);
    let noted = event(&service, BROKER, "session-ended", Some("alice"));
    assert!(noted.detail.contains("/vsmserver/limits/all/lifetime_max = 8 s"));
}

fn second_viewer(service: &Service, word: &str) {
    for agent in AGENTS {
        let set = format!("/vsmagent/second_viewer={word}");
        service.configure(agent, "vsmagent", &[&set]);
    }
}

/// The administrator's word counts, in each direction by itself.
fn the_clipboard_goes_one_way(service: &Service, at: &Connected) {
    let ask = |name: &str| {
        let (code, said) = inside(service, at, "alice", &format!("vncconfig -get {name}"));
        assert_eq!(code, 0, "{said}");
        said.trim().to_owned()
    };
    assert_eq!((ask("SendCutText"), ask("AcceptCutText")), ("0".to_owned(), "1".to_owned()));
}

#[test]
fn a_second_viewer_shares_the_desktop_or_is_refused_as_the_administrator_says() {
    let service = service("life-second");
    second_viewer(&service, "share");
    let alice = service.connect("alice");
    let [one, two] = [view(&service, "alice"), view(&service, "alice")];
    let viewers = "test $(pgrep -u alice -cf '^/usr/bin/perl /etc/vsm/viewer') -eq 2";
    service.until("client", viewers);
    let joined = "ss -xp | grep -c rfb.sock";
    let connected = state_becomes(&service, "alice", "connected");
    assert_eq!(connected.session, alice.session);
    service.until(&alice.agent, &format!("test $({joined}) -ge 2"));
    // Both are dropped by a disconnect, and told so.
    service.output("client", "alice", &["vsm", "disconnect", "alice@tlha"]).unwrap();
    for viewer in [one, two] {
        let output = viewer.wait_with_output().unwrap();
        let said = words(&output);
        assert!(output.status.success() && said.contains("was disconnected"), "{said}");
    }
    state_becomes(&service, "alice", "disconnected");
    service.end("alice");

    for agent in AGENTS {
        service.configure(agent, "vsmagent", &["/vsmagent/clipboard_to_client=false"]);
    }
    second_viewer(&service, "refuse");
    let alice = service.connect("alice");
    the_clipboard_goes_one_way(&service, &alice);
    let first = view(&service, "alice");
    state_becomes(&service, "alice", "connected");
    let second = view(&service, "alice").wait_with_output().unwrap();
    let said = words(&second);
    assert!(!second.status.success(), "{said}");
    assert!(said.contains("viewed already (/vsmagent/second_viewer)"), "{said}");
    assert_eq!(state_becomes(&service, "alice", "connected").session, alice.session);
    // The first one is not disturbed, and once it is gone there is room.
    switch_off(&service, first);
    state_becomes(&service, "alice", "disconnected");
    let third = view(&service, "alice");
    state_becomes(&service, "alice", "connected");
    switch_off(&service, third);
}
