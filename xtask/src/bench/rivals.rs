//! The stores that a commit is compared with: PostgreSQL with a synchronous standby, etcd with three members, Redis
//! with a replica. Each is set up so that a write is answered when two of its nodes have it on disk, with TLS between
//! the nodes, and with the shortest way for its clients.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::lab::{Daemon, HOST, Lab, NODES};
use super::speed::{RECORD_LEN, Speed};
use crate::clock::wait_for;
use crate::command::run;
use crate::setup;

const POSTGRES: &str = "/usr/lib/postgresql/15/bin";
/// A file that is there exactly if its Debian package is.
const NEEDED: [(&str, &str); 3] = [
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
    ("/usr/bin/redis-server", "redis-server"),
    ("/usr/bin/etcd", "etcd-server"),
];
const USER: &str = "postgres";
const REDIS_PORT: &str = "7921";
const POSTGRES_PORT: &str = "7922";
/// Of the members' clients, and of the members.
const ETCD_PORTS: [(u16, u16); 3] = [(7931, 7941), (7932, 7942), (7933, 7943)];
const START_WAIT: Duration = Duration::from_secs(30);

/// Installs what is missing.
pub(super) fn setup() -> Result<()> {
    setup::packages(&NEEDED, false)
}

/// Another store, running.
pub(super) struct Rival {
    pub(super) name: &'static str,
    /// One write that succeeds only where both nodes take it.
    load: fn(&Lab, usize, u64) -> Result<Speed>,
    /// Standby first: a primary that ends last has somebody to wait for.
    _daemons: Vec<Daemon>,
}

impl Rival {
    pub(super) fn load(&self, lab: &Lab, in_flight: usize, for_ms: u64) -> Result<Speed> {
        (self.load)(lab, in_flight, for_ms).with_context(|| self.name)
    }

    /// Waits until it takes writes.
    fn ready(self, lab: &Lab) -> Result<Self> {
        let ready = wait_for(self.name, START_WAIT, || {
            self.load(lab, 1, 20).map(drop).map_err(|error| format!("{error:#}"))
        });
        ready.with_context(|| {
            self._daemons.iter().map(Daemon::said).collect::<Vec<_>>().join("\n")
        })?;
        Ok(self)
    }
}

fn tool(lab: &Lab, in_flight: usize, for_ms: u64, words: &[&str]) -> Result<Speed> {
    let (in_flight, for_ms) = (in_flight.to_string(), for_ms.to_string());
    let first = ["rival", "--in-flight", &in_flight, "--for-ms", &for_ms];
    lab.measure(&[&first[..], words].concat())
}

/// Paths of certificate, key and authority of a node.
fn pki(lab: &Lab, node: &str) -> [String; 3] {
    ["host.pem", "host.key", "ca.pem"].map(|file| lab.word(&format!("{node}-pki/{file}")))
}

