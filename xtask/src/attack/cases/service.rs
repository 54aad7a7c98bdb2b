//! Each method of each service by everybody who may not: what nobody needs to believe the product's own table for.
//!
//! The methods are read from that table, so that none is forgotten; who may call them is said here once more. A call
//! bears no message that could be obeyed: a service that is reached says that.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::attack::calls::{self, Call};
use crate::attack::case::{By, Case, Seen};
use crate::attack::stage::{ADMINISTRATOR, Stage};
use crate::attack::wire::Message;

const TABLE: &str = include_str!("../../../../crates/daemon/src/access/table.rs");
const USERS: &str = "/run/vsm/vsmserver.sock";
const ADMINISTRATORS: &str = "/run/vsm/vsmserver-admin.sock";
const HEALTH: &str = "grpc.health.v1.Health/Check";
const ENROL: &str = "vsm.broker.v1.Enrolment/Enrol";

/// Where somebody calls from.
#[derive(Debug, Clone, Copy)]
enum Door {
    /// The port of the active broker, with this identity.
    Broker(&'static str),
    /// The port of a session host, with this identity.
    Agent(&'static str),
    /// A socket on the active broker's host, as this user.
    Socket(&'static str, &'static str),
}

impl Door {
    fn call(self, method: &str) -> Call {
        let nothing = Message::new();
        match self {
            Self::Broker(identity) => Call::by(identity, "{active}:9000", method, &nothing),
            Self::Agent(identity) => Call::by(identity, "agent1:904", method, &nothing),
            Self::Socket(path, _) => Call::at(path, method, &nothing),
        }
        .empty()
    }

    /// The host and the user of whoever calls.
    const fn at(self) -> (&'static str, &'static str) {
        match self {
            Self::Broker(_) | Self::Agent(_) => ("client", "root"),
            Self::Socket(_, user) => ("active", user),
        }
    }
}

/// Somebody, with the methods that they may call: each by the beginning of its name, those after `!` not.
struct Who {
    name: &'static str,
    by: By,
    door: Door,
    may: &'static [&'static str],
}

const fn who(name: &'static str, by: By, door: Door, may: &'static [&'static str]) -> Who {
    Who { name, by, door, may }
}

const ADMIN: &[&str] = &[
    "grpc.",
    "vsm.admin.v1.",
    "!vsm.admin.v1.Admin/RecordEvent",
    "!vsm.admin.v1.Configuration/Adopt",
];

const EVERYBODY: &[Who] = &[
    who("user", By::BrokerUser, Door::Socket(USERS, "bob"), &["vsm.broker.v1.Broker/", "grpc."]),
    who("administrator", By::Administrator, Door::Socket(ADMINISTRATORS, ADMINISTRATOR), ADMIN),
    who(
        "ops",
        By::Certificate,
        Door::Broker("ops"),
        &[
            ENROL,
            "grpc.",
            "vsm.admin.v1.",
            "!vsm.admin.v1.Admin/RecordEvent",
            "!vsm.admin.v1.Ha/PeerFenced",
            "!vsm.admin.v1.Configuration/Parameters",
            "!vsm.admin.v1.Configuration/Adopt",
        ],
    ),
    who("mallory", By::Certificate, Door::Broker("mallory"), &[ENROL, "grpc."]),
    who(
        "watcher",
        By::Certificate,
        Door::Broker("watcher"),
        &[ENROL, "grpc.", "vsm.sync.v1.Observe/"],
    ),
    who(
        "standby",
        By::Certificate,
        Door::Broker("{standby}"),
        &[
            ENROL,
            "grpc.",
            "vsm.broker.v1.Broker/",
            "vsm.broker.v1.OpenId/",
            "vsm.admin.v1.",
            "!vsm.admin.v1.Ha/PeerFenced",
            "vsm.sync.v1.Peer/",
        ],
    ),
    who("evil", By::Certificate, Door::Broker("evil"), &[ENROL, "grpc.", "vsm.sync.v1.Peer/"]),
    who(
        "agent",
        By::SessionHost,
        Door::Broker("agent2"),
        &["vsm.broker.v1.Registry/", "vsm.broker.v1.Enrolment/", "grpc."],
    ),
    who(
        "agent-named-ops",
        By::Certificate,
        Door::Broker("agent-ops"),
        &["vsm.broker.v1.Registry/", "vsm.broker.v1.Enrolment/", "grpc."],
    ),
    who("former", By::Certificate, Door::Broker("former"), &["vsm.broker.v1.Enrolment/"]),
    who("nobody", By::Certificate, Door::Broker("nobody"), &[ENROL]),
    who("agent-at-agent", By::SessionHost, Door::Agent("agent2"), &["grpc."]),
    who("broker-name-at-agent", By::SessionHost, Door::Agent("agent-tlha"), &["grpc."]),
    who("evil-at-agent", By::Certificate, Door::Agent("evil"), &["grpc."]),
    who("mallory-at-agent", By::Certificate, Door::Agent("mallory"), &["grpc."]),
    who("ops-at-agent", By::Certificate, Door::Agent("ops"), &["grpc."]),
    who("former-at-agent", By::Certificate, Door::Agent("former"), &[]),
    who("nobody-at-agent", By::Certificate, Door::Agent("nobody"), &[]),
];

impl Who {
    fn may(&self, method: &str) -> bool {
        let begins = |mark: &str| {
            let fits = |one: &&&str| match one.strip_prefix('!') {
                Some(not) => mark == "!" && method.starts_with(not),
                None => mark.is_empty() && method.starts_with(**one),
            };
            self.may.iter().any(|one| fits(&one))
        };
        begins("") && !begins("!")
    }
}

/// All methods, by their services.
fn methods() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for text in TABLE.split('"').skip(1).step_by(2) {
        if let Some((service, _)) = text.split_once('/')
            && (service.starts_with("vsm.") || service.starts_with("grpc."))
            && !text.contains(' ')
        {
            all.entry(service).or_default().push(text);
        }
    }
    all
}

fn of_agents(service: &str) -> bool {
    service.starts_with("vsm.agent.") || service == "vsm.sync.v1.Witness"
}

/// Who is let in to a method where it is served.
fn friend(method: &str, door: Door) -> Door {
    let is_for_peer = ["Admin/RecordEvent", "Configuration/Adopt", "Peer/Exchange"];
    match door {
        Door::Agent(_) => Door::Agent("{active}"),
        _ if method.starts_with("grpc.") => Door::Broker("agent2"),
        _ if method.starts_with("vsm.broker.v1.Broker/") => Door::Socket(USERS, "bob"),
        _ if method.starts_with("vsm.broker.v1.OpenId/") => Door::Broker("{standby}"),
        _ if method.starts_with("vsm.broker.") => Door::Broker("agent2"),
        _ if is_for_peer.iter().any(|end| method.ends_with(end)) => Door::Broker("{standby}"),
        _ if method.starts_with("vsm.sync.v1.Observe") => Door::Broker("watcher"),
        Door::Broker(_) | Door::Socket(..) => Door::Socket(ADMINISTRATORS, "root"),
    }
}

fn is_socket(door: Door) -> bool {
    matches!(door, Door::Socket(..))
}

/// Each of the methods is let in from somebody who may, and the door itself is open.
fn control(stage: &Stage<'_>, methods: &[&'static str], door: Door) -> Result<Seen> {
    let mut friends: Vec<(Door, &str)> =
        methods.iter().map(|method| (friend(method, door), *method)).collect();
    if !is_socket(door) {
        let known = match door {
            Door::Agent(_) => Door::Agent("agent2"),
            Door::Broker(_) | Door::Socket(..) => Door::Broker("agent2"),
        };
        friends.push((known, HEALTH));
    }
    let mut said = Seen::Lost("nothing was asked".to_owned());
    for (door, method) in friends {
        let (host, user) = door.at();
        said = calls::all_let_in(stage, host, user, &[door.call(method)])?;
        if matches!(said, Seen::Lost(_)) {
            break;
        }
    }
    Ok(said)
}

