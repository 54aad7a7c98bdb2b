//! The Debian packages on fresh hosts with Debian's own systemd and dpkg: installed, upgraded, removed, purged, and on
//! hosts that lack something.

mod firewall;
mod keepalived;
mod lacking;
mod life;
mod setup;
mod whole;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use xtask::clock::wait_for;
use xtask::cluster::{Brokers, Cluster, ClusterSpec, Role};

use crate::XTASK;

/// How long a daemon may take until it does what it was started for.
const WAIT: Duration = Duration::from_secs(120);
/// Version of the packages that come after those of the workspace.
const NEXT: &str = "9.0";

/// A broker `tlha-primary`, a session host `agent1` and a client, with nothing but Debian; the packages are in
/// `/mnt/now` and `/mnt/next`.
fn hosts(name: &str) -> Cluster {
    hosts_with(name, 0)
}

/// The same with so many more users.
fn hosts_with(name: &str, users: u16) -> Cluster {
    hosts_of(name, Brokers::Single, 1, users)
}

/// Hosts with nothing but Debian, so many of each kind.
fn hosts_of(name: &str, brokers: Brokers, agents: u8, users: u16) -> Cluster {
    let mut spec = ClusterSpec::fresh(crate::named(name), Path::new(XTASK));
    (spec.fresh, spec.brokers, spec.agents, spec.users) = (true, brokers, agents, users);
    spec.medium = Some(packages());
    Cluster::up(&spec).unwrap()
}

