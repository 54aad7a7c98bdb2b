//! Bytes that mean nothing, files cut in half, settings that make no sense, and a second broker:
//! nobody who works is disturbed.

use crate::service::{AGENTS, BROKER, SIGKILL, Service};

/// Sends each of some openings to a socket, waits for the answer's end, and goes on.
const THROW: &str = r#"
use IO::Socket::UNIX; use IO::Socket::INET; $SIG{PIPE} = 'IGNORE'; $SIG{ALRM} = sub { die "no end" };
my $to = shift; my $http2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"; my $settings = "\0\0\0\4\0\0\0\0\0";
sub frame { my ($type, $flags, $stream, $body) = @_;
    substr(pack('N', length $body), 1) . pack('CCN', $type, $flags, $stream) . $body }
sub field { my ($name, $value) = @_; "\0" . pack('C', length $name) . $name . pack('C', length $value) . $value }
sub call { my ($path, $message) = @_;
    my $headers = join '', map { field(@$_) } [':method', 'POST'], [':scheme', 'http'], [':path', $path],
        [':authority', 'x'], ['content-type', 'application/grpc'], ['te', 'trailers'];
    $http2 . $settings . frame(1, 4, 1, $headers) . frame(0, 1, 1, $message) }
my $login = '/vsm.broker.v1.Broker/Login';
my @openings = ("\0" x 300, "garbage\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", join('', map { chr(($_ * 7919) & 255) } 1 .. 5000),
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . ("\xaa" x 100), $http2, $http2 . "\xff\xff\xff\1\4\0\0\0\1", substr($http2, 0, 11),
    call($login, "\0\0\0\0\5\xff\xff\xff\xff\xff"), call($login, "\0\0\0\0\xff\x0a\x03"), call($login, "\1\x7f\xff\xff\xff"),
    call($login, "\0\0\0\0\7\x0a\x05tiger"), call('/vsm.admin.v1.Admin/Status', "\0\0\0\0\0"), call('/no/such', ''));
for my $opening (@openings) {
    my $socket = $to =~ m{^/} ? IO::Socket::UNIX->new(Peer => $to) : IO::Socket::INET->new(PeerAddr => $to);
    $socket or die "$to: $!"; $socket->syswrite($opening); shutdown($socket, 1);
    eval { alarm 20; 1 while sysread($socket, my $answer, 65536); alarm 0; 1 } or die "no end after " . unpack('H*', substr($opening, 0, 40));
}
print scalar @openings;
"#;

/// A health check as a probe makes it: prints SERVING if the answer says so.
const HEALTH: &str = r#"
use IO::Socket::UNIX; my $socket = IO::Socket::UNIX->new(Peer => shift) or die $!; $SIG{ALRM} = sub { die 'no answer' }; alarm 20;
sub frame { my ($type, $flags, $stream, $body) = @_;
    substr(pack('N', length $body), 1) . pack('CCN', $type, $flags, $stream) . $body }
sub field { my ($name, $value) = @_; "\0" . pack('C', length $name) . $name . pack('C', length $value) . $value }
my $headers = join '', map { field(@$_) } [':method', 'POST'], [':scheme', 'http'], [':path', '/grpc.health.v1.Health/Check'],
    [':authority', 'x'], ['content-type', 'application/grpc'], ['te', 'trailers'];
