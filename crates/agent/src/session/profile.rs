//! Which desktop a session gets: the profile that was asked for, the default one, or those from which its user chooses.
//!
//! This is made out before the X server runs, so that a refusal leaves nothing half done. What is installed is looked
//! at as root; the administrator's test commands run as the user, all at the same time, and for a bounded time. The
//! session script is told by its environment, and starts the desktop: a host with a script of its own has its own way.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vsm_config::Profile;
use vsm_daemon::clock;

use super::{children, desktop::Place, launch, output::Log};
use crate::{
    process::{Held, Process},
    refusal::{Refusal, Refused, one_line},
    spec::Spec,
    xsessions::{self, XSession},
};

/// How long test commands may take, all together.
const TEST_MAX: Duration = Duration::from_secs(5);
/// Where they run: not yet on a display.
const NOT_YET: [&str; 2] = ["DISPLAY", "XAUTHORITY"];
/// What each profile is to the session script.
const KEY: &str = "VSM_PROFILE";
const COMMAND: &str = "VSM_PROFILE_COMMAND";

type Variables = BTreeMap<String, String>;

/// A profile of which a desktop is installed.
#[derive(Debug, Clone)]
struct Candidate {
    key: String,
    name: String,
    description: String,
    icon: String,
    testcmd: String,
    /// For its command, and for its test.
    variables: Variables,
}

/// A profile that is not offered.
#[derive(Debug)]
struct Hidden {
    key: String,
    why: String,
}

/// The variables that tell the session script which desktop to start, or from which its user is to choose. None of them
/// = its own default.
pub(super) fn choose(
    spec: &Spec,
    place: &Place<'_>,
    dir: &Path,
    log: &mut Log,
) -> Result<Variables, Refused> {
    let (params, profiles) = (&spec.session.params, &spec.settings.profiles);
    let asked = &*params.profile;
    if !params.start_command.is_empty() || (profiles.all.is_empty() && asked.is_empty()) {
        return Ok(Variables::new());
    }
    let (mut candidates, mut hidden) = if profiles.all.is_empty() {
        // Whatever is installed can be asked for where the administrator has no profiles.
        (xsessions::all().iter().map(of_installed).collect(), Vec::new())
    } else {
        resolve(&profiles.all, xsessions::find)
    };
    let wanted = if asked.is_empty() { &profiles.default } else { asked };
    if let Some(index) = candidates.iter().position(|one| one.key == wanted) {
        let one = candidates.remove(index);
        match test(place, &[&one]).remove(0) {
            Ok(()) => {
                let mut variables = one.variables;
                let how = if asked.is_empty() { "default" } else { "asked" };
                variables.insert("VSM_PROFILE_BY".to_owned(), how.to_owned());
                return Ok(variables);
            }
            Err(why) => hidden.push(Hidden { key: one.key, why: why.to_string() }),
        }
    }
    let tested = test(place, &candidates.iter().collect::<Vec<_>>());
    let mut available = Vec::new();
    for (one, tested) in candidates.into_iter().zip(tested) {
        match tested {
            Ok(()) => available.push(one),
            Err(why) => hidden.push(Hidden { key: one.key, why: why.to_string() }),
        }
    }
    for Hidden { key, why } in &hidden {
        log.note(&format!("profile {key} is hidden: {why}"));
    }
    if !asked.is_empty() {
        return Err(refused(asked, &hidden, &available));
    }
    match available.len() {
        0 => {
            log.note("no profile can be had; the session script does what it does without");
            Ok(Variables::new())
        }
        1 => Ok(available.remove(0).variables),
        _ => offer(spec, place, dir, &available)
            .map_err(|error| Refused::new(Refusal::Storage, format!("the profiles: {error}"))),
    }
}

fn refused(asked: &str, hidden: &[Hidden], available: &[Candidate]) -> Refused {
    let keys: Vec<&str> = available.iter().map(|one| one.key.as_str()).collect();
    let there = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
    let what = match hidden.iter().find(|one| one.key == asked) {
        Some(Hidden { why, .. }) => format!("profile {asked} cannot be had, as {why}"),
        None => format!("there is no profile {asked}"),
    };
    Refused::new(Refusal::Profile, format!("{what}; there are: {there}"))
}

