//! One login: who has logged in at the broker is let in at the session host once, by a key that was made for it. Here
//! the session hosts take nothing else: no password, no key of the user's own, and the client does not know them.

use std::process::Output;

use crate::service::{BROKER, SIGHUP, Service};
use crate::spec;
use xtask::clock::wait_for;
use xtask::cluster::ClusterSpec;

/// What `vsm connect` takes for a picture, by way of a session host.
const PICTURE: &str = "/home/alice/picture.png";
/// Answers ssh's questions with the lines of a file, one each, and counts them.
const ASKPASS: &str = r#"#!/bin/sh
echo "$1" >> ~/asked
head -n 1 ~/answers
sed -i 1d ~/answers
"#;
/// Stands for ssh: keeps a copy of the key for the session host. With `hold` it goes no further with that.
const THIEF: &str = r#"#!/bin/sh
if [ "$1" = -i ]; then
    cp "$2" ~/stolen && cp "$2.pub" ~/stolen.pub
    [ ! -e ~/hold ] || exit 255
fi
exec ssh "$@"
"#;

/// A service whose session hosts take one-time keys and nothing else.
pub(crate) fn strict(name: &str) -> Service {
    strict_with(&spec(name))
}

pub(crate) fn strict_with(spec: &ClusterSpec) -> Service {
    let service = Service::with(spec);
    harden(&service);
    service
}

/// Makes a service one of that kind.
pub(crate) fn harden(service: &Service) {
    for (path, text) in [("/home/alice/askpass", ASKPASS), ("/home/alice/thief", THIEF)] {
        service.sh("client", &format!("cat > {path} <<'END'\n{text}END\nchmod 755 {path}"));
    }
    service.sh("client", "cp /home/alice/.ssh/id_ed25519 /root/key");
    service.sh("client", "sed -i '/tlha/!d' /home/alice/.ssh/known_hosts");
    let known = service.sh("client", "cut -d' ' -f1 /home/alice/.ssh/known_hosts");
    assert!(!known.contains("agent"), "the client knows session hosts: {known}");
    for agent in ["agent1", "agent2"] {
        // The homes are the broker's too; only there the user's own key counts.
        service.sh(agent, "echo AuthorizedKeysFile none > /etc/ssh/sshd_config.d/00-strict.conf");
        service.kill_daemon(agent, "sshd", SIGHUP).unwrap();
    }
}

pub(crate) fn sshd(service: &Service, host: &str, lines: &str) {
    service.sh(host, &format!("printf '{lines}' > /etc/ssh/sshd_config.d/00-strict.conf"));
    service.kill_daemon(host, "sshd", SIGHUP).unwrap();
    service.until(host, "ss -Hltn sport = 22 | grep -q .");
}

/// `vsm connect` for alice at a desk where ssh's questions are answered from a file.
pub(crate) fn connect(service: &Service, answers: &str, options: &[&str]) -> Output {
    connect_and_ask(service, answers, &[&["--retry-for=0"], options].concat())
}

/// The same, with as many attempts as by default.
fn connect_and_ask(service: &Service, answers: &str, options: &[&str]) -> Output {
    let put = format!("printf '{answers}' > ~/answers; rm -f ~/asked ~/picture.png");
    service.output("client", "alice", &["sh", "-c", &put]).unwrap();
    let environment = [
        "env",
        "SSH_ASKPASS=/home/alice/askpass",
        "SSH_ASKPASS_REQUIRE=force",
        "vsm",
        "connect",
        "--screenshot",
        PICTURE,
    ];
    let words = [&environment, options, &["alice@tlha"]].concat();
    service.exec("client", "alice", &words).unwrap()
}

/// How often ssh has asked.
pub(crate) fn asked(service: &Service) -> Vec<String> {
    let text = service.sh("client", "cat /home/alice/asked 2>/dev/null; true");
    text.lines().map(str::to_owned).collect()
}

/// The one-time keys that lie on the client; one that waits for its viewer has one.
fn keys(service: &Service) -> Vec<String> {
    let all = "ls -d /tmp/vsm-*/key-* /run/user/*/vsm/key-* 2>/dev/null; true";
    service.sh("client", all).lines().map(str::to_owned).collect()
}

pub(crate) fn has_picture(service: &Service, output: &Output) {
    let (text, log) = (String::from_utf8_lossy(&output.stderr), service.daemon_log(BROKER, "sshd"));
    assert!(output.status.success(), "{text}\nsshd of the broker:\n{log}");
    service.sh("client", &format!("test -s {PICTURE}"));
}

/// ssh to `agent` with the key that was stolen: what it prints, its exit code.
fn steal(service: &Service, user: &str, agent: &str, words: &str, input: &str) -> (String, i32) {
    let ssh = "ssh -i ~/stolen -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no \
               -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
    let line = format!("printf '{input}' | {ssh} -l {user} {agent} {words}");
    let output = service.exec("client", "alice", &["sh", "-c", &line]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status.code().unwrap())
}

