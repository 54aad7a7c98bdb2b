//! Root on a session host: what it says counts for itself alone, and who misbehaves is put aside by name. The third and
//! the fourth host are in the wrong hands, and take no logins.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::attack::case::{By, Case, Seen, Staying, case};
use crate::attack::stage::{LOST, OTHER, Stage, agents_up};
use crate::clock::{self, wait_for};
use crate::pair;

/// How long the brokers may take to hear what a host says.
const WAIT: Duration = Duration::from_secs(60);
/// Reigns that one host may cost by its word.
const REIGNS_MAX: usize = 15;

/// Serves in the place of the agent.
fn serve(stage: &Stage<'_>, host: &str, epoch: u64, more: &[&str]) -> Result<Staying> {
    stage.cluster.stop_daemon(host, "vsmagent")?;
    let epoch = epoch.to_string();
    let words = [
        &[&*stage.bench, "hostile-agent", "--lineage", stage.fact("lineage")?, "--epoch", &*epoch],
        &["--node", stage.fact("standby")?][..],
        more,
    ]
    .concat();
    Staying::silent(stage.cluster.command(host, "root", &words)?)
}

/// The agent serves again. A host that is put aside is heard in an hour.
fn again(stage: &Stage<'_>, host: &str) -> Result<()> {
    stage.cluster.restart_daemon(host, "vsmagent")
}

/// Waits until the active node says this of a host.
fn told(stage: &Stage<'_>, host: &str, words: &str) -> Result<String> {
    wait_for(&format!("{words:?} to be told of {host}"), WAIT, || {
        let list = stage.sh("active", "vsmctl agent list").map_err(|error| format!("{error:#}"))?;
        let line = list.lines().find(|line| line.starts_with(host)).unwrap_or_default().to_owned();
        if line.contains(words) { Ok(line) } else { Err(line) }
    })
}

fn reigns(stage: &Stage<'_>) -> Result<usize> {
    let active = stage.fact("active")?;
    Ok(stage.cluster.daemon_log(active, "vsmserver").matches("active epoch=").count())
}

/// What is known while a host tells that sessions have ended and that somebody looks at them.
struct Told {
    sessions: Vec<String>,
    events: String,
}

fn tells(stage: &Stage<'_>, session: &str) -> Result<Told> {
    let active = stage.fact("active")?.to_owned();
    let here = |log: String| {
        log.lines().filter(|line| line.contains("agent is here") && line.contains(LOST)).count()
    };
    let before = here(stage.cluster.daemon_log(&active, "vsmserver"));
    let serving = serve(stage, LOST, 1, &["--ended", session])?;
    let heard = wait_for("its report to be taken in", WAIT, || {
        let now = here(stage.cluster.daemon_log(&active, "vsmserver"));
        if now > before { Ok(()) } else { Err(format!("{now} reports")) }
    });
    // What follows the inventory is taken in at once, one after the other.
    clock::pause(Duration::from_secs(2));
    let rows = pair::rows(stage.cluster, &active);
    let events = stage.sh("active", "vsmctl events --output json");
    drop(serving);
    again(stage, LOST)?;
    heard?;
    Ok(Told { sessions: rows?.into_iter().map(|row| row.session).collect(), events: events? })
}

fn end_anothers() -> Case {
    let ends = |stage: &Stage<'_>, session: &str| {
        let there = tells(stage, session)?.sessions.iter().any(|one| one == session);
        Ok(Seen::won_if(!there, format!("the session is in the table: {there}")))
    };
    let attempt = move |stage: &Stage<'_>| ends(stage, stage.fact("alice.session")?);
    // Its own session, of which it may say so.
    let control = move |stage: &Stage<'_>| ends(stage, &own_session(stage)?);
    case(
        "end-anothers-session",
        By::SessionHost,
        "the end of a desktop elsewhere",
        attempt,
        control,
    )
}

