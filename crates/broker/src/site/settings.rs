//! What the configuration means for the broker: a plain value, made from a checked configuration, replaced as a whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use vsm_config::{Config, LoadError, OnHookFailure, Placement, SoloCreate, keys};
use vsm_core::{AgentName, InvalidId, Limits, Need, Resources, Rule, Strategy, UnixMillis};

use crate::{
    error::Refusal,
    site::{
        lifetimes::Lifetimes, members::TwoFolders, openid::OpenIdSettings, subclusters::Subclusters,
    },
    users::{Identity, NamedGroups, Source},
};

/// A configuration that means nothing a broker can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// What can be seen of it without the host.
    #[error(transparent)]
    Bad(#[from] LoadError),
    /// An entry of an agents list is neither a host name nor an address.
    #[error(transparent)]
    Agent(#[from] InvalidId),
    /// Where somebody's new sessions go, or which limits they have, is not clear.
    #[error(transparent)]
    Two(#[from] TwoFolders),
}

/// The broker's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most sessions per user; 0 = no limit.
    pub max_sessions_per_user: u32,
    /// Groups whose members may log in; empty = everybody.
    pub allowed_groups: Vec<String>,
    /// After this long a session on a silent agent no longer counts against its user's limit.
    pub unreachable_grace: Duration,
    /// After this long a start without an answer is given up.
    pub start_unknown_grace: Duration,
    /// How long a failed start keeps an agent at the back of the queue.
    pub agent_failure_penalty: Duration,
    /// How long one agent may take to start a session.
    pub start_timeout: Duration,
    /// How many agents one login tries.
    pub start_attempts: u32,
    /// How long a login may take.
    pub login_timeout: Duration,
    /// Port on which this broker listens.
    pub broker_port: u16,
    /// Port on which agents listen.
    pub agent_port: u16,
    /// Whether new desktops are made without votes.
    pub solo_create: bool,
    /// Where mail for the administrators goes; empty = nowhere.
    pub admin_email: Vec<String>,
    /// Takes a mail on its standard input, as sendmail(8) does.
    pub mail_program: PathBuf,
    /// Hosts, by name or address, of administrators who may call over the network.
    pub allowed_clients: Vec<String>,
    /// Whether users may ask for a command instead of the full desktop.
    pub allow_start_command: bool,
    /// How long the key of a client is good at an agent; none = users log in there by other means.
    pub one_login: Option<Duration>,
    /// Port of sshd on agents, where users are led to them through the brokers; none = they go there by themselves.
    pub bastion: Option<u16>,
    /// Logins by browser.
    pub web: WebSettings,
    /// The OpenID provider by which users may log in; none = there is none.
    pub openid: Option<OpenIdSettings>,
    /// Who may shadow other users' desktops.
    pub shadowers: Shadowers,
    /// Whether a change of a file is a reload.
    pub watch_config: bool,
    /// Hosts, by name or address, that may follow the table read-only.
    pub observers: Vec<String>,
    /// Who belongs where.
    pub subclusters: Subclusters,
    /// By what agents are compared.
    pub placement: Placement,
    /// What one user takes until it is measured.
    pub need: Need,
    /// Below this much free room in percent a subcluster is low; 0 = not watched for.
    pub capacity_warn: u32,
    /// Programs that run at logins.
    pub hooks: HookSettings,
    /// Limits of desktops' lives.
    pub lifetimes: Lifetimes,
    /// What is needed to sign certificates for agents.
    pub certificates: CertificateSettings,
    /// Where the trail is exported to.
    pub trail: TrailSettings,
    resources: BTreeMap<String, Resources>,
    named_groups: NamedGroups,
    agents: BTreeMap<AgentName, AgentSettings>,
}

/// What is needed to sign certificates for agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSettings {
    /// Certificates of the authorities that this host trusts.
    pub authority: PathBuf,
    /// Certificate of the issuer.
    pub issuer_cert: PathBuf,
    /// Its private key.
    pub issuer_key: PathBuf,
    /// How long a certificate counts.
    pub agent_life: Duration,
}

/// Where the trail is exported to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailSettings {
    /// A file to which events are appended; none = to none.
    pub file: Option<PathBuf>,
    /// The socket of the syslog that gets them; none = it does not.
    pub syslog: Option<PathBuf>,
}

impl TrailSettings {
    fn new(config: &Config) -> Self {
        let file = config.get(&keys::trail::FILE);
        let to_syslog = config.get(&keys::trail::SYSLOG);
        Self {
            file: Some(file).filter(|file| !file.as_os_str().is_empty()),
            syslog: to_syslog.then(|| config.get(&keys::vsmserver_logging::SYSLOG_SOCKET)),
        }
    }
}

/// Programs that root provides for logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// Where those are that run after a start.
    pub startup_dir: PathBuf,
    /// Where those are that run before a reconnect.
    pub reconnect_dir: PathBuf,
    /// How long one may run.
    pub timeout: Duration,
    /// What one that fails means for the login.
    pub on_failure: OnHookFailure,
}

