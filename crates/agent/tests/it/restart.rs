//! What a desktop outlives: the agent's end, a damaged record; and what ends with its monitor.

use std::fs;

use vsm_proto::{
    agent::v1::{ReportRequest, report_response::Item, start_response},
    session::v1::EndReason,
};

use crate::{
    calls::{fence, new_id, request, start, started, terminate, verify},
    lab::{Lab, kill, wait_for},
};

#[tokio::test(flavor = "multi_thread")]
async fn desktops_outlive_the_agent() {
    let mut lab = Lab::new();
    let (whole, cut) = (new_id(), new_id());
    let mut broker = lab.broker().await;
    let session = started(&mut broker, &whole, "alice").await;
    started(&mut broker, &cut, "bob").await;
    let mut viewer = lab.attach(&whole, "10.0.0.9").unwrap();
    lab.stop_agent("KILL");
    let text = fs::read(lab.record_path(&cut)).unwrap();
    fs::write(lab.record_path(&cut), &text[..text.len() / 2]).unwrap();
    assert_eq!(viewer.greeting(), "RFB 003.008\n");
    lab.start_agent();
    let mut broker = lab.broker().await;
    assert_eq!(verify(&mut broker, &whole).await.unwrap().session.unwrap(), session);
    assert_eq!(started(&mut broker, &whole, "alice").await, session);
    verify(&mut broker, &cut).await.unwrap();
    assert_eq!(fs::read(lab.record_path(&cut)).unwrap(), text, "the record was rebuilt");
    assert!(lab.log().contains("a session's record cannot be read"));
    assert_eq!(fs::read_dir(lab.path("state/damaged")).unwrap().count(), 1);
    let mut report =
        broker.report(ReportRequest { broker: "b1".to_owned() }).await.unwrap().into_inner();
    let Some(Item::Inventory(inventory)) = report.message().await.unwrap().unwrap().item else {
        panic!()
    };
    assert_eq!(inventory.sessions.len(), 2);
    assert_eq!(inventory.promised.unwrap().counter, 1);
    assert_eq!(terminate(&mut broker, &whole).await.reason(), EndReason::Terminated);
    lab.assert_gone(&whole, session.display);
}

/// What its starter's mask and limits are is nothing to desktops, and not what the agent itself needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_mask_and_limits_of_the_agents_starter_do_no_harm() {
    let mut lab = Lab::new();
    lab.stop_agent("TERM");
    fs::remove_dir_all(lab.path("run")).unwrap();
    // It would set limits of its own.
    let limits = "sed -i /pam_limits/d /etc/pam.d/vsm";
    assert!(lab.inside("sh").args(["-c", limits]).status().unwrap().success());
    lab.start_agent_by("umask 077; ulimit -Sn 256; exec \"$@\"");
    let id = new_id();
    let session = started(&mut lab.broker().await, &id, "alice").await;
    let mut viewer = lab.attach(&id, "10.0.0.9").unwrap();
    assert_eq!(viewer.greeting(), "RFB 003.008\n");
    let look = |pid: i32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let files = |pid: i32| {
        let limits = look(pid, "limits");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_whitespace().nth(3).unwrap().to_owned()
    };
    assert_ne!(files(lab.agent_pid()), "256");
    let x_server = lab.pid_of(&id, "x_server");
    assert_eq!(files(x_server), "256");
    assert!(look(x_server, "status").contains("Umask:\t0022"));
    let script = lab.path("run/sessions").join(&id).join("user/env");
    wait_for("the script", || script.exists().then_some(()));
    let socket = lab.path("run/sessions").join(&id).join("control.sock");
    assert!(
        lab.as_user(51001, &format!("test -S {}", socket.display())).status().unwrap().success()
    );
    assert_eq!(terminate(&mut lab.broker().await, &id).await.reason(), EndReason::Terminated);
    lab.assert_gone(&id, session.display);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_monitor_takes_its_desktop_along() {
    let mut lab = Lab::new();
    let (now, later) = (new_id(), new_id());
    let mut broker = lab.broker().await;
    let first = started(&mut broker, &now, "alice").await;
    let second = started(&mut broker, &later, "bob").await;
    wait_for("the scripts", || {
        (lab.processes(&now).len() >= 3 && lab.processes(&later).len() >= 3).then_some(())
    });
    kill(lab.pid_of(&now, "monitor"), "KILL");
    lab.assert_gone(&now, first.display);
    assert_eq!(verify(&mut broker, &now).await.unwrap_err().reason(), EndReason::Lost);
    lab.stop_agent("TERM");
    kill(lab.pid_of(&later, "monitor"), "KILL");
    assert!(!lab.processes(&later).is_empty());
    lab.start_agent();
    lab.assert_gone(&later, second.display);
    let mut broker = lab.broker().await;
    assert_eq!(verify(&mut broker, &later).await.unwrap_err().reason(), EndReason::Lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_host_has_no_old_sessions() {
    let mut lab = Lab::new();
    let id = new_id();
    let mut broker = lab.broker().await;
    started(&mut broker, &id, "alice").await;
    lab.stop_agent("TERM");
    kill(lab.pid_of(&id, "monitor"), "KILL");
    let mut record = lab.record(&id);
    record["boot_id"] = "another boot".into();
    fs::write(lab.record_path(&id), record.to_string()).unwrap();
    lab.start_agent();
    let ended = verify(&mut lab.broker().await, &id).await.unwrap_err();
    assert_eq!(ended.reason(), EndReason::HostReboot);
    // A host that has really been restarted has no control groups of before.
    drop(lab);
    if let Some(cgroup) = record["cgroup"].as_str() {
        fs::remove_dir(cgroup).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_broker_is_fenced() {
    let mut lab = Lab::new();
    let mut broker = lab.broker().await;
    let mut high = request(&new_id(), "alice");
    high.fence = fence(7);
    assert!(matches!(start(&mut broker, high).await, start_response::Result::Started(_)));
    for _ in 0..2 {
        let mut broker = lab.broker().await;
        match start(&mut broker, request(&new_id(), "bob")).await {
            start_response::Result::Fenced(fenced) => {
                assert_eq!(fenced.promised.unwrap().counter, 7);
            }
            other => panic!("{other:?}"),
        }
        let mut stranger = request(&new_id(), "bob");
        stranger.fence.as_mut().unwrap().lineage = new_id();
        let status = broker.start(stranger).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        assert!(status.message().contains(crate::lab::LINEAGE), "{status}");
        lab.stop_agent("KILL");
        lab.start_agent();
    }
}
