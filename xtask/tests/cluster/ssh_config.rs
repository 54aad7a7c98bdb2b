//! What users have in their ssh_config for a terminal, and what becomes of the pipes of `vsm` with it.

use crate::service::{BROKER, Service};

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

/// Each of these must work with it; the picture is what goes to the session host.
const COMMANDS: [&str; 3] =
    ["list", "connect --retry-for=0 --no-viewer", "connect --retry-for=0 --screenshot ~/p.png"];

fn works(service: &Service, config: &str, commands: &[&str]) -> Vec<String> {
    let put = format!(
        "cd ~/.ssh; [ -e plain ] || cp config plain; (printf 'Host *\\n{}\\n'; cat plain) > config",
        config.replace('%', "%%").replace('\n', "\\n")
    );
    service.output("client", "alice", &["sh", "-c", &put]).unwrap();
    let mut failed = Vec::new();
    for command in commands {
        let line = format!("timeout 20 vsm {command} alice@tlha");
        let output = service.exec("client", "alice", &["sh", "-c", &line]).unwrap();
        if !output.status.success() {
            failed.push(format!("{config:?}: {command}: {output:?}"));
        }
    }
    failed
}

#[test]
fn what_users_have_for_a_terminal_does_not_reach_the_pipes() {
    let service = Service::up("ssh-config");
    // Somebody is logged in already, and shares it.
    let master = "ssh -o ControlMaster=yes -o ControlPath=~/.ssh/cm-%C -o ControlPersist=60 tlha true";
    service.output("client", "alice", &["sh", "-c", master]).unwrap();
    let mut failed: Vec<String> =
        CONFIGS.iter().flat_map(|config| works(&service, config, &COMMANDS)).collect();
    service.configure(BROKER, "vsmserver", &["/vsmserver/bastion=true"]);
    for config in CONFIGS {
        failed.extend(works(&service, config, &COMMANDS[2..]));
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}
