//! Daemons die and lose what they keep; desktops do not, and nobody gets a second one for it.

use std::thread;

use crate::service::{BROKER, Connected, Processes, Row, SIGKILL, Service, connected};

/// Two desktops on two agents, and what they are made of.
fn two(service: &Service) -> Vec<(&'static str, Connected, Processes)> {
    let of = |user| {
        let desktop = service.connect(user);
        let processes = service.processes(&desktop);
        (user, desktop, processes)
    };
    let both = vec![of("alice"), of("bob")];
    assert_ne!(both[0].1.agent, both[1].1.agent);
    both
}

/// Everybody still has the desktop that they had, and the table says no more and no less.
fn all_are_back(service: &Service, before: &[(&str, Connected, Processes)]) {
    service.agents_are("up", &crate::service::AGENTS);
    for (user, desktop, processes) in before {
        let alive = format!("kill -0 {} {}", processes.monitor, processes.x_server);
        service.sh(&desktop.agent, &alive);
        let now = service.connect(user);
        assert_eq!((&now.session, now.created), (&desktop.session, false), "{user}");
        assert_eq!((now.display, &now.agent), (desktop.display, &desktop.agent), "{user}");
        assert_eq!(service.processes(&now), *processes, "{user}");
    }
    let mut ids: Vec<_> = service.rows().into_iter().map(|row| row.session).collect();
    let mut wanted: Vec<_> = before.iter().map(|(_, at, _)| at.session.clone()).collect();
    ids.sort();
    wanted.sort();
    assert_eq!(ids, wanted);
}

#[test]
fn desktops_outlive_their_daemons() {
    let service = Service::up("crash");
    let before = two(&service);
    service.crash("agent1", "vsmagent");
    service.crash("agent2", "vsmagent");
    all_are_back(&service, &before);
    service.crash(BROKER, "vsmserver");
    all_are_back(&service, &before);
    service.kill_daemon(BROKER, "vsmserver", SIGKILL).unwrap();
    service.kill_daemon("agent1", "vsmagent", SIGKILL).unwrap();
    service.crash("agent2", "vsmagent");
    all_are_back(&service, &before);
    service.stop_daemon(BROKER, "vsmserver").unwrap();
    for agent in crate::service::AGENTS {
        service.restart_daemon(agent, "vsmagent").unwrap();
    }
    service.start_daemon(BROKER, "vsmserver").unwrap();
    all_are_back(&service, &before);
    new_logins_work(&service);
}

fn new_logins_work(service: &Service) {
    let carol = service.connect("carol");
    assert!(carol.created);
    service.end("carol");
}

fn status(service: &Service) -> (String, u64) {
    let words = ["vsmctl", "status", "--output", "json"];
    let status = service.output(BROKER, "root", &words).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let epoch = status["epoch"].as_str().unwrap().split('@').next().unwrap().parse().unwrap();
    (status["lineage"].as_str().unwrap().to_owned(), epoch)
}

#[test]
fn a_broker_without_its_table_gets_every_desktop_back_from_the_agents() {
    let service = Service::up("lost");
    let before = two(&service);
    let (lineage, epoch) = status(&service);
    service.stop_daemon(BROKER, "vsmserver").unwrap();
    service.sh(BROKER, "rm -rf /var/lib/vsm/* && ! ls /var/lib/vsm/* 2>/dev/null");
    service.start_daemon(BROKER, "vsmserver").unwrap();
    service.rows_become("both desktops", |rows| rows.len() == 2);
    all_are_back(&service, &before);
    new_logins_work(&service);
    let (lineage_now, epoch_now) = status(&service);
    assert_eq!(lineage_now, lineage, "the lineage was not taken up again");
    assert!(epoch_now > epoch, "epoch {epoch_now} does not follow {epoch}");
    service.crash(BROKER, "vsmserver");
    all_are_back(&service, &before);
    assert_eq!(status(&service).0, lineage, "the lineage was not kept");
    a_torn_table_is_rebuilt(&service, &before);
}

/// The file's pages overwritten while the broker is away.
fn a_torn_table_is_rebuilt(service: &Service, before: &[(&str, Connected, Processes)]) {
    service.stop_daemon(BROKER, "vsmserver").unwrap();
    let tear = "cd /var/lib/vsm && rm -f *-wal *-shm && for f in *.db *.sqlite*; do [ -f $f ] && \
                dd if=/dev/urandom of=$f bs=4096 count=2 conv=notrunc 2>/dev/null; done; ls";
    service.sh(BROKER, tear);
    service.start_daemon(BROKER, "vsmserver").unwrap();
    service.rows_become("both desktops", |rows| rows.len() == 2);
    all_are_back(service, before);
    let log = service.daemon_log(BROKER, "vsmserver");
    assert!(log.contains("was moved aside; rebuilding it from"), "{log}");
    new_logins_work(service);
}

