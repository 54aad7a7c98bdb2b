//! The process: opens the table and the sockets, serves until it is told to stop, drains, goes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::Group,
};
use tokio::net::TcpListener;
use tonic::service::RoutesBuilder;
use tonic_health::server::HealthReporter;
use vsm_config::{Config, keys};
use vsm_daemon::{
    access::Door,
    clock::Since,
    grpc, notify, one_time,
    socket::{self, Access},
    stop::Stop,
    tls::Tls,
};
use vsm_proto::{
    DESCRIPTORS,
    admin::v1::{
        admin_server::AdminServer, agents_server::AgentsServer,
        configuration_server::ConfigurationServer, ha_server::HaServer,
        identities_server::IdentitiesServer,
    },
    broker::v1::{
        broker_server::BrokerServer, enrolment_server::EnrolmentServer,
        open_id_server::OpenIdServer, registry_server::RegistryServer,
    },
    sync::v1::{observe_server::ObserveServer, peer_server::PeerServer},
};
use vsm_root::client::Helper;
use vsm_sync::{
    observe::{ObserveApi, ObserveConfig},
    peer::{FRAME_MAX, PeerApi},
};

use crate::{
    api::{
        access,
        admin::AdminApi,
        agents::AgentsApi,
        configuration::ConfigApi,
        identities::{EnrolmentApi, IdentitiesApi},
        openid::OpenIdApi,
        pair::HaApi,
        registry::RegistryApi,
        user::UserApi,
    },
    error::ServeError,
    helper,
    journal::{self, export, mail},
    pair::{
        Ha, Pair, health,
        open::{self, Opened},
        role, roster, set_aside, witness,
    },
    reload::{Reloader, watch_files},
    rooms::{Parts, Rooms},
    sessions::relay,
    site::settings::Settings,
    upkeep::{self, Upkeep, alarm},
};

/// How long the last write may take.
const FLUSH_MAX: Duration = Duration::from_secs(3);
/// How long a start waits for the user database.
const GROUP_MAX: Duration = Duration::from_secs(3);
/// How long a stop waits for logins and ends under way.
const TASKS_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs the broker until `stop`. On a reload the configuration is read from `config_dir` again.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(config: Config, config_dir: PathBuf, stop: Stop) -> Result<(), ServeError> {
    raise_open_files();
    let settings = Settings::new(&config).map_err(|error| ServeError::Config(error.to_string()))?;
    let tls = Tls::load(&config)?;
    let Opened { node, table, ha, card, asked } =
        open::open(&config, &settings, &tls, &stop.token)?;
    let parts = Parts {
        table,
        ha,
        helper: Helper::default(),
        card,
        settings,
        node,
        tls,
        started: Since::now(),
        stop: stop.token.clone(),
    };
    let rooms = Rooms::new(parts);
    let Rooms { process, sessions, side, .. } = &rooms;
    let listeners = Listeners::open(&config).await?;
    let beside = |name| config.get(&keys::vsmserver::USER_SOCKET).with_file_name(name);
    let health_file = beside("vsmserver.health");
    let keys = Arc::clone(&sessions.keys);
    let socket = beside(one_time::BROKER_SOCKET);
    let duties = &process.duties;
    // Users go on without both, and it is told (`ha status`).
    let (web_keys, troubles) = (Arc::clone(&rooms.web_keys), process.troubles.clone());
    let serve = one_time::serve(keys, Some(web_keys), socket, stop.token.clone(), troubles);
    duties.run_to_its_end("one-time keys", serve);
    duties.run("web keys", Arc::clone(&rooms.web_keys).watch());
    duties.run("upkeep of web keys", Arc::clone(&rooms.web_keys).look_after());
    duties.run_to_its_end("relay", relay::serve(Arc::clone(sessions), beside(relay::SOCKET)));
    rooms.identities.begin();
    sessions.follow_agents();
    duties.run("session table", rooms.authority.table.ended());
    duties.run("identities", Arc::clone(&rooms.identities).follow());
    start_journal(&rooms, config.get(&keys::vsmserver::STATE_DIR));
    duties.run("look for the root helper", helper::follow(Arc::clone(process)));
    start_upkeep(&rooms);
    let dir = config.get(&keys::vsmserver::STATE_DIR);
    duties.run("tables set aside", set_aside::follow(Arc::clone(process), dir));
    if let Some(asked) = asked {
        duties.run("witnesses", witness::carry(Arc::clone(side), asked));
    }
    let reloader = Reloader::new(Arc::clone(sessions), Arc::clone(side), config, config_dir);
    reloader.look_on();
    duties.run("reloads", on_hang_up(Arc::clone(&reloader), stop.clone()));
    let watch = watch_files::follow(Arc::clone(&reloader));
    duties.run_to_its_end("watch on the configuration", watch);
    notify::ready(side.ha.word());
    tracing::info!(node = %process.node, epoch = %rooms.authority.table.fence().epoch, "vsmserver is {}", side.ha.word());
    let served = Box::pin(listeners.serve(&rooms, &reloader, health_file)).await;
    notify::stopping();
    stop.token.cancel();
    process.tasks.close();
    if tokio::time::timeout(TASKS_TIMEOUT, process.tasks.wait()).await.is_err() {
        tracing::warn!(
            tasks = process.tasks.len(),
            "logins were still under way when the time to drain was over"
        );
    }
    if tokio::time::timeout(FLUSH_MAX, rooms.authority.table.flush()).await.is_err() {
        tracing::warn!(
            "the disk is too slow for the last write; nothing that was answered is in it"
        );
    }
    match process.duties.failed() {
        Some(failed) => Err(ServeError::Duty(failed)),
        None => served,
    }
}

