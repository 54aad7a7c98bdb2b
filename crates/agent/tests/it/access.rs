//! Each method of an agent's services is called by everybody that there is: those whom the table names are let in, and
//! nobody else.

use tonic::{
    Code,
    body::Body,
    codegen::{Service as _, http},
    transport::Channel,
};
use vsm_daemon::access::{
    Caller::{self, AllowedBroker, Host},
    METHODS, Method,
};

use crate::lab::Lab;

/// One message that is no protobuf. So a service that is reached says that, and does nothing.
const NO_MESSAGE: &str = "\0\0\0\0\u{1}\u{f}";

/// How a call was answered.
async fn answer(mut channel: Channel, method: &Method) -> Code {
    let request = http::Request::post(format!("https://localhost/{}", method.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(NO_MESSAGE.to_owned()))
        .unwrap();
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let response = channel.call(request).await.unwrap();
    let code = response.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
    // A stream begins without one.
    Code::from_i32(code.map_or(0, |code| code.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_calls_everything_and_only_the_table_lets_in() {
    let lab = Lab::new();
    let everybody: [(&str, &[Caller]); 6] = [
        ("vsm://broker/b1", &[AllowedBroker, Host]),
        ("vsm://broker/stranger", &[Host]),
        ("vsm://agent/b1", &[Host]),
        ("vsm://agent/agent2", &[Host]),
        ("vsm://admin/b1", &[Host]),
        ("vsm://nobody/b1", &[]),
    ];
    let served = ["vsm.agent.", "vsm.sync.v1.Witness", "grpc."];
    let (mut let_in, mut refused, mut wrong) = (0, 0, Vec::new());
    for (uri, is) in everybody {
        let channel = lab.channel(uri).await;
        for method in METHODS {
            let here = served.iter().any(|service| method.path.starts_with(service));
            let code = answer(channel.clone(), method).await;
            let turned_away = [Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented]
                .contains(&code);
            let may = here && method.callers.iter().any(|caller| is.contains(caller));
            if turned_away == may {
                wrong.push(format!("{uri}: {}: {code:?}", method.path));
            }
            *(if turned_away { &mut refused } else { &mut let_in }) += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(let_in > 20 && refused > 200, "{let_in} {refused}: the test tells both apart");
}
