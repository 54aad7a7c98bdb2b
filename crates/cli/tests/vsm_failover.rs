//! `vsm` while one broker takes over from another: the real pipe by `vsm-login`, a broker that answers what the test
//! wants, and a script in ssh's place that can break the connection.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, transport::Server};
use vsm_daemon::grpc;
use vsm_proto::{
    broker::v1::{
        self as pb,
        broker_server::{Broker, BrokerServer},
    },
    session::v1::Session,
};

/// The id of the user's only desktop.
const ONLY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// What a call is answered with.
#[derive(Debug, Clone, Copy)]
enum Say {
    Refuse(Code, &'static str),
    /// Nothing, until the connection breaks.
    Hang,
    Done,
}

/// Notes each call and answers as it was told to, one answer for each.
#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<Vec<Say>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn answer<T>(&self, call: String, done: T) -> Result<Response<T>, Status> {
        self.calls.lock().unwrap().push(call);
        let say = self.answers.lock().unwrap().remove(0);
        match say {
            Say::Refuse(code, reason) => {
                Err(grpc::with_reason(Status::new(code, "the broker's words"), reason))
            }
            Say::Hang => std::future::pending().await,
            Say::Done => Ok(Response::new(done)),
        }
    }
}

#[tonic::async_trait]
impl Broker for Script {
    async fn login(
        &self,
        request: Request<pb::LoginRequest>,
    ) -> Result<Response<pb::LoginResponse>, Status> {
        self.answer(request.into_inner().request_id, pb::LoginResponse::default()).await
    }

    async fn list_sessions(
        &self,
        _: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let session = Some(Session { id: ONLY.into(), ..Default::default() });
        let sessions = vec![pb::SessionView { session, ..Default::default() }];
        Ok(Response::new(pb::ListSessionsResponse { sessions, ..Default::default() }))
    }

    async fn disconnect_session(
        &self,
        _: Request<pb::DisconnectSessionRequest>,
    ) -> Result<Response<pb::DisconnectSessionResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn end_session(
        &self,
        request: Request<pb::EndSessionRequest>,
    ) -> Result<Response<pb::EndSessionResponse>, Status> {
        let id = request.into_inner().id;
        self.answer(id.clone(), pb::EndSessionResponse { id, done: true }).await
    }

    async fn extend_session(
        &self,
        _: Request<pb::ExtendSessionRequest>,
    ) -> Result<Response<pb::ExtendSessionResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn abandon_session(
        &self,
        _: Request<pb::AbandonSessionRequest>,
    ) -> Result<Response<pb::AbandonSessionResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn shadow(
        &self,
        _: Request<pb::ShadowRequest>,
    ) -> Result<Response<pb::ShadowResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn accept_web_key(
        &self,
        _: Request<pb::AcceptWebKeyRequest>,
    ) -> Result<Response<pb::AcceptWebKeyResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn list_web_keys(
        &self,
        _: Request<pb::ListWebKeysRequest>,
    ) -> Result<Response<pb::ListWebKeysResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn revoke_web_key(
        &self,
        _: Request<pb::RevokeWebKeyRequest>,
    ) -> Result<Response<pb::RevokeWebKeyResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
}

/// Runs `vsm` against a broker with these answers; what it said, and the calls. A connection breaks after 1 s.
async fn vsm(answers: &[Say], arguments: &[&str]) -> (Output, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("broker.sock");
    let script = Script { answers: Arc::new(Mutex::new(answers.to_vec())), calls: Arc::default() };
    let incoming = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
    let server = Server::builder().add_service(BrokerServer::new(script.clone()));
    tokio::spawn(server.serve_with_incoming(incoming));
    let mut command = Command::new(env!("CARGO_BIN_EXE_vsm"));
    command.args(arguments).arg("--ssh").arg(ssh(dir.path(), &socket));
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let calls = script.calls.lock().unwrap().clone();
    (out, calls)
}

fn ssh(dir: &Path, socket: &Path) -> std::path::PathBuf {
    let path = dir.join("ssh");
    let login = env!("CARGO_BIN_EXE_vsm-login");
    let text = format!("#!/bin/sh\nexec timeout 1 {login} --broker-socket {}\n", socket.display());
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_goes_on_with_the_same_request_until_a_broker_decides() {
    let answers = [
        Say::Hang,
        Say::Refuse(Code::Unavailable, "STANDBY"),
        Say::Refuse(Code::Unavailable, "NO_VOTES"),
        Say::Refuse(Code::Unavailable, "REPLACED"),
        Say::Refuse(Code::ResourceExhausted, "AT_LIMIT"),
    ];
    let (out, calls) = vsm(&answers, &["connect", "--screenshot", "no.png", "tlha"]).await;
    let err = String::from_utf8(out.stderr).unwrap();
    assert_eq!((out.status.code(), calls.len()), (Some(75), 5), "{err}");
    assert!(calls.iter().all(|id| *id == calls[0] && id.len() == 36), "{calls:?}");
    assert_eq!(err, format!("vsm: the broker's words (ref {})\n", &calls[0][..8]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_asked_for_twice() {
    let answers = [Say::Refuse(Code::Unavailable, "NO_AGENT"), Say::Done];
    let (out, calls) = vsm(&answers, &["connect", "--screenshot", "no.png", "tlha"]).await;
    assert_eq!((out.status.code(), calls.len()), (Some(69), 1));
}

/// The answer to the first attempt is lost, and the desktop is gone when it is asked for again: that is no error. And
/// it is the same desktop, by its id, that is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_answer_was_lost_is_an_end() {
    let answers = [Say::Hang, Say::Refuse(Code::NotFound, "NO_SESSION")];
    let (out, calls) = vsm(&answers, &["end", "tlha"]).await;
    let said = String::from_utf8(out.stdout).unwrap();
    assert_eq!(said, format!("Your desktop {ONLY} was ended.\n"));
    assert_eq!((out.status.code(), calls), (Some(0), vec![ONLY.to_owned(); 2]));
    let answers = [Say::Refuse(Code::NotFound, "NO_SESSION")];
    let (out, _) = vsm(&answers, &["end", "tlha"]).await;
    assert_eq!(out.status.code(), Some(66), "at the first attempt it is one");
}
