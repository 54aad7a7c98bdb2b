//! What one session may take of its host, and what its user is told when it took more.
//!
//! The hosts' kernel has no controllers in cgroup v2 (they are with version 1 here), so that a real kill for want of
//! memory cannot be had. Where a host is to have controllers, files stand in the place of the kernel's: the limits that
//! are written, the counts that are read, and all that follows from these are real.

use crate::service::{AGENTS, BROKER, Connected, Service, WAIT, connected};
use xtask::clock::wait_for;

const SOFTWARE: i32 = 70;
const LIMITS: [&str; 3] =
    ["session_memory_max=512", "session_cpu_max=150", "session_pids_max=4096"];
/// A root of cgroups with files as the kernel has them.
const FAKE: &str = "mount -t tmpfs none /sys/fs/cgroup && cd /sys/fs/cgroup && mkdir vsm && \
                    echo 'cpu memory pids' | tee cgroup.controllers > vsm/cgroup.controllers";

fn limit(service: &Service) {
    let names = service.sh(BROKER, "vsm-config -a /vsmserver/subclusters");
    let name = names.lines().find_map(|line| line.trim().strip_suffix('/')).unwrap_or("Default");
    let all = LIMITS.map(|limit| format!("/vsmserver/subclusters/{name}/{limit}"));
    service.configure(BROKER, "vsmserver", &all.each_ref().map(String::as_str));
}

fn connect(service: &Service, user: &str) -> (Connected, String) {
    let output = service.try_connect(user);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (connected(&output).unwrap_or_else(|why| panic!("{user}: {why}")), said)
}

/// Ends a session by the death of its X server and waits until the broker knows.
fn kill(service: &Service, at: &Connected) {
    service.sh(&at.agent, &format!("kill -KILL {}", service.processes(at).x_server));
    service.rows_become("the end", |rows| rows.iter().all(|row| row.session != at.session));
}

#[test]
fn a_session_over_its_memory_is_told_of_at_the_next_login_and_others_live_on() {
    let service = Service::up("memory");
    for agent in AGENTS {
        service.sh(agent, FAKE);
    }
    let (before, _) = connect(&service, "carol");
    limit(&service);
    let (alice, said) = connect(&service, "alice");
    assert_eq!(said, "");
    let (bob, _) = connect(&service, "bob");
    let file = |at: &Connected, name: &str| {
        service.sh(&at.agent, &format!("cat /sys/fs/cgroup/vsm/{}/{name}", at.session))
    };
    for at in [&alice, &bob] {
        assert_eq!(file(at, "memory.max"), "536870912");
        assert_eq!(file(at, "memory.oom.group"), "1");
        assert_eq!(file(at, "cpu.max"), "150000 100000");
        assert_eq!(file(at, "pids.max"), "4096");
    }
    service
        .sh(&before.agent, &format!("! test -e /sys/fs/cgroup/vsm/{}/memory.max", before.session));
    let counts = |at: &Connected, oom: u32| {
        let events = format!("max 9\\noom {oom}\\noom_kill 7\\n");
        let path = format!("/sys/fs/cgroup/vsm/{}/memory.events", at.session);
        service.sh(&at.agent, &format!("printf '{events}' > {path}"));
    };
    counts(&alice, 1);
    kill(&service, &alice);
    let (again, said) = connect(&service, "alice");
    assert!(again.created);
    assert_eq!(said, "vsm: your last desktop ended: out of memory (limit 512 MiB)\n");
    counts(&bob, 0);
    kill(&service, &bob);
    assert!(connect(&service, "bob").1.contains("the host had none left"));
    let (same, said) = connect(&service, "carol");
    assert_eq!((same.session, same.created, said), (before.session, false, String::new()));
}

#[test]
fn where_a_limit_cannot_be_held_it_is_said_and_refused_only_where_that_is_wanted() {
    let service = Service::up("no-controllers");
    limit(&service);
    let (alice, said) = connect(&service, "alice");
    assert!(alice.created && said.is_empty(), "{said}");
    let why = "there is no memory controller in";
    let log =
        service.sh(&alice.agent, &format!("cat /var/lib/vsm-agent/log/{}.log", alice.session));
    assert!(log.contains(why), "{log}");
    wait_for("the agent's warning", WAIT, || {
        let log = service.daemon_log(&alice.agent, "vsmagent");
        if log.contains("a limit does not hold") && log.contains(why) { Ok(()) } else { Err(log) }
    })
    .unwrap();
    crate::shares::told(&service, &alice.agent, "limits", why);
    for agent in AGENTS {
        service.configure(agent, "vsmagent", &["/vsmagent/require_limits=true"]);
    }
    service.refused_cleanly("bob", SOFTWARE, &[why, "/vsmagent/require_limits"]);
}

/// Of every way in which a desktop ends by itself its user is told at the next login; of a log-out they are not.
#[test]
fn the_reason_of_an_end_is_told_at_the_next_login() {
    let service = Service::up("reasons");
    let (first, _) = connect(&service, "alice");
    kill(&service, &first);
    let (second, said) = connect(&service, "alice");
    assert!(
        said.starts_with("vsm: your last desktop ended: the X server ended (killed by SIGKILL)"),
        "{said}"
    );
    service.end("alice");
    let (third, said) = connect(&service, "alice");
    assert_ne!(second.session, third.session);
    assert_eq!(said, "", "it was their own doing");
    // Once it has been a session, and not a script that fails at once.
    let script = "pgrep -u alice -of xsession";
    service.until(&third.agent, &format!("test $(ps -o etimes= -p $({script})) -gt 10"));
    service.sh(&third.agent, &format!("kill -SEGV $({script})"));
    service.rows_become("the end", |rows| rows.is_empty());
    let (_, said) = connect(&service, "alice");
    assert_eq!(said, "vsm: your last desktop ended: the session script was killed by SIGSEGV\n");
}
