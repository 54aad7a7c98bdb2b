//! The trail as an auditor has it: exported, checked with and without VSM, and whatever is done to it is found.

use serde_json::Value;
use xtask::clock::wait_for;

use crate::service::{AGENTS, BROKER, Service, WAIT};
use crate::shares;

const FILE: &str = "/var/log/vsm/trail.jsonl";
/// A syslog: each line that it is sent goes to a file.
const SYSLOG: &str = "import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('/run/log')
os.chmod('/run/log', 0o666)
print('all', flush=True)
while True:
    line = s.recv(65536).decode()
    with open('/var/log/syslog.txt', 'a') as f:
        f.write(line + '\\n')";
/// Changes one user's name in the events of a table, as root could.
const FORGE: &str = "import sqlite3, sys
t = sqlite3.connect(sys.argv[1])
for slot, record in t.execute('SELECT rowid, record FROM event').fetchall():
    if b'alice' in record:
        t.execute('UPDATE event SET record = ? WHERE rowid = ?', (record.replace(b'alice', b'carol'), slot))
        t.commit()
        sys.exit()
sys.exit('no event of alice')";

/// Changes the first event of a file, and makes all hashes anew.
const ANEW: &str = "import hashlib, json, sys
before = '0' * 64
for line in sys.stdin:
    e = json.loads(line)
    if e['number'] == 1:
        e['detail'] = 'nothing happened'
    names = ['number', 'unix_ms', 'actor', 'action', 'session', 'user', 'agent', 'detail']
    text = '\\n'.join([before] + [str(e[name] or '') for name in names])
    before = e['chain'] = hashlib.sha256(text.encode()).hexdigest()
    print(json.dumps(e))";

/// The number of the last event that the broker has.
fn last(service: &Service) -> u64 {
    let all = service.sh(BROKER, "vsmctl events -n 1 --output json");
    let all: Value = serde_json::from_str(&all).unwrap();
    all[0]["number"].as_u64().unwrap()
}

/// Waits until the file has what the broker has.
fn exported(service: &Service, file: &str) {
    wait_for("the trail to be exported", WAIT, || {
        let wanted = format!("\"number\":{},", last(service));
        let all =
            service.output(BROKER, "root", &["cat", file]).map_err(|error| error.to_string())?;
        if all.contains(&wanted) { Ok(()) } else { Err(format!("no {wanted} in {all}")) }
    })
    .unwrap();
}

/// What a check of these files says; with its exit code.
fn verify(service: &Service, words: &str) -> String {
    service.sh(BROKER, &format!("vsmctl events verify {words} 2>&1; echo exit $?"))
}

