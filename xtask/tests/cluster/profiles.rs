//! Profiles: which desktop a session gets, by the user's word, the administrator's, or the user's choice on the
//! desktop.

use xtask::setup;

use crate::service::{AGENTS, BROKER, Connected, Service};

const NO_PROFILE: i32 = 66;
const USAGE: i32 = 64;
/// A desktop that says which one it is, as a command line.
const SLEEP: &str = "exec sleep 86400";

/// Both agents with the real session script, and these parameters.
fn up(name: &str, parameters: &[&str]) -> Service {
    let service = Service::up(name);
    for agent in AGENTS {
        let script = include_str!("../../../deploy/xsession");
        service.sh(agent, &format!("cat > /etc/vsm/xsession <<'END'\n{script}\nEND"));
        service.configure(agent, "vsmagent", parameters);
    }
    service
}

/// What `vsm-session-param` says in the session once it is there.
fn profile_of(service: &Service, at: &Connected, user: &str) -> String {
    let line = format!(
        "VSM_SESSION_ID={} setpriv --reuid={user} --clear-groups vsm-session-param /session/profile | grep .",
        at.session
    );
    service.until(&at.agent, &line).trim().to_owned()
}

/// The log of a session on its agent.
fn log_of(service: &Service, at: &Connected) -> String {
    service.sh(&at.agent, &format!("cat /var/lib/vsm-agent/log/{}.log", at.session))
}

fn end(service: &Service, user: &str, at: &Connected) {
    service.end(user);
    service.clean(&at.agent);
}

#[test]
fn the_default_counts_where_none_is_asked_for_and_a_desktop_stays_what_it_is() {
    let light = format!("/profiles/light/cmdline={SLEEP}");
    let heavy = "/profiles/heavy/cmdline=env > ~/heavy; exec sleep 86400";
    let service = up("profile", &[&light, heavy, "/profiles/default=light"]);
    let alice = service.connect("alice");
    assert_eq!(profile_of(&service, &alice, "alice"), "light");
    // It is chosen at the start alone, and that is said.
    let output = service.try_connect_with("alice", &["--profile", "heavy"]);
    let again = crate::service::connected(&output).unwrap();
    assert_eq!((&again.session, again.created), (&alice.session, false));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("started without one and stays as it is: --profile heavy"), "{said}");
    assert_eq!(profile_of(&service, &alice, "alice"), "light");
    let quiet = service.try_connect("alice");
    assert_eq!(String::from_utf8_lossy(&quiet.stderr), "");
    end(&service, "alice", &alice);
    // Asked for, and a start command may be forbidden all the same.
    service.configure(BROKER, "vsmserver", &["/vsmserver/allow_start_command=false"]);
    let bob = service.connect_with("bob", &["--profile", "heavy"]);
    assert!(bob.created);
    assert_eq!(profile_of(&service, &bob, "bob"), "heavy");
    let seen = service.until(&bob.agent, "grep -E '^(VSM_PROFILE|DISPLAY)=' /home/bob/heavy");
    assert!(seen.contains("VSM_PROFILE=heavy") && seen.contains(&format!(":{}", bob.display)));
    // After a restart of the agent it is the same.
    service.crash(&bob.agent, "vsmagent");
    service.agents_are("up", &AGENTS);
    let again = service.connect_with("bob", &["--profile", "heavy"]);
    assert_eq!((&again.session, again.created), (&bob.session, false));
    assert_eq!(profile_of(&service, &bob, "bob"), "heavy");
}

