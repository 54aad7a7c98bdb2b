//! Who may call what: one table of all methods, and a guard that asks it before a service sees the call. So no handler
//! can forget to ask, and a method that is not in the table cannot be called.
//!
//! What depends on the call itself (whose session it is, the epoch that it bears) the services check.

#[cfg(test)]
mod doc;
mod refused;
mod table;

use std::{fmt, net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use tonic::{
    Extensions, Status,
    service::Routes,
    transport::server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo},
};
use vsm_core::WebKeyId;

pub use self::{refused::Refusals, table::METHODS};
use crate::{
    clock,
    hole::{self, Hole},
    socket,
    tls::{self, Peer, Role},
};

/// Who calls, as the connection proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// A user of this host, at the users' socket: the kernel says which.
    User,
    /// Whoever may open the administrators' socket.
    Administrator,
    /// The same person by a web key that was accepted too long ago: may look, and change nothing.
    Viewer,
    /// `vsm-web` of this host, at its socket: it has no word in who somebody is.
    WebServer,
    /// The role `admin`, and listed in `/vsmserver/allowed_clients`.
    RemoteAdministrator,
    /// The role `broker`, and the other node of the pair: also for whom it forwards a call.
    OtherBroker,
    /// The role `broker`.
    Broker,
    /// The role `broker`, and listed in `/vsmagent/allowed_clients`.
    AllowedBroker,
    /// The role `agent`.
    Agent,
    /// The role `agent`, also by a certificate that has ended.
    FormerAgent,
    /// Somebody without a certificate, while a host is invited.
    Guest,
    /// Any role: a certificate of the authority without one is nobody's here.
    Host,
    /// The role `broker` or `admin`, and listed in `/vsmserver/HA/observers`.
    Observer,
}

impl Caller {
    /// The roles of which its certificate has to have one; none = it comes by a socket of this host.
    #[must_use]
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Self::User | Self::Administrator | Self::Viewer | Self::WebServer | Self::Guest => &[],
            Self::RemoteAdministrator => &[Role::Admin],
            Self::OtherBroker | Self::Broker | Self::AllowedBroker => &[Role::Broker],
            Self::Agent | Self::FormerAgent => &[Role::Agent],
            Self::Host => &[Role::Broker, Role::Agent, Role::Admin],
            Self::Observer => &[Role::Broker, Role::Admin],
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "a user of this host",
            Self::Administrator => "an administrator on this host",
            Self::Viewer => "the same by an old login in a browser",
            Self::WebServer => "vsm-web on this host",
            Self::RemoteAdministrator => "an administrator's host",
            Self::OtherBroker => "the other broker of the pair",
            Self::Broker | Self::AllowedBroker => "a broker",
            Self::Agent => "an agent",
            Self::FormerAgent => "an agent, also after its certificate has ended",
            Self::Guest => "a host without a certificate, while one is invited",
            Self::Host => "a host of the cluster",
            Self::Observer => "an observer",
        })
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// `package.Service/Method`, as gRPC names it.
    pub path: &'static str,
    /// Who may call it.
    pub callers: &'static [Caller],
    /// What its service checks beside that; empty = nothing.
    pub also: &'static str,
}

impl Method {
    /// A row.
    #[must_use]
    pub const fn new(path: &'static str, callers: &'static [Caller], also: &'static str) -> Self {
        Self { path, callers, also }
    }
}

/// By which of a daemon's sockets calls come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The users' socket.
    Users,
    /// The administrators' socket.
    Administrators,
    /// The socket of `vsm-web`.
    Web,
    /// The port, over mutual TLS.
    Port,
}

/// What the configuration says of callers whose certificate has the role.
pub trait Site: Send + Sync + 'static {
    /// Lets one in, or says why not. Asked for callers that come over the network only.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, or what else is the cause.
    fn lets_in(&self, caller: Caller, peer: &Peer, address: Option<IpAddr>) -> Result<(), Status>;

    /// Whether an administrator may change something who has come by this web key: it was accepted not long ago.
    fn is_fresh(&self, _key: WebKeyId) -> bool {
        false
    }

    /// A call was refused, and the log has a line of it.
    fn refused(&self, _refused: &Refused<'_>) {}
}

