//! A host whose clock is set: whatever it shows, no desktop ends for it, users get back to theirs, and times that are
//! set in seconds last as long.

use crate::lifetime::{NOTIFY, limit, warned};
use crate::service::{AGENTS, BROKER, Service};

/// Every program of a host sees its clock set off by the seconds in a file, from then on and as soon as that is
/// changed. The machine's own clock is nobody's to set: other hosts have it too. Clocks that only go forward stay as
/// they are, as they do when an administrator, or NTP, sets a clock.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile int *off;
__attribute__((constructor)) static void begin(void) {
    int fd = open("/run/clock", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    void *at = mmap(0, 4, PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) off = at;
    close(fd);
}
int clock_gettime(clockid_t id, struct timespec *to) {
    int done = syscall(SYS_clock_gettime, id, to);
    if (!done && off && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) to->tv_sec += *off;
    return done;
}
int gettimeofday(struct timeval *restrict to, void *restrict zone) {
    struct timespec now;
    int done = clock_gettime(CLOCK_REALTIME, &now);
    to->tv_sec = now.tv_sec, to->tv_usec = now.tv_nsec / 1000;
    return done;
}
time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
"#;
const DAY: i32 = 24 * 60 * 60;
/// A new certificate holds for a clock that is a day behind.
const BACK: i32 = -20 * 60 * 60;

/// Sets a host's clock off by so many seconds.
fn set(service: &Service, host: &str, seconds: i32) {
    let bytes: String =
        seconds.to_le_bytes().iter().map(|byte| format!("\\\\{byte:03o}")).collect();
    service.sh(host, &format!("printf %b {bytes} | dd of=/run/clock conv=notrunc status=none"));
    let hours = f64::from(seconds) / 3600.0;
    let from = service.sh("client", "date +%s").trim().parse::<f64>().unwrap();
    let shown = service.sh(host, "date +%s").trim().parse::<f64>().unwrap();
    assert!(
        (shown - from - f64::from(seconds)).abs() < 60.0,
        "{host} is not {hours} h off: {shown}"
    );
}

#[test]
fn a_clock_that_is_set_ends_no_desktop_and_locks_nobody_out() {
    let service = Service::up("clock");
    for (host, daemon) in [(BROKER, "vsmserver"), ("agent1", "vsmagent"), ("agent2", "vsmagent")] {
        service.sh(
            host,
            &format!(
                "cat > /root/clock.c <<'END'\n{CLOCK}END\nprintf '\\0\\0\\0\\0' > /run/clock; \
                 cc -shared -fPIC -O -o /usr/local/lib/clock.so /root/clock.c && echo /usr/local/lib/clock.so > /etc/ld.so.preload"
            ),
        );
        service.restart_daemon(host, daemon).unwrap();
    }
    service.agents_are("up", &AGENTS);
    for agent in AGENTS {
        service.sh(agent, NOTIFY);
    }
    limit(&service, "all", "disconnected_max=2h lifetime_max=24h warn_before=10m");
    let alice = service.connect("alice");
    let cases = [
        (&AGENTS[..], 3 * DAY),
        (&AGENTS, BACK),
        (&[BROKER], 3 * DAY),
        (&[BROKER], BACK),
        (&[BROKER, AGENTS[0], AGENTS[1]], 3 * DAY),
    ];
    for (number, (hosts, seconds)) in cases.into_iter().enumerate() {
        let case = format!("{hosts:?} {seconds}");
        for host in hosts {
            set(&service, host, seconds);
        }
        // A configuration that is read again has every limit looked at.
        limit(&service, "all", &format!("extension={}m", number + 1));
        assert_eq!(service.connect("alice").session, alice.session, "{case}");
        service.crash(&alice.agent, "vsmagent");
        service.agents_are("up", &AGENTS);
        assert_eq!(service.connect("alice").session, alice.session, "{case}");
        service.crash(BROKER, "vsmserver");
        service.agents_are("up", &AGENTS);
        assert_eq!(service.connect("alice").session, alice.session, "{case}");
        // And who comes new gets a desktop.
        assert!(service.connect("bob").created, "{case}");
        service.end("bob");
    }
    service.sh(&alice.agent, "! test -e /home/alice/warned");
    // The time after which a silent host's desktop no longer counts passes by itself, not by setting a clock.
    service.stop_daemon(&alice.agent, "vsmagent").unwrap();
    service.agents_are("down", &[&alice.agent]);
    set(&service, BROKER, 6 * DAY);
    service.refused("alice", 69, &["which does not answer", "or get a new desktop in"]);
    set(&service, BROKER, 3 * DAY);
    service.start_daemon(&alice.agent, "vsmagent").unwrap();
    service.agents_are("up", &AGENTS);
    // What is due in seconds comes, whatever the clock shows.
    limit(&service, "all", "disconnected_max=4s warn_before=2s");
    service.rows_become("no session", |rows| rows.is_empty());
    let warned = warned(&service, &alice, "alice", "will be ended in 2 s", 1);
    assert_eq!(warned.matches("will be ended in 2 s").count(), 1, "{warned}");
    assert_eq!(warned.matches("will be ended").count(), 1, "{warned}");
    service.clean(&alice.agent);
}
