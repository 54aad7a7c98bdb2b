//! A session host in the wrong hands: what it says counts for itself alone, and it is put aside by name.

use std::time::Duration;

use vsm_core::SessionId;
use vsm_proto::{
    agent::v1::{self as pb, report_response::Item},
    session::v1::{Ended, Epoch, LiveSession, Session, SessionState},
};

use super::{
    agent::{Host, name_of},
    lab::{LONG, Lab, Node},
};

/// The agent.
fn agent() -> String {
    name_of(2)
}

/// An active broker with an agent that says such things, and another one that is away.
async fn with(lab: &Lab, says: impl FnMut() -> Vec<Item> + Send + 'static) -> &Node {
    let (port, hosts) = Host::several(&lab.authority, 1).await;
    hosts[0].says(says);
    let agents = format!("subclusters: {{x: {{agents: [{}, agent1]}}}}\n", agent());
    lab.b.has_agents(port, &agents);
    &lab.b
}

fn inventory(node: &Node, counter: u64, sessions: Vec<LiveSession>) -> pb::Inventory {
    pb::Inventory {
        public_name: "a\x1b]0;title\x07".to_owned(),
        version: "1\x1b[2J".to_owned(),
        promised: Some(Epoch { nonce: 0, counter, node: "a".to_owned() }),
        lineage: node.table().fence().lineage.to_string(),
        sessions,
        ..pb::Inventory::default()
    }
}

fn live(id: &str, user: &str) -> LiveSession {
    let session = Session {
        id: id.to_owned(),
        user: user.to_owned(),
        agent: agent(),
        display: 10,
        state: SessionState::Running.into(),
        request_id: uuid::Uuid::new_v4().to_string(),
        ..Session::default()
    };
    LiveSession { session: Some(session), shadowers: vec!["dr-house".into()], ..Default::default() }
}

/// Waits until the agent is down with these words; how it stands.
async fn put_aside(node: &Node, words: &str) {
    use vsm_broker::hosts::agents::LinkState;
    let link = node.broker.agents.link(&agent().parse().unwrap()).unwrap();
    let mut seen = String::new();
    let wait = async {
        loop {
            seen = format!("{:?}", link.state());
            if let LinkState::Down { why, .. } = link.state()
                && why.to_string().contains(words)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let told = tokio::time::timeout(LONG, wait).await;
    assert!(told.is_ok(), "{words}: {seen}");
}

/// It promises more at every report: the broker follows some, and then it is this host that is not believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_names_ever_higher_epochs_is_put_aside() {
    let lab = Lab::with_b_active().await;
    let table = lab.b.table().clone();
    let lineage = table.fence().lineage.to_string();
    let says = move || {
        let counter = table.fence().epoch.counter + 1;
        let promised = Some(Epoch { nonce: 0, counter, node: "a".to_owned() });
        let lineage = lineage.clone();
        vec![Item::Inventory(pb::Inventory { promised, lineage, ..pb::Inventory::default() })]
    };
    let node = with(&lab, says).await;
    put_aside(node, "put aside, as it named more than 8 new epochs").await;
    node.serving().await;
    let counter = node.table().fence().epoch.counter;
    assert!(counter < 30, "it was followed too far: {counter}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_far_above_all_or_too_many_sessions_put_a_host_aside() {
    for (counter, sessions, words) in
        [(1 << 31, 0, "far above"), (0, 4097, "put aside, as it says that it has 4097 sessions")]
    {
        let lab = Lab::with_b_active().await;
        let new = |_| live(&uuid::Uuid::now_v7().to_string(), "ann");
        let told = inventory(&lab.b, counter, (0..sessions).map(new).collect());
        let node = with(&lab, move || vec![Item::Inventory(told.clone())]).await;
        put_aside(node, words).await;
        assert_eq!(node.table().read(|view| view.table.sessions().count()), 0);
    }
}

/// Neither another host's session nor anybody's terminal is its to touch.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_says_of_others_is_not_believed() {
    let lab = Lab::with_b_active().await;
    let id = lab.b.session_of_root().await;
    let ended = Ended { id: id.to_string(), reason: 1, ..Ended::default() };
    let own = "01890a5d-ac96-774b-bcce-b302099a8057";
    let told = vec![
        Item::Inventory(inventory(&lab.b, 0, vec![live(&id.to_string(), "root")])),
        Item::Changed(live(&id.to_string(), "root")),
        Item::Ended(ended),
        Item::Changed(live(own, "root")),
    ];
    let node = with(&lab, move || told.clone()).await;
    let own: SessionId = own.parse().unwrap();
    let mut changes = node.table().watch();
    let adopted = async {
        while node.table().read(|view| view.table.session(own).is_none()) {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONG, adopted).await.expect("its own is adopted");
    let agent = node.table().read(|view| view.table.session(id).map(|of| of.agent.to_string()));
    assert_eq!(agent.as_deref(), Some("agent1"));
    let forged = node.table().read(|view| {
        view.table
            .events_after(0)
            .any(|event| event.session == Some(id) && event.actor == "dr-house")
    });
    assert!(!forged);
}