impl CertificateSettings {
    fn new(config: &Config) -> Self {
        Self {
            authority: config.get(&keys::tls::CA_FILE),
            issuer_cert: config.get(&keys::tls::ISSUER_CERT_FILE),
            issuer_key: config.get(&keys::tls::ISSUER_KEY_FILE),
            agent_life: config.get(&keys::vsmserver::AGENT_CERTIFICATE_LIFE),
        }
    }
}

/// Those who may shadow other users' desktops.
#[derive(Debug, Clone, Default)]
pub struct Shadowers {
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl Shadowers {
    fn new(words: Vec<String>) -> Self {
        let mut all = Self::default();
        for word in words {
            match word.strip_prefix('+') {
                Some(group) => all.groups.insert(group.to_owned()),
                None => all.users.insert(word),
            };
        }
        all
    }

    /// Whether this user may. Where NSS does not tell their groups, none counts.
    #[must_use]
    pub fn contains(&self, who: &Identity) -> bool {
        self.users.contains(who.user.as_str())
            || self.groups.iter().any(|group| who.groups.contains(group))
    }
}

impl HookSettings {
    fn new(config: &Config) -> Self {
        Self {
            startup_dir: config.get(&keys::hooks::STARTUP_DIR),
            reconnect_dir: config.get(&keys::hooks::RECONNECT_DIR),
            timeout: config.get(&keys::hooks::TIMEOUT),
            on_failure: config.get(&keys::hooks::ON_FAILURE),
        }
    }
}

/// What the configuration says of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// Share of users relative to the others.
    pub weight: u32,
    /// Takes no new sessions.
    pub draining: bool,
    /// Subclusters that it belongs to.
    pub subclusters: Vec<String>,
    /// Most users: the lowest cap of its subclusters; 0 = no limit.
    pub max_users: u32,
}

impl AgentSettings {
    /// Whether it belongs to this subcluster.
    #[must_use]
    pub fn is_in(&self, subcluster: &str) -> bool {
        self.subclusters.iter().any(|name| name == subcluster)
    }
}

/// What a new desktop is held to.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// Limits of its life.
    pub limits: Limits,
    /// What it may take of its host.
    pub resources: Resources,
}

/// The lower one of two caps; 0 = no limit.
fn lower(one: u32, other: u32) -> u32 {
    if one == 0 || other == 0 { one.max(other) } else { one.min(other) }
}

/// What sessions of each subcluster may take, by its name.
fn resources(config: &Config) -> BTreeMap<String, Resources> {
    use keys::subclusters as k;
    let of = |name: String| {
        let resources = Resources {
            memory_max_mib: config.get_in(&k::SESSION_MEMORY_MAX, &name),
            cpu_max_percent: config.get_in(&k::SESSION_CPU_MAX, &name),
            pids_max: config.get_in(&k::SESSION_PIDS_MAX, &name),
        };
        (name, resources)
    };
    config.names("/vsmserver/subclusters").into_iter().map(of).collect()
}

/// What is said of logins by browser.
#[derive(Debug, Clone)]
pub struct WebSettings {
    /// How long one lasts at most.
    pub login_lifetime: Duration,
    /// How long after it an administrator may change something by it.
    pub admin_lifetime: Duration,
    /// How many of them a user may have.
    pub logins_per_user: usize,
}

impl WebSettings {
    fn new(config: &Config) -> Self {
        let most = config.get(&keys::vsmweb::LOGINS_PER_USER);
        Self {
            login_lifetime: config.get(&keys::vsmweb::LOGIN_LIFETIME),
            admin_lifetime: config.get(&keys::vsmweb::ADMIN_LIFETIME),
            logins_per_user: usize::try_from(most).unwrap_or(1),
        }
    }
}

