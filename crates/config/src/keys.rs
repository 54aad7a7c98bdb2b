//! The schema: every parameter of the system, once.
//!
//! One row gives the key's name and Rust type, the path, what is allowed, the default, when a change takes
//! effect, and the meaning. From it come the typed keys, the checks, `vsm-config doc` and `docs/parameters.md`
//! (longer than other files because it is one table). A path with a part in angle brackets describes a folder
//! of things with names of their own; read it with [`crate::Config::get_in`].

use std::{marker::PhantomData, path::PathBuf, time::Duration};

use crate::{
    kind::{
        Item,
        Kind::{self, Bool, Choice, Colour, Host, Int, List, Mode, OptionalPath, Path, Text},
        Unit,
    },
    param::{Apply, Key, Param},
    value::{
        Geometry, LogLevel, OnHookFailure, Placement, RoleSource, SecondViewer, ShadowingMode,
        SoloCreate, Typed, XauthorityLocation,
    },
};

const PORT: Kind = int(1, 65535, "");
const HOSTS: Kind = List(Item::Host);
const WORDS: Kind = List(Item::Word);
const LEVEL: Kind = Choice(LogLevel::WORDS);
/// Times in a session's life: up to a year.
const LIFE: Kind = seconds(0, 31_536_000);
const FACILITY: Kind = Choice(&[
    "auth", "authpriv", "daemon", "user", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
]);

const fn int(min: u64, max: u64, unit: &'static str) -> Kind {
    Int { min, max, unit }
}

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Duration { unit: Unit::Seconds, min, max }
}

const fn millis(min: u64, max: u64) -> Kind {
    Kind::Duration { unit: Unit::Millis, min, max }
}

macro_rules! schema {
    ($($(#[$meta:meta])* $module:ident { $(
        $name:ident: $ty:ty, $path:literal, $kind:expr, $default:literal, $apply:ident, $meaning:literal;
    )* })*) => {
        $($(#[$meta])* pub mod $module {
            use super::*;
            $(
                #[doc = $meaning]
                #[doc = concat!("\n\n`", $path, "`, default `", $default, "`")]
                pub static $name: Key<$ty> = Key {
                    param: Param {
                        path: $path,
                        kind: $kind,
                        default: $default,
                        apply: Apply::$apply,
                        meaning: $meaning,
                        accepts: <$ty as Typed>::accepts,
                    },
                    marker: PhantomData,
                };
            )*
        })*

        /// Every row, in the order of the table.
        pub static PARAMS: &[&Param] = &[$($(&$module::$name.param,)*)*];
    };
}

