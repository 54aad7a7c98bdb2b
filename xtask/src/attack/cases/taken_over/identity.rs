//! The host's certificate, its key, and the authorities that it trusts: root puts in place what is this host's, and
//! trusts nobody by the word of its account. On a host that nobody misses.

use std::fs;

use anyhow::{Context, Result};

use crate::attack::case::{By, Case, NET, Seen, case, tool};
use crate::attack::stage::{LOST, Stage};

const AUTHORITIES: &str = "/etc/vsm/pki/ca.pem";

/// A file of an identity that the attacker has.
fn file(stage: &Stage<'_>, identity: &str, file: &str) -> Result<String> {
    let path = stage.dir().join("hosts/client/ids").join(identity).join(file);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Puts a text in the place of a file, as root.
fn put(stage: &Stage<'_>, path: &str, text: &str) -> Result<()> {
    stage.sh(LOST, &format!("cat > {path} <<'END'\n{}\nEND", text.trim_end())).map(drop)
}

/// Everything as it was.
fn restore(stage: &Stage<'_>) -> Result<()> {
    for name in ["ca.pem", "host.pem", "host.key"] {
        put(stage, &format!("/etc/vsm/pki/{name}"), &file(stage, LOST, name)?)?;
    }
    Ok(())
}

/// Brings a certificate of one identity with the key of another one, and authorities.
fn brings(
    stage: &Stage<'_>,
    (certificate, key): (&str, &str),
    authorities: &str,
    better: &str,
) -> Result<Seen> {
    let (chain, key) = (file(stage, certificate, "host.pem")?, file(stage, key, "host.key")?);
    tool(stage, LOST, NET, &["install", &chain, &key, authorities, better])
}

/// A certificate with a key that is not to be put in place.
fn installed(
    name: &'static str,
    gets: &'static str,
    pair: (&'static str, &'static str),
    better: &'static str,
) -> Case {
    let by = |pair: (&'static str, &'static str), better: &'static str| {
        move |stage: &Stage<'_>| {
            let seen = brings(stage, pair, "", better);
            restore(stage)?;
            seen
        }
    };
    let own = ("later-agent", "later-agent");
    case(name, By::TakenOver, gets, by(pair, better), by(own, "newer"))
}

/// How many authorities are trusted.
fn trusted(stage: &Stage<'_>) -> Result<usize> {
    Ok(stage.sh(LOST, &format!("grep -c BEGIN {AUTHORITIES}"))?.trim().parse()?)
}

/// An authority of its own beside the cluster's.
fn authority() -> Case {
    let attempt = |stage: &Stage<'_>| {
        let own = file(stage, LOST, "ca.pem")?;
        let both = format!("{own}{}", other(stage)?);
        let said = brings(stage, ("later-agent", "later-agent"), &both, "newer")?;
        let count = trusted(stage)?;
        restore(stage)?;
        Ok(Seen::won_if(count > 1, format!("{count} trusted: {said:?}")))
    };
    // One that root takes is counted.
    let control = |stage: &Stage<'_>| {
        let both = format!("{}{}", file(stage, LOST, "ca.pem")?, other(stage)?);
        put(stage, AUTHORITIES, &both)?;
        let count = trusted(stage)?;
        restore(stage)?;
        Ok(Seen::won_if(count > 1, format!("{count} trusted")))
    };
    let gets = "certificates of its own that this host believes";
    case("net-bring-in-an-authority", By::TakenOver, gets, attempt, control)
}

/// Another cluster's authority.
fn other(stage: &Stage<'_>) -> Result<String> {
    Ok(fs::read_to_string(stage.dir().join("pki-other/ca.pem"))?)
}

/// Has authorities forgotten: with another one beside the cluster's, which stays if it is named alone.
fn forgotten(name: &'static str, offered: fn(&Stage<'_>) -> Result<String>) -> Case {
    let forgets = |stage: &Stage<'_>, offered: String| -> Result<Seen> {
        put(stage, AUTHORITIES, &format!("{}{}", file(stage, LOST, "ca.pem")?, other(stage)?))?;
        let text = serde_json::json!({ "forget": offered }).to_string();
        let said = tool(stage, LOST, NET, &["call", &text, "done", "no call"]);
        let count = trusted(stage)?;
        restore(stage)?;
        Ok(Seen::won_if(count < 2, format!("{count} trusted: {:?}", said?)))
    };
    let attempt = move |stage: &Stage<'_>| forgets(stage, offered(stage)?);
    // The other one, by which nothing here is.
    let control = move |stage: &Stage<'_>| forgets(stage, file(stage, LOST, "ca.pem")?);
    let gets = "a host that trusts nobody, or whom it likes";
    case(name, By::TakenOver, gets, attempt, control)
}

pub(super) fn all() -> Vec<Case> {
    let anothers = "the desktops of another host";
    vec![
        installed("net-install-another-hosts-certificate", anothers, ("agent2", "agent2"), "newer"),
        installed(
            "net-install-one-of-another-authority",
            "a host that no broker believes",
            ("strange-agent", "strange-agent"),
            "newer",
        ),
        installed(
            "net-install-one-with-another-role",
            "a broker's identity for good",
            ("broker-too", "broker-too"),
            "newer",
        ),
        installed(
            "net-install-one-that-has-ended",
            "a host out of reach",
            ("ended-agent", "ended-agent"),
            "newer",
        ),
        installed(
            "net-bring-a-key-that-does-not-fit",
            "a host out of reach",
            ("later-agent", "agent2"),
            "newer",
        ),
        installed(
            "net-bring-an-older-certificate",
            "one that was replaced",
            ("older-agent", "older-agent"),
            "newer",
        ),
        authority(),
        forgotten("net-forget-the-authority-of-this-host", other),
        forgotten("net-forget-all-authorities", |_| Ok(String::new())),
    ]
}
