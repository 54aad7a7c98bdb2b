//! A member of `vsmadmin` who wants to be root, or to do what is in nobody's trail.

use anyhow::Result;

use crate::attack::calls::{self, Call};
use crate::attack::case::{At, By, Case, Row, Seen, case};
use crate::attack::stage::{ADMINISTRATOR, Stage};
use crate::attack::wire::Message;

const ACTIVE: &str = "active";
const ROOT: &str = "root";
const SOCKET: &str = "/run/vsm/vsmserver-admin.sock";
const ADOPT: &str = "vsm.admin.v1.Configuration/Adopt";

const fn as_root(name: &'static str, gets: &'static str, words: &'static [&'static str]) -> Row {
    Row { name, gets, attempt: (ACTIVE, ADMINISTRATOR, words), control: (ACTIVE, ROOT, words) }
}

const ROWS: &[Row] = &[
    as_root(
        "read-a-key-as-an-administrator",
        "the broker's identity",
        &["read", "/etc/vsm/pki/host.key"],
    ),
    as_root(
        "read-an-issuers-key-as-an-administrator",
        "any host's identity",
        &["read", "/etc/vsm/pki/issuer.key"],
    ),
    as_root(
        "write-a-parameter-as-an-administrator",
        "what root runs",
        &["create", "/etc/vsm/conf.d/99-x.yaml"],
    ),
    as_root(
        "write-a-hook-as-an-administrator",
        "what root runs",
        &["create", "/etc/vsm/sessionstartup.d/90-x"],
    ),
    as_root("read-the-table-as-an-administrator", "the table's file", &["list", "/var/lib/vsm"]),
    as_root(
        "replace-a-socket-as-an-administrator",
        "what others say to the broker",
        &["create", "/run/vsm/x.sock"],
    ),
];

/// Asks at the administrators' socket.
fn ask(stage: &Stage<'_>, user: &str, method: &str, body: &Message) -> Result<calls::Answer> {
    calls::one(stage, ACTIVE, user, Call::at(SOCKET, method, body))
}

fn set(name: &str, value: &str) -> Message {
    Message::new().message(1, &Message::new().text(1, name).text(2, value))
}

/// Gives the broker a parameter that only the other node may.
fn adopt(name: &'static str, parameter: &'static str, value: &'static str) -> Case {
    let attempt = move |stage: &Stage<'_>| {
        let answer = ask(stage, ADMINISTRATOR, ADOPT, &set(parameter, value))?;
        let now = stage.sh(ACTIVE, "cat /etc/vsm/conf.d/*.yaml")?;
        Ok(Seen::won_if(now.contains(value) || !answer.is_refusal(), answer.words()))
    };
    // The other node is let in, and gives nothing.
    let control = |stage: &Stage<'_>| {
        let call = Call::by("{standby}", "{active}:9000", ADOPT, &Message::new());
        let answer = calls::one(stage, "client", ROOT, call)?;
        Ok(Seen::won_if(!answer.is_refusal(), answer.words()))
    };
    case(name, By::Administrator, "a program that root runs", attempt, control)
}

/// Pushes to the other node what names a program there.
fn push_a_program() -> Case {
    let pushed = |user: &'static str, [parameter, value, usual]: [&'static str; 3]| {
        move |stage: &Stage<'_>| {
            stage.sh(ACTIVE, &format!("vsm-config '{parameter}={value}' && vsmctl reload"))?;
            let said = stage.cluster.exec(
                &stage.fill(ACTIVE)?,
                user,
                &["vsmctl", "config", "push", "--assume-yes"],
            )?;
            let there = stage.sh("standby", "cat /etc/vsm/conf.d/*.yaml")?;
            let taken = there.contains(value);
            for node in [ACTIVE, "standby"] {
                stage.sh(node, &format!("vsm-config '{parameter}={usual}' && vsmctl reload"))?;
            }
            let words = String::from_utf8_lossy(&said.stderr).trim().to_owned();
            Ok(Seen::won_if(taken, format!("{}: {words}", said.status)))
        }
    };
    let attempt =
        pushed(ADMINISTRATOR, ["/vsmserver/mail_program", "/srv/mine", "/usr/sbin/sendmail"]);
    let control = pushed(ADMINISTRATOR, ["/vsmserver/login_timeout", "77s", "60s"]);
    case(
        "push-a-program",
        By::Administrator,
        "a program that root runs on the other node",
        attempt,
        control,
    )
}