schema! {
    /// `/vsmserver`: the broker.
    vsmserver {
        LISTEN_PORT: u16, "/vsmserver/listen_port", PORT, "9000", Restart,
            "TCP port on which the broker answers agents, its peer and administrators, by mutual TLS. Should equal /vsm/vsm_server_port.";
        ALLOWED_CLIENTS: Vec<String>, "/vsmserver/allowed_clients", HOSTS, "", Reload,
            "Hosts that may make privileged calls over the network, such as ending sessions, in addition to holding a certificate that allows it. The machine itself and the other node of the pair are always allowed.";
        ALLOWED_GROUPS: Vec<String>, "/vsmserver/allowed_groups", WORDS, "", Reload,
            "Groups whose members may use the service; empty means everybody. Checked at each login and reconnect; running sessions are left alone.";
        ADMIN_EMAIL: Vec<String>, "/vsmserver/admin_email", WORDS, "root@localhost", Reload,
            "Addresses that mail for the administrators goes to: an agent or the other node that is away for a minute, capacity that runs out, a configuration that is refused. Empty means no mail.";
        MAIL_PROGRAM: PathBuf, "/vsmserver/mail_program", Path, "/usr/sbin/sendmail", Reload,
            "Program that sends a mail, called as sendmail -t -oi with the message on standard input. Where there is none no mail is sent.";
        MAX_SESSIONS_PER_USER: u32, "/vsmserver/max_sessions_per_user", int(0, 10_000, "sessions"), "1", Reload,
            "Most sessions that one user may have; 0 means no limit. All sessions of a user are kept on one agent where possible.";
        PLACEMENT: Placement, "/vsmserver/placement", Choice(Placement::WORDS), "users", Reload,
            "How an agent is chosen for a new session: by fewest users per weight, or by measured load.";
        RAM_PER_USER: u32, "/vsmserver/ram_per_user", int(1, 1_048_576, "MiB"), "500", Reload,
            "Memory that one user needs, as an estimate: for placement by load until it is measured, and for how many more users fit.";
        CPU_PER_USER: u32, "/vsmserver/cpu_per_user", int(0, 100_000, "percent of a CPU"), "10", Reload,
            "CPU time that one user needs, as an estimate: for placement by load until it is measured.";
        CAPACITY_WARN: u32, "/vsmserver/capacity_warn", int(0, 50, "percent"), "10", Reload,
            "Free room below which a subcluster is low, which is an event; 0 means that only one without any room is told.";
        UNREACHABLE_GRACE: Duration, "/vsmserver/unreachable_grace", seconds(0, 604_800), "300s", Reload,
            "How long a session whose agent does not answer still counts against max_sessions_per_user.";
        START_UNKNOWN_GRACE: Duration, "/vsmserver/start_unknown_grace", seconds(1, 3600), "10s", Reload,
            "How long a start whose outcome is unknown is waited for before it is given up for good, and another agent is tried.";
        AGENT_FAILURE_PENALTY: Duration, "/vsmserver/agent_failure_penalty", seconds(0, 86_400), "300s", Reload,
            "How long an agent that failed to start a session stays at the back of the queue.";
        START_TIMEOUT: Duration, "/vsmserver/start_timeout", seconds(1, 600), "30s", Reload,
            "How long one agent may take to start a session.";
        START_ATTEMPTS: u32, "/vsmserver/start_attempts", int(1, 16, "agents"), "3", Reload,
            "How many agents one login tries before it tells the user that no session could be started.";
        LOGIN_TIMEOUT: Duration, "/vsmserver/login_timeout", seconds(1, 3600), "60s", Reload,
            "How long a login may take as a whole.";
        USER_SOCKET: PathBuf, "/vsmserver/user_socket", Path, "/run/vsm/vsmserver.sock", Restart,
            "Unix socket on which users reach the broker, by way of vsm-login. Anyone on the machine may connect; the caller is known by its peer credentials.";
        ADMIN_SOCKET: PathBuf, "/vsmserver/admin_socket", Path, "/run/vsm/vsmserver-admin.sock", Restart,
            "Unix socket for vsmctl, open to root and to admin_group.";
        ADMIN_GROUP: String, "/vsmserver/admin_group", Text, "vsmadmin", Restart,
            "Group whose members may administer this broker over admin_socket.";
        STATE_DIR: PathBuf, "/vsmserver/state_dir", Path, "/var/lib/vsm", Restart,
            "Directory of the session database. Local disk; never shared between the two nodes.";
        ALLOW_START_COMMAND: bool, "/vsmserver/allow_start_command", Bool, "true", Reload,
            "Whether users may ask for a command instead of the full desktop. Desktops that run keep theirs.";
        ONE_LOGIN: bool, "/vsmserver/one_login", Bool, "true", Reload,
            "Whether a user who has logged in at the broker is let in at the session's agent without a second login: by a key that the client makes each time, good once, for this session, and for one_login_time.";
        ONE_LOGIN_TIME: Duration, "/vsmserver/one_login_time", seconds(1, 600), "60s", Reload,
            "How long such a key is good after the broker's answer. Clients with a slow way to the agent need more; a client that comes later logs in there as if there were no key.";
        BASTION: bool, "/vsmserver/bastion", Bool, "false", Reload,
            "Whether users reach their session hosts through the brokers, for sites where they cannot do so by themselves: vsm-login on the broker carries their ssh to the agent, under the name that is in its subcluster. No forwarding need be allowed in sshd.";
        BASTION_PORT: u16, "/vsmserver/bastion_port", PORT, "22", Reload,
            "Port of sshd on the session hosts, where bastion is on.";
        WATCH_CONFIG: bool, "/vsmserver/watch_config", Bool, "false", Reload,
            "Reload by itself when a configuration file changes, as SIGHUP does. A bad configuration is refused as a whole and the old one stays.";
    }

    /// `/vsmserver/hooks`: programs that root provides for logins.
    hooks {
        STARTUP_DIR: PathBuf, "/vsmserver/hooks/startup_dir", Path, "/etc/vsm/sessionstartup.d", Reload,
            "Directory of programs that run as root on the broker, in name order, after a session was started and before the user is answered.";
        RECONNECT_DIR: PathBuf, "/vsmserver/hooks/reconnect_dir", Path, "/etc/vsm/sessionreconnect.d", Reload,
            "Directory of programs that run as root on the broker, in name order, before a reconnect is answered.";
        TIMEOUT: Duration, "/vsmserver/hooks/timeout", seconds(1, 600), "10s", Reload,
            "How long one such program may run before it is ended, with all that it started. That counts as a failure.";
        ON_FAILURE: OnHookFailure, "/vsmserver/hooks/on_failure", Choice(OnHookFailure::WORDS), "continue", Reload,
            "What a program that fails or takes too long means for the login: continue (it is logged and the login goes on), or refuse (the user is told, and a desktop that was just started is ended again).";
    }

    /// `/vsmserver/HA`: the pair.
    ha {
        ENABLED: bool, "/vsmserver/HA/enabled", Bool, "false", Restart,
            "Whether this broker is one of a pair. Needs exactly two entries in nodes.";
        NODES: Vec<String>, "/vsmserver/HA/nodes", HOSTS, "", Restart,
            "Host names of both nodes of the pair, this one included, so that the file can be the same on both. One entry must match the local machine, by a local address or by the name that `uname -n` prints.";
        RESOURCE_ADDRESS: String, "/vsmserver/HA/resource_address", Host, "", Restart,
            "Name or address that floats to the active node and that users and agents connect to.";
        ROLE_SOURCE: RoleSource, "/vsmserver/HA/role_source", Choice(RoleSource::WORDS), "", Restart,
            "What tells a node that it should try to be active: holding resource_address, the cluster software, or being asked by users. Empty chooses address where resource_address is set, else request.";
        ACK_TIMEOUT: Duration, "/vsmserver/HA/ack_timeout", millis(10, 60_000), "500ms", Reload,
            "How long the other node may take to make a change durable before the witnesses take its place.";
        SOLO_CREATE: SoloCreate, "/vsmserver/HA/solo_create", Choice(SoloCreate::WORDS), "refuse", Reload,
            "What a node does with requests for new sessions while it reaches neither its peer nor the witnesses. With allow_and_mark a user may end up with more sessions than allowed until the nodes meet again.";
        CHANGELOG_KEEP: u64, "/vsmserver/HA/changelog_keep", int(100, 100_000_000, "changes"), "100000", Restart,
            "How many changes are kept for a node that was away; one that missed more gets the whole table.";
        OBSERVERS: Vec<String>, "/vsmserver/HA/observers", HOSTS, "", Reload,
            "Hosts that may follow the pair read-only with vsm-sync.";
    }

    /// `/vsmserver/subclusters/<name>`: read as a whole by [`crate::Config::subclusters`].
    subclusters {
        AGENTS: Vec<String>, "/vsmserver/subclusters/<name>/agents", HOSTS, "", Reload,
            "Agents for new sessions, by the name that the broker reaches them under. One that is taken out keeps its sessions. Without any subcluster there is one named Default with 127.0.0.1; in a pair, no list may hold a loopback address.";
        USERS: Vec<String>, "/vsmserver/subclusters/<name>/users", WORDS, "", Reload,
            "Users whose new sessions go to this subcluster; goes before groups. With neither users nor groups it is the default subcluster, of which there may be one.";
        GROUPS: Vec<String>, "/vsmserver/subclusters/<name>/groups", WORDS, "", Reload,
            "Groups whose members' new sessions go to this subcluster.";
        MAX_USERS_PER_AGENT: u32, "/vsmserver/subclusters/<name>/max_users_per_agent", int(0, 1_000_000, "users"), "0", Reload,
            "Most users on one agent of this subcluster; 0 means no limit. A full agent takes no new users; an agent in two subclusters has the lower limit.";
        SESSION_MEMORY_MAX: u64, "/vsmserver/subclusters/<name>/session_memory_max", int(0, 16_777_216, "MiB"), "0", Reload,
            "Memory that one session may use; above it the session is killed whole, and its user told at the next login. 0 means no limit. Needs cgroup v2 with the memory controller on the agents. Affects sessions started later, as the next two do.";
        SESSION_CPU_MAX: u32, "/vsmserver/subclusters/<name>/session_cpu_max", int(0, 100_000, "percent of a CPU"), "0", Reload,
            "CPU time that one session may use: 200 is two CPUs; 0 means no limit. Needs the cpu controller.";
        SESSION_PIDS_MAX: u32, "/vsmserver/subclusters/<name>/session_pids_max", int(0, 4_194_304, "processes and threads"), "0", Reload,
            "Processes and threads that one session may have; 0 means no limit. A desktop needs some hundreds. Needs the pids controller.";
    }

    /// `/vsmserver/limits/<name>`: read as a whole by [`crate::Config::limits`].
    limits {
        USERS: Vec<String>, "/vsmserver/limits/<name>/users", WORDS, "", Reload,
            "Users whose desktops have these limits; goes before groups. With no users, groups and subclusters these are the limits of everybody else, of which there may be one folder. What a folder does not set is not limited: nothing is taken over from another one.";
        GROUPS: Vec<String>, "/vsmserver/limits/<name>/groups", WORDS, "", Reload,
            "Groups whose members' desktops have these limits; goes before subclusters.";
        SUBCLUSTERS: Vec<String>, "/vsmserver/limits/<name>/subclusters", WORDS, "", Reload,
            "Subclusters whose users' desktops have these limits.";
        DISCONNECTED_MAX: Duration, "/vsmserver/limits/<name>/disconnected_max", LIFE, "0", Reload,
            "After so long without a viewer a desktop is ended; 0 means never. Coming back calls it off.";
        CONNECTED_MAX: Duration, "/vsmserver/limits/<name>/connected_max", LIFE, "0", Reload,
            "A desktop is ended when it was viewed for so long without a break; 0 means never.";
        IDLE_MAX: Duration, "/vsmserver/limits/<name>/idle_max", LIFE, "0", Reload,
            "After so long without a key or a move of the pointer a desktop is ended, viewed or not; 0 means never.";
        IDLE_DISCONNECT: Duration, "/vsmserver/limits/<name>/idle_disconnect", LIFE, "0", Reload,
            "After so long without a key or a move of the pointer the viewer is disconnected; the desktop lives on. 0 means never.";
        LIFETIME_MAX: Duration, "/vsmserver/limits/<name>/lifetime_max", LIFE, "0", Reload,
            "So long after its start a desktop is ended, whatever is done with it; 0 means never.";
        WARN_BEFORE: Duration, "/vsmserver/limits/<name>/warn_before", LIFE, "5m", Reload,
            "So long before, the desktop is warned, by /vsmagent/notify_program; shorter than each limit of the folder. No limit takes effect, and no change of one, before a warning has been out for that long. 0 means no warning.";
        WARN_AGAIN: Duration, "/vsmserver/limits/<name>/warn_again", LIFE, "1m", Reload,
            "So long before, the desktop is warned once more, where that is less than warn_before; 0 means that it is not.";
        EXTENSION: Duration, "/vsmserver/limits/<name>/extension", LIFE, "30m", Reload,
            "By so much the user can put off what comes next, with vsm-extend or vsm extend; 0 means that they cannot.";
        EXTENSIONS_MAX: u32, "/vsmserver/limits/<name>/extensions_max", int(0, 10_000, "times"), "2", Reload,
            "How often the user can do so; anew for each connection, for each time without one, and after each key.";
    }

    /// `/vsmserver/agents`: what the broker knows of single agents.
    agents {
        DRAINING: Vec<String>, "/vsmserver/agents/draining", HOSTS, "", Reload,
            "Agents that get no new sessions; existing ones go on and can be reconnected.";
        WEIGHTS: u32, "/vsmserver/agents/weights/<hostname>", int(1, 1_000_000, ""), "100", Reload,
            "Share of users that an agent gets, relative to the others of its subcluster: 200 gets twice as many as 100. The name must be one of an agents list.";
    }

    /// `/vsmserver/logging`: the broker's log.
    vsmserver_logging {
        LOG_TO_FILE: bool, "/vsmserver/logging/log_to_file", Bool, "false", Restart,
            "Write the broker's log to logfile, besides standard error (the journal, under systemd).";
        LOGFILE: PathBuf, "/vsmserver/logging/logfile", Path, "/var/log/vsmserver.log", Restart,
            "File that the broker's log goes to where log_to_file is set; a reload opens it anew.";
        LOG_TO_SYSLOG: bool, "/vsmserver/logging/log_to_syslog", Bool, "false", Restart,
            "Send the broker's log to the local syslog.";
        SYSLOG_FACILITY: String, "/vsmserver/logging/syslog_facility", FACILITY, "local0", Restart,
            "Syslog facility of the broker's log.";
        SYSLOG_SOCKET: PathBuf, "/vsmserver/logging/syslog_socket", Path, "/dev/log", Restart,
            "Unix socket of the local syslog.";
        DEFAULTLEVEL: LogLevel, "/vsmserver/logging/defaultlevel", LEVEL, "info", Reload,
            "How much the broker logs.";
        LEVELS: LogLevel, "/vsmserver/logging/levels/<sub-logger>", LEVEL, "info", Reload,
            "How much one part of the broker logs: session, agents, ha, admin, loadinfo or extcmd; without it, defaultlevel.";
    }

    /// `/vsmagent`: the agent.
    vsmagent {
        AGENT_HOSTNAME: String, "/vsmagent/agent_hostname", Host, "", Reload,
            "Name or address under which users reach this agent; empty means the machine's own address. Needed behind NAT; must differ on each agent.";
        ALLOWED_CLIENTS: Vec<String>, "/vsmagent/allowed_clients", HOSTS, "", Reload,
            "Brokers that may connect and start sessions, in addition to holding a certificate that allows it. With a pair, both nodes. This machine and master_hostname are always allowed.";
        MASTER_HOSTNAME: String, "/vsmagent/master_hostname", Host, "localhost", Reload,
            "Where the broker is. With a pair, the name of the resource address.";
        LISTEN_PORT: u16, "/vsmagent/listen_port", PORT, "904", Restart,
            "TCP port on which the agent answers brokers, by mutual TLS. Should equal /vsm/vsm_agent_port.";
        DEFAULT_ENVIRONMENT: String, "/vsmagent/default_environment/<VAR>", Text, "", Reload,
            "Environment variable given to every new session; the user's login shell may change it.";
        DEFAULT_GEOMETRY: Geometry, "/vsmagent/default_geometry", Kind::Geometry, "1280x800", Reload,
            "Size of a new desktop where the viewer asks for none.";
        DISPLAY_MIN: u32, "/vsmagent/display_min", int(1, 65_535, ""), "10", Reload,
            "Lowest X display number for sessions.";
        DISPLAY_MAX: u32, "/vsmagent/display_max", int(1, 65_535, ""), "2000", Reload,
            "Highest X display number for sessions; with display_min it bounds how many sessions the agent can have.";
        DISPLAY_QUARANTINE: Duration, "/vsmagent/display_quarantine", seconds(0, 3600), "10s", Reload,
            "How long a display number rests after its session ended before it is used again.";
        MAKE_HOMEDIR: bool, "/vsmagent/make_homedir", Bool, "true", Reload,
            "Make the home directory of a user who has none.";
        MAKE_HOMEDIR_MODE: u32, "/vsmagent/make_homedir_mode", Mode, "0700", Reload,
            "Mode of a home directory made so.";
        XSERVER_ARGS: Vec<String>, "/vsmagent/xserver_args", WORDS, "-br", Reload,
            "Further arguments for Xvnc. Affects sessions started later. Those that let others in, such as -ac, are left out with a warning. Its own limits, such as -MaxIdleTime, end a desktop without a warning: use /vsmserver/limits.";
        XSERVER: PathBuf, "/vsmagent/xserver", OptionalPath, "", Reload,
            "The Xvnc program; empty means the first of Xtigervnc and Xvnc that is found in PATH.";
        XAUTHORITY_LOCATION: XauthorityLocation, "/vsmagent/xauthority_location", Choice(XauthorityLocation::WORDS), "sessiondir", Reload,
            "Where a session's X authority file lives; XAUTHORITY is set to match. In the home, an entry is for its host alone and goes with its session.";
        XVNC_START_TIMEOUT: Duration, "/vsmagent/xvnc_start_timeout", seconds(1, 600), "20s", Reload,
            "How long Xvnc may take to answer before the start counts as failed.";
        SESSION_SCRIPT: PathBuf, "/vsmagent/session_script", Path, "/etc/vsm/xsession", Reload,
            "Program that runs the user's desktop; the session ends with it.";
        NOTIFY_PROGRAM: PathBuf, "/vsmagent/notify_program", Path, "/etc/vsm/notify", Reload,
            "Program that shows a text on a desktop; it runs as the desktop's user with the text as its argument.";
        ASK_PROGRAM: PathBuf, "/vsmagent/ask_program", Path, "/etc/vsm/ask", Reload,
            "Program that asks the user of a desktop whether somebody may shadow it; it runs as that user with view or control and the other's name as its arguments.";
        PAM_SERVICE: String, "/vsmagent/pam_service", Text, "vsm", Reload,
            "PAM service that a session is opened with.";
        SECOND_VIEWER: SecondViewer, "/vsmagent/second_viewer", Choice(SecondViewer::WORDS), "replace", Reload,
            "What happens when a viewer comes to a session that already has one.";
        CLIPBOARD_TO_CLIENT: bool, "/vsmagent/clipboard_to_client", Bool, "true", Reload,
            "Whether what is copied in a desktop reaches its viewer. Affects sessions started later; to be the same on all agents.";
        CLIPBOARD_FROM_CLIENT: bool, "/vsmagent/clipboard_from_client", Bool, "true", Reload,
            "Whether what is copied on the user's machine reaches the desktop. Affects sessions started later; to be the same on all agents.";
        STATE_DIR: PathBuf, "/vsmagent/state_dir", Path, "/var/lib/vsm-agent", Restart,
            "Directory of the records of sessions, which outlive the agent's own restart.";
        RUN_DIR: PathBuf, "/vsmagent/run_dir", Path, "/run/vsm", Restart,
            "Directory of sockets and other files that a reboot may take away.";
        MAX_SESSIONS: u32, "/vsmagent/max_sessions", int(0, 65_535, "sessions"), "0", Reload,
            "Most sessions on this agent; 0 means as many as there are display numbers.";
        REQUIRE_LIMITS: bool, "/vsmagent/require_limits", Bool, "false", Reload,
            "Refuse a session whose limits of memory, CPU or processes this host cannot hold it to, instead of starting it without them.";
        ENDED_KEEP: u32, "/vsmagent/ended_keep", int(0, 1_000_000, "records"), "1000", Reload,
            "How many records of ended sessions are kept, the newest first.";
    }

    /// `/vsmagent/logging`: the agent's log.
    vsmagent_logging {
        LOG_TO_FILE: bool, "/vsmagent/logging/log_to_file", Bool, "false", Restart,
            "Write the agent's log to logfile, besides standard error (the journal, under systemd).";
        LOGFILE: PathBuf, "/vsmagent/logging/logfile", Path, "/var/log/vsmagent.log", Restart,
            "File that the agent's log goes to where log_to_file is set; a reload opens it anew.";
        LOG_TO_SYSLOG: bool, "/vsmagent/logging/log_to_syslog", Bool, "false", Restart,
            "Send the agent's log to the local syslog.";
        SYSLOG_FACILITY: String, "/vsmagent/logging/syslog_facility", FACILITY, "local0", Restart,
            "Syslog facility of the agent's log.";
        SYSLOG_SOCKET: PathBuf, "/vsmagent/logging/syslog_socket", Path, "/dev/log", Restart,
            "Unix socket of the local syslog.";
        DEFAULTLEVEL: LogLevel, "/vsmagent/logging/defaultlevel", LEVEL, "info", Reload,
            "How much the agent logs.";
        LEVELS: LogLevel, "/vsmagent/logging/levels/<sub-logger>", LEVEL, "info", Reload,
            "How much one part of the agent logs: session, broker or loadinfo; without it, defaultlevel.";
    }

    /// `/vsm`: ports that both services must agree on.
    vsm {
        VSM_SERVER_PORT: u16, "/vsm/vsm_server_port", PORT, "9000", Reload,
            "Port on which brokers are reached by agents and by each other.";
        VSM_AGENT_PORT: u16, "/vsm/vsm_agent_port", PORT, "904", Restart,
            "Port on which agents are reached by brokers.";
    }

    /// `/tls`: this host's certificate.
    tls {
        CA_FILE: PathBuf, "/tls/ca_file", Path, "/etc/vsm/pki/ca.pem", Restart,
            "Certificate of the cluster's authority, PEM.";
        CERT_FILE: PathBuf, "/tls/cert_file", Path, "/etc/vsm/pki/host.pem", Restart,
            "Certificate of this host, PEM.";
        KEY_FILE: PathBuf, "/tls/key_file", Path, "/etc/vsm/pki/host.key", Restart,
            "Private key of this host, PEM, readable by root alone.";
    }

    /// `/sessionstart`: what an empty desktop shows first.
    sessionstart {
        BACKGROUND_COLOR: String, "/sessionstart/background_color", Colour, "#35506b", Reload,
            "Colour of the screen until the desktop has drawn its own.";
        BACKGROUND_IMAGE: PathBuf, "/sessionstart/background_image", OptionalPath, "", Reload,
            "Picture shown until the desktop has drawn its own, where hsetroot is installed; empty means none.";
        KEYBOARD_LAYOUT: String, "/sessionstart/keyboard_layout", Text, "us", Reload,
            "XKB layout that a session starts with, such as de or us(alt-intl).";
    }

    /// `/shadowing`: looking at someone else's session.
    shadowing {
        ALLOWED_SHADOWERS: Vec<String>, "/shadowing/allowed_shadowers", WORDS, "", Reload,
            "Users, and groups with a + before the name, who may shadow other users' sessions; empty means nobody.";
        SHADOWING_MODE: ShadowingMode, "/shadowing/shadowing_mode", Choice(ShadowingMode::WORDS), "ask", Reload,
            "How a session meets a shadower. Affects sessions started later; to be the same on all agents.";
    }

    /// `/profiles` and `/profiles/<key>`: the desktops that a user can choose from.
    profiles {
        DEFAULT: String, "/profiles/default", Text, "", Reload,
            "Key of the profile that is chosen where the user asks for none; empty has the user choose where there are several.";
        ORDER: Vec<String>, "/profiles/order", WORDS, "", Reload,
            "Keys of the profiles in the order in which they are offered; the others follow by key.";
        SHOW_INTRO: bool, "/profiles/show_intro", Bool, "false", Reload,
            "Show the introduction before the choice.";
        GREETING: String, "/profiles/greeting", Text, "", Reload,
            "Heading of the choice; markup is allowed.";
        INTRODUCTION: String, "/profiles/introduction", Text, "", Reload,
            "Text of the introduction; markup is allowed.";
        XDG_SESSION: Vec<String>, "/profiles/<key>/xdg_session", WORDS, "", Reload,
            "Desktop sessions that this profile may start, by the names of their .desktop files in /etc/X11/sessions, /usr/local/share/xsessions or /usr/share/xsessions; the first one installed counts, and with none the profile is hidden.";
        NAME: String, "/profiles/<key>/name", Text, "", Reload,
            "Name of the profile, for people.";
        DESCRIPTION: String, "/profiles/<key>/description", Text, "", Reload,
            "What the profile is for; markup is allowed.";
        ICON: PathBuf, "/profiles/<key>/icon", OptionalPath, "", Reload,
            "PNG picture beside the profile's name; empty means none.";
        SCREENSHOT: PathBuf, "/profiles/<key>/screenshot", OptionalPath, "", Reload,
            "PNG picture of the desktop; empty means none. No choice shows it yet.";
        CMDLINE: String, "/profiles/<key>/cmdline", Text, "", Reload,
            "Command that starts the desktop, by the user's shell, with the Exec line of the desktop session in XDG_EXEC; empty means that line itself.";
        TESTCMD: String, "/profiles/<key>/testcmd", Text, "", Reload,
            "Command that decides whether the profile is offered: it runs as the user, by /bin/sh and before there is a display; with a nonzero exit status, or after 5 s, the profile is hidden.";
    }
}