/// What a user gets who logs in twice at the same moment.
fn at_once(service: &Service, user: &str) -> [Connected; 2] {
    thread::scope(|scope| {
        let login = || connected(&service.try_connect(user));
        let both = [scope.spawn(login), scope.spawn(login)];
        both.map(|login| login.join().unwrap().unwrap())
    })
}

/// Kills a part of alice's desktop and looks at what two logins at once make of it.
fn replaced_once(service: &Service, part: fn(&Processes) -> i64) -> Connected {
    let desktop = service.connect("alice");
    let processes = service.processes(&desktop);
    service.sh(&desktop.agent, &format!("kill -9 {}", part(&processes)));
    let [one, two] = at_once(service, "alice");
    assert_ne!(one.session, desktop.session, "a dead desktop was handed out");
    assert_eq!(one.session, two.session, "two logins at once got a desktop each");
    service.gone(&desktop.agent, processes.x_server);
    service.gone(&desktop.agent, processes.monitor);
    let only = |rows: &[Row]| rows.len() == 1 && rows[0].session == one.session;
    service.rows_become("the one new session", only);
    let script = format!(
        "! ls -d /run/vsm/sessions/{0} /sys/fs/cgroup/vsm/{0} /var/lib/vsm-agent/sessions/{0}.json \
         2>/dev/null | grep .",
        desktop.session
    );
    service.until(&desktop.agent, &script);
    let servers = "pgrep -c Xtigervnc; true";
    let count: u32 = crate::service::AGENTS
        .iter()
        .map(|agent| service.sh(agent, servers).parse::<u32>().unwrap())
        .sum();
    assert_eq!(count, 1, "X servers");
    one
}

#[test]
fn a_dead_desktop_is_replaced_once() {
    let service = Service::up("replace");
    replaced_once(&service, |processes| processes.x_server);
    let now = replaced_once(&service, |processes| processes.monitor);
    assert_eq!(service.connect("alice").session, now.session, "it was replaced twice");
    // Killed while its agent's daemon was away.
    service.stop_daemon(&now.agent, "vsmagent").unwrap();
    let Processes { monitor, x_server } = service.processes(&now);
    service.sh(&now.agent, &format!("kill -9 {monitor} {x_server}"));
    service.start_daemon(&now.agent, "vsmagent").unwrap();
    service.agents_are("up", &crate::service::AGENTS);
    let [one, two] = at_once(&service, "alice");
    assert_eq!(one.session, two.session);
    assert_ne!(one.session, now.session);
}

/// Nobody can tell of the end: the X server is dead and its monitor hangs.
#[test]
fn a_dead_desktop_is_not_handed_out_though_nobody_tells_of_it() {
    let service = Service::up("silent");
    let desktop = service.connect("alice");
    let Processes { monitor, x_server } = service.processes(&desktop);
    service.sh(&desktop.agent, &format!("kill -STOP {monitor}; kill -9 {x_server}"));
    let next = service.connect("alice");
    assert!(next.created && next.session != desktop.session);
    service.sh(&desktop.agent, &format!("kill -CONT {monitor}"));
    service.gone(&desktop.agent, monitor);
    service.rows_become("the new one alone", |rows| rows.len() == 1);
    assert_eq!(service.connect("alice").session, next.session);
}

/// A power cut takes the desktop, and the host comes back without it.
#[test]
fn a_power_cut_ends_the_desktop_and_the_user_gets_another() {
    let service = Service::up("cut");
    let desktop = service.connect("alice");
    service.power_off(&desktop.agent).unwrap();
    service.agents_are("down", &[&desktop.agent]);
    // It may come back with the desktop alive for all that is known.
    service.refused("alice", 69, &["which does not answer", &desktop.agent]);
    let row = service.rows().remove(0);
    assert_eq!((&row.session, &*row.state), (&desktop.session, "unreachable"));
    assert!(row.unreachable_since.is_some());
    service.power_on(&desktop.agent).unwrap();
    service.agents_are("up", &[&desktop.agent]);
    let next = service.connect("alice");
    assert!(next.created && next.session != desktop.session);
    assert_eq!(service.rows().len(), 1);
}
