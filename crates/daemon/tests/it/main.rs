//! What every server of this project offers and demands, over real sockets and real TLS.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd,
};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::{Code, service::RoutesBuilder, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use vsm_config::Config;
use vsm_daemon::{
    access::{ByRole, Door, Guard},
    clock, grpc,
    one_time::{self, Answer, Ask},
    socket::{self, Access},
    tls::Tls,
    trouble::Troubles,
};

const SESSION: &str = "01890a5d-ac96-774b-bcce-000000000001";

/// The health service alone, with reflection of itself.
async fn routes() -> tonic::service::Routes {
    let mut routes = RoutesBuilder::default();
    grpc::standard_services(&mut routes, tonic_health::pb::FILE_DESCRIPTOR_SET).await.unwrap();
    routes.routes()
}

async fn is_healthy(channel: Channel) -> Result<bool, tonic::Status> {
    let answer =
        HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await?;
    Ok(answer.into_inner().status() == ServingStatus::Serving)
}

/// What `grpcurl list` asks.
async fn services(channel: Channel) -> Vec<String> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    match answers.next().await.unwrap().unwrap().message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        _ => Vec::new(),
    }
}

/// A user who takes all connections that they can get, and says nothing on them, until the value is dropped.
struct Silent(std::process::Child);

impl Silent {
    fn on(socket: &Path) -> Self {
        let open = "@s = map { IO::Socket::UNIX->new(Peer => $ARGV[0]) } 1..300; $| = 1; print 'x'; <STDIN>";
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=2001", "--clear-groups", "perl", "-MIO::Socket::UNIX", "-e", open]);
        let (input, output) = (std::process::Stdio::piped(), std::process::Stdio::piped());
        let mut child = command.arg(socket).stdin(input).stdout(output).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        Self(child)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// Nobody waits behind somebody else: neither where a line is asked for, nor where calls are made.
#[tokio::test(flavor = "multi_thread")]
async fn one_who_opens_all_connections_stops_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (keys, calls) = (dir.path().join("keys"), dir.path().join("calls"));
    let stop = CancellationToken::new();
    tokio::spawn(one_time::serve(
        Arc::default(),
        None,
        keys.clone(),
        stop.clone(),
        Troubles::default(),
    ));
    let listener = socket::keep(&calls, Access { mode: 0o666, group: None }).unwrap();
    tokio::spawn(grpc::serve_unix(
        listener,
        routes().await,
        Door::Users,
        Guard::new(ByRole),
        stop.clone(),
    ));
    while !keys.exists() {
        tokio::task::yield_now().await;
    }
    let silent = [Silent::on(&keys), Silent::on(&calls)];
    let (ask, began) =
        (Ask::Redeem { right: uuid::Uuid::nil(), session: SESSION.parse().unwrap() }, clock::now());
    let asked = tokio::task::spawn_blocking(move || one_time::ask(&keys, &ask)).await.unwrap();
    assert!(matches!(asked.unwrap(), Answer::Refused { .. }));
    assert!(is_healthy(socket::channel(calls)).await.unwrap());
    let took = clock::now().saturating_duration_since(began);
    assert!(took < Duration::from_secs(1), "{took:?}");
    drop(silent);
    stop.cancel();
}

#[tokio::test]
async fn a_unix_socket_tells_its_health_and_its_services() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.sock");
    let listener = socket::keep(&path, Access { mode: 0o600, group: None }).unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(grpc::serve_unix(
        listener,
        routes().await,
        Door::Users,
        Guard::new(ByRole),
        stop.clone(),
    ));
    assert!(is_healthy(socket::channel(path.clone())).await.unwrap());
    // Somebody clears the folder: callers are heard again.
    fs::remove_file(&path).unwrap();
    let again = async {
        while is_healthy(socket::channel(path.clone())).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
    let names = services(socket::channel(path)).await;
    assert!(names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");
    stop.cancel();
    server.await.unwrap().unwrap();
}

/// Writes the files of a host under `dir` and gives its identity.
fn identity(dir: &Path, authority: &CertifiedIssuer<'static, KeyPair>, host: &str) -> Tls {
    identity_as(dir, authority, "agent", host)
}

fn identity_as(
    dir: &Path,
    authority: &CertifiedIssuer<'static, KeyPair>,
    role: &str,
    host: &str,
) -> Tls {
    identity_for(dir, authority, role, host, None)
}

fn identity_for(
    dir: &Path,
    authority: &CertifiedIssuer<'static, KeyPair>,
    role: &str,
    host: &str,
    years: Option<(i32, i32)>,
) -> Tls {
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    if let Some((from, until)) = years {
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
    }
    params.subject_alt_names.push(SanType::URI(format!("vsm://{role}/{host}").try_into().unwrap()));
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let dir = dir.join(host);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    fs::write(dir.join("host.pem"), certificate.pem()).unwrap();
    fs::write(dir.join("host.key"), key.serialize_pem()).unwrap();
    fs::set_permissions(dir.join("host.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let at = |name: &str| dir.join(name).display().to_string();
    let yaml = format!(
        "tls:\n  ca_file: {}\n  cert_file: {}\n  key_file: {}\n",
        at("ca.pem"),
        at("host.pem"),
        at("host.key")
    );
    fs::write(dir.join("tls.yaml"), yaml).unwrap();
    Tls::load(&Config::load(&dir).unwrap()).unwrap()
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A host that dies, or hangs, in the middle of a handshake is dialled anew.
#[tokio::test]
async fn one_who_never_finishes_the_handshake_is_given_up_and_dialled_again() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let server = identity(&dir.path().join("ours"), &ours, "localhost");
    let friend = identity(&dir.path().join("ours"), &ours, "friend");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel =
        grpc::channel("localhost", listener.local_addr().unwrap().port(), &friend).unwrap();
    let long = grpc::HANDSHAKE_TIMEOUT * 10;
    let call = tokio::time::timeout(long, is_healthy(channel.clone()));
    let (hung, refused) = tokio::join!(listener.accept(), call);
    let refused = refused.expect("it gives up").unwrap_err();
    assert!(!grpc::is_unsent(&refused), "what the host did with it is not known: {refused:?}");
    // Where nobody listens nothing can have been sent.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let refused =
        is_healthy(grpc::channel("localhost", nobody, &friend).unwrap()).await.unwrap_err();
    assert!(grpc::is_unsent(&refused), "{refused:?}");
    let stop = CancellationToken::new();
    let (routes, until) = (routes().await, stop.clone());
    let serving = tokio::spawn(async move {
        grpc::serve_tls(listener, &server, routes, Guard::new(ByRole), until).await
    });
    assert!(
        is_healthy(channel).await.unwrap(),
        "the same channel, and the first peer is still there"
    );
    drop(hung);
    stop.cancel();
    serving.await.unwrap().unwrap();
}

/// Whichever of both has the wrong clock: what is said has the dates of the certificate and the time here beside it.
#[tokio::test]
async fn a_certificate_out_of_its_time_is_told_with_its_dates_and_the_time_here() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let friend = identity(&dir.path().join("ours"), &ours, "friend");
    for (name, from, until, wanted) in [
        ("old", 2001, 2002, "its certificate has expired: it ended at 2002-01-01T00:00:00Z"),
        ("new", 2901, 2902, "its certificate is not valid yet: it begins at 2901-01-01T00:00:00Z"),
    ] {
        let of = |host: &str| {
            identity_for(&dir.path().join(name), &ours, "admin", host, Some((from, until)))
        };
        let ask = async |server: Tls, client: &Tls| {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let stop = CancellationToken::new();
            let (routes, until) = (routes().await, stop.clone());
            let serving = tokio::spawn(async move {
                grpc::serve_tls(listener, &server, routes, Guard::new(ByRole), until).await
            });
            let channel = grpc::channel("localhost", port, client).unwrap();
            let why = vsm_daemon::cause::of(&is_healthy(channel).await.unwrap_err());
            stop.cancel();
            serving.await.unwrap().unwrap();
            why
        };
        let why = ask(of("localhost"), &friend).await;
        assert!(why.starts_with(wanted), "{why}");
        assert!(why.contains("this host's clock says 2"), "{why}");
        let good = identity(&dir.path().join("ours"), &ours, "localhost");
        let why = ask(good, &of("client")).await;
        assert!(why.starts_with("it refuses this host's certificate, which by its clock"), "{why}");
        assert!(why.contains("this host's clock says 2"), "{why}");
    }
}

/// A user of a host has that host's address, and all users of a network behind one address have it: who has a
/// certificate is served all the same.
#[tokio::test(flavor = "multi_thread")]
async fn one_who_shows_no_certificate_takes_no_place_from_a_host_of_the_same_address() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let server = identity(dir.path(), &ours, "localhost");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let (routes, until) = (routes().await, stop.clone());
    tokio::spawn(async move {
        grpc::serve_tls(listener, &server, routes, Guard::new(ByRole), until).await
    });
    let friend = identity(dir.path(), &ours, "friend");
    let before = grpc::channel("localhost", port, &friend).unwrap();
    assert!(is_healthy(before.clone()).await.unwrap());
    // Half of them say something, as if they began TLS.
    let mut idle = Vec::new();
    for number in 0..400 {
        let mut one = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        if number % 2 == 0 {
            one.write_all(&[0x16, 3, 1, 2, 0]).unwrap();
        }
        idle.push(one);
    }
    let began = clock::now();
    assert!(is_healthy(grpc::channel("localhost", port, &friend).unwrap()).await.unwrap());
    assert!(is_healthy(before).await.unwrap(), "one that was served was put out");
    let took = clock::now().saturating_duration_since(began);
    assert!(
        took < Duration::from_secs(5),
        "it had to wait until the others were given up: {took:?}"
    );
    drop(idle);
    stop.cancel();
}

/// Certificates are replaced under a running server and a running client: connections that are there go on, and new
/// ones are by the new certificates, on channels that were made before as well. Once an authority is trusted no more,
/// nobody stays by it.
#[tokio::test]
async fn what_a_reload_reads_is_for_the_next_connection_and_lost_trust_ends_all() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (authority(), authority());
    let (server, friend) =
        (identity(dir.path(), &old, "localhost"), identity(dir.path(), &old, "friend"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let (routes, until, tls) = (routes().await, stop.clone(), server.clone());
    let serving = tokio::spawn(async move {
        grpc::serve_tls(listener, &tls, routes, Guard::new(ByRole), until).await
    });
    let [open, before, after] = [0; 3].map(|_| grpc::channel("localhost", port, &friend).unwrap());
    assert!(is_healthy(open.clone()).await.unwrap());
    let reload = |tls: &Tls, host: &str, authorities: &str| {
        fs::write(dir.path().join(host).join("ca.pem"), authorities).unwrap();
        tls.reload(&Config::load(&dir.path().join(host)).unwrap()).unwrap();
    };
    // Its certificate is of the new one already, and it still trusts the old one.
    drop(identity(dir.path(), &new, "localhost"));
    reload(&server, "localhost", &(old.pem() + &new.pem()));
    assert!(is_healthy(open.clone()).await.unwrap(), "it was there before");
    let refused = is_healthy(before).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    reload(&friend, "friend", &(old.pem() + &new.pem()));
    assert!(is_healthy(after.clone()).await.unwrap());
    // The friend's certificate is of the old one: neither of its connections is left.
    reload(&server, "localhost", &new.pem());
    for channel in [open.clone(), after] {
        is_healthy(channel).await.unwrap_err();
    }
    drop(identity(dir.path(), &new, "friend"));
    reload(&friend, "friend", &new.pem());
    assert!(is_healthy(open).await.unwrap());
    stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn only_hosts_of_the_same_authority_and_the_right_name_talk_to_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority(), authority());
    let server = identity(&dir.path().join("ours"), &ours, "localhost");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let (routes, until) = (routes().await, stop.clone());
    let serving = tokio::spawn(async move {
        grpc::serve_tls(listener, &server, routes, Guard::new(ByRole), until).await
    });

    let friend = identity(&dir.path().join("ours"), &ours, "friend");
    assert!(is_healthy(grpc::channel("localhost", port, &friend).unwrap()).await.unwrap());

    // One of the same authority that is nobody here is not told what there is.
    let nobody = identity_as(&dir.path().join("ours"), &ours, "king", "nobody");
    let refused = is_healthy(grpc::channel("localhost", port, &nobody).unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");

    // The server's certificate is not for this name, though it is the same server.
    let refused = is_healthy(grpc::channel("127.0.0.1", port, &friend).unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");

    // A host of another cluster is refused by both sides.
    let stranger = identity(&dir.path().join("theirs"), &theirs, "friend");
    assert!(is_healthy(grpc::channel("localhost", port, &stranger).unwrap()).await.is_err());

    // One that trusts us, but whose own certificate is of another authority: the server refuses it.
    let pretender = dir.path().join("theirs/friend");
    fs::write(pretender.join("ca.pem"), format!("{}{}", ours.pem(), theirs.pem())).unwrap();
    let pretender = Tls::load(&Config::load(&pretender).unwrap()).unwrap();
    assert!(is_healthy(grpc::channel("localhost", port, &pretender).unwrap()).await.is_err());

    // Plain text is no language here.
    let plain =
        tonic::transport::Endpoint::from_shared(format!("http://localhost:{port}")).unwrap();
    assert!(is_healthy(plain.connect_lazy()).await.is_err());
    stop.cancel();
    serving.await.unwrap().unwrap();
}