/// What is asked of the administrators' services that is none of their business.
fn refused(
    name: &'static str,
    gets: &'static str,
    method: &'static str,
    body: fn() -> Message,
    good: fn() -> Message,
) -> Case {
    let asked = |method: &'static str, body: fn() -> Message| {
        move |stage: &Stage<'_>| {
            let answer = ask(stage, ADMINISTRATOR, method, &body())?;
            Ok(Seen::won_if(answer.code == "Ok", answer.words()))
        }
    };
    case(name, By::Administrator, gets, asked(method, body), asked(method, good))
}

/// What an administrator writes is shown on others' terminals and desktops.
fn terminal() -> Case {
    let shown = |reason: &'static str| {
        move |stage: &Stage<'_>| {
            let body = Message::new().text(1, "agent3").text(2, reason);
            let answer = ask(stage, ADMINISTRATOR, "vsm.admin.v1.Agents/Drain", &body)?;
            let text =
                stage.sh(ACTIVE, "vsmctl agent list; vsmctl agent show agent3; vsmctl events")?;
            Ok(Seen::won_if(
                text.contains('\u{1b}') || (reason == "plain-words" && text.contains(reason)),
                answer.words(),
            ))
        }
    };
    let name = "give-a-reason-that-a-terminal-obeys";
    case(
        name,
        By::Administrator,
        "root's terminal",
        shown("x\u{1b}]0;y\u{7}"),
        shown("plain-words"),
    )
}

/// A picture, which administrators have no call for.
fn look() -> Case {
    let attempt: At = (
        "client",
        ADMINISTRATOR,
        &["run", "77", "vsm", "shadow", "--screenshot", "/dev/null", "user010@tlha", "alice"],
    );
    let control: At = (
        "client",
        "carol",
        &["run", "77", "vsm", "shadow", "--screenshot", "/dev/null", "carol@tlha", "alice"],
    );
    case("look-as-an-administrator", By::Administrator, "alice's picture", attempt, control)
}

pub(super) fn all() -> Vec<Case> {
    let mut all: Vec<Case> = ROWS.iter().map(|row| row.by(By::Administrator)).collect();
    all.extend([
        adopt("adopt-a-mail-program", "/vsmserver/mail_program", "/srv/mine-1"),
        adopt("adopt-a-folder-of-hooks", "/vsmserver/hooks/startup_dir", "/srv/mine-2"),
        adopt("adopt-a-list-of-administrators", "/vsmserver/allowed_clients", "mine-3"),
        push_a_program(),
        refused(
            "invite-a-broker",
            "a broker's certificate",
            "vsm.admin.v1.Identities/Invite",
            || Message::new().text(1, "tlha-primary").number(2, 600),
            || Message::new().text(1, "agent3").number(2, 600),
        ),
        refused(
            "invite-a-path",
            "a name that is a path",
            "vsm.admin.v1.Identities/Invite",
            || Message::new().text(1, "../agent3").number(2, 600),
            || Message::new().text(1, "agent3").number(2, 600),
        ),
        refused(
            "invite-for-ever",
            "a token that never ends",
            "vsm.admin.v1.Identities/Invite",
            || Message::new().text(1, "agent3").number(2, 1 << 40),
            || Message::new().text(1, "agent3").number(2, 600),
        ),
        path_for_a_log(),
        terminal(),
        look(),
    ]);
    all
}

/// A file for a session's log.
fn path_for_a_log() -> Case {
    let read = |id: &'static str| {
        move |stage: &Stage<'_>| {
            let body = Message::new().text(1, stage.fill(id)?).number(2, 4096);
            let answer = ask(stage, ADMINISTRATOR, "vsm.admin.v1.Admin/SessionLog", &body)?;
            Ok(Seen::won_if(answer.code == "Ok", answer.words()))
        }
    };
    let name = "name-a-path-for-a-sessions-log";
    let gets = "a file that root can read";
    case(name, By::Administrator, gets, read("../../../../etc/shadow"), read("{alice.session}"))
}