fn of(who: &'static Who, service: &'static str, methods: Vec<&'static str>) -> Case {
    let short: String = service
        .rsplit_once('.')
        .map_or(service, |(_, name)| name)
        .chars()
        .flat_map(char::to_lowercase)
        .collect();
    let (door, calls) = (who.door, methods.len());
    let friends = methods.clone();
    let attempt = move |stage: &Stage<'_>| {
        let (host, user) = door.at();
        let calls: Vec<_> = methods.iter().map(|method| door.call(method)).collect();
        calls::any_let_in(stage, host, user, &calls)
    };
    Case {
        name: format!("{}-calls-{short}", who.name),
        by: who.by,
        gets: format!("what {service} does"),
        attempt: Box::new(attempt),
        control: Box::new(move |stage| control(stage, &friends, door)),
        calls,
    }
}

pub(super) fn all() -> Vec<Case> {
    let methods = methods();
    let mut all = Vec::new();
    for who in EVERYBODY {
        for (service, of_service) in &methods {
            let here = matches!(who.door, Door::Agent(_)) == of_agents(service)
                || service.starts_with("grpc.");
            // Who is a stranger among brokers is said by the stream itself.
            let may_not: Vec<_> =
                of_service.iter().copied().filter(|method| !who.may(method)).collect();
            if here && !may_not.is_empty() {
                all.push(of(who, service, may_not));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_methods_are_known_and_who_may_call_them_is_said() {
        let methods = methods();
        assert_eq!(methods["vsm.broker.v1.Broker"].len(), 10);
        assert_eq!(
            methods.values().map(Vec::len).sum::<usize>(),
            TABLE.matches("Method::new(").count()
        );
        let may = |name: &str, method: &str| {
            EVERYBODY.iter().find(|who| who.name == name).unwrap().may(method)
        };
        assert!(may("ops", "vsm.admin.v1.Admin/Status"));
        assert!(!may("ops", "vsm.admin.v1.Admin/RecordEvent"));
        assert!(!may("nobody", HEALTH));
        assert!(may("former", "vsm.broker.v1.Enrolment/Renew"));
    }
}
