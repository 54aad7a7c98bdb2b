//! Keys by which browsers log in: both nodes know them, their users and administrators end them, and what goes on by
//! one ends with it.

use std::{os::unix::net::UnixStream, path::Path, time::Duration};

use hyper_util::rt::TokioIo;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};
use vsm_config::Config;
use vsm_core::{SshKey, UserName, WebKeyId};
use vsm_daemon::{clock, socket, web_key::WebKeys as _};
use vsm_proto::{
    admin::v1::{
        ListAgentsRequest, ListWebKeysRequest as ListAll, RevokeWebKeysRequest, StatusRequest,
        admin_client::AdminClient,
    },
    broker::v1::{
        AcceptWebKeyRequest, AcceptWebKeyResponse, ListWebKeysRequest, LoginRequest,
        RevokeWebKeyRequest, broker_client::BrokerClient,
    },
};

use super::{
    forward::local,
    lab::{LONG, Lab, Node},
    life::Site,
};

fn key(n: u32) -> SshKey {
    format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{n:0>43}").parse().unwrap()
}

fn request(n: u32) -> AcceptWebKeyRequest {
    let (public_key, asked_by) = (key(n).to_string(), "10.0.0.9, Firefox".to_owned());
    AcceptWebKeyRequest { public_key, lifetime_ms: 0, asked_by }
}

async fn accept(node: &Node, n: u32) -> Result<AcceptWebKeyResponse, Status> {
    Ok(BrokerClient::new(local(node)).accept_web_key(request(n)).await?.into_inner())
}

/// The ids that the user is told.
async fn own(node: &Node) -> Vec<String> {
    let answer = BrokerClient::new(local(node)).list_web_keys(ListWebKeysRequest {}).await;
    answer.unwrap().into_inner().keys.into_iter().map(|key| key.id).collect()
}

async fn revoke(node: &Node, id: &str) -> Result<usize, Status> {
    let request = RevokeWebKeyRequest { id: id.to_owned() };
    Ok(BrokerClient::new(local(node)).revoke_web_key(request).await?.into_inner().revoked.len())
}