/// Takes as many open files as the system allows: each agent, each user who is logging in and each follower needs one,
/// and what a process has unless it asks for more is 1024.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

struct Listeners {
    tcp: TcpListener,
    user: socket::Plain,
    admin: socket::Plain,
    web: Option<socket::Plain>,
}

impl Listeners {
    async fn open(config: &Config) -> Result<Self, ServeError> {
        let port = config.get(&keys::vsmserver::LISTEN_PORT);
        let tcp = grpc::listen(port).await.map_err(|source| ServeError::Listen { port, source })?;
        let everybody = Access { mode: 0o666, group: None };
        let user = socket::keep(&config.get(&keys::vsmserver::USER_SOCKET), everybody)?;
        let name = config.get(&keys::vsmserver::ADMIN_GROUP);
        let group = admin_group(name).await;
        let admins = Access { mode: if group.is_some() { 0o660 } else { 0o600 }, group };
        let admin = socket::keep(&config.get(&keys::vsmserver::ADMIN_SOCKET), admins)?;
        let path: PathBuf = config.get(&keys::vsmserver::WEB_SOCKET);
        // The folder is there where vsm-web is. Its group is that of those who may come in.
        let web = path.parent().is_some_and(Path::is_dir);
        let access = Access { mode: 0o660, group: None };
        let web = if web { Some(socket::keep(&path, access)?) } else { None };
        Ok(Self { tcp, user, admin, web })
    }

    async fn serve(
        self,
        rooms: &Rooms,
        reloader: &Arc<Reloader>,
        health_file: PathBuf,
    ) -> Result<(), ServeError> {
        let Services { mut user, mut admin, mut tcp, web } = services(rooms, reloader);
        let mut reporters = Vec::new();
        for routes in [&mut user, &mut admin, &mut tcp] {
            reporters.push(grpc::standard_services(routes, DESCRIPTORS).await?);
        }
        match &rooms.side.ha {
            Ha::On(pair) => start_pair(rooms, pair, health_file, reporters),
            Ha::Off { .. } | Ha::Apart(_) => {
                let alone = health::alone(Arc::clone(&rooms.side), health_file);
                rooms.process.run_to_the_last("health", alone);
            }
        }
        let stop = &rooms.process.stop;
        let guard = access::guard(&rooms.edge);
        let guard = || Arc::clone(&guard);
        tokio::try_join!(
            grpc::serve_unix(self.user, user.routes(), Door::Users, guard(), stop.clone()),
            grpc::serve_unix(
                self.admin,
                admin.routes(),
                Door::Administrators,
                guard(),
                stop.clone()
            ),
            async {
                match self.web {
                    Some(socket) => {
                        grpc::serve_unix(socket, web.routes(), Door::Web, guard(), stop.clone())
                            .await
                    }
                    None => Ok(()),
                }
            },
            grpc::serve_tls(self.tcp, &rooms.process.tls, tcp.routes(), guard(), stop.clone()),
        )?;
        Ok(())
    }
}

/// What a broker offers, by where it is asked.
#[derive(Debug)]
pub struct Services {
    /// At the users' socket.
    pub user: RoutesBuilder,
    /// At the administrators' socket.
    pub admin: RoutesBuilder,
    /// At the socket of `vsm-web`.
    pub web: RoutesBuilder,
    /// On the port.
    pub tcp: RoutesBuilder,
}

