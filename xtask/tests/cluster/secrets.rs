//! No secret in any log at any level: a run of everything at `trace` on all hosts, whose logs are then searched for
//! each secret that was used in it. A desktop that writes its own secret into its log shows that one would be found.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use xtask::clock::wait_for;
use xtask::cluster::{Brokers, ClusterSpec};
use xtask::pair::{self, NODES};

use crate::hooks::{START, hook};
use crate::one_login::{asked, connect, harden, has_picture, sshd};
use crate::pair_of_brokers::WAIT;
use crate::service::{AGENTS, Service};
use crate::spec;

/// Runs the helper, which has no level in its configuration, at the one that tells most.
const TRACED: &str = "mkdir -p /run/traced && cd /run/traced && touch real
real=$(readlink -f /usr/bin/vsm-root); mount --bind $real real
printf '#!/bin/sh\\nVSM_LOG=trace exec /run/traced/real \"$@\"\\n' > wrapper && chmod 755 wrapper
mount --bind wrapper $real";
/// Stands for ssh: keeps the key for the session host, and what is said there.
const COPIES: &str = "#!/bin/sh
if [ \"$1\" = -i ]; then cat \"$2\" >> ~/copied; fi
tee -a ~/said | ssh \"$@\"
";
const KEY: &str = "/etc/vsm/pki/host.key";
/// Keys have lines of 64 letters; one is enough to be known by.
const PRIVATE: &str =
    "sed -n '/PRIVATE KEY/,/PRIVATE KEY/p' $files | grep -Ev 'PRIVATE|^$' || true";

/// What must not be told, by what it is.
#[derive(Default)]
struct Secrets(BTreeMap<String, String>);

impl Secrets {
    fn add(&mut self, what: &str, secret: &str) {
        assert!(secret.len() >= 12, "{what}: {secret:?} could be there by chance");
        self.0.insert(secret.to_owned(), what.to_owned());
    }

    /// The lines of the private keys in files.
    fn keys(&mut self, service: &Service, host: &str, files: &str) {
        let lines = service.sh(host, &format!("files='{files}'; {PRIVATE}"));
        let lines: Vec<_> = lines.lines().filter(|line| line.len() >= 32).collect();
        assert!(!lines.is_empty(), "{files} on {host}");
        for line in lines {
            self.add(&format!("a line of a key in {files} of {host}"), line);
        }
    }

    /// Those that are in a text.
    fn found(&self, text: &str) -> Vec<&str> {
        let all = self.0.iter().filter(|(secret, _)| text.contains(secret.as_str()));
        all.map(|(_, what)| what.as_str()).collect()
    }
}

/// All that a host's programs have written for people: logs of daemons and of desktops.
fn logs(service: &Service, host: &str) -> BTreeMap<String, String> {
    let files = "ls /run/host/log/* /var/lib/vsm-agent/log/* /var/log/vsm/* 2>/dev/null; true";
    let files = service.sh(host, files);
    let read = |file: &str| service.sh(host, &format!("cat {file}"));
    files.lines().map(|file| (format!("{host}:{file}"), read(file))).collect()
}

/// The cookie of a session's X server, as programs write it.
fn cookie(service: &Service, agent: &str, session: &str) -> String {
    let line = format!("xauth -f $(find /run/vsm/sessions/{session}/ -name '*uthority') list");
    let line = service.sh(agent, &line);
    line.split_whitespace().last().unwrap().to_owned()
}

/// A pair whose daemons say all that they can, their libraries too; the active node.
fn talkative() -> (Service, &'static str) {
    let service = Service::with(&ClusterSpec { brokers: Brokers::Pair, ..spec("secrets") });
    for node in NODES {
        service.sh(node, TRACED);
        let set = "/vsmserver/logging/defaultlevel=trace /vsmserver/agent_certificate_life=60";
        service.sh(node, &format!("vsm-config {set}"));
        service.restart_daemon(node, "vsm-root").unwrap();
        service.restart_daemon(node, "vsmserver").unwrap();
        service.sh(node, &hook(START, "10-tells", "env; xauth list; id"));
    }
    for agent in AGENTS {
        service.sh(agent, "vsm-config /vsmagent/logging/defaultlevel=trace");
        service.restart_daemon(agent, "vsmagent").unwrap();
    }
    let active = pair::in_step(&service.0, WAIT).unwrap();
    (service, active)
}

/// A host gets its certificate from the brokers by a token; its key.
fn enrol(service: &Service, secrets: &mut Secrets, active: &str) -> String {
    let words = ["vsmctl", "agent", "enrol", AGENTS[0], "--output", "json"];
    let invited: Value =
        serde_json::from_str(&service.output(active, "root", &words).unwrap()).unwrap();
    secrets.add("the token of an invitation", invited["token"].as_str().unwrap());
    secrets.keys(service, AGENTS[0], KEY);
    service.sh(AGENTS[0], invited["command"].as_str().unwrap());
    secrets.keys(service, AGENTS[0], KEY);
    let key = service.sh(AGENTS[0], &format!("cat {KEY}"));
    service.restart_daemon(AGENTS[0], "vsmagent").unwrap();
    service.agents_are("up", &AGENTS);
    key
}

/// Desktops: with a one-time key that is copied on its way, and by a password.
fn log_in(service: &Service, secrets: &mut Secrets) {
    harden(service);
    let program = "/usr/local/bin/copies";
    let put = format!("cat > {program} <<'END'\n{COPIES}END\nchmod 755 {program}");
    service.sh("client", &put);
    has_picture(service, &connect(service, "", &["--ssh", program]));
    secrets.keys(service, "client", "/home/alice/copied");
    for row in service.rows() {
        secrets.add("the cookie of a desktop", &cookie(service, &row.agent, &row.session));
    }
    for node in NODES {
        service.sh(node, "echo alice:correct-horse | chpasswd");
        sshd(service, node, "PasswordAuthentication yes\\nAuthorizedKeysFile none\\n");
    }
    has_picture(service, &connect(service, "correct-horse\\n", &[]));
    assert_eq!(asked(service).len(), 1, "the password was used");
    secrets.add("the password of a user", "correct-horse");
}

#[test]
fn no_secret_is_in_any_log_at_any_level() {
    let (service, active) = talkative();
    let other = pair::other(active);
    let mut secrets = Secrets::default();
    for node in NODES {
        secrets.keys(&service, node, &format!("{KEY} /etc/vsm/pki/issuer.key"));
    }
    let first = enrol(&service, &mut secrets, active);
    log_in(&service, &mut secrets);
    service.sh(active, "vsmctl ha status; vsmctl agent list; vsmctl session list; vsmctl events");
    service.sh(other, "vsmctl ha takeover");
    pair::in_step(&service.0, WAIT).unwrap();
    wait_for("a renewal", WAIT, || {
        let now = service.sh(AGENTS[0], &format!("cat {KEY}"));
        if now == first { Err("the same key".to_owned()) } else { Ok(()) }
    })
    .unwrap();
    secrets.keys(&service, AGENTS[0], KEY);

    let mut all = BTreeMap::new();
    for host in NODES.iter().chain(&AGENTS) {
        all.extend(logs(&service, host));
    }
    all.insert("events".to_owned(), service.sh(other, "vsmctl events --output json"));
    let mut told = String::new();
    for (log, text) in &all {
        for what in secrets.found(text) {
            writeln!(told, "{log} tells {what}").unwrap();
        }
    }
    assert_eq!(told, "");
    all_spoke(&service, &all);
    the_control(&service, &secrets);
}

/// Each daemon spoke at that level.
fn all_spoke(service: &Service, all: &BTreeMap<String, String>) {
    let speaks = |host: &str, daemon: &str| {
        let text = &all[&format!("{host}:/run/host/log/{daemon}.log")];
        assert!(text.contains("TRACE"), "{daemon} on {host}: {text}");
    };
    for node in NODES {
        speaks(node, "vsmserver");
        // It has less to say: that it would, says its environment.
        service.sh(node, "grep -qz VSM_LOG=trace /proc/$(pgrep -x real)/environ");
    }
    for agent in AGENTS {
        speaks(agent, "vsm-agent-net");
        // It has no library that says more.
        let text = &all[&format!("{agent}:/run/host/log/vsmagent.log")];
        assert!(text.contains("DEBUG"), "{text}");
    }
}

/// A desktop whose programs tell its own secret: that is found.
fn the_control(service: &Service, secrets: &Secrets) {
    let row = service.rows().into_iter().find(|row| row.user == "alice").unwrap();
    let tells = "#!/bin/sh\\nxauth list\\nsleep 86400\\n";
    service.sh(&row.agent, &format!("printf '{tells}' > /etc/vsm/xsession"));
    let before = secrets.0.len();
    let mut secrets = Secrets(secrets.0.clone());
    service.sh(NODES[0], "vsmctl session terminate -y --user alice");
    for agent in AGENTS {
        service.sh(agent, &format!("printf '{tells}' > /etc/vsm/xsession"));
    }
    let again = connect(service, "correct-horse\\n", &[]);
    has_picture(service, &again);
    let row = service.rows().into_iter().find(|row| row.user == "alice").unwrap();
    secrets.add("the cookie of a desktop", &cookie(service, &row.agent, &row.session));
    assert_eq!(secrets.0.len(), before + 1);
    let log = format!("{}:/var/lib/vsm-agent/log/{}.log", row.agent, row.session);
    wait_for("the control", WAIT, || {
        let all = logs(service, &row.agent);
        let text = all.get(&log).cloned().unwrap_or_default();
        if secrets.found(&text).is_empty() { Err(text) } else { Ok(()) }
    })
    .unwrap();
}