fn admin(node: &Node) -> AdminClient<Channel> {
    let socket = format!("unix://{}", node.admin.display());
    AdminClient::new(Endpoint::from_shared(socket).unwrap().connect_lazy())
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = clock::now() + LONG;
    while !is_so() {
        assert!(clock::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What sshd on this node would be told of a key.
fn offered(node: &Node, user: &str, n: u32) -> Option<WebKeyId> {
    node.broker.web_keys.offered(user, &key(n))
}

/// What the trail says of the user's keys, oldest first: action and actor.
fn trail(node: &Node) -> Vec<(String, String)> {
    node.table().read(|view| {
        let events = view.table.events_after(0).filter(|e| e.action.starts_with("web-key"));
        events.map(|event| (event.action.clone(), event.actor.clone())).collect()
    })
}

fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_one_node_accepted_is_good_at_both_until_it_is_revoked() {
    let lab = Lab::with_b_active().await;
    let before = clock::unix_millis();
    let accepted = accept(&lab.a, 1).await.unwrap();
    let (id, user): (WebKeyId, _) = (accepted.id.parse().unwrap(), accepted.user.as_str());
    let life = accepted.until_unix_ms - before.0;
    assert!((43_200_000..43_260_000).contains(&life), "12 hours by default: {life}");
    assert_eq!(accept(&lab.b, 1).await.unwrap(), accepted, "the same again");
    let mut followed = Vec::new();
    for node in [&lab.a, &lab.b] {
        until("both nodes know it", || offered(node, user, 1) == Some(id)).await;
        assert_eq!(offered(node, user, 2), None, "another key");
        assert_eq!(offered(node, "nobody", 1), None, "another user");
        assert_eq!(own(node).await, [accepted.id.as_str()]);
        let web_keys = &node.broker.web_keys;
        assert!(web_keys.follow(65534, id).await.is_err(), "another user");
        let other = WebKeyId::new(uuid::Uuid::from_u128(1));
        assert!(web_keys.follow(own_uid(), other).await.is_err(), "another key");
        followed.push(web_keys.follow(own_uid(), id).await.unwrap());
    }
    assert!(followed.iter().all(|one| !one.over.is_cancelled()));
    assert_eq!(followed[0].until.0, accepted.until_unix_ms);

    let unknown = revoke(&lab.a, &uuid::Uuid::nil().to_string()).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    assert_eq!(revoke(&lab.a, &accepted.id).await.unwrap(), 1);
    for (node, one) in [&lab.a, &lab.b].into_iter().zip(followed) {
        let ended = tokio::time::timeout(LONG, one.over.cancelled()).await;
        ended.expect("what goes on by it ends");
        until("neither node lets it in", || offered(node, user, 1).is_none()).await;
        assert!(node.broker.web_keys.follow(own_uid(), id).await.is_err());
    }
    assert_eq!(revoke(&lab.a, "").await.unwrap(), 0, "there is none left");
    let expected =
        [("web-key-accepted", user), ("web-key-refused", user), ("web-key-revoked", user)];
    let expected = expected.map(|(action, actor)| (action.to_owned(), actor.to_owned()));
    until("the trail has it", || trail(&lab.b).len() == expected.len()).await;
    assert_eq!(trail(&lab.b), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_a_few_and_the_oldest_gives_way() {
    let lab = Lab::with_b_active().await;
    lab.b.has_agents(1, "vsmweb: {logins_per_user: 2, login_lifetime: 60s}");
    let mut ids = Vec::new();
    for n in 1..=3 {
        ids.push(accept(&lab.b, n).await.unwrap().id);
    }
    assert_eq!(own(&lab.b).await, ids[1..]);
    until("the trail has it", || {
        trail(&lab.b).iter().any(|(action, _)| action == "web-key-replaced")
    })
    .await;
    // No longer than it may, and not longer than it is wanted.
    let now = clock::unix_millis().0;
    let long = AcceptWebKeyRequest { lifetime_ms: u64::MAX, ..request(4) };
    let short = AcceptWebKeyRequest { lifetime_ms: 1500, ..request(5) };
    let mut client = BrokerClient::new(local(&lab.b));
    let long = client.accept_web_key(long).await.unwrap().into_inner();
    assert!((60_000..90_000).contains(&(long.until_unix_ms - now)));
    let short = client.accept_web_key(short).await.unwrap().into_inner();
    assert!((1500..31_500).contains(&(short.until_unix_ms - now)));
    assert!(offered(&lab.b, &short.user, 5).is_some());
    until("its time is over", || offered(&lab.b, &short.user, 5).is_none()).await;
    let user: UserName = short.user.parse().unwrap();
    let left = || lab.a.table().read(|view| view.table.web_keys().of(&user).len());
    until("it is removed, also on the standby", || left() == 1).await;
    until("the trail has it", || {
        trail(&lab.b).contains(&("web-key-expired".to_owned(), "vsmserver".to_owned()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_web_key_is_refused() {
    let lab = Lab::with_b_active().await;
    let good = request(1);
    let with =
        |public_key: &str| AcceptWebKeyRequest { public_key: public_key.into(), ..good.clone() };
    let asked = |asked_by: String| AcceptWebKeyRequest { asked_by, ..good.clone() };
    for bad in [
        with(""),
        with("ssh-rsa AAAA"),
        with("ssh-ed25519 AAAA"),
        with(&format!("{}\n{}", key(1), key(2))),
        with(&format!("command=\"sh\" {}", key(1))),
        asked("a\nb".to_owned()),
        asked("x".repeat(257)),
    ] {
        let refused = BrokerClient::new(local(&lab.b)).accept_web_key(bad.clone()).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument, "{bad:?}");
    }
    let refused = revoke(&lab.b, "../x").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    lab.b.has_agents(1, "vsmserver: {allowed_groups: no-such-group}");
    assert_eq!(accept(&lab.b, 1).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(own(&lab.b).await, [""; 0]);
}

/// Without this who has taken a browser's key once is let in for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_browser_does_not_prolong_itself() {
    let lab = Lab::with_b_active().await;
    let first = accept(&lab.b, 1).await.unwrap();
    for node in [&lab.a, &lab.b] {
        let mut by_web = BrokerClient::new(by_browser(&node.socket, first.id.parse().unwrap()));
        let refused = by_web.accept_web_key(request(2)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert_eq!(refused.metadata().get("vsm-reason").unwrap(), "NOT_BY_WEB_KEY");
        let listed = by_web.list_web_keys(ListWebKeysRequest {}).await.unwrap().into_inner();
        assert_eq!(listed.keys.len(), 1, "all else is as for everybody");
    }
}

fn rand_u32() -> u32 {
    uuid::Uuid::new_v4().as_fields().0
}

/// The socket at `path`, as somebody's `vsm-login` who has logged in by this web key connects to it.
pub(crate) fn by_browser(path: &Path, id: WebKeyId) -> Channel {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (path, name) = (path.clone(), socket::web_name(None, rand_u32(), id));
        async move {
            let own =
                socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            bind(&own, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
            connect(&own, &SocketAddrUnix::new(&path)?)?;
            let stream = UnixStream::from(own);
            stream.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::from_std(stream)?))
        }
    });
    Endpoint::from_static("http://vsm.local").connect_with_connector_lazy(connector)
}

/// An administrator's login by browser: it may change things while it is fresh, at either node, and then only look.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_login_by_browser_looks_and_changes_nothing() {
    let lab = Lab::with_b_active().await;
    let id = accept(&lab.b, 1).await.unwrap().id.parse().unwrap();
    let user = accept(&lab.b, 2).await.unwrap().user;
    let end = async |node: &Node, id| {
        let request =
            RevokeWebKeysRequest { id: uuid::Uuid::nil().to_string(), user: String::new() };
        let mut client = AdminClient::new(by_browser(&node.admin, id));
        client.revoke_web_keys(request).await.unwrap_err()
    };
    let until = async |node: &Node, id| {
        let mut client = AdminClient::new(by_browser(&node.admin, id));
        client.status(StatusRequest {}).await.unwrap().into_inner().changes_until_unix_ms
    };
    for node in [&lab.a, &lab.b] {
        self::until("the node knows it", || offered(node, &user, 1).is_some()).await;
        assert_eq!(end(node, id).await.code(), Code::NotFound, "it is let in");
        let left = until(node, id).await.unwrap() - clock::unix_millis().0;
        assert!((3_500_000..=3_600_000).contains(&left), "an hour by default: {left}");
        let status = admin(node).status(StatusRequest {}).await.unwrap().into_inner();
        assert_eq!(status.changes_until_unix_ms, None, "who has not come by a browser");
    }
    let dir = tempfile::tempdir().unwrap();
    let short = "vsmweb: {admin_lifetime: 1s}";
    std::fs::write(dir.path().join("a.yaml"), short).unwrap();
    let settings = vsm_broker::site::settings::Settings::new(&Config::load(dir.path()).unwrap());
    let settings = settings.unwrap();
    for node in [&lab.a, &lab.b] {
        node.broker.site.set_settings(settings.clone());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let unknown = WebKeyId::new(uuid::Uuid::nil());
    for (node, id) in [(&lab.a, id), (&lab.b, id), (&lab.b, unknown)] {
        let refused = end(node, id).await;
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        let mut looks = AdminClient::new(by_browser(&node.admin, id));
        looks.list_agents(ListAgentsRequest {}).await.unwrap();
        let over = until(node, id).await.unwrap();
        assert!(over <= clock::unix_millis().0, "{over}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_list_and_revoke_those_of_all() {
    let lab = Lab::with_b_active().await;
    let (one, two) = (accept(&lab.b, 1).await.unwrap(), accept(&lab.b, 2).await.unwrap());
    let list = async |node: &Node, user: &str| {
        let request = ListAll { user: user.to_owned() };
        let mut pages = admin(node).list_web_keys(request).await?.into_inner();
        let mut ids = Vec::new();
        while let Some(page) = pages.message().await? {
            ids.extend(page.keys.into_iter().map(|key| key.id));
        }
        Ok::<_, Status>(ids)
    };
    for node in [&lab.a, &lab.b] {
        assert_eq!(list(node, "").await.unwrap(), [one.id.as_str(), &two.id]);
        assert_eq!(list(node, &one.user).await.unwrap().len(), 2);
        assert_eq!(list(node, "somebody").await.unwrap(), [""; 0]);
    }
    let revoke = async |node: &Node, id: &str, user: &str| {
        let request = RevokeWebKeysRequest { id: id.to_owned(), user: user.to_owned() };
        Ok::<_, Status>(admin(node).revoke_web_keys(request).await?.into_inner().revoked.len())
    };
    assert_eq!(revoke(&lab.a, "", "").await.unwrap_err().code(), Code::InvalidArgument);
    let unknown = revoke(&lab.a, &uuid::Uuid::nil().to_string(), "").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let of_another = revoke(&lab.a, &one.id, "somebody").await.unwrap_err();
    assert_eq!(of_another.code(), Code::NotFound, "{of_another}");
    assert_eq!(revoke(&lab.a, &one.id, "").await.unwrap(), 1);
    assert_eq!(own(&lab.b).await, [two.id.as_str()]);
    assert_eq!(revoke(&lab.b, "", &two.user).await.unwrap(), 1);
    assert_eq!(own(&lab.b).await, [""; 0]);
}

/// A copy that nobody active confirms still lets users in, as their desktops go on; nothing is changed.
#[tokio::test(flavor = "multi_thread")]
async fn without_votes_who_was_let_in_is_and_nobody_else() {
    let lab = Lab::with_b_active().await;
    let one = accept(&lab.b, 1).await.unwrap();
    until("a knows it", || offered(&lab.a, &one.user, 1).is_some()).await;
    lab.cut();
    for node in [&lab.a, &lab.b] {
        assert!(offered(node, &one.user, 1).is_some());
        assert_eq!(accept(node, 2).await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(revoke(node, &one.id).await.unwrap_err().code(), Code::Unavailable);
    }
}

/// A viewer that went to the session host by itself is dropped by its agent; not where its user has come otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_a_browser_opened_ends_with_its_login() {
    let site = Site::new().await;
    let lab = &site.lab;
    let dropped = || site.hosts.iter().map(|host| host.asked("disconnect")).sum::<usize>();
    let by_web = async |node: &Node, id: &str| {
        let request_id = uuid::Uuid::new_v4().to_string();
        let request = LoginRequest { request_id, ..LoginRequest::default() };
        BrokerClient::new(by_browser(&node.socket, id.parse().unwrap()))
            .login(request)
            .await
            .unwrap()
            .into_inner()
    };
    let desktop = site.login().await.unwrap().session.unwrap().id;
    // By the standby too, which tells the active node by which key.
    for (n, node) in [(1, &lab.a), (2, &lab.b)] {
        let (one, other) = (accept(node, n).await.unwrap(), accept(node, n + 10).await.unwrap());
        let there = by_web(node, &one.id).await.session.unwrap().id;
        assert_eq!(there, desktop);
        let before = dropped();
        revoke(node, &other.id).await.unwrap();
        revoke(node, &one.id).await.unwrap();
        until("the viewer is dropped", || dropped() == before + 1).await;
    }
    let one = accept(&lab.b, 3).await.unwrap();
    by_web(&lab.b, &one.id).await;
    site.login().await.unwrap();
    let before = dropped();
    revoke(&lab.b, &one.id).await.unwrap();
    // What would be dropped is dropped by now.
    let next = accept(&lab.b, 4).await.unwrap();
    by_web(&lab.b, &next.id).await;
    revoke(&lab.b, &next.id).await.unwrap();
    until("the next viewer is dropped", || dropped() > before).await;
    assert_eq!(dropped(), before + 1);
}
