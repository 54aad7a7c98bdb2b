//! What a broker can do that somebody else has taken over: it is no root, its helper runs what root has put there and
//! nothing else, and neither of the two takes the other with it.

use std::io::Write;
use std::process::Stdio;

use crate::hooks::{OUT, START, hook};

use crate::service::{BROKER, SIGKILL, Service, connected};
use crate::shares::told;

/// Sends its standard input to the helper, as the broker's account, and prints the answer.
const ASK: &str = r#"runuser -u vsmserver -- perl -MIO::Socket::UNIX -e '
    my $s = IO::Socket::UNIX->new(Peer => "/run/vsm-root/vsm-root.sock") or die "no way in: $!";
    local $/; my $line = <STDIN>; local $SIG{PIPE} = "IGNORE"; print $s $line; $s->flush; shutdown($s, 1) if @ARGV;
    print scalar <$s> // "";'"#;

/// That a daemon has no power and no way to get one, and is the account in all ways.
pub(crate) fn no_power(service: &Service, host: &str, daemon: &str, account: &str) {
    let status = |key: &str| {
        let line = format!("sed -n 's/^{key}:[[:space:]]*//p' /proc/$(pgrep -x {daemon})/status");
        service.sh(host, &line)
    };
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(key).trim_matches('0'), "", "{key}");
    }
    assert_eq!(status("NoNewPrivs"), "1");
    for (key, what) in [("Uid", "-u"), ("Gid", "-g")] {
        let own = service.sh(host, &format!("id {what} {account}"));
        assert_eq!(status(key), [own.as_str(); 4].join("\t"));
    }
}

/// Puts it where a command reads it. Not by an argument: some are longer than those may be.
fn give(service: &Service, line: &str) {
    let mut cat = service.command(BROKER, "root", &["sh", "-c", "cat > /root/ask"]).unwrap();
    let mut cat = cat.stdin(Stdio::piped()).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    assert!(cat.wait().unwrap().success());
}

fn ask(service: &Service, line: &str) -> String {
    give(service, line);
    service.sh(BROKER, &format!("{ASK} < /root/ask"))
}

#[test]
fn the_broker_has_no_power_and_leaves_no_core() {
    let service = Service::up("power");
    no_power(&service, BROKER, "vsmserver", "vsmserver");
    // What it may not do, each with a control: root may.
    for line in [
        "cat /etc/shadow",
        "test -r /etc/ssh/ssh_host_ed25519_key",
        "touch /etc/vsm/conf.d/x.yaml",
        "touch /etc/vsm/pki/x",
        "mkdir -p /etc/vsm/sessionstartup.d && touch /etc/vsm/sessionstartup.d/x",
        "test -w /etc/vsm/pki/host.key",
        "rm /run/vsm-root/vsm-root.sock",
    ] {
        service.sh(BROKER, &format!("! runuser -u vsmserver -- sh -c '{line}' 2>/dev/null"));
        if !line.starts_with("rm") {
            service.sh(BROKER, line);
        }
    }
    service.sh(
        BROKER,
        "rm -f /etc/vsm/conf.d/x.yaml; runuser -u vsmserver -- cat /etc/vsm/pki/host.key",
    );
    // Nobody else reads the key, or comes to the helper.
    service.sh(BROKER, "! runuser -u bob -- cat /etc/vsm/pki/host.key 2>/dev/null");
    service.sh(BROKER, "! runuser -u bob -- ls /run/vsm-root/ 2>/dev/null");
    a_reload_takes_a_key_of_roots_at_once(&service);
    no_core(&service);
}

/// As an administrator copies one. Five in a row: none of them waits for somebody who looks now and then.
fn a_reload_takes_a_key_of_roots_at_once(service: &Service) {
    for _ in 0..5 {
        let status = service.sh(
            BROKER,
            "cd /etc/vsm/pki; install -m 600 host.key new; mv new host.key; vsmctl reload; vsmctl ha status",
        );
        assert!(!status.contains("host.key"), "{status}");
        service.sh(BROKER, "runuser -u vsmserver -- cat /etc/vsm/pki/host.key");
    }
}

