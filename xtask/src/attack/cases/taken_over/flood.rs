//! Garbage and floods at the socket of `vsmagent`: root goes on, desktops and viewers do not notice, and neither its
//! memory nor the log is filled.

use anyhow::Result;

use super::{BOB, HOST, ROOT, SOCKET, pid};
use crate::attack::case::{By, Case, NET, Seen, case, stays, tool};
use crate::attack::stage::Stage;

/// More than the share of a system account.
const MOST: &str = "1024";
/// More than what root may take for a full share of calls, in KiB.
const MEMORY_MAX: u64 = 600 << 10;
/// More than refusals may cost in the log, in bytes.
const LOG_MAX: usize = 256 << 10;
/// What vsm-login says to a session.
const ATTACH: &str = r#"{"op":"attach","address":"10.0.0.9"}"#;

fn garbage() -> Case {
    let attempt = |stage: &Stage<'_>| tool(stage, HOST, NET, &["garbage", SOCKET]);
    // To one who never hangs up.
    let control = |stage: &Stage<'_>| {
        let _plain = stays(stage, HOST, ROOT, &["listener", "4445", "keep"])?;
        tool(stage, HOST, NET, &["garbage", "localhost:4445"])
    };
    let gets = "a root that stumbles or hangs";
    case("net-garbage-to-root", By::TakenOver, gets, attempt, control)
}

/// Everything that is nearly a call; in the control with one that is.
fn strange() -> Case {
    const CALL: &str =
        r#"{"verify":{"id":"{bob.session}","client":null,"standing":false,"fence":null}}"#;
    let attempt = |stage: &Stage<'_>| tool(stage, HOST, NET, &["strange"]);
    let control = |stage: &Stage<'_>| tool(stage, HOST, NET, &["strange", CALL]);
    let gets = "a call that means two things, or none";
    case("net-strange-calls", By::TakenOver, gets, attempt, control)
}

fn held() -> Case {
    let floods = |stage: &Stage<'_>, path: &str| {
        tool(stage, HOST, NET, &["flood", "silent", MOST, "1500", "2", path])
    };
    let attempt = move |stage: &Stage<'_>| floods(stage, SOCKET);
    // The same against one who gives shares to nobody.
    let control = move |stage: &Stage<'_>| {
        let path = "/tmp/plain.sock";
        stage.sh(HOST, &format!("rm -f {path}"))?;
        let _plain = stays(stage, HOST, ROOT, &["listener", path, "keep"])?;
        floods(stage, path)
    };
    let gets = "all connections that there are";
    case("net-hold-the-socket", By::TakenOver, gets, attempt, control)
}

/// Whether bob reaches his desktop.
fn viewed(stage: &Stage<'_>) -> bool {
    let words = ["say", "{bob.dir}/control.sock", ATTACH, "attached"];
    matches!(tool(stage, HOST, BOB, &words), Ok(Seen::Won(_)))
}

/// Something that is done to root without end, while a viewer comes.
fn kept_out(name: &'static str, words: &'static [&'static str]) -> Case {
    let attempt = move |stage: &Stage<'_>| {
        let (_busy, _) = stays(stage, HOST, NET, words)?;
        let missed = (0..5).filter(|_| !viewed(stage)).count();
        Ok(Seen::won_if(missed > 0, format!("{missed} of 5 viewers were kept out")))
    };
    // Where it is so, it is seen.
    let control = |stage: &Stage<'_>| {
        stage.sh(HOST, "kill -STOP {bob.monitor}")?;
        let is_viewed = viewed(stage);
        stage.sh(HOST, "kill -CONT {bob.monitor}")?;
        Ok(Seen::won_if(!is_viewed, "a viewer is kept out"))
    };
    case(name, By::TakenOver, "desktops that nobody reaches", attempt, control)
}

/// The most memory that a process had since that was last forgotten, in KiB.
fn peak(stage: &Stage<'_>, pid: &str) -> Result<u64> {
    Ok(stage.sh(HOST, &format!("grep VmHWM /proc/{pid}/status | tr -dc 0-9"))?.parse()?)
}

/// What root's memory comes to by something.
fn memory(name: &'static str, does: fn(&Stage<'_>) -> Result<()>) -> Case {
    let attempt = move |stage: &Stage<'_>| {
        let pid = pid(stage)?;
        // What came before this does not count.
        stage.sh(HOST, &format!("echo 5 > /proc/{pid}/clear_refs"))?;
        let before = peak(stage, &pid)?;
        does(stage)?;
        let after = peak(stage, &pid)?;
        let said = format!("at most {before} KiB before, {after} after");
        Ok(Seen::won_if(after > before + MEMORY_MAX, said))
    };
    // A process that does take as much is seen to.
    let control = |stage: &Stage<'_>| {
        let script = "python3 -c 'import re; kept = bytearray(700 << 20); print(re.search(r\"VmHWM:\\s+(\\d+)\", open(\"/proc/self/status\").read())[1])'";
        let said = stage.sh(HOST, script)?;
        Ok(Seen::won_if(said.trim().parse::<u64>()? > MEMORY_MAX, said))
    };
    case(name, By::TakenOver, "root's memory", attempt, control)
}

/// Many refused calls, each as long as it may be.
fn log() -> Case {
    let bad = |stage: &Stage<'_>, count: &str| -> Result<String> {
        tool(stage, HOST, NET, &["bad-calls", count])?;
        Ok(stage.cluster.daemon_log(HOST, "vsmagent"))
    };
    let attempt = move |stage: &Stage<'_>| {
        let before = stage.cluster.daemon_log(HOST, "vsmagent").len();
        let grown = bad(stage, "2000")?.len().saturating_sub(before);
        Ok(Seen::won_if(grown > LOG_MAX, format!("the log has {grown} bytes more")))
    };
    // A refusal is in that log.
    let control = move |stage: &Stage<'_>| {
        let log = bad(stage, "1")?;
        Ok(Seen::won_if(log.contains("no call"), "it is told of"))
    };
    case("net-fill-the-log", By::TakenOver, "the host's disk", attempt, control)
}

pub(super) fn all() -> Vec<Case> {
    vec![
        garbage(),
        strange(),
        held(),
        kept_out("net-keep-viewers-out-by-connections", &["hold", "1400"]),
        kept_out("net-keep-viewers-out-by-calls", &["busy", "{bob.session}"]),
        memory("net-fill-roots-memory-by-lines", |stage| {
            stays(stage, HOST, NET, &["hold", "1400"]).map(drop)
        }),
        memory("net-fill-roots-memory-by-a-message", |stage| {
            tool(stage, HOST, NET, &["rows", "4000000"]).map(drop)
        }),
        log(),
    ]
}
