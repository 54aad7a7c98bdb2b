//! What another user of the host, or the desktop's own, tries against root and against others.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use vsm_proto::session::v1::Session;

use crate::{
    calls::{new_id, started, terminate},
    lab::{Lab, wait_for},
};

const ALICE: u32 = 51001;
const BOB: u32 = 51002;

/// Takes the abstract names of displays 10 to 700, as far as it can, answers on them and on the paths, and tells what
/// it was shown.
const THIEF: &str = r#"
use Socket; $| = 1;
my %got; my $names = 0;
for my $n (10 .. 700) {
    socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die $!;
    if (bind($s, pack("Sa*", AF_UNIX, "\0/tmp/.X11-unix/X$n"))) { listen($s, 5); $got{$n} = $s; $names++ }
    if ($n < 40) {
        socket(my $p, AF_UNIX, SOCK_STREAM, 0) or die $!;
        if (bind($p, pack_sockaddr_un("/tmp/.X11-unix/X$n"))) { listen($p, 5); $got{"p$n"} = $p; }
    }
}
print "$names $$\n";
my $bits = "";
vec($bits, fileno($_), 1) = 1 for values %got;
while (1) {
    my $ready = $bits;
    select($ready, undef, undef, undef) > 0 or next;
    for my $n (keys %got) {
        next unless vec($ready, fileno($got{$n}), 1);
        accept(my $c, $got{$n}); sysread($c, my $hello, 200); print "heard $n\n"; close $c;
    }
}
"#;

/// With how many names it has, and its pid inside.
fn thief(lab: &Lab) -> (Child, BufReader<std::process::ChildStdout>, u32, String) {
    let script = format!("exec perl -e '{THIEF}'");
    let mut child = lab.as_user(BOB, &script).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let (names, pid) = line.trim().split_once(' ').unwrap();
    let (names, pid) = (names.parse().unwrap(), pid.to_owned());
    (child, said, names, pid)
}

