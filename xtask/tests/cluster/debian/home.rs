//! What lies in a home that all hosts share: the X authority of desktops on several, and start-up files that are in the
//! way. And what else can be in the way of a login.

use std::process::Output;
use std::thread;

use crate::service::{AGENTS, BROKER, Connected, Service};

#[test]
fn one_home_serves_two_hosts_and_what_is_in_the_way_is_named() {
    let service = Service::debian("debian-home", 0);
    holds_the_authority_of_two_hosts(&service);
    has_what_is_in_the_way(&service);
    is_opened_slowly(&service);
}

/// The same display number on two hosts is two displays, and each entry goes with its desktop.
fn holds_the_authority_of_two_hosts(service: &Service) {
    for agent in AGENTS {
        service.configure(agent, "vsmagent", &["/vsmagent/xauthority_location=homedir"]);
    }
    service.configure(BROKER, "vsmserver", &["/vsmserver/max_sessions_per_user=2"]);
    let first = service.connect("carol");
    service.sh(BROKER, &format!("vsmctl agent drain {}", first.agent));
    let second = service.connect_with("carol", &["--new"]);
    service.sh(BROKER, &format!("vsmctl agent undrain {}", first.agent));
    assert_ne!(second.agent, first.agent);
    assert_eq!(second.display, first.display, "they are to have the same number");
    let entries = || -> Vec<String> {
        let list = "xauth -n -f /home/carol/.Xauthority list | cut -d/ -f1";
        service.sh(BROKER, list).lines().map(str::to_owned).collect()
    };
    let works = |desktop: &Connected| {
        let words = ["vsm-env", "xdotool", "getmouselocation"];
        service.output(&desktop.agent, "carol", &words).unwrap();
    };
    works(&first);
    works(&second);
    let mut both = entries();
    both.sort();
    assert_eq!(both, AGENTS);
    for (desktop, left) in [(&first, vec![second.agent.clone()]), (&second, Vec::new())] {
        let end = ["vsm", "end", "--session", &desktop.session, "carol@tlha"];
        service.output("client", "carol", &end).unwrap();
        assert_eq!(entries(), left);
        if !left.is_empty() {
            works(&second);
        }
    }
    service.configure(BROKER, "vsmserver", &["/vsmserver/max_sessions_per_user=1"]);
}

/// The last line is the reason, and the only one of ours; ssh's own words may stand above it.
fn told(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let ours: Vec<_> = text.lines().filter(|line| line.starts_with("vsm: ")).collect();
    assert_eq!(ours.len(), 1, "{text}");
    assert_eq!(text.lines().last(), Some(ours[0]), "{text}");
    for word in words {
        assert!(ours[0].contains(word), "no {word:?} in {text}");
    }
}

/// What keeps the service from beginning after the login is named, and nothing is begun.
fn has_what_is_in_the_way(service: &Service) {
    let rows = service.rows();
    let start_up = |user: &str, lines: &str| {
        let file = format!("/home/{user}/.bashrc");
        service.sh(BROKER, &format!("printf '{lines}\\n' > {file}; chown {user} {file}"));
    };
    service.sh(BROKER, "chage -d 0 alice");
    told(&service.try_connect("alice"), 77, &["your password at tlha has expired"]);
    service.sh(BROKER, "chage -d 19000 alice");
    start_up("bob", "echo Welcome to the site");
    start_up("carol", "exec sh");
    thread::scope(|scope| {
        // It takes as long as an answer may.
        let waits = scope.spawn(|| service.try_connect("carol"));
        let said = service.try_connect("bob");
        told(&said, 70, &["tlha said \"Welcome to the site\"", "a start-up file"]);
        told(&waits.join().unwrap(), 69, &["tlha let you in and then said nothing", "(exec)"]);
    });
    assert_eq!(service.rows(), rows, "something was begun");
    // The same at the session host alone, which is to be named.
    start_up("bob", "case $(uname -n) in agent*) echo Welcome to the site;; esac");
    let picture = ["vsm", "connect", "--retry-for=0", "--screenshot", "/dev/null", "bob@tlha"];
    let said = service.exec("client", "bob", &picture).unwrap();
    told(&said, 70, &["agent", "said \"Welcome to the site\"", "a start-up file"]);
    for user in ["bob", "carol"] {
        service.sh(BROKER, &format!("rm /home/{user}/.bashrc"));
    }
    service.connect("bob");
}

/// PAM takes longer for a session than an sshd that lives may be silent, as with many users at once: asked again, it is
/// waited for.
fn is_opened_slowly(service: &Service) {
    let slowly = "echo 'session optional pam_exec.so quiet /bin/sleep 3' >> /etc/pam.d/sshd";
    service.sh(BROKER, slowly);
    service.output("client", "bob", &["vsm", "list", "bob@tlha"]).unwrap();
}
