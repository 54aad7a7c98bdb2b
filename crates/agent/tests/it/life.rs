//! The life of a session: started, viewed, left, viewed again, ended.

use vsm_proto::{
    agent::v1::{
        CancelStartRequest, DisconnectViewerRequest, ReportRequest, StartRefusal,
        cancel_start_response, report_response::Item, start_response,
    },
    session::v1::EndReason,
};

use crate::{
    calls::{fence, new_id, refused, request, start, started, terminate, verify},
    lab::{Lab, wait_for},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_desktop_is_started_viewed_and_ended() {
    let lab = Lab::new();
    let mut broker = lab.broker().await;
    let id = new_id();
    let session = started(&mut broker, &id, "alice").await;
    assert!(session.display >= 10 && session.user == "alice");
    assert_eq!(
        started(&mut broker, &id, "alice").await,
        session,
        "a repeated start gives the first answer"
    );

    let mut first = lab.attach(&id, "10.0.0.9").unwrap();
    assert_eq!(first.greeting(), "RFB 003.008\n");
    let viewer =
        wait_for("the viewer", || futures(verify(&mut broker.clone(), &id)).unwrap().viewer);
    assert_eq!(viewer.address, "10.0.0.9");
    let mut second = lab.attach(&id, "10.0.0.10").unwrap();
    assert_eq!(second.greeting(), "RFB 003.008\n");
    assert!(first.is_cut());
    assert!(first.told().contains("another viewer from 10.0.0.10"));

    let reason = "by an administrator".to_owned();
    let answer = broker
        .disconnect_viewer(DisconnectViewerRequest { id: id.clone(), reason, fence: fence(1) })
        .await
        .unwrap();
    assert!(answer.into_inner().was_connected && second.is_cut());
    assert!(second.told().contains("by an administrator"));

    let environment = wait_for("the script", || {
        std::fs::read_to_string(lab.path("run/sessions").join(&id).join("user/env"))
            .ok()
            .filter(|text| !text.is_empty())
    });
    for expected in ["LANG=POSIX", "USER=alice", &format!("DISPLAY=:{}", session.display)] {
        assert!(
            environment.lines().any(|line| line == expected),
            "{expected} is not in {environment}"
        );
    }
    let record = lab.record(&id);
    assert_eq!(record["session"]["user"], "alice");
    let x_server = lab.pid_of(&id, "x_server");
    let listening = lab.inside("ss").args(["-ltnp"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&listening.stdout).contains("Xtigervnc"));
    let status = std::fs::read_to_string(format!("/proc/{x_server}/status")).unwrap();
    assert!(status.contains("Uid:\t51001\t51001\t51001\t51001"), "{status}");
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
    assert_only_the_owner_gets_in(&lab, &id, session.display);

    assert!(!lab.processes(&id).is_empty());
    let ended = terminate(&mut broker, &id).await;
    assert_eq!(ended.reason(), EndReason::Terminated);
    lab.assert_gone(&id, session.display);
    assert_eq!(verify(&mut broker, &id).await.unwrap_err().reason(), EndReason::Terminated);
    assert_eq!(terminate(&mut broker, &id).await.reason(), EndReason::Terminated);
}

/// Whoever is cut off from their terminals again and again, and whose lines are all dead, can still come back: more
/// often than there may be connections to a session.
#[tokio::test(flavor = "multi_thread")]
async fn viewers_on_dead_lines_take_no_place() {
    let lab = Lab::new();
    let mut broker = lab.broker().await;
    let id = new_id();
    started(&mut broker, &id, "alice").await;
    let mut dead = Vec::new();
    for number in 0..100 {
        let mut viewer =
            lab.attach(&id, "10.0.0.9").unwrap_or_else(|why| panic!("{number}: {why}"));
        assert_eq!(viewer.greeting(), "RFB 003.008\n", "{number}");
        dead.push(viewer);
    }
    assert!(dead.first_mut().unwrap().told().contains("has taken the session over"));
}

/// From a phone, or by pasting, come more characters outside the layout than Xvnc has keys for.
#[tokio::test(flavor = "multi_thread")]
async fn characters_outside_the_layout_are_taken_without_end() {
    let lab = Lab::new();
    let mut broker = lab.broker().await;
    let id = new_id();
    let display = started(&mut broker, &id, "alice").await.display;
    let mut viewer = lab.attach(&id, "10.0.0.9").unwrap();
    viewer.begin();
    let map = || {
        let cookie = lab.path("run/sessions").join(&id).join("user/Xauthority");
        let show = format!("XAUTHORITY={} xkbcomp -w0 :{display} - 2>&1", cookie.display());
        String::from_utf8(lab.as_user(51001, &show).output().unwrap().stdout).unwrap()
    };
    wait_for("the X server", || map().contains("xkb_symbols").then_some(()));
    let log = || std::fs::read_to_string(lab.path("state/log").join(format!("{id}.log"))).unwrap();
    // Far more than there are keys.
    for number in 0..400 {
        viewer.press(char::from_u32(0x4e00 + number).unwrap());
    }
    wait_for("the map to be loaded anew", || log().contains("keyboard map anew").then_some(()));
    wait_for("a further character to have a key", || {
        viewer.press('\u{5b57}');
        map().contains("U5B57").then_some(())
    });
}

fn assert_only_the_owner_gets_in(lab: &Lab, id: &str, display: u32) {
    let sockets = lab.path("run/sessions").join(id);
    // Tells which of socket, RFB socket and X display a user can open.
    let open = format!(
        "try() {{ perl -MIO::Socket::UNIX -e 'exit !IO::Socket::UNIX->new(Peer => shift)' \"$1\" && echo \"$2\"; }}
         try {0}/control.sock control; try {0}/user/rfb.sock rfb
         DISPLAY=:{1} XAUTHORITY={0}/user/Xauthority xdpyinfo >/dev/null 2>&1 && echo display; true",
        sockets.display(),
        display
    );
    for (uid, expected) in [("51001", "control\nrfb\ndisplay\n"), ("51002", "")] {
        let mut command = lab.inside("setpriv");
        command.args([
            &format!("--reuid={uid}"),
            &format!("--regid={uid}"),
            "--clear-groups",
            "sh",
            "-c",
            &open,
        ]);
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
    }
}

/// Runs a call to its end where a closure cannot wait.
fn futures<T>(call: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(call))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_x_server_ends_the_session_and_all_in_it() {
    kill_the_x_server(&Lab::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_on_a_host_without_cgroups() {
    let lab = Lab::without_cgroup();
    let id = new_id();
    started(&mut lab.broker().await, &id, "bob").await;
    assert!(lab.record(&id)["cgroup"].is_null());
    kill_the_x_server(&lab).await;
    let monitor = lab.pid_of(&id, "monitor");
    wait_for("the script's children", || (lab.processes(&id).len() >= 3).then_some(()));
    crate::lab::kill(monitor, "KILL");
    wait_for("the end of all processes", || lab.processes(&id).is_empty().then_some(()));
}

async fn kill_the_x_server(lab: &Lab) {
    let mut broker = lab.broker().await;
    let id = new_id();
    let session = started(&mut broker, &id, "alice").await;
    wait_for("the script's children", || (lab.processes(&id).len() >= 3).then_some(()));
    crate::lab::kill(lab.pid_of(&id, "x_server"), "KILL");
    let ended = verify(&mut broker, &id).await.unwrap_err();
    assert_eq!(ended.reason(), EndReason::XServer);
    lab.assert_gone(&id, session.display);
    let again = new_id();
    assert_ne!(
        started(&mut broker, &again, "alice").await.display,
        session.display,
        "a display number rests"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_start_at_once_and_the_report_tells() {
    let lab = Lab::new();
    let mut broker = lab.broker().await;
    let mut report =
        broker.report(ReportRequest { broker: "b1".to_owned() }).await.unwrap().into_inner();
    let Some(Item::Inventory(inventory)) = report.message().await.unwrap().unwrap().item else {
        panic!()
    };
    assert!(inventory.sessions.is_empty() && inventory.promised.is_none());
    assert_eq!(inventory.public_name, "agent1.example");
    let mut starts = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (mut broker, user) = (broker.clone(), ["alice", "bob"][number % 2]);
        starts.spawn(async move { started(&mut broker, &new_id(), user).await });
    }
    let mut displays: Vec<u32> =
        starts.join_all().await.into_iter().map(|session| session.display).collect();
    displays.sort_unstable();
    assert_eq!(displays, (10..30).collect::<Vec<_>>());
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 20 {
        if let Some(Item::Changed(live)) = report.message().await.unwrap().unwrap().item {
            seen.insert(live.session.unwrap().id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_and_a_script_that_fails_are_told_apart() {
    for (script, reason, words) in [
        ("quick", EndReason::Logout, "exit status 0"),
        ("failing", EndReason::ScriptFailed, "exit status 3: this cannot work"),
    ] {
        let lab = Lab::with(&[&format!("session_script: BASE/{script}")]);
        let conf = std::fs::read_to_string(lab.path("conf.d/agent.yaml")).unwrap();
        assert!(conf.contains(script));
        let mut broker = lab.broker().await;
        let id = new_id();
        let session = started(&mut broker, &id, "alice").await;
        lab.assert_gone(&id, session.display);
        let ended = verify(&mut broker, &id).await.unwrap_err();
        assert_eq!(ended.reason(), reason, "{ended:?}");
        assert!(ended.detail.contains(words), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_start_never_runs() {
    let mut lab = Lab::new();
    let mut broker = lab.broker().await;
    let (late, running) = (new_id(), new_id());
    let cancel = |id: &str| CancelStartRequest { fence: fence(1), id: id.to_owned() };
    let answer = broker.cancel_start(cancel(&late)).await.unwrap().into_inner().result.unwrap();
    assert!(matches!(answer, cancel_start_response::Result::Cancelled(_)));
    assert_eq!(refused(&mut broker, &late, "alice").await.reason(), StartRefusal::Cancelled);
    let session = started(&mut broker, &running, "alice").await;
    broker.cancel_start(cancel(&running)).await.unwrap();
    lab.assert_gone(&running, session.display);
    lab.stop_agent("TERM");
    lab.start_agent();
    let mut broker = lab.broker().await;
    assert_eq!(refused(&mut broker, &late, "alice").await.reason(), StartRefusal::Cancelled);
    assert!(matches!(
        start(&mut broker, request(&running, "alice")).await,
        start_response::Result::Refused(_)
    ));
}

/// However the two meet, what was answered to be cancelled does not run.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_and_its_cancel_at_the_same_time_leave_nothing() {
    let lab = Lab::new();
    let broker = lab.broker().await;
    for wait_us in (0..20).map(|n| n * 250) {
        let id = new_id();
        let (mut one, mut other) = (broker.clone(), broker.clone());
        let cancel = CancelStartRequest { fence: fence(1), id: id.clone() };
        let starting = async {
            tokio::time::sleep(std::time::Duration::from_micros(wait_us)).await;
            start(&mut one, request(&id, "alice")).await
        };
        let (_, cancelled) = tokio::join!(starting, other.cancel_start(cancel));
        cancelled.unwrap();
        let ended = verify(&mut one, &id).await;
        assert!(ended.is_err(), "after {wait_us} us: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_lies_in_the_home_where_that_is_wanted() {
    let lab = Lab::with(&["xauthority_location: homedir"]);
    let id = new_id();
    started(&mut lab.broker().await, &id, "alice").await;
    let environment = wait_for("the script", || {
        let text =
            std::fs::read_to_string(lab.path("run/sessions").join(&id).join("user/env")).ok()?;
        text.contains("XDG_SESSION_TYPE=").then_some(text)
    });
    let file = lab.path("home/alice/.Xauthority");
    assert!(
        environment.lines().any(|line| line == format!("XAUTHORITY={}", file.display())),
        "{environment}"
    );
    let found = std::fs::metadata(&file).unwrap();
    let entry = std::fs::read(&file).unwrap();
    assert_eq!(entry[..2], [1, 0], "for this host alone");
    let session = verify(&mut lab.broker().await, &id).await.unwrap().session.unwrap();
    let look = format!("XAUTHORITY={} xdpyinfo -display :{}", file.display(), session.display);
    assert!(lab.as_user(51001, &look).output().unwrap().status.success());
    terminate(&mut lab.broker().await, &id).await;
    lab.assert_gone(&id, session.display);
    assert_eq!(std::fs::read(&file).unwrap(), Vec::<u8>::new(), "it went with its session");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&found), 51001);
}
