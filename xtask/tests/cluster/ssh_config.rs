//! What users have in their ssh_config for a terminal, and what becomes of the pipes of `vsm` with it.

use std::thread;

use xtask::cluster::ClusterSpec;

use crate::service::{AGENTS, BROKER, Service};
use crate::spec;

/// Lines that people have, for all hosts.
const CONFIGS: [&str; 18] = [
    "RemoteCommand tmux new -A -s main",
    "RequestTTY force",
    "RequestTTY yes\nRemoteCommand exec bash -l",
    "PermitLocalCommand yes\nLocalCommand echo connected to %n",
    "PermitLocalCommand yes\nLocalCommand false",
    "StdinNull yes",
    "ForkAfterAuthentication yes",
    "SessionType none",
    "LocalForward 22 localhost:22\nExitOnForwardFailure yes",
    "RemoteForward 2222 localhost:22\nDynamicForward 1080\nExitOnForwardFailure yes",
    "ControlMaster auto\nControlPath ~/.ssh/cm-%C\nControlPersist 60",
    "ControlMaster yes\nControlPath ~/.ssh/cm-%C",
    "ForwardX11 yes\nForwardX11Trusted yes\nForwardAgent yes\nTunnel yes",
    "SendEnv LANG LC_* FOO\nSetEnv FOO=bar",
    "LogLevel QUIET\nCompression yes\nEscapeChar none",
    "LogLevel DEBUG3\nVisualHostKey yes\nServerAliveInterval 0\nTCPKeepAlive no",
    "IgnoreUnknown UseKeychain\nUseKeychain yes\nAddKeysToAgent yes",
    "Match all\nEscapeChar ~\nProxyUseFdpass no\nPreferredAuthentications publickey,keyboard-interactive,password",
];

/// One for each of them.
#[expect(clippy::cast_possible_truncation, reason = "18")]
pub(crate) const USERS: u16 = CONFIGS.len() as u16;
/// Each of these must work with it; the picture is what goes to the session host.
pub(crate) const COMMANDS: [&str; 3] =
    ["list", "connect --no-viewer", "connect --screenshot /dev/null"];
/// So many users at a time.
const TOGETHER: usize = 6;

/// What of it fails for this user with this configuration.
fn failed(service: &Service, user: &str, config: &str, commands: &[&str]) -> Vec<String> {
    let put = format!(
        "cd ~/.ssh; [ -e plain ] || cp config plain; (printf 'Host *\\n{}\\n'; cat plain) > config",
        config.replace('%', "%%").replace('\n', "\\n")
    );
    service.output("client", user, &["sh", "-c", &put]).unwrap();
    let run = |command: &&str| {
        let line = format!("timeout 30 vsm {command} {user}@tlha");
        let output = service.exec("client", user, &["sh", "-c", &line]).unwrap();
        (!output.status.success()).then(|| format!("{config:?}: {command}: {output:?}"))
    };
    commands.iter().filter_map(run).collect()
}

fn all_failed(service: &Service, commands: &[&str]) -> Vec<String> {
    let numbered: Vec<(String, &str)> = (1..).map(|n| format!("user{n:03}")).zip(CONFIGS).collect();
    let one = |(user, config): &(String, &str)| failed(service, user, config, commands);
    let some = |some: &[(String, &str)]| {
        thread::scope(|scope| {
            let all: Vec<_> = some.iter().map(|row| scope.spawn(move || one(row))).collect();
            all.into_iter().flat_map(|one| one.join().unwrap()).collect::<Vec<_>>()
        })
    };
    numbered.chunks(TOGETHER).flat_map(some).collect()
}

#[test]
fn what_users_have_for_a_terminal_does_not_reach_the_pipes() {
    let service = Service::with(&ClusterSpec { users: USERS, ..spec("ssh-config") });
    reaches_no_pipe(&service, &COMMANDS);
    service.configure(BROKER, "vsmserver", &["/vsmserver/bastion=true"]);
    let by_relay = all_failed(&service, &COMMANDS[2..]);
    assert!(by_relay.is_empty(), "{} failed:\n{}", by_relay.len(), by_relay.join("\n"));
}

/// These commands work with each of the configurations.
pub(crate) fn reaches_no_pipe(service: &Service, commands: &[&str]) {
    for agent in AGENTS {
        service.configure(agent, "vsmagent", &["/vsmagent/default_geometry=320x240"]);
    }
    // Somebody is logged in already, and shares it.
    let master =
        "ssh -o ControlMaster=yes -o ControlPath=~/.ssh/cm-%C -o ControlPersist=60 tlha true";
    service.output("client", "user011", &["sh", "-c", master]).unwrap();
    let failed = all_failed(service, commands);
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}