/// A desktop on the host before it was lost.
fn own_session(stage: &Stage<'_>) -> Result<String> {
    let active = stage.fact("active")?;
    agents_up(stage.cluster, active, &[LOST])?;
    let user = "user007";
    stage.sh("active", &format!("vsmctl session terminate --user {user} --assume-yes; true"))?;
    stage.sh(
        "active",
        &format!("vsmctl agent undrain {LOST} && vsmctl agent drain agent2 --reason x"),
    )?;
    let came = wait_for("a desktop there", WAIT, || {
        let desktop = pair::login(stage.cluster, user, 30).map_err(|error| format!("{error:#}"))?;
        if desktop.agent == LOST { Ok(desktop) } else { Err(format!("{desktop:?}")) }
    });
    stage.sh(
        "active",
        &format!("vsmctl agent undrain agent2 && vsmctl agent drain {LOST} --reason lost"),
    )?;
    Ok(came?.session)
}

/// Whether the trail has that somebody did something with alice's desktop.
fn in_the_trail(stage: &Stage<'_>, events: &str, who: &str) -> Result<Option<String>> {
    let all: Vec<serde_json::Value> = serde_json::from_str(events)?;
    let session = stage.fact("alice.session")?;
    let fits = |event: &&serde_json::Value| event["actor"] == who && event["session"] == session;
    Ok(all.iter().find(fits).map(ToString::to_string))
}

/// Events about another host's session.
fn forge_the_trail() -> Case {
    let attempt = |stage: &Stage<'_>| {
        let told = tells(stage, stage.fact("alice.session")?)?;
        let found = in_the_trail(stage, &told.events, "dr-house")?;
        Ok(Seen::won_if(found.is_some(), found.unwrap_or_else(|| "no such event".to_owned())))
    };
    // A look that is real is there.
    let control = |stage: &Stage<'_>| {
        let look = "timeout 60 vsm shadow --screenshot /dev/null carol@tlha alice";
        stage.sh_as("client", "carol", look)?;
        let events = stage.sh("active", "vsmctl events --output json")?;
        let found = in_the_trail(stage, &events, "carol")?;
        Ok(Seen::won_if(found.is_some(), found.unwrap_or_else(|| "no such event".to_owned())))
    };
    case("forge-that-somebody-looked", By::SessionHost, "a false trail", attempt, control)
}

/// What a terminal obeys, as a version, a name, a reason.
fn terminal() -> Case {
    let attempt = |stage: &Stage<'_>| {
        let serving = serve(stage, LOST, 1, &["--ended", "01890a5d-ac96-774b-bcce-b302099a8057"])?;
        let mut list = String::new();
        let heard = wait_for("its version to be shown", WAIT, || {
            list = stage.sh("active", "vsmctl agent list --output json; vsmctl agent show agent3 --output json; vsmctl agent list")
                .map_err(|error| format!("{error:#}"))?;
            if list.contains("title") { Ok(()) } else { Err("not yet".to_owned()) }
        });
        drop(serving);
        again(stage, LOST)?;
        heard.context("what it says is shown nowhere")?;
        let obeyed = list.contains('\u{1b}') || list.contains("\\u001b");
        Ok(Seen::won_if(obeyed, "it is shown without what a terminal obeys"))
    };
    let control = |stage: &Stage<'_>| {
        let text = stage.sh("active", "printf 'a\\033]0;title\\007'")?;
        Ok(Seen::won_if(text.contains('\u{1b}'), "it is seen"))
    };
    case(
        "say-what-a-terminal-obeys",
        By::SessionHost,
        "an administrator's terminal",
        attempt,
        control,
    )
}

