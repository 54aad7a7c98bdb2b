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
use xtask::cluster::{Brokers, Cluster, ClusterSpec};

use crate::XTASK;

/// How long a daemon may take until it does what it was started for.
const WAIT: Duration = Duration::from_secs(20);
/// Version of the packages that come after those of the workspace.
const NEXT: &str = "9.0";

/// A broker `tlha-primary`, a session host `agent1` and a client, with nothing but Debian; the packages are in `/mnt/now`
/// and `/mnt/next`.
fn hosts(name: &str) -> Cluster {
    hosts_with(name, 0)
}

/// The same with so many more users.
fn hosts_with(name: &str, users: u16) -> Cluster {
    let mut spec = ClusterSpec::fresh(format!("t-{name}"), Path::new(XTASK));
    (spec.fresh, spec.brokers, spec.agents, spec.users) = (true, Brokers::Single, 1, users);
    spec.medium = Some(packages());
    Cluster::up(&spec).unwrap()
}

/// Two versions of the packages with the programs that the other tests run too, built once.
pub(crate) fn packages() -> PathBuf {
    let binaries = Path::new(XTASK).parent().unwrap();
    let out = binaries.join("test-packages");
    let programs = ["vsmserver", "vsmagent", "vsmctl", "vsm", "xtask", "vsm-manual"]
        .map(|name| binaries.join(name));
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

fn install_all(cluster: Cluster) -> Cluster {
    install(&cluster, "tlha-primary", "now", &["vsm-common", "vsm-server"]);
    install(&cluster, "agent1", "now", &["vsm-common", "vsm-agent"]);
    install(&cluster, "client", "now", &["vsm-client"]);
    sh(
        &cluster,
        "tlha-primary",
        "set -e
        vsmctl pki init
        vsmctl pki issue tlha-primary --role broker --address tlha --out /etc/vsm/pki
        vsmctl pki issue agent1 --role agent --out /root/agent1
        scp -q -o StrictHostKeyChecking=accept-new -r /root/agent1 agent1:/etc/vsm/pki",
    );
    cluster
}

/// The same, working together by `vsm-setup`.
pub(crate) fn working(name: &str) -> Cluster {
    set_up(installed(name))
}

/// Has these hosts, with the packages on them, serve users.
fn set_up(cluster: Cluster) -> Cluster {
    answer(
        &cluster,
        "tlha-primary",
        "role = server\npublic_name = tlha-primary\nbrokers = tlha-primary\nagents = agent1\n",
    );
    answer(
        &cluster,
        "agent1",
        "role = agent\npublic_name = agent1\nmaster = tlha-primary\nbrokers = tlha-primary\n",
    );
    sh(&cluster, "tlha-primary", "systemctl restart vsmserver");
    sh(&cluster, "agent1", "systemctl restart vsmagent");
    cluster
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
