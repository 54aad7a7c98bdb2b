//! `vsm-agent-net`, which brokers speak to, and `vsmagent`, which is root: what the first cannot do, what the second
//! does for nobody, and that each dies and comes back without harm to the other or to a desktop.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    process::Stdio,
    time::{Duration, Instant},
};

use tonic::{Code, Status, Streaming};
use vsm_proto::agent::v1::{
    ReportRequest, ReportResponse, StartRequest, VerifyRequest, report_response::Item,
    start_response,
};

use crate::{
    calls::{Client, new_id, request, start, started, terminate, verify},
    lab::{Lab, children, kill, wait_for},
};

/// Its account, which may read the key by its group.
const NET: u32 = 993;

/// Sends its argument as its account, and prints what is answered.
const ASK: &str = r#"perl -MIO::Socket::UNIX -e '
    my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "no way in: $!";
    local $SIG{PIPE} = "IGNORE"; local $/; my $line = <STDIN>; print $s $line; $s->flush; shutdown($s, 1);
    print scalar <$s> // "";' "$SOCKET""#;

/// What is answered to a line of this user.
fn ask(lab: &Lab, uid: u32, line: &str) -> String {
    let mut ask = lab.as_user(uid, ASK);
    ask.env("SOCKET", lab.path("run/agent/vsmagent.sock"));
    let mut ask = ask.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // One that is refused may be gone before it is read.
    let _ = ask.stdin.take().unwrap().write_all(line.as_bytes());
    String::from_utf8_lossy(&ask.wait_with_output().unwrap().stdout).into_owned()
}

fn call(call: &str) -> String {
    format!("{{\"version\":1,\"call\":{call}}}\n")
}

