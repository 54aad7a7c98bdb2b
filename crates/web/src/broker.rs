//! Asking the broker, as the user: over `vsm-login`'s pipe, exactly as `vsm` does.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tonic::{
    Request,
    transport::{Channel, Endpoint, Uri},
};
use vsm_daemon::{grpc, socket};
use vsm_proto::broker::v1::{
    AcceptWebKeyByTokenRequest, AcceptWebKeyRequest, AcceptWebKeyResponse, EndSessionRequest,
    ExtendSessionRequest, ListSessionsRequest, LoginRequest, LoginResponse, RevokeWebKeyRequest,
    SessionView, broker_client::BrokerClient, open_id_client::OpenIdClient,
};

use crate::{
    cookie::Cookie,
    error::{NotVouched, Refused},
    limit::KeyLogins,
    settings::Settings,
    ssh::{self, Pipe, Ssh},
};

/// Longer than the largest bound that a broker can have on a login (`/vsmserver/login_timeout`), so that its words are
/// the ones heard.
const LOGIN_DEADLINE: Duration = Duration::from_secs(3660);
/// So often a key is offered before it is taken for one that is good no more, with so long between.
const ATTEMPTS: u32 = 2;
const PAUSE: Duration = Duration::from_millis(500);
/// A desktop's programs are given time to end.
const LONG: Duration = Duration::from_secs(60);
/// For everything else.
const DEADLINE: Duration = Duration::from_secs(20);

/// The broker, as one user sees it.
pub(crate) struct Broker {
    ssh: Ssh,
    client: BrokerClient<Channel>,
}

/// A web key that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) id: String,
    pub(crate) until_unix_ms: u64,
    /// The user, as the broker writes the name.
    pub(crate) user: String,
}

impl Broker {
    /// Goes there with what a browser at `address` brings.
    pub(crate) async fn by(
        settings: &Settings,
        keys: &KeyLogins,
        cookie: &Cookie,
        address: IpAddr,
    ) -> Result<Self, Refused> {
        for attempt in 0..ATTEMPTS {
            // A broker that has just started knows no key until its table is confirmed.
            tokio::time::sleep(PAUSE * attempt).await;
            let place = keys.place(address).await.ok_or(Refused::TooOften)?;
            let mut ssh = dial(settings, settings.ssh_key_port).await?;
            if ssh.by_key(&cookie.user, ssh::key(&cookie.seed)?).await? {
                drop(place);
                return Self::over(ssh).await;
            }
            keys.refused(address);
        }
        Err(Refused::LoggedOut)
    }

    /// Over a connection that is logged in.
    pub(crate) async fn over(ssh: Ssh) -> Result<Self, Refused> {
        let channel = channel(ssh.join("broker").await?).await?;
        Ok(Self { ssh, client: BrokerClient::new(channel) })
    }

    /// The connection that it is asked over.
    pub(crate) const fn ssh(&self) -> &Ssh {
        &self.ssh
    }

    /// Whether the user may open the socket for administrators.
    pub(crate) async fn may_administer(&self) -> bool {
        self.ssh.join("admin").await.is_ok()
    }

    /// Gives the user their desktop.
    pub(crate) async fn login(&mut self, wish: LoginRequest) -> Result<LoginResponse, Refused> {
        Ok(self.client.login(within(LOGIN_DEADLINE, wish)).await?.into_inner())
    }

    /// The user's desktops.
    pub(crate) async fn sessions(&mut self) -> Result<Vec<SessionView>, Refused> {
        let request = within(DEADLINE, ListSessionsRequest { include_ended: false });
        Ok(self.client.list_sessions(request).await?.into_inner().sessions)
    }

    /// Ends a desktop; whether it is done already, and not only as soon as its host can.
    pub(crate) async fn end(&mut self, id: String) -> Result<bool, Refused> {
        let request = within(LONG, EndSessionRequest { id });
        Ok(self.client.end_session(request).await?.into_inner().done)
    }

    /// Puts off what a limit would do next; how long there is now.
    pub(crate) async fn extend(&mut self, id: String) -> Result<Duration, Refused> {
        let request = within(DEADLINE, ExtendSessionRequest { id });
        let left = self.client.extend_session(request).await?.into_inner().left_ms;
        Ok(Duration::from_millis(left))
    }

    /// Has a key accepted for this user's browser.
    pub(crate) async fn accept(
        &mut self,
        public_key: String,
        lifetime: Duration,
        asked_by: String,
    ) -> Result<Accepted, Refused> {
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let request = AcceptWebKeyRequest { public_key, lifetime_ms, asked_by };
        let answer = self.client.accept_web_key(within(DEADLINE, request)).await?.into_inner();
        let AcceptWebKeyResponse { id, until_unix_ms, user } = answer;
        Ok(Accepted { id, until_unix_ms, user })
    }

    /// Ends a login.
    pub(crate) async fn revoke(&mut self, id: String) -> Result<(), Refused> {
        self.client.revoke_web_key(within(DEADLINE, RevokeWebKeyRequest { id })).await?;
        Ok(())
    }
}

/// gRPC over a pipe that `vsm-login` has joined.
pub(crate) async fn channel(pipe: Pipe) -> Result<Channel, Refused> {
    let once = Arc::new(Mutex::new(Some(pipe)));
    let connector = tower::service_fn(move |_: Uri| {
        let pipe = once.lock().take();
        // It cannot be dialled again.
        async move { pipe.map(TokioIo::new).ok_or_else(|| std::io::Error::other("it broke")) }
    });
    Endpoint::from_static("http://vsm.local")
        .connect_with_connector(connector)
        .await
        .map_err(|error| Refused::Broke(vsm_daemon::cause::of_error(&error)))
}

/// Has a key accepted for whomever a token names, by the broker of this host.
pub(crate) async fn accept_by_token(
    path: &Path,
    request: AcceptWebKeyByTokenRequest,
) -> Result<Accepted, Refused> {
    let mut client = OpenIdClient::new(socket::channel(path.to_owned()));
    match client.accept_web_key(within(DEADLINE, request)).await {
        Ok(answer) => {
            let AcceptWebKeyResponse { id, until_unix_ms, user } = answer.into_inner();
            Ok(Accepted { id, until_unix_ms, user })
        }
        Err(status) if grpc::is_unsent(&status) => {
            let why = vsm_daemon::cause::of(&status);
            Err(Refused::NoRoute { host: path.display().to_string(), why })
        }
        Err(status) => {
            let text = status.message().to_owned();
            let why = grpc::reason(&status).and_then(NotVouched::of);
            Err(why.map_or_else(|| status.into(), |why| Refused::OpenId { why, text }))
        }
    }
}

/// A connection to the broker's sshd, on which nobody is logged in yet.
pub(crate) async fn dial(settings: &Settings, port: u16) -> Result<Ssh, Refused> {
    Ssh::connect(&settings.ssh_host, port, settings.ssh_keys.clone()).await
}

/// A request that is answered by then, or not at all.
pub(crate) fn within<T>(deadline: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}