/// Another identity than its own.
fn identity(name: &'static str, gets: &'static str, identity: &'static str) -> Case {
    let comes = |stage: &Stage<'_>, identity: &str| -> Result<String> {
        let active = stage.fact("active")?.to_owned();
        let files = [("ca.pem", 644), ("host.pem", 644), ("host.key", 600)];
        for (file, mode) in files {
            let text = stage.cluster.output(
                "client",
                "root",
                &["cat", &format!("/run/host/ids/{identity}/{file}")],
            )?;
            let put = format!(
                "cat > /etc/vsm/pki/{file} <<'END'\n{text}\nEND\nchmod {mode} /etc/vsm/pki/{file}"
            );
            stage.sh(LOST, &put)?;
        }
        stage.cluster.restart_daemon(LOST, "vsmagent")?;
        wait_for("the broker to have tried", WAIT, || {
            let words = ["vsmctl", "agent", "list", "--output", "json"];
            let list = stage
                .cluster
                .output(&active, "root", &words)
                .map_err(|error| format!("{error:#}"))?;
            let list: Vec<serde_json::Value> =
                serde_json::from_str(&list).map_err(|error| error.to_string())?;
            let row = list.iter().find(|row| row["agent"] == LOST).cloned().unwrap_or_default();
            let said = format!("{}: {}", row["state"], row["detail"]);
            let settled = row["state"] == "up" || said.to_lowercase().contains("certificate");
            if settled { Ok(said) } else { Err(said) }
        })
    };
    let attempt = move |stage: &Stage<'_>| {
        let said = comes(stage, identity)?;
        comes(stage, LOST)?;
        Ok(Seen::won_if(said.starts_with("\"up\""), said))
    };
    let control = move |stage: &Stage<'_>| {
        let said = comes(stage, LOST)?;
        Ok(Seen::won_if(said.starts_with("\"up\""), said))
    };
    case(name, By::SessionHost, gets, attempt, control)
}

/// Ever higher epochs: the brokers follow some, and then it is this host that is not believed.
fn epochs() -> Case {
    let attempt = |stage: &Stage<'_>| {
        let before = reigns(stage)?;
        let counter: u64 = stage.fact("epoch.counter")?.parse()?;
        let serving = serve(stage, LOST, counter + 2, &[])?;
        let line = told(stage, LOST, "put aside");
        drop(serving);
        again(stage, LOST)?;
        let (line, after) = (line?, reigns(stage)?);
        Ok(Seen::won_if(
            after >= before + REIGNS_MAX,
            format!("{} reigns more: {line}", after - before),
        ))
    };
    let control = |stage: &Stage<'_>| {
        let count = reigns(stage)?;
        Ok(Seen::won_if(count > 0, format!("{count} reigns are counted")))
    };
    case(
        "name-ever-higher-epochs",
        By::SessionHost,
        "a pair that reigns anew for ever",
        attempt,
        control,
    )
}

/// More sessions than a host can have.
fn inventories() -> Case {
    let attempt = |stage: &Stage<'_>| {
        let active = stage.fact("active")?;
        let before = pair::rows(stage.cluster, active)?.len();
        let serving = serve(stage, OTHER, 1, &["--sessions", "30000"])?;
        let line = told(stage, OTHER, "put aside");
        drop(serving);
        again(stage, OTHER)?;
        let after = pair::rows(stage.cluster, active)?.len();
        Ok(Seen::won_if(
            after > before + 8,
            format!("{before} sessions before, {after} after: {}", line?),
        ))
    };
    let control = |stage: &Stage<'_>| {
        let count = pair::rows(stage.cluster, stage.fact("active")?)?.len();
        Ok(Seen::won_if(count > 0, format!("{count} sessions are counted")))
    };
    case(
        "tell-of-thousands-of-sessions",
        By::SessionHost,
        "a table full of nothing",
        attempt,
        control,
    )
}

pub(super) fn all() -> Vec<Case> {
    vec![
        identity("come-with-another-hosts-certificate", "the desktops of another host", "agent2"),
        identity(
            "come-with-another-authoritys-certificate",
            "a place in the service",
            "other-agent",
        ),
        identity("come-with-a-certificate-that-has-ended", "a place in the service", "former"),
        identity("come-with-a-brokers-certificate", "a place in the service", "evil"),
        end_anothers(),
        forge_the_trail(),
        terminal(),
        // A host that is put aside stays so for an hour: these come last.
        inventories(),
        epochs(),
    ]
}