#[test]
fn one_that_is_unknown_or_hidden_is_refused_with_those_there_are() {
    let service = up(
        "no-profile",
        &[
            "/profiles/a/cmdline=exec sleep 86400",
            "/profiles/b/cmdline=exec sleep 86400",
            "/profiles/b/testcmd=exit 3",
            // Not on a display, as the user, with what the desktop would be.
            "/profiles/c/cmdline=exec sleep 86400",
            "/profiles/c/testcmd=test \"$(id -un)\" = bob -a -z \"$DISPLAY\" -a \"$VSM_PROFILE\" = c && touch ~/tested",
            "/profiles/d/xdg_session=none nothing",
            "/profiles/e/cmdline=exec sleep 86400",
            "/profiles/e/testcmd=sleep 86400 & exec sleep 86400",
        ],
    );
    let refused = |user: &str, key: &str, words: &[&str]| {
        let output = service.try_connect_with(user, &["--profile", key]);
        let (line, reference) = crate::service::refusal(&output, NO_PROFILE, words);
        assert!(reference.is_some(), "{line}");
        assert_eq!(service.rows(), [], "{line}");
        for agent in AGENTS {
            service.clean(agent);
        }
    };
    refused("alice", "kde", &["there is no profile kde", "there are: a (agent"]);
    refused("alice", "b", &["profile b cannot be had", "exit status 3", "there are: a ("]);
    refused("alice", "d", &["none of these desktop sessions is installed: none, nothing"]);
    // One that hangs counts as hidden, and nothing of it stays.
    refused("alice", "e", &["its testcmd took longer than 5 s", "there are: a ("]);
    let bad = service.try_connect_with("alice", &["--profile", "a b"]);
    assert_eq!(bad.status.code(), Some(USAGE), "{bad:?}");
    let both = service.try_connect_with("alice", &["--profile", "a", "--start-command", "b"]);
    assert_eq!(both.status.code(), Some(USAGE), "{both:?}");
    // What is hidden from one is there for another, and one agent may have what the other has not.
    let bob = service.connect_with("bob", &["--profile", "c"]);
    assert_eq!(profile_of(&service, &bob, "bob"), "c");
    service.sh(&bob.agent, "test \"$(stat -c %U /home/bob/tested)\" = bob");
    service.configure("agent1", "vsmagent", &["/profiles/here/cmdline=exec sleep 86400"]);
    for user in ["alice", "carol"] {
        let at = service.connect_with(user, &["--profile", "here"]);
        assert_eq!(at.agent, "agent1", "the other agent has none");
    }
    service.agents_are("up", &AGENTS);
}

/// A wrong key of a profile is an error of the configuration, which stays as it was.
#[test]
fn a_configuration_that_names_a_profile_that_is_not_there_is_refused() {
    let service = up("profile-check", &["/profiles/a/cmdline=exec sleep 86400"]);
    let agent = AGENTS[0];
    let set = |what: &str| service.exec(agent, "root", &["vsm-config", what]).unwrap();
    for what in ["/profiles/default=b", "/profiles/order=a b"] {
        let path = what.split_once('=').unwrap().0;
        let output = set(what);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains(path) && said.contains("there is no profile \"b\""), "{said}");
    }
    assert!(set("/profiles/default=a").status.success());
}

#[test]
fn the_first_desktop_session_that_is_installed_counts() {
    let service = up(
        "xsession",
        &["/profiles/light/xdg_session=no-such-one openbox", "/profiles/light/testcmd=true"],
    );
    // The only one needs no choice.
    let alice = service.connect("alice");
    assert_eq!(profile_of(&service, &alice, "alice"), "light");
    service.until(&alice.agent, "pgrep -u alice -x openbox");
    let environment =
        service.until(&alice.agent, "tr '\\0' '\\n' < /proc/$(pgrep -u alice -x openbox)/environ");
    for line in ["VSM_PROFILE=light", "DESKTOP_SESSION=openbox", "VSM_PROFILE_BY=default"] {
        let wanted = line != "VSM_PROFILE_BY=default";
        assert_eq!(environment.lines().any(|one| one == line), wanted, "{line}: {environment}");
    }
    end(&service, "alice", &alice);
    // The administrator's own goes before Debian's.
    for agent in AGENTS {
        let own = "mkdir -p /etc/X11/sessions; printf '[Desktop Entry]\\nName=Own\\n\
                   Exec=sh -c \"echo own %%%%s > own; exec sleep 86400\" %%u\\n' > /etc/X11/sessions/openbox.desktop";
        service.sh(agent, own);
    }
    let bob = service.connect("bob");
    assert_eq!(service.until(&bob.agent, "grep . /home/bob/own").trim(), "own %s");
    end(&service, "bob", &bob);
    // Without any profiles what is installed can be asked for, and nothing else changes.
    for agent in AGENTS {
        service.sh(agent, "rm /etc/X11/sessions/openbox.desktop");
        service.sh(agent, "rm /etc/vsm/conf.d/profiles.yaml");
        service.reload(agent, "vsmagent", "configuration read again");
    }
    let carol = service.connect_with("carol", &["--profile", "openbox"]);
    assert_eq!(profile_of(&service, &carol, "carol"), "openbox");
    let output = service.try_connect_with("alice", &["--profile", "kde"]);
    crate::service::refusal(&output, NO_PROFILE, &["there is no profile kde", "openbox"]);
}

