//! `vsmctl ha` against a broker that answers what the test wants, on a unix socket.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::{path::Path, process::Command};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use vsm_proto::admin::v1::{
    self as pb,
    admin_server::{Admin, AdminServer},
    ha_server::{Ha, HaServer},
};

/// Answers the same to everybody.
#[derive(Clone, Copy)]
struct Broker {
    healthy: bool,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Ha for Broker {
    type ListRowsStream = tokio_stream::Empty<Result<pb::ListRowsResponse, Status>>;

    async fn list_nodes(&self, _: Request<pb::ListNodesRequest>) -> Answer<pb::ListNodesResponse> {
        let witness =
            |agent: &str| pb::WitnessView { agent: agent.into(), up: true, ..Default::default() };
        let node = |name: &str, role: &str| pb::NodeView {
            name: name.into(),
            local: role == "active",
            role: role.into(),
            witnesses: ["agent1", "agent2", "agent3"].map(witness).into(),
            stream: Some(pb::StreamView { open: true, ..Default::default() }),
            ..Default::default()
        };
        Ok(Response::new(pb::ListNodesResponse {
            nodes: vec![node("tlha-primary", "active"), node("tlha-secondary", "standby")],
        }))
    }

    async fn health(&self, _: Request<pb::HealthRequest>) -> Answer<pb::HealthResponse> {
        let reason = if self.healthy { "" } else { "it lacks 5 changes" };
        let (healthy, reason) = (self.healthy, reason.into());
        Ok(Response::new(pb::HealthResponse { healthy, reason, ..Default::default() }))
    }

    async fn take_over(
        &self,
        request: Request<pb::TakeOverRequest>,
    ) -> Answer<pb::TakeOverResponse> {
        let done = request.get_ref().dry_run;
        let detail = if done { "it would" } else { "the other node does not answer" };
        Ok(Response::new(pb::TakeOverResponse { done, detail: detail.into(), took_ms: 7 }))
    }

    async fn set_wanted(&self, _: Request<pb::SetWantedRequest>) -> Answer<pb::SetWantedResponse> {
        Err(Status::failed_precondition("role_source is not cluster"))
    }

    async fn peer_fenced(
        &self,
        request: Request<pb::PeerFencedRequest>,
    ) -> Answer<pb::PeerFencedResponse> {
        let counts = request.get_ref().at_unix_ms == 1_800_000_000_000;
        let detail = if counts { "its vote counts" } else { "it was heard since" };
        Ok(Response::new(pb::PeerFencedResponse { counts, detail: detail.into() }))
    }

    async fn verify(&self, _: Request<pb::VerifyRequest>) -> Answer<pb::VerifyResponse> {
        let differences = vec!["session 1 is on one node only".to_owned()];
        Ok(Response::new(pb::VerifyResponse { commit: 9, differences, ..Default::default() }))
    }

    async fn list_rows(&self, _: Request<pb::ListRowsRequest>) -> Answer<Self::ListRowsStream> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn check(&self, _: Request<pb::CheckRequest>) -> Answer<pb::CheckResponse> {
        let finding = |step, ok| pb::Finding { step, ok, ..Default::default() };
        Ok(Response::new(pb::CheckResponse { findings: vec![finding(2, false), finding(1, true)] }))
    }
}

#[tonic::async_trait]
impl Admin for Broker {
    type ListSessionsStream = tokio_stream::Empty<Result<pb::ListSessionsResponse, Status>>;

    async fn list_sessions(
        &self,
        _: Request<pb::SessionSelector>,
    ) -> Answer<Self::ListSessionsStream> {
        Ok(Response::new(tokio_stream::empty()))
    }

    type WatchSessionsStream = tokio_stream::Empty<Result<pb::WatchSessionsResponse, Status>>;

    async fn watch_sessions(
        &self,
        _: Request<pb::SessionSelector>,
    ) -> Answer<Self::WatchSessionsStream> {
        Err(Status::unimplemented("not asked here"))
    }

    type ListEventsStream = tokio_stream::Empty<Result<pb::ListEventsResponse, Status>>;

    async fn list_events(
        &self,
        _: Request<pb::ListEventsRequest>,
    ) -> Answer<Self::ListEventsStream> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn session_log(
        &self,
        _: Request<pb::SessionLogRequest>,
    ) -> Answer<pb::SessionLogResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn record_event(
        &self,
        _: Request<pb::RecordEventRequest>,
    ) -> Answer<pb::RecordEventResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn notify(&self, _: Request<pb::NotifyRequest>) -> Answer<pb::NotifyResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn terminate_sessions(
        &self,
        _: Request<pb::TerminateSessionsRequest>,
    ) -> Answer<pb::TerminateSessionsResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn list_agents(
        &self,
        _: Request<pb::ListAgentsRequest>,
    ) -> Answer<pb::ListAgentsResponse> {
        let agent = |name: &str| pb::AgentView {
            name: name.into(),
            state: pb::AgentState::Up.into(),
            ..Default::default()
        };
        let agents = ["agent1", "agent2", "agent3", "agent4"].map(agent).into();
        Ok(Response::new(pb::ListAgentsResponse { agents }))
    }

