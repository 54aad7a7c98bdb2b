//! Programs of root's at logins: run in order, with what they are to know, bounded, and with the say that the
//! administrator gave them.

use std::process::Stdio;

use xtask::cluster::Fault;

use crate::operator::event;
use crate::pair_of_brokers::{Pair, host};
use crate::service::{AGENTS, BROKER, Service, connected};

/// A desktop that is not handed out.
const SOFTWARE: i32 = 70;
pub(crate) const START: &str = "/etc/vsm/sessionstartup.d";
const RECONNECT: &str = "/etc/vsm/sessionreconnect.d";
/// What hooks leave here is the administrator's to read.
pub(crate) const OUT: &str = "/run/hooks";

/// A line of shell that puts a hook into a directory.
pub(crate) fn hook(dir: &str, name: &str, body: &str) -> String {
    format!(
        "mkdir -p {dir} {OUT}; cat > {dir}/{name} <<'END'\n#!/bin/sh\n{body}\nEND\nchmod 755 {dir}/{name}"
    )
}

fn set(service: &Service, assignments: &[&str]) {
    service.configure(BROKER, "vsmserver", assignments);
}

fn refused(service: &Service, user: &str, says: &[&str]) {
    service.refused(user, SOFTWARE, says);
}

#[test]
fn hooks_run_in_order_with_what_they_are_to_know() {
    let service = Service::up("hooks");
    let note = format!("echo \"$VSM_EVENT $(basename $0)\" >> {OUT}/order");
    service.sh(BROKER, &hook(START, "20-second", &format!("{note}; echo ready")));
    service.sh(
        BROKER,
        &hook(
            START,
            "10-first",
            &format!("{note}; env | sort > {OUT}/start; pwd >> {OUT}/start; cat"),
        ),
    );
    service.sh(
        BROKER,
        &hook(
            RECONNECT,
            "10-back",
            &format!("{note}; env | sort > {OUT}/back; echo back we are >&2"),
        ),
    );
    let options =
        ["--start-command", "xterm -title 'a b'", "--param", "room=12 b", "--no-hardware-address"];
    let desktop = service.connect_with("alice", &options);
    assert!(desktop.created);
    assert_eq!(service.sh(BROKER, &format!("cat {OUT}/order")), "start 10-first\nstart 20-second");
    tells_its_story(&service, &desktop.session, &desktop.agent);
    let seen = service.sh(BROKER, &format!("cat {OUT}/start"));
    let display = desktop.display.to_string();
    let wanted = [
        ("VSM_EVENT", "start"),
        ("VSM_NODE", BROKER),
        ("VSM_SESSION_ID", &desktop.session),
        ("VSM_USER", "alice"),
        ("VSM_AGENT", &desktop.agent),
        ("VSM_AGENT_HOST", &desktop.host),
        ("VSM_DISPLAY", &display),
        ("VSM_START_COMMAND", "xterm -title 'a b'"),
        ("VSM_CLIENT_NAME", "client"),
        ("VSM_CLIENT_LANGUAGE", "C.UTF-8"),
        ("VSM_CLIENT_ADDRESS", "10.0.0.100"),
        ("VSM_CLIENT_PARAMS_ROOM", "12 b"),
        ("LANG", "C.UTF-8"),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("PWD", "/"),
    ];
    let mut lines: Vec<String> =
        wanted.iter().map(|(name, value)| format!("{name}={value}")).collect();
    lines.push("/".to_owned());
    lines.sort();
    let mut seen: Vec<_> = seen.lines().filter(|line| !line.starts_with("_=")).collect();
    seen.sort_unstable();
    assert_eq!(seen, lines, "this and nothing else");

    let back = service.connect_with("alice", &[&options[..2], &["--param", "room=13"]].concat());
    assert_eq!((&back.session, back.created), (&desktop.session, false));
    assert!(service.sh(BROKER, &format!("cat {OUT}/order")).ends_with("\nreconnect 10-back"));
    let seen = service.sh(BROKER, &format!("cat {OUT}/back"));
    for line in ["VSM_EVENT=reconnect", "VSM_CLIENT_PARAMS_ROOM=13", "VSM_USER=alice"] {
        assert!(seen.lines().any(|seen| seen == line), "{line}: {seen}");
    }
    let log = service.daemon_log(BROKER, "vsmserver");
    let said = log.lines().find(|line| line.contains("back we are")).expect("its words are logged");
    assert!(said.contains(&format!("session={}", desktop.session)), "{said}");
    what_others_could_change_is_not_run(&service);
}