/// Puts the services before their rooms.
#[must_use]
pub fn services(rooms: &Rooms, reloader: &Arc<Reloader>) -> Services {
    let edge = &rooms.edge;
    let user_api = BrokerServer::new(UserApi(Arc::clone(edge))).max_decoding_message_size(64 << 10);
    let admin_api = AdminServer::new(AdminApi { edge: Arc::clone(edge) });
    let agents_api = AgentsServer::new(AgentsApi { edge: Arc::clone(edge) });
    let ha_api = HaServer::new(HaApi { edge: Arc::clone(edge) });
    let config_api = ConfigApi { edge: Arc::clone(edge), reloader: Arc::clone(reloader) };
    let config_api = ConfigurationServer::new(config_api);
    let identities = Arc::clone(&rooms.identities);
    let identities_api = IdentitiesApi { edge: Arc::clone(edge), identities };
    let identities_api = IdentitiesServer::new(identities_api);
    let enrolment = EnrolmentServer::new(EnrolmentApi::new(
        Arc::clone(&rooms.identities),
        Arc::clone(&rooms.process),
    ))
    .max_decoding_message_size(64 << 10);
    let registry = RegistryServer::new(RegistryApi {
        agents: Arc::clone(&rooms.agents),
        site: Arc::clone(&rooms.site),
    })
    .max_decoding_message_size(64 << 10);
    let openid = OpenIdServer::new(OpenIdApi(Arc::clone(edge))).max_decoding_message_size(64 << 10);
    let mut web = RoutesBuilder::default();
    web.add_service(openid.clone());
    let mut user = RoutesBuilder::default();
    user.add_service(user_api.clone());
    let mut admin = RoutesBuilder::default();
    admin
        .add_service(admin_api.clone())
        .add_service(agents_api.clone())
        .add_service(ha_api.clone())
        .add_service(config_api.clone())
        .add_service(identities_api.clone());
    let mut tcp = RoutesBuilder::default();
    tcp.add_service(registry)
        .add_service(enrolment)
        .add_service(identities_api)
        .add_service(ObserveServer::new(observe_api(rooms)))
        .add_service(admin_api)
        .add_service(agents_api)
        .add_service(ha_api)
        .add_service(config_api);
    if let Ha::On(pair) = &rooms.side.ha {
        // What the other broker forwards, and the stream to it.
        let stream =
            PeerServer::new(PeerApi(Arc::clone(&pair.stream))).max_decoding_message_size(FRAME_MAX);
        tcp.add_service(user_api).add_service(openid).add_service(stream);
    }
    Services { user, admin, web, tcp }
}

/// The id of the group of administrators, if there is one. A directory service that hangs does not keep the broker from
/// serving: root can open the admin socket in any case.
async fn admin_group(name: String) -> Option<u32> {
    let asked = name.clone();
    let looked_up = tokio::task::spawn_blocking(move || Group::from_name(&asked));
    let why = match tokio::time::timeout(GROUP_MAX, looked_up).await {
        Ok(Ok(Ok(group))) => return group.map(|group| group.gid.as_raw()),
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", GROUP_MAX.as_secs()),
    };
    tracing::warn!(
        group = name,
        why,
        "the user database does not answer: the admin socket is root's alone until a restart"
    );
    None
}

/// Observers follow the table of either node.
fn observe_api(rooms: &Rooms) -> ObserveApi {
    let config = ObserveConfig {
        node: rooms.process.node.clone(),
        standalone: matches!(rooms.side.ha, Ha::Off { .. }),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    ObserveApi::new(config, rooms.authority.table.clone(), rooms.process.stop.clone())
}

/// Starts what a node looks after by itself.
fn start_upkeep(rooms: &Rooms) {
    let upkeep = Arc::new(Upkeep {
        process: Arc::clone(&rooms.process),
        site: Arc::clone(&rooms.site),
        authority: Arc::clone(&rooms.authority),
        journal: Arc::clone(&rooms.journal),
        agents: Arc::clone(&rooms.agents),
        side: Arc::clone(&rooms.side),
    });
    let duties = &rooms.process.duties;
    duties.run("tokens of the OpenID provider", Arc::clone(&rooms.openid).follow());
    duties.run("alarms", alarm::follow(Arc::clone(&upkeep)));
    duties.run("reigns", alarm::reigns(Arc::clone(&upkeep)));
    duties.run("upkeep", upkeep::follow(upkeep));
}

/// Starts what remembers and tells.
fn start_journal(rooms: &Rooms, state_dir: PathBuf) {
    let (duties, journal) = (&rooms.process.duties, &rooms.journal);
    duties.run("trail", journal::record(Arc::clone(journal)));
    duties.run("export of the trail", export::follow(Arc::clone(journal), state_dir));
    duties.run("mail", mail::send(Arc::clone(journal)));
}

/// Starts what keeps a pair going.
fn start_pair(
    rooms: &Rooms,
    pair: &Arc<Pair>,
    health_file: PathBuf,
    reporters: Vec<HealthReporter>,
) {
    let process = &rooms.process;
    let both = || (Arc::clone(&rooms.side), Arc::clone(pair));
    let (own, pair_) = both();
    // A stop waits for it, so that the file says at the end that the address is to go.
    process.run_to_the_last("health", health::follow(own, pair_, health_file, reporters));
    let (own, pair_) = both();
    // Without a resource address there is none to follow.
    process.duties.run_to_its_end("resource address", role::follow(own, pair_));
    let (own, pair_) = both();
    process.duties.run("choice of witnesses", roster::follow(own, pair_));
    if pair.stream.dials() {
        let dial = Arc::clone(&pair.stream).dial(pair.channel.clone());
        process.duties.run("stream to the other node", dial);
    }
}

/// Takes a new configuration on SIGHUP, whole or not at all.
async fn on_hang_up(reloader: Arc<Reloader>, stop: Stop) {
    while stop.until_reload().await {
        // It has logged why not.
        let _ = reloader.reload("SIGHUP").await;
    }
}
