//! An observer of a pair: it hears of both nodes, and neither a failover nor a node that comes back costs it anything.

use tonic::{Code, Request, Status, Streaming};
use vsm_core::{Row, Table};
use vsm_daemon::{grpc, tls::Tls};
use vsm_proto::sync::v1::{
    self as pb, FollowRequest, FollowResponse, follow_response::Kind, observe_client::ObserveClient,
};

use super::node::{LONG, Node, Pair, session};

/// A node as it is heard of.
struct Observer {
    stream: Streaming<FollowResponse>,
    standing: pb::Standing,
    table: Table,
    /// The number that the table is at; none before it is whole.
    commit: Option<u64>,
    /// How often the whole table came.
    wholes: u32,
}

impl Observer {
    async fn open(node: &Node, tls: &Tls) -> Result<Self, Status> {
        let channel = grpc::channel("localhost", node.observe, tls).unwrap();
        let call = ObserveClient::new(channel).follow(Request::new(FollowRequest::default())).await;
        let (standing, table) = (pb::Standing::default(), Table::default());
        Ok(Self { stream: call?.into_inner(), standing, table, commit: None, wholes: 0 })
    }

    /// Takes in what comes until it is so.
    async fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        while !so(self) {
            let next = tokio::time::timeout(LONG, self.stream.message());
            let next = next.await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
            self.take(next.unwrap().unwrap_or_else(|| panic!("it ended before {what}")));
        }
    }

    /// Follows until the node is gone.
    async fn end(&mut self) {
        let wait = async { while let Ok(Some(_)) = self.stream.message().await {} };
        tokio::time::timeout(LONG, wait).await.expect("the stream ends");
    }

    fn take(&mut self, message: FollowResponse) {
        match message.kind {
            Some(Kind::Standing(standing)) => self.standing = standing,
            Some(Kind::Page(page)) => {
                if page.first {
                    self.table = Table::default();
                }
                self.set(page.rows);
            }
            Some(Kind::Complete(complete)) => {
                self.commit = Some(complete.commit);
                self.wholes += 1;
            }
            Some(Kind::Update(update)) => {
                self.set(update.rows);
                if !update.more {
                    self.commit = Some(update.commit);
                }
            }
            None => {}
        }
    }

    fn set(&mut self, rows: Vec<pb::Row>) {
        for row in rows {
            self.table.set_row(&Row::try_from(row).unwrap());
        }
    }

    fn is(&self, role: &str) -> bool {
        self.standing.role == role
    }

    /// Waits until it has what the node has now, and compares.
    async fn has_all_of(&mut self, node: &Node) {
        let last = node.table.read(|view| view.last_seq);
        self.until("it has everything", |it| it.commit >= Some(last)).await;
        let there: Vec<Row> = node.table.read(|view| view.table.rows().collect());
        assert!(self.table.rows().eq(there), "the copy differs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_survives_a_failover() {
    let (pair, a, b) = Pair::new().await;
    let tls = pair.authority.issue(pair.dir.path(), "admin", "watch");
    a.table.want(true).await.unwrap();
    a.serving().await;
    session(&a, 1).await;
    let mut at_a = Observer::open(&a, &tls).await.unwrap();
    let mut at_b = Observer::open(&b, &tls).await.unwrap();
    session(&a, 2).await;
    b.has(a.table.read(|view| view.last_seq)).await;
    at_a.until("a is active", |it| it.is("active") && it.standing.ready).await;
    at_a.has_all_of(&a).await;
    at_b.until("b is a standby", |it| it.is("standby")).await;
    at_b.has_all_of(&b).await;
    let reign = at_a.standing.epoch.clone().unwrap().counter;
    // The active node goes; who followed it goes on with the other, and who followed that one hears it rise.
    a.stop();
    at_a.end().await;
    let mut at_a = Observer::open(&b, &tls).await.unwrap();
    b.table.want(true).await.unwrap();
    b.serving().await;
    session(&b, 3).await;
    for observer in [&mut at_a, &mut at_b] {
        observer.until("b is active", |it| it.is("active") && it.standing.ready).await;
        assert_eq!(observer.standing.node, "b");
        assert!(observer.standing.epoch.as_ref().unwrap().counter > reign);
        observer.has_all_of(&b).await;
        assert_eq!(observer.table.sessions().len(), 3);
        assert_eq!(observer.wholes, 1, "changes came one by one through the failover");
    }
    // The former node comes back as a standby with everything.
    let a = pair.a();
    a.has(b.table.read(|view| view.last_seq)).await;
    let mut again = Observer::open(&a, &tls).await.unwrap();
    again.until("a is a standby", |it| it.is("standby")).await;
    again.has_all_of(&a).await;
    assert_eq!(again.table.sessions().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_named_holder_of_the_right_role_is_told() {
    let (pair, _a, b) = Pair::new().await;
    for (role, name) in [("admin", "other"), ("agent", "watch")] {
        let tls = pair.authority.issue(pair.dir.path(), role, name);
        let refused = Observer::open(&b, &tls).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains(name), "{refused}");
    }
}
