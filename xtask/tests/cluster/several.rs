//! Users with several desktops: which one they get, by policy, by start command, by id, or by being asked.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::thread;

use xtask::cluster::Fault;
use xtask::pair::Desktop;

use crate::login::{install_viewer, row, state_becomes, view};
use crate::pair_of_brokers::{Pair, host};
use crate::service::{BROKER, Connected, Service, connected};

const USAGE: i32 = 64;
const NOT_FOUND: i32 = 66;
const TRY_LATER: i32 = 75;

/// A service that allows so many desktops for each.
fn allowing(name: &str, cap: u32) -> Service {
    let service = Service::up(name);
    allow(&service, cap);
    service
}

pub(crate) fn allow(service: &Service, cap: u32) {
    let limit = format!("/vsmserver/max_sessions_per_user={cap}");
    service.configure(BROKER, "vsmserver", &[&limit]);
}

fn short(desktop: &Connected) -> &str {
    desktop.session.rsplit('-').next().unwrap()
}

/// The desktop that these options give is this one, and not new.
fn gives(service: &Service, options: &[&str], wanted: &Connected) {
    let now = service.connect_with("alice", options);
    assert_eq!((&now.session, now.created), (&wanted.session, false), "{options:?}");
}

/// What alice is told, with this exit code, where she is not asked.
fn told(service: &Service, options: &[&str], code: i32) -> String {
    let output = service.try_connect_with("alice", options);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{options:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn the_policy_and_the_start_command_say_which_desktop_is_meant() {
    let service = allowing("several", 0);
    install_viewer(&service);
    let plain = service.connect("alice");
    let terminal = ["--start-command", "xterm -fa Mono"];
    let with_command = service.connect_with("alice", &terminal);
    assert!(with_command.created, "a plain desktop is another thing");
    assert_eq!(with_command.agent, plain.agent, "they share one home");
    gives(&service, &[], &plain);
    gives(&service, &terminal, &with_command);
    let other = service.connect_with("alice", &["--start-command", "xterm"]);
    assert!(other.created);
    gives(&service, &["--session", &with_command.session], &with_command);
    gives(&service, &["--session", &short(&other).to_uppercase()], &other);

    let second = service.connect_with("alice", &["--new"]);
    assert!(second.created);
    let text = told(&service, &[], USAGE);
    let named = [short(&plain), short(&second), "--session", "--new", "disconnected"];
    assert!(named.iter().all(|word| text.contains(word)), "{text}");
    assert!(!text.contains(short(&other)), "one with another command is not meant: {text}");
    told(&service, &["--policy", "ask"], USAGE);
    // With the one viewed there is only one that is disconnected.
    let mut viewer = view_of(&service, &plain);
    gives(&service, &[], &second);
    told(&service, &["--policy", "ask"], USAGE);
    viewer.kill().unwrap();
    viewer.wait().unwrap();

    let none = ["--session", "01890a5d-ac96-774b-bcce-b302099a8057"];
    assert!(told(&service, &none, NOT_FOUND).contains("you have no desktop"));
    assert!(told(&service, &["--session", "12345"], USAGE).contains("neither a session id"));
    told(&service, &["--session", "abcdef"], NOT_FOUND);
    let contradiction = ["vsm", "connect", "--new", "--session", short(&plain), "alice@tlha"];
    let output = service.exec("client", "alice", &contradiction).unwrap();
    assert_eq!(output.status.code(), Some(USAGE), "{output:?}");
    let several = service.exec("client", "alice", &["vsm", "end", "alice@tlha"]).unwrap();
    assert_eq!(several.status.code(), Some(USAGE), "{several:?}");
    assert_eq!(service.rows().len(), 4, "nothing was made or ended by what was refused");
}

/// A viewer on one of several desktops, once it is there.
fn view_of(service: &Service, desktop: &Connected) -> std::process::Child {
    let words = ["vsm", "connect", "--viewer", "/etc/vsm/viewer", "--session", &desktop.session];
    let mut command = service.command("client", "alice", &words).unwrap();
    command.arg("alice@tlha").stdin(Stdio::null()).stdout(Stdio::null());
    let viewer = command.spawn().unwrap();
    service.rows_become("the viewer to be there", |rows| {
        rows.iter().any(|row| row.session == desktop.session && row.state == "connected")
    });
    viewer
}

/// What a terminal shows where these keys are typed, and the exit code.
fn on_a_terminal(service: &Service, options: &str, keys: &str) -> (String, Option<i32>) {
    let line = format!("vsm connect --no-viewer --json {options} alice@tlha");
    let words = ["script", "--quiet", "--return", "--command", &line, "/dev/null"];
    let mut command = service.command("client", "alice", &words).unwrap();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    // Keys that come before the question are not an answer to it.
    while !String::from_utf8_lossy(&text).contains("Which one?") {
        let count = stdout.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "nothing was asked: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..count]);
    }
    stdin.write_all(keys.as_bytes()).unwrap();
    drop(stdin);
    stdout.read_to_end(&mut text).unwrap();
    let code = child.wait().unwrap().code();
    (String::from_utf8_lossy(&text).replace('\r', ""), code)
}

/// The desktop that was chosen on a terminal.
fn chosen(service: &Service, options: &str, keys: &str) -> Connected {
    let (text, code) = on_a_terminal(service, options, keys);
    assert_eq!(code, Some(0), "{text}");
    let line = text.lines().find(|line| line.starts_with('{')).unwrap();
    serde_json::from_str(line).unwrap()
}

#[test]
fn on_a_terminal_the_user_is_asked() {
    is_asked(&allowing("chooser", 3));
}

pub(crate) fn is_asked(service: &Service) {
    service.key_for("alice");
    let first = service.connect("alice");
    let second = service.connect_with("alice", &["--new"]);
    // From elsewhere: that is the last client then.
    let from_there = ["vsm", "connect", "--no-viewer", "--session", &second.session, "alice@tlha"];
    service.output(BROKER, "alice", &from_there).unwrap();
    let (text, _) = on_a_terminal(service, "", "\n");
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let ends = |number: &str, client: &str| {
        rows.iter().any(|row| {
            row.first() == Some(&number)
                && row.contains(&"disconnected")
                && row.last() == Some(&client)
        })
    };
    assert!(ends("1", "client") && ends("2", BROKER), "{text}");
    assert!(text.contains("n  a new desktop"), "{text}");
    assert_eq!(chosen(service, "", "1\n").session, first.session);
    assert_eq!(chosen(service, "", "9\nnonsense\n2\n").session, second.session);
    assert_eq!(chosen(service, "--policy ask", "2\n").session, second.session);
    let third = chosen(service, "", "n\n");
    assert!(third.created);
    let (text, _) = on_a_terminal(service, "", "\n");
    assert!(!text.contains("a new desktop"), "the limit is three: {text}");
    // Enter, the end of the input, Ctrl-C, and no end of nonsense: nothing is chosen, nothing is left behind.
    let nonsense = "x".repeat(10_000) + "\n";
    for keys in ["\n", "\u{4}", "\u{3}", nonsense.as_str()] {
        let (text, code) = on_a_terminal(service, "", keys);
        assert_eq!(code, Some(TRY_LATER), "{keys:?}: {text}");
        assert!(text.contains("no desktop was chosen"), "{text}");
    }
    service.until("client", "! pgrep -u alice -x ssh");
    assert_eq!(service.rows().len(), 3);
}

/// P7 and P8: of many who want a further desktop at the same moment one gets it, where there is room for one.
#[test]
fn further_desktops_at_once_do_not_exceed_the_limit() {
    at_once(&allowing("race", 2));
}

pub(crate) fn at_once(service: &Service) {
    service.connect("alice");
    let outputs = thread::scope(|scope| {
        let wants = || service.try_connect_with("alice", &["--new"]);
        let all: Vec<_> = (0..8).map(|_| scope.spawn(wants)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let (got, refused): (Vec<_>, Vec<_>) =
        outputs.iter().partition(|output| output.status.success());
    assert_eq!((got.len(), refused.len()), (1, 7), "{outputs:#?}");
    for output in refused {
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(TRY_LATER), "{text}");
        assert!(text.contains("which is the limit"), "{text}");
    }
    assert!(connected(got[0]).unwrap().created);
    assert_eq!(service.rows().len(), 2);
}

/// With one desktop allowed nobody is asked, and one's own is always to be had.
#[test]
fn with_one_allowed_there_is_nothing_to_ask() {
    let service = Service::up("one");
    install_viewer(&service);
    let only = service.connect("alice");
    gives(&service, &["--policy", "ask"], &only);
    let mut viewer = view(&service, "alice");
    state_becomes(&service, "alice", "connected");
    gives(&service, &[], &only);
    gives(&service, &["--policy", "ask"], &only);
    viewer.kill().unwrap();
    viewer.wait().unwrap();
    assert!(told(&service, &["--new"], TRY_LATER).contains("which is the limit"));
    // A desktop with another command is no reason to hand out this one, and there is no room for it.
    assert!(told(&service, &["--start-command", "xterm"], TRY_LATER).contains("the limit"));
    assert_eq!(row(&service, "alice").session, only.session);
}

/// P8: the same wish, asked for again of the other broker, is one desktop.
#[test]
fn a_further_desktop_is_made_once_though_the_broker_dies_meanwhile() {
    let pair = Pair::up("several-pair");
    let (active, standby) = pair.in_step();
    for node in [active, standby] {
        pair.sh(node, "vsm-config /vsmserver/max_sessions_per_user=0 && vsmctl reload");
    }
    let first = pair.login("alice");
    let words =
        ["vsm", "connect", "--new", "--retry-for=60", "--no-viewer", "--json", "alice@tlha"];
    let output = thread::scope(|scope| {
        let login = scope.spawn(|| pair.exec("client", "alice", &words).unwrap());
        pair.inject(Fault::Power { host: host(active) });
        login.join().unwrap()
    });
    assert!(output.status.success(), "{output:?}");
    let second: Desktop = serde_json::from_slice(&output.stdout).unwrap();
    assert_ne!(second.session, first.session);
    pair.heal_all();
    pair.all_agree();
    let (active, _) = pair.in_step();
    let mut ids: Vec<_> =
        xtask::pair::rows(&pair, active).unwrap().into_iter().map(|row| row.session).collect();
    let mut wanted = vec![first.session, second.session];
    ids.sort();
    wanted.sort();
    assert_eq!(ids, wanted);
}
