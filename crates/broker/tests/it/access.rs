//! Each method of a broker's services is called by everybody that there is, at each door: those whom the table names
//! are let in, and nobody else.

use std::{path::Path, time::Duration};

use tonic::{
    Code,
    body::Body,
    codegen::{Service as _, http},
    transport::{Channel, Endpoint},
};
use vsm_config::Config;
use vsm_core::{Asked, Hash, Invitation, Proposal, UnixMillis, WebKeyId};
use vsm_daemon::{
    access::{Caller, METHODS, Method},
    grpc,
};

use super::{
    lab::{LONG, Lab},
    life::until,
    web_keys::by_browser,
};

/// A web key that nobody has.
const NO_KEY: WebKeyId = WebKeyId::new(uuid::Uuid::nil());

/// Listed in `/vsmserver/allowed_clients` and in `/vsmserver/HA/observers`.
const YAML: &str = "vsmserver: {allowed_clients: ops, HA: {observers: watcher}}";

/// One message that is no protobuf. So a service that is reached says that, and does nothing.
const NO_MESSAGE: &str = "\0\0\0\0\u{1}\u{f}";

/// How a call was answered.
async fn answer(mut channel: Channel, method: &Method) -> Code {
    let request = http::Request::post(format!("https://localhost/{}", method.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(NO_MESSAGE.to_owned()))
        .unwrap();
    let call = async {
        std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
        channel.call(request).await.unwrap()
    };
    let response = tokio::time::timeout(LONG, call).await.expect("an answer");
    let code = response.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
    // A stream begins without one.
    Code::from_i32(code.map_or(0, |code| code.parse().unwrap()))
}

fn socket(path: &Path) -> Channel {
    Endpoint::from_shared(format!("unix://{}", path.display())).unwrap().connect_lazy()
}

/// The identities, with what each is.
fn everybody(lab: &Lab) -> Vec<(&'static str, Channel, &'static [Caller])> {
    use Caller::{
        Administrator, Agent, Broker, FormerAgent, Guest, Host, Observer, OtherBroker,
        RemoteAdministrator, User, Viewer, WebServer,
    };
    let call = |role, name| lab.call(&lab.b, role, name);
    let ended = lab.authority.ended("agent", "agent2");
    let ended = lab.authority.host("ended", (&ended.0, &ended.1));
    let former = grpc::channel("localhost", lab.b.port, &ended).unwrap();
    let guest = grpc::guest_channel("localhost", lab.b.port, lab.authority.key()).unwrap();
    vec![
        ("a user", socket(&lab.b.socket), &[User]),
        ("an administrator", socket(&lab.b.admin), &[Administrator]),
        ("an administrator by an old login", by_browser(&lab.b.admin, NO_KEY), &[Viewer]),
        ("vsm-web", socket(&lab.b.web), &[WebServer]),
        ("the other broker", call("broker", "a"), &[OtherBroker, Broker, Host, Guest]),
        ("a strange broker", call("broker", "c"), &[Broker, Host, Guest]),
        ("an agent", call("agent", "agent1"), &[Agent, FormerAgent, Host, Guest]),
        ("a listed administrator", call("admin", "ops"), &[RemoteAdministrator, Host, Guest]),
        ("another administrator", call("admin", "mallory"), &[Host, Guest]),
        ("a listed observer", call("admin", "watcher"), &[Observer, Host, Guest]),
        (
            "an agent of an administrator's name",
            call("agent", "ops"),
            &[Agent, FormerAgent, Host, Guest],
        ),
        ("an agent whose certificate has ended", former, &[FormerAgent, Guest]),
        ("a host without a certificate", guest, &[Guest]),
        ("a certificate without a role", call("nobody", "a"), &[Guest]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_calls_everything_and_only_the_table_lets_in() {
    let lab = Lab::with_b_active().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yaml"), YAML).unwrap();
    let settings = vsm_broker::site::settings::Settings::new(&Config::load(dir.path()).unwrap());
    lab.b.broker.site.set_settings(settings.unwrap());
    let (token, by) = (Hash([0; 32]), "root".to_owned());
    let invitation = Invitation { token, by, until: UnixMillis(u64::MAX), used_for: None };
    let asked = Asked::Invite(invitation);
    let invite = Proposal::Identity { name: "agent/agent3".parse().unwrap(), asked };
    lab.b.table().propose(invite).await.unwrap();
    while !lab.b.broker.process.tls.lets_guests_in() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut let_in, mut refused, mut wrong) = (0, 0, Vec::new());
    for (who, channel, is) in everybody(&lab) {
        // Not what an agent serves, nor health and reflection, whose services the process adds.
        let of_others = ["vsm.agent.", "grpc."];
        let is_own = |method: &&Method| !of_others.iter().any(|one| method.path.starts_with(one));
        for method in METHODS.iter().filter(is_own) {
            let code = answer(channel.clone(), method).await;
            let turned_away = [Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented]
                .contains(&code);
            // Its name is no node's: that is for the stream to say.
            let stranger = method.path == "vsm.sync.v1.Peer/Exchange" && who == "a strange broker";
            let may = method.callers.iter().any(|caller| is.contains(caller)) && !stranger;
            let here = !method.path.starts_with("vsm.sync.v1.Witness");
            if turned_away == (may && here) {
                wrong.push(format!("{who}: {}: {code:?}", method.path));
            }
            *(if turned_away { &mut refused } else { &mut let_in }) += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(let_in > 80 && refused > 200, "{let_in} {refused}: the test tells both apart");
    for who in ["mallory", "watcher", "agent1", "uid "] {
        until("the trail to have who was refused", async || {
            lab.b.table().read(|view| {
                view.table
                    .events_after(0)
                    .any(|event| event.action == "access-refused" && event.actor.starts_with(who))
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_no_table_cannot_be_called() {
    let lab = Lab::with_b_active().await;
    let unknown = METHODS[0].path.replace("Login", "Backdoor");
    let method = Method { path: unknown.leak(), ..METHODS[0] };
    assert_eq!(answer(socket(&lab.b.socket), &method).await, Code::Unimplemented);
}