$socket->syswrite("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(4, 0, 0, '') . frame(1, 4, 1, $headers) . frame(0, 1, 1, "\0\0\0\0\0"));
my ($all, $status) = (''); until (($status) = $all =~ /\x00{4}\x02\x08(.)/s) { sysread($socket, my $part, 65536) or die 'closed'; $all .= $part }
print ord($status) == 1 ? 'SERVING' : 'not serving';
"#;

#[test]
fn garbage_on_the_sockets_disturbs_nobody() {
    let service = Service::up("garbage");
    let desktop = service.connect("alice");
    let pid = |host, daemon| service.daemon(host, daemon).unwrap().pid;
    let daemons = [
        (BROKER, "vsmserver"),
        ("agent1", "vsmagent"),
        ("agent2", "vsmagent"),
        ("agent1", "vsm-agent-net"),
        ("agent2", "vsm-agent-net"),
    ];
    let before = daemons.map(|(host, daemon)| pid(host, daemon));
    for (host, user, to) in [
        (BROKER, "bob", "/run/vsm/vsmserver.sock"),
        (BROKER, "root", "/run/vsm/vsmserver-admin.sock"),
        ("client", "bob", "tlha:9000"),
        ("client", "bob", "agent1:904"),
        ("client", "bob", "agent2:904"),
    ] {
        let thrown = service.output(host, user, &["perl", "-e", THROW, to]).unwrap();
        assert_eq!(thrown, "14", "{to}");
    }
    control_socket(&service, &desktop.agent, &desktop.session);
    for ((host, daemon), before) in daemons.into_iter().zip(before) {
        service.undisturbed(host, daemon, before);
    }
    service.agents_are("up", &AGENTS);
    assert_eq!(service.connect("alice").session, desktop.session);
    assert!(service.connect("bob").created);
    for socket in ["/run/vsm/vsmserver.sock", "/run/vsm/vsmserver-admin.sock"] {
        let health = service.output(BROKER, "root", &["perl", "-e", HEALTH, socket]).unwrap();
        assert_eq!(health, "SERVING", "{socket}");
    }
}

/// The owner writes nonsense to their own session's control socket.
fn control_socket(service: &Service, agent: &str, session: &str) {
    let path = format!("/run/vsm/sessions/{session}/control.sock");
    let thrown = service.output(agent, "alice", &["perl", "-e", THROW, &path]).unwrap();
    assert_eq!(thrown, "14");
    service.sh(agent, &format!("test -e {path}"));
}

#[test]
fn a_malformed_preface_is_refused_in_words() {
    let service = Service::up("preface");
    for (sent, answer) in [
        ("nonsense\\n", "error bad-request "),
        ("vsm/2 broker\\n", "error bad-request "),
        ("vsm/1 brok", "error bad-request the request was cut off"),
        ("", "error bad-request the request was cut off"),
        ("vsm/1 session ../../etc\\n", "error bad-request "),
        ("vsm/1 session 01890a5d-ac96-774b-bcce-b302099a8057\\n", "error no-session "),
        ("%0300d\\n", "error bad-request the request is longer than 256 bytes"),
        ("\\377\\376\\n", "error bad-request the request is not text"),
    ] {
        let line = format!("printf '{sent}' | ssh -s tlha vsm");
        let output = service.exec("client", "alice", &["sh", "-c", &line]).unwrap();
        let got = String::from_utf8_lossy(&output.stdout);
        assert!(got.starts_with(answer) && got.lines().count() == 1, "{sent}: {got:?}");
        assert_eq!(output.status.code(), Some(1), "{sent}");
    }
    assert!(service.connect("alice").created);
}

#[test]
fn a_record_cut_in_half_is_rebuilt_from_the_running_desktop() {
    let service = Service::up("record");
    let desktop = service.connect("alice");
    let agent = &*desktop.agent;
    let path = format!("/var/lib/vsm-agent/sessions/{}.json", desktop.session);
    let whole = service.sh(agent, &format!("cat {path}"));
    for damage in [
        format!("truncate -s {} {path}", whole.len() / 2),
        format!("truncate -s 0 {path}"),
        format!("head -c {} /dev/urandom > {path}", whole.len()),
        format!("rm {path}"),
    ] {
        service.kill_daemon(agent, "vsmagent", SIGKILL).unwrap();
        service.sh(agent, &damage);
        service.until(agent, &format!("test -s {path} && grep -q x_server {path}"));
        service.agents_are("up", &[agent]);
        let again = service.connect("alice");
        assert_eq!((&again.session, again.created), (&desktop.session, false), "{damage}");
        assert_eq!(service.sh(agent, &format!("cat {path}")), whole, "{damage}");
    }
    assert_ne!(service.sh(agent, "ls /var/lib/vsm-agent/damaged"), "");
    // A file that is no record at all.
    service.sh(agent, "echo '{' > /var/lib/vsm-agent/sessions/notes.json");
    service.crash(agent, "vsmagent");
    service.agents_are("up", &[agent]);
    assert_eq!(service.connect("alice").session, desktop.session);
}

#[test]
fn a_second_broker_on_the_same_table_steps_back() {
    let service = Service::up("second");
    let desktop = service.connect("alice");
    let pid = service.daemon(BROKER, "vsmserver").unwrap().pid;
    let second = service.exec(BROKER, "root", &["vsmserver"]).unwrap();
    assert_eq!(second.status.code(), Some(75), "{second:?}");
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    let complaint = words.lines().last().unwrap();
    assert!(complaint.starts_with("vsmserver: ") && complaint.contains("/var/lib/vsm"), "{words}");
    service.undisturbed(BROKER, "vsmserver", pid);
    assert_eq!(service.connect("alice").session, desktop.session);
    assert!(service.connect("bob").created);
    let agent = service.exec("agent1", "root", &["vsmagent"]).unwrap();
    assert!(!agent.status.success());
    let words = String::from_utf8_lossy(&agent.stderr).into_owned();
    assert!(words.lines().last().unwrap().starts_with("vsmagent: "), "{words}");
    assert_eq!(service.connect("alice").session, desktop.session);
}

const BAD_FILE: &str = "/etc/vsm/conf.d/99-bad.yaml";

#[test]
fn a_bad_configuration_is_refused_with_file_line_and_path() {
    let service = Service::up("config");
    let desktop = service.connect("alice");
    for (host, daemon, key, good) in [
        (BROKER, "vsmserver", "max_sessions_per_user", "2"),
        ("agent1", "vsmagent", "max_sessions", "7"),
    ] {
        let write = format!("printf '# our own\\n{daemon}:\\n  {key}: plenty\\n' > {BAD_FILE}");
        service.sh(host, &write);
        let wanted = [format!("{BAD_FILE}:3"), format!("/{daemon}/{key}"), "plenty".to_owned()];
        for words in [&[daemon, "--check"][..], &[daemon]] {
            let output = service.exec(host, "root", words).unwrap();
            assert_eq!(output.status.code(), Some(78), "{output:?}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(wanted.iter().all(|word| said.contains(word)), "{wanted:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        let pid = service.daemon(host, daemon).unwrap().pid;
        service.reload(host, daemon, "configuration is bad");
        service.undisturbed(host, daemon, pid);
        assert!(service.daemon_log(host, daemon).contains(&wanted[0]));
        assert_eq!(service.connect("alice").session, desktop.session);
        service.sh(host, &format!("rm {BAD_FILE}"));
        service.configure(host, daemon, &[&format!("/{daemon}/{key}={good}")]);
        service.undisturbed(host, daemon, pid);
    }
    assert!(service.connect("bob").created);
}