/// A login by password at the broker, which takes nothing else from then on: it is asked for once.
pub(crate) fn one_password(service: &Service) {
    service.sh(BROKER, "echo alice:correct-horse | chpasswd");
    sshd(service, BROKER, "PasswordAuthentication yes\\nAuthorizedKeysFile none\\n");
    let output = connect(service, "correct-horse\\n", &[]);
    has_picture(service, &output);
    assert_eq!(asked(service).len(), 1, "{:?}", asked(service));
}

#[test]
fn a_password_or_a_code_at_the_broker_is_asked_for_once() {
    asked_once(&strict("one-login"));
}

pub(crate) fn asked_once(service: &Service) {
    let before = keys(service);
    // With the user's own key nothing is asked at all.
    let output = connect(service, "", &[]);
    has_picture(service, &output);
    assert_eq!(asked(service), Vec::<String>::new());

    // By password: the hosts of this service have no other way in now.
    service.sh("client", "rm /home/alice/.ssh/id_ed25519");
    one_password(service);

    // The broker's host is slow: its PAM takes longer than an address takes to move. It is no dead one.
    let slow = "session required pam_exec.so /bin/sleep 7";
    service.sh(BROKER, &format!("echo '{slow}' >> /etc/pam.d/sshd"));
    let output = connect_and_ask(service, "correct-horse\\n", &[]);
    has_picture(service, &output);
    assert_eq!(asked(service).len(), 1, "{:?}", asked(service));
    service.sh(BROKER, "sed -i '/pam_exec.so .bin.sleep/d' /etc/pam.d/sshd");

    // By a code that is good once.
    service.sh(
        BROKER,
        r#"cat > /usr/local/sbin/code <<'END'
#!/bin/sh
# pam_exec gives the code with a NUL behind it.
code=$(tr -d '\0')
grep -qx "$code" /etc/vsm/codes && sed -i "/^$code\$/d" /etc/vsm/codes
END
chmod 755 /usr/local/sbin/code
printf '314159\n271828\n' > /etc/vsm/codes
sed -i 's,^@include common-auth,auth required pam_exec.so expose_authtok quiet /usr/local/sbin/code\nauth required pam_permit.so,' /etc/pam.d/sshd"#,
    );
    sshd(service, BROKER, "KbdInteractiveAuthentication yes\\nAuthorizedKeysFile none\\n");
    let output = connect(service, "314159\\n271828\\n", &[]);
    has_picture(service, &output);
    assert_eq!(asked(service).len(), 1, "{:?}", asked(service));
    assert_eq!(service.sh(BROKER, "cat /etc/vsm/codes"), "271828", "a second code was used");
    let left: Vec<_> = keys(service).into_iter().filter(|key| !before.contains(key)).collect();
    assert_eq!(left, [""; 0], "a key was left behind");
}

