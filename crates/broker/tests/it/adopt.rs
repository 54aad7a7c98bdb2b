//! Parameters that name what root runs come from root's own files, on this node or on the other: no caller sets them.

use std::collections::HashMap;

use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use vsm_proto::admin::v1::{AdoptRequest, configuration_client::ConfigurationClient};

use super::lab::{LONG, Lab};

const PARAMETER: &str = "/vsmserver/mail_program";

async fn adopt(channel: Channel) -> Result<usize, Status> {
    let set = HashMap::from([(PARAMETER.to_owned(), "/tmp/evil".to_owned())]);
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
    assert_eq!(adopt(lab.call(&lab.a, "broker", "b")).await.unwrap(), 1);
}