fn may(lab: &Lab, uid: u32, script: &str) -> bool {
    let mut script = lab.as_user(uid, script);
    script.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_brokers_speak_to_has_no_power() {
    let lab = Lab::new();
    let id = new_id();
    started(&mut lab.broker().await, &id, "alice").await;
    let status = fs::read_to_string(format!("/proc/{}/status", lab.net_pid())).unwrap();
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(of(set).trim_matches('0'), "", "{set}");
    }
    assert_eq!(of("NoNewPrivs"), "1");
    assert_eq!(of("Uid"), ["993"; 4].join("\t"));
    assert_eq!(of("Gid"), ["993"; 4].join("\t"));
    assert_eq!(of("Groups"), "993 994");
    // It reads the key, and nobody else does; nothing of root's, and nothing of a session.
    let key = fs::metadata(lab.path("tls/key.pem")).unwrap().permissions().mode();
    assert_eq!(key & 0o777, 0o640);
    let dir = lab.path("");
    let dir = dir.display();
    for (script, control) in [
        ("cat /etc/shadow".to_owned(), 0),
        (format!("ls {dir}/state"), 0),
        (format!("cat {dir}/state/log/{id}.log"), 0),
        (format!("ls {dir}/run/sessions/{id}/user"), 51001),
        (format!("cat {dir}/run/sessions/{id}/params.json"), 51001),
        (format!("touch {dir}/tls/x"), 0),
        (format!("touch {dir}/run/agent/x"), 0),
    ] {
        assert!(!may(&lab, NET, &script), "{script}");
        assert!(may(&lab, control, &script), "the control: {script}");
    }
    assert!(!may(&lab, 51002, &format!("ls {dir}/run/agent")), "another user");
    // No core of it, and no look into its memory.
    let limits = fs::read_to_string(format!("/proc/{}/limits", lab.net_pid())).unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core")).unwrap();
    assert_eq!(cores.split_whitespace().filter(|word| *word == "0").count(), 2, "{cores}");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_does_for_its_account_what_there_is_and_nothing_for_others() {
    let lab = Lab::new();
    let id = new_id();
    let mut broker = lab.broker().await;
    started(&mut broker, &id, "alice").await;
    let lives = call(&format!(
        r#"{{"verify":{{"id":"{id}","client":null,"standing":false,"fence":null}}}}"#
    ));
    let said = ask(&lab, NET, &lives);
    assert!(said.contains(r#""alive""#) && said.contains("alice"), "the way is open: {said}");
    // Root itself is nobody here; others do not come as far.
    assert!(ask(&lab, 0, &lives).contains("only the user vsmagent may ask"));
    assert_eq!(ask(&lab, 51001, &lives), "");
    let fence = r#""fence":{"epoch":{"counter":1,"node":"b1","nonce":0},"incarnation":1,"lineage":"01890a5d-ac96-774b-bcce-000000000001"}"#;
    let start = |user: &str, more: &str| {
        let id = new_id();
        call(&format!(
            r#"{{"start":{{{fence},"session":{{"id":"{id}","user":"{user}","agent":"agent1","state":"starting","request":"{id}","params":{{"geometry":null}},"created":1}},"limits":{{}},"resources":{{}}{more}}}}}"#
        ))
    };
    let long = "x".repeat(300 << 10);
    for (line, says) in [
        ("garbage\n".to_owned(), "cannot be read"),
        ("\u{1}\u{2}\u{3}\n".to_owned(), "cannot be read"),
        (long, "cannot be read"),
        (lives.replace("\"version\":1", "\"version\":9"), "version 9"),
        (call(r#"{"run":{"program":"/bin/sh"}}"#), "cannot be read"),
        (start("alice", r#","program":"/bin/sh""#), "cannot be read"),
        (start("alice", r#","environment":{"LD_PRELOAD":"/tmp/x"}"#), "cannot be read"),
        (start("../alice", ""), "cannot be read"),
        (start("nobody-here", ""), "unknown-user"),
        (
            call(&format!(r#"{{"log":{{{fence},"id":"../../etc/shadow","bytes":9}}}}"#)),
            "cannot be read",
        ),
        (call(r#"{"witness":{"bytes":999999999}}"#), "may bring"),
        (
            call(r#"{"install":{"chain":"x","key":"y","authorities":"","better":"newer"}}"#),
            "no certificate of this host",
        ),
    ] {
        let answer = ask(&lab, NET, &line);
        let shown: String = line.chars().take(120).collect();
        assert!(answer.contains(says), "{shown}: {answer}");
    }
    // However long it is and however often it is said, the log has a line of it.
    let named = call(&format!(r#"{{"{}":1}}"#, "A".repeat(200 << 10)));
    let before = lab.log().len();
    for _ in 0..20 {
        let answer = ask(&lab, NET, &named);
        assert!(answer.contains("cannot be read") && answer.len() < 1000, "{}", answer.len());
    }
    let grown = lab.log().len() - before;
    assert!(grown < 4096, "{grown} bytes in the log");
    // Whoever has the account can say that it is any broker; a promise goes up, and no further than is reasonable.
    let far = start("alice", "").replace("\"counter\":1", "\"counter\":18446744073709551615");
    assert!(ask(&lab, NET, &far).contains("beyond all reason"));
    verify(&mut broker, &id).await.unwrap();
    assert!(!lab.processes(&id).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_takes_all_connections_has_its_share_and_desktops_go_on() {
    let lab = Lab::new();
    let id = new_id();
    let mut broker = lab.broker().await;
    started(&mut broker, &id, "alice").await;
    // More than its share, and none of them says anything.
    let script = r#"perl -MIO::Socket::UNIX -MIO::Select -e '
        my @all = map { IO::Socket::UNIX->new(Peer => $ENV{SOCKET}) or die "$!" } 1..1100;
        my $closed = grep { IO::Select->new($_)->can_read(5) } @all[1050..1099]; print "$closed\n";'"#;
    let mut take = lab.as_user(NET, script);
    take.env("SOCKET", lab.path("run/agent/vsmagent.sock"));
    let output = take.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "50", "{output:?}");
    assert_eq!(lab.attach(&id, "10.0.0.9").unwrap().greeting(), "RFB 003.008\n");
    wait_for("calls to be taken again", || ask_lives(&lab, &id).then_some(()));
    verify(&mut broker, &id).await.unwrap();
    terminate(&mut broker, &id).await;
}

fn ask_lives(lab: &Lab, id: &str) -> bool {
    let line =
        format!(r#"{{"verify":{{"id":"{id}","client":null,"standing":false,"fence":null}}}}"#);
    ask(lab, NET, &call(&line)).contains("alive")
}

async fn report(broker: &mut Client) -> Streaming<ReportResponse> {
    let request = ReportRequest { broker: "b1".to_owned() };
    let mut report = broker.report(request).await.unwrap().into_inner();
    let first = report.message().await.unwrap().unwrap().item;
    assert!(matches!(first, Some(Item::Inventory(_))), "{first:?}");
    report
}

/// How a report ends.
async fn end(mut report: Streaming<ReportResponse>) -> Option<Status> {
    loop {
        match report.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

fn asked(id: &str) -> VerifyRequest {
    VerifyRequest { id: id.to_owned(), client: None, standing: false, fence: None }
}

/// A lab whose X servers take a moment.
fn slow() -> Lab {
    let lab = Lab::with(&["xserver: BASE/slow"]);
    let text = "#!/bin/sh\nsleep 2\nexec $(command -v Xtigervnc || command -v Xvnc) \"$@\"\n";
    fs::write(lab.path("slow"), text).unwrap();
    fs::set_permissions(lab.path("slow"), fs::Permissions::from_mode(0o755)).unwrap();
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn without_root_brokers_are_refused_with_a_word_and_with_it_all_goes_on() {
    let mut lab = slow();
    let (id, other) = (new_id(), new_id());
    let mut broker = lab.broker().await;
    started(&mut broker, &id, "alice").await;
    let mut viewer = lab.attach(&id, "10.0.0.9").unwrap();
    let (told, net) = (report(&mut broker).await, lab.net_pid());
    // One call and one report are under way.
    let mut caller = broker.clone();
    let asks: StartRequest = request(&other, "bob");
    let under_way = tokio::spawn(async move { caller.start(asks).await });
    wait_for("the start", || (!lab.processes(&other).is_empty()).then_some(()));
    lab.stop_agent("KILL");
    let began = Instant::now();
    let is_told = |status: &Status| {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.message().contains("systemctl status vsmagent"), "{status}");
    };
    is_told(&under_way.await.unwrap().unwrap_err());
    is_told(&end(told).await.unwrap());
    is_told(&broker.verify(asked(&id)).await.unwrap_err());
    is_told(&broker.report(ReportRequest::default()).await.unwrap_err());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(viewer.greeting(), "RFB 003.008\n");
    lab.start_agent();
    assert_eq!(lab.net_pid(), net, "it waited");
    // The same connection, and the start that nobody was told of.
    verify(&mut broker, &id).await.unwrap();
    started(&mut broker, &other, "bob").await;
    let told = report(&mut broker).await;
    // A stop takes both along, and the report just ends.
    lab.stop_agent("TERM");
    assert!(end(told).await.is_none_or(|status| status.code() != Code::DataLoss));
    lab.start_agent();
    let mut broker = lab.broker().await;
    for id in [&id, &other] {
        verify(&mut broker, id).await.unwrap();
        terminate(&mut broker, id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_is_found_out_and_one_that_goes_on_serves() {
    let lab = Lab::new();
    let id = new_id();
    let mut broker = lab.broker().await;
    started(&mut broker, &id, "alice").await;
    let told = report(&mut broker).await;
    kill(lab.agent_pid(), "STOP");
    let mut other = broker.clone();
    let (end, asked) = tokio::join!(end(told), other.verify(asked(&id)));
    assert_eq!(end.unwrap().code(), Code::Unavailable);
    assert_eq!(asked.unwrap_err().code(), Code::Unavailable);
    lab.resume_agent();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut alive = broker.verify(self::asked(&id)).await;
    while alive.is_err() && Instant::now() < deadline {
        alive = broker.verify(self::asked(&id)).await;
    }
    alive.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_with_brokers_may_die_and_what_was_begun_is_done() {
    let mut lab = slow();
    let (id, other) = (new_id(), new_id());
    let mut broker = lab.broker().await;
    started(&mut broker, &id, "alice").await;
    let mut viewer = lab.attach(&id, "10.0.0.9").unwrap();
    let root = lab.agent_pid();
    let mut caller = broker.clone();
    let asks = request(&other, "bob");
    let under_way = tokio::spawn(async move { caller.start(asks).await });
    wait_for("the start", || (!lab.processes(&other).is_empty()).then_some(()));
    lab.kill_net();
    under_way.await.unwrap().unwrap_err();
    assert_eq!(viewer.greeting(), "RFB 003.008\n");
    let gone = || lab.log().matches("vsm-agent-net is not there").count();
    wait_for("vsmagent to say so", || (gone() == 1).then_some(()));
    lab.start_net();
    let mut broker = lab.broker().await;
    match start(&mut broker, request(&other, "bob")).await {
        start_response::Result::Started(session) => assert_eq!(session.id, other),
        other => panic!("{other:?}"),
    }
    verify(&mut broker, &id).await.unwrap();
    assert_eq!(lab.agent_pid(), root, "the other goes on");
    assert_eq!(lab.log().matches("vsm-agent-net is not there").count(), 1, "told once");
}

/// What follows it would go on over the old one, and each call would fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_taken_away_is_there_again() {
    let mut lab = Lab::new();
    let mut broker = lab.broker().await;
    let id = new_id();
    for _ in 0..2 {
        fs::remove_dir_all(lab.path("run/agent")).unwrap();
        wait_for("the socket", || lab.path("run/agent/vsmagent.sock").exists().then_some(()));
        started(&mut broker, &id, "alice").await;
    }
    assert_eq!(lab.log().matches("was taken away, and is there again").count(), 2);
    lab.stop_agent("TERM");
    lab.start_agent();
    verify(&mut lab.broker().await, &id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_where_what_speaks_with_brokers_never_comes() {
    let mut lab = Lab::new();
    lab.kill_net();
    let told = || lab.log().matches("vsm-agent-net is not there").count();
    wait_for("vsmagent to say so", || (told() == 1).then_some(()));
    lab.stop_agent("KILL");
    lab.start_agent_alone();
    let told = || lab.log().matches("vsm-agent-net is not there").count();
    wait_for("the next one to say so too", || (told() == 2).then_some(()));
}

/// A socket of somebody else is none: nothing is told to it.
#[tokio::test(flavor = "multi_thread")]
async fn only_root_is_taken_for_root() {
    let mut lab = Lab::new();
    lab.stop_agent("KILL");
    let socket = lab.path("run/agent/vsmagent.sock");
    fs::remove_file(&socket).unwrap();
    let mode = |mode| fs::set_permissions(lab.path("run/agent"), fs::Permissions::from_mode(mode));
    mode(0o777).unwrap();
    let script = r#"exec perl -MIO::Socket::UNIX -e '
        my $l = IO::Socket::UNIX->new(Local => $ENV{SOCKET}, Listen => 5) or die "$!"; chmod 0666, $ENV{SOCKET};
        while (my $s = $l->accept) { open my $f, ">>", $ENV{SEEN}; my $line = <$s>; print $f ($line // "nothing") . "\n"; }'"#;
    let seen = lab.path("home/bob/seen");
    let mut false_one = lab.as_user(51002, script);
    false_one.env("SOCKET", &socket).env("SEEN", &seen);
    let mut false_one = false_one.spawn().unwrap();
    wait_for("a false one", || fs::read_to_string(&seen).ok().filter(|seen| !seen.is_empty()));
    let refused = lab.broker().await.verify(asked(&new_id())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(!fs::read_to_string(&seen).unwrap().contains("version"), "it was told something");
    kill(children(false_one.id())[0], "KILL");
    false_one.wait().unwrap();
    // What somebody else made is no folder of root's, and root's own is as it was.
    mode(0o710).unwrap();
    lab.start_agent();
    started(&mut lab.broker().await, &new_id(), "alice").await;
}