#[test]
fn the_name_that_the_broker_knows_is_the_one_at_the_session_host() {
    let service = strict("one-name");
    for agent in ["agent1", "agent2"] {
        sshd(&service, agent, "");
        service.configure(agent, "vsmagent", &["/shadowing/shadowing_mode=silent"]);
    }
    service.configure(BROKER, "vsmserver", &["/shadowing/allowed_shadowers=bob"]);
    // Carol goes to the broker as somebody else, which her files say of that host alone.
    let becomes = |user: &str| {
        let line = format!(
            "cp /home/{user}/.ssh/id_ed25519 /home/carol/.ssh/other; chown carol /home/carol/.ssh/other; \
             cd /home/carol/.ssh; [ -e plain ] || cp config plain; \
             (printf 'Host tlha*\\n User {user}\\n IdentityFile ~/.ssh/other\\nHost *\\n'; cat plain) > config"
        );
        service.sh("client", &line);
    };
    let run = |words: &[&str]| {
        let output = service.exec("client", "carol", words).unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let picture = ["vsm", "connect", "--retry-for=0", "--json", "--screenshot", "/dev/null"];
    becomes("alice");
    for one_login in ["true", "false"] {
        if one_login == "false" {
            service.configure(BROKER, "vsmserver", &["/vsmserver/one_login=false"]);
            // Alice's key is the way in at the session hosts as well.
            service.sh("client", "echo 'IdentityFile ~/.ssh/other' >> /home/carol/.ssh/config");
        }
        let said = run(&[&picture[..], &["tlha"]].concat());
        assert!(said.contains(r#""user":"alice""#), "{said}");
    }
    service.configure(BROKER, "vsmserver", &["/vsmserver/one_login=true"]);
    becomes("bob");
    run(&["vsm", "shadow", "--screenshot", "/dev/null", "tlha", "alice"]);
    // Another name of the same user, as directories have them.
    becomes("alice");
    for file in ["passwd", "shadow"] {
        let line = format!(r"sed -n 's/^alice:/LAB\\alice:/p' /etc/{file} >> /etc/{file}");
        service.sh(BROKER, &line);
    }
    let said = run(&[&picture[..], &[r"LAB\alice@tlha"]].concat());
    assert!(said.contains(r#""user":"alice""#), "{said}");
}

#[test]
fn a_key_is_good_once_for_its_user_its_desktop_and_a_short_time() {
    let service = strict("one-key");
    let thief = ["--ssh", "/home/alice/thief"];
    let other = service.connect("bob");
    let output = connect(&service, "", &thief);
    has_picture(&service, &output);
    let row = service.rows().into_iter().find(|row| row.user == "alice").unwrap();
    let preface = |session: &str| format!("vsm/1 session {session}\\n");
    let agent = row.agent.as_str();

    // Replayed.
    let (text, code) = steal(&service, "alice", agent, "-s vsm", &preface(&row.session));
    assert_eq!((text.as_str(), code), ("", 255));
    assert!(service.daemon_log(agent, "vsmagent").contains("a one-time key was used"));

    // Stolen before it was used: it opens nothing but this desktop, for nobody else.
    let unused = || {
        service.output("client", "alice", &["touch", "hold"]).unwrap();
        let output = connect(&service, "", &thief);
        assert_eq!(output.status.code(), Some(255), "{output:?}");
        service.output("client", "alice", &["rm", "hold"]).unwrap();
    };
    unused();
    assert_eq!(steal(&service, "bob", agent, "-s vsm", &preface(&row.session)).1, 255);
    assert_eq!(steal(&service, "root", agent, "-s vsm", &preface(&row.session)).1, 255);
    let (text, _) = steal(&service, "alice", agent, "id", "");
    assert!(text.starts_with("error bad-request"), "{text}");
    let (text, code) = steal(&service, "alice", agent, "-W 127.0.0.1:22", "");
    assert!(text.is_empty() && code != 0, "{text} {code}");
    let (text, _) = steal(&service, "alice", agent, "-s vsm", "vsm/1 broker\\n");
    assert!(text.starts_with("error refused"), "{text}");
    let (text, _) = steal(&service, "alice", agent, "-s vsm", &preface(&other.session));
    assert!(text.starts_with("error spent") && text.contains("another desktop"), "{text}");
    let (text, code) = steal(&service, "alice", agent, "-s vsm", &preface(&row.session));
    assert_eq!((text.as_str(), code), ("", 255), "after that it is good for nothing");

    // It is what it is for: had the thief been first, the desktop were theirs, and the user would notice.
    unused();
    let (text, _) = steal(&service, "alice", agent, "-s vsm", &preface(&row.session));
    assert!(text.starts_with("ok"), "{text}");

    // Too late.
    service.configure(BROKER, "vsmserver", &["/vsmserver/one_login_time=1s"]);
    unused();
    wait_for("the key to be good no more", crate::service::WAIT, || {
        let ask = "vsm-authorized-keys alice $(cut -d' ' -f1,2 /dev/stdin)";
        let key = service.sh("client", "cat /home/alice/stolen.pub");
        let said = service.sh(agent, &format!("echo '{key}' | ({ask})"));
        if said.is_empty() { Ok(()) } else { Err(said) }
    })
    .unwrap();
    let (text, code) = steal(&service, "alice", agent, "-s vsm", &preface(&row.session));
    assert_eq!((text.as_str(), code), ("", 255));
}

#[test]
fn without_it_users_log_in_at_the_session_host_as_always() {
    let service = strict("two-logins");
    service.configure(BROKER, "vsmserver", &["/vsmserver/one_login=false"]);
    let output = connect(&service, "", &[]);
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    // Where users have a way in of their own, everything works as before.
    for agent in ["agent1", "agent2"] {
        sshd(&service, agent, "");
    }
    let output = connect(&service, "", &["-o", "StrictHostKeyChecking=no"]);
    has_picture(&service, &output);
    service.configure(BROKER, "vsmserver", &["/vsmserver/one_login=true"]);
    let output = connect(&service, "", &[]);
    has_picture(&service, &output);

    // An sshd that was not told of the keys, and an agent that is not there to be asked: the user's own way counts.
    for agent in ["agent1", "agent2"] {
        service.sh(agent, "rm /etc/ssh/sshd_config.d/vsm-keys.conf");
        sshd(&service, agent, "");
    }
    let output = connect(&service, "", &["-o", "StrictHostKeyChecking=no"]);
    has_picture(&service, &output);

    // A command of the site's own is asked as well.
    service.sh(
        "agent1",
        "printf '#!/bin/sh\\necho \"of the site for $1\"\\n' > /usr/local/bin/site; chmod 755 /usr/local/bin/site",
    );
    let asked = "vsm-authorized-keys alice ssh-ed25519 AAAA /usr/local/bin/site alice";
    assert_eq!(service.sh("agent1", asked), "of the site for alice");
}