/// Two servers with each write synced to the append-only file; `WAIT 1` follows each `SET`.
pub(super) fn redis(lab: &Lab) -> Result<Rival> {
    let mut daemons = Vec::new();
    for node in NODES {
        let dir = lab.word(&format!("redis-{node}"));
        fs::create_dir_all(&dir)?;
        let [cert, key, ca] = pki(lab, node);
        let socket = format!("{dir}/redis.sock");
        let mut words = vec!["/usr/bin/redis-server", "--bind", "127.0.0.1", "--port", "0"];
        words.extend(["--dir", &dir, "--unixsocket", &socket, "--save", "", "--daemonize", "no"]);
        words.extend(["--appendonly", "yes", "--appendfsync", "always"]);
        words.extend(["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca]);
        words.extend(["--tls-replication", "yes"]);
        if node == NODES[0] {
            words.extend(["--tls-port", REDIS_PORT, "--repl-diskless-sync-delay", "0"]);
        } else {
            words.extend(["--replicaof", "127.0.0.1", REDIS_PORT]);
        }
        daemons.insert(0, lab.daemon(&format!("redis-{node}"), "root", &words)?);
    }
    let load: fn(&Lab, usize, u64) -> Result<Speed> = |lab, in_flight, for_ms| {
        tool(lab, in_flight, for_ms, &["redis", &lab.word("redis-a/redis.sock")])
    };
    Rival { name: "redis", load, _daemons: daemons }.ready(lab)
}

/// Three members; a put is answered when two of them have it in their logs.
pub(super) fn etcd(lab: &Lab) -> Result<Rival> {
    let [cert, key, ca] = pki(lab, NODES[0]);
    let url = |port: u16| format!("https://127.0.0.1:{port}");
    let members = ETCD_PORTS.map(|(client, peer)| format!("m{client}={}", url(peer))).join(",");
    let mut daemons = Vec::new();
    for (client, peer) in ETCD_PORTS {
        let (name, dir) = (format!("m{client}"), lab.word(&format!("etcd-{client}")));
        let (client, peer) = (format!("http://127.0.0.1:{client}"), url(peer));
        let mut words = vec!["/usr/bin/etcd", "--name", &name, "--data-dir", &dir];
        words.extend(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        words.extend(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        words.extend(["--initial-cluster", &members, "--peer-client-cert-auth"]);
        words.extend(["--peer-cert-file", &cert, "--peer-key-file", &key]);
        words.extend(["--peer-trusted-ca-file", &ca]);
        daemons.push(lab.daemon(&format!("etcd-{name}"), "root", &words)?);
    }
    let load: fn(&Lab, usize, u64) -> Result<Speed> = |lab, in_flight, for_ms| {
        let ports = ETCD_PORTS.map(|(client, _)| client.to_string());
        let words = [&["etcd"], &ports.each_ref().map(String::as_str)[..]].concat();
        tool(lab, in_flight, for_ms, &words)
    };
    Rival { name: "etcd", load, _daemons: daemons }.ready(lab)
}

/// A primary, and a standby whose flush each commit waits for (`synchronous_commit = on`).
pub(super) fn postgres(lab: &Lab) -> Result<Rival> {
    let (primary, standby) = (lab.word("postgres-a"), lab.word("postgres-b"));
    let user = nix::unistd::User::from_name(USER)?.context("there is no user postgres")?;
    let home = lab.path("postgres");
    fs::create_dir_all(&home)?;
    chown(&home, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    for dir in [&primary, &standby] {
        fs::create_dir_all(dir)?;
        chown(dir, Some(uid), Some(gid))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    for file in ["host.pem", "host.key", "ca.pem"] {
        let copy = home.join(file);
        fs::copy(lab.path(&format!("a-pki/{file}")), &copy)?;
        chown(&copy, Some(uid), Some(gid))?;
    }
    let program = |name: &str| format!("{POSTGRES}/{name}");
    let done = |words: &[&str]| run(&mut lab.command(USER, words)).map(drop);
    let initdb = program("initdb");
    done(&[&initdb, "-D", &primary, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"])?;
    fs::write(
        format!("{primary}/pg_hba.conf"),
        "local all all trust\nhostssl replication all 127.0.0.1/32 trust clientcert=verify-ca\n",
    )?;
    fs::write(format!("{primary}/postgresql.conf"), settings(&home))?;
    let server = program("postgres");
    let first = lab.daemon("postgres-a", USER, &[&server, "-D", &primary])?;
    let socket = home.display().to_string();
    let psql = |database: &str, sql: &str| {
        done(&[
            &program("psql"),
            "-qX",
            "-h",
            &socket,
            "-p",
            POSTGRES_PORT,
            "-d",
            database,
            "-c",
            sql,
        ])
    };
    wait_for("PostgreSQL", START_WAIT, || {
        psql("postgres", "SELECT 1").map_err(|error| format!("{error:#}\n{}", first.said()))
    })?;
    let connection = format!(
        "host={HOST} hostaddr=127.0.0.1 port={POSTGRES_PORT} user={USER} sslmode=verify-full sslrootcert={socket}/ca.pem \
         sslcert={socket}/host.pem sslkey={socket}/host.key application_name=standby"
    );
    done(&[&program("pg_basebackup"), "-D", &standby, "-R", "-X", "stream", "-d", &connection])?;
    let second = lab.daemon("postgres-b", USER, &[&server, "-D", &standby, "-c", "port=7923"])?;
    psql("postgres", "CREATE TABLE session (id bigint PRIMARY KEY, record text NOT NULL)")?;
    let record = "x".repeat(RECORD_LEN);
    let script = format!(
        "\\set id random(1, 9000000000000000)\nINSERT INTO session VALUES (:id, '{record}');\n"
    );
    fs::write(home.join("insert.sql"), script)?;
    psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'standby'")?;
    psql("postgres", "SELECT pg_reload_conf()")?;
    Rival { name: "postgres", load: pgbench, _daemons: vec![second, first] }.ready(lab)
}

fn settings(home: &Path) -> String {
    let home = home.display();
    format!(
        "port = {POSTGRES_PORT}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{home}'\n\
         ssl = on\nssl_cert_file = '{home}/host.pem'\nssl_key_file = '{home}/host.key'\nssl_ca_file = '{home}/ca.pem'\n\
         fsync = on\nsynchronous_commit = on\nmax_connections = 200\nwal_level = replica\n\
         shared_buffers = 128MB\nmax_wal_size = 2GB\n"
    )
}

/// PostgreSQL's own client; each insert's time from its log.
fn pgbench(lab: &Lab, in_flight: usize, for_ms: u64) -> Result<Speed> {
    let (home, clients) = (lab.path("postgres"), in_flight.to_string());
    // Whole seconds only.
    let seconds = for_ms.div_ceil(1000).to_string();
    let (socket, prefix) = (home.display().to_string(), home.join("times").display().to_string());
    let (program, script) = (format!("{POSTGRES}/pgbench"), format!("{socket}/insert.sql"));
    let mut words = vec![&*program, "-h", &socket, "-p", POSTGRES_PORT, "-n", "-M", "prepared"];
    words.extend(["-f", &script, "-c", &clients, "-j", "1", "-T", &seconds, "postgres"]);
    words.extend(["--log", "--log-prefix", &prefix]);
    let output = run(&mut lab.command(USER, &words))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
    let per_second: f64 = rate.context("pgbench told no tps")?.parse()?;
    let mut times = Vec::new();
    for entry in fs::read_dir(&home)?.flatten().map(|entry| entry.path()) {
        if entry.display().to_string().starts_with(&prefix) {
            let log = fs::read_to_string(&entry)?;
            let time = |line: &str| line.split(' ').nth(2)?.parse::<f64>().ok();
            times.extend(log.lines().filter_map(time));
            fs::remove_file(&entry)?;
        }
    }
    if times.is_empty() {
        bail!("pgbench left no times");
    }
    times.sort_by(f64::total_cmp);
    let at = |hundredth: usize| times.get(times.len() * hundredth / 100).copied().unwrap_or(0.0);
    Ok(Speed { per_second, p50_us: at(50), p99_us: at(99) })
}
