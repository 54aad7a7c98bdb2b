//! The life of a host's identity: invited, enrolled once, renewed, revoked; and what an issuer cannot do.

use std::time::Duration;

use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use vsm_core::{Hash, UnixMillis};
use vsm_daemon::{
    access::{ByRole, Guard},
    grpc,
    pki::{self, Request, Wanted},
    tls::{Role, Tls},
};
use vsm_proto::{
    admin::v1::{
        InviteRequest, InviteResponse, ListAuthoritiesRequest, ListIdentitiesRequest,
        RenewRequest as RenewAgentsRequest, RevokeRequest, RevokeResponse,
        identities_client::IdentitiesClient,
    },
    broker::v1::{
        AnnounceRequest, Certificates, EnrolRequest, RenewRequest,
        enrolment_client::EnrolmentClient, registry_client::RegistryClient,
    },
};

use super::{
    agent::Host,
    lab::{LONG, Lab, Node},
};

async fn lab() -> Lab {
    let lab = Lab::with_b_active().await;
    lab.b.has_agents(1, "vsmserver: {subclusters: {Default: {agents: [lab7, lab8]}}}");
    lab
}

fn admin(node: &Node) -> IdentitiesClient<Channel> {
    let socket = format!("unix://{}", node.admin.display());
    IdentitiesClient::new(Endpoint::from_shared(socket).unwrap().connect_lazy())
}

