//! The sshd that `vsm-web` speaks to, asked by plain ssh on the broker's host as `vsm-web` would ask it: what it wants
//! to know, whom it lets in, and that it is good for nothing but `vsm`.

use std::process::Output;

use xtask::cluster::web::{PASSWORD, PORTS, code};
use xtask::cluster::{ClusterSpec, web::Factors};

use crate::service::{BROKER, Service};
use crate::spec;

/// Answers what ssh is asked, and writes it down.
pub(super) const ASKPASS: &str = r#"cat > /tmp/askpass <<'END'
#!/bin/sh
echo "$1" >> /tmp/asked
case "$1" in *assword*) cat /tmp/password;; *ode:*) cat /tmp/code;; *) echo;; esac
END
chmod 755 /tmp/askpass; cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub > /tmp/key
for port in 22 5022 5023; do echo "[127.0.0.1]:$port $(cat /tmp/key)"; done | sed 's/^.127.0.0.1.:22 /127.0.0.1 /' > /tmp/known"#;

/// The service with that sshd on its broker.
fn service(name: &str, factors: Factors) -> Service {
    let service = Service::with(&ClusterSpec { web: Some(factors), ..spec(name) });
    service.sh(BROKER, ASKPASS);
    service
}

/// What bob's ssh on the broker's host comes to, with this password and code, and what it was asked.
pub(super) fn ssh(service: &Service, password: &str, code: &str, words: &str) -> (Output, String) {
    let given =
        format!("rm -f /tmp/asked; echo '{password}' > /tmp/password; echo '{code}' > /tmp/code");
    service.sh(BROKER, &format!("{given}; chmod 644 /tmp/password /tmp/code"));
    let ssh = "SSH_ASKPASS=/tmp/askpass SSH_ASKPASS_REQUIRE=force timeout 60 ssh -o NumberOfPasswordPrompts=1 \
               -o UserKnownHostsFile=/tmp/known -o StrictHostKeyChecking=yes -o IdentityFile=none";
    let line = format!("printf 'vsm/1 broker\\n' | {ssh} {words}");
    let output = service.exec(BROKER, "bob", &["sh", "-c", &line]).unwrap();
    let asked = service.sh(BROKER, "cat /tmp/asked 2>/dev/null; true");
    (output, asked)
}

/// Joined to the broker: the way that `vsm-web` goes on.
pub(super) fn let_in(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.starts_with("ok\n"), "{output:?}");
}

fn refused(output: &Output) {
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    assert!(words.contains("Permission denied"), "{words}");
}

pub(super) const TO: &str = "-p 5022 bob@127.0.0.1";

#[test]
fn a_password_is_asked_for_and_lets_in() {
    let service = service("web-sshd", Factors::Password);
    for method in ["keyboard-interactive", "password"] {
        let words = format!("-o PreferredAuthentications={method} {TO} -s vsm");
        let (output, asked) = ssh(&service, PASSWORD, "", &words);
        let_in(&output);
        assert_eq!(asked.lines().count(), 1, "{asked}");
        assert!(asked.contains("assword:"), "{asked}");
        refused(&ssh(&service, "wrong horse", "", &words).0);
    }
    // Nobody without a password, and not root by any.
    service.sh(BROKER, &format!("echo 'root:{PASSWORD}' | chpasswd"));
    refused(&ssh(&service, PASSWORD, "", "-p 5022 root@127.0.0.1 -s vsm").0);
    refused(&ssh(&service, PASSWORD, "", "-p 5022 nobody@127.0.0.1 -s vsm").0);
    good_for_vsm_alone(&service);
    keys_of_people_do_not_count(&service);
    nobody_comes_from_elsewhere(&service);
    the_hosts_own_rules_hold(&service);
}

/// Whom the host's own sshd does not let in has no other way, unless the site wants it so.
fn the_hosts_own_rules_hold(service: &Service) {
    let words = format!("{TO} -s vsm");
    let ask = || ssh(service, PASSWORD, "", &words).0;
    let again = |line: &str| {
        service.sh(BROKER, line);
        service.restart_daemon(BROKER, "vsm-web-sshd").unwrap();
        service.until(BROKER, "ss -Hltn sport = :5022 | grep -q .");
    };
    for rule in ["DenyUsers bob", "AllowUsers alice carol", "AllowGroups alice"] {
        again(&format!("echo '{rule}' > /etc/ssh/sshd_config.d/site.conf"));
        refused(&ask());
    }
    again("echo 'AllowUsers bob' > /etc/vsm/web/sshd_config.d/a.conf");
    let_in(&ask());
    // What a browser cannot show is no way in: where the host wants more than PAM asks, the site has to say what holds.
    let wants = |rules: &str| {
        let file = "/etc/ssh/sshd_config.d/site.conf";
        service.sh(
            BROKER,
            &format!("printf '{rules}' > {file}; /run/vsm-bin/vsm-web-sshd -t 2>&1; echo $?"),
        )
    };
    assert_eq!(wants("AuthenticationMethods publickey\\n"), "0");
    service.sh(BROKER, "rm /etc/vsm/web/sshd_config.d/site.conf");
    for rules in [
        "AuthenticationMethods publickey\\n",
        "PasswordAuthentication no\\nKbdInteractiveAuthentication no\\n",
    ] {
        let said = wants(rules);
        assert!(said.contains("wants more than PAM asks") && said.ends_with("255"), "{said}");
    }
    service.sh(BROKER, "echo 'AuthenticationMethods any' > /etc/vsm/web/sshd_config.d/site.conf");
    again(
        "rm /etc/vsm/web/sshd_config.d/a.conf; echo '# nothing' > /etc/ssh/sshd_config.d/site.conf",
    );
    let_in(&ask());
}

