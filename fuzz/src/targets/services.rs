//! Calls of a broker's services, by everybody that there is, through guard, TLS or socket, and the service itself: the
//! pair of the broker's own tests, with two session hosts behind it.
//!
//! The first byte says who calls, the second which method; the rest is the message. What is done stays done until the
//! process ends.

#[path = "../../../crates/broker/tests/it/agent.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "a part of the broker's tests, which use all of it"
)]
mod agent;
#[path = "../../../crates/broker/tests/it/lab.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "a part of the broker's tests, which use all of it"
)]
mod lab;

use std::{sync::OnceLock, time::Duration};

use agent::Host;
use lab::Lab;
use tokio::runtime::Runtime;
use tonic::{
    Code,
    body::Body,
    codegen::{Service as _, http},
    transport::{Channel, Endpoint},
};
use vsm_daemon::{
    access::{Caller, METHODS, Method},
    grpc,
};

/// Which are not called: those that take programs for root into use, shut callers out for good, look around in the
/// network, or are the stream of the pair, whose messages have a target of their own.
const LEFT_OUT: [&str; 5] = [
    "vsm.admin.v1.Identities/Revoke",
    "vsm.admin.v1.Configuration/Push",
    "vsm.admin.v1.Configuration/Adopt",
    "vsm.admin.v1.Ha/Check",
    "vsm.sync.v1.Peer/Exchange",
];
/// A call that takes longer waits for something that does not come here; it is hung up on.
const CALL_MAX: Duration = Duration::from_millis(500);

static WORLD: OnceLock<World> = OnceLock::new();

/// Who calls: a name, the way in, and what the caller is.
type Identity = (&'static str, Channel, &'static [Caller]);

struct World {
    runtime: Runtime,
    everybody: Vec<Identity>,
    methods: Vec<&'static Method>,
    /// What is behind it.
    _lab: Lab,
    _hosts: Vec<Host>,
}

pub(crate) fn run(bytes: &[u8]) {
    let world = WORLD.get_or_init(World::new);
    let Some((choice, message)) = bytes.split_first_chunk::<2>() else { return };
    let (who, channel, is) = &world.everybody[usize::from(choice[0]) % world.everybody.len()];
    let method = world.methods[usize::from(choice[1]) % world.methods.len()];
    let call =
        async { tokio::time::timeout(CALL_MAX, answer(channel.clone(), method, message)).await };
    let Ok(code) = world.runtime.block_on(call) else { return };
    let turned_away =
        [Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented].contains(&code);
    let may = method.callers.iter().any(|caller| is.contains(caller));
    assert!(may || turned_away, "{who}: {}: {code:?}", method.path);
    assert_ne!(code, Code::Unknown, "{who}: {}", method.path);
}

/// How a call was answered; a stream begins without an answer, which counts as a good one.
async fn answer(mut channel: Channel, method: &Method, message: &[u8]) -> Code {
    let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    let framed = [&[0], length.as_slice(), message].concat();
    let request = http::Request::post(format!("https://localhost/{}", method.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(axum::body::Body::from(framed)))
        .expect("a request");
    std::future::poll_fn(|context| channel.poll_ready(context)).await.expect("it is served");
    let response = channel.call(request).await.expect("an answer");
    let code =
        response.headers().get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok());
    Code::from_i32(code.unwrap_or(0))
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(2).enable_all().build().expect("a runtime");
        let (lab, hosts, everybody) = runtime.block_on(Self::begin());
        // Not what an agent serves, nor health and reflection, whose services the process adds.
        let others = ["vsm.agent.", "vsm.sync.v1.Witness", "grpc."];
        let is_own = |method: &&Method| {
            !others.iter().any(|one| method.path.starts_with(one))
                && !LEFT_OUT.contains(&method.path)
        };
        let methods = METHODS.iter().filter(is_own).collect();
        Self { runtime, everybody, methods, _lab: lab, _hosts: hosts }
    }

    async fn begin() -> (Lab, Vec<Host>, Vec<Identity>) {
        let lab = Lab::with_b_active().await;
        let (port, hosts) = Host::several(&lab.authority, 2).await;
        let names = hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", ");
        let yaml = format!(
            "vsmserver: {{allowed_clients: ops, HA: {{observers: watcher}}}}\nsubclusters: {{x: {{agents: [{names}]}}}}\n"
        );
        lab.b.has_agents(port, &yaml);
        let everybody = everybody(&lab);
        (lab, hosts, everybody)
    }
}

fn everybody(lab: &Lab) -> Vec<Identity> {
    use Caller::{
        Administrator, Agent, Broker, FormerAgent, Guest, Host, Observer, OtherBroker,
        RemoteAdministrator, User,
    };
    let call = |role, name| lab.call(&lab.b, role, name);
    let socket = |path: &std::path::Path| {
        Endpoint::from_shared(format!("unix://{}", path.display())).expect("a path").connect_lazy()
    };
    let ended = lab.authority.ended("agent", "agent2");
    let ended = lab.authority.host("ended", (&ended.0, &ended.1));
    let former = grpc::channel("localhost", lab.b.port, &ended).expect("a channel");
    vec![
        ("a user", socket(&lab.b.socket), &[User]),
        ("an administrator", socket(&lab.b.admin), &[Administrator]),
        ("the other broker", call("broker", "a"), &[OtherBroker, Broker, Host, Guest]),
        ("a strange broker", call("broker", "c"), &[Broker, Host, Guest]),
        ("an agent", call("agent", "127.0.0.2"), &[Agent, FormerAgent, Host, Guest]),
        ("a listed administrator", call("admin", "ops"), &[RemoteAdministrator, Host, Guest]),
        ("another administrator", call("admin", "mallory"), &[Host, Guest]),
        ("a listed observer", call("admin", "watcher"), &[Observer, Host, Guest]),
        ("a certificate without a role", call("nobody", "a"), &[Guest]),
        ("an agent whose certificate has ended", former, &[FormerAgent, Guest]),
    ]
}