impl Settings {
    /// Reads what the broker needs.
    ///
    /// # Errors
    /// If it is one that a broker cannot do: [`Config::check_broker`].
    pub fn new(config: &Config) -> Result<Self, SettingsError> {
        config.check_broker()?;
        let subclusters = config.subclusters();
        let draining: BTreeSet<String> = config.draining().into_iter().collect();
        let mut agents = BTreeMap::<AgentName, AgentSettings>::new();
        for subcluster in &subclusters {
            for host in &subcluster.agents {
                let agent = agents.entry(host.parse()?).or_insert_with(|| AgentSettings {
                    weight: config.agent_weight(host).max(1),
                    draining: draining.contains(host),
                    subclusters: Vec::new(),
                    max_users: 0,
                });
                agent.subclusters.push(subcluster.name.clone());
                let cap = subcluster.max_users_per_agent;
                agent.max_users = lower(agent.max_users, cap);
            }
        }
        let allowed_groups = config.get(&keys::vsmserver::ALLOWED_GROUPS);
        let of_subclusters = subclusters.iter().flat_map(|subcluster| &subcluster.groups);
        let shadowers = Shadowers::new(config.get(&keys::shadowing::ALLOWED_SHADOWERS));
        let lifetimes = Lifetimes::new(config)?;
        let named_groups = of_subclusters.chain(&allowed_groups).chain(&shadowers.groups);
        let named_groups = named_groups.chain(lifetimes.groups()).cloned().collect();
        Ok(Self {
            max_sessions_per_user: config.get(&keys::vsmserver::MAX_SESSIONS_PER_USER),
            allowed_groups,
            unreachable_grace: config.get(&keys::vsmserver::UNREACHABLE_GRACE),
            start_unknown_grace: config.get(&keys::vsmserver::START_UNKNOWN_GRACE),
            agent_failure_penalty: config.get(&keys::vsmserver::AGENT_FAILURE_PENALTY),
            start_timeout: config.get(&keys::vsmserver::START_TIMEOUT),
            start_attempts: config.get(&keys::vsmserver::START_ATTEMPTS),
            login_timeout: config.get(&keys::vsmserver::LOGIN_TIMEOUT),
            broker_port: config.get(&keys::vsmserver::LISTEN_PORT),
            agent_port: config.get(&keys::vsm::VSM_AGENT_PORT),
            solo_create: config.get(&keys::ha::SOLO_CREATE) == SoloCreate::AllowAndMark,
            admin_email: config.get(&keys::vsmserver::ADMIN_EMAIL),
            mail_program: config.get(&keys::vsmserver::MAIL_PROGRAM),
            allowed_clients: config.get(&keys::vsmserver::ALLOWED_CLIENTS),
            one_login: config
                .get(&keys::vsmserver::ONE_LOGIN)
                .then(|| config.get(&keys::vsmserver::ONE_LOGIN_TIME)),
            bastion: config
                .get(&keys::vsmserver::BASTION)
                .then(|| config.get(&keys::vsmserver::BASTION_PORT)),
            web: WebSettings::new(config),
            openid: OpenIdSettings::new(config),
            shadowers,
            allow_start_command: config.get(&keys::vsmserver::ALLOW_START_COMMAND),
            watch_config: config.get(&keys::vsmserver::WATCH_CONFIG),
            observers: config.get(&keys::ha::OBSERVERS),
            subclusters: Subclusters::new(subclusters)?,
            placement: config.get(&keys::vsmserver::PLACEMENT),
            need: Need {
                memory_mib: config.get(&keys::vsmserver::RAM_PER_USER),
                // A percent of a CPU is ten thousandths.
                cpu_milli: config.get(&keys::vsmserver::CPU_PER_USER) * 10,
            },
            capacity_warn: config.get(&keys::vsmserver::CAPACITY_WARN),
            hooks: HookSettings::new(config),
            lifetimes,
            certificates: CertificateSettings::new(config),
            trail: TrailSettings::new(config),
            resources: resources(config),
            named_groups: Arc::new(named_groups),
            agents,
        })
    }

    /// All agents of the configuration.
    #[must_use]
    pub const fn agents(&self) -> &BTreeMap<AgentName, AgentSettings> {
        &self.agents
    }

    /// The groups whose members are treated in some way of their own: all that is looked up of a user's groups.
    #[must_use]
    pub const fn named_groups(&self) -> &NamedGroups {
        &self.named_groups
    }

    /// Whether the user may use the service at all. Where NSS does not tell the groups, they may use what they have.
    #[must_use]
    pub fn allows(&self, who: &Identity) -> bool {
        self.allowed_groups.is_empty()
            || who.source == Source::NameAlone
            || self.allowed_groups.iter().any(|group| who.groups.contains(group))
    }

    /// The limits of a user's desktops.
    ///
    /// # Errors
    /// If their groups lead to two folders.
    pub fn limits_of(&self, who: &Identity) -> Result<Limits, Refusal> {
        self.lifetimes.of(who, &self.subclusters)
    }

    /// What a session of this user may take of its host.
    ///
    /// # Errors
    /// If no subcluster takes the user, or their groups lead to two.
    fn resources_of(&self, who: &Identity) -> Result<Resources, Refusal> {
        let (subcluster, _) = self.subclusters.of(who)?;
        Ok(self.resources.get(&subcluster.name).copied().unwrap_or_default())
    }

    /// What a user's new desktop is held to.
    ///
    /// # Errors
    /// As [`Settings::limits_of`]; if no subcluster takes the user.
    pub fn bounds_of(&self, who: &Identity) -> Result<Bounds, Refusal> {
        Ok(Bounds { limits: self.limits_of(who)?, resources: self.resources_of(who)? })
    }

    /// How an agent is chosen at this moment.
    #[must_use]
    pub fn rule(&self, now: UnixMillis, tie: u64) -> Rule {
        let strategy = match self.placement {
            Placement::Users => Strategy::Users,
            Placement::Load => Strategy::Load(self.need),
        };
        let penalty = self.agent_failure_penalty.as_millis();
        Rule { strategy, now, penalty_ms: u64::try_from(penalty).unwrap_or(u64::MAX), tie }
    }
}