/// Two versions of the packages with the programs that the other tests run too, built once.
pub(crate) fn packages() -> PathBuf {
    let binaries = Path::new(XTASK).parent().unwrap();
    let out = binaries.join("test-packages");
    // Tests are processes of their own, and two may begin together.
    let lock = fs::File::create(binaries.join("test-packages.lock")).unwrap();
    lock.lock().unwrap();
    let agent = ["vsmagent", "vsm-agent-net"];
    let programs = ["vsmserver", "vsm-root", "vsmctl", "vsm", "xtask", "vsm-manual"]
        .into_iter()
        .chain(agent)
        .map(|name| binaries.join(name))
        .collect::<Vec<_>>();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let newest = programs
        .iter()
        .map(|program| changed(program))
        .chain([newest(&workspace.join("deploy"))])
        .max();
    for (folder, version) in [("now", env!("CARGO_PKG_VERSION")), ("next", NEXT)] {
        let out = out.join(folder);
        // The last one that is built.
        let last = out.join(format!("vsm-client_{version}_{}.deb", architecture()));
        if last.exists() && Some(changed(&last)) > newest {
            continue;
        }
        let mut dist = Command::new(XTASK);
        dist.args([
            "dist",
            "--profile",
            "dev",
            "--no-build",
            "--no-tarball",
            "--version",
            version,
            "--out",
        ]);
        let output = dist.arg(&out).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    out
}

fn architecture() -> String {
    let output = Command::new("dpkg").arg("--print-architecture").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn changed(path: &Path) -> SystemTime {
    fs::metadata(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .modified()
        .unwrap()
}

fn newest(dir: &Path) -> SystemTime {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { newest(&path) } else { changed(&path) }).max().unwrap()
}

/// Runs lines of shell as root, which must succeed; what they print on both outputs, as a person sees it.
pub(crate) fn sh(cluster: &Cluster, host: &str, lines: &str) -> String {
    let (code, said) = try_sh(cluster, host, lines);
    assert_eq!(code, 0, "on {host}: {lines}\n{said}");
    said
}

/// The same where they need not succeed, with the exit code.
pub(crate) fn try_sh(cluster: &Cluster, host: &str, lines: &str) -> (i32, String) {
    let script = format!("{{ {lines}\n}} 2>&1");
    let output = cluster.exec(host, "root", &["sh", "-c", &script]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    (output.status.code().unwrap_or(-1), said)
}

/// Installs packages from a folder of the medium.
fn install(cluster: &Cluster, host: &str, folder: &str, packages: &[&str]) -> String {
    let files: String =
        packages.iter().map(|name| format!(" /mnt/{folder}/{name}_*.deb")).collect();
    sh(cluster, host, &format!("dpkg --install{files}"))
}

/// A broker, a session host and a client with their packages and certificates, and no configuration.
fn installed(name: &str) -> Cluster {
    install_all(hosts(name))
}

/// Gives all hosts their packages and certificates.
fn install_all(cluster: Cluster) -> Cluster {
    let (brokers, agents) = (of_role(&cluster, Role::Broker), of_role(&cluster, Role::Agent));
    for host in &brokers {
        install(&cluster, host, "now", &["vsm-common", "vsm-server"]);
    }
    for host in &agents {
        install(&cluster, host, "now", &["vsm-common", "vsm-agent"]);
    }
    install(&cluster, "client", "now", &["vsm-client"]);
    let put = "scp -q -o StrictHostKeyChecking=accept-new -r";
    let mut lines = format!(
        "set -e
        vsmctl pki init
        vsmctl pki issue {0} --role broker --address tlha --out /etc/vsm/pki",
        brokers[0]
    );
    for host in &brokers[1..] {
        lines += &format!(
            "\nvsmctl pki issue {host} --role broker --address tlha --out /root/{host}\n{put} /root/{host} {host}:/etc/vsm/pki"
        );
    }
    for host in &agents {
        lines += &format!(
            "\nvsmctl pki issue {host} --role agent --out /root/{host}\n{put} /root/{host} {host}:/etc/vsm/pki"
        );
    }
    sh(&cluster, brokers[0], &lines);
    cluster
}

/// The names of the hosts of this kind.
fn of_role(cluster: &Cluster, role: Role) -> Vec<&str> {
    cluster.hosts().iter().filter(|host| host.role == role).map(|host| &*host.name).collect()
}

/// The same, working together by `vsm-setup`.
pub(crate) fn working(name: &str) -> Cluster {
    set_up(installed(name))
}

/// A broker, or a pair of them, with so many session hosts and users more, working together by `vsm-setup` and, for the
/// pair, by what the guide has typed.
pub(crate) fn working_of(name: &str, brokers: Brokers, agents: u8, users: u16) -> Cluster {
    set_up(install_all(hosts_of(name, brokers, agents, users)))
}

/// Has these hosts, with the packages on them, serve users.
fn set_up(cluster: Cluster) -> Cluster {
    let (brokers, agents) = (of_role(&cluster, Role::Broker), of_role(&cluster, Role::Agent));
    let (all_brokers, all_agents) = (brokers.join(" "), agents.join(" "));
    for host in &brokers {
        let answers = format!(
            "role = server\\npublic_name = {host}\\nbrokers = {all_brokers}\\nagents = {all_agents}\\n"
        );
        answer(&cluster, host, &answers);
    }
    let master = if brokers.len() > 1 { "tlha" } else { brokers[0] };
    for host in &agents {
        let answers = format!(
            "role = agent\\npublic_name = {host}\\nmaster = {master}\\nbrokers = {all_brokers}\\n"
        );
        answer(&cluster, host, &answers);
    }
    if brokers.len() > 1 {
        pair_up(&cluster, &brokers);
    }
    for host in &brokers {
        sh(&cluster, host, "systemctl restart vsmserver");
    }
    for host in &agents {
        sh(&cluster, host, "systemctl restart vsmagent");
    }
    cluster
}

/// Makes two brokers a pair, by the steps 2, 4 and 7 of the guide.
fn pair_up(cluster: &Cluster, brokers: &[&str]) {
    let (first, second) = (brokers[0], brokers[1]);
    sh(cluster, first, &format!("scp -q -p /etc/ssh/ssh_host_* {second}:/etc/ssh/"));
    sh(cluster, second, "systemctl restart ssh");
    for (host, own, peer, priority) in [(first, 2, 3, 101), (second, 3, 2, 100)] {
        sh(
            cluster,
            host,
            &format!(
                "set -e
                sed -e 's/@NODE@/{host}/; s/@INTERFACE@/eth0/; s/@OWN_ADDRESS@/10.0.0.{own}/; s/@PEER_ADDRESS@/10.0.0.{peer}/' \
                    -e 's|@RESOURCE_ADDRESS@|10.0.0.4/24|; s/@PRIORITY@/{priority}/' /usr/share/vsm/keepalived.conf > /root/k
                install -D -m 600 /root/k /etc/keepalived/keepalived.conf
                vsm-config /vsmserver/HA/enabled=true '/vsmserver/HA/nodes={first} {second}' /vsmserver/HA/resource_address=tlha
                systemctl enable --now keepalived"
            ),
        );
    }
}

/// Gives `vsm-setup` these answers.
fn answer(cluster: &Cluster, host: &str, answers: &str) -> String {
    sh(
        cluster,
        host,
        &format!("printf '{answers}' > /root/answers && vsm-setup --answers /root/answers"),
    )
}

/// Has alice connect from the client; her session's id.
pub(crate) fn connect(cluster: &Cluster) -> String {
    connect_as(cluster, "alice")
}

/// The same for another user.
fn connect_as(cluster: &Cluster, user: &str) -> String {
    let mut id = String::new();
    let to = format!("{user}@tlha-primary");
    wait_for(&format!("the desktop of {user}"), WAIT, || {
        let output = cluster.exec("client", user, &["vsm", "connect", "--no-viewer", &to]);
        let output = output.map_err(|error| format!("{error:#}"))?;
        let socket = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match Path::new(&socket).file_stem() {
            Some(stem) if output.status.success() => id = stem.display().to_string(),
            _ => return Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
        Ok(())
    })
    .unwrap();
    id
}

/// The processes that a desktop is: its monitor and its X server.
fn desktop(cluster: &Cluster) -> String {
    sh(cluster, "agent1", "pgrep -x vsm-session && pgrep -x Xtigervnc")
}

/// Waits until a unit is as it should be.
fn unit(cluster: &Cluster, host: &str, name: &str, wanted: &str) {
    wait_for(&format!("{name} on {host} to be {wanted}"), WAIT, || {
        let (_, state) = try_sh(cluster, host, &format!("systemctl is-active {name}"));
        if state.trim() == wanted { Ok(()) } else { Err(state) }
    })
    .unwrap();
}
