//! How many desktops a user may have, who may have one at all, and what happens while the user database does not
//! answer.

use std::process::Output;

use xtask::clock::wait_for;

use crate::login::row;
use crate::service::{AGENTS, BROKER, Connected, Service, WAIT, connected};
use crate::shares::{told, troubles};

const UNAVAILABLE: i32 = 69;
const TRY_LATER: i32 = 75;
const NOT_ALLOWED: i32 = 77;

fn set(service: &Service, assignments: &[&str]) {
    service.configure(BROKER, "vsmserver", assignments);
}

#[test]
fn the_limit_holds_and_none_is_no_limit() {
    let service = Service::up("limit");
    set(&service, &["/vsmserver/max_sessions_per_user=2"]);
    let first = service.connect("alice");
    assert!(service.connect_with("alice", &["--new"]).created);
    let output = service.try_connect_with("alice", &["--new"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(TRY_LATER), "{text}");
    assert!(text.contains("alice has 2 desktop(s) already, which is the limit"), "{text}");
    assert!(service.connect_with("bob", &["--new"]).created, "it is each user's own");
    set(&service, &["/vsmserver/max_sessions_per_user=0"]);
    for _ in 0..4 {
        let further = service.connect_with("alice", &["--new"]);
        assert!(further.created);
        assert_eq!(further.agent, first.agent, "all of a user's are kept on one agent");
    }
    // A lower limit than what there is ends nothing.
    set(&service, &["/vsmserver/max_sessions_per_user=1"]);
    assert_eq!(
        service.connect_with("alice", &["--session", &first.session]).session,
        first.session
    );
    assert_eq!(service.try_connect_with("alice", &["--new"]).status.code(), Some(TRY_LATER));
    assert_eq!(service.rows().iter().filter(|row| row.user == "alice").count(), 6);
}

/// Groups that are named, and ten thousand that are not.
#[test]
fn allowed_groups_count_at_a_reconnect_too() {
    let service = Service::up("groups");
    let alice = service.connect("alice");
    set(&service, &["/vsmserver/allowed_groups=carol g10000"]);
    service.refused("alice", NOT_ALLOWED, &["alice", "/vsmserver/allowed_groups"]);
    assert_eq!(row(&service, "alice").session, alice.session, "running sessions are left alone");
    assert!(service.connect("carol").created);
    let many = "seq 1 10000 | sed 's/.*/g&:x:5&:alice/' >> /etc/group";
    service.sh(BROKER, many);
    // Another list, so that what is remembered of the groups does not count. Past sshd, whose shell takes its time.
    no_ssh(&service);
    set(&service, &["/vsmserver/allowed_groups=carol g9999"]);
    assert_eq!(login(&service, ALICE).unwrap().session, alice.session);
    refused(&service, BOB, &CONNECT, NOT_ALLOWED, "/vsmserver/allowed_groups");
    service.sh(BROKER, "sed -i '/^g9999:/d' /etc/group");
    set(&service, &["/vsmserver/allowed_groups=carol g9999 g10001"]);
    refused(&service, ALICE, &CONNECT, NOT_ALLOWED, "/vsmserver/allowed_groups");
    service.sh(BROKER, "sed -i '/^g[0-9]/d' /etc/group");
    set(&service, &["/vsmserver/allowed_groups="]);
    assert_eq!(service.connect("alice").session, alice.session);
}

/// A login without sshd, which asks the user database itself: the user's uid at the broker's socket.
pub(crate) fn by_uid(service: &Service, uid: u32, words: &[&str]) -> Output {
    // setpriv and su would look the number up.
    let become_ = "my $id = shift; $) = \"$id $id\"; $( = $id; ($<, $>) = ($id, $id); $ENV{HOME} = '/tmp'; \
                   delete $ENV{XDG_RUNTIME_DIR}; exec @ARGV";
    let uid = uid.to_string();
    let mut all = vec!["perl", "-e", become_, &uid, "vsm"];
    all.extend(words);
    all.extend(["--retry-for=0", "--ssh", "/etc/vsm/no-ssh", "x"]);
    service.exec(BROKER, "root", &all).unwrap()
}

pub(crate) fn no_ssh(service: &Service) {
    service.sh(
        BROKER,
        "printf '#!/bin/sh\\nexec vsm-login\\n' > /etc/vsm/no-ssh; chmod 755 /etc/vsm/no-ssh",
    );
}

fn login(service: &Service, uid: u32) -> Result<Connected, String> {
    connected(&by_uid(service, uid, &["connect", "--no-viewer", "--json"]))
}

fn refused(service: &Service, uid: u32, words: &[&str], code: i32, says: &str) {
    let output = by_uid(service, uid, words);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{text}");
}

pub(crate) const ALICE: u32 = 2001;
const BOB: u32 = 2002;
const CONNECT: [&str; 3] = ["connect", "--no-viewer", "--json"];
const NEW: [&str; 3] = ["connect", "--no-viewer", "--new"];

/// A file of users that never ends is what a directory service that hangs is.
#[test]
fn while_the_user_database_hangs_users_keep_what_they_have() {
    let service = Service::up("nss");
    no_ssh(&service);
    set(&service, &["/vsmserver/max_sessions_per_user=0"]);
    let desktop = login(&service, ALICE).unwrap();
    service.sh(
        BROKER,
        "cd /etc; cp passwd passwd.good; mkfifo -m 644 passwd.fifo; mv passwd.fifo passwd",
    );
    // So that it has to be asked again, as after a minute.
    set(&service, &["/vsmserver/allowed_groups=alice"]);
    let again = login(&service, ALICE).unwrap();
    assert_eq!((&again.session, again.created), (&desktop.session, false));
    refused(&service, ALICE, &NEW, UNAVAILABLE, "the user database does not answer");
    refused(&service, BOB, &CONNECT, UNAVAILABLE, "the user database does not answer");
    assert_eq!(service.rows().len(), 1, "administrators see all, and nothing was made");
    restart_meanwhile(&service, "passwd");
    refused(&service, ALICE, &CONNECT, UNAVAILABLE, "the user database does not answer");
    // Whoever still waits for the old file is let go.
    service.sh(BROKER, "cd /etc; mv passwd passwd.old; cp passwd.good passwd; timeout 1 sh -c 'exec 3<>passwd.old'; true");
    service.agents_are("up", &AGENTS);
    let again = login(&service, ALICE).unwrap();
    assert_eq!((&again.session, again.created), (&desktop.session, false));
    refused(&service, BOB, &CONNECT, NOT_ALLOWED, "/vsmserver/allowed_groups");
    set(&service, &["/vsmserver/allowed_groups="]);
    assert!(login(&service, BOB).unwrap().created);
    the_groups_alone_hang(&service, &desktop);
}

/// A broker that stops does not wait for the database. To start, it has to know the account that it runs as, as systemd
/// has; nobody else is known then.
fn restart_meanwhile(service: &Service, file: &str) {
    service.stop_daemon(BROKER, "vsmserver").unwrap();
    service.sh(BROKER, &format!("cd /etc; mv {file} {file}.fifo; cp {file}.good {file}"));
    service.start_daemon(BROKER, "vsmserver").unwrap();
    service.until(BROKER, "vsmctl status");
    service.sh(BROKER, &format!("cd /etc; mv {file}.fifo {file}"));
}

/// The name is known and the groups are not: what there is can be had, also where the groups matter.
fn the_groups_alone_hang(service: &Service, desktop: &Connected) {
    service
        .sh(BROKER, "cd /etc; cp group group.good; mkfifo -m 644 group.fifo; mv group.fifo group");
    set(service, &["/vsmserver/allowed_groups=alice"]);
    restart_meanwhile(service, "group");
    service.agents_are("up", &AGENTS);
    let again = login(service, ALICE).unwrap();
    assert_eq!((&again.session, again.created), (&desktop.session, false));
    refused(service, ALICE, &NEW, UNAVAILABLE, "a new desktop needs its word");
    service.sh(BROKER, "cd /etc; mv group group.old; cp group.good group; timeout 1 sh -c 'exec 3<>group.old'; true");
    service.until(
        BROKER,
        "setpriv --reuid=2001 --regid=2001 --clear-groups env HOME=/tmp vsm connect \
                           --no-viewer --new --retry-for=0 --ssh /etc/vsm/no-ssh x",
    );
    refused(service, BOB, &CONNECT, NOT_ALLOWED, "/vsmserver/allowed_groups");
}

/// Login names as directory services give them, and some that nobody should have.
#[test]
fn user_names_may_have_any_character_that_means_nothing_elsewhere() {
    let service = Service::up("names");
    no_ssh(&service);
    let good = [
        (4001, r"DOMAIN\ann"),
        (4002, "ann smith"),
        (4003, "jörg"),
        (4004, "o'neil"),
        (4005, "ann@corp.example"),
        (4006, "$(id)"),
        (4007, "a;b&c|d"),
        (4008, "a\"b*c?"),
        (4009, "50%"),
        (4010, "under_score.dot-minus"),
    ];
    let bad = [(4102, "a,b"), (4103, "a/b"), (4104, "a\u{7f}b")];
    let (mut passwd, mut shadow) = (String::new(), String::new());
    for (uid, name) in good.iter().chain(&bad) {
        passwd += &format!("{name}:x:{uid}:{uid}::/home/u{uid}:/bin/sh\n");
        shadow += &format!("{name}:*:19000:0:99999:7:::\n");
    }
    for host in [BROKER].iter().chain(&AGENTS) {
        service.sh(
            host,
            &format!(
                "cat >> /etc/passwd <<'END'\n{passwd}END\ncat >> /etc/shadow <<'END'\n{shadow}END"
            ),
        );
    }
    for (uid, name) in good {
        let desktop = login(&service, uid).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(row(&service, name).session, desktop.session);
        assert_eq!(login(&service, uid).unwrap().session, desktop.session, "{name}");
        let ended = by_uid(&service, uid, &["end"]);
        assert!(ended.status.success(), "{name}: {ended:?}");
    }
    for (uid, name) in bad {
        refused(&service, uid, &CONNECT, NOT_ALLOWED, "is not a valid user name");
        assert!(service.rows().is_empty(), "{name}");
    }
    refused(&service, 4999, &CONNECT, NOT_ALLOWED, "uid 4999 has no login name on this host");
}

/// Each daemon tells it while there are still some, and until there is room again.
#[test]
fn a_daemon_that_has_almost_no_descriptors_left_tells_it() {
    let service = Service::up("descriptors");
    for (host, daemon) in
        [(BROKER, "vsmserver"), ("agent1", "vsmagent"), ("agent1", "vsm-agent-net")]
    {
        let limit = |limit: &str| {
            let pid = format!("$(pgrep -x {daemon})");
            // As its own user, who may.
            let user = format!("$(stat -c %U /proc/{pid})");
            service.sh(host, &format!("runuser -u {user} -- prlimit --nofile={limit} --pid {pid}"));
        };
        let open = service.sh(host, &format!("ls /proc/$(pgrep -x {daemon})/fd | wc -l"));
        let open: u32 = open.trim().parse().unwrap();
        // The soft one alone: it may be raised again.
        limit(&format!("{}:", open * 100 / 90));
        told(&service, host, "descriptors", &format!("{daemon} has"));
        limit("4096:");
        wait_for("it to be over", WAIT, || {
            let all = troubles(&service, host);
            let tells = all.iter().any(|one| one["kind"] == "descriptors");
            if tells { Err(format!("{all:?}")) } else { Ok(()) }
        })
        .unwrap();
    }
}