/// Those of which a desktop is installed, in their order, and the others.
fn resolve(
    profiles: &[Profile],
    find: impl Fn(&str) -> Option<XSession>,
) -> (Vec<Candidate>, Vec<Hidden>) {
    let (mut candidates, mut hidden) = (Vec::new(), Vec::new());
    for profile in profiles {
        let installed = profile.xdg_session.iter().find_map(|name| find(name));
        let why = match (&installed, profile.xdg_session.as_slice()) {
            (None, [_, ..]) => Some(format!(
                "none of these desktop sessions is installed: {}",
                profile.xdg_session.join(", ")
            )),
            (None, []) if profile.cmdline.is_empty() => {
                Some("it has neither cmdline nor xdg_session".to_owned())
            }
            _ => None,
        };
        match why {
            Some(why) => hidden.push(Hidden { key: profile.key.clone(), why }),
            None => candidates.push(of_profile(profile, installed.as_ref())),
        }
    }
    (candidates, hidden)
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn exec_line(session: &XSession) -> String {
    session.exec.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// As display managers do it.
fn of_session(session: &XSession) -> Variables {
    let mut all = vec![
        ("XDG_EXEC", exec_line(session)),
        ("XDG_TRY_EXEC", session.try_exec.clone()),
        ("XDG_SESSION_DESKTOP", session.id.clone()),
        ("DESKTOP_SESSION", session.id.clone()),
    ];
    if !session.desktop_names.is_empty() {
        all.push(("XDG_CURRENT_DESKTOP", session.desktop_names.join(":")));
    }
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn of_installed(session: &XSession) -> Candidate {
    let profile = Profile {
        key: session.id.clone(),
        xdg_session: Vec::new(),
        name: session.name.clone(),
        description: session.comment.clone(),
        icon: Path::new("").to_owned(),
        cmdline: String::new(),
        testcmd: String::new(),
    };
    of_profile(&profile, Some(session))
}

fn of_profile(profile: &Profile, installed: Option<&XSession>) -> Candidate {
    let mut variables = installed.map(of_session).unwrap_or_default();
    let command = match installed {
        Some(session) if profile.cmdline.is_empty() => format!("exec {}", exec_line(session)),
        Some(_) | None => profile.cmdline.clone(),
    };
    variables.insert(KEY.to_owned(), profile.key.clone());
    variables.insert(COMMAND.to_owned(), command);
    let first = |texts: [&str; 3]| {
        let text = texts.into_iter().find(|text| !text.trim().is_empty()).unwrap_or("-");
        one_line(text)
    };
    let (name, comment) =
        installed.map_or(("", ""), |session| (session.name.as_str(), session.comment.as_str()));
    let name = first([&profile.name, name, &profile.key]);
    Candidate {
        description: first([&profile.description, comment, &name]),
        icon: first([&profile.icon.to_string_lossy(), "", ""]),
        name,
        key: profile.key.clone(),
        testcmd: profile.testcmd.clone(),
        variables,
    }
}

/// Writes down what the user is to choose from: `list`, a line for each with tabs between key, name, description and
/// icon, and `KEY.sh`, which gives a shell what that profile is.
fn offer(
    spec: &Spec,
    place: &Place<'_>,
    dir: &Path,
    available: &[Candidate],
) -> io::Result<Variables> {
    let folder = dir.join("profiles");
    DirBuilder::new().mode(0o700).create(&folder)?;
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
        file.write_all(text.as_bytes())
    };
    let mut list = String::new();
    for Candidate { key, name, description, icon, variables, .. } in available {
        list += &format!("{key}\t{name}\t{description}\t{icon}\n");
        let lines =
            variables.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value)));
        put(&format!("{key}.sh"), &lines.collect::<String>())?;
    }
    put("list", &list)?;
    // It is the user's to read, and nobody else's.
    chown(&folder, Some(place.account.uid), Some(place.account.gid))?;
    let profiles = &spec.settings.profiles;
    let all = [
        ("VSM_PROFILES", folder.display().to_string()),
        ("VSM_GREETING", profiles.greeting.clone()),
        ("VSM_INTRODUCTION", profiles.introduction.clone()),
    ];
    let given = all.into_iter().filter(|(_, value)| !value.is_empty());
    Ok(given.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// What the test command of a profile that is not offered has done.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("its testcmd cannot be run: {0}")]
    NotRun(io::Error),
    #[error("its testcmd ended with {}", launch::describe(*.0))]
    Failed(ExitStatus),
    #[error("its testcmd took longer than {} s", TEST_MAX.as_secs())]
    Late,
}

/// One test command that runs.
struct Test {
    pid: i32,
    held: Option<Held>,
    status: Option<ExitStatus>,
}

/// Whether each of these may be offered; why not.
fn test(place: &Place<'_>, candidates: &[&Candidate]) -> Vec<Result<(), Unfit>> {
    let started: Vec<_> = candidates.iter().map(|one| begin(place, one)).collect();
    let deadline = clock::now() + TEST_MAX;
    let mut tests: Vec<Option<io::Result<Test>>> = started;
    loop {
        for (pid, status) in children::reap() {
            let ours = tests.iter_mut().flatten().flatten().find(|test| test.pid == pid);
            if let Some(test) = ours {
                (test.status, test.held) = (Some(status), None);
            }
        }
        let running = tests.iter().flatten().flatten().filter(|test| test.status.is_none());
        let held: Vec<&Held> = running.filter_map(|test| test.held.as_ref()).collect();
        let left = deadline.saturating_duration_since(clock::now());
        if held.is_empty() || left.is_zero() {
            break;
        }
        let mut fds: Vec<_> =
            held.iter().map(|held| PollFd::from_borrowed_fd(held.fd(), PollFlags::IN)).collect();
        let wait = Timespec::try_from(left).unwrap_or_default();
        // Being woken early only means to look early.
        let _ = poll(&mut fds, Some(&wait));
    }
    tests.into_iter().map(verdict).collect()
}

