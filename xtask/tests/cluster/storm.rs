//! Fifty users at the same moment, as on a Monday morning.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use xtask::cluster::{ClusterSpec, Fault};

use crate::service::{AGENTS, BROKER, Connected, Service, connected};
use crate::{one_login, spec};

const USERS: u16 = 50;
/// Small screens: it is the number of desktops that is shown here.
const GEOMETRY: &str = "/vsmagent/default_geometry=320x240";

fn service(name: &str) -> Service {
    let service = Service::with(&ClusterSpec { users: USERS, ..spec(name) });
    for agent in AGENTS {
        service.configure(agent, "vsmagent", &[GEOMETRY]);
    }
    service
}

/// All users log in at once, and each of them must get a desktop. Two cores serve fifty desktops
/// and fifty ssh here: the logins may take long, not fail.
fn all_at_once(service: &Service) -> Vec<(String, Connected)> {
    thread::scope(|scope| {
        let login = |user: String| {
            // sshd turns some away, as everywhere; they come again by themselves.
            let to = format!("{user}@tlha");
            let words = ["vsm", "connect", "--no-viewer", "--json", &to];
            let connected = connected(&service.exec("client", &user, &words).unwrap());
            (user.clone(), connected.unwrap_or_else(|why| panic!("{user}: {why}")))
        };
        let all: Vec<_> =
            (1..=USERS).map(|n| scope.spawn(move || login(format!("user{n:03}")))).collect();
        all.into_iter().map(|login| login.join().unwrap()).collect()
    })
}

/// Stands at the desk of everybody; that it is asked anything is an error.
const ASKPASS: &str = "printf '#!/bin/sh\\necho \"$1\" >> /tmp/asked\\n' > /usr/local/bin/askpass; \
                       chmod 755 /usr/local/bin/askpass; touch /tmp/asked; chmod 666 /tmp/asked";
/// As many as come back in the same second after a break in the network.
const BACK: u16 = 60;
/// As many to hosts that are slow.
pub(crate) const BACK_TO_SLOW: u16 = 40;
/// How many hundredths of a core such hosts have: the last one is let in after more than a minute.
const SLOW: [(&str, u32); 3] = [(BROKER, 40), ("agent1", 20), ("agent2", 20)];
/// So many desktops are made at a time.
const TOGETHER: usize = 6;

#[test]
fn many_who_come_back_at_once_are_let_in_and_asked_nothing() {
    let service = Service::with(&ClusterSpec { users: BACK, ..spec("storm-back") });
    come_back(&service, BACK, &[]);
}

pub(crate) fn come_back_to_slow(service: &Service) {
    come_back(service, BACK_TO_SLOW, &SLOW);
}

fn come_back(service: &Service, users: u16, slow: &[(&str, u32)]) {
    one_login::harden(service);
    for agent in AGENTS {
        service.configure(agent, "vsmagent", &[GEOMETRY]);
    }
    service.sh("client", ASKPASS);
    let users: Vec<String> = (1..=users).map(|n| format!("user{n:03}")).collect();
    let go = |users: &[String], words: &[&str]| {
        let one = |user: &String| {
            let to = format!("{user}@tlha");
            let asked = ["env", "SSH_ASKPASS=/usr/local/bin/askpass", "SSH_ASKPASS_REQUIRE=force"];
            let output = service.exec("client", user, &[&asked, words, &[&to]].concat()).unwrap();
            (!output.status.success()).then(|| format!("{user}: {output:?}"))
        };
        thread::scope(|scope| {
            let all: Vec<_> = users.iter().map(|user| scope.spawn(move || one(user))).collect();
            all.into_iter().filter_map(|one| one.join().unwrap()).collect::<Vec<_>>()
        })
    };
    // Making so many desktops at once takes long; it is not what is shown here.
    for some in users.chunks(TOGETHER) {
        assert_eq!(go(some, &["vsm", "connect", "--no-viewer"]), Vec::<String>::new());
    }
    for &(host, percent) in slow {
        service.fault(&Fault::Slow { host: host.into(), percent }).unwrap();
    }
    let failed = go(&users, &["vsm", "connect", "--screenshot", "/dev/null"]);
    for (host, _) in slow {
        assert!(service.stops_of_slow(host).unwrap() > 0, "{host} was not slow");
    }
    service.heal(&[]).unwrap();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    assert_eq!(service.sh("client", "cat /tmp/asked"), "");
    end_all(service);
}

/// How many desktops each agent has: by the answers, by the table, and by the X servers that run.
fn check(service: &Service, got: &[(String, Connected)], wanted: &[(&str, usize)]) {
    let wanted: BTreeMap<_, _> = wanted.iter().map(|&(agent, n)| (agent.to_owned(), n)).collect();
    let count = |agents: &mut dyn Iterator<Item = String>| {
        agents.fold(BTreeMap::<String, usize>::new(), |mut all, agent| {
            *all.entry(agent).or_default() += 1;
            all
        })
    };
    assert_eq!(count(&mut got.iter().map(|(_, at)| at.agent.clone())), wanted);
    let ids: BTreeSet<_> = got.iter().map(|(_, at)| &at.session).collect();
    assert_eq!(ids.len(), got.len(), "a session was given out twice");
    let displays: BTreeSet<_> = got.iter().map(|(_, at)| (&at.agent, at.display)).collect();
    assert_eq!(displays.len(), got.len(), "a display was given out twice");
    let rows = service.rows();
    assert_eq!(count(&mut rows.iter().map(|row| row.agent.clone())), wanted);
    for (user, at) in got {
        let mine: Vec<_> = rows.iter().filter(|row| row.user == *user).collect();
        assert!(mine.len() == 1 && mine[0].session == at.session, "{user}: {mine:?}");
    }
    for (agent, count) in &wanted {
        assert_eq!(service.sh(agent, "pgrep -c Xtigervnc"), count.to_string(), "{agent}");
    }
}

pub(crate) fn end_all(service: &Service) {
    let words = ["vsmctl", "session", "terminate", "--all", "--assume-yes"];
    service.output(BROKER, "root", &words).unwrap();
    assert_eq!(service.rows(), []);
}

#[test]
fn fifty_users_at_once_are_spread_evenly() {
    let service = service("storm");
    let got = all_at_once(&service);
    check(&service, &got, &[("agent1", 25), ("agent2", 25)]);
    let again = all_at_once(&service);
    for ((user, first), (_, second)) in got.iter().zip(&again) {
        assert_eq!((&first.session, second.created), (&second.session, false), "{user}");
    }
    end_all(&service);
    for agent in AGENTS {
        service.clean(agent);
    }
}

#[test]
fn fifty_users_at_once_all_get_the_agent_that_is_left() {
    let service = service("storm-down");
    service.power_off("agent2").unwrap();
    // A host without power answers nobody, which takes longer to notice than a refusal.
    service.agents_are("down", &["agent2"]);
    let got = all_at_once(&service);
    check(&service, &got, &[("agent1", 50)]);
    end_all(&service);
    service.clean("agent1");
    service.power_on("agent2").unwrap();
    service.agents_are("up", &AGENTS);
    service.stop_daemon("agent1", "vsmagent").unwrap();
    let got = all_at_once(&service);
    check(&service, &got, &[("agent2", 50)]);
}