#[test]
fn the_user_chooses_from_several_on_the_desktop() {
    let service = up(
        "chooser",
        &[
            "/profiles/order=first second",
            "/profiles/greeting=<b>Which, if any?</b>",
            "/profiles/first/cmdline=exec sleep 86400",
            "/profiles/second/cmdline=exec sleep 86400",
            "/profiles/second/name=The other: second, or so",
            "/profiles/third/cmdline=exec sleep 86400",
            "/profiles/third/testcmd=false",
        ],
    );
    for (user, hand, started) in [
        ("alice", "windowfocus key Return", "first"),
        // On the second button.
        ("bob", "mousemove --window %1 140 94 click 1", "second"),
    ] {
        let at = service.connect(user);
        // The window is gone before the key or the button is up again, which xdotool takes for an error.
        let words = format!(
            "su {user} -c 'vsm-env xdotool search --onlyvisible --class xmessage {hand}' >/dev/null 2>&1; \
             test -e /run/vsm/sessions/{}/user/vsm-profile",
            at.session
        );
        service.until(&at.agent, &words);
        assert_eq!(profile_of(&service, &at, user), started);
        let log = log_of(&service, &at);
        let hidden = "profile third is hidden: its testcmd ended with exit status 1";
        assert!(log.contains(hidden), "{log}");
        end(&service, user, &at);
    }
    // A choice program of the site's own, whose word counts; one that prints nonsense means the first.
    for (user, printed, started) in [("alice", "second", "second"), ("carol", "../x", "first")] {
        for agent in AGENTS {
            let own = format!(
                "printf '#!/bin/sh\\ncut -f 1,2 $1 > ~/offered\\necho {printed}\\n' > /etc/vsm/choose-profile"
            );
            service.sh(agent, &own);
        }
        let at = service.connect(user);
        assert_eq!(profile_of(&service, &at, user), started);
        let offered = service.sh(&at.agent, &format!("cat /home/{user}/offered"));
        assert_eq!(offered, "first\tfirst\nsecond\tThe other: second, or so");
    }
}

/// A whole desktop with all that comes with it: whatever way it ends, nothing of the user's is left.
#[test]
fn nothing_is_left_of_an_xfce_session_that_was_logged_out_or_ended() {
    setup::xfce().unwrap();
    let service = up(
        "xfce",
        &[
            "/profiles/xfce/xdg_session=xfce",
            "/profiles/light/xdg_session=openbox",
            "/profiles/default=light",
        ],
    );
    for (user, logs_out) in [("alice", true), ("bob", false)] {
        let at = service.connect_with(user, &["--profile", "xfce"]);
        let there = |name: &str| {
            service.until(&at.agent, &format!("pgrep -u {user} -f {name}"));
        };
        ["xfce4-session", "xfwm4", "xfdesktop", "dbus-daemon"].into_iter().for_each(there);
        let of_xfce =
            format!("su {user} -c 'vsm-env sh -c \"xprop -root _NET_SUPPORTING_WM_CHECK\"'");
        service.until(&at.agent, &of_xfce);
        assert_eq!(profile_of(&service, &at, user), "xfce");
        // What desktops like to leave behind: agents for keys, and gvfs, which the bus starts.
        ["ssh-agent", "gvfsd"].into_iter().for_each(there);
        let bus = format!(
            "DBUS_SESSION_BUS_ADDRESS=$(cat /run/vsm/sessions/{}/user/vsm-bus)",
            at.session
        );
        if logs_out {
            // As its menu does; it takes no log-out before it has started all of itself.
            let out = "dbus-send --session --print-reply --dest=org.xfce.SessionManager \
                       /org/xfce/SessionManager org.xfce.Session.Manager.Logout boolean:false boolean:false";
            let out = format!("su {user} -c '{bus} vsm-env env {bus} {out}'");
            service.until(&at.agent, &format!("{out} || ! pgrep -u {user} -x xfce4-session"));
        } else {
            service.end(user);
        }
        service.clean(&at.agent);
        service.sh(&at.agent, &format!("! pgrep -u {user} -a"));
        service.rows_become("no session", |rows| rows.is_empty());
    }
}