fn verdict(test: Option<io::Result<Test>>) -> Result<(), Unfit> {
    match test {
        None => Ok(()),
        Some(Err(error)) => Err(Unfit::NotRun(error)),
        Some(Ok(Test { status: Some(status), .. })) if status.success() => Ok(()),
        Some(Ok(Test { status: Some(status), .. })) => Err(Unfit::Failed(status)),
        Some(Ok(Test { status: None, pid, .. })) => {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // It leads a group of its own; what has left that is killed before the X server starts.
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
            Err(Unfit::Late)
        }
    }
}

/// Starts a profile's test, if it has one.
fn begin(place: &Place<'_>, one: &Candidate) -> Option<io::Result<Test>> {
    if one.testcmd.trim().is_empty() {
        return None;
    }
    let mut order = place.order(Path::new("/bin/sh"), ["-c", &one.testcmd]);
    order.environment.extend(one.variables.clone());
    order.environment.retain(|name, _| !NOT_YET.contains(&name.as_str()));
    // What it prints would be of no bounded length.
    let run = || order.command()?.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let started = run().map(|child| {
        let pid = i32::try_from(child.id()).unwrap_or(0);
        let held = Process::of(pid).and_then(Process::hold);
        // One that was over before it could be held is found by its status.
        Test { pid, held, status: None }
    });
    Some(started)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn session(id: &str) -> XSession {
        XSession {
            id: id.to_owned(),
            name: id.to_uppercase(),
            comment: String::new(),
            exec: vec!["start".to_owned(), "it's".to_owned()],
            try_exec: "start".to_owned(),
            desktop_names: vec!["A".to_owned(), "B".to_owned()],
        }
    }

    fn profile(key: &str, xdg_session: &[&str], cmdline: &str) -> Profile {
        Profile {
            key: key.to_owned(),
            xdg_session: xdg_session.iter().map(|name| (*name).to_owned()).collect(),
            name: String::new(),
            description: "one\ttwo\nthree".to_owned(),
            icon: Path::new("").to_owned(),
            cmdline: cmdline.to_owned(),
            testcmd: String::new(),
        }
    }

    #[test]
    fn the_first_installed_session_counts_and_others_are_hidden() {
        let profiles = [
            profile("a", &["none", "xfce", "other"], ""),
            profile("b", &["none"], "run"),
            profile("c", &[], ""),
            profile("d", &[], "run \"$X\""),
            profile("e", &["xfce"], "wrap $XDG_EXEC"),
        ];
        let find = |name: &str| ["xfce", "other"].contains(&name).then(|| session(name));
        let (candidates, hidden) = resolve(&profiles, find);
        let keys: Vec<&str> = candidates.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, ["a", "d", "e"]);
        let command = |index: usize| candidates[index].variables[COMMAND].as_str();
        assert_eq!(command(0), r"exec 'start' 'it'\''s'");
        assert_eq!((command(1), command(2)), ("run \"$X\"", "wrap $XDG_EXEC"));
        assert_eq!(candidates[0].variables["XDG_CURRENT_DESKTOP"], "A:B");
        assert_eq!(candidates[0].variables["DESKTOP_SESSION"], "xfce");
        assert_eq!(candidates[2].variables["XDG_EXEC"], r"'start' 'it'\''s'");
        assert_eq!((candidates[0].name.as_str(), candidates[1].name.as_str()), ("XFCE", "d"));
        assert_eq!(
            candidates[0].description, "one two three",
            "a list has tabs and lines of its own"
        );
        assert!(hidden[0].why.contains("none of these") && hidden[1].why.contains("neither"));
        let text = refused("b", &hidden, &candidates).detail;
        assert!(text.starts_with("profile b cannot be had, as none"), "{text}");
        assert!(text.ends_with("there are: a, d, e"), "{text}");
        assert_eq!(refused("x", &[], &[]).detail, "there is no profile x; there are: none");
    }

    #[test]
    fn a_test_is_judged_by_its_exit_status() {
        let over = |status: i32| {
            let status = Some(ExitStatus::from_raw(status));
            verdict(Some(Ok(Test { pid: 0, held: None, status })))
        };
        assert!(verdict(None).is_ok() && over(0).is_ok());
        assert!(over(3 << 8).unwrap_err().to_string().ends_with("ended with exit status 3"));
        assert!(over(9).unwrap_err().to_string().contains("SIGKILL"));
    }
}