/// What else ssh can be asked for, by one who has the password.
fn good_for_vsm_alone(service: &Service) {
    let ask = |words: &str| {
        let (output, asked) = ssh(service, PASSWORD, "", words);
        assert!(asked.contains("assword:"), "{words}: {asked}");
        let all = [output.stdout.clone(), output.stderr.clone()].concat();
        (output, String::from_utf8_lossy(&all).into_owned())
    };
    // A command and a shell are the subsystem, whatever was said.
    for words in [format!("{TO} id"), format!("{TO} 'id; sh -c id'"), TO.to_owned()] {
        let (output, said) = ask(&words);
        assert!(!said.contains("uid="), "{words}: {said}");
        let_in(&output);
    }
    let (_, said) = ask(&format!("-tt {TO}"));
    assert!(said.contains("PTY allocation request failed"), "{said}");
    for words in [format!("{TO} -s sftp"), format!("{TO} -s vsm-login")] {
        let (output, said) = ask(&words);
        assert!(!output.status.success() && said.contains("subsystem request failed"), "{said}");
    }
    let (output, said) = ask(&format!("-W 127.0.0.1:22 {TO}"));
    assert!(!output.status.success() && !said.contains("SSH-2.0"), "{said}");
    for way in ["-R 127.0.0.1:7777:127.0.0.1:22", "-R /tmp/back.sock:127.0.0.1:22"] {
        let (output, said) = ask(&format!("-o ExitOnForwardFailure=yes {way} {TO} -s vsm"));
        assert!(!output.status.success() && said.contains("forwarding failed"), "{way}: {said}");
    }
    // Where something listens there, it can be reached by who is on the host: what was refused was the forwarding.
    service.output(BROKER, "bob", &["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/22"]).unwrap();
}

/// A key that the host's own sshd takes is none here, at either port.
fn keys_of_people_do_not_count(service: &Service) {
    service.key_for("bob");
    for port in PORTS {
        let line = format!(
            "ssh -o BatchMode=yes -o UserKnownHostsFile=/tmp/known -i ~/.ssh/id_ed25519 -p {port} bob@127.0.0.1 -s vsm </dev/null"
        );
        refused(&service.exec(BROKER, "bob", &["sh", "-c", &line]).unwrap());
    }
    let own = "ssh -o BatchMode=yes -o UserKnownHostsFile=/tmp/known -i ~/.ssh/id_ed25519 bob@127.0.0.1 id -un";
    let name = service.output(BROKER, "bob", &["sh", "-c", own]).unwrap();
    assert_eq!(name, "bob");
    // The port of keys asks for nothing else.
    let (output, asked) = ssh(service, PASSWORD, "", "-p 5023 bob@127.0.0.1 -s vsm");
    refused(&output);
    assert_eq!(asked, "");
}

fn nobody_comes_from_elsewhere(service: &Service) {
    for port in PORTS {
        for host in ["tlha", "tlha-primary"] {
            let connect = format!("exec 3<>/dev/tcp/{host}/{port}");
            let output = service.exec("client", "alice", &["bash", "-c", &connect]).unwrap();
            assert!(!output.status.success(), "{host}:{port} answers the client");
        }
    }
}

#[test]
fn a_password_and_a_code_are_asked_for_and_both_must_fit() {
    let service = service("web-sshd-code", Factors::PasswordAndCode);
    let words = format!("-o PreferredAuthentications=keyboard-interactive {TO} -s vsm");
    let (output, asked) = ssh(&service, PASSWORD, &code().unwrap(), &words);
    let_in(&output);
    let asked: Vec<_> = asked.lines().collect();
    assert!(asked.len() == 2, "{asked:?}");
    assert!(asked[0].contains("assword:") && asked[1].contains("erification code:"), "{asked:?}");
    refused(&ssh(&service, PASSWORD, "000000", &words).0);
    refused(&ssh(&service, "wrong horse", &code().unwrap(), &words).0);
    // With one answer alone nobody comes by the second question.
    let words = format!("-o PreferredAuthentications=password {TO} -s vsm");
    refused(&ssh(&service, PASSWORD, &code().unwrap(), &words).0);
}