/// By the request that a user may tell, each host's log gives all that was done for it.
fn tells_its_story(service: &Service, session: &str, agent: &str) {
    let log = service.daemon_log(BROKER, "vsmserver");
    let of = format!("session={session} ");
    let line = log.lines().find(|line| line.contains(&of)).unwrap();
    let request = line.split(' ').find_map(|word| word.split_once("request=")).unwrap().1;
    assert_eq!(request.len(), 36, "{line}");
    for (host, daemon, said) in [
        (BROKER, "vsmserver", ["session started", "a hook says"].as_slice()),
        (agent, "vsmagent", &["session started"]),
    ] {
        let log = service.daemon_log(host, daemon);
        for said in said {
            let told = log.lines().filter(|line| line.contains(said));
            let (of_it, others): (Vec<_>, Vec<_>) =
                told.partition(|line| line.contains(&format!("request={request} {of}")));
            assert!(!of_it.is_empty() && others.is_empty(), "{host}: {said}: {of_it:?} {others:?}");
        }
    }
}

fn what_others_could_change_is_not_run(service: &Service) {
    let mark = |name: &str| format!("touch {OUT}/{name}");
    let bad = [
        ("30-open", "chmod 775"),
        ("40-of-alice", "chown alice"),
        ("50-text", "chmod 644"),
        ("60.dpkg-old", "true"),
    ];
    for (name, spoil) in bad {
        service.sh(BROKER, &hook(START, name, &mark(name)));
        service.sh(BROKER, &format!("{spoil} {START}/{name}"));
    }
    service.connect("bob");
    let left = service.sh(BROKER, &format!("ls {OUT}"));
    assert_eq!(left, "back\norder\nstart", "one of them was run");
    let log = service.daemon_log(BROKER, "vsmserver");
    for (name, _) in bad {
        let warned =
            log.lines().filter(|line| line.contains("not run as a hook") && line.contains(name));
        assert_eq!(warned.count(), 1, "{name}: {log}");
    }
    // A directory that others may write to is as good as none.
    service.sh(BROKER, &format!("rm -f {OUT}/*; chmod 777 {START}"));
    assert!(service.connect("carol").created);
    assert_eq!(service.sh(BROKER, &format!("ls {OUT}")), "");
}