/// A call that was refused.
#[derive(Debug)]
pub struct Refused<'a> {
    /// Who called, as the connection proves it.
    pub who: &'a str,
    /// From where: an address, or `this host`.
    pub from: &'a str,
    /// `package.Service/Method`.
    pub method: &'static str,
    /// Why not.
    pub why: &'a str,
}

/// Lets in everybody whose certificate has the role: for programs that stand in for a daemon while another one is
/// measured or tested.
#[derive(Debug)]
pub struct ByRole;

impl Site for ByRole {
    fn lets_in(&self, _: Caller, _: &Peer, _: Option<IpAddr>) -> Result<(), Status> {
        Ok(())
    }
}

/// Stands before the services of a daemon.
pub struct Guard {
    methods: &'static [Method],
    site: Box<dyn Site>,
    refusals: Refusals,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    /// One that asks this configuration.
    #[must_use]
    pub fn new(site: impl Site) -> Arc<Self> {
        Self::of(METHODS, site)
    }

    /// The same by a table of its own, for a program that serves something else.
    #[must_use]
    pub fn of(methods: &'static [Method], site: impl Site) -> Arc<Self> {
        Arc::new(Self { methods, site: Box::new(site), refusals: Refusals::default() })
    }

    /// Whether a call of the method `path` may go on.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` where no certificate says who it is, `UNIMPLEMENTED` for a method that is not in the table,
    /// else what [`Site::lets_in`] says.
    pub fn check(&self, door: Door, path: &str, extensions: &Extensions) -> Result<(), Status> {
        let Some(method) = self.methods.iter().find(|method| method.path == path) else {
            return Err(Status::unimplemented(""));
        };
        if hole::is_open(Hole::AccessTable) {
            return Ok(());
        }
        let allowed = match door {
            Door::Users => local(method, Caller::User),
            Door::Administrators => match socket::web_key(extensions) {
                // Asked for each call: a connection may stay open for longer than its login is fresh.
                Some(key) if !self.site.is_fresh(key) && !hole::is_open(Hole::FreshLogin) => {
                    viewer(method)
                }
                Some(_) | None => local(method, Caller::Administrator),
            },
            Door::Web => local(method, Caller::WebServer),
            Door::Port if method.callers.contains(&Caller::Guest) => Ok(()),
            Door::Port => tls::peer(extensions)
                .and_then(|peer| self.remote(method, &peer, address(extensions))),
        };
        allowed.inspect_err(|status| {
            let who = match door {
                Door::Users | Door::Administrators | Door::Web => at_socket(extensions),
                Door::Port => tls::peer(extensions)
                    .map_or_else(|_| "a certificate without a name".to_owned(), |peer| peer.name),
            };
            let from =
                address(extensions).map_or_else(|| "this host".to_owned(), |ip| ip.to_string());
            let (method, why) = (method.path, status.message());
            if self.refusals.tell(&who, &from, method, why) {
                self.site.refused(&Refused { who: &who, from: &from, method, why });
            }
        })
    }

    fn remote(&self, method: &Method, peer: &Peer, address: Option<IpAddr>) -> Result<(), Status> {
        let mut why = None;
        // Only an agent is let in then.
        let has_ended = peer.is(Role::Agent) && peer.until <= clock::unix_millis();
        if has_ended && !method.callers.contains(&Caller::FormerAgent) {
            let (ended, now) = (clock::shown(peer.until), clock::shown(clock::unix_millis()));
            let text = format!(
                "the certificate of {} has expired: it ended at {ended}, and the clock here says {now}; it can only be \
                 renewed",
                peer.name
            );
            return Err(Status::unauthenticated(text));
        }
        for caller in method.callers {
            if caller.roles().iter().any(|role| peer.is(*role)) {
                match self.site.lets_in(*caller, peer, address) {
                    Ok(()) => return Ok(()),
                    Err(status) => _ = why.get_or_insert(status),
                }
            }
        }
        Err(why.unwrap_or_else(|| Status::permission_denied(not_of(method, peer))))
    }
}

