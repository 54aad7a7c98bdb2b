//! The contract of `vsm-config`, on the real program: what it prints, what it writes, and its exit codes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

struct Site {
    dir: tempfile::TempDir,
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Site {
    fn new(files: &[(&str, &str)]) -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(site.conf()).unwrap();
        for (name, text) in files {
            site.write(name, text);
        }
        site
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("conf.d")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.conf().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.conf().join(name)).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(&self.conf(), arguments)
    }

    /// Runs a call that must succeed and gives its output.
    fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments:?}");
        ran.out
    }

    /// Runs a call that must fail, with nothing on standard output and no file touched.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let before = self.snapshot();
        let ran = self.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{arguments:?}: {}", ran.err);
        assert!(!ran.err.is_empty());
        assert_eq!(self.snapshot(), before, "{arguments:?}");
        ran.err
    }

    fn snapshot(&self) -> Vec<(PathBuf, String)> {
        let mut files: Vec<_> = fs::read_dir(self.conf())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.ends_with(".vsm-config.lock"))
            .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
            .collect();
        files.sort();
        files
    }
}

fn run(dir: &Path, arguments: &[&str]) -> Ran {
    let Output { status, stdout, stderr } = command(dir).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vsm-config"));
    command.arg("--config").arg(dir).stdin(Stdio::null());
    command
}