    type ListWebKeysStream = tokio_stream::Empty<Result<pb::ListWebKeysResponse, Status>>;

    async fn list_web_keys(
        &self,
        _: Request<pb::ListWebKeysRequest>,
    ) -> Answer<Self::ListWebKeysStream> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn revoke_web_keys(
        &self,
        _: Request<pb::RevokeWebKeysRequest>,
    ) -> Answer<pb::RevokeWebKeysResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Answer<pb::StatusResponse> {
        Err(Status::unimplemented("not asked here"))
    }
}

async fn vsmctl(socket: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vsmctl"));
    command.arg("--socket").arg(socket).arg("ha").args(arguments);
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

fn serve(socket: &Path, broker: Broker) {
    let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
    let server =
        Server::builder().add_service(HaServer::new(broker)).add_service(AdminServer::new(broker));
    tokio::spawn(server.serve_with_incoming(incoming));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_one_line_and_an_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad, dead) = ("good", "bad", "dead");
    serve(&dir.path().join(good), Broker { healthy: true });
    serve(&dir.path().join(bad), Broker { healthy: false });
    // Takes connections and never says a word.
    let _silent = UnixListener::bind(dir.path().join("silent")).unwrap();
    let health = async |name: &str| vsmctl(&dir.path().join(name), &["health"]).await;
    assert_eq!(health(good).await, (0, "healthy\n".into(), String::new()));
    assert_eq!(health(bad).await, (1, "not healthy: it lacks 5 changes\n".into(), String::new()));
    for name in [dead, "silent"] {
        let (code, out, err) = health(name).await;
        assert_eq!((code, out.as_str(), err.lines().count()), (2, "", 1), "{name}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_is_an_exit_code_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    serve(&socket, Broker { healthy: true });
    let ask = async |arguments: &[&str]| vsmctl(&socket, arguments).await;
    let (code, out, err) = ask(&["takeover"]).await;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert_eq!(err, "vsmctl: not done: the other node does not answer\n");
    assert_eq!(ask(&["takeover", "--dry-run"]).await.0, 0);
    let (code, out, _) = ask(&["verify"]).await;
    assert!(code == 1 && out.contains("DIFFERENT: session 1 is on one node only"), "{out}");
    let (code, out, err) = ask(&["check"]).await;
    assert_eq!((code, err.as_str()), (1, "vsmctl: 1 of 2 finding(s) are not ok\n"));
    assert!(out.lines().nth(1).unwrap().starts_with("1     ok"), "by step: {out}");
    let (code, out, _) = ask(&["fenced", "--at", "1800000000"]).await;
    assert_eq!((code, out.as_str()), (0, "its vote counts\n"));
    let (code, _, err) = ask(&["fenced", "--at", "1700000000"]).await;
    assert_eq!((code, err.as_str()), (1, "vsmctl: it does not count: it was heard since\n"));
    let (code, _, err) = ask(&["promote"]).await;
    assert_eq!((code, err.as_str()), (70, "vsmctl: role_source is not cluster\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_has_both_nodes_for_scripts_and_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    serve(&socket, Broker { healthy: true });
    let (code, out, err) = vsmctl(&socket, &["status", "--output", "json"]).await;
    assert_eq!(code, 0, "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["nodes"][1]["role"], "standby");
    assert!(report["to_do"].as_array().unwrap().iter().any(|line| {
        line.as_str()
            .unwrap()
            .contains("tlha-primary cannot record changes, as it has no second vote")
    }));
    let (_, out, _) = vsmctl(&socket, &["status"]).await;
    assert!(out.contains("tlha-primary (here)") && out.contains("to do\n  - "), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_goes_through_the_cuts_of_the_real_roster() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    serve(&socket, Broker { healthy: true });
    let (code, out, err) = vsmctl(&socket, &["simulate"]).await;
    assert_eq!(code, 0, "{err}");
    let after = |case: &str| {
        let mut lines = out.lines().skip_while(|line| !line.starts_with(case));
        [lines.next().unwrap().to_owned(), lines.next().unwrap().to_owned()]
    };
    let [one, other] = after("tlha-primary dies");
    assert!(one.contains("tlha-primary") && one.contains("down"), "{out}");
    assert!(other.contains("takes over") && other.contains("witnesses"), "{out}");
    let [one, _] = after("tlha-primary is cut from everything");
    assert!(one.contains("no votes"), "{out}");
}