/// Cores lie where a process is, unless the machine says otherwise.
fn no_core(service: &Service) {
    let cores = "ls /core* /tmp/core/core* 2>/dev/null | wc -l";
    let limits = service.sh(BROKER, "grep 'core file' /proc/$(pgrep -x vsmserver)/limits");
    assert_eq!(limits.split_whitespace().filter(|word| *word == "0").count(), 2, "{limits}");
    let pattern = service.sh(BROKER, "cat /proc/sys/kernel/core_pattern");
    let before = service.sh(BROKER, cores);
    if !pattern.contains(['|', '/']) {
        let dies =
            "mkdir -p /tmp/core; cd /tmp/core; ulimit -c unlimited; sh -c 'kill -SEGV $$'; true";
        service.sh(BROKER, dies);
        assert_ne!(service.sh(BROKER, cores), before, "the control: another program leaves one");
    }
    let before = service.sh(BROKER, cores);
    let pid = service.daemon(BROKER, "vsmserver").unwrap().pid.unwrap();
    // The first one takes the handler away by which Rust tells a full stack; a real fault would come again by itself.
    service.sh(BROKER, &format!("kill -SEGV {pid}; sleep 0.2; kill -SEGV {pid}"));
    service.gone(BROKER, i64::from(pid));
    service.until(BROKER, "vsmctl ha health");
    assert_eq!(service.sh(BROKER, cores), before);
}

#[test]
fn a_helper_that_dies_is_told_to_the_login_that_waits_and_comes_back() {
    let service = Service::up("helper");
    service.configure(BROKER, "vsmserver", &["/vsmserver/hooks/on_failure=refuse"]);
    let waits = format!(
        "id -u > {OUT}/uid; test $VSM_USER = alice || exit 0; echo $$ > {OUT}/began; until test -e {OUT}/go; do sleep 0.05; done"
    );
    service.sh(BROKER, &hook(START, "10-waits", &waits));
    let words = ["vsm", "connect", "--no-viewer", "--json", "alice@tlha"];
    let mut waiting = service.command("client", "alice", &words).unwrap();
    waiting.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let waiting = waiting.spawn().unwrap();
    service.until(BROKER, &format!("test -s {OUT}/began"));
    assert_eq!(service.sh(BROKER, &format!("cat {OUT}/uid")), "0");
    let broker = service.daemon(BROKER, "vsmserver").unwrap().pid;
    service.kill_daemon(BROKER, "vsm-root", SIGKILL).unwrap();
    let output = waiting.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(connected(&output).is_err(), "{output:?}");
    assert!(said.contains("the root helper (vsm-root) ended before it was done"), "{said}");
    service.sh(BROKER, &format!("kill -9 $(cat {OUT}/began); touch {OUT}/go"));
    service.until(BROKER, "test -S /run/vsm-root/vsm-root.sock && pgrep -x vsm-root");
    assert!(service.connect("bob").created);
    assert_eq!(service.daemon(BROKER, "vsmserver").unwrap().pid, broker, "the broker goes on");

    // While it is away that is told, with what to do, and logins that need it are told too.
    service.stop_daemon(BROKER, "vsm-root").unwrap();
    told(&service, BROKER, "root-helper", "cannot be reached");
    service.until(BROKER, "vsmctl ha check | grep -q 'systemctl start vsm-root'");
    service.refused("carol", 70, &["the root helper (vsm-root) cannot be reached"]);
    service.start_daemon(BROKER, "vsm-root").unwrap();
    service.until(BROKER, "! vsmctl ha status | grep -q vsm-root");
    assert!(service.connect("carol").created);
    // The other way round: a hook of a broker that dies is ended, and the helper serves the next one.
    let helper = service.daemon(BROKER, "vsm-root").unwrap().pid;
    service.sh(BROKER, &format!("rm {OUT}/go {OUT}/began"));
    let mut waiting = service.command("client", "alice", &words).unwrap();
    let mut waiting =
        waiting.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    service.until(BROKER, &format!("test -s {OUT}/began"));
    let began = service.sh(BROKER, &format!("cat {OUT}/began"));
    service.kill_daemon(BROKER, "vsmserver", SIGKILL).unwrap();
    service.gone(BROKER, began.parse().unwrap());
    service.sh(BROKER, &format!("touch {OUT}/go"));
    waiting.wait().unwrap();
    assert_eq!(service.daemon(BROKER, "vsm-root").unwrap().pid, helper, "the helper goes on");
    service.agents_are("up", &crate::service::AGENTS);
    service.connect("alice");
}

