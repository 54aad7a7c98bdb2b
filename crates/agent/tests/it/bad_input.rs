//! What goes wrong is told in one line that names the thing, and leaves nothing behind.

use tonic::Code;
use vsm_daemon::grpc;
use vsm_proto::agent::v1::{StartRefusal, VerifyRequest};

use crate::{
    calls::{new_id, refused, request, started, verify},
    lab::Lab,
};

fn assert_nothing_left(lab: &Lab, id: &str) {
    assert!(lab.processes(id).is_empty());
    assert!(!lab.path("run/sessions").join(id).exists() && !lab.record_path(id).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_users_are_named() {
    let lab = Lab::new();
    let mut broker = lab.broker().await;
    let home = lab.path("home");
    let expected = [
        (
            "nobody-such",
            StartRefusal::UnknownUser,
            "agent1 does not know user nobody-such".to_owned(),
        ),
        (
            "carol",
            StartRefusal::Home,
            format!("{}/carol on agent1 is owned by root, not by carol", home.display()),
        ),
        ("dave", StartRefusal::Account, "the account of dave has expired".to_owned()),
        (
            "erin",
            StartRefusal::Home,
            format!("user erin has no home directory {}/erin on agent1", home.display()),
        ),
    ];
    for (user, reason, detail) in expected {
        let id = new_id();
        let answer = refused(&mut broker, &id, user).await;
        assert_eq!((answer.reason(), answer.detail.clone()), (reason, detail));
        assert_eq!(refused(&mut broker, &id, user).await, answer, "the same answer to the same id");
        assert_nothing_left(&lab, &id);
    }
    started(&mut broker, &new_id(), "alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_is_made_where_that_is_wanted() {
    let lab = Lab::with(&["make_homedir: true"]);
    started(&mut lab.broker().await, &new_id(), "erin").await;
    let found = std::fs::metadata(lab.path("home/erin")).unwrap();
    assert_eq!(
        (
            std::os::unix::fs::MetadataExt::uid(&found),
            std::os::unix::fs::MetadataExt::mode(&found) & 0o777
        ),
        (51005, 0o700)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_broken_x_server_is_named() {
    for (program, words) in [
        ("/no/Xvnc", "/no/Xvnc is not installed on agent1 (/vsmagent/xserver)"),
        ("/bin/false", "the X server on agent1 ended at once (exit status 1)"),
    ] {
        let lab = Lab::with(&[&format!("xserver: {program}")]);
        let id = new_id();
        let answer = refused(&mut lab.broker().await, &id, "alice").await;
        assert_eq!(answer.reason(), StartRefusal::XServer);
        assert!(answer.detail.contains(words), "{answer:?}");
        assert_nothing_left(&lab, &id);
    }
    let lab = Lab::with(&["xserver: BASE/xsession", "xvnc_start_timeout: 1s"]);
    let id = new_id();
    let answer = refused(&mut lab.broker().await, &id, "alice").await;
    assert!(answer.detail.contains("was not ready within 1 s"), "{answer:?}");
    assert_nothing_left(&lab, &id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_sessions_and_keeps_old_ones() {
    let lab = Lab::new();
    let mut broker = lab.broker().await;
    let old = new_id();
    started(&mut broker, &old, "alice").await;
    // The state folder of a host whose disk is full: a small file system over the place where records are made.
    let fill = "mount -t tmpfs -o size=4k tmpfs \"$0/state/sessions\" && ! dd if=/dev/zero of=\"$0/state/sessions/x\" 2>/dev/null";
    assert!(lab.inside("sh").args(["-c", fill]).arg(lab.path("")).status().unwrap().success());
    let id = new_id();
    let answer = refused(&mut broker, &id, "bob").await;
    assert_eq!(answer.reason(), StartRefusal::Storage, "{answer:?}");
    assert!(
        answer.detail.contains("state/sessions") && answer.detail.contains("agent1"),
        "{answer:?}"
    );
    assert!(lab.processes(&id).is_empty());
    verify(&mut broker, &old).await.unwrap();
    assert_eq!(lab.attach(&old, "").unwrap().greeting(), "RFB 003.008\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_nonsense_are_refused() {
    let lab = Lab::new();
    let ask = || VerifyRequest { id: new_id(), client: None, standing: false, fence: None };
    let status = lab.client("vsm://broker/b9").await.verify(ask()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("b9") && status.message().contains("/vsmagent/allowed_clients"),
        "{status}"
    );
    assert_eq!(grpc::reason(&status), Some(grpc::BROKER_NOT_ALLOWED));
    let status = lab.client("vsm://agent/b1").await.verify(ask()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut broker = lab.broker().await;
    let mut bad = request("no-uuid", "alice");
    assert_eq!(broker.start(bad.clone()).await.unwrap_err().code(), Code::InvalidArgument);
    bad.fence = None;
    assert!(broker.start(bad).await.unwrap_err().message().contains("fence"));
    assert_eq!(
        broker
            .verify(VerifyRequest {
                id: "x".to_owned(),
                client: None,
                standing: false,
                fence: None
            })
            .await
            .unwrap_err()
            .code(),
        Code::InvalidArgument
    );
}
