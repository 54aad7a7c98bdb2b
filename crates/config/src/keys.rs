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
            "TCP port on which the broker accepts connections from agents, the other node and administrators, with mutual TLS. Should equal /vsm/vsm_server_port.";
        AGENT_CERTIFICATE_LIFE: Duration, "/vsmserver/agent_certificate_life", seconds(60, 71_280_000), "7776000", Reload,
            "How long a certificate is valid that a broker signs for an agent. An agent renews it when two thirds of that are over.";
        ALLOWED_CLIENTS: Vec<String>, "/vsmserver/allowed_clients", HOSTS, "", Reload,
            "Hosts that may make privileged calls over the network, such as ending sessions. They also need a certificate that allows it. This machine and the other node of the pair are always allowed.";
        ALLOWED_GROUPS: Vec<String>, "/vsmserver/allowed_groups", WORDS, "", Reload,
            "Groups whose members may use the service; empty means everybody. Checked at each login and reconnect; running sessions are not affected.";
        ADMIN_EMAIL: Vec<String>, "/vsmserver/admin_email", WORDS, "root@localhost", Reload,
            "Mail addresses of the administrators. Mail is sent when an agent or the other node has been away for a minute, when capacity runs out, and when a configuration is refused. Empty means no mail.";
        MAIL_PROGRAM: PathBuf, "/vsmserver/mail_program", Path, "/usr/sbin/sendmail", Reload,
            "Program that sends mail, called as sendmail -t -oi with the message on standard input. If it does not exist, no mail is sent.";
        MAX_SESSIONS_PER_USER: u32, "/vsmserver/max_sessions_per_user", int(0, 10_000, "sessions"), "1", Reload,
            "Maximum number of sessions per user; 0 means no limit. All sessions of a user are kept on one agent where possible.";
        PLACEMENT: Placement, "/vsmserver/placement", Choice(Placement::WORDS), "users", Reload,
            "How the agent for a new session is chosen: users takes the one with the fewest users per weight, load the one with the lowest measured load.";
        RAM_PER_USER: u32, "/vsmserver/ram_per_user", int(1, 1_048_576, "MiB"), "500", Reload,
            "Estimated memory per user. Used for placement by load until real usage is measured, and to compute how many more users fit.";
        CPU_PER_USER: u32, "/vsmserver/cpu_per_user", int(0, 100_000, "percent of a CPU"), "10", Reload,
            "Estimated CPU time per user. Used for placement by load until real usage is measured.";
        CAPACITY_WARN: u32, "/vsmserver/capacity_warn", int(0, 50, "percent"), "10", Reload,
            "Free capacity, in percent, below which a subcluster is reported as low; 0 reports only full ones.";
        UNREACHABLE_GRACE: Duration, "/vsmserver/unreachable_grace", seconds(0, 604_800), "300s", Reload,
            "How long a session on an agent that does not answer still counts against max_sessions_per_user.";
        START_UNKNOWN_GRACE: Duration, "/vsmserver/start_unknown_grace", seconds(1, 3600), "10s", Reload,
            "How long to wait for a start whose outcome is unknown. Then it is given up for good, and another agent is tried.";
        AGENT_FAILURE_PENALTY: Duration, "/vsmserver/agent_failure_penalty", seconds(0, 86_400), "300s", Reload,
            "How long an agent that failed to start a session is tried only after all others.";
        START_TIMEOUT: Duration, "/vsmserver/start_timeout", seconds(1, 600), "30s", Reload,
            "How long one agent may take to start a session.";
        START_ATTEMPTS: u32, "/vsmserver/start_attempts", int(1, 16, "agents"), "3", Reload,
            "How many agents one login tries before it tells the user that no session could be started.";
        LOGIN_TIMEOUT: Duration, "/vsmserver/login_timeout", seconds(1, 3600), "60s", Reload,
            "How long a login may take in total.";
        USER_SOCKET: PathBuf, "/vsmserver/user_socket", Path, "/run/vsm/vsmserver.sock", Restart,
            "Unix socket through which users reach the broker, by way of vsm-login. Anyone on the machine may connect; the broker identifies callers by their peer credentials.";
        ADMIN_SOCKET: PathBuf, "/vsmserver/admin_socket", Path, "/run/vsm/vsmserver-admin.sock", Restart,
            "Unix socket for vsmctl, open to root and to admin_group.";
        ADMIN_GROUP: String, "/vsmserver/admin_group", Text, "vsmadmin", Restart,
            "Group whose members may administer this broker over admin_socket.";
        WEB_SOCKET: PathBuf, "/vsmserver/web_socket", Path, "/run/vsm-web/vsmserver.sock", Restart,
            "Unix socket on which vsm-web hands over what an OpenID provider says. It takes the group of its folder, which the package vsm-web makes; where there is no such folder, there is no such socket.";
        STATE_DIR: PathBuf, "/vsmserver/state_dir", Path, "/var/lib/vsm", Restart,
            "Directory of the session table. Must be on a local disk; never shared between the two nodes.";
        ALLOW_START_COMMAND: bool, "/vsmserver/allow_start_command", Bool, "true", Reload,
            "Whether users may request a start command instead of the full desktop. Running desktops keep theirs.";
        ONE_LOGIN: bool, "/vsmserver/one_login", Bool, "true", Reload,
            "Whether users who have logged in at the broker need no second login at the session host. The client makes a new key each time; it is valid once, for this session only, and for one_login_time.";
        ONE_LOGIN_TIME: Duration, "/vsmserver/one_login_time", seconds(1, 600), "300s", Reload,
            "How long a one-time key is valid after the broker's answer. When many users come back at once, sshd on a session host may turn a client away for minutes. A client that comes too late logs in there as if it had no key.";
        BASTION: bool, "/vsmserver/bastion", Bool, "false", Reload,
            "Whether users reach their session hosts through the brokers, for sites where they cannot connect directly. vsm-login on the broker relays their ssh connection to the agent, under the agent's name in its subcluster. sshd need not allow any forwarding.";
        BASTION_PORT: u16, "/vsmserver/bastion_port", PORT, "22", Reload,
            "Port of sshd on the session hosts; used if bastion is on.";
        WATCH_CONFIG: bool, "/vsmserver/watch_config", Bool, "false", Reload,
            "Reload automatically when a configuration file changes, as SIGHUP does. A bad configuration is refused as a whole, and the old one stays in effect.";
    }

    /// `/vsmserver/openid`: logins by browser that an OpenID provider vouches for.
    openid {
        ISSUER: String, "/vsmserver/openid/issuer", Text, "", Reload,
            "Address of the OpenID provider by which users may log in with a browser, exactly as its tokens name it, such as `https://login.example.org/realms/site`. Empty means that there is none.";
        CLIENT_ID: String, "/vsmserver/openid/client_id", Text, "", Reload,
            "Name by which the OpenID provider knows this site's desktops. A token for another client is refused.";
        KEYS_FILE: PathBuf, "/vsmserver/openid/keys_file", OptionalPath, "", Reload,
            "File with the public keys by which the provider signs its tokens, as a JSON Web Key Set. Empty means that vsmserver fetches them from the provider.";
        CA_FILE: PathBuf, "/vsmserver/openid/ca_file", Path, "/etc/ssl/certs/ca-certificates.crt", Reload,
            "Certificates of the authorities by which the provider's host is known, in PEM; for vsmserver and vsm-web.";
        CLAIM: String, "/vsmserver/openid/claim", Text, "preferred_username", Reload,
            "Claim of the token that says who the user is. It has to be one that users cannot change at the provider. Of email the provider must say that it is verified.";
        DOMAIN: String, "/vsmserver/openid/domain", Text, "", Reload,
            "Domain that stands in that claim behind the login name and an @. It is taken off, and users of other domains are refused. Empty means that the claim is the login name.";
        FIRST_UID: u32, "/vsmserver/openid/first_uid", int(1, 4_294_967_293, ""), "1000", Reload,
            "Lowest user id of those who may log in by OpenID Connect. So neither root nor a system account can.";
        ALLOWED_GROUPS: Vec<String>, "/vsmserver/openid/allowed_groups", WORDS, "", Reload,
            "Groups of the provider, one of which the token has to name; empty means that it need not. They are beside the groups of this host: /vsmserver/allowed_groups holds too.";
        GROUPS_CLAIM: String, "/vsmserver/openid/groups_claim", Text, "groups", Reload,
            "Claim of the token with the user's groups at the provider, for allowed_groups.";
    }

    /// `/vsmserver/trail`: where the trail of events goes beyond the session table.
    trail {
        FILE: PathBuf, "/vsmserver/trail/file", OptionalPath, "", Reload,
            "File to which each event of the trail is appended, one JSON object a line. Empty: none. Rename it to rotate it; a new one is made.";
        SYSLOG: bool, "/vsmserver/trail/syslog", Bool, "false", Reload,
            "Send each event of the trail to the local syslog or journal, as vsm-trail with facility authpriv, by /vsmserver/logging/syslog_socket.";
    }

    /// `/vsmserver/hooks`: programs that root provides for logins.
    hooks {
        STARTUP_DIR: PathBuf, "/vsmserver/hooks/startup_dir", Path, "/etc/vsm/sessionstartup.d", Reload,
            "Directory of programs that run as root on the broker, in name order, after a session has started and before the user gets the answer.";
        RECONNECT_DIR: PathBuf, "/vsmserver/hooks/reconnect_dir", Path, "/etc/vsm/sessionreconnect.d", Reload,
            "Directory of programs that run as root on the broker, in name order, before the user gets the answer to a reconnect.";
        TIMEOUT: Duration, "/vsmserver/hooks/timeout", seconds(1, 600), "10s", Reload,
            "How long one such program may run. After that it is ended, with everything it started, and counts as failed.";
        ON_FAILURE: OnHookFailure, "/vsmserver/hooks/on_failure", Choice(OnHookFailure::WORDS), "continue", Reload,
            "What happens to the login when such a program fails or takes too long: continue (the failure is logged and the login goes on), or refuse (the user is told, and a desktop that was just started is ended).";
    }

    /// `/vsmserver/HA`: the pair.
    ha {
        ENABLED: bool, "/vsmserver/HA/enabled", Bool, "false", Restart,
            "Whether this broker is one of a pair. Needs exactly two entries in nodes.";
        NODES: Vec<String>, "/vsmserver/HA/nodes", HOSTS, "", Restart,
            "Host names of both nodes of the pair, including this one, so that the file can be the same on both. One entry must match this machine, by a local address or by the name that `uname -n` prints.";
        RESOURCE_ADDRESS: String, "/vsmserver/HA/resource_address", Host, "", Restart,
            "Name or address that moves to the active node; users and agents connect to it.";
        ROLE_SOURCE: RoleSource, "/vsmserver/HA/role_source", Choice(RoleSource::WORDS), "", Restart,
            "What tells a node to try to become active: that it holds resource_address (address), the cluster software (cluster), or requests from users (request). Empty means address if resource_address is set, else request.";
        ACK_TIMEOUT: Duration, "/vsmserver/HA/ack_timeout", millis(10, 60_000), "500ms", Reload,
            "How long the other node may take to make a change durable before the witnesses take its place.";
        SOLO_CREATE: SoloCreate, "/vsmserver/HA/solo_create", Choice(SoloCreate::WORDS), "refuse", Reload,
            "What a node does with requests for new sessions while it reaches neither the other node nor the witnesses. With allow_and_mark, a user may end up with more sessions than allowed until the nodes reach each other again.";
        CHANGELOG_KEEP: u64, "/vsmserver/HA/changelog_keep", int(100, 100_000_000, "changes"), "100000", Restart,
            "How many changes are kept for a node that was away. A node that missed more gets the whole table.";
        OBSERVERS: Vec<String>, "/vsmserver/HA/observers", HOSTS, "", Reload,
            "Hosts that may follow the pair read-only with vsm-sync.";
    }

    /// `/vsmserver/subclusters/<name>`: read as a whole by [`crate::Config::subclusters`].
    subclusters {
        AGENTS: Vec<String>, "/vsmserver/subclusters/<name>/agents", HOSTS, "", Reload,
            "Agents for new sessions, each by the name under which the broker reaches it. An agent that is removed keeps its sessions. Without any subcluster, there is one named Default with 127.0.0.1. In a pair, no list may contain a loopback address.";
        USERS: Vec<String>, "/vsmserver/subclusters/<name>/users", WORDS, "", Reload,
            "Users whose new sessions go to this subcluster; takes precedence over groups. A subcluster with neither users nor groups is the default one; there can be only one.";
        GROUPS: Vec<String>, "/vsmserver/subclusters/<name>/groups", WORDS, "", Reload,
            "Groups whose members' new sessions go to this subcluster.";
        MAX_USERS_PER_AGENT: u32, "/vsmserver/subclusters/<name>/max_users_per_agent", int(0, 1_000_000, "users"), "0", Reload,
            "Maximum number of users on one agent of this subcluster; 0 means no limit. A full agent takes no new users. An agent in two subclusters has the lower limit.";
        SESSION_MEMORY_MAX: u64, "/vsmserver/subclusters/<name>/session_memory_max", int(0, 16_777_216, "MiB"), "0", Reload,
            "Memory that one session may use; 0 means no limit. A session that exceeds it is killed as a whole, and its user is told at the next login. Needs cgroup v2 with the memory controller on the agents. Affects sessions started later.";
        SESSION_CPU_MAX: u32, "/vsmserver/subclusters/<name>/session_cpu_max", int(0, 100_000, "percent of a CPU"), "0", Reload,
            "CPU time that one session may use: 200 means two CPUs, 0 no limit. Needs cgroup v2 with the cpu controller on the agents. Affects sessions started later.";
        SESSION_PIDS_MAX: u32, "/vsmserver/subclusters/<name>/session_pids_max", int(0, 4_194_304, "processes and threads"), "0", Reload,
            "Number of processes and threads that one session may have; 0 means no limit. A desktop needs a few hundred. Needs cgroup v2 with the pids controller on the agents. Affects sessions started later.";
    }

    /// `/vsmserver/limits/<name>`: read as a whole by [`crate::Config::limits`].
    limits {
        USERS: Vec<String>, "/vsmserver/limits/<name>/users", WORDS, "", Reload,
            "Users whose desktops have these limits; takes precedence over groups. A folder without users, groups and subclusters has the limits of everybody else; there can be only one. What a folder does not set is not limited: nothing is inherited from another folder.";
        GROUPS: Vec<String>, "/vsmserver/limits/<name>/groups", WORDS, "", Reload,
            "Groups whose members' desktops have these limits; takes precedence over subclusters.";
        SUBCLUSTERS: Vec<String>, "/vsmserver/limits/<name>/subclusters", WORDS, "", Reload,
            "Subclusters whose users' desktops have these limits.";
        DISCONNECTED_MAX: Duration, "/vsmserver/limits/<name>/disconnected_max", LIFE, "0", Reload,
            "End a desktop after this time without a viewer; 0 means never. Reconnecting cancels it.";
        CONNECTED_MAX: Duration, "/vsmserver/limits/<name>/connected_max", LIFE, "0", Reload,
            "End a desktop that has been viewed for this time without a break; 0 means never.";
        IDLE_MAX: Duration, "/vsmserver/limits/<name>/idle_max", LIFE, "0", Reload,
            "End a desktop after this time without a key press or pointer movement, whether it is viewed or not; 0 means never.";
        IDLE_DISCONNECT: Duration, "/vsmserver/limits/<name>/idle_disconnect", LIFE, "0", Reload,
            "Disconnect the viewer after this time without a key press or pointer movement; the desktop keeps running. 0 means never.";
        LIFETIME_MAX: Duration, "/vsmserver/limits/<name>/lifetime_max", LIFE, "0", Reload,
            "End a desktop this time after its start, whether it is in use or not; 0 means never.";
        WARN_BEFORE: Duration, "/vsmserver/limits/<name>/warn_before", LIFE, "5m", Reload,
            "How long before a limit takes effect the desktop is warned, by /vsmagent/notify_program; must be shorter than each limit of the folder. No limit, and no change of one, takes effect until the warning has been shown for this time. 0 means no warning.";
        WARN_AGAIN: Duration, "/vsmserver/limits/<name>/warn_again", LIFE, "1m", Reload,
            "How long before a limit takes effect the desktop is warned once more, if this is shorter than warn_before; 0 means no second warning.";
        EXTENSION: Duration, "/vsmserver/limits/<name>/extension", LIFE, "30m", Reload,
            "By how much users can extend the time until the next limit, with vsm-extend or vsm extend; 0 means not at all.";
        EXTENSIONS_MAX: u32, "/vsmserver/limits/<name>/extensions_max", int(0, 10_000, "times"), "2", Reload,
            "How often users can extend a limit. The count starts anew when the time of the limit does: with each connection, with each time without one, or after each key press or pointer movement; never for lifetime_max.";
    }

    /// `/vsmserver/agents`: what the broker knows of single agents.
    agents {
        DRAINING: Vec<String>, "/vsmserver/agents/draining", HOSTS, "", Reload,
            "Agents that get no new sessions. Their existing sessions go on and can be reconnected.";
        WEIGHTS: u32, "/vsmserver/agents/weights/<hostname>", int(1, 1_000_000, ""), "100", Reload,
            "Share of users that an agent gets, relative to the others of its subcluster: 200 gets twice as many as 100. The name must be in the agents list of a subcluster.";
    }

    /// `/vsmserver/logging`: the broker's log.
    vsmserver_logging {
        LOG_TO_FILE: bool, "/vsmserver/logging/log_to_file", Bool, "false", Restart,
            "Write the broker's log to logfile, in addition to standard error (the journal, under systemd).";
        LOGFILE: PathBuf, "/vsmserver/logging/logfile", Path, "/var/log/vsmserver.log", Restart,
            "File for the broker's log if log_to_file is set; a reload reopens it.";
        LOG_TO_SYSLOG: bool, "/vsmserver/logging/log_to_syslog", Bool, "false", Restart,
            "Send the broker's log to the local syslog.";
        SYSLOG_FACILITY: String, "/vsmserver/logging/syslog_facility", FACILITY, "local0", Restart,
            "Syslog facility of the broker's log.";
        SYSLOG_SOCKET: PathBuf, "/vsmserver/logging/syslog_socket", Path, "/dev/log", Restart,
            "Unix socket of the local syslog.";
        DEFAULTLEVEL: LogLevel, "/vsmserver/logging/defaultlevel", LEVEL, "info", Reload,
            "How much the broker logs.";
        LEVELS: LogLevel, "/vsmserver/logging/levels/<sub-logger>", LEVEL, "info", Reload,
            "How much one part of the broker logs: session, agents, ha, admin, loadinfo or extcmd. If not set, defaultlevel applies.";
    }

    /// `/vsmagent`: the agent.
    vsmagent {
        AGENT_HOSTNAME: String, "/vsmagent/agent_hostname", Host, "", Reload,
            "Name or address under which users reach this agent; empty means the machine's own address. Needed behind NAT. Must differ on each agent.";
        ALLOWED_CLIENTS: Vec<String>, "/vsmagent/allowed_clients", HOSTS, "", Reload,
            "Brokers that may connect and start sessions; for a pair, both nodes. They also need a certificate that allows it. This machine and master_hostname are always allowed.";
        MASTER_HOSTNAME: String, "/vsmagent/master_hostname", Host, "localhost", Reload,
            "Name or address of the broker; for a pair, the name of the resource address.";
        LISTEN_PORT: u16, "/vsmagent/listen_port", PORT, "904", Restart,
            "TCP port on which the agent accepts connections from brokers, with mutual TLS. Should equal /vsm/vsm_agent_port.";
        DEFAULT_ENVIRONMENT: String, "/vsmagent/default_environment/<VAR>", Text, "", Reload,
            "Environment variable set in every new session; the user's login shell may change it.";
        DEFAULT_GEOMETRY: Geometry, "/vsmagent/default_geometry", Kind::Geometry, "1280x800", Reload,
            "Size of a new desktop if the viewer requests none.";
        DISPLAY_MIN: u32, "/vsmagent/display_min", int(1, 65_535, ""), "10", Reload,
            "Lowest X display number for sessions.";
        DISPLAY_MAX: u32, "/vsmagent/display_max", int(1, 65_535, ""), "2000", Reload,
            "Highest X display number for sessions. Together with display_min, it limits how many sessions the agent can have.";
        DISPLAY_QUARANTINE: Duration, "/vsmagent/display_quarantine", seconds(0, 3600), "10s", Reload,
            "How long a display number stays unused after its session has ended.";
        MAKE_HOMEDIR: bool, "/vsmagent/make_homedir", Bool, "true", Reload,
            "Create the home directory of a user who has none.";
        MAKE_HOMEDIR_MODE: u32, "/vsmagent/make_homedir_mode", Mode, "0700", Reload,
            "Mode of a home directory that make_homedir creates.";
        XSERVER_ARGS: Vec<String>, "/vsmagent/xserver_args", WORDS, "-br", Reload,
            "Additional arguments for Xvnc. Affects sessions started later. Arguments that let others in, such as -ac, are left out with a warning. Xvnc's own limits, such as -MaxIdleTime, end a desktop without a warning: use /vsmserver/limits instead.";
        XSERVER: PathBuf, "/vsmagent/xserver", OptionalPath, "", Reload,
            "The Xvnc program; empty means the first of Xtigervnc and Xvnc that is found in PATH.";
        XAUTHORITY_LOCATION: XauthorityLocation, "/vsmagent/xauthority_location", Choice(XauthorityLocation::WORDS), "sessiondir", Reload,
            "Where a session's X authority file is kept; XAUTHORITY is set to match. In the home directory, each entry is for one host only and is removed with its session.";
        XVNC_START_TIMEOUT: Duration, "/vsmagent/xvnc_start_timeout", seconds(1, 600), "20s", Reload,
            "How long Xvnc may take to answer before the start counts as failed.";
        SESSION_SCRIPT: PathBuf, "/vsmagent/session_script", Path, "/etc/vsm/xsession", Reload,
            "Program that runs the user's desktop; the session ends when this program ends.";
        NOTIFY_PROGRAM: PathBuf, "/vsmagent/notify_program", Path, "/etc/vsm/notify", Reload,
            "Program that shows a message on a desktop. It runs as the desktop's user, with the message as its argument.";
        ASK_PROGRAM: PathBuf, "/vsmagent/ask_program", Path, "/etc/vsm/ask", Reload,
            "Program that asks the user of a desktop whether somebody may shadow it. It runs as that user; its arguments are view or control, and the other user's name.";
        PAM_SERVICE: String, "/vsmagent/pam_service", Text, "vsm", Reload,
            "PAM service used to open a session.";
        SECOND_VIEWER: SecondViewer, "/vsmagent/second_viewer", Choice(SecondViewer::WORDS), "replace", Reload,
            "What happens when a viewer connects to a session that already has one: replace disconnects the old one, share lets both see the desktop, refuse turns the new one away.";
        CLIPBOARD_TO_CLIENT: bool, "/vsmagent/clipboard_to_client", Bool, "true", Reload,
            "Whether what is copied in a desktop reaches its viewer. Affects sessions started later; should be the same on all agents.";
        CLIPBOARD_FROM_CLIENT: bool, "/vsmagent/clipboard_from_client", Bool, "true", Reload,
            "Whether what is copied on the user's machine reaches the desktop. Affects sessions started later; should be the same on all agents.";
        FILES_TO_CLIENT: bool, "/vsmagent/files_to_client", Bool, "true", Reload,
            "Whether users may fetch files of theirs from this host through their desktop's page in a browser. Affects sessions started later; should be the same on all agents. It does not concern scp and sftp, which sshd's own configuration allows or forbids.";
        FILES_FROM_CLIENT: bool, "/vsmagent/files_from_client", Bool, "true", Reload,
            "Whether users may put files on this host through their desktop's page in a browser; otherwise as files_to_client.";
        STATE_DIR: PathBuf, "/vsmagent/state_dir", Path, "/var/lib/vsm-agent", Restart,
            "Directory of the session records, which outlive a restart of the agent.";
        RUN_DIR: PathBuf, "/vsmagent/run_dir", Path, "/run/vsm", Restart,
            "Directory of sockets and other files that need not survive a reboot.";
        MAX_SESSIONS: u32, "/vsmagent/max_sessions", int(0, 65_535, "sessions"), "0", Reload,
            "Maximum number of sessions on this agent; 0 means as many as there are display numbers.";
        REQUIRE_LIMITS: bool, "/vsmagent/require_limits", Bool, "false", Reload,
            "Refuse a session if this host cannot enforce its limits on memory, CPU or processes, instead of starting it without them.";
        ENDED_KEEP: u32, "/vsmagent/ended_keep", int(0, 1_000_000, "records"), "1000", Reload,
            "How many records of ended sessions are kept; the oldest are removed first.";
    }

    /// `/vsmagent/logging`: the agent's log.
    vsmagent_logging {
        LOG_TO_FILE: bool, "/vsmagent/logging/log_to_file", Bool, "false", Restart,
            "Write the agent's log to logfile, in addition to standard error (the journal, under systemd).";
        LOGFILE: PathBuf, "/vsmagent/logging/logfile", Path, "/var/log/vsmagent.log", Restart,
            "File for the agent's log if log_to_file is set; a reload reopens it.";
        LOG_TO_SYSLOG: bool, "/vsmagent/logging/log_to_syslog", Bool, "false", Restart,
            "Send the agent's log to the local syslog.";
        SYSLOG_FACILITY: String, "/vsmagent/logging/syslog_facility", FACILITY, "local0", Restart,
            "Syslog facility of the agent's log.";
        SYSLOG_SOCKET: PathBuf, "/vsmagent/logging/syslog_socket", Path, "/dev/log", Restart,
            "Unix socket of the local syslog.";
        DEFAULTLEVEL: LogLevel, "/vsmagent/logging/defaultlevel", LEVEL, "info", Reload,
            "How much the agent logs.";
        LEVELS: LogLevel, "/vsmagent/logging/levels/<sub-logger>", LEVEL, "info", Reload,
            "How much one part of the agent logs: session, broker or loadinfo. If not set, defaultlevel applies.";
    }

    /// `/vsm`: ports that both services must agree on.
    vsm {
        VSM_SERVER_PORT: u16, "/vsm/vsm_server_port", PORT, "9000", Reload,
            "Port on which agents and the other node connect to a broker.";
        VSM_AGENT_PORT: u16, "/vsm/vsm_agent_port", PORT, "904", Restart,
            "Port on which brokers connect to agents.";
    }

    /// `/tls`: this host's certificate.
    tls {
        CA_FILE: PathBuf, "/tls/ca_file", Path, "/etc/vsm/pki/ca.pem", Reload,
            "Certificate of the cluster's certificate authority, in PEM format.";
        CERT_FILE: PathBuf, "/tls/cert_file", Path, "/etc/vsm/pki/host.pem", Reload,
            "Certificate of this host, in PEM format.";
        KEY_FILE: PathBuf, "/tls/key_file", Path, "/etc/vsm/pki/host.key", Reload,
            "Private key of this host, in PEM format, readable by root only; on a broker by the group vsmserver too.";
        ISSUER_CERT_FILE: PathBuf, "/tls/issuer_cert_file", Path, "/etc/vsm/pki/issuer.pem", Reload,
            "Brokers: certificate of the issuer that signs certificates for agents, in PEM format (vsmctl pki issuer).";
        ISSUER_KEY_FILE: PathBuf, "/tls/issuer_key_file", Path, "/etc/vsm/pki/issuer.key", Reload,
            "Brokers: private key of that issuer, in PEM format, readable by root and the group vsmserver only.";
    }

    /// `/sessionstart`: what an empty desktop shows first.
    sessionstart {
        BACKGROUND_COLOR: String, "/sessionstart/background_color", Colour, "#35506b", Reload,
            "Background colour until the desktop draws its own.";
        BACKGROUND_IMAGE: PathBuf, "/sessionstart/background_image", OptionalPath, "", Reload,
            "Background picture until the desktop draws its own; empty means none. Needs hsetroot.";
        KEYBOARD_LAYOUT: String, "/sessionstart/keyboard_layout", Text, "us", Reload,
            "XKB layout at the start of a session, such as de or us(alt-intl).";
    }

    /// `/shadowing`: looking at someone else's session.
    shadowing {
        ALLOWED_SHADOWERS: Vec<String>, "/shadowing/allowed_shadowers", WORDS, "", Reload,
            "Users who may shadow other users' sessions, and groups, with a + before the name; empty means nobody.";
        SHADOWING_MODE: ShadowingMode, "/shadowing/shadowing_mode", Choice(ShadowingMode::WORDS), "ask", Reload,
            "What happens when somebody wants to shadow a desktop: reject refuses, silent lets them look without telling the user, notify lets them look and tells the user, ask asks the user first. Except with reject, the user is always asked before giving control. Affects sessions started later; should be the same on all agents.";
    }

    /// `/vsmweb`: logins by browser.
    vsmweb {
        LOGIN_LIFETIME: Duration, "/vsmweb/login_lifetime", seconds(60, 2_592_000), "12h", Reload,
            "How long a login by browser lasts at most; then the user logs in again. vsmserver applies it to new logins; those that there are keep theirs.";
        LOGINS_PER_USER: u32, "/vsmweb/logins_per_user", int(1, 64, "logins"), "8", Reload,
            "How many browsers a user can be logged in with. Where one more logs in, the one that has been logged in for longest is logged out.";
        ADMIN_LIFETIME: Duration, "/vsmweb/admin_lifetime", seconds(0, 86_400), "1h", Reload,
            "How long after a login by browser an administrator can change things in it. Later they can look, and log in again before a change. With 0 they can only look. vsmserver applies it to each call.";
        LISTEN_PORT: u16, "/vsmweb/listen_port", PORT, "443", Restart,
            "TCP port on which vsm-web serves browsers by HTTPS, on all addresses of its host.";
        CERTIFICATE: PathBuf, "/vsmweb/certificate", Path, "/etc/vsm/web/cert.pem", Reload,
            "Certificate that browsers are shown, in PEM, with those of its issuers below it. It is for the name that users type: of a pair, that of the resource address.";
        KEY: PathBuf, "/vsmweb/key", Path, "/etc/vsm/web/key.pem", Reload,
            "Private key of that certificate, in PEM. Readable by the group vsm-web and nobody else.";
        TLS_1_2: bool, "/vsmweb/tls_1_2", Bool, "false", Reload,
            "Whether browsers may also use TLS 1.2, which those from before 2019 need.";
        SSH_HOST: String, "/vsmweb/ssh_host", Host, "127.0.0.1", Reload,
            "Host of the broker's sshd, through which vsm-web logs users in: this host, or, on a gateway, the resource address of the pair.";
        SSH_PORT: u16, "/vsmweb/ssh_port", PORT, "5022", Reload,
            "Port of that sshd for logins with a password or whatever it asks. The package brings an sshd for browsers alone, which listens on loopback.";
        SSH_KEY_PORT: u16, "/vsmweb/ssh_key_port", PORT, "5023", Reload,
            "Port of that sshd for browsers that are logged in, by their keys.";
        KNOWN_HOSTS: PathBuf, "/vsmweb/known_hosts", OptionalPath, "", Reload,
            "File with the keys that this sshd may have, as in ssh's known_hosts; the names in it do not matter. Empty means the keys of this host, in /etc/ssh.";
        TITLE: String, "/vsmweb/title", Text, "Linux desktops", Reload,
            "What the site calls its desktops, on each page.";
        WELCOME: String, "/vsmweb/welcome", Text, "", Reload,
            "Text above the login form, such as whom to ask for help.";
    }

    /// `/vsmweb/openid`: how browsers are led to the OpenID provider of `/vsmserver/openid`.
    web_openid {
        CLIENT_SECRET_FILE: PathBuf, "/vsmweb/openid/client_secret_file", OptionalPath, "", Reload,
            "File with the secret by which vsm-web proves to the OpenID provider that it is the client. Readable by the group vsm-web and nobody else. Empty for a public client, which has none.";
        BUTTON: String, "/vsmweb/openid/button", Text, "", Reload,
            "Text of the button that leads to the OpenID provider. Empty means a text in the user's language.";
        SCOPES: Vec<String>, "/vsmweb/openid/scopes", WORDS, "openid profile email", Reload,
            "What the OpenID provider is asked for; openid is asked for always.";
    }

    /// `/profiles` and `/profiles/<key>`: the desktops that a user can choose from.
    profiles {
        DEFAULT: String, "/profiles/default", Text, "", Reload,
            "Key of the profile for users who request none; empty lets the user choose if there are several.";
        ORDER: Vec<String>, "/profiles/order", WORDS, "", Reload,
            "Keys of the profiles in the order in which they are offered; all others follow, sorted by key.";
        SHOW_INTRO: bool, "/profiles/show_intro", Bool, "false", Reload,
            "Show the introduction before the user chooses a profile.";
        GREETING: String, "/profiles/greeting", Text, "", Reload,
            "Heading above the profiles to choose from; markup is allowed.";
        INTRODUCTION: String, "/profiles/introduction", Text, "", Reload,
            "Text of the introduction; markup is allowed.";
        XDG_SESSION: Vec<String>, "/profiles/<key>/xdg_session", WORDS, "", Reload,
            "Desktop sessions that this profile may start, by the names of their .desktop files in /etc/X11/sessions, /usr/local/share/xsessions or /usr/share/xsessions. The first one that is installed is used; if none is, the profile is hidden.";
        NAME: String, "/profiles/<key>/name", Text, "", Reload,
            "Name of the profile, as users see it.";
        DESCRIPTION: String, "/profiles/<key>/description", Text, "", Reload,
            "What the profile is for; markup is allowed.";
        ICON: PathBuf, "/profiles/<key>/icon", OptionalPath, "", Reload,
            "PNG picture beside the profile's name; empty means none.";
        SCREENSHOT: PathBuf, "/profiles/<key>/screenshot", OptionalPath, "", Reload,
            "PNG picture of the desktop; empty means none. Not shown to users yet.";
        CMDLINE: String, "/profiles/<key>/cmdline", Text, "", Reload,
            "Command that starts the desktop. The user's shell runs it, with the Exec line of the desktop session in XDG_EXEC; empty means that Exec line itself.";
        TESTCMD: String, "/profiles/<key>/testcmd", Text, "", Reload,
            "Command that decides whether the profile is offered. /bin/sh runs it as the user, before there is a display. If it exits with a nonzero status or takes longer than 5 s, the profile is hidden.";
    }
}
