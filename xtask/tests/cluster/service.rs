//! The service as its users and administrators meet it: `vsm` on the client, `vsmctl` on the
//! broker, and what a desktop is made of on its agent.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::process::Output;
use std::time::Duration;

use serde::Deserialize;
use xtask::clock::wait_for;
use xtask::cluster::{Brokers, Cluster, ClusterSpec};
use xtask::pair::BARE_SCRIPT;

use crate::packages::working_of;
use crate::{on, spec};

/// How long anything may take before a test gives up; nothing that works comes near it.
pub(crate) const WAIT: Duration = Duration::from_secs(120);
/// The broker's host.
pub(crate) const BROKER: &str = "tlha-primary";
/// The agents' hosts.
pub(crate) const AGENTS: [&str; 2] = ["agent1", "agent2"];
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGHUP: i32 = 1;
/// Everything that the sessions of an agent leave anywhere, a line each; the records of sessions that are over are
/// meant to stay. A monitor on its last step out has no memory any more, and so no arguments; it has told that all is
/// gone.
const TRACES: &str = r#"
cd /run/vsm/sessions 2>/dev/null && for f in *; do [ -e "$f" ] && echo "folder $f"; done
for f in /tmp/.X11-unix/X* /tmp/.X*-lock; do [ -e "$f" ] && echo "display $f"; done
for f in /sys/fs/cgroup/vsm/*-*; do [ -d "$f" ] && echo "cgroup $f"; done
for f in /var/lib/vsm-agent/sessions/*; do [ -e "$f" ] && echo "record $f"; done
ps ax -o pid=,uid=,args= | awk '($2 >= 2000 && $2 < 4000 && $3 != "sshd:") || /vsm-session|Xtigervnc/ { if (!/awk/ && $3 != "[vsm-session]") print "process", $0 }'
true"#;

/// What `vsm connect --json` prints.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connected {
    pub(crate) session: String,
    #[serde(rename = "user")]
    _user: String,
    pub(crate) agent: String,
    pub(crate) host: String,
    pub(crate) display: u32,
    pub(crate) created: bool,
    pub(crate) socket: Option<String>,
    #[serde(rename = "attempts")]
    _attempts: u32,
    #[serde(rename = "screenshot")]
    _screenshot: Option<String>,
    #[serde(rename = "timings_ms")]
    _timings: serde_json::Value,
}

/// A line of `vsmctl session list` and `vsm list`: all its fields, and no other.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) session: String,
    pub(crate) user: String,
    pub(crate) agent: String,
    pub(crate) display: u32,
    pub(crate) state: String,
    pub(crate) created: Option<String>,
    pub(crate) viewer: Option<String>,
    pub(crate) connected_since: Option<String>,
    pub(crate) unreachable_since: Option<String>,
    pub(crate) start_command: String,
    pub(crate) possible_duplicate: bool,
    pub(crate) last_client: String,
    pub(crate) life: Option<serde_json::Value>,
}

/// A cluster with the product running in it.
#[derive(Debug)]
pub(crate) struct Service(pub Cluster);

impl Deref for Service {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Service {
    /// A service of two agents whose desktops are bare, as soon as the broker has both.
    pub(crate) fn up(name: &str) -> Self {
        Self::with(&spec(name))
    }

    pub(crate) fn with(spec: &ClusterSpec) -> Self {
        let service = Self(Cluster::up(spec).unwrap());
        for agent in AGENTS {
            service.sh(agent, BARE_SCRIPT);
        }
        service.agents_are("up", &AGENTS);
        service
    }

    /// The same on hosts as Debian makes them, with the packages, and so many users more.
    pub(crate) fn debian(name: &str, users: u16) -> Self {
        let service = Self(working_of(name, Brokers::Single, 2, users));
        for agent in AGENTS {
            service.sh(agent, BARE_SCRIPT);
        }
        // Where users are at another machine than the client.
        service.sh(BROKER, "dpkg --install /mnt/now/vsm-client_*.deb");
        know_hosts(&service);
        service.agents_are("up", &AGENTS);
        service
    }

    /// Runs a line of shell as root.
    pub(crate) fn sh(&self, host: &str, line: &str) -> String {
        self.output(host, "root", &["sh", "-c", line]).unwrap()
    }

    /// Runs a line of shell as root until it succeeds.
    pub(crate) fn until(&self, host: &str, line: &str) -> String {
        wait_for(line, WAIT, || {
            self.output(host, "root", &["sh", "-c", line]).map_err(|error| format!("{error:#}"))
        })
        .unwrap()
    }

    /// Waits until the broker sees these agents in this state.
    pub(crate) fn agents_are(&self, state: &str, agents: &[&str]) {
        wait_for(&format!("{agents:?} to be {state}"), WAIT, || {
            let words = ["vsmctl", "agent", "list", "--output", "json"];
            let list = self.output(BROKER, "root", &words).map_err(|error| format!("{error:#}"))?;
            let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
            let fits =
                |name: &&str| list.iter().any(|a| a["agent"] == **name && a["state"] == state);
            if agents.iter().all(fits) { Ok(()) } else { Err(format!("{list:?}")) }
        })
        .unwrap();
    }

    /// `vsm connect --no-viewer`, whatever comes of it.
    pub(crate) fn try_connect(&self, user: &str) -> Output {
        self.try_connect_with(user, &[])
    }

    /// The same with further options.
    pub(crate) fn try_connect_with(&self, user: &str, options: &[&str]) -> Output {
        let to = format!("{user}@tlha");
        // What is wrong is to be told at once.
        let words = ["vsm", "connect", "--retry-for=0", "--no-viewer", "--json", &to];
        self.exec("client", user, &[&words, options].concat()).unwrap()
    }

    /// A login with further options that must work.
    pub(crate) fn connect_with(&self, user: &str, options: &[&str]) -> Connected {
        let output = self.try_connect_with(user, options);
        connected(&output).unwrap_or_else(|why| panic!("{user} {options:?}: {why}"))
    }

    /// Lets a user log in from the hosts of the service as from the client: their homes are one.
    pub(crate) fn key_for(&self, user: &str) {
        for file in ["id_ed25519", "known_hosts", "config"] {
            let path = format!("/home/{user}/.ssh/{file}");
            let text = self.output("client", user, &["cat", &path]).unwrap();
            let put = format!("umask 077; cat > {path} <<'END'\n{text}\nEND\nchown {user} {path}");
            self.sh(BROKER, &put);
        }
    }

    /// A login that must work.
    pub(crate) fn connect(&self, user: &str) -> Connected {
        connected(&self.try_connect(user)).unwrap_or_else(|why| panic!("{user}: {why}"))
    }

    /// `vsm end`, which must work.
    pub(crate) fn end(&self, user: &str) {
        self.output("client", user, &["vsm", "end", &format!("{user}@tlha")]).unwrap();
    }

    /// A login that must be refused with this code and these words, in one line with a reference
    /// under which the broker's log has the user's name.
    pub(crate) fn refused(&self, user: &str, code: i32, words: &[&str]) -> String {
        let (line, reference) = refusal(&self.try_connect(user), code, words);
        let reference = reference.unwrap_or_else(|| panic!("no reference in {line:?}"));
        let log = self.daemon_log(BROKER, "vsmserver");
        let request = format!("request={reference}");
        let noted = log.lines().any(|line| line.contains(&request) && line.contains(user));
        assert!(noted, "the broker's log has no {request} of {user}:\n{log}");
        line
    }

    /// A login that must be refused and leave nothing behind on any agent that runs.
    pub(crate) fn refused_cleanly(&self, user: &str, code: i32, words: &[&str]) {
        let before: Vec<_> = AGENTS.iter().map(|agent| self.traces_at_rest(agent)).collect();
        let rows = self.rows();
        self.refused(user, code, words);
        assert_eq!(self.rows(), rows, "a refused login left a record in the table");
        for (agent, before) in AGENTS.iter().zip(before) {
            self.traces_become(agent, &before);
        }
    }

    /// All sessions as the administrator sees them.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let words = ["vsmctl", "session", "list", "--output", "json"];
        serde_json::from_str(&on(&self.0, BROKER, &words)).unwrap()
    }

    /// Waits until the table has what `fits` looks for, and returns it.
    pub(crate) fn rows_become(&self, what: &str, fits: impl Fn(&[Row]) -> bool) -> Vec<Row> {
        wait_for(what, WAIT, || {
            let words = ["vsmctl", "session", "list", "--output", "json"];
            let rows = self.output(BROKER, "root", &words).map_err(|error| format!("{error:#}"))?;
            let rows: Vec<Row> = serde_json::from_str(&rows).unwrap();
            if fits(&rows) { Ok(rows) } else { Err(format!("{rows:#?}")) }
        })
        .unwrap()
    }

    /// What there is of sessions on an agent; nothing where its power is off.
    pub(crate) fn traces(&self, agent: &str) -> BTreeSet<String> {
        let found = self.output(agent, "root", &["sh", "-c", TRACES]).unwrap_or_default();
        found.lines().map(str::to_owned).collect()
    }

    /// The same once each desktop's script has come to its last line: a login is answered when the script has begun.
    fn traces_at_rest(&self, agent: &str) -> BTreeSet<String> {
        wait_for(&format!("the desktops of {agent} to be at rest"), WAIT, || {
            let now = self.traces(agent);
            let ending = |tail: &str| now.iter().filter(|line| line.ends_with(tail)).count();
            let scripts = ending("/bin/sh /etc/vsm/xsession");
            // One that is about to turn into the script is neither.
            let launching = now.iter().any(|line| line.contains(" vsm-session launch "));
            let at_rest = !launching && scripts == ending("sleep 86400");
            if at_rest { Ok(now) } else { Err(format!("{now:#?}")) }
        })
        .unwrap()
    }

    /// Waits until an agent has exactly these traces.
    pub(crate) fn traces_become(&self, agent: &str, wanted: &BTreeSet<String>) {
        wait_for(&format!("{agent} to be clean"), WAIT, || {
            let now = self.traces(agent);
            if now == *wanted { Ok(()) } else { Err(format!("{now:#?} instead of {wanted:#?}")) }
        })
        .unwrap();
    }

    /// Waits until nothing of any session is left on an agent.
    pub(crate) fn clean(&self, agent: &str) {
        self.traces_become(agent, &BTreeSet::new());
    }

    /// The process ids on its host of a session's X server and of the monitor above it.
    pub(crate) fn processes(&self, at: &Connected) -> Processes {
        let id = &at.session;
        let record = format!("cat /var/lib/vsm-agent/sessions/{id}.json");
        let record: serde_json::Value = serde_json::from_str(&self.sh(&at.agent, &record)).unwrap();
        let pid = |part: &str| record[part]["pid"].as_i64().unwrap();
        Processes { monitor: pid("monitor"), x_server: pid("x_server") }
    }

    /// Waits until a process is gone, a zombie counting as gone.
    pub(crate) fn gone(&self, host: &str, pid: i64) {
        self.until(host, &format!("! ps -o stat= -p {pid} | grep -v Z"));
    }

    /// Changes parameters and has the daemon take them; returns when it has.
    pub(crate) fn configure(&self, host: &str, daemon: &str, assignments: &[&str]) {
        on(&self.0, host, &[&["vsm-config"], assignments].concat());
        let taken = if host == BROKER { "parameter changed" } else { "configuration read again" };
        self.reload(host, daemon, taken);
    }

    /// Sends SIGHUP and waits until the daemon has logged `words` once more.
    pub(crate) fn reload(&self, host: &str, daemon: &str, words: &str) {
        let count = || self.daemon_log(host, daemon).matches(words).count();
        let before = count();
        self.kill_daemon(host, daemon, SIGHUP).unwrap();
        wait_for(words, WAIT, || {
            if count() > before { Ok(()) } else { Err(self.daemon_log(host, daemon)) }
        })
        .unwrap();
    }

    /// Kills a daemon and returns once it runs again; a broker that it serves again is waited for.
    pub(crate) fn crash(&self, host: &str, daemon: &str) {
        let before = self.daemon(host, daemon).unwrap();
        self.kill_daemon(host, daemon, SIGKILL).unwrap();
        wait_for("the daemon to be started again", WAIT, || {
            let now = self.daemon(host, daemon).map_err(|error| format!("{error:#}"))?;
            if now.pid.is_some() && now.pid != before.pid {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            }
        })
        .unwrap();
    }

    /// A daemon that runs, and never stopped since it had this process id.
    pub(crate) fn undisturbed(&self, host: &str, daemon: &str, pid: Option<i32>) {
        assert!(pid.is_some());
        assert_eq!(self.daemon(host, daemon).unwrap().pid, pid, "{daemon} on {host} was disturbed");
    }
}

/// Lets users' ssh know these hosts and no other.
pub(crate) fn know_hosts(cluster: &Cluster) {
    let lines =
        "ssh-keyscan -t ed25519 tlha $(sed -n 's/^10.* //p' /etc/hosts) 2>/dev/null > /root/known
        for home in /home/*; do
            cp /root/known $home/.ssh/known_hosts
            sed -i s/accept-new/yes/ $home/.ssh/config
            chown $(basename $home) $home/.ssh/known_hosts
        done";
    cluster.output("client", "root", &["sh", "-c", lines]).unwrap();
}

/// What a session consists of that its agent keeps an eye on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Processes {
    pub(crate) monitor: i64,
    pub(crate) x_server: i64,
}

/// Reads what `vsm connect --json` printed.
pub(crate) fn connected(output: &Output) -> Result<Connected, String> {
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {words}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).map_err(|error| format!("{error}: {text:?}"))
}

/// The one line of a refusal and the reference in it.
pub(crate) fn refusal(output: &Output, code: i32, words: &[&str]) -> (String, Option<String>) {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "data in spite of the refusal");
    let lines: Vec<_> = stderr.lines().collect();
    let [line] = lines[..] else { panic!("not one line: {stderr:?}") };
    assert!(line.starts_with("vsm: "), "{line}");
    for word in words {
        assert!(line.contains(word), "no {word:?} in {line:?}");
    }
    let reference =
        line.rsplit_once("(ref ").map(|(_, rest)| rest.trim_end_matches(')').to_owned());
    (line.to_owned(), reference)
}
