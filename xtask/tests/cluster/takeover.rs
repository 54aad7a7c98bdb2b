//! A user whose terminal, or whose session host, is gone gets to a desktop again: by taking the old one over, by giving
//! it up, or by waiting for the grace.

use std::process::Output;

use xtask::clock::wait_for;
use xtask::cluster::Fault;

use crate::login::{install_viewer, row, state_becomes, view};
use crate::operator::event;
use crate::pair_of_brokers::{Pair, host};
use crate::service::{BROKER, Connected, Row, Service, WAIT, connected};

const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;
const SOFTWARE: i32 = 70;

/// A command of the user's on the client.
fn vsm(service: &Service, words: &[&str]) -> Output {
    let words = [&["vsm"], words, &["--retry-for=0", "alice@tlha"]].concat();
    service.exec("client", "alice", &words).unwrap()
}

/// A command that is refused with this code and these words.
fn refused(service: &Service, code: i32, says: &[&str], words: &[&str]) {
    let output = vsm(service, words);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
    for say in says {
        assert!(text.contains(say), "{words:?}: no {say:?} in {text}");
    }
}

/// Cuts the cable of a session's host and waits until the broker notices.
fn cut(service: &Service, desktop: &Connected) {
    service.fault(&Fault::Cable { host: desktop.agent.clone() }).unwrap();
    service.agents_are("down", &[&desktop.agent]);
}

/// The power of the terminal is cut: nobody says good-bye, and the desktop counts as viewed for as long as TCP likes.
#[test]
fn a_desktop_is_taken_over_from_a_dead_terminal_at_once() {
    taken_over(&Service::up("takeover"));
}

pub(crate) fn taken_over(service: &Service) {
    install_viewer(service);
    service.key_for("alice");
    let desktop = service.connect("alice");
    let viewer = view(service, "alice");
    let seen = state_becomes(service, "alice", "connected");
    assert_eq!(seen.viewer.as_deref(), Some("10.0.0.100"));
    service.fault(&Fault::Cable { host: host("client") }).unwrap();
    assert_eq!(row(service, "alice").state, "connected", "nobody has noticed");
    // From another machine; the limit is one desktop, and that is no obstacle to one's own.
    let words = ["vsm", "connect", "--screenshot", "now.png", "--json", "alice@tlha"];
    let output = service.exec(BROKER, "alice", &words).unwrap();
    let now = connected(&output).unwrap();
    assert_eq!((&now.session, now.created), (&desktop.session, false));
    // The picture was taken and its viewer has left; the dead one is not there either.
    assert_eq!(state_becomes(service, "alice", "disconnected").session, desktop.session);
    service.heal(&[]).unwrap();
    let output = viewer.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Another viewer has taken your desktop over."), "{output:?}");
    assert_eq!(service.rows().len(), 1);
}

/// The user says so, and has a new desktop at once; the old one is ended when its host is back.
#[test]
fn a_desktop_on_a_silent_host_is_given_up_by_its_user_alone() {
    given_up(&Service::up("abandon"));
}

pub(crate) fn given_up(service: &Service) {
    let first = service.connect("alice");
    refused(service, SOFTWARE, &["which answers"], &["abandon"]);
    cut(service, &first);
    service.refused("alice", UNAVAILABLE, &[&first.agent, "does not answer", "vsm abandon"]);
    refused(service, UNAVAILABLE, &["does not answer", "vsm abandon"], &["end"]);
    refused(service, 66, &["you have no desktop"], &["abandon", "--session", "ffffffffffff"]);
    refused(service, USAGE, &["neither a session id"], &["abandon", "--session", "first"]);
    assert_eq!(row(service, "alice").state, "unreachable", "what was refused changed nothing");
    let short = first.session.rsplit('-').next().unwrap();
    let output = vsm(service, &["abandon", "--session", short]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("was given up"), "{output:?}");
    assert_eq!(row(service, "alice").state, "abandoned");
    let second = service.connect("alice");
    assert!(second.created && second.agent != first.agent, "{second:?}");
    // Asking again, as after a lost answer, is the same; and the new one is not meant by it.
    assert!(vsm(service, &["abandon"]).status.success());
    refused(service, SOFTWARE, &["which answers"], &["abandon", "--session", &second.session]);
    service.heal(&[]).unwrap();
    let only = |rows: &[Row]| rows.len() == 1 && rows[0].session == second.session;
    service.rows_become("the one given up to be ended", only);
    service.clean(&first.agent);
    assert_eq!(service.connect("alice").session, second.session);
    let noted = event(service, BROKER, "session-abandoned", Some("alice"));
    assert_eq!((noted.actor.as_str(), noted.session), ("alice", Some(first.session)));
}

/// Decisions 24 and 25: after the grace a new desktop is made without a word, and nothing is killed when the host is
/// back: the user has two, above the limit, and chooses.
#[test]
fn after_the_grace_a_silent_desktop_no_longer_counts_and_comes_back_alive() {
    let service = Service::up("grace");
    service.configure(BROKER, "vsmserver", &["/vsmserver/unreachable_grace=1s"]);
    let first = service.connect("alice");
    cut(&service, &first);
    let second =
        wait_for("the grace to be over", WAIT, || connected(&service.try_connect("alice")));
    let second = second.unwrap();
    assert!(second.created && second.agent != first.agent, "{second:?}");
    service.heal(&[]).unwrap();
    let both = |rows: &[Row]| rows.len() == 2 && rows.iter().all(|row| row.state == "disconnected");
    service.rows_become("both desktops", both);
    let ids = [&first, &second].map(|desktop| desktop.session.rsplit('-').next().unwrap());
    let words = ["several desktops", "--session", ids[0], ids[1]];
    refused(&service, USAGE, &words, &["connect", "--no-viewer"]);
    for desktop in [&first, &second] {
        let now = service.connect_with("alice", &["--session", &desktop.session]);
        assert_eq!((&now.session, now.created), (&desktop.session, false));
    }
    // Above the limit no further one is made, and the user ends the one that is not wanted.
    let output = service.try_connect_with("alice", &["--new"]);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(vsm(&service, &["end", "--session", ids[0]]).status.success());
    assert_eq!(service.connect("alice").session, second.session);
}

/// The wish is on both brokers: the one that takes over carries it out.
#[test]
fn a_desktop_that_was_given_up_is_ended_by_the_other_broker_too() {
    let pair = Pair::up("abandon-pair");
    let (active, standby) = pair.in_step();
    let alice = pair.login("alice");
    let agent = alice.agent.clone();
    pair.inject(Fault::Cable { host: agent.clone() });
    let abandon = ["vsm", "abandon", "--retry-for=0", "alice@tlha"];
    wait_for("the silence to be noticed", WAIT, || {
        let output = pair.exec("client", "alice", &abandon).unwrap();
        if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
    })
    .unwrap();
    pair.inject(Fault::Power { host: host(active) });
    pair.serves(standby);
    let second = pair.login("alice");
    assert!(second.created && second.agent != agent, "{second:?}");
    pair.heal_all();
    pair.all_agree();
    let gone = format!("! ls -d /run/vsm/sessions/{} 2>/dev/null", alice.session);
    wait_for("the one given up to be ended", WAIT, || {
        pair.output(&agent, "root", &["sh", "-c", &gone]).map_err(|error| format!("{error:#}"))
    })
    .unwrap();
    pair.same("alice", &second);
    pair.one_each();
}
