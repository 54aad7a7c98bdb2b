//! Whether this host's sshd takes users to VSM. They come by sshd alone, so one that does not run, or does not know the
//! subsystem `vsm`, is nothing that a daemon misses, and everything to its users.
//!
//! There are many ways to run sshd. Where what is seen leaves a doubt nothing is said: one who is told of what is not
//! so does not look the next time.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{io::AsyncWriteExt, process::Command, sync::Notify};
use tokio_util::sync::CancellationToken;

use crate::{
    pki::Request,
    sockets::{self, State},
    trouble::{Kind, Troubles},
};

/// How often it is looked at: that starts a program.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The same while something is wrong.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// So often in a row nobody must listen: at a boot, or when it is restarted, sshd is away for a while.
const SILENT_LOOKS: u32 = 4;
/// How long a program may take that is asked.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Where the program is, unless one that runs shows it.
const PROGRAMS: [&str; 2] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"];
/// Where its arguments may stand.
const ARGUMENTS: [&str; 4] = [
    "/etc/default/ssh",
    "/etc/sysconfig/sshd",
    "/etc/systemd/system/ssh.service",
    "/etc/systemd/system/sshd.service",
];
/// Folders with more of them.
const MORE_ARGUMENTS: [&str; 2] =
    ["/etc/systemd/system/ssh.service.d", "/etc/systemd/system/sshd.service.d"];
/// Where it listens unless its configuration says otherwise.
const SSH_PORT: u16 = 22;
/// What a service may not see, or sees otherwise than sshd.
const HIDDEN: [&str; 5] = ["/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"];
const CONFIG: &str = "/etc/ssh/sshd_config";
const DROP_INS: &str = "/etc/ssh/sshd_config.d";
/// What a trouble is about.
const SUBSYSTEM: &str = "subsystem";
const LISTENER: &str = "listener";

/// Looks at this host's sshd.
#[derive(Debug)]
pub struct Sshd {
    troubles: Troubles,
    again: Notify,
}

/// What is seen of it.
#[derive(Debug, Default)]
struct Seen {
    /// What it makes of its configuration; none = it is not known.
    config: Option<String>,
    /// The usual files of its configuration.
    files: String,
    /// Whether one runs that waits for connections; none = that cannot be seen.
    runs: Option<bool>,
    /// Whether one that runs has, or may have, another configuration than the usual one.
    has_arguments: bool,
    /// Whether the subsystem is there for some users alone, and so perhaps not for whom it is asked.
    is_matched: bool,
    /// Ports on which somebody listens.
    ports: Vec<u16>,
    /// Whether systemd waits for connections, or has it running; none = it does not say.
    by_systemd: Option<bool>,
}

impl Sshd {
    /// Tells what is wrong there.
    #[must_use]
    pub fn new(troubles: Troubles) -> Arc<Self> {
        Arc::new(Self { troubles, again: Notify::new() })
    }

    /// Has it looked at soon.
    pub fn look_again(&self) {
        self.again.notify_one();
    }

