//! A configuration that changes while the brokers run: whole or not at all, by whatever way it comes, and the same on
//! both nodes.

use xtask::clock::wait_for;

use crate::pair_of_brokers::Pair;
use crate::service::{BROKER, Service, WAIT};

/// Users can log in as the configuration on disk says, or as the one from before.
fn limit_is(service: &Service, second: Option<&str>) {
    wait_for("the limit to hold", WAIT, || {
        let output = service.try_connect("alice");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        match second {
            None if output.status.success() => Ok(()),
            Some(words) if text.contains(words) => Ok(()),
            _ => Err(format!("{output:?}")),
        }
    })
    .unwrap();
}

#[test]
fn a_configuration_is_taken_whole_or_not_at_all_by_each_way() {
    let service = Service::up("reload");
    let pid = service.daemon(BROKER, "vsmserver").unwrap().pid;
    let vsmctl = |words: &[&str]| {
        let output = service.exec(BROKER, "root", &[&["vsmctl"], words].concat()).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, said, _) = vsmctl(&["reload"]);
    assert_eq!((code, said.as_str()), (0, "this node: nothing has changed\n"));

    // By vsmctl: what changed is told by path, with what needs a restart.
    service.sh(BROKER, "vsm-config /vsmserver/allowed_groups=nobodies /vsmserver/listen_port=9001");
    let (code, said, _) = vsmctl(&["reload"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("/vsmserver/allowed_groups: (empty) -> nobodies\n"), "{said}");
    assert!(said.contains("/vsmserver/listen_port: 9000 -> 9001  (after a restart)"), "{said}");
    limit_is(&service, Some("groups that may use this service"));
    service.sh(BROKER, "vsm-config /vsmserver/listen_port=9000");

    // A bad one changes nothing, not even what is good in it, and is told with file and line.
    let bad = "printf 'vsmserver:\\n  allowed_groups: []\\n  start_attempts: many\\n' > /etc/vsm/conf.d/zz.yaml";
    service.sh(BROKER, bad);
    let (code, _, said) = vsmctl(&["reload"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("zz.yaml:3: /vsmserver/start_attempts"), "{said}");
    limit_is(&service, Some("groups that may use this service"));
    // Nor does it keep an administrator from the broker.
    assert_eq!(vsmctl(&["status"]).0, 0);
    service.sh(BROKER, "rm /etc/vsm/conf.d/zz.yaml");

    // One that every file is right in and that means nothing a broker can do.
    let ambiguous = "vsm-config /vsmserver/subclusters/one/users=ann '/vsmserver/subclusters/one/agents=agent1' \
        /vsmserver/subclusters/two/users=ann /vsmserver/subclusters/two/agents=agent2";
    let refused = service.exec(BROKER, "root", &["sh", "-c", ambiguous]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("one") && said.contains("two"), "{said}");

    // By itself, once it is told to watch; a level of logging too.
    service.sh(BROKER, "vsm-config /vsmserver/watch_config=true");
    vsmctl(&["reload"]);
    service
        .sh(BROKER, "vsm-config /vsmserver/allowed_groups= /vsmserver/logging/defaultlevel=debug");
    limit_is(&service, None);
    wait_for("a line of debug in the log", WAIT, || {
        service.connect("alice");
        let log = service.daemon_log(BROKER, "vsmserver");
        if log.contains("DEBUG") { Ok(()) } else { Err("none".to_owned()) }
    })
    .unwrap();
    service.undisturbed(BROKER, "vsmserver", pid);
}

/// Whoever is asked says the same of a bad configuration, and in the same words.
#[test]
fn a_bad_configuration_is_refused_by_each_way_in_the_same_words() {
    let service = Service::up("bad-conf");
    for (text, at, wanted) in [
        ("vsmserver:\n HA: {enabled: 1, nodes: [tlha-primary]}\n", 2, "HA/nodes has 1 entries"),
        ("vsmserver:\n limits: {x: {subclusters: lap}}\n", 2, "there is no subcluster lap"),
        ("vsmserver:\n limits: {x: {users: u}, y: {users: u}}\n", 2, "both have u among"),
        ("vsmserver:\n subclusters: {x: {users: u, agents: 'fe80::1%e'}}\n", 2, "agent name"),
        ("vsmagent:\n default_geometry: 20000x768\n", 2, "20000x768"),
        ("vsmserver:\n start_attempts: many\n", 2, "/vsmserver/start_attempts"),
        (
            "vsmserver:\n limits: {x: {idle_max: 2m}}\n",
            2,
            "/vsmserver/limits/x/warn_before (5 min) must be less than idle_max (2 min)",
        ),
    ] {
        service.sh(BROKER, &format!("printf '%b' \"{text}\" > /etc/vsm/conf.d/zz.yaml"));
        for (way, code) in [
            (&["vsm-config", "check"][..], 2),
            (&["vsmserver", "--check"], 78),
            (&["vsmctl", "reload"], 78),
        ] {
            let output = service.exec(BROKER, "root", way).unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{way:?} {text} {said}");
            let line = said.lines().find(|line| line.contains("zz.yaml")).unwrap_or_default();
            let line = line.trim_start_matches(way[0]).trim_start_matches(": ");
            assert!(line.starts_with(&format!("/etc/vsm/conf.d/zz.yaml:{at}: ")), "{way:?} {said}");
            assert!(line.contains(wanted), "{way:?} {said}");
        }
    }
    // So is a certificate's key that others could have, which takes the host to see.
    let ways = [&["vsmserver", "--check"][..], &["vsmctl", "reload"], &["vsmserver"]];
    let clients = [&["vsm-sync", "status"][..], &["vsmctl", "--broker", BROKER, "status"]];
    service.sh(BROKER, "rm /etc/vsm/conf.d/zz.yaml; chmod 644 /etc/vsm/pki/host.key");
    for way in ways.iter().chain(&clients) {
        let output = service.exec(BROKER, "root", way).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{way:?} {said}");
        assert!(said.contains("/etc/vsm/pki/host.key (/tls/key_file): mode 0644"), "{said}");
        assert!(said.contains("chmod 640 /etc/vsm/pki/host.key"), "{way:?} {said}");
    }
    service.sh(BROKER, "chmod 640 /etc/vsm/pki/host.key");
    // What is not read is said by whoever reads beside it.
    service.sh(BROKER, "echo 'vsm: {nonsense: 1}' > /etc/vsm/conf.d/zz.yml; vsmctl reload");
    assert!(service.sh(BROKER, "vsm-config check").contains("/etc/vsm/conf.d/zz.yml: is not read"));
    assert!(service.daemon_log(BROKER, "vsmserver").contains("zz.yml: is not read"));
    // The start is the last one to say so.
    let last = "vsmserver:\\n limits: {x: {idle_max: 2m}}\\n";
    service.sh(BROKER, &format!("printf '{last}' > /etc/vsm/conf.d/zz.yaml"));
    let output = service.exec(BROKER, "root", &["vsmserver"]).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("zz.yaml:2: /vsmserver/limits/x/warn_before"), "{said}");
}

#[test]
fn one_node_gives_the_other_its_configuration_and_each_can_tell_the_difference() {
    let pair = Pair::up("push");
    let (active, standby) = pair.in_step();
    let vsmctl = |node: &str, words: &[&str]| {
        let output = pair.exec(node, "root", &[&["vsmctl", "config"], words].concat()).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let same = format!("{active} and {standby} have the same configuration\n");
    assert_eq!(vsmctl(active, &["diff"]), (0, same.clone(), String::new()));

    // A reload that changes nothing of what both have, or only what is a node's own, leaves their stream as it is.
    let met = || {
        let logs = [active, standby].map(|node| pair.daemon_log(node, "vsmserver"));
        logs.map(|log| log.matches("the other broker is").count())
    };
    let before = met();
    for set in ["true", "vsm-config /vsmserver/logging/levels/admin=debug"] {
        pair.sh(active, &format!("{set}; vsmctl reload"));
        pair.sh(standby, "vsmctl reload");
        pair.in_step();
    }
    assert_eq!(met(), before);
    let on_active = "vsm-config /vsmserver/max_sessions_per_user=3 /vsmserver/logging/defaultlevel=debug \
        '/vsmserver/allowed_groups=alice bob \"domain users\"'";
    pair.sh(active, on_active);
    pair.sh(
        standby,
        "vsm-config /vsmserver/subclusters/old/agents=agent1 /vsmserver/subclusters/old/users=ann",
    );
    pair.sh(standby, "sed -i '1i # a note of the administrator' /etc/vsm/conf.d/vsmserver.yaml");
    let (code, said, _) = vsmctl(active, &["diff"]);
    assert_eq!(code, 1);
    for path in ["max_sessions_per_user", "allowed_groups", "subclusters/old/agents"] {
        assert!(said.contains(&format!("/vsmserver/{path}")), "{said}");
    }
    assert!(!said.contains("defaultlevel"), "a node's own parameters are its own: {said}");
    assert_eq!(vsmctl(standby, &["diff"]).0, 1);

    // It asks, and without an answer nothing happens.
    assert_eq!(vsmctl(active, &["push"]).0, 64);
    assert_eq!(vsmctl(active, &["diff"]).0, 1);

    // The other one must be able to take it: a file of its own that is bad keeps it as it is.
    pair.sh(standby, "echo 'vsmserver: {nonsense: 1}' > /etc/vsm/conf.d/zz.yaml");
    let (code, _, said) = vsmctl(active, &["push", "-y"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains(standby) && said.contains("zz.yaml:1"), "{said}");
    pair.sh(standby, "rm /etc/vsm/conf.d/zz.yaml");

    let (code, said, error) = vsmctl(active, &["push", "-y"]);
    assert_eq!(code, 0, "{error}");
    assert!(said.contains("/vsmserver/max_sessions_per_user: 1 -> 3"), "{said}");
    assert_eq!(vsmctl(active, &["diff"]), (0, same, String::new()));
    assert_eq!(vsmctl(standby, &["diff"]).0, 0);
    push_of_what_root_runs_is_nobodys(&pair, active);
    let file = pair.sh(standby, "cat /etc/vsm/conf.d/vsmserver.yaml");
    assert!(file.starts_with("# a note of the administrator\n"), "{file}");
    assert!(!file.contains("debug"), "{file}");
    // What would stop both nodes when they restart is not given on.
    pair.sh(standby, "vsm-config /vsmserver/HA/enabled=false");
    let (code, _, said) = vsmctl(standby, &["push", "-y"]);
    assert!(code != 0 && said.contains("/vsmserver/HA/enabled=true"), "{code} {said}");
    assert_eq!(vsmctl(active, &["push", "-y"]).0, 0, "the other way it mends it");
    // Its own name, whichever of both it is.
    pair.sh(standby, &format!("vsm-config '/vsmserver/HA/nodes={active} {standby}x'"));
    let (code, _, said) = vsmctl(standby, &["push", "-y"]);
    assert!(code != 0 && said.contains(&format!("{standby}x")), "{code} {said}");
    assert_eq!(vsmctl(active, &["push", "-y"]).0, 0, "the other way it mends it");
    assert_eq!(vsmctl(standby, &["diff"]).0, 0);
    // And it is in force there, on both nodes of the pair.
    let value = pair.sh(standby, "vsm-config /vsmserver/allowed_groups");
    assert_eq!(value.trim(), "alice bob \"domain users\"");
    let words = ["vsmctl", "ha", "status"];
    wait_for("both to see that nothing differs", WAIT, || {
        let status = pair.output(active, "root", &words).unwrap();
        if status.contains("differs") { Err(status) } else { Ok(()) }
    })
    .unwrap();
}

/// The group of administrators pushes what root has written, but for what root runs: that nobody pushes, root sets it.
fn push_of_what_root_runs_is_nobodys(pair: &Pair, active: &str) {
    pair.sh(active, "groupadd -f vsmadmin; usermod -aG vsmadmin carol");
    pair.restart_daemon(active, "vsmserver").unwrap();
    let (active, standby) = pair.in_step();
    pair.sh(active, "groupadd -f vsmadmin; usermod -aG vsmadmin carol; chgrp vsmadmin /run/vsm/vsmserver-admin.sock; chmod 660 /run/vsm/vsmserver-admin.sock");
    let push = || pair.exec(active, "carol", &["vsmctl", "config", "push", "-y"]).unwrap();
    pair.sh(active, "vsm-config /vsmserver/mail_program=/usr/bin/mta");
    let refused = push();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("/vsmserver/mail_program names what root runs"), "{refused:?}");
    assert!(!pair.sh(standby, "vsm-config /vsmserver/mail_program").contains("mta"));
    pair.sh(active, "! vsmctl config push -y");
    pair.sh(standby, "vsm-config /vsmserver/mail_program=/usr/bin/mta");
    pair.sh(active, "vsm-config /vsmserver/start_attempts=4");
    let pushed = push();
    assert!(pushed.status.success(), "{pushed:?}");
}

/// A log file can be moved away, and one part of the broker can be more talkative than the others.
#[test]
fn the_log_goes_to_a_file_that_can_be_rotated_and_parts_have_levels() {
    let service = Service::up("logfile");
    service.sh(
        BROKER,
        "vsm-config /vsmserver/logging/log_to_file=true /vsmserver/logging/logfile=/var/log/vsm-test.log",
    );
    service.restart_daemon(BROKER, "vsmserver").unwrap();
    service.agents_are("up", &crate::service::AGENTS);
    service.until(BROKER, "grep -q 'agent is here' /var/log/vsm-test.log");
    // As logrotate does with `create 0640 vsmserver adm`.
    service.sh(
        BROKER,
        "cd /var/log && mv vsm-test.log vsm-test.log.1 && install -o vsmserver -g adm -m 640 /dev/null vsm-test.log",
    );
    service.configure(BROKER, "vsmserver", &["/vsmserver/logging/levels/session=debug"]);
    service.connect("alice");
    service.connect("alice");
    service.until(BROKER, "grep -q 'DEBUG.*handed out' /var/log/vsm-test.log");
    let others = "grep DEBUG /var/log/vsm-test.log | grep -v 'vsm_broker::\\(api::user\\|sessions::\\(login\\|start\\|ending\\)\\)' || true";
    assert_eq!(service.sh(BROKER, others), "");
    service.sh(BROKER, "! grep -q DEBUG /var/log/vsm-test.log.1");
}

/// What somebody should look at is mailed, a few events in one message.
#[test]
fn a_configuration_that_is_refused_is_mailed_to_the_administrators() {
    let service = Service::up("mail");
    let program = "printf '#!/bin/sh\\necho \"$@\" > /tmp/mail.arguments; exec cat > /tmp/mail\\n' > /usr/local/bin/mta; chmod 755 /usr/local/bin/mta";
    service.sh(BROKER, program);
    let to = "'/vsmserver/admin_email=ann@example.org bob'";
    service.sh(
        BROKER,
        &format!("vsm-config /vsmserver/mail_program=/usr/local/bin/mta {to} && vsmctl reload"),
    );
    service
        .sh(BROKER, "echo 'vsmserver: {nonsense: 1}' > /etc/vsm/conf.d/zz.yaml; ! vsmctl reload");
    service.until(BROKER, "grep -q '^vsmctl events' /tmp/mail");
    assert_eq!(service.sh(BROKER, "cat /tmp/mail.arguments").trim(), "-t -oi");
    let mail = service.sh(BROKER, "cat /tmp/mail");
    assert!(mail.starts_with("To: ann@example.org, bob\nSubject: VSM on tlha-primary: "), "{mail}");
    assert!(mail.contains("configuration-refused: /etc/vsm/conf.d/zz.yaml:1:"), "{mail}");
}

#[test]
fn a_host_by_two_names_is_told_and_by_two_spellings_refused() {
    let service = Service::up("two-names");
    let lab = |agents: &str| {
        let words = [
            "vsm-config",
            "/vsmserver/subclusters/lab/users=bob",
            &format!("/vsmserver/subclusters/lab/agents={agents}"),
        ];
        service.exec(BROKER, "root", &words).unwrap()
    };
    let refused = lab("AGENT1.");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(said.contains("AGENT1. is the same host as agent1"), "{said}");
    assert!(lab("10.0.0.11").status.success());
    service.sh(BROKER, "vsmctl reload");
    // Who has only that name to go to is told; the room is counted once, and the host used as one.
    service.until(BROKER, "vsmctl explain bob 2>&1 | grep 'the same host as agent1'");
    let refused = service.try_connect("bob");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(said.contains("10.0.0.11 is the same host as agent1"), "{said}");
    service.connect("alice");
    let twins = "vsmctl agent list | grep '^10.0.0.11 .*the same host as agent1' && \
                 vsmctl agent list | grep '^agent1 .*the same host as 10.0.0.11'";
    service.until(BROKER, twins);
    let checked = service.exec(BROKER, "root", &["vsmctl", "ha", "check"]).unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(!checked.status.success() && said.contains("agents agent1 and 10.0.0.11"), "{said}");
    assert!(!service.sh(BROKER, "vsmctl agent list").contains("same host as agent2"));
}