/// The program of docs/json.md that checks a file without VSM.
fn documented() -> String {
    let page = include_str!("../../../docs/json.md");
    let (_, rest) = page.split_once("```python\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn what_is_done_to_an_exported_trail_is_found() {
    let service = Service::up("trail");
    let sh = |line: &str| service.sh(BROKER, line);
    // As the unit has it made.
    sh("install -d -o vsmserver -m 750 /var/log/vsm");
    let mut syslog = service.command(BROKER, "root", &["python3", "-c", SYSLOG]).unwrap();
    let mut syslog = syslog.stdout(std::process::Stdio::null()).spawn().unwrap();
    let file = format!("/vsmserver/trail/file={FILE}");
    let socket = "/vsmserver/logging/syslog_socket=/run/log";
    service.configure(BROKER, "vsmserver", &[&file, "/vsmserver/trail/syslog=yes", socket]);
    service.connect("alice");
    let bob = service.connect("bob");
    sh("vsmctl session terminate --user alice --assume-yes");
    service.rows_become("alice's desktop to be gone", |rows| {
        rows.iter().all(|row| row.user != "alice")
    });
    exported(&service, FILE);

    let whole = verify(&service, FILE);
    assert!(whole.contains("the chain is whole") && whole.ends_with("exit 0"), "{whole}");
    let whole = verify(&service, "--offline - < /var/log/vsm/trail.jsonl");
    assert!(whole.contains("the chain is whole"), "{whole}");
    let sent = "sed 's/^<86>vsm-trail\\[[0-9]*\\]: //' /var/log/syslog.txt";
    let whole = service.sh(BROKER, &format!("{sent} | vsmctl events verify - 2>&1"));
    assert!(whole.contains("the chain is whole"), "{whole}");
    // Only its end, which the broker has from one event before on.
    sh(&format!("tail -n 3 {FILE} > /var/log/late.jsonl"));
    let whole = verify(&service, "/var/log/late.jsonl");
    assert!(whole.contains("the chain is whole"), "{whole}");
    std::fs::write(
        format!("/run/vsm-cluster/{}/hosts/{BROKER}/check.py", service.name()),
        documented(),
    )
    .unwrap();
    let others = sh(&format!("python3 /run/host/check.py < {FILE}"));
    assert!(others.starts_with("whole up to event "), "{others}");
    for word in ["broker-active", "session-started", "session-terminated", "configuration-changed"]
    {
        sh(&format!("grep -q '\"action\":\"{word}\"' {FILE}"));
    }

    what_was_done_is_named(&service);
    what_the_broker_has_counts(&service);
    other_files_are_left_alone(&service);
    it_goes_on_where_it_was(&service);
    // What root does to the table itself; the file knows better.
    service.stop_daemon(BROKER, "vsmserver").unwrap();
    let table = sh("ls /var/lib/vsm/*.db");
    on_table(&service, table.trim());
    service.start_daemon(BROKER, "vsmserver").unwrap();
    service.agents_are("up", &AGENTS);
    let forged = verify(&service, "");
    assert!(forged.contains("is not as it was recorded") && forged.ends_with("exit 1"), "{forged}");
    let forged = verify(&service, "/var/log/vsm/trail.1 /var/log/vsm/trail.jsonl");
    assert!(forged.contains("the broker: event"), "{forged}");
    assert_eq!(service.connect("bob").session, bob.session);
    syslog.kill().unwrap();
    syslog.wait().unwrap();
}

fn on_table(service: &Service, table: &str) {
    let output = service.output(BROKER, "root", &["python3", "-c", FORGE, table]).unwrap();
    assert_eq!(output, "");
    service.sh(BROKER, "chown vsmserver: /var/lib/vsm/*");
}

/// Changed, taken out, made up, cut.
fn what_was_done_is_named(service: &Service) {
    for (how, words) in [
        (
            "sed '/session-started/ s/\"actor\":\"vsmserver\"/\"actor\":\"root\"/'",
            "is not as it was recorded",
        ),
        ("sed '0,/session-started/ {/session-started/ d}'", "are missing"),
        ("sed '/session-started/ s/\"time\":\"20../\"time\":\"2010/'", "are not the same moment"),
        ("sed '/session-started/ s/\"chain\":\"[^\"]*\"/\"chain\":null/'", "has no hash"),
        ("sed '$ s/.$//'", "this is no event"),
    ] {
        service.sh(
            BROKER,
            &format!("{how} {FILE} > /var/log/forged.jsonl; ! cmp -s {FILE} /var/log/forged.jsonl"),
        );
        let said = verify(service, "--offline /var/log/forged.jsonl");
        assert!(said.contains(words) && said.ends_with("exit 1"), "{how}: {said}");
        assert!(said.contains("/var/log/forged.jsonl:"), "{said}");
    }
}

/// A file that is whole by itself, beside a broker that has other events; and one that ends early.
fn what_the_broker_has_counts(service: &Service) {
    let sh = |line: &str| service.sh(BROKER, line);
    sh(&format!("python3 -c \"{ANEW}\" < {FILE} > /var/log/anew.jsonl"));
    let alone = verify(service, "--offline /var/log/anew.jsonl");
    assert!(alone.contains("the chain is whole") && alone.ends_with("exit 0"), "{alone}");
    let beside = verify(service, "/var/log/anew.jsonl");
    assert!(beside.contains("another one than that of the files"), "{beside}");
    assert!(beside.ends_with("exit 1"), "{beside}");
    sh(&format!("head -n 2 {FILE} > /var/log/short.jsonl"));
    let short = verify(service, "/var/log/short.jsonl");
    assert!(short.contains("the files end with event 2") && short.ends_with("exit 0"), "{short}");
}

/// A file that is somebody's already is not written to.
fn other_files_are_left_alone(service: &Service) {
    let sh = |line: &str| service.sh(BROKER, line);
    let export_to = |file: &str| {
        let file = format!("/vsmserver/trail/file={file}");
        service.configure(BROKER, "vsmserver", &[&file]);
    };
    sh(
        "cd /var/log/vsm; printf 'one\\ntwo' > notes; chown vsmserver notes; printf x > bobs; chown bob bobs",
    );
    sh("chmod 666 /var/log/vsm/bobs");
    for (file, why) in [("notes", "something else than an event"), ("bobs", "another user")] {
        let file = format!("/var/log/vsm/{file}");
        let before = sh(&format!("cat {file}"));
        export_to(&file);
        shares::told(service, BROKER, "trail", why);
        assert_eq!(sh(&format!("cat {file}")), before);
    }
    export_to(FILE);
    exported(service, FILE);
}

/// Through crashes, a file that is renamed, and a folder that is not there for a while.
fn it_goes_on_where_it_was(service: &Service) {
    let sh = |line: &str| service.sh(BROKER, line);
    for _ in 0..3 {
        sh("vsmctl agent drain agent1; vsmctl agent undrain agent1");
        service.crash(BROKER, "vsmserver");
        service.agents_are("up", &AGENTS);
    }
    exported(service, FILE);
    let whole = verify(service, FILE);
    assert!(whole.contains("the chain is whole"), "{whole}");
    sh(&format!("mv {FILE} /var/log/vsm/trail.1; mkdir {FILE}"));
    sh("vsmctl agent drain agent1; vsmctl agent undrain agent1");
    shares::told(service, BROKER, "trail", "is not exported to /var/log/vsm/trail.jsonl");
    sh(&format!("rmdir {FILE}"));
    exported(service, FILE);
    let whole = verify(service, &format!("/var/log/vsm/trail.1 {FILE}"));
    assert!(whole.contains("the chain is whole"), "{whole}");
    service.until(BROKER, "vsmctl ha status --exit-code");
}