async fn invite(lab: &Lab, agent: &str) -> Result<InviteResponse, Status> {
    let request = InviteRequest { agent: agent.into(), valid_s: 60 };
    let answer = admin(&lab.b).invite(request).await?.into_inner();
    // Until the door is open.
    let mut guest = EnrolmentClient::new(guest(lab, &lab.b));
    let nobody = EnrolRequest::default();
    let opens = async {
        while guest.enrol(nobody.clone()).await.is_err_and(|status| is_cut(&status)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, opens).await.expect("guests are let in");
    Ok(answer)
}

fn guest(lab: &Lab, node: &Node) -> Channel {
    grpc::guest_channel("localhost", node.port, lab.authority.key()).unwrap()
}

async fn enrol(lab: &Lab, agent: &str, token: &str, key: &Request) -> Result<Certificates, Status> {
    let mut client = EnrolmentClient::new(guest(lab, &lab.b));
    let (agent, token, request) = (agent.to_owned(), token.to_owned(), key.request.clone());
    Ok(client.enrol(EnrolRequest { agent, token, request }).await?.into_inner())
}

/// A host that has its first certificate.
async fn enrolled(lab: &Lab, agent: &str) -> Tls {
    let (invited, key) = (invite(lab, agent).await.unwrap(), Request::new().unwrap());
    let made = enrol(lab, agent, &invited.token, &key).await.unwrap();
    lab.authority.host(agent, (&made.chain, &key.key))
}

/// A host whose certificate began so many days ago, and ends in 30.
fn lived(lab: &Lab, agent: &str, days: u32) -> Tls {
    let signer = lab.authority.signer_of("b");
    let now = vsm_daemon::clock::unix_millis().0;
    let since = now - u64::try_from((pki::DAY * days).as_millis()).unwrap();
    let (name, addresses) = (agent.to_owned(), vec!["localhost".to_owned()]);
    let (roles, life) = (vec![Role::Agent], pki::DAY * 30);
    let since = Some(UnixMillis(since));
    let (own, key) = signer.make(&Wanted { name, roles, addresses, since, life }).unwrap();
    lab.authority.host(agent, (&format!("{own}{}", signer.pem()), &key))
}

async fn announce(node: &Node, tls: &Tls) -> Result<(), Status> {
    let channel = grpc::channel("localhost", node.port, tls).unwrap();
    RegistryClient::new(channel).announce(AnnounceRequest::default()).await.map(drop)
}

async fn revoke(lab: &Lab, role: &str, name: &str) -> Result<RevokeResponse, Status> {
    let (role, name) = (role.to_owned(), name.to_owned());
    let request = RevokeRequest { role, name, reason: "stolen".into(), force: false };
    Ok(admin(&lab.b).revoke(request).await?.into_inner())
}

/// Whether there was no connection, or none any more. A server looks at a certificate after its client has begun to
/// speak, so the client may learn no more.
fn is_cut(status: &Status) -> bool {
    [Code::Unavailable, Code::Cancelled, Code::Unknown].contains(&status.code())
}

fn why(status: &Status) -> String {
    vsm_daemon::cause::of(status)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_has_a_share_of_such_connections() {
    let lab = lab().await;
    drop(invite(&lab, "lab7").await.unwrap());
    let asks = async || {
        let mut client = EnrolmentClient::new(guest(&lab, &lab.b));
        let nobody = EnrolRequest { agent: "lab7".to_owned(), ..EnrolRequest::default() };
        let refused = client.enrol(nobody).await.unwrap_err();
        (!is_cut(&refused)).then_some(client)
    };
    let mut held = Vec::new();
    while let Some(client) = asks().await {
        held.push(client);
        assert!(held.len() <= 8);
    }
    // One that asked for the invitation may not be gone yet.
    assert!(held.len() >= 7);
    drop(held.pop());
    let again = async { while asks().await.is_none() {} };
    tokio::time::timeout(LONG, again).await.expect("a place is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_one_host_and_one_key() {
    let lab = lab().await;
    let unknown = admin(&lab.b).invite(InviteRequest { agent: "lab9".into(), valid_s: 60 }).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    let guests = enrol(&lab, "lab7", "x", &Request::new().unwrap()).await.unwrap_err();
    assert!(is_cut(&guests), "nobody is invited: {guests:?}");
    let token = invite(&lab, "lab7").await.unwrap().token;
    let (key, thief) = (Request::new().unwrap(), Request::new().unwrap());
    for (agent, token) in [("lab7", "wrong"), ("lab8", token.as_str()), ("lab7", "")] {
        let refused = enrol(&lab, agent, token, &thief).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{agent} {token}: {refused:?}");
    }
    let made = enrol(&lab, "lab7", &token, &key).await.unwrap();
    announce(&lab.b, &lab.authority.host("lab7", (&made.chain, &key.key))).await.unwrap();
    let refused = enrol(&lab, "lab7", &token, &thief).await.unwrap_err();
    assert!(refused.message().ends_with("this token was used already"), "{refused:?}");
    // Whose answer was lost; typed in capitals.
    enrol(&lab, "lab7", &token.to_uppercase(), &key).await.unwrap();
    // Taken out of the configuration since it was invited.
    let token = invite(&lab, "lab8").await.unwrap().token;
    lab.b.has_agents(1, "vsmserver: {subclusters: {Default: {agents: lab7}}}");
    let gone = enrol(&lab, "lab8", &token, &thief).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "{gone:?}");
    let token = invite(&lab, "lab7").await.unwrap().token;
    let no_request = Request { key: String::new().into(), request: vec![1, 2, 3] };
    let bad = enrol(&lab, "lab7", &token, &no_request).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_show_a_token_at_the_same_moment_one_gets_in() {
    let lab = lab().await;
    for _ in 0..5 {
        let token = invite(&lab, "lab7").await.unwrap().token;
        let (one, other) = (Request::new().unwrap(), Request::new().unwrap());
        let both =
            tokio::join!(enrol(&lab, "lab7", &token, &one), enrol(&lab, "lab7", &token, &other));
        let got_in = [both.0, both.1].iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(got_in, 1);
        // Not by the other node either.
        let mut standby = EnrolmentClient::new(guest(&lab, &lab.a));
        let (agent, request) = ("lab7".to_owned(), Request::new().unwrap().request);
        assert!(standby.enrol(EnrolRequest { agent, token, request }).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_is_out_on_both_nodes_and_comes_back_by_an_invitation_only() {
    let lab = lab().await;
    let (revoked, other) = (enrolled(&lab, "lab7").await, enrolled(&lab, "lab8").await);
    let open = grpc::channel("localhost", lab.b.port, &revoked).unwrap();
    let mut open = RegistryClient::new(open);
    open.announce(AnnounceRequest::default()).await.unwrap();
    revoke(&lab, "agent", "lab7").await.unwrap();
    let refused = open.announce(AnnounceRequest::default()).await.unwrap_err();
    assert!(is_cut(&refused), "{refused:?}");
    for node in [&lab.a, &lab.b] {
        let out = async {
            while announce(node, &revoked).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, out).await.expect("it is out");
        announce(node, &other).await.expect("nobody else notices");
    }
    // Nor by a new certificate for the old one.
    let channel = grpc::channel("localhost", lab.b.port, &revoked).unwrap();
    let request = RenewRequest { request: Request::new().unwrap().request };
    assert!(EnrolmentClient::new(channel).renew(request).await.is_err());
    let back = enrolled(&lab, "lab7").await;
    let comes = async {
        // It counts from the next second.
        while announce(&lab.b, &back).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, comes).await.expect("it is back");
    assert!(announce(&lab.b, &revoked).await.is_err(), "not by the old one");
    let listed = admin(&lab.b).list_identities(ListIdentitiesRequest {}).await.unwrap();
    let listed = listed.into_inner().identities;
    let lab7 = listed.iter().find(|one| one.role == "agent" && one.name == "lab7").unwrap();
    assert_eq!((lab7.revoked_by.as_str(), lab7.revoked_why.as_str()), ("root", "stolen"));
    assert!(lab7.issued_unix_ms >= lab7.revoked_before_unix_ms && lab7.until_unix_ms > 0);
    let typo = revoke(&lab, "agent", "lab77").await.unwrap_err();
    assert_eq!(typo.code(), Code::NotFound, "{typo:?}");
    revoke(&lab, "agent", "LAB7").await.unwrap();
    assert!(announce(&lab.b, &back).await.is_err(), "in whatever case it is spelled, and again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_renews_its_certificate_also_after_it_has_ended() {
    let lab = lab().await;
    let lively = lived(&lab, "lab7", 50);
    let young = enrolled(&lab, "lab7").await;
    let channel = grpc::channel("localhost", lab.b.port, &young).unwrap();
    let request = RenewRequest { request: Request::new().unwrap().request };
    let early = EnrolmentClient::new(channel).renew(request).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition, "{early:?}");
    let strange = lived(&lab, "lab9", 50);
    let channel = grpc::channel("localhost", lab.b.port, &strange).unwrap();
    let request = RenewRequest { request: Request::new().unwrap().request };
    let unknown = EnrolmentClient::new(channel).renew(request).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "of no subcluster: {unknown:?}");
    let ended = lab.authority.ended("agent", "lab8");
    let ended = lab.authority.host("ended", (&ended.0, &ended.1));
    let refused = announce(&lab.b, &ended).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    for (name, tls) in [("lab7", &lively), ("lab8", &ended)] {
        let key = Request::new().unwrap();
        let channel = grpc::channel("localhost", lab.b.port, tls).unwrap();
        let request = RenewRequest { request: key.request };
        let made = EnrolmentClient::new(channel).renew(request).await.unwrap().into_inner();
        announce(&lab.b, &lab.authority.host(name, (&made.chain, &key.key))).await.unwrap();
    }
    let broker = lab.authority.ended("broker", "a");
    let broker = lab.authority.host("ended-broker", (&broker.0, &broker.1));
    let channel = grpc::channel("localhost", lab.b.port, &broker).unwrap();
    let request = RenewRequest { request: Request::new().unwrap().request };
    let refused = EnrolmentClient::new(channel).renew(request).await.unwrap_err();
    assert!(is_cut(&refused), "it gets through no handshake: {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_can_sign_for_agents_only() {
    let lab = lab().await;
    let signer = lab.authority.signer_of("b");
    for (roles, gets_in) in [
        (vec![Role::Agent], true),
        (vec![Role::Broker], false),
        (vec![Role::Admin], false),
        (vec![Role::Agent, Role::Broker], false),
    ] {
        let (name, addresses) = ("a".to_owned(), vec!["localhost".to_owned()]);
        let wanted =
            Wanted { name, roles: roles.clone(), addresses, since: None, life: pki::DAY * 30 };
        let (own, key) = signer.make(&wanted).unwrap();
        let chain = format!("{own}{}", signer.pem());
        let tls = lab.authority.host("forged", (&chain, &key));
        let channel = grpc::channel("localhost", lab.b.port, &tls).unwrap();
        let answer = RegistryClient::new(channel).announce(AnnounceRequest::default()).await;
        assert_eq!(answer.is_ok(), gets_in, "{roles:?}: {answer:?}");
    }
    // As a server it is an agent's, whatever DNS name it has.
    let (name, addresses) = ("x".to_owned(), vec!["localhost".to_owned()]);
    let wanted = Wanted { name, roles: vec![Role::Agent], addresses, since: None, life: pki::DAY };
    let (own, key) = signer.make(&wanted).unwrap();
    let forged = lab.authority.host("forged", (&format!("{own}{}", signer.pem()), &key));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (routes, guard) = (tonic::service::Routes::default(), Guard::new(ByRole));
    let stop = tokio_util::sync::CancellationToken::new();
    tokio::spawn(async move { grpc::serve_tls(listener, &forged, routes, guard, stop).await });
    let victim = lab.authority.issue("agent", "victim");
    let channel = grpc::channel_to(Role::Broker, "localhost", port, &victim).unwrap();
    let refused = RegistryClient::new(channel).announce(AnnounceRequest::default()).await;
    assert!(why(&refused.unwrap_err()).contains("not that of a host with the role broker"));
    // What it has signed is out with it.
    let signed = enrolled(&lab, "lab7").await;
    announce(&lab.b, &signed).await.unwrap();
    revoke(&lab, "issuer", "b").await.unwrap();
    assert!(announce(&lab.b, &signed).await.is_err());
    let listed = admin(&lab.b).list_identities(ListIdentitiesRequest {}).await.unwrap();
    let lab7 = listed.into_inner().identities.into_iter().find(|one| one.name == "lab7").unwrap();
    assert!(lab7.revoked_before_unix_ms > lab7.issued_unix_ms, "{lab7:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_gives_its_token_to_its_own_cluster_only() {
    let (lab, strange) = (lab().await, lab().await);
    let token = invite(&lab, "lab7").await.unwrap().token;
    let (agent, request) = ("lab7".to_owned(), Request::new().unwrap().request);
    let asked = EnrolRequest { agent, token, request };
    for key in [strange.authority.key(), Hash([0; 32])] {
        let channel = grpc::guest_channel("localhost", lab.b.port, key).unwrap();
        let refused = EnrolmentClient::new(channel).enrol(asked.clone()).await.unwrap_err();
        assert!(why(&refused).contains("another cluster"), "{}", why(&refused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_told_what_is_revoked() {
    let lab = Lab::with_b_active().await;
    let (port, mut hosts) = Host::several(&lab.authority, 2).await;
    hosts[1].down();
    let names = format!("{} {}", hosts[0].name, hosts[1].name);
    let yaml = format!("vsmserver: {{subclusters: {{Default: {{agents: {names}}}}}}}");
    lab.b.has_agents(port, &yaml);
    let up = async {
        while !lab.b.broker.agents.all().iter().any(|link| link.is_up()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, up).await.expect("one is up");
    let done = revoke(&lab, "broker", "a").await.unwrap();
    assert_eq!((done.told, done.not_told), (1, vec![hosts[1].name.clone()]));
    assert_eq!(hosts[0].asked("set_revoked"), 1);
    hosts[1].up().await;
    let told = async {
        while hosts[1].asked("set_revoked") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, told).await.expect("it is told when it is back");
    let own = revoke(&lab, "broker", "b").await.unwrap_err();
    assert_eq!(own.code(), Code::FailedPrecondition, "{own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_renew_when_an_administrator_wants_it_and_say_why_not() {
    use vsm_proto::agent::v1::{NotRenewed, renew_certificate_response::Result as Answer};
    let lab = Lab::with_b_active().await;
    let (port, hosts) = Host::several(&lab.authority, 4).await;
    let names: Vec<_> = hosts.iter().map(|host| host.name.clone()).collect();
    let yaml = |names: &[String]| {
        format!("vsmserver: {{subclusters: {{Default: {{agents: {}}}}}}}", names.join(" "))
    };
    lab.b.has_agents(port, &yaml(&names));
    let until = |what: &'static str, up: usize| {
        let lab = &lab;
        let links = move || lab.b.broker.agents.all();
        let there = async move {
            while links().iter().filter(|link| link.is_up()).count() != up {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        async move { tokio::time::timeout(LONG, there).await.expect(what) }
    };
    until("all are up", 4).await;
    hosts[0].renews(Answer::UntilUnixMs(7000));
    let (why, next_step) = ("by hand\u{1b}[2J".to_owned(), "issue another".to_owned());
    hosts[1].renews(Answer::NotRenewed(NotRenewed { why, next_step }));
    hosts[3].down();
    until("one is down", 3).await;
    // By the standby, which passes it on.
    let renew = async |agents: Vec<String>| {
        Ok::<_, Status>(
            admin(&lab.a).renew(RenewAgentsRequest { agents }).await?.into_inner().agents,
        )
    };
    let all = renew(Vec::new()).await.unwrap();
    let rows: Vec<_> = all.iter().map(|row| (row.until_unix_ms, row.why.as_str())).collect();
    assert_eq!(rows[0], (7000, ""));
    assert_eq!(rows[1], (0, "by hand\u{fffd}[2J"), "what a host says obeys nobody's terminal");
    assert_eq!(rows[2], (0, "its vsmagent is of an older version, which cannot be asked"));
    assert!(rows[3].0 == 0 && rows[3].1.starts_with("down: "), "{rows:?}");
    assert!(all[1..].iter().all(|row| !row.next_step.is_empty()) && all[0].next_step.is_empty());
    let one = renew(vec![names[0].clone(), names[0].clone()]).await.unwrap();
    assert_eq!((one.len(), hosts[0].asked("renew"), hosts[1].asked("renew")), (1, 2, 1));
    let unknown = renew(vec!["lab99".to_owned()]).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown:?}");
    let noted = || {
        lab.b.table().read(|view| {
            let all = view.table.events_after(0).filter(|one| one.action == "certificates-renewed");
            all.map(|one| (one.agent.is_some(), one.detail.clone())).collect::<Vec<_>>()
        })
    };
    let in_trail = async {
        while noted().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, in_trail).await.expect("both are in the trail");
    let not = names[1..].join(" ");
    assert_eq!(noted()[0], (false, format!("of 1 host(s); not of {not}")));
    assert_eq!(noted()[1], (true, "of 1 host(s)".to_owned()));
}

/// An agent that is asked may renew though not half is over, and nobody else may.
#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_asked_renews_early() {
    let lab = Lab::with_b_active().await;
    let (port, hosts) = Host::several(&lab.authority, 2).await;
    let names = format!("{} {}", hosts[0].name, hosts[1].name);
    lab.b
        .has_agents(port, &format!("vsmserver: {{subclusters: {{Default: {{agents: {names}}}}}}}"));
    let up = async {
        while !lab.b.broker.agents.all().iter().all(|link| link.is_up()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, up).await.expect("both are up");
    let young = [enrolled(&lab, &hosts[0].name).await, enrolled(&lab, &hosts[1].name).await];
    let renew = async |tls: &Tls| {
        let channel = grpc::channel("localhost", lab.b.port, tls).unwrap();
        let request = RenewRequest { request: Request::new().unwrap().request };
        EnrolmentClient::new(channel).renew(request).await.map(drop)
    };
    let agents = vec![hosts[0].name.clone()];
    drop(admin(&lab.b).renew(RenewAgentsRequest { agents }).await.unwrap());
    renew(&young[0]).await.unwrap();
    assert_eq!(renew(&young[1]).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_the_broker_itself_and_what_was_given_to_whom() {
    let lab = lab().await;
    assert!(!invite(&lab, "lab7").await.unwrap().has_certificate);
    drop(enrolled(&lab, "lab7").await);
    assert!(invite(&lab, "lab7").await.unwrap().has_certificate);
    // By the standby, which passes it on.
    let listed = admin(&lab.a).list_identities(ListIdentitiesRequest {}).await.unwrap();
    let listed = listed.into_inner().identities;
    let find =
        |role: &str, name: &str| listed.iter().find(|one| one.role == role && one.name == name);
    for role in ["broker", "issuer"] {
        assert!(find(role, "b").unwrap().until_unix_ms > 0, "{role}");
    }
    assert_eq!(find("agent", "lab7").unwrap().issued_by, "b");
    revoke(&lab, "agent", "lab7").await.unwrap();
    let events = || {
        lab.b.table().read(|view| {
            let all =
                view.table.events_after(0).filter(|one| one.action.starts_with("certificate-"));
            let agent = |agent: &Option<vsm_core::AgentName>| {
                agent.as_ref().is_some_and(|agent| agent.as_str() == "lab7")
            };
            all.map(|one| (agent(&one.agent), one.detail.clone())).collect::<Vec<_>>()
        })
    };
    let noted = async {
        while events().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, noted).await.expect("both are in the trail");
    let wanted = ["enrolled from 127.0.0.1", "agent/lab7 stolen"];
    assert_eq!(events(), wanted.map(|detail| (true, detail.to_owned())));
}

/// What hosts show, as an administrator sees it who changes the authority.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_are_told_with_who_trusts_them() {
    let lab = Lab::with_b_active().await;
    let (port, hosts) = Host::several(&lab.authority, 2).await;
    let names = format!("{} {}", hosts[0].name, hosts[1].name);
    lab.b
        .has_agents(port, &format!("vsmserver: {{subclusters: {{Default: {{agents: {names}}}}}}}"));
    hosts[1].down();
    let request = ListAuthoritiesRequest { hosts: true };
    let answer = admin(&lab.a).list_authorities(request).await.unwrap().into_inner();
    let [authority] = answer.authorities.as_slice() else { panic!("{answer:?}") };
    let key = lab.authority.key().to_string();
    assert_eq!((&authority.key, authority.issuers.len()), (&key, 1), "{authority:?}");
    assert_eq!(authority.issuers[0].broker, "b");
    assert_eq!(pki::shown(&authority.certificate)[0].key, lab.authority.key());
    assert!(!authority.certificate.contains("PRIVATE"));
    let find = |name: &str| answer.hosts.iter().find(|host| host.name == name).unwrap();
    for name in ["b", &hosts[0].name] {
        let host = find(name);
        assert_eq!((&host.trusts, &host.by), (&vec![key.clone()], &vec![key.clone()]), "{host:?}");
        assert!(!host.renews && host.why.is_empty());
    }
    assert!(!find(&hosts[1].name).why.is_empty(), "it is down");
}