/// alice's programs find her display.
fn assert_usable(lab: &Lab, id: &str, session: &Session) {
    let cookie = lab.path("run/sessions").join(id).join("user/Xauthority");
    let look = format!("DISPLAY=:{} XAUTHORITY={} xdpyinfo", session.display, cookie.display());
    let seen = lab.as_user(ALICE, &look).output().unwrap();
    assert!(seen.status.success(), "{seen:?}");
    assert!(String::from_utf8_lossy(&seen.stdout).contains("vendor string"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_the_names_of_a_display() {
    let lab = Lab::new();
    let mut broker = lab.broker().await;
    let before = new_id();
    let first = started(&mut broker, &before, "alice").await;
    // Names and sockets of all the next numbers, and locks of every kind.
    let (mut bob, mut said, names, pid) = thief(&lab);
    assert!((1..=200).contains(&names), "{names} names; root holds the lowest");
    let locks = "cd /tmp; for n in $(seq 10 2000); do ln -s /nowhere .X$n-lock; : > .tX$n-lock; done; \
                 mkdir -p .X11-unix/X40/full .X11-unix/.vsm/x; true";
    assert!(lab.as_user(BOB, locks).stderr(Stdio::null()).status().unwrap().success());
    for _ in 0..2 {
        let id = new_id();
        let session = started(&mut broker, &id, "alice").await;
        assert_usable(&lab, &id, &session);
        // Her X server dies, and her programs live a little longer: they are sent to nobody else.
        let dead = format!(
            "kill -9 {}; xdpyinfo -display :{}",
            lab.record(&id)["x_server"]["pid"],
            session.display
        );
        assert!(
            !lab.inside("sh").args(["-c", &dead]).stderr(Stdio::null()).status().unwrap().success()
        );
        lab.assert_gone(&id, session.display);
    }
    assert_usable(&lab, &before, &first);
    terminate(&mut broker, &before).await;
    lab.assert_gone(&before, first.display);
    assert!(lab.inside("kill").arg(pid).status().unwrap().success());
    bob.wait().unwrap();
    let mut heard = String::new();
    std::io::Read::read_to_string(&mut said, &mut heard).unwrap();
    assert_eq!(heard, "");
}

/// Where PAM takes variables from the user, and the dynamic linker leaves a trace of each program that heeds them.
#[tokio::test(flavor = "multi_thread")]
async fn no_variable_of_a_user_reaches_a_process_of_root() {
    let lab = Lab::new();
    let trace = lab.path("trace");
    let set = format!(
        "mkdir -m 1777 {0}; echo 'session required pam_env.so user_readenv=1' >> /etc/pam.d/vsm; \
         printf 'LD_DEBUG DEFAULT=libs\\nLD_DEBUG_OUTPUT DEFAULT={0}/of\\n' > {1}/.pam_environment",
        trace.display(),
        lab.path("home/alice").display()
    );
    assert!(lab.inside("sh").args(["-c", &set]).status().unwrap().success());
    let mut broker = lab.broker().await;
    let id = new_id();
    let session = started(&mut broker, &id, "alice").await;
    assert_usable(&lab, &id, &session);
    terminate(&mut broker, &id).await;
    lab.assert_gone(&id, session.display);
    let owner = |entry: fs::DirEntry| MetadataExt::uid(&entry.metadata().unwrap());
    let owners: Vec<u32> = fs::read_dir(trace).unwrap().flatten().map(owner).collect();
    assert!(owners.contains(&ALICE), "PAM took them: {owners:?}");
    assert!(owners.iter().all(|owner| *owner == ALICE), "{owners:?}");
}

/// Mounts of the session's programs go with it; what a link with the name of one leads to does not.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_session_takes_its_own_mounts_and_no_others() {
    let lab = Lab::new();
    let mut broker = lab.broker().await;
    for end in ["terminate", "kill"] {
        let id = new_id();
        let session = started(&mut broker, &id, "alice").await;
        let user = lab.path("run/sessions").join(&id).join("user");
        let make = format!(
            "mkdir -p {0}/foreign && {{ mountpoint -q {0}/foreign || mount -t tmpfs foreign {0}/foreign; }} && \
             touch {0}/foreign/kept && cd {1} && mkdir 'x y' && mount -t tmpfs own 'x y' && touch 'x y/gone' && \
             mkdir 'x y/within' && mount -t tmpfs own 'x y/within' && ln -s {0}/foreign 'x\\040y'",
            lab.path("").display(),
            user.display()
        );
        let made = lab.inside("sh").args(["-c", &make]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        if end == "terminate" {
            terminate(&mut broker, &id).await;
        } else {
            crate::lab::kill(lab.pid_of(&id, "monitor"), "KILL");
        }
        lab.assert_gone(&id, session.display);
        let left = lab.inside("cat").arg("/proc/mounts").output().unwrap();
        let left = String::from_utf8(left.stdout).unwrap();
        assert!(left.contains("/foreign"), "{end}: {left}");
        assert!(!left.contains(&id), "{end}: {left}");
        let kept = lab.inside("test").arg("-e").arg(lab.path("foreign/kept")).status().unwrap();
        assert!(kept.success(), "{end}");
    }
}

/// Puts a socket in the place of the X server's, whose queue is full for ever.
const FULL: &str = r#"
use Socket; use IO::Handle;
unlink $ARGV[0]; socket(my $s, AF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un($ARGV[0])) or die $!; listen($s, 1);
my @all;
while (1) {
    socket(my $c, AF_UNIX, SOCK_STREAM, 0); $c->blocking(0);
    connect($c, pack_sockaddr_un($ARGV[0])) or last; push @all, $c;
}
open(my $f, ">", "$ARGV[0].full"); close $f; sleep 1000;
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_takes_nothing_holds_root_up_for_no_time() {
    let mut lab = Lab::new();
    let mut broker = lab.broker().await;
    let id = new_id();
    let session = started(&mut broker, &id, "alice").await;
    let rfb = lab.path("run/sessions").join(&id).join("user/rfb.sock");
    let script = format!("exec perl -e '{FULL}' {}", rfb.display());
    let mut full = lab.as_user(ALICE, &script).spawn().unwrap();
    wait_for("a full queue", || rfb.with_extension("sock.full").exists().then_some(()));
    let begun = Instant::now();
    let refused = lab.attach(&id, "10.0.0.9").err().unwrap();
    assert!(refused.contains("it takes no connections"), "{refused}");
    lab.stop_agent("TERM");
    lab.start_agent();
    let mut broker = lab.broker().await;
    terminate(&mut broker, &id).await;
    lab.assert_gone(&id, session.display);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    crate::lab::kill(i32::try_from(full.id()).unwrap(), "KILL");
    full.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_somebody_made_before_are_moved_aside() {
    let mut lab = Lab::new();
    lab.stop_agent("TERM");
    let make = "rm -rf /tmp/.X11-unix /tmp/.ICE-unix; setpriv --reuid=51002 --regid=51002 --clear-groups sh -c \
                'mkdir -m 1777 /tmp/.X11-unix && mkdir -m 777 /tmp/.X11-unix/.vsm && ln -s /etc /tmp/.ICE-unix'";
    assert!(lab.inside("sh").args(["-c", make]).status().unwrap().success());
    lab.start_agent();
    let mut broker = lab.broker().await;
    // Again while the agent runs.
    for round in 0..2 {
        let id = new_id();
        let session = started(&mut broker, &id, "alice").await;
        assert_usable(&lab, &id, &session);
        let look = ["-c", "%u %a %F", "/tmp/.X11-unix", "/tmp/.ICE-unix"];
        let owners = lab.inside("stat").args(look).output().unwrap();
        let owners = String::from_utf8(owners.stdout).unwrap();
        assert_eq!(owners, "0 1777 directory\n0 1777 directory\n");
        terminate(&mut broker, &id).await;
        lab.assert_gone(&id, session.display);
        if round == 0 {
            assert!(lab.inside("sh").args(["-c", make]).status().unwrap().success());
        }
    }
    assert!(lab.log().contains("/tmp/.X11-unix (owned by uid 51002"), "{}", lab.log());
    assert!(fs::read_dir(lab.path("run/sessions")).unwrap().next().is_none());
}
