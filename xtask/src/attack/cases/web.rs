//! A user of a broker against the browsers of others: bob and the web key of alice; and against the bound of his own.

use anyhow::{Result, bail};

use super::broker_user::ask;
use crate::attack::calls::{self, Answer, Call};
use crate::attack::case::{At, By, Case, Seen, case};
use crate::attack::stage::{ADMINISTRATOR, Stage};
use crate::attack::wire::{self, Message};

const ACTIVE: &str = "active";
const ALICE: &str = "alice";
const BOB: &str = "bob";
/// Who does with browsers of their own what bob does with those of alice.
const SPARE: &str = "user007";
const ADMIN_SOCKET: &str = "/run/vsm/vsmserver-admin.sock";
/// A web key that no broker knows any more.
const NO_KEY: &str = "00000000-0000-7000-8000-000000000000";
const KEYS: &str = "/run/vsm/vsmserver-keys.sock";
/// How many browsers a user may be logged in with, as the configuration has it.
const MOST: usize = 8;

/// A public key whose private half nobody has, in base64.
fn blob(n: usize) -> String {
    format!("AAAAC3NzaC1lZDI1NTE5AAAAI{n:0>43}")
}

fn accept(stage: &Stage<'_>, user: &str, n: usize) -> Result<String> {
    let key = Message::new().text(1, format!("ssh-ed25519 {}", blob(n))).text(3, "a browser");
    let answer = ask(stage, user, "AcceptWebKey", &key)?;
    match wire::part(&answer.message(), 1) {
        Some(id) => Ok(String::from_utf8(id)?),
        None => bail!("{user} has no web key: {}", answer.words()),
    }
}

fn revoke(stage: &Stage<'_>, user: &str, id: &str) -> Result<Answer> {
    ask(stage, user, "RevokeWebKey", &Message::new().text(1, id))
}

/// The list of a user, as it is on the wire.
fn list(stage: &Stage<'_>, user: &str) -> Result<String> {
    let answer = ask(stage, user, "ListWebKeys", &Message::new())?;
    if answer.code != "Ok" {
        bail!("{user} gets no list: {}", answer.words());
    }
    Ok(String::from_utf8_lossy(&answer.message()).into_owned())
}

/// Logs alice in by a browser, whose key the attackers know but for the private half.
pub(in crate::attack) fn prepare(stage: &mut Stage<'_>) -> Result<()> {
    let id = accept(stage, ALICE, 1)?;
    stage.know("alice.web", id);
    Ok(())
}

fn revoke_anothers() -> Case {
    let attempt = |stage: &Stage<'_>| {
        let id = stage.fact("alice.web")?;
        let answer = revoke(stage, BOB, id)?;
        Ok(Seen::won_if(answer.code == "Ok" || !list(stage, ALICE)?.contains(id), answer.words()))
    };
    let control = |stage: &Stage<'_>| {
        let id = accept(stage, SPARE, 2)?;
        let answer = revoke(stage, SPARE, &id)?;
        Ok(Seen::won_if(!list(stage, SPARE)?.contains(&id), answer.words()))
    };
    case("log-anothers-browser-out", By::BrokerUser, "alice logged out", attempt, control)
}

fn list_others() -> Case {
    let listed = |user: &'static str| {
        move |stage: &Stage<'_>| {
            let is_there = list(stage, user)?.contains(stage.fact("alice.web")?);
            Ok(Seen::won_if(is_there, "a list"))
        }
    };
    let gets = "where alice is logged in";
    case("list-anothers-browsers", By::BrokerUser, gets, listed(BOB), listed(ALICE))
}

/// The same public key as one's own does nothing to that of another user.
fn copy_anothers() -> Case {
    let copied = |user: &'static str, of: &'static str| {
        move |stage: &Stage<'_>| {
            let own = accept(stage, of, 3)?;
            accept(stage, user, 3)?;
            accept(stage, user, 3)?;
            let answer = revoke(stage, user, "")?;
            let is_gone = !list(stage, of)?.contains(&own);
            revoke(stage, of, if is_gone { "" } else { &own })?;
            Ok(Seen::won_if(is_gone, answer.words()))
        }
    };
    let (attempt, control) = (copied(BOB, SPARE), copied(SPARE, SPARE));
    case("copy-anothers-key-and-revoke-it", By::BrokerUser, "another logged out", attempt, control)
}

fn more_than_allowed() -> Case {
    let has = |count: usize, over: usize| {
        move |stage: &Stage<'_>| {
            for n in 0..count {
                accept(stage, SPARE, 100 + n)?;
            }
            let text = list(stage, SPARE)?;
            let listed = text.matches("a browser").count();
            revoke(stage, SPARE, "")?;
            Ok(Seen::won_if(listed > over, format!("{listed} browsers")))
        }
    };
    let (attempt, control) = (has(MOST + 4, MOST), has(MOST, MOST - 1));
    let gets = "more browsers than one may have";
    case("log-in-with-more-browsers-than-allowed", By::BrokerUser, gets, attempt, control)
}

/// An administrator's browser whose login is too old for a change, and one whose login is fresh.
fn change_by_an_old_login() -> Case {
    let changed = |is_fresh: bool| {
        move |stage: &Stage<'_>| {
            let id = if is_fresh { accept(stage, ADMINISTRATOR, 200)? } else { NO_KEY.to_owned() };
            let agent = Message::new().text(1, "agent3");
            let call = Call::at(ADMIN_SOCKET, "vsm.admin.v1.Agents/Undrain", &agent);
            let answer = calls::one(stage, ACTIVE, ADMINISTRATOR, call.by_browser(&id))?;
            Ok(Seen::won_if(!answer.is_refusal(), answer.words()))
        }
    };
    let gets = "what an administrator may change, by an old login in a browser";
    case("change-by-an-old-login", By::Administrator, gets, changed(false), changed(true))
}

/// Says something about alice's web key at the key socket.
fn at_key_socket(name: &'static str, gets: &'static str, attempt: At, control: At) -> Case {
    case(name, By::BrokerUser, gets, attempt, control)
}

pub(super) fn all() -> Vec<Case> {
    const FOLLOW: &[&str] = &["say", KEYS, r#"{"op":"follow","id":"{alice.web}"}"#, "following"];
    const AS_BOB: &[&str] = &[
        "say",
        KEYS,
        r#"{"op":"offered","user":"bob","kind":"ssh-ed25519","blob":"AAAAC3NzaC1lZDI1NTE5AAAAI0000000000000000000000000000000000000000001"}"#,
        r#""web""#,
    ];
    const AS_ALICE: &[&str] = &[
        "say",
        KEYS,
        r#"{"op":"offered","user":"alice","kind":"ssh-ed25519","blob":"AAAAC3NzaC1lZDI1NTE5AAAAI0000000000000000000000000000000000000000001"}"#,
        r#""web""#,
    ];
    vec![
        revoke_anothers(),
        list_others(),
        copy_anothers(),
        more_than_allowed(),
        change_by_an_old_login(),
        at_key_socket(
            "go-on-by-anothers-browser",
            "a connection by alice's login",
            (ACTIVE, BOB, FOLLOW),
            (ACTIVE, ALICE, FOLLOW),
        ),
        at_key_socket(
            "log-in-as-oneself-by-anothers-key",
            "alice's key as bob's",
            (ACTIVE, BOB, AS_BOB),
            (ACTIVE, BOB, AS_ALICE),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_as_long_as_one_is() {
        assert_eq!(blob(1).len(), 68);
        assert!(blob(1).ends_with("0001") && blob(MOST + 104).len() == 68);
    }
}