    /// Looks at it until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut silent = 0;
        loop {
            let looked = stop.run_until_cancelled(look()).await;
            let Some(seen) = looked else { return };
            let (subsystem, listener) = (no_subsystem(&seen), nobody_listens(&seen));
            silent = if listener.is_some() { silent + 1 } else { 0 };
            let well = subsystem.is_none() && listener.is_none();
            self.troubles.set(Kind::Ssh, SUBSYSTEM, subsystem);
            self.troubles.set(Kind::Ssh, LISTENER, listener.filter(|_| silent >= SILENT_LOOKS));
            let pause = if well { LOOK_EVERY } else { LOOK_AGAIN };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.again.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// What is wrong with its configuration.
fn no_subsystem(seen: &Seen) -> Option<String> {
    if seen.has_arguments || seen.is_matched {
        return None;
    }
    let config = seen.config.as_ref()?;
    let Some(command) = config.lines().find_map(|line| line.strip_prefix("subsystem vsm ")) else {
        return Some(format!(
            "its sshd does not know the subsystem vsm, so no user comes in: the line of {DROP_INS}/vsm.conf is missing, or {CONFIG} does not include that file"
        ));
    };
    let program = command.split_whitespace().next().unwrap_or_default();
    let is_hidden = HIDDEN.iter().any(|folder| program.starts_with(folder));
    let is_gone = program.starts_with('/')
        && !is_hidden
        && matches!(Path::new(program).try_exists(), Ok(false));
    is_gone.then(|| format!("its sshd is to run {program} for users, which is not there"))
}

/// That nobody waits for users.
fn nobody_listens(seen: &Seen) -> Option<String> {
    let nobody = match (seen.runs, seen.by_systemd) {
        (Some(true), _) | (_, Some(true)) | (None, None) => false,
        (Some(false), _) | (None, Some(false)) => true,
    };
    // Without its folder in /run it does not show what it makes of its files, and with systemd it has that while it
    // runs.
    let config = seen.config.as_ref().unwrap_or(&seen.files);
    let mut wanted = ports(config);
    if seen.config.is_none() {
        wanted.push(SSH_PORT);
    }
    wanted.sort_unstable();
    wanted.dedup();
    let taken = wanted.iter().any(|port| seen.ports.contains(port));
    let wrong = nobody && !seen.has_arguments && !taken && !wanted.is_empty();
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    let or = wanted.join(" or ");
    wrong.then(|| format!("no sshd runs, so no user comes in: nobody listens on port {or}"))
}

/// Ports that a configuration names.
fn ports(config: &str) -> Vec<u16> {
    let port = |line: &str| {
        let words = words(line);
        let port = match words.first()?.as_str() {
            "port" => words.get(1)?,
            "listenaddress" => words.get(1)?.rsplit(':').next()?,
            _ => return None,
        };
        port.parse().ok()
    };
    config.lines().filter_map(port).collect()
}

async fn look() -> Seen {
    let found = tokio::task::spawn_blocking(|| (Listener::find(), listening(), files()));
    let Ok((listener, ports, files)) = found.await else { return Seen::default() };
    let mut seen = Seen {
        ports,
        has_arguments: listener.has_arguments,
        is_matched: files.iter().any(|file| is_matched(file)),
        files: files.join("\n"),
        runs: (listener.is_there || listener.sees_all).then_some(listener.is_there),
        ..Seen::default()
    };
    let program = listener
        .program
        .or_else(|| PROGRAMS.map(PathBuf::from).into_iter().find(|it| it.is_file()));
    // With a user and a host it also takes what is inside Match blocks.
    let who = "user=root,host=localhost,addr=127.0.0.1";
    if let Some(program) = program
        && let Some(output) = ask_sshd(program, who).await
        && output.status.success()
    {
        seen.config = Some(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    seen.by_systemd = by_systemd().await;
    seen
}

/// What systemd says; none = this host is not run by it, or it does not answer.
async fn by_systemd() -> Option<bool> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let units = ["is-active", "ssh.socket", "sshd.socket", "ssh.service", "sshd.service"];
    let output = ask("systemctl", &units).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let states: Vec<&str> = said.lines().map(str::trim).collect();
    let is_down = |state: &&str| matches!(*state, "inactive" | "failed");
    // One that is being started is not missing.
    (states.len() + 1 == units.len()).then(|| !states.iter().all(is_down))
}

/// Asks sshd what it makes of its configuration. It says nothing without a host key, and this host's are root's: where
/// we are not, it is given one that is made for this and good for nothing.
async fn ask_sshd(program: PathBuf, who: &str) -> Option<Output> {
    if rustix::process::geteuid().is_root() {
        return ask(program, &["-T", "-C", who]).await;
    }
    let key = Request::new().ok()?.key;
    let arguments = ["-T", "-C", who, "-h", "/dev/stdin"];
    ask_with(program, &arguments, key.as_bytes()).await.ok()
}

/// Runs a program that is to tell something; none = it cannot be run, or takes too long.
async fn ask(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<Output> {
    ask_with(program, arguments, &[]).await.ok()
}

/// The same with a short input.
async fn ask_with(
    program: impl AsRef<OsStr>,
    arguments: &[&str],
    input: &[u8],
) -> io::Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let asked = async {
        let mut child = command.spawn()?;
        if let Some(mut to) = child.stdin.take() {
            // It fits into the pipe; one that does not read it says what it says.
            let _ = to.write_all(input).await;
        }
        child.wait_with_output().await
    };
    tokio::time::timeout(ANSWER_MAX, asked).await?
}

/// The process that waits for connections.
#[derive(Debug, Default)]
struct Listener {
    is_there: bool,
    /// Whether processes of others are seen at all.
    sees_all: bool,
    program: Option<PathBuf>,
    has_arguments: bool,
}

impl Listener {
    fn find() -> Self {
        // Where a service sees its own processes alone, it does not see the first one.
        let mut this = Self { sees_all: Path::new("/proc/1/stat").exists(), ..Self::default() };
        let numbers = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        for process in numbers.map(|entry| entry.path()) {
            let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
            if read("comm") != b"sshd\n" || fs::metadata(&process).map_or(1, |it| it.uid()) != 0 {
                continue;
            }
            let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            // `sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups`; others serve somebody.
            if line.starts_with("sshd: ") && !line.contains("[listener]") {
                continue;
            }
            this.is_there = true;
            this.has_arguments |= decides(&line);
            this.program = fs::read_link(process.join("exe"))
                .ok()
                .filter(|path| path.is_file())
                .or(this.program);
        }
        if !this.is_there {
            let more = MORE_ARGUMENTS.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten();
            let more = more.filter_map(Result::ok).map(|entry| entry.path());
            let mut all = ARGUMENTS.iter().map(PathBuf::from).chain(more);
            this.has_arguments = all.any(|path| decides(&text(&path)));
        }
        this
    }
}

/// Whether these are arguments that decide which configuration, or which port, it is.
fn decides(line: &str) -> bool {
    let quotes = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=');
    line.split(quotes).any(|word| ["-f", "-o", "-p"].iter().any(|it| word.starts_with(it)))
}

fn text(path: &Path) -> String {
    fs::read(path).map(|data| String::from_utf8_lossy(&data).into_owned()).unwrap_or_default()
}

/// The usual files of its configuration, one after the other.
fn files() -> Vec<String> {
    let drop_ins = fs::read_dir(DROP_INS).into_iter().flatten().filter_map(Result::ok);
    let all = drop_ins.map(|entry| entry.path()).chain([PathBuf::from(CONFIG)]);
    all.map(|path| text(&path)).collect()
}

/// The words of a line of a configuration, in small letters.
fn words(line: &str) -> Vec<String> {
    let line = line.to_ascii_lowercase();
    let words = line.split(|c: char| c.is_whitespace() || matches!(c, '=' | '"'));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Whether the subsystem is inside a Match block.
fn is_matched(config: &str) -> bool {
    let is = |words: &[String], name: &str| words.first().is_some_and(|it| it == name);
    let mut lines = config.lines().map(words).skip_while(|words| !is(words, "match"));
    lines.any(|words| is(&words, "subsystem") && words.get(1).is_some_and(|it| it == "vsm"))
}

/// Ports on which somebody listens on this host.
fn listening() -> Vec<u16> {
    let listen = sockets::all().filter(|socket| socket.state == State::Listening);
    listen.map(|socket| socket.local.port()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str = "port 22\nlistenaddress [::]:22\nsubsystem vsm /usr/bin/env\n";

    /// A host without sshd, where all of that can be seen.
    fn seen(config: &str) -> Seen {
        let config = Some(config.to_owned());
        Seen { config, runs: Some(false), by_systemd: Some(false), ..Seen::default() }
    }

    #[test]
    fn a_subsystem_that_is_missing_is_told_unless_there_is_a_doubt() {
        let without = "port 22\nsubsystem sftp /usr/lib/sftp-server\n";
        assert!(no_subsystem(&seen(without)).unwrap().contains("does not know the subsystem vsm"));
        assert_eq!(no_subsystem(&seen(KNOWN)), None);
        assert_eq!(no_subsystem(&Seen { has_arguments: true, ..seen(without) }), None);
        assert_eq!(no_subsystem(&Seen { is_matched: true, ..seen(without) }), None);
        assert_eq!(no_subsystem(&Seen { config: None, ..seen(without) }), None);
        for program in ["/usr/no/vsm-login", "/nope/vsm-login"] {
            let gone = no_subsystem(&seen(&format!("subsystem vsm {program} -x\n"))).unwrap();
            assert!(gone.contains(&format!("{program} for users, which is not there")), "{gone}");
        }
        assert_eq!(no_subsystem(&seen("subsystem vsm /home/x/vsm-login\n")), None);
    }

    #[test]
    fn an_sshd_that_does_not_run_is_told_unless_there_is_a_doubt() {
        assert!(nobody_listens(&seen(KNOWN)).unwrap().ends_with("port 22"));
        let told = |seen: &Seen| nobody_listens(seen).is_some();
        let stopped =
            Seen { config: None, files: " listenAddress 1.2.3.4:24".to_owned(), ..seen("") };
        assert!(nobody_listens(&stopped).unwrap().ends_with("port 22 or 24"));
        assert!(told(&Seen { runs: None, ..seen(KNOWN) }));
        assert!(told(&Seen { by_systemd: None, ..seen(KNOWN) }));
        // One that dies of a Match block does not run either.
        assert!(told(&Seen { is_matched: true, config: None, ..seen(KNOWN) }));
        for doubt in [
            Seen { ports: vec![80, 22], ..seen(KNOWN) },
            Seen { runs: Some(true), ..seen(KNOWN) },
            Seen { by_systemd: Some(true), ..seen(KNOWN) },
            Seen { runs: None, by_systemd: None, ..seen(KNOWN) },
            Seen { has_arguments: true, ..seen(KNOWN) },
            seen("subsystem vsm /usr/bin/env\n"),
            Seen { config: None, files: "Port 23\n".to_owned(), ports: vec![23], ..seen("") },
            Seen { config: None, ports: vec![22], ..seen("") },
        ] {
            assert!(!told(&doubt), "{doubt:?}");
        }
    }

    #[test]
    fn arguments_and_match_blocks_raise_a_doubt() {
        for line in
            ["sshd: /usr/sbin/sshd -D -f /etc/x [listener]", "SSHD_OPTS=\"-p2222\"", "X='-oPort=3'"]
        {
            assert!(decides(line), "{line}");
        }
        for line in ["sshd: /usr/sbin/sshd -D -e [listener] 0 of 10-100 startups", "SSHD_OPTS="] {
            assert!(!decides(line), "{line}");
        }
        assert!(is_matched("Match Group staff\n  Subsystem \"vsm\" /usr/bin/vsm-login\n"));
        assert!(!is_matched("Subsystem vsm /usr/bin/vsm-login\nMatch User x\n X11Forwarding no\n"));
    }
}
