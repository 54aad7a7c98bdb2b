//! The ways to a session host: an address of IPv6 alone, one that is translated, and one of several. What users are
//! told is `/vsmagent/agent_hostname`; what brokers and agents use among each other is theirs.

use crate::service::{AGENTS, BROKER, Service};

const IPV6: [(&str, &str); 4] =
    [(BROKER, "fd00::2"), ("agent1", "fd00::11"), ("agent2", "fd00::12"), ("client", "fd00::100")];

/// The address that users reach an agent at, from its next announcement on.
fn told(service: &Service, agent: &str, address: &str) {
    service.sh(agent, &format!("vsm-config /vsmagent/agent_hostname={address}"));
    service.restart_daemon(agent, "vsmagent").unwrap();
}

/// Logs alice in twice, the second time to the picture of the same desktop, both with the one login at the broker.
fn works(service: &Service, addresses: &str) {
    let at = service.connect("alice");
    assert!(at.host.starts_with(addresses), "{at:?}");
    let picture = ["vsm", "connect", "--screenshot", "seen.png", "alice@tlha"];
    service.output("client", "alice", &picture).unwrap();
    service.sh("client", "test -s /home/alice/seen.png");
    service.end("alice");
    service.clean(&at.agent);
}

#[test]
fn an_address_of_ipv6_does_for_users_and_brokers_alike() {
    let service = Service::up("ipv6");
    for (host, address) in IPV6 {
        service.sh(host, &format!("ip -6 address add {address}/64 dev eth0 nodad"));
    }
    service.power_off("agent2").unwrap();
    // Between broker and agent nothing of IPv4 is left either.
    for host in [BROKER, "agent1"] {
        let names = "/ (tlha-primary|agent1)$/ { sub(/^[^ ]*/, $2 == \"agent1\" ? \"fd00::11\" : \"fd00::2\") } { print }";
        service.sh(
            host,
            &format!("awk '{names}' /etc/hosts > /root/hosts && cat /root/hosts > /etc/hosts"),
        );
    }
    service.restart_daemon(BROKER, "vsmserver").unwrap();
    told(&service, "agent1", "fd00::11");
    service.agents_are("up", &["agent1"]);
    service.until("agent1", "ss -Htn state established sport = :904 | grep -q 'fd00::2'");
    service.sh("agent1", "! ss -Htn state established sport = :904 | grep -q '10[.]0[.]0[.]2'");
    works(&service, "fd00::11");
    // The broker by its own, as a user types it.
    let to = ["vsm", "list", "-o", "HostKeyAlias=tlha", "alice@fd00::2"];
    service.output("client", "alice", &to).unwrap();
}

#[test]
fn an_address_that_is_translated_on_the_way_does_too() {
    let service = Service::up("nat");
    for (agent, address, own) in
        [("agent1", "192.0.2.11", "10.0.0.11"), ("agent2", "192.0.2.12", "10.0.0.12")]
    {
        // The way out of the users' network, on which the agents have other addresses.
        service.sh(
            "client",
            &format!(
                "nft add table ip nat; nft 'add chain ip nat out {{ type nat hook output priority -100; }}'; \
                 nft add rule ip nat out ip daddr {address} tcp dport 22 dnat to {own}; \
                 ip route replace 192.0.2.0/24 dev eth0"
            ),
        );
        told(&service, agent, address);
    }
    service.agents_are("up", &AGENTS);
    works(&service, "192.0.2.1");
}
