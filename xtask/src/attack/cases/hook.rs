//! Programs that root runs on a broker when a user logs in: whose they may be, and what they are told.

use anyhow::{Result, bail};

use super::broker_user::{ask, request, spare};
use crate::attack::case::{By, Case, Seen, case};
use crate::attack::stage::Stage;
use crate::attack::wire::Message;

const ACTIVE: &str = "active";
const BOB: &str = "bob";
const ROOT: &str = "root";
/// Whose new desktops the programs are run for.
const SPARE: &str = "user008";

/// Logs a spare user in while a hook is there; won where it has run.
fn hooked(stage: &Stage<'_>, make: &str) -> Result<Seen> {
    const CLEAR: &str = "rm -rf /etc/vsm/sessionstartup.d/50-* /run/hooked /run/marked /srv/hooks";
    stage.sh(ACTIVE, &format!("{CLEAR}; mkdir -p /srv/hooks; {make}"))?;
    let _ = stage.sh(ACTIVE, &format!("vsmctl session terminate --user {SPARE} --assume-yes"));
    let desktop =
        crate::clock::wait_for("a new desktop", std::time::Duration::from_secs(60), || {
            let desktop = spare(stage, SPARE).map_err(|error| format!("{error:#}"))?;
            if desktop.created { Ok(desktop) } else { Err(format!("{desktop:?} is the old one")) }
        })?;
    let marked = stage.sh(ACTIVE, "cat /run/marked 2>/dev/null; true")?;
    stage.sh(ACTIVE, CLEAR)?;
    Ok(Seen::won_if(marked.contains("uid=0"), format!("{marked:?} at {}", desktop.session)))
}

const BODY: &str = "printf '#!/bin/sh\\nid > /run/marked\\n'";

fn hooks() -> Vec<Case> {
    let own = |stage: &Stage<'_>| {
        let file = "/etc/vsm/sessionstartup.d/50-own";
        hooked(stage, &format!("{BODY} > {file}; chmod 755 {file}"))
    };
    let gets = "root on the broker";
    let hook = |name: &'static str, make: &'static str| {
        let attempt = move |stage: &Stage<'_>| hooked(stage, &make.replace("BODY", BODY));
        case(name, By::BrokerUser, gets, attempt, own)
    };
    vec![
        hook(
            "hook-of-a-user",
            "f=/etc/vsm/sessionstartup.d/50-x; BODY > $f; chmod 755 $f; chown bob $f",
        ),
        hook(
            "hook-that-all-may-write",
            "f=/etc/vsm/sessionstartup.d/50-x; BODY > $f; chmod 777 $f",
        ),
        hook(
            "hook-of-a-users-by-a-link",
            "f=/srv/hooks/x; BODY > $f; chmod 755 $f; chown bob $f; ln -s $f /etc/vsm/sessionstartup.d/50-x",
        ),
    ]
}

/// What root's own programs in a user's directory are worth: the way to them.
fn hook_on_the_way() -> Case {
    let on_the_way = |owner: &'static str| {
        move |stage: &Stage<'_>| {
            let make = format!(
                "mkdir -p /srv/hooks/d; chown {owner} /srv/hooks; f=/srv/hooks/d/x; {BODY} > $f; chmod 755 $f; \
                 ln -s $f /etc/vsm/sessionstartup.d/50-x"
            );
            hooked(stage, &make)
        }
    };
    case(
        "hook-in-a-users-directory",
        By::BrokerUser,
        "root on the broker",
        on_the_way(BOB),
        on_the_way(ROOT),
    )
}

/// What a client says of itself, in the environment of a program of root's.
fn variables(
    name: &'static str,
    (key, value): (&'static str, &'static str),
    wanted: &'static str,
) -> Case {
    let dumped = |stage: &Stage<'_>, (key, value): (&str, &str), wanted: &str| {
        const FILE: &str = "/etc/vsm/sessionreconnect.d/50-dump";
        let session = spare(stage, "user007")?;
        stage.sh(
            ACTIVE,
            &format!(
                "mkdir -p /etc/vsm/sessionreconnect.d; printf '#!/bin/sh\\ntr \"\\\\0\" \"\\\\n\" < /proc/self/environ > \
                 /run/dumped\\n' > {FILE}; chmod 755 {FILE}; rm -f /run/dumped"
            ),
        )?;
        let said = Message::new().text(1, key).text(2, value);
        let name = Message::new().text(1, "params/room").text(2, "12");
        let params = Message::new().message(6, &said).message(6, &name);
        let body = Message::new().text(1, request()).message(2, &params).text(3, &session.session);
        let answer = ask(stage, "user007", "Login", &body)?;
        let dumped = stage.sh(ACTIVE, "cat /run/dumped 2>/dev/null; true")?;
        stage.sh(ACTIVE, &format!("rm -f {FILE} /run/dumped"))?;
        if dumped.is_empty() && answer.code == "Ok" {
            bail!("no hook has run");
        }
        let words = format!("{}: {}", answer.words(), dumped.replace('\n', " "));
        Ok(Seen::won_if(dumped.lines().any(|line| line.starts_with(wanted)), words))
    };
    let attempt = move |stage: &Stage<'_>| dumped(stage, (key, value), wanted);
    // What a client may say is seen by the same look.
    let control =
        move |stage: &Stage<'_>| dumped(stage, ("params/floor", "3"), "VSM_CLIENT_PARAMS_FLOOR=3");
    case(name, By::BrokerUser, "root, by a variable of root's programs", attempt, control)
}

pub(super) fn all() -> Vec<Case> {
    let mut all = hooks();
    all.push(hook_on_the_way());
    all.extend([
        variables("name-a-parameter-like-a-loaders", ("LD_PRELOAD", "/tmp/x.so"), "LD_PRELOAD="),
        variables(
            "climb-out-of-the-parameters",
            ("params/../../LD_PRELOAD", "/tmp/x.so"),
            "LD_PRELOAD=",
        ),
        variables(
            "write-a-second-variable-into-a-parameter",
            ("params/hall", "1\nPATH=/tmp"),
            "PATH=/tmp",
        ),
    ]);
    all
}
