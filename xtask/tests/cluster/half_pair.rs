//! A pair of which one node is there: what works without votes works, lists that may be old say so, and the preflight
//! names the true cause.

use xtask::clock::wait_for;

use crate::pair_of_brokers::{Pair, WAIT};
use crate::service::{AGENTS, BROKER, Service};

/// The first node of a pair, whose second one is a slip of the pen, and so is the resource address.
#[test]
fn the_first_node_of_a_pair_that_was_never_formed_ends_desktops_and_tells_why_it_is_alone() {
    let service = Service::up("half-pair");
    let desktop = service.connect("alice");
    service.sh(
        BROKER,
        "vsm-config /vsmserver/HA/enabled=true '/vsmserver/HA/nodes=tlha-primary tlha-secundary' \
         /vsmserver/HA/resource_address=tlha-nowhere",
    );
    service.restart_daemon(BROKER, "vsmserver").unwrap();
    service.agents_are("up", &AGENTS);
    let check = || {
        let output = service.exec(BROKER, "root", &["vsmctl", "ha", "check"]).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    wait_for("the causes to be named", WAIT, || {
        let said = check();
        let causes = [
            "cannot look up the resource address tlha-nowhere",
            "tlha-nowhere is not on tlha-primary; whether it is on tlha-secundary is not known",
            "tlha-primary cannot look up tlha-secundary, which is in /vsmserver/HA/nodes",
            "there are no witnesses yet",
        ];
        let wrong = ["add an agent that is not", "tlha-primary tlha-secundary'; systemctl reload"];
        let good = causes.iter().all(|words| said.contains(words));
        if good && !wrong.iter().any(|words| said.contains(words)) { Ok(()) } else { Err(said) }
    })
    .unwrap();
    // Nothing new is made, and what is there is ended.
    assert!(!service.try_connect("bob").status.success());
    let processes = service.processes(&desktop);
    let end = ["vsm", "end", "--retry-for=0", "alice@tlha"];
    let ended = service.exec("client", "alice", &end).unwrap();
    assert!(ended.status.success(), "{ended:?}");
    service.gone(&desktop.agent, processes.monitor);
}

#[test]
fn lists_of_a_standby_that_follows_nobody_say_so() {
    let pair = Pair::up("old-lists");
    let (active, standby) = pair.in_step();
    let desktop = pair.login("alice");
    let ask = |words: &[&str]| {
        let output = pair.exec(standby, "root", words).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let sessions = ["vsmctl", "session", "list", "--output", "json"];
    let agents = ["vsmctl", "agent", "list"];
    let (code, _, said) = ask(&sessions);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    // Without the address it does not even try to be active.
    pair.stop_daemon(standby, "keepalived").unwrap();
    pair.stop_daemon(active, "vsmserver").unwrap();
    for words in [&sessions[..], &agents] {
        let (code, list, said) = ask(words);
        assert_eq!(code, Some(0), "{said}");
        assert!(words == agents || list.contains(&desktop.session), "{list}");
        let wanted =
            format!("this is the copy that {standby} has, which follows no active node since 20");
        assert!(said.contains(&wanted), "{said}");
        assert!(said.contains(&format!("{active} cannot be reached")), "{said}");
    }
}
