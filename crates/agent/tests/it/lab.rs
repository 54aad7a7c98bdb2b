//! A host in miniature: own mounts (`/etc` with users of its own, `/tmp`), own processes, a certificate authority, and
//! a broker's end of the connection. Ending the lab ends every process in it.

use std::{
    fs,
    io::{BufRead, BufReader, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::TcpStream,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use vsm_proto::{agent::v1::agent_client::AgentClient, sync::v1::witness_client::WitnessClient};

pub(crate) const LINEAGE: &str = "01890a5d-ac96-774b-bcce-000000000001";
/// Users: name, uid. `carol`'s home belongs to root, `dave`'s account has expired, `erin` has no home.
const USERS: [(&str, u32); 5] =
    [("alice", 51001), ("bob", 51002), ("carol", 51003), ("dave", 51004), ("erin", 51005)];

/// Waits until `check` gives something; tells what was last seen if it never does.
pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, uri: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

pub(crate) struct Lab {
    base: tempfile::TempDir,
    authority: Authority,
    init: Child,
    init_pid: i32,
    agent: Option<Child>,
    /// What brokers speak to.
    net: Option<Child>,
    port: u16,
}

/// Connects to a port in the network of a process.
fn dial(pid: i32, port: u16) -> std::io::Result<TcpStream> {
    // A thread of its own, as it does not come back from there.
    let dial = move || {
        let network = fs::File::open(format!("/proc/{pid}/ns/net"))?;
        nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET)?;
        TcpStream::connect(("127.0.0.1", port))
    };
    std::thread::spawn(dial).join().unwrap()
}

pub(crate) fn children(pid: u32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

const SETUP: &str = r#"set -e
ip link set lo up
mount -t tmpfs tmpfs "$BASE/overlay"
mkdir "$BASE/overlay/upper" "$BASE/overlay/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$BASE/overlay/upper,workdir=$BASE/overlay/work" /etc
mkdir "$BASE/bin"
mount --bind "$PROGRAMS" "$BASE/bin"
mount -t tmpfs tmpfs /tmp
chmod 1777 /tmp
cat "$BASE/passwd" >> /etc/passwd
cat "$BASE/group" >> /etc/group
cat "$BASE/shadow" >> /etc/shadow
cp "$BASE/pam" /etc/pam.d/vsm
touch "$BASE/up"
while :; do sleep 1000 & wait; done
"#;

const PAM: &str = "auth required pam_permit.so\naccount required pam_unix.so\nsession required pam_limits.so\nsession \
                   required pam_unix.so\n";

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// A lab with further lines under `vsmagent:`.
    pub(crate) fn with(settings: &[&str]) -> Self {
        Self::build(settings, "")
    }

    /// A lab on a host without cgroup v2.
    pub(crate) fn without_cgroup() -> Self {
        Self::build(&[], "umount -l -a -t cgroup2\n")
    }

    fn build(settings: &[&str], first: &str) -> Self {
        let base = tempfile::Builder::new().prefix("vsm-it-").tempdir_in("/var/tmp").unwrap();
        let authority = Authority::new();
        let port = 904;
        write_files(base.path(), &authority, port, settings);
        let init = Command::new("unshare")
            .args([
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child=KILL",
                "sh",
                "-c",
                &format!("{first}{SETUP}"),
            ])
            .env("BASE", base.path())
            // Bound to where they are seen even if they were built below /tmp, which is hidden.
            .env("PROGRAMS", Path::new(env!("CARGO_BIN_EXE_vsmagent")).parent().unwrap())
            .stderr(fs::File::create(base.path().join("setup.log")).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the lab's mounts", || base.path().join("up").exists().then_some(()));
        let init_pid = *children(init.id()).first().unwrap();
        let mut lab = Self { base, authority, init, init_pid, agent: None, net: None, port };
        lab.start_agent();
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// A command inside.
    pub(crate) fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--net", "--pid", "--target", &self.init_pid.to_string(), "--"])
            .arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// A script inside, as a user.
    pub(crate) fn as_user(&self, uid: u32, script: &str) -> Command {
        let mut command = self.inside("setpriv");
        command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups"]);
        command.args(["--", "sh", "-c", script]);
        command
    }

    pub(crate) fn start_agent(&mut self) {
        self.start_agent_by("exec \"$@\"");
    }

    /// By a script that runs it as its arguments.
    pub(crate) fn start_agent_by(&mut self, script: &str) {
        let heard = || fs::read_to_string(self.path("net.log")).unwrap_or_default();
        let before = heard().matches("vsmagent is here").count();
        let agent = self.spawn_agent(script);
        // It may be there still, where vsmagent was killed.
        let ended = |net: &mut Child| net.try_wait().unwrap().is_some();
        if self.net.as_mut().is_none_or(ended) {
            self.net = Some(self.spawn_net());
        }
        self.agent = Some(agent);
        let heard = || fs::read_to_string(self.path("net.log")).unwrap_or_default();
        wait_for("vsm-agent-net to hear of vsmagent", || {
            (heard().matches("vsmagent is here").count() > before).then_some(())
        });
        wait_for("the agent's port", || dial(self.init_pid, self.port).ok());
    }

    /// Without what speaks with brokers.
    pub(crate) fn start_agent_alone(&mut self) {
        self.agent = Some(self.spawn_agent("exec \"$@\""));
    }

    fn spawn_agent(&self, script: &str) -> Child {
        let log = self.open_log("vsmagent.log");
        let mut command = self.inside("sh");
        command
            .args(["-c", script, "sh"])
            .arg(self.path("bin/vsmagent"))
            .arg("--config")
            .arg(self.path("conf.d"));
        command.env("VSM_SESSION_PROGRAM", self.path("bin/vsm-session")).env("VSM_LOG", "debug");
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    fn open_log(&self, name: &str) -> fs::File {
        fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap()
    }

    fn spawn_net(&self) -> Child {
        let log = self.open_log("net.log");
        let mut command = self.inside(self.path("bin/vsm-agent-net"));
        command.arg("--config").arg(self.path("conf.d")).env("VSM_LOG", "debug");
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// Starts it again after it was killed.
    pub(crate) fn start_net(&mut self) {
        self.net = Some(self.spawn_net());
        wait_for("the agent's port", || dial(self.init_pid, self.port).ok());
    }

    /// The pid of `vsm-agent-net` as seen from outside.
    pub(crate) fn net_pid(&self) -> i32 {
        children(self.net.as_ref().unwrap().id())[0]
    }

    pub(crate) fn kill_net(&mut self) {
        kill(self.net_pid(), "KILL");
        self.net.take().unwrap().wait().unwrap();
    }

    /// The pid of `vsmagent` as seen from outside.
    pub(crate) fn agent_pid(&self) -> i32 {
        children(self.agent.as_ref().unwrap().id())[0]
    }

    /// After it was stopped by SIGSTOP, and with it the program that entered the lab.
    pub(crate) fn resume_agent(&self) {
        let outside = i32::try_from(self.agent.as_ref().unwrap().id()).unwrap();
        for pid in [self.agent_pid(), outside] {
            kill(pid, "CONT");
        }
    }

    pub(crate) fn stop_agent(&mut self, signal: &str) {
        kill(self.agent_pid(), signal);
        self.agent.take().unwrap().wait().unwrap();
        // At a stop in good order vsm-agent-net ends with it. The next start must not take it for one that goes on.
        if signal == "TERM" {
            let mut net = self.net.take().unwrap();
            wait_for("the end of vsm-agent-net", || net.try_wait().unwrap());
        }
    }

    pub(crate) fn log(&self) -> String {
        let logs = ["vsmagent.log", "net.log"].map(|name| fs::read_to_string(self.path(name)));
        logs.map(Result::unwrap_or_default).concat()
    }

    pub(crate) async fn broker(&self) -> AgentClient<Channel> {
        self.client("vsm://broker/b1").await
    }

    pub(crate) async fn client(&self, uri: &str) -> AgentClient<Channel> {
        AgentClient::new(self.channel(uri).await)
    }

    /// A broker's line to the witness that the agent is.
    pub(crate) async fn witness(&self, uri: &str) -> WitnessClient<Channel> {
        WitnessClient::new(self.channel(uri).await)
    }

    pub(crate) async fn channel(&self, uri: &str) -> Channel {
        let (cert, key) = self.authority.issue(uri);
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority.pem))
            .identity(Identity::from_pem(cert, key))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{}", self.port)).unwrap();
        let (inside, port) = (self.init_pid, self.port);
        let connector = tower::service_fn(move |_| async move {
            let stream = dial(inside, port)?;
            stream.set_nonblocking(true)?;
            std::io::Result::Ok(TokioIo::new(tokio::net::TcpStream::from_std(stream)?))
        });
        endpoint.tls_config(tls).unwrap().connect_with_connector(connector).await.unwrap()
    }

    /// The record of a session.
    pub(crate) fn record(&self, id: &str) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.record_path(id)).unwrap()).unwrap()
    }

    pub(crate) fn record_path(&self, id: &str) -> PathBuf {
        self.path("state/sessions").join(format!("{id}.json"))
    }

    /// The outside pid of a process of the record, `monitor` or `x_server`.
    pub(crate) fn pid_of(&self, id: &str, which: &str) -> i32 {
        let inside = self.record(id)[which]["pid"].as_i64().unwrap();
        let own = fs::read_link(format!("/proc/{}/ns/pid", self.init_pid)).unwrap();
        all_pids()
            .find(|pid| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let last = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
                last.and_then(|line| line.split_whitespace().last()?.parse().ok()) == Some(inside)
                    && fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|ns| ns == own)
            })
            .unwrap_or_else(|| panic!("no process {inside} inside"))
    }

    /// Processes that name the session, from outside.
    pub(crate) fn processes(&self, id: &str) -> Vec<String> {
        let entry = format!("VSM_SESSION_ID={id}");
        all_pids()
            .filter(|pid| {
                let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environ.split(|byte| *byte == 0).any(|found| found == entry.as_bytes())
            })
            .map(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm"))
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            })
            .collect()
    }

    /// Nothing is left of a session: no process, no folder, no X marks, no live record.
    pub(crate) fn assert_gone(&self, id: &str, display: u32) {
        wait_for("the end of all processes", || self.processes(id).is_empty().then_some(()));
        wait_for("the folder to go", || {
            (!self.path("run/sessions").join(id).exists()).then_some(())
        });
        wait_for("the record to go", || (!self.record_path(id).exists()).then_some(()));
        let marks = format!("ls -d /tmp/.X{display}-lock /tmp/.X11-unix/X{display}");
        assert!(
            !self
                .inside("sh")
                .args(["-c", &marks])
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
        );
    }

    pub(crate) fn attach(&self, id: &str, address: &str) -> Result<Viewer, String> {
        Viewer::attach(&self.path("run/sessions").join(id).join("control.sock"), address)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- vsmagent's log\n{}", self.log());
            for log in fs::read_dir(self.path("state/log")).into_iter().flatten().flatten() {
                eprintln!(
                    "--- {:?}\n{}",
                    log.path(),
                    fs::read_to_string(log.path()).unwrap_or_default()
                );
            }
        }
        // The first process inside: the kernel ends all others with it.
        kill(self.init_pid, "KILL");
        self.init.wait().unwrap();
        // The kernel keeps a cgroup until it is removed, also an empty one.
        for record in fs::read_dir(self.path("state/sessions")).into_iter().flatten().flatten() {
            let text = fs::read(record.path()).unwrap_or_default();
            let record: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            if let Some(cgroup) = record["cgroup"].as_str() {
                let _ = fs::remove_dir(cgroup);
            }
        }
        for mut daemon in self.agent.take().into_iter().chain(self.net.take()) {
            daemon.wait().unwrap();
        }
    }
}

fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

pub(crate) fn kill(pid: i32, signal: &str) {
    let signal = format!("SIG{signal}").parse::<nix::sys::signal::Signal>().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

fn write_files(base: &Path, authority: &Authority, port: u16, settings: &[&str]) {
    let write = |name: &str, text: &str| {
        let path = base.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    // Users pass through.
    Command::new("chmod").arg("755").arg(base).status().unwrap();
    fs::create_dir(base.join("overlay")).unwrap();
    let (cert, key) = authority.issue("vsm://agent/agent1");
    write("tls/ca.pem", &authority.pem);
    write("tls/cert.pem", &cert);
    write("tls/key.pem", &key);
    fs::set_permissions(base.join("tls/key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let dir = base.display();
    let mut conf = format!(
        "tls:\n  ca_file: {dir}/tls/ca.pem\n  cert_file: {dir}/tls/cert.pem\n  key_file: {dir}/tls/key.pem\nvsm:\n  \
         vsm_agent_port: {port}\nvsmagent:\n  listen_port: {port}\n  agent_hostname: agent1.example\n  \
         allowed_clients: b1\n  master_hostname: localhost\n  state_dir: {dir}/state\n  run_dir: {dir}/run\n"
    );
    for default in ["make_homedir: false", "session_script: BASE/xsession"] {
        let name = default.split(' ').next().unwrap();
        if !settings.iter().any(|line| line.starts_with(name)) {
            conf.push_str(&format!("  {}\n", default.replace("BASE", &dir.to_string())));
        }
    }
    for line in settings {
        conf.push_str(&format!("  {}\n", line.replace("BASE", &dir.to_string())));
    }
    write("conf.d/agent.yaml", &conf);
    write(
        "xsession",
        "#!/bin/sh\nenv > \"$XDG_RUNTIME_DIR/env\"\nsetsid sleep 1000 &\nexec sleep 1000\n",
    );
    write("failing", "#!/bin/sh\necho this cannot work >&2\nexit 3\n");
    write("quick", "#!/bin/sh\nexit 0\n");
    for script in ["xsession", "failing", "quick"] {
        Command::new("chmod").arg("755").arg(base.join(script)).status().unwrap();
    }
    write("pam", PAM);
    let (mut passwd, mut group, mut shadow) = (String::new(), String::new(), String::new());
    for (name, uid) in USERS {
        passwd.push_str(&format!("{name}:x:{uid}:{uid}::{dir}/home/{name}:/bin/sh\n"));
        group.push_str(&format!("{name}:x:{uid}:\n"));
        let expires = if name == "dave" { "1000" } else { "" };
        shadow.push_str(&format!("{name}:*:19000:0:99999:7::{expires}:\n"));
        if name != "erin" {
            let home = base.join("home").join(name);
            fs::create_dir_all(&home).unwrap();
            let owner = if name == "carol" { 0 } else { uid };
            chown(home, Some(owner), Some(owner)).unwrap();
        }
    }
    passwd.push_str("vsmagent:x:993:993::/nonexistent:/usr/sbin/nologin\n");
    group.push_str("vsmagent:x:993:\nvsm-tls:x:994:vsmagent\n");
    write("passwd", &passwd);
    write("group", &group);
    write("shadow", &shadow);
}

/// A viewer as `vsm-login` is one.
pub(crate) struct Viewer {
    control: BufReader<UnixStream>,
    pub(crate) rfb: UnixStream,
}

impl Viewer {
    fn attach(socket: &Path, address: &str) -> Result<Self, String> {
        let mut control = UnixStream::connect(socket).map_err(|error| error.to_string())?;
        control.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        writeln!(control, "{{\"op\":\"attach\",\"address\":\"{address}\"}}").unwrap();
        let mut buffer = [0; 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut iov = [IoSliceMut::new(&mut buffer)];
        let count = recvmsg(&control, &mut iov, &mut ancillary, RecvFlags::empty()).unwrap().bytes;
        let descriptor = ancillary.drain().find_map(|part| match part {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        let Some(descriptor) = descriptor else { return Err(text) };
        assert!(text.contains("attached"), "{text}");
        let rfb = UnixStream::from(descriptor);
        rfb.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Ok(Self { control: BufReader::new(control), rfb })
    }

    pub(crate) fn greeting(&mut self) -> String {
        let mut greeting = [0; 12];
        self.rfb.read_exact(&mut greeting).unwrap();
        String::from_utf8_lossy(&greeting).into_owned()
    }

    /// Goes on until the desktop takes input.
    pub(crate) fn begin(&mut self) {
        self.greeting();
        self.rfb.write_all(b"RFB 003.008\n").unwrap();
        let mut kinds = [0; 1];
        self.rfb.read_exact(&mut kinds).unwrap();
        self.rfb.read_exact(&mut vec![0; kinds[0].into()]).unwrap();
        // No password, as the way to the socket is the right; with others.
        self.rfb.write_all(&[1]).unwrap();
        self.rfb.read_exact(&mut [0; 4]).unwrap();
        self.rfb.write_all(&[1]).unwrap();
        let mut head = [0; 24];
        self.rfb.read_exact(&mut head).unwrap();
        let name = u32::from_be_bytes([head[20], head[21], head[22], head[23]]);
        self.rfb.read_exact(&mut vec![0; name.try_into().unwrap()]).unwrap();
    }

    /// Presses a character's key and lets it go.
    pub(crate) fn press(&mut self, character: char) {
        let symbol = (0x0100_0000 | u32::from(character)).to_be_bytes();
        for down in [1, 0] {
            self.rfb.write_all(&[&[4, down, 0, 0][..], &symbol].concat()).unwrap();
        }
    }

    pub(crate) fn is_cut(&mut self) -> bool {
        self.rfb.read(&mut [0; 16]).is_ok_and(|count| count == 0)
    }

    pub(crate) fn told(&mut self) -> String {
        let mut line = String::new();
        self.control.read_line(&mut line).unwrap();
        line
    }
}
