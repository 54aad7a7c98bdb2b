//! Users whose account, home or rights are not as they should be: told why, nothing half done, and
//! served as soon as the cause is gone.

use std::thread;
use std::time::Duration;

use xtask::clock;

use crate::service::{AGENTS, BROKER, Service};

const UNAVAILABLE: i32 = 69;
/// A desktop that cannot start.
const SOFTWARE: i32 = 70;
const NOT_ALLOWED: i32 = 77;

/// Runs a line of shell on both agents.
fn on_agents(service: &Service, line: &str) {
    for agent in AGENTS {
        service.sh(agent, line);
    }
}

/// bob gets a desktop and gives it back.
fn served(service: &Service) {
    let desktop = service.connect("bob");
    assert!(desktop.created);
    service.end("bob");
    service.clean(&desktop.agent);
}

#[test]
fn a_user_whose_account_is_not_in_order_is_told_why() {
    let service = Service::up("account");
    on_agents(&service, "cp /etc/passwd /etc/passwd.good; sed -i /^bob:/d /etc/passwd");
    service.refused_cleanly("bob", SOFTWARE, &["does not know user bob"]);
    on_agents(&service, "cp /etc/passwd.good /etc/passwd");
    served(&service);
    on_agents(&service, "chage -E 0 bob");
    service.refused_cleanly("bob", SOFTWARE, &["the account of bob", "account has expired"]);
    on_agents(&service, "chage -E -1 bob");
    served(&service);
    service.configure(BROKER, "vsmserver", &["/vsmserver/allowed_groups=carol"]);
    service.refused_cleanly("bob", NOT_ALLOWED, &["bob", "/vsmserver/allowed_groups"]);
    service.configure(BROKER, "vsmserver", &["/vsmserver/allowed_groups="]);
    served(&service);
    // The fault is the user's alone: no agent is put at the end of the queue for it.
    let list = service.output(BROKER, "root", &["vsmctl", "agent", "list", "--output", "json"]);
    let list: Vec<serde_json::Value> = serde_json::from_str(&list.unwrap()).unwrap();
    assert!(list.iter().all(|agent| agent["penalised_until"].is_null()), "{list:#?}");
}

#[test]
fn a_home_that_is_missing_or_not_theirs() {
    let service = Service::up("home");
    // A home on the agents' own disks: the broker's, with the key for ssh in it, stays.
    on_agents(&service, "sed -i 's#:/home/bob:#:/var/homes/bob:#' /etc/passwd");
    for agent in AGENTS {
        service.configure(agent, "vsmagent", &["/vsmagent/make_homedir=false"]);
    }
    let missing = "user bob has no home directory /var/homes/bob";
    service.refused_cleanly("bob", SOFTWARE, &[missing]);
    for agent in AGENTS {
        service.configure(agent, "vsmagent", &["/vsmagent/make_homedir=true"]);
    }
    service.refused_cleanly("bob", SOFTWARE, &["cannot make home directory /var/homes/bob"]);
    on_agents(&service, "! test -e /var/homes; mkdir /var/homes");
    served(&service);
    let made = "stat -c '%a %U %G' /var/homes/bob 2>/dev/null || true";
    let made: Vec<_> = AGENTS.map(|agent| service.sh(agent, made)).into();
    assert!(made.contains(&"700 bob bob".to_owned()), "{made:?}");
    on_agents(&service, "mkdir -p /var/homes/bob; chown carol /var/homes/bob");
    service.refused_cleanly("bob", SOFTWARE, &["/var/homes/bob", "is owned by carol, not by bob"]);
    on_agents(&service, "rmdir /var/homes/bob || rm -r /var/homes/bob; touch /var/homes/bob");
    service.refused_cleanly("bob", SOFTWARE, &["/var/homes/bob", "is no directory"]);
    on_agents(&service, "rm /var/homes/bob");
    served(&service);
}

/// As an answer may take 60 s, and a start-up file that waits for ever would.
const TOLD_WITHIN: Duration = Duration::from_secs(120);

/// What a user's shell does at the session host before the service begins is told with that host's name, and in time.
#[test]
fn what_a_start_up_file_does_at_the_session_host_is_told() {
    let service = Service::up("start-up");
    let cases = [
        ("alice", "exec sh", UNAVAILABLE, ["let you in and then said nothing", "(exec)"]),
        ("bob", "echo Welcome to the desk", SOFTWARE, ["said \"Welcome to the desk\"", "prints"]),
        ("carol", "exit 3", UNAVAILABLE, ["let you in and ended at once", "(code 3)"]),
    ];
    let file = |user: &str| format!("/home/{user}/.bashrc");
    for (user, line, ..) in cases {
        let only = format!("case $(uname -n) in agent*) {line};; esac");
        service.sh(BROKER, &format!("echo '{only}' > {0}; chown {user} {0}", file(user)));
    }
    let look = &|user: &str| {
        let to = format!("{user}@tlha");
        let words = ["vsm", "connect", "--retry-for=0", "--screenshot", "/dev/null", &to];
        service.exec("client", user, &words).unwrap()
    };
    for (way, bastion) in [("directly", None), ("by the broker's host", Some("true"))] {
        if let Some(on) = bastion {
            service.configure(BROKER, "vsmserver", &[&format!("/vsmserver/bastion={on}")]);
        }
        thread::scope(|scope| {
            for (user, line, code, words) in cases {
                scope.spawn(move || {
                    let begun = clock::now();
                    let said = look(user);
                    let text = String::from_utf8_lossy(&said.stderr);
                    assert_eq!(said.status.code(), Some(code), "{line}, {way}: {text}");
                    let ours =
                        text.lines().rfind(|line| line.starts_with("vsm: ")).unwrap_or_default();
                    assert!(ours.starts_with("vsm: agent"), "{line}, {way}: {text}");
                    let words = words.iter().chain(&["a start-up file of your shell"]);
                    for word in words {
                        assert!(ours.contains(word), "{line}, {way}: no {word:?} in {text}");
                    }
                    assert!(begun.elapsed() < TOLD_WITHIN, "{line}, {way}: {:?}", begun.elapsed());
                });
            }
        });
    }
    for (user, ..) in cases {
        service.sh(BROKER, &format!("rm {}", file(user)));
    }
    assert!(look("alice").status.success());
}