#[test]
fn the_lines_of_the_guide_work_as_written() {
    let site = Site::new(&[]);
    for line in [
        "/vsmagent/allowed_clients=tlha-primary tlha-secondary",
        "/vsmagent/master_hostname=tlha",
        "/vsmserver/HA/enabled=1",
        "/vsmserver/HA/nodes=tlha-primary tlha-secondary",
    ] {
        assert_eq!(site.ok(&[line]), "");
        let (path, value) = line.split_once('=').unwrap();
        assert_eq!(site.ok(&[path]), format!("{value}\n"));
    }
    assert!(site.read("vsmagent.yaml").starts_with("# "));
    assert!(site.read("vsmserver.yaml").contains("    nodes: [tlha-primary, tlha-secondary]\n"));
    let mode = fs::metadata(site.conf().join("vsmagent.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
}

#[test]
fn values_and_defaults_are_printed_and_nothing_more() {
    let site = Site::new(&[(
        "a.yaml",
        "vsmagent:\n  allowed_clients:\n  - a\n  - b\nHA: {enabled: yes}\n",
    )]);
    assert_eq!(site.ok(&["/vsmagent/allowed_clients/"]), "a b\n");
    assert_eq!(site.ok(&["/vsmserver/listen_port", "/HA/enabled"]), "9000\nyes\n");
    assert_eq!(site.ok(&["/vsmserver/HA/nodes"]), "\n");
    let error = site.fails(1, &["/vsmserver/listenport"]);
    assert_eq!(
        error,
        "vsm-config: /vsmserver/listenport: no such parameter; did you mean /vsmserver/listen_port?\n"
    );
    assert!(site.fails(1, &["/vsmserver/HA"]).contains("is a folder"));
    assert!(site.fails(1, &["/profiles/none/name"]).contains("not set"));
    assert!(site.fails(2, &["vsmserver"]).contains("begin with a slash"));
    site.fails(2, &[]);
    site.fails(2, &["--no-such-option"]);
}

#[test]
fn several_assignments_are_made_all_or_none_across_files() {
    let site = Site::new(&[
        ("10-agent.yaml", "# agent\nvsmagent:\n  display_min: 20 # low\n"),
        ("20-server.yaml", "vsmserver:\n  max_sessions_per_user: 1\n"),
    ]);
    let error =
        site.fails(2, &["/vsmagent/display_min=30", "/vsmserver/max_sessions_per_user=many"]);
    assert!(
        error.contains("/vsmserver/max_sessions_per_user") && error.contains("from 0 to 10000"),
        "{error}"
    );
    site.fails(1, &["/vsmagent/display_min=30", "/vsmagent/nonsense=1"]);
    site.fails(1, &["/vsmagent/display_min=30", "/vsmagent/nonsense"]);
    site.fails(2, &["/vsmagent/display_min=30", "/vsmagent/display_min=31"]);
    // Each value is fine, together they are not.
    let error = site.fails(2, &["/vsmagent/display_min=30", "/vsmagent/display_max=25"]);
    assert!(error.contains("display_min (30) must be below display_max (25)"), "{error}");

    site.ok(&[
        "/vsmagent/display_min=30",
        "/vsmserver/max_sessions_per_user=2",
        "/tls/ca_file=/x.pem",
    ]);
    assert_eq!(site.read("10-agent.yaml"), "# agent\nvsmagent:\n  display_min: 30 # low\n");
    assert_eq!(site.read("20-server.yaml"), "vsmserver:\n  max_sessions_per_user: 2\n");
    assert_eq!(site.ok(&["/tls/ca_file"]), "/x.pem\n");
    assert!(site.read("tls.yaml").ends_with("tls:\n  ca_file: /x.pem\n"));
}

#[test]
fn the_file_that_wins_is_changed_and_its_mode_stays() {
    let site = Site::new(&[
        ("a.yaml", "vsm: {vsm_agent_port: 1}\n"),
        ("b.yaml", "vsm:\n  vsm_agent_port: 2\n"),
    ]);
    fs::set_permissions(site.conf().join("b.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    site.ok(&["/vsm/vsm_agent_port=3"]);
    assert_eq!(site.read("a.yaml"), "vsm: {vsm_agent_port: 1}\n");
    assert_eq!(site.read("b.yaml"), "vsm:\n  vsm_agent_port: 3\n");
    let mode = fs::metadata(site.conf().join("b.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn aliases_are_accepted_on_the_command_line_and_in_files() {
    let site =
        Site::new(&[("cluster.yaml", "HA:\n  enabled: 0\nagents:\n  weights:\n    a1: 50\n")]);
    site.ok(&["/HA/nodes=a b", "/agents/weights/a1=60", "/subclusters/lab/agents=a1 a2"]);
    assert_eq!(site.read("cluster.yaml"), "HA:\n  enabled: 0\nagents:\n  weights:\n    a1: 60\n");
    assert!(site.read("vsmserver.yaml").contains("vsmserver:\n  HA:\n    nodes: [a, b]\n"));
    assert_eq!(site.ok(&["/vsmserver/HA/nodes"]), "a b\n");
    assert_eq!(site.ok(&["/vsmserver/subclusters/lab/agents"]), "a1 a2\n");
}

#[test]
fn what_cannot_be_edited_safely_is_refused_with_file_and_line() {
    let site = Site::new(&[("a.yaml", "# x\nvsm: {vsm_agent_port: 1}\n")]);
    let error = site.fails(3, &["/tls/ca_file=/x", "/vsm/vsm_agent_port=2"]);
    assert!(error.contains("a.yaml:2: /vsm is written in a way"), "{error}");
    let site = Site::new(&[(
        "profiles.yaml",
        "profiles:\n  introduction: |\n    two\n    lines\n  greeting: &g hi\n",
    )]);
    assert!(site.fails(3, &["/profiles/introduction=one"]).contains("profiles.yaml:2: "));
    assert!(site.fails(3, &["/profiles/greeting=one"]).contains("profiles.yaml:5: "));
    let site = Site::new(&[("vsm.yaml", "# x\n{vsm: {vsm_agent_port: 1}}\n")]);
    assert!(site.fails(3, &["/vsm/vsm_agent_port=2"]).contains("vsm.yaml:1: "));
}

#[test]
fn a_directory_that_cannot_be_written_is_exit_code_3() {
    // Nobody, not even root, makes files in /proc.
    let ran = run(Path::new("/proc"), &["/vsm/vsm_agent_port=1"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(ran.err.starts_with("vsm-config: /proc: "), "{}", ran.err);
    let ran = run(Path::new("/no/such/dir"), &["/vsm/vsm_agent_port"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("/no/such/dir"), "{}", ran.err);
}

#[test]
fn folders_are_listed() {
    let site = Site::new(&[(
        "a.yaml",
        "vsmserver:\n  subclusters:\n    lab: {agents: [a1], users: [bob]}\n",
    )]);
    let listed = site.ok(&["-a", "/vsmserver"]);
    assert!(
        listed.contains("listen_port = 9000\n")
            && listed.contains("\nHA/\n")
            && listed.contains("subclusters/\n")
    );
    assert!(!listed.contains("nodes"));
    let listed = site.ok(&["--all-entries", "/vsmserver/subclusters/lab/"]);
    assert_eq!(
        listed,
        "agents = a1\ngroups = \nmax_users_per_agent = 0\nsession_cpu_max = 0\n\
         session_memory_max = 0\nsession_pids_max = 0\nusers = bob\n"
    );
    let all = site.ok(&["-Ra", "/"]);
    assert!(
        all.contains("/vsmserver/subclusters/lab/users = bob\n") && all.contains("/tls/ca_file = ")
    );
    assert!(all.lines().all(|line| line.starts_with('/') && line.contains(" = ")));
    assert!(site.fails(1, &["-a", "/nowhere"]).contains("no such parameter"));
    assert!(site.fails(1, &["-a", "/vsmserver/listen_port"]).contains("not a folder"));
    site.fails(2, &["-R"]);
}

#[test]
fn shell_assignments_survive_any_value() {
    let site = Site::new(&[]);
    let nasty = "it's $(touch x) `y` \"z\" \\ ;\nend";
    site.ok(&[&format!("/profiles/greeting={nasty}")]);
    let line = site.ok(&["-e", "G=/profiles/greeting"]);
    let script = format!("{line}printf %s \"$G\"");
    let shell = Command::new("sh").arg("-c").arg(script).output().unwrap();
    assert_eq!(String::from_utf8(shell.stdout).unwrap(), nasty);

    assert_eq!(site.ok(&["-x", "-e", "P=/vsm/vsm_agent_port"]), "export P='904'\n");
    assert_eq!(site.ok(&["-E", "/vsm"]), "vsm_agent_port='904'\nvsm_server_port='9000'\n");
    assert!(site.ok(&["-xE", "/vsm"]).starts_with("export vsm_agent_port="));
    site.fails(2, &["-e", "1BAD=/vsm/vsm_agent_port"]);
    site.fails(2, &["-e", "A;B=/vsm/vsm_agent_port"]);
    site.fails(2, &["-e", "NOPATH"]);
    site.fails(1, &["-e", "A=/vsm/nothing"]);
    site.fails(2, &["-x", "/vsm/vsm_agent_port"]);
}

#[test]
fn an_hconf_tree_is_imported_once() {
    let site = Site::new(&[("vsmagent.yaml", "vsmagent:\n  display_min: 5 # ours\n")]);
    let old = site.dir.path().join("old");
    fs::create_dir_all(old.join("conf.d")).unwrap();
    fs::write(old.join("thinlinc.hconf"), "# top\n[/]\n%mount conf.d/*.hconf\n").unwrap();
    let server = "[/vsmserver]\nallowed_groups=staff\nterminalservers = t1 t2\nram_per_user=100\n[/vsmserver/HA]\nenabled=0\nnodes=\n";
    fs::write(old.join("conf.d/vsmserver.hconf"), server).unwrap();
    let agent = "[/vsmagent]\ndisplay_min=10\ndisplay_max=none\nmake_homedir_mode=0700\ndefault_geometry=1024 768\n[/webaccess]\ncert=/x\n";
    fs::write(old.join("conf.d/vsmagent.hconf"), agent).unwrap();

    let root = old.join("thinlinc.hconf");
    let report = site.ok(&["-i", root.to_str().unwrap()]);
    for line in [
        "taken    /vsmagent/display_min = 10 (",
        "changed  /vsmserver/terminalservers = t1 t2 -> /vsmserver/subclusters/Default/agents = t1 t2: ",
        "ignored  /vsmserver/ram_per_user = 100: ",
        "ignored  /vsmagent/display_max = none: ",
        "ignored  /webaccess/cert = /x: ",
        "vsmagent.hconf:2)",
    ] {
        assert!(report.contains(line), "{line} not in\n{report}");
    }
    assert_eq!(site.read("vsmagent.yaml").lines().nth(1), Some("  display_min: 10 # ours"));
    assert_eq!(
        site.ok(&["/vsmserver/subclusters/Default/agents", "/vsmagent/make_homedir_mode"]),
        "t1 t2\n0700\n"
    );
    site.ok(&["check"]);

    let before = site.snapshot();
    let again = site.ok(&["--import", root.to_str().unwrap()]);
    assert_eq!(site.snapshot(), before);
    assert!(again.contains("\n0 taken, 0 changed, "), "{again}");
    assert!(site.fails(2, &["-i", "/no/such.hconf"]).contains("/no/such.hconf"));
}

#[test]
fn an_import_that_is_refused_tells_what_it_ignored_before() {
    let site = Site::new(&[]);
    let old = site.dir.path().join("old.hconf");
    let text = "[/vsmserver/subclusters/a]\nagents=x\n[/vsmserver/subclusters/b]\nagents=y\nno_such_key=staff\n";
    fs::write(&old, text).unwrap();
    let before = site.snapshot();
    let said = site.fails(2, &["--import", old.to_str().unwrap()]);
    assert_eq!(site.snapshot(), before);
    for words in [
        "ignored  /vsmserver/subclusters/b/no_such_key = staff: ",
        "both have neither",
        "nothing was taken",
    ] {
        assert!(said.contains(words), "{words} not in\n{said}");
    }
}

#[test]
fn purge_drops_what_other_files_set_too() {
    let local = "# local\nvsmagent:\n  display_min: 5 # why\n  display_max: 50\nvsm:\n  vsm_agent_port: 1\n";
    let site = Site::new(&[
        ("a.yaml", "vsmagent: {display_min: 7}\nvsm: {vsm_agent_port: 1}\n"),
        ("local.yaml", local),
    ]);
    let file = site.conf().join("local.yaml");
    let report = site.ok(&["-p", file.to_str().unwrap()]);
    assert!(report.contains("dropped  /vsmagent/display_min = 5 (elsewhere: 7)\n"), "{report}");
    assert!(report.contains("dropped  /vsm/vsm_agent_port = 1\n"), "{report}");
    assert_eq!(site.read("local.yaml"), "# local\nvsmagent:\n  # why\n  display_max: 50\n");
    assert_eq!(site.ok(&["/vsmagent/display_min"]), "7\n");
    assert_eq!(site.ok(&["-p", file.to_str().unwrap()]), "");
    site.fails(2, &["-p", "/no/such/file.yaml"]);
}

#[test]
fn check_reports_every_problem_and_the_notes() {
    let site = Site::new(&[
        ("a.yaml", "vsm: {vsm_agent_port: 904}\n"),
        ("b.yaml", "vsm: {vsm_agent_port: 904}\n"),
    ]);
    assert!(site.ok(&["check"]).contains("b.yaml:1 wins over "));
    site.write("c.yaml", "vsmserver:\n  listen_port: x\n  nonsense: 1\n  listen_port: 2\n");
    let error = site.fails(2, &["check"]);
    assert_eq!(error.lines().count(), 3, "{error}");
    assert!(
        error.contains("c.yaml:4: /vsmserver/listen_port: given twice in this file: lines 2 and 4"),
        "{error}"
    );
    assert!(site.fails(2, &["/vsm/vsm_agent_port"]).contains("c.yaml"));

    let site = Site::new(&[("a.yaml", "HA: {enabled: 1}\nsubclusters: {d: {agents: a1}}\n")]);
    assert!(site.fails(2, &["check"]).contains("exactly two different nodes"));
}

#[test]
fn a_broken_configuration_can_be_repaired_step_by_step() {
    let site = Site::new(&[("a.yaml", "vsmserver:\n  listen_port: x\n  start_timeout: never\n")]);
    site.ok(&["/vsmserver/listen_port=9000"]);
    site.ok(&["/vsmserver/start_timeout=30s"]);
    assert_eq!(site.ok(&["check"]), "");
    let site = Site::new(&[("vsm.yaml", "vsm: [\n")]);
    assert!(site.fails(2, &["/vsm/vsm_agent_port=1"]).contains("vsm.yaml"));
}

#[test]
fn doc_help_and_version_read_well() {
    let site = Site::new(&[]);
    let text = site.ok(&["doc", "/vsmserver/HA/ack_timeout"]);
    for part in [
        "/vsmserver/HA/ack_timeout\n",
        "default: 500ms",
        "10ms to 60000ms",
        "takes effect: at reload",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(site.ok(&["doc", "/tls", "/vsm"]).contains("/vsm/vsm_agent_port"));
    site.fails(1, &["doc", "/nowhere"]);
    site.fails(2, &["doc"]);
    site.fails(2, &["-a", "/vsm", "check"]);
    assert!(site.ok(&["--version"]).starts_with("vsm-config "));
    let help = site.ok(&["--help"]);
    assert!(help.contains("Examples:") && help.contains("Exit codes:"));
}

#[test]
fn two_writers_lose_nothing() {
    let site = Site::new(&[]);
    let children: Vec<_> = (0..8)
        .map(|i| {
            command(&site.conf())
                .arg(format!("/vsmserver/agents/weights/a{i}={}", i + 1))
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    for i in 0..8 {
        assert_eq!(site.ok(&[&format!("/vsmserver/agents/weights/a{i}")]), format!("{}\n", i + 1));
    }
    let left: Vec<_> = fs::read_dir(site.conf()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}
