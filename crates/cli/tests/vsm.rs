//! `vsm` on its way to the broker, with a program in ssh's place: what is tried again, and how ssh is called.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

/// A directory with a script that is called as ssh is, and notes each call.
struct Ssh {
    dir: tempfile::TempDir,
}

struct Ran {
    code: i32,
    err: String,
    calls: Vec<String>,
}

impl Ssh {
    /// `body` is shell; `$call` is the number of the call, from 1.
    fn new(body: &str) -> Self {
        let ssh = Self { dir: tempfile::tempdir().unwrap() };
        let calls = ssh.calls();
        let calls = calls.display();
        let script =
            format!("#!/bin/sh\necho \"$*\" >> {calls}\ncall=$(wc -l < {calls})\n{body}\n");
        fs::write(ssh.program(), script).unwrap();
        fs::set_permissions(ssh.program(), fs::Permissions::from_mode(0o755)).unwrap();
        ssh
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("ssh")
    }

    fn calls(&self) -> PathBuf {
        self.dir.path().join("calls")
    }

    fn vsm(&self, arguments: &[&str]) -> Ran {
        let out = Command::new(env!("CARGO_BIN_EXE_vsm"))
            .args(arguments)
            .arg("--ssh")
            .arg(self.program())
            .output()
            .unwrap();
        let calls = fs::read_to_string(self.calls()).unwrap_or_default();
        Ran {
            code: out.status.code().unwrap(),
            err: String::from_utf8(out.stderr).unwrap(),
            calls: calls.lines().map(str::to_owned).collect(),
        }
    }
}

#[test]
fn a_broker_that_is_away_is_asked_again_and_its_answer_counts() {
    let body = "if [ $call -lt 3 ]; then\n\
                echo 'ssh: connect to host tlha port 22: Connection refused' >&2; exit 255; fi\n\
                echo 'error refused not yours'";
    let ran = Ssh::new(body).vsm(&["list", "alice@tlha"]);
    assert_eq!((ran.code, ran.calls.len()), (77, 3), "{}", ran.err);
    assert_eq!(ran.err, "vsm: tlha: not yours\n", "nothing but the error where nobody watches");
}

#[test]
fn ssh_to_the_broker_notices_soon_that_it_is_gone_and_the_users_options_go_first() {
    let ran = Ssh::new("echo 'error internal x'").vsm(&["list", "tlha", "-o", "ConnectTimeout=60"]);
    let call = &ran.calls[0];
    let own = call.find("ConnectTimeout=10 ").unwrap();
    assert!(call.find("ConnectTimeout=60").unwrap() < own, "ssh takes the first: {call}");
    for option in ["ServerAliveInterval=1", "ServerAliveCountMax=57", "-s -- tlha vsm"] {
        assert!(call.contains(option), "{option}: {call}");
    }
}

/// The way to the broker is tried again; the question, which a user may have to answer, is not.
#[test]
fn a_broker_that_is_away_is_asked_again_before_somebody_is_shadowed() {
    let body = "if [ $call -lt 3 ]; then\n\
                echo 'ssh: connect to host tlha port 22: Connection refused' >&2; exit 255; fi\n\
                echo 'error refused not yours'";
    let arguments = ["shadow", "--screenshot", "/dev/null", "tlha", "alice"];
    let ran = Ssh::new(body).vsm(&arguments);
    assert_eq!((ran.code, ran.calls.len()), (77, 3), "{}", ran.err);
}

#[test]
fn a_daemon_that_is_just_gone_is_waited_for() {
    let body = "if [ $call -lt 2 ]; then echo 'error no-broker nobody listens'; exit 1; fi\n\
                echo 'error internal it is back'";
    let ran = Ssh::new(body).vsm(&["end", "tlha"]);
    assert_eq!((ran.code, ran.calls.len()), (70, 2), "{}", ran.err);
}

#[test]
fn a_refused_log_in_is_final_and_shown_as_ssh_says_it() {
    let body = "echo 'alice@tlha: Permission denied (publickey).' >&2; exit 255";
    let ran = Ssh::new(body).vsm(&["disconnect", "tlha"]);
    assert_eq!((ran.code, ran.calls.len()), (255, 1));
    assert_eq!(ran.err, "alice@tlha: Permission denied (publickey).\nvsm: ssh to tlha failed\n");
}

#[test]
fn patience_has_an_end_and_can_be_none() {
    let body = "echo 'ssh: connect to host tlha port 22: No route to host' >&2; exit 255";
    let ran = Ssh::new(body).vsm(&["list", "tlha", "--retry-for", "0"]);
    assert_eq!((ran.code, ran.calls.len()), (255, 1));
    let why = "vsm: ssh to tlha failed: ssh: connect to host tlha port 22: No route to host\n";
    assert_eq!(ran.err, why);
    let ran = Ssh::new(body).vsm(&["list", "tlha", "--retry-for", "1"]);
    assert_eq!((ran.code, ran.err.as_str()), (255, why));
    assert!(ran.calls.len() > 2, "{}", ran.calls.len());
}
