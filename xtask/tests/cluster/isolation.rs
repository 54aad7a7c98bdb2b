//! What is a user's own is closed to other users of the same host and to the network.

use std::collections::BTreeSet;

use crate::service::{AGENTS, BROKER, Connected, Service};

/// Connects to a unix socket and says why not.
const CONNECT: &str = "use IO::Socket::UNIX; \
    IO::Socket::UNIX->new(Peer => $ARGV[0]) or do { print \"$!\"; exit 1 }";

/// Two users with a desktop each on one agent.
fn neighbours(service: &Service) -> [Connected; 2] {
    service.configure(BROKER, "vsmserver", &["/vsmserver/subclusters/Default/agents=agent1"]);
    ["alice", "bob"].map(|user| service.connect(user))
}

#[test]
fn no_session_listens_on_the_network() {
    let service = Service::up("listen");
    neighbours(&service);
    let ports = |host: &str| -> BTreeSet<String> {
        let table = service.sh(host, "ss -H -ltn");
        let local = |line: &str| line.split_whitespace().nth(3).unwrap().to_owned();
        table.lines().map(|line| local(line).rsplit_once(':').unwrap().1.to_owned()).collect()
    };
    let of = |wanted: &[&str]| wanted.iter().map(|&port| port.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(ports("agent1"), of(&["22", "904"]));
    assert_eq!(ports(BROKER), of(&["22", "9000"]));
    // Nor where every process of the host's network could reach it, whatever its root directory.
    let abstract_sockets = service.sh("agent1", "ss -H -xl | grep -c '@/tmp/.X11-unix' || true");
    assert_eq!(abstract_sockets, "0");
    assert_eq!(service.sh("agent1", "ls /tmp/.X11-unix").lines().count(), 2);
}

#[test]
fn another_user_reaches_nothing_of_a_desktop() {
    let service = Service::up("isolation");
    let [alice, bob] = neighbours(&service);
    assert_eq!(alice.agent, bob.agent);
    let dir = format!("/run/vsm/sessions/{}", alice.session);
    for socket in ["user/rfb.sock", "control.sock"] {
        let path = format!("{dir}/{socket}");
        let words = ["perl", "-e", CONNECT, &path];
        service.output("agent1", "alice", &words).unwrap();
        let refused = service.exec("agent1", "bob", &words).unwrap();
        assert_eq!(refused.status.code(), Some(1), "bob connects to {path}");
        assert_eq!(String::from_utf8_lossy(&refused.stdout), "Permission denied", "{path}");
    }
    let cookie = format!("{dir}/user/Xauthority");
    service.output("agent1", "alice", &["cat", &cookie]).unwrap();
    assert!(service.output("agent1", "bob", &["cat", &cookie]).is_err());
    assert!(service.output("agent1", "bob", &["ls", &format!("{dir}/user")]).is_err());
    x_display(&service, &alice, &bob);
    through_ssh(&service, &alice);
}

/// The X socket is open to all; the cookie is what counts.
fn x_display(service: &Service, alice: &Connected, bob: &Connected) {
    let display = format!("DISPLAY=:{}", alice.display);
    let look = |user: &str, cookie: &str| {
        let cookie = format!("XAUTHORITY={cookie}");
        service.output("agent1", user, &["env", &display, &cookie, "xdpyinfo"])
    };
    let own = |of: &Connected| format!("/run/vsm/sessions/{}/user/Xauthority", of.session);
    assert!(look("alice", &own(alice)).unwrap().contains("vendor string"));
    assert!(look("bob", "/nonexistent").is_err(), "no cookie");
    assert!(look("bob", &own(alice)).is_err(), "alice's cookie file");
    assert!(look("bob", &own(bob)).is_err(), "bob's own cookie");
    let words = ["xauth", "-q", "-f", "/tmp/guess", "add", &format!(":{}", alice.display), "."];
    let guess = "00112233445566778899aabbccddeeff";
    service.output("agent1", "bob", &[&words[..], &[guess]].concat()).unwrap();
    assert!(look("bob", "/tmp/guess").is_err(), "a cookie that is wrong");
    assert!(look("alice", "/nonexistent").is_err(), "alice without a cookie");
}

/// bob's ssh to the agent leads to bob's desktops alone.
fn through_ssh(service: &Service, alice: &Connected) {
    let preface = format!("printf 'vsm/1 session {}\\n' | ssh -s agent1 vsm", alice.session);
    let output = service.exec("client", "bob", &["sh", "-c", &preface]).unwrap();
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(answer.starts_with("error refused "), "{answer:?}");
    assert!(answer.contains("is not yours"), "{answer:?}");
}

#[test]
fn what_is_for_root_is_for_root() {
    let service = Service::up("root");
    service.configure(BROKER, "vsmserver", &["/vsmserver/max_sessions_per_user=2"]);
    let desktop = service.connect("alice");
    service.until(&desktop.agent, "ls /var/lib/vsm-agent/sessions/*.json /var/lib/vsm-agent/log/*");
    for (host, dirs) in [
        (BROKER, "/var/lib/vsm /etc/vsm/pki"),
        (AGENTS[0], "/var/lib/vsm-agent /etc/vsm/pki"),
        (AGENTS[1], "/var/lib/vsm-agent /etc/vsm/pki"),
    ] {
        let find = format!("find {dirs} -type f -readable 2>/dev/null; true");
        assert!(service.sh(host, &find).lines().count() >= 3, "{host} has nothing to protect");
        let read = service.output(host, "bob", &["sh", "-c", &find]).unwrap();
        let secret: Vec<_> = read.lines().filter(|file| !file.ends_with(".pem")).collect();
        assert_eq!(secret, Vec::<&str>::new(), "bob reads this on {host}");
        let writable = format!(
            "find /run/vsm /etc/vsm {dirs} ! -type l ! -type s -writable 2>/dev/null; true"
        );
        assert_eq!(service.output(host, "bob", &["sh", "-c", &writable]).unwrap(), "", "{host}");
    }
    let admin = service.exec(BROKER, "bob", &["vsmctl", "session", "list"]).unwrap();
    assert_eq!(admin.status.code(), Some(77), "{admin:?}");
}
