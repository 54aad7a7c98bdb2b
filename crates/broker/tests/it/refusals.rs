//! Why a user gets no desktop, each with its reason for programs; and hosts whose answer to a start is none.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tonic::{Code, Status};
use vsm_daemon::grpc;
use vsm_proto::{
    broker::v1::{AnnounceRequest, LoginChoice, LoginRequest, registry_client::RegistryClient},
    session::v1::{Session, StartParams},
};

use super::{
    agent::{Host, Start},
    life::{Site, until},
};

/// What programs see of a refusal.
fn told(refused: &Status) -> (Code, &str) {
    (refused.code(), grpc::reason(refused).unwrap_or_default())
}

fn new() -> LoginRequest {
    LoginRequest { choice: Some(LoginChoice::New.into()), ..LoginRequest::default() }
}

/// Why there is no desktop, once what is under way at the other broker is decided: `vsm` asks again until then, too.
async fn settled(site: &Site, request: &LoginRequest) -> Status {
    let mut refused = site.ask(request.clone()).await.unwrap_err();
    while told(&refused).1 == "REPLACED" {
        refused = site.ask(request.clone()).await.unwrap_err();
    }
    refused
}

/// Asks until there is a desktop; what is refused meanwhile is refused for these reasons.
async fn given(site: &Site, request: &LoginRequest, meanwhile: [&str; 2]) -> Session {
    let mut desktop = None;
    until("a desktop", async || match site.ask(request.clone()).await {
        Ok(answer) => {
            desktop = answer.session;
            true
        }
        Err(refused) => {
            assert!(meanwhile.contains(&told(&refused).1), "{refused}");
            false
        }
    })
    .await;
    desktop.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_is_told_so_before_any_host_is_asked() {
    let site = Site::new().await;
    site.configure(", groups: [no-such-group]", "");
    let refused = site.login().await.unwrap_err();
    assert_eq!(told(&refused), (Code::PermissionDenied, "NO_SUBCLUSTER"), "{refused}");
    site.configure("", ", allowed_groups: [no-such-group]");
    let refused = site.login().await.unwrap_err();
    assert_eq!(told(&refused), (Code::PermissionDenied, "NOT_ALLOWED"), "{refused}");
    site.configure("", ", allow_start_command: false");
    let params = StartParams { start_command: "xterm".to_owned(), ..StartParams::default() };
    let refused = site.ask(LoginRequest { params: Some(params), ..new() }).await.unwrap_err();
    assert_eq!(told(&refused), (Code::PermissionDenied, "NO_START_COMMAND"), "{refused}");
    assert_eq!(site.asked("start"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_desktops_is_told() {
    let site = Site::new().await;
    let first = site.login().await.unwrap().session.unwrap();
    let refused = site.ask(new()).await.unwrap_err();
    assert_eq!(told(&refused), (Code::ResourceExhausted, "AT_LIMIT"), "{refused}");
    assert_eq!(site.running(), [first.id.as_str()]);
    site.configure("", ", max_sessions_per_user: 2");
    let second = site.ask(new()).await.unwrap().session.unwrap();
    assert_ne!(second.id, first.id);
    let refused = site.ask(new()).await.unwrap_err();
    assert_eq!(told(&refused), (Code::ResourceExhausted, "AT_LIMIT"), "{refused}");
}

/// While one login waits for a host, a share of others of the same user may wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn one_who_asks_again_and_again_has_a_share_of_the_logins() {
    let site = Arc::new(Site::new().await);
    site.hosts.iter().for_each(|host| host.starts([Start::RunsUnheard]));
    let mut asked = JoinSet::new();
    for _ in 0..40 {
        let site = Arc::clone(&site);
        asked.spawn(async move { site.ask(new()).await });
    }
    for _ in 0..24 {
        let refused = asked.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(told(&refused), (Code::ResourceExhausted, "BUSY"), "{refused}");
        assert!(refused.message().starts_with("16 of your logins"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_without_a_host_that_takes_anybody_says_what_is_the_matter_with_each() {
    let site = Site::new().await;
    let names: Vec<_> = site.hosts.iter().map(|host| host.name.as_str()).collect();
    site.configure("", &format!(", agents: {{draining: [{}]}}", names.join(", ")));
    let refused = site.login().await.unwrap_err();
    assert_eq!(told(&refused), (Code::Unavailable, "NO_AGENT"), "{refused}");
    for name in names {
        let said = format!("{name} is draining");
        assert!(refused.message().contains(&said), "{refused}");
    }
    assert_eq!(site.asked("start"), 0);
}

/// New authorities end all links at once; they come back within a moment. For a host that stays away it is as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_waits_a_moment_for_hosts_that_were_there_just_now() {
    let mut site = Site::new().await;
    site.configure("", ", max_sessions_per_user: 5");
    site.login().await.unwrap();
    site.hosts.iter().for_each(Host::down);
    until("the hosts to be away", async || site.are_away().await).await;
    let asking = site.asking(new());
    let (login, ()) = tokio::join!(asking, async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        site.hosts[0].up().await;
    });
    login.unwrap();
    site.hosts[0].down();
    until("the host to be away", async || site.are_away().await).await;
    let refused = site.ask(new()).await.unwrap_err();
    assert_eq!(told(&refused), (Code::Unavailable, "NO_AGENT"), "{refused}");
}

/// Else it would only be seen that nobody answers where the host is called.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_listens_on_another_port_than_it_is_called_on_is_told() {
    let site = Site::new().await;
    let name = site.hosts[0].name.clone();
    let announce = async |port: u16| {
        let channel = site.lab.call(&site.lab.b, "agent", &name);
        let request = AnnounceRequest { boot_id: String::new(), port: port.into() };
        RegistryClient::new(channel).announce(request).await.unwrap();
        let agents = site.agents().await.into_iter();
        let troubles = agents.filter(|agent| agent.name == name).flat_map(|agent| agent.troubles);
        troubles.map(|trouble| trouble.what).collect::<Vec<_>>().join("; ")
    };
    let said = announce(905).await;
    assert!(
        said.contains("it listens on port 905 (/vsmagent/listen_port), and is called on port"),
        "{said}"
    );
    for right in [site.port, 0] {
        let said = announce(right).await;
        assert!(!said.contains("it listens on port"), "{said}");
    }
}

/// A request that is sent again, as its answer was lost, makes no second desktop (P8).
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_again_gets_its_own_desktop() {
    let site = Site::new().await;
    site.configure("", ", max_sessions_per_user: 5");
    let request = LoginRequest { request_id: uuid::Uuid::new_v4().to_string(), ..new() };
    let first = site.ask(request.clone()).await.unwrap().session.unwrap();
    let again = site.ask(request).await.unwrap().session.unwrap();
    assert_eq!((again.id, site.asked("start"), site.running().len()), (first.id, 1, 1));
}

/// It was another broker's a moment ago: this one rises above that, and asks again. A login that meets the change is
/// told so, and the same request finds its desktop, or a new one where the new reign has given up the start before.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_has_promised_to_another_broker_is_asked_by_a_higher_epoch() {
    let site = Site::new().await;
    let before = site.lab.b.table().fence().epoch;
    for host in &site.hosts {
        host.starts([Start::Fenced(3)]);
    }
    let request = LoginRequest { request_id: uuid::Uuid::new_v4().to_string(), ..new() };
    let desktop = given(&site, &request, ["REPLACED", "STANDBY"]).await;
    assert_eq!(site.running(), [desktop.id.as_str()]);
    // By this request, and by the same one again: each start of one id is one desktop.
    let asked = site.host(&desktop.agent).asked("start");
    let elsewhere = site.asked("start") - asked;
    assert!(asked >= 2 && elsewhere <= 1, "{asked} there, {elsewhere} elsewhere");
    assert!(site.lab.b.table().fence().epoch.counter >= before.counter + 3);
}

/// Nobody rises to that: the host is put aside, and the other one is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_names_a_promise_beyond_reason_gets_no_desktop() {
    let site = Site::new().await;
    let before = site.lab.b.table().fence().epoch;
    let [evil, good] = &site.hosts[..] else { panic!("two hosts") };
    evil.starts([Start::Fenced(1 << 40)]);
    site.configure("", &format!(", agents: {{draining: [{}]}}", good.name));
    let refused = site.login().await.unwrap_err();
    assert_ne!(refused.code(), Code::Internal, "{refused}");
    assert!(evil.asked("start") > 0 && site.running().is_empty(), "{refused}");
    assert_eq!(site.lab.b.table().fence().epoch, before, "nobody rises to that");
    let link = site.lab.b.broker.agents.link(&evil.name.parse().unwrap()).unwrap();
    until("the host to be put aside", async || !link.is_up()).await;
    site.configure("", "");
    assert_eq!(site.login().await.unwrap().session.unwrap().agent, good.name);
}

/// Nothing is known of it then: it is asked again, and neither forgotten nor made twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_answer_to_a_start_is_no_answer() {
    let site = Site::new().await;
    for host in &site.hosts {
        host.starts([Start::Empty]);
    }
    let desktop = site.login().await.unwrap().session.unwrap();
    assert_eq!(site.running(), [desktop.id.as_str()]);
    assert_eq!(site.host(&desktop.agent).asked("start"), 2, "the same host");
    assert_eq!(site.list().await.0.len(), 1);
}

/// Where there are no votes nothing can be recorded as over. What a host has said is over does not keep its user out.
#[tokio::test(flavor = "multi_thread")]
async fn without_votes_a_desktop_counts_until_its_host_says_that_it_is_over() {
    let site = Site::new().await;
    site.configure("", ", HA: {solo_create: allow_and_mark}");
    let voted = site.login().await.unwrap().session.unwrap();
    site.lab.cut();
    let mut state = site.lab.b.table().watch();
    state.wait_for(|state| !state.replica.link).await.unwrap();
    let refused = settled(&site, &new()).await;
    assert_eq!(told(&refused), (Code::ResourceExhausted, "AT_LIMIT"), "{refused}");
    let mut over = voted;
    for _ in 0..2 {
        site.host(&over.agent).logs_out(&over.id);
        over = given(&site, &new(), ["AT_LIMIT", "REPLACED"]).await;
        assert_eq!(site.running(), [over.id.as_str()]);
        let refused = settled(&site, &new()).await;
        assert_eq!(told(&refused), (Code::ResourceExhausted, "AT_LIMIT"), "{refused}");
    }
}

/// What a user has is one thing for all that asks for it: a login, the list, an end.
#[tokio::test(flavor = "multi_thread")]
async fn without_votes_a_desktop_is_listed_chosen_and_ended_like_any_other() {
    let site = Site::new().await;
    site.configure("", ", max_sessions_per_user: 2, HA: {solo_create: allow_and_mark}");
    let voted = site.login().await.unwrap().session.unwrap();
    site.lab.cut();
    let mut state = site.lab.b.table().watch();
    state.wait_for(|state| !state.replica.link).await.unwrap();
    let marked = given(&site, &new(), ["REPLACED", "REPLACED"]).await;
    let listed = async || -> Vec<String> {
        site.list().await.0.into_iter().map(|session| session.id).collect()
    };
    assert_eq!(listed().await, [voted.id.as_str(), marked.id.as_str()]);
    let which = site.end("").await.unwrap_err();
    assert_eq!(told(&which), (Code::InvalidArgument, "WHICH_SESSION"), "{which}");
    // An ordinary one, which stays in the table.
    assert!(site.end(&voted.id).await.unwrap().done);
    assert_eq!(site.login().await.unwrap().session.unwrap().id, marked.id, "nothing to choose");
    assert_eq!(listed().await, [marked.id.as_str()]);
    assert!(site.end("").await.unwrap().done);
    let (left, ended) = site.list().await;
    assert!(left.is_empty() && site.running().is_empty());
    assert!([&voted.id, &marked.id].iter().all(|id| ended.iter().any(|ended| ended.id == **id)));
}