#[test]
fn a_hook_that_fails_hangs_or_prints_megabytes_does_not_keep_users_from_their_desktops() {
    let service = Service::up("bad-hooks");
    set(&service, &["/vsmserver/hooks/timeout=1s"]);
    service.sh(BROKER, &hook(START, "10-fails", "echo no such printer >&2; exit 3"));
    let hangs = format!(
        "trap '' TERM HUP INT\n(trap '' TERM HUP INT; exec sleep 7777) & echo $! > {OUT}/child; wait; sleep 7777"
    );
    service.sh(BROKER, &hook(START, "20-hangs", &hangs));
    service.sh(BROKER, &hook(START, "30-talks", "i=0; while [ $i -lt 50 ]; do head -c 100000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done"));
    service.sh(BROKER, &hook(START, "40-last", &format!("touch {OUT}/last")));
    let size = || service.daemon_log(BROKER, "vsmserver").len();
    let before = size();
    let desktop = service.connect("alice");
    assert!(desktop.created);
    service.sh(BROKER, &format!("test -e {OUT}/last"));
    service.until(BROKER, "! pgrep -f '^sleep 7777'");
    assert!(size() - before < 50_000, "its megabytes are in the log");
    let log = service.daemon_log(BROKER, "vsmserver");
    for words in [
        "no such printer",
        "failed (exit status: 3)",
        "took longer than 1 s (/vsmserver/hooks/timeout)",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
    let noted = event(&service, BROKER, "hook-failed", Some("alice"));
    assert_eq!(noted.session, Some(desktop.session.clone()));
    assert_eq!(noted.detail, "start hook 10-fails failed (exit status: 3)");
    assert_eq!(service.connect("alice").session, desktop.session);
}

#[test]
fn a_hook_may_refuse_where_the_administrator_says_so() {
    let service = Service::up("strict-hooks");
    let existing = service.connect("bob");
    set(&service, &["/vsmserver/hooks/on_failure=refuse", "/vsmserver/hooks/timeout=5s"]);
    service.sh(BROKER, &hook(START, "10-check", &format!("test -e {OUT}/open")));
    service.sh(BROKER, &hook(START, "20-after", &format!("touch {OUT}/after")));
    service.sh(BROKER, &hook(RECONNECT, "10-check", &format!("test -e {OUT}/open")));
    // A new desktop is ended again, a present one is left alone.
    service.refused_cleanly(
        "alice",
        SOFTWARE,
        &["did not agree", "10-check failed (exit status: 1)"],
    );
    assert_eq!(service.sh(BROKER, &format!("ls {OUT}")), "", "the next one was run");
    refused(&service, "bob", &["10-check failed"]);
    let rows = service.rows();
    assert_eq!((rows.len(), &rows[0].session), (1, &existing.session), "{rows:#?}");
    event(&service, BROKER, "hook-failed", Some("bob"));
    service.sh(BROKER, &format!("touch {OUT}/open"));
    assert!(service.connect("alice").created);
    assert_eq!(service.connect("bob").session, existing.session);
    for agent in AGENTS {
        service.sh(agent, "true");
    }
}

/// A hook that waits for something makes its own user wait and nobody else, not even that user's other commands.
#[test]
fn a_slow_hook_holds_up_its_own_login_alone() {
    let service = Service::up("slow-hooks");
    set(&service, &["/vsmserver/hooks/timeout=60s"]);
    let waits = format!(
        "test $VSM_USER = alice || exit 0; echo >> {OUT}/began; until test -e {OUT}/go; do sleep 0.05; done"
    );
    service.sh(BROKER, &hook(START, "10-waits", &waits));
    let words = ["vsm", "connect", "--no-viewer", "--json", "alice@tlha"];
    let mut slow = service.command("client", "alice", &words).unwrap();
    let slow =
        slow.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    service.until(BROKER, &format!("test -e {OUT}/began"));
    for user in ["bob", "carol"] {
        assert!(service.connect(user).created);
    }
    // The desktop is there; another login to it has no hook of its own to wait for.
    let list = service.output("client", "alice", &["vsm", "list", "alice@tlha"]).unwrap();
    assert!(list.contains("disconnected"), "{list}");
    let meanwhile = service.connect("alice");
    assert!(!meanwhile.created);
    service.sh(BROKER, &format!("touch {OUT}/go"));
    let first = connected(&slow.wait_with_output().unwrap()).unwrap();
    assert_eq!((&first.session, first.created), (&meanwhile.session, true));
    assert_eq!(service.sh(BROKER, &format!("wc -l < {OUT}/began")), "1");
}

/// The broker that answers runs its own: after a failover, and as a standby while nobody is active.
#[test]
fn after_a_failover_the_other_brokers_hooks_run() {
    let pair = Pair::up("hooks-pair");
    let (active, standby) = pair.in_step();
    let note = format!("echo \"$VSM_EVENT $VSM_NODE $VSM_SESSION_ID\" >> {OUT}/ran");
    for node in [active, standby] {
        pair.sh(node, &hook(START, "10-note", &note));
        pair.sh(node, &hook(RECONNECT, "10-note", &note));
    }
    let alice = pair.login("alice");
    let ran = |node: &str| pair.sh(node, &format!("cat {OUT}/ran 2>/dev/null; true"));
    assert_eq!(ran(active), format!("start {active} {}", alice.session));
    assert_eq!(ran(standby), "");
    pair.inject(Fault::Power { host: host(active) });
    pair.same("alice", &alice);
    assert_eq!(ran(standby), format!("reconnect {standby} {}", alice.session));
    pair.heal_all();
    pair.all_agree();
}
