//! The hosts are hosts: names, addresses, users, and nothing shared that real ones would not share.

use std::process::Stdio;

use crate::{cluster, on};

#[test]
fn users_reach_every_host_by_ssh_under_all_its_names() {
    let cluster = cluster("ssh");
    for (name, host) in [
        ("tlha", "tlha-primary"),
        ("tlha-primary", "tlha-primary"),
        ("10.0.0.4", "tlha-primary"),
        ("agent1", "agent1"),
        ("10.0.0.12", "agent2"),
    ] {
        for user in ["alice", "bob", "carol"] {
            let words = ["ssh", name, "echo $(uname -n) $(id -un) $PWD"];
            let answer = cluster.output("client", user, &words).unwrap();
            assert_eq!(answer, format!("{host} {user} /home/{user}"));
        }
    }
}

#[test]
fn a_user_cannot_log_in_as_another() {
    let cluster = cluster("keys");
    let output = cluster.exec("client", "bob", &["ssh", "-o", "BatchMode=yes", "alice@tlha", "id"]);
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(255));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("Permission denied"), "{complaint}");
}

#[test]
fn numbered_users_exist_everywhere() {
    let mut spec = crate::spec("users");
    spec.users = 3;
    let cluster = xtask::cluster::Cluster::up(&spec).unwrap();
    let answer = cluster.output("client", "user003", &["ssh", "agent2", "id", "-un"]).unwrap();
    assert_eq!(answer, "user003");
    assert!(cluster.exec("client", "user004", &["true"]).is_err());
}

#[test]
fn hosts_share_the_homes_and_nothing_else() {
    let cluster = cluster("own");
    let private = ["/etc", "/tmp", "/run", "/root", "/var/lib", "/var/log", "/dev/shm"];
    for dir in private {
        on(&cluster, "agent1", &["touch", &format!("{dir}/t-own")]);
        for other in ["agent2", "tlha-primary"] {
            let seen = cluster.exec(other, "root", &["test", "-e", &format!("{dir}/t-own")]);
            assert!(!seen.unwrap().status.success(), "{other} sees {dir} of agent1");
        }
        assert!(!std::path::Path::new(dir).join("t-own").exists(), "the machine sees {dir}");
    }
    cluster.output("agent1", "alice", &["touch", "mark"]).unwrap();
    cluster.output("agent2", "alice", &["test", "-e", "mark"]).unwrap();
    cluster.output("tlha-primary", "alice", &["test", "-e", "mark"]).unwrap();
    assert!(cluster.output("client", "alice", &["test", "-e", "mark"]).is_err());
}

#[test]
fn a_host_sees_only_its_own_processes_and_network() {
    let cluster = cluster("view");
    let init = on(&cluster, "agent1", &["ps", "-o", "args=", "-p", "1"]);
    assert!(init.contains("host-init"), "{init}");
    let interfaces = on(&cluster, "agent1", &["ls", "/sys/class/net"]);
    assert_eq!(interfaces.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"]);
    let routes = on(&cluster, "agent1", &["ip", "route"]);
    assert!(!routes.contains("default"), "a way out: {routes}");
    assert_eq!(on(&cluster, "agent1", &["cat", "/etc/hostname"]), "agent1");
}

#[test]
fn exec_passes_stdin_and_exit_code() {
    let cluster = cluster("exec");
    let mut command = std::process::Command::new(crate::XTASK);
    command.args(["cluster", "exec", "--name", cluster.name(), "client", "--"]);
    command.args(["sh", "-c", "read line; echo $line from $USER; exit 7"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello from alice\n");
}
