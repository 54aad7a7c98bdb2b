//! Telling the broker that this agent is here, so that users need not wait for its next attempt to reach us.

use std::{sync::Arc, time::Duration};

use vsm_daemon::{backoff::Backoff, cause, grpc, tls::Role};
use vsm_proto::broker::v1::{AnnounceRequest, registry_client::RegistryClient};

use super::Net;

/// The broker looks for its agents by itself too; this only makes it quicker.
const TRIES_MAX: u32 = 10;
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Announces until it is heard, a bounded number of times.
pub(super) async fn announce(net: Arc<Net>, boot_id: String, port: u16) {
    let stop = net.stop.token.clone();
    let mut backoff =
        Backoff::new(Duration::from_millis(500), Duration::from_secs(60), rand::random());
    for _ in 0..TRIES_MAX {
        let settings = net.settings();
        let broker = &settings.master_hostname;
        let once = async {
            let channel = grpc::channel_to(Role::Broker, broker, settings.master_port, &net.tls)
                .map_err(|error| error.to_string())?;
            let mut client = RegistryClient::new(channel);
            let request = AnnounceRequest { boot_id: boot_id.clone(), port: port.into() };
            let mut request = tonic::Request::new(request);
            request.set_timeout(CALL_TIMEOUT);
            let answer = client.announce(request).await.map_err(|status| cause::of(&status))?;
            Ok::<bool, String>(answer.into_inner().known)
        };
        let heard = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            heard = tokio::time::timeout(CALL_TIMEOUT, once) => heard.unwrap_or_else(|_| Err("no answer".to_owned())),
        };
        match heard {
            Ok(true) => return tracing::info!(%broker, "announced"),
            Ok(false) => {
                return tracing::warn!(%broker, "the broker has this agent in no subcluster (/vsmserver/subclusters)");
            }
            Err(error) => {
                tracing::info!(%broker, %error, "the broker cannot be told that this agent is here");
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}
