//! What is missing on this host, or in the way, and what is left to do afterwards; each with the command that mends it.

use std::{
    env,
    net::ToSocketAddrs,
    path::{Path, PathBuf},
    process::Command,
};

use vsm_config::{Config, keys};

use crate::setup::{answers::Answers, port};

/// Where programs of the system are that need not be in a user's PATH.
const SYSTEM_DIRS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Nothing is changed while there is one.
    pub problems: Vec<String>,
    /// Worth a look.
    pub notes: Vec<String>,
}

/// Looks at this host with what it is to be in mind.
#[must_use]
pub fn host(config: &Config, answers: &Answers) -> Findings {
    let mut findings = Findings::default();
    let problems = &mut findings.problems;
    let server = answers.role.is_server().then(|| config.get(&keys::vsmserver::LISTEN_PORT));
    let agent = answers.role.is_agent().then(|| config.get(&keys::vsmagent::LISTEN_PORT));
    for (daemon, package, port) in
        [("vsmserver", "vsm-server", server), ("vsmagent", "vsm-agent", agent)]
    {
        let Some(port) = port else { continue };
        if program(daemon).is_none() {
            problems.push(format!("{daemon} is not installed: apt install {package}"));
        }
        problems.extend(taken(daemon, port));
    }
    problems.extend(sshd());
    if answers.role.is_agent() {
        problems.extend(x_server(config));
    }
    let names = [&answers.public_name, &answers.master]
        .into_iter()
        .chain(&answers.brokers)
        .chain(&answers.agents);
    let mut unknown: Vec<&str> =
        names.map(String::as_str).filter(|name| !name.is_empty() && !is_known(name)).collect();
    unknown.sort_unstable();
    unknown.dedup();
    let note =
        |name: &str| format!("{name} cannot be looked up on this host: mend DNS or /etc/hosts");
    findings.notes.extend(unknown.into_iter().map(note));
    findings
}

fn taken(daemon: &str, port: u16) -> Option<String> {
    // The agent's port has the part of it that brokers speak to; an older one had it itself.
    let is_own = |name: &str| name == daemon || (daemon, name) == ("vsmagent", "vsm-agent-net");
    let holder = port::holder(port).filter(|holder| !is_own(&holder.program))?;
    let pid = holder.pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
    Some(format!(
        "port {port}, which {daemon} needs, is taken by {}{pid}: stop that, or choose another port with vsm-config /{daemon}/listen_port=PORT, and /vsm/{} on every host",
        holder.program,
        if daemon == "vsmserver" { "vsm_server_port" } else { "vsm_agent_port" },
    ))
}

/// Users come by sshd alone: it must be there, accept its configuration and know the subsystem.
fn sshd() -> Option<String> {
    let Some(sshd) = program("sshd") else {
        return Some("there is no sshd on this host, and users reach VSM through sshd alone: apt install openssh-server".to_owned());
    };
    // It reads the host keys, which are root's.
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    // With a user and a host it also looks at what is inside Match blocks.
    let shown =
        Command::new(sshd).args(["-T", "-C", "user=root,host=localhost,addr=127.0.0.1"]).output();
    match shown {
        Err(error) => Some(format!("sshd cannot be run: {error}")),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.trim().lines().last().unwrap_or_default().to_owned();
            Some(format!(
                "sshd does not run, or does not accept its configuration ({last}): mend it, then systemctl restart ssh"
            ))
        }
        Ok(output) => {
            let known = String::from_utf8_lossy(&output.stdout)
                .lines()
                .any(|line| line.starts_with("subsystem vsm "));
            (!known).then(|| {
                "sshd does not know the subsystem vsm: put 'Include /etc/ssh/sshd_config.d/*.conf' at the top of /etc/ssh/sshd_config, then systemctl reload ssh".to_owned()
            })
        }
    }
}

fn x_server(config: &Config) -> Option<String> {
    match config.get(&keys::vsmagent::XSERVER) {
        named if named.as_os_str().is_empty() => {
            let found = ["Xtigervnc", "Xvnc"].iter().any(|name| program(name).is_some());
            (!found).then(|| {
                "there is no Xvnc on this host, so no desktop can start: apt install tigervnc-standalone-server, or name the program with vsm-config /vsmagent/xserver=PATH".to_owned()
            })
        }
        named => (!named.is_file())
            .then(|| format!("/vsmagent/xserver is {}, which is not there", named.display())),
    }
}

/// Where a program is.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let own = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&own).chain(SYSTEM_DIRS.map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn is_known(name: &str) -> bool {
    (name, 0).to_socket_addrs().is_ok_and(|mut addresses| addresses.next().is_some())
}

/// What is left to do by hand, for a person.
#[must_use]
pub fn next_steps(config: &Config, answers: &Answers) -> String {
    let mut steps = Vec::new();
    let certificate = config.get(&keys::tls::CERT_FILE);
    if !Path::new(&certificate).exists() {
        let server = if answers.role.is_server() { " --role broker" } else { "" };
        let agent = if answers.role.is_agent() { " --role agent" } else { "" };
        let name = &answers.public_name;
        steps.push(format!(
            "a certificate, on the host that has the authority (once: vsmctl pki init):\n       vsmctl pki issue {name}{server}{agent} --out {name}\n     and its three files to {} here",
            certificate.parent().unwrap_or_else(|| Path::new("/etc/vsm/pki")).display()
        ));
    }
    let units: Vec<&str> =
        [(answers.role.is_server(), "vsmserver"), (answers.role.is_agent(), "vsmagent")]
            .into_iter()
            .filter_map(|(wanted, unit)| wanted.then_some(unit))
            .collect();
    steps.push(format!("systemctl restart {}", units.join(" ")));
    let steps: Vec<String> =
        (1..).zip(steps).map(|(number, step)| format!("  {number}. {step}\n")).collect();
    format!("Next:\n{}", steps.concat())
}
