//! Parameters come from the other broker alone, and those that name what root runs from nobody: root's helper, which
//! writes the files, takes them from no caller.

use std::collections::HashMap;

use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use vsm_proto::admin::v1::{AdoptRequest, configuration_client::ConfigurationClient};

use super::lab::{LONG, Lab};

const PARAMETER: (&str, &str) = ("/vsmserver/login_timeout", "77s");
const PROGRAM: (&str, &str) = ("/vsmserver/mail_program", "/tmp/evil");

async fn adopt(channel: Channel) -> Result<usize, Status> {
    adopt_this(channel, PARAMETER).await
}

async fn adopt_this(channel: Channel, (path, value): (&str, &str)) -> Result<usize, Status> {
    let set = HashMap::from([(path.to_owned(), value.to_owned())]);
    let request = AdoptRequest { set: set.into_iter().collect(), ..Default::default() };
    let call = async { ConfigurationClient::new(channel).adopt(request).await };
    let answer = tokio::time::timeout(LONG, call).await.expect("an answer")?;
    Ok(answer.into_inner().changes.len())
}

/// The admin socket is open to a group too, whose members are not root.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_other_broker_gives_parameters() {
    let lab = Lab::new().await;
    let local = format!("unix://{}", lab.a.admin.display());
    let refused = adopt(Endpoint::from_shared(local).unwrap().connect_lazy()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    for (role, name) in [("admin", "b"), ("agent", "b"), ("broker", "c")] {
        let refused = adopt(lab.call(&lab.a, role, name)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{role} {name}: {refused}");
    }
    let by_the_other = || lab.call(&lab.a, "broker", "b");
    let refused = adopt_this(by_the_other(), PROGRAM).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("names what root runs"), "{refused}");
    assert_eq!(adopt(by_the_other()).await.unwrap(), 1);
}