/// What somebody is told whose certificate has none of the roles.
fn not_of(method: &Method, peer: &Peer) -> String {
    let mut roles: Vec<Role> = method.callers.iter().flat_map(|one| one.roles()).copied().collect();
    roles.sort_unstable();
    roles.dedup();
    let named = |role: &Role| format!("{} {role}", if *role == Role::Broker { "a" } else { "an" });
    match roles.iter().map(named).collect::<Vec<_>>().as_slice() {
        [] => format!("{} can only be called on the host itself", method.path),
        roles => format!("the certificate of {} is not that of {}", peer.name, roles.join(" or ")),
    }
}

fn local(method: &Method, caller: Caller) -> Result<(), Status> {
    if method.callers.contains(&caller) {
        return Ok(());
    }
    let callers: Vec<String> = method.callers.iter().map(ToString::to_string).collect();
    Err(Status::permission_denied(format!("{} is for {}", method.path, callers.join(" and "))))
}

/// What an old login in a browser may call; what it may not is open to its user by another one.
fn viewer(method: &Method) -> Result<(), Status> {
    if method.callers.contains(&Caller::Administrator) && !method.callers.contains(&Caller::Viewer)
    {
        return Err(Status::unauthenticated(
            "your login in the browser is too old for changes: log in again",
        ));
    }
    local(method, Caller::Viewer)
}

fn at_socket(extensions: &Extensions) -> String {
    let info = extensions.get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    info.map_or_else(|| "a user".to_owned(), |peer| format!("uid {}", peer.uid()))
}

/// Where a call over the network comes from.
#[must_use]
pub fn address(extensions: &Extensions) -> Option<IpAddr> {
    let info = extensions.get::<TlsConnectInfo<TcpConnectInfo>>()?;
    Some(info.get_ref().remote_addr()?.ip().to_canonical())
}

/// The same services behind a guard.
pub(crate) fn guarded(routes: Routes, door: Door, guard: Arc<Guard>) -> Routes {
    let ask = middleware::from_fn_with_state((door, guard), ask);
    routes.into_axum_router().layer(ask).into()
}

async fn ask(
    State((door, guard)): State<(Door, Arc<Guard>)>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    match guard.check(door, path, request.extensions()) {
        Ok(()) => next.run(request).await,
        Err(status) => status.into_http(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::{Caller, METHODS};

    /// Whoever may change something may look, and a viewer may do nothing that an administrator may not.
    #[test]
    fn a_viewer_may_do_less_than_an_administrator() {
        let may = |caller| {
            METHODS.iter().filter(move |method| method.callers.contains(&caller)).map(|m| m.path)
        };
        let all: BTreeSet<&str> = may(Caller::Administrator).collect();
        let looks: BTreeSet<&str> = may(Caller::Viewer).collect();
        assert!(looks.is_subset(&all) && looks.len() < all.len());
        let names = looks.iter().filter_map(|path| path.strip_prefix("vsm.")?.split('/').nth(1));
        let harmless = ["List", "Watch", "Status", "SessionLog", "Explain", "Health", "Verify"];
        let harmless: Vec<_> =
            harmless.into_iter().chain(["Check", "Compare", "Parameters"]).collect();
        for name in names {
            assert!(harmless.iter().any(|begin| name.starts_with(begin)), "{name}");
        }
    }

    /// What the wire format offers and what the table has are the same, each once.
    #[test]
    fn the_table_has_each_method_once() {
        let mut served = BTreeSet::new();
        for descriptors in [vsm_proto::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET] {
            for file in FileDescriptorSet::decode(descriptors).unwrap().file {
                for service in &file.service {
                    served.extend(service.method.iter().map(|method| {
                        format!("{}.{}/{}", file.package(), service.name(), method.name())
                    }));
                }
            }
        }
        let has: BTreeSet<String> = METHODS.iter().map(|method| method.path.to_owned()).collect();
        assert_eq!(has.len(), METHODS.len(), "each once");
        let reflection = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned();
        assert!(has.contains(&reflection));
        served.insert(reflection);
        assert_eq!(has, served);
    }
}