#[test]
fn who_has_the_brokers_account_gets_nothing_of_root() {
    let service = Service::up("takeover-of-broker");
    let note = format!("env > {OUT}/ran; id -u >> {OUT}/ran");
    service.sh(BROKER, &hook(START, "10-good", &note));
    service.sh(BROKER, &format!("mkdir -m 777 /tmp/open; printf '#!/bin/sh\\ntouch {OUT}/evil\\n' > /tmp/open/evil; chmod 755 /tmp/open/evil; ln -s /tmp/open/evil {START}/20-link; cp /tmp/open/evil {OUT}/../evil"));
    let hook = |name: &str, variables: &str| {
        format!(
            r#"{{"version":1,"act":{{"hook":{{"moment":"start","name":"{name}","variables":{{{variables}}}}}}}}}"#
        )
    };
    // The control: the way is open, and what root has put there is run as root.
    let ran = ask(&service, &(hook("10-good", r#""VSM_USER":"alice""#) + "\n"));
    assert!(ran.contains(r#""failed":null"#), "{ran}");
    service.sh(BROKER, &format!("grep -qx VSM_USER=alice {OUT}/ran && grep -qx 0 {OUT}/ran"));
    service.sh(BROKER, &format!("rm {OUT}/ran"));
    let adopt = |path: &str, value: &str| {
        format!(r#"{{"version":1,"act":{{"adopt":{{"set":{{"{path}":"{value}"}},"drop":[]}}}}}}"#)
    };
    let before = service.sh(BROKER, "cat /etc/vsm/conf.d/*.yaml | md5sum");
    let long = "x".repeat(2 << 20);
    for (request, says) in [
        (hook("../evil", ""), "no hook has the name"),
        (hook("..", ""), "no hook has the name"),
        (hook("/bin/sh", ""), "no hook has the name"),
        (hook("20-link", ""), "others may change"),
        (hook("none", ""), "No such file"),
        (hook("10-good", r#""LD_PRELOAD":"/tmp/open/evil""#), "no variable"),
        (hook("10-good", r#""PATH":"/tmp/open""#), "no variable"),
        (hook("10-good", r#""VSM_USER":"a\nb""#), "control characters"),
        (hook("10-good", r#""VSM_USER":"a\u0000b""#), "control characters"),
        (
            r#"{"version":1,"act":{"run":{"program":"/tmp/open/evil"}}}"#.to_owned(),
            "cannot be read",
        ),
        (
            r#"{"version":1,"act":{"mail":{"text":"x","program":"/tmp/open/evil"}}}"#.to_owned(),
            "cannot be read",
        ),
        (r#"{"version":9,"act":{"mail":{"text":"x"}}}"#.to_owned(), "version 9"),
        ("\u{1}\u{2}\u{3}garbage".to_owned(), "cannot be read"),
        (long, "cannot be read"),
        (adopt("/vsmserver/mail_program", "/tmp/open/evil"), "names what root runs"),
        (adopt("/vsmserver/hooks/startup_dir", "/tmp/open"), "names what root runs"),
        (adopt("/vsmserver/hooks/startup_dir/", "/tmp/open"), "names what root runs"),
        (adopt("/tls/key_file", "/etc/shadow"), "each node's own"),
        (adopt("/vsmserver/state_dir", "/etc"), "each node's own"),
        (adopt("/vsmagent/xserver", "/tmp/open/evil"), "each node's own"),
        (adopt("/no/such", "x"), "no such"),
    ] {
        let answer = ask(&service, &(request.clone() + "\n"));
        let shown: String = request.chars().take(100).collect();
        assert!(answer.contains(says), "{shown}: {answer}");
    }
    service.sh(BROKER, &format!("! ls {OUT}/ran {OUT}/evil 2>/dev/null"));
    assert_eq!(service.sh(BROKER, "cat /etc/vsm/conf.d/*.yaml | md5sum"), before);
    // Others do not come as far: not even root is served, as only the broker has a reason to ask.
    let root = ASK.replace("runuser -u vsmserver -- ", "");
    give(&service, &(hook("10-good", "") + "\n"));
    let said = service.sh(BROKER, &format!("{root} < /root/ask"));
    assert!(said.contains("only vsmserver may ask"), "{said}");
    let bob = ASK.replace("vsmserver --", "bob --");
    service.sh(BROKER, &format!("! {bob} < /root/ask 2>/dev/null"));
    service.sh(BROKER, &format!("! test -e {OUT}/ran"));
    // And it serves on.
    assert!(service.connect("alice").created);
    service.sh(BROKER, &format!("test -e {OUT}/ran"));
}
