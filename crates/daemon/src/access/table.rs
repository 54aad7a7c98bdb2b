//! The table: each method of each service, with who may call it.

use super::{
    Caller::{
        self, Administrator, Agent, AllowedBroker, Broker, FormerAgent, Guest, Observer,
        OtherBroker, User, Viewer, WebServer,
    },
    Method,
};

/// What users ask; a standby passes it on.
const OF_USERS: &[Caller] = &[User, OtherBroker];
/// What administrators ask; a standby passes it on.
const OF_ADMINISTRATORS: &[Caller] = &[Administrator, Caller::RemoteAdministrator, OtherBroker];
/// The same, where nothing is changed by it: also for one whose login by browser is old.
const OF_VIEWERS: &[Caller] = &[Administrator, Viewer, Caller::RemoteAdministrator, OtherBroker];
/// What brokers ask of an agent.
const OF_BROKERS: &[Caller] = &[AllowedBroker];
const ANYBODY: &[Caller] = &[User, Administrator, Viewer, Caller::Host];

const OWN: &str = "only about the caller's own sessions";
const OWN_KEYS: &str = "only about the caller's own web keys";
const EPOCH: &str = "bears an epoch of the caller's own that is not below the agent's promise";

/// All methods that any of the daemons serves.
pub const METHODS: &[Method] = &[
    Method::new("vsm.broker.v1.Broker/Login", OF_USERS, "as /vsmserver/allowed_groups says"),
    Method::new("vsm.broker.v1.Broker/ListSessions", OF_USERS, OWN),
    Method::new("vsm.broker.v1.Broker/DisconnectSession", OF_USERS, OWN),
    Method::new("vsm.broker.v1.Broker/EndSession", OF_USERS, OWN),
    Method::new("vsm.broker.v1.Broker/Shadow", OF_USERS, "as /shadowing/allowed_shadowers says"),
    Method::new("vsm.broker.v1.Broker/ExtendSession", OF_USERS, OWN),
    Method::new("vsm.broker.v1.Broker/AbandonSession", OF_USERS, OWN),
    Method::new(
        "vsm.broker.v1.Broker/AcceptWebKey",
        OF_USERS,
        "for themselves, as /vsmserver/allowed_groups says, and not by such a key",
    ),
    Method::new("vsm.broker.v1.Broker/ListWebKeys", OF_USERS, OWN_KEYS),
    Method::new("vsm.broker.v1.Broker/RevokeWebKey", OF_USERS, OWN_KEYS),
    Method::new(
        "vsm.broker.v1.OpenId/AcceptWebKey",
        &[WebServer, OtherBroker],
        "for whom a token of /vsmserver/openid/issuer names, which is for this key",
    ),
    Method::new("vsm.broker.v1.Registry/Announce", &[Agent], "for itself, by its certificate"),
    Method::new("vsm.broker.v1.Enrolment/Enrol", &[Guest], "with a token of an invitation"),
    Method::new("vsm.broker.v1.Enrolment/Renew", &[FormerAgent], "for itself"),
    Method::new("vsm.admin.v1.Identities/Invite", OF_ADMINISTRATORS, ""),
    Method::new("vsm.admin.v1.Identities/Revoke", OF_ADMINISTRATORS, ""),
    Method::new("vsm.admin.v1.Identities/Renew", OF_ADMINISTRATORS, ""),
    Method::new("vsm.admin.v1.Identities/ListIdentities", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Identities/ListAuthorities", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Admin/ListSessions", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Admin/WatchSessions", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Admin/TerminateSessions", OF_ADMINISTRATORS, ""),
    Method::new("vsm.admin.v1.Admin/Notify", OF_ADMINISTRATORS, ""),
    Method::new("vsm.admin.v1.Admin/SessionLog", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Admin/ListEvents", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Admin/RecordEvent", &[OtherBroker], ""),
    Method::new("vsm.admin.v1.Admin/ListAgents", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Admin/ListWebKeys", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Admin/RevokeWebKeys", OF_ADMINISTRATORS, ""),
    Method::new("vsm.admin.v1.Admin/Status", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Agents/Drain", OF_ADMINISTRATORS, ""),
    Method::new("vsm.admin.v1.Agents/Undrain", OF_ADMINISTRATORS, ""),
    Method::new("vsm.admin.v1.Agents/Forget", OF_ADMINISTRATORS, ""),
    Method::new("vsm.admin.v1.Agents/ListSubclusters", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Agents/Explain", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Ha/ListNodes", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Ha/Health", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Ha/TakeOver", OF_ADMINISTRATORS, ""),
    Method::new("vsm.admin.v1.Ha/SetWanted", OF_ADMINISTRATORS, ""),
    Method::new("vsm.admin.v1.Ha/PeerFenced", &[Administrator], ""),
    Method::new("vsm.admin.v1.Ha/Verify", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Ha/ListRows", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Ha/Check", OF_VIEWERS, ""),
    Method::new("vsm.admin.v1.Configuration/Reload", OF_ADMINISTRATORS, ""),
    Method::new("vsm.admin.v1.Configuration/Compare", OF_VIEWERS, ""),
    Method::new(
        "vsm.admin.v1.Configuration/Push",
        OF_ADMINISTRATORS,
        "but what names programs that root runs, which no caller may",
    ),
    Method::new("vsm.admin.v1.Configuration/Parameters", &[Administrator, Viewer, OtherBroker], ""),
    Method::new("vsm.admin.v1.Configuration/Adopt", &[OtherBroker], ""),
    Method::new("vsm.sync.v1.Peer/Exchange", &[Broker], "the other node of the pair"),
    Method::new("vsm.sync.v1.Observe/Follow", &[Observer], ""),
    Method::new("vsm.sync.v1.Witness/Ask", OF_BROKERS, "an epoch in it is the caller's own"),
    Method::new("vsm.sync.v1.Witness/Quarantine", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/Start", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/Verify", OF_BROKERS, ""),
    Method::new("vsm.agent.v1.Agent/Terminate", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/DisconnectViewer", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/SetLimits", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/Extend", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/Notify", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/SessionLog", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/AcceptKey", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/AllowShadow", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/CancelStart", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/SetRevoked", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/RenewCertificate", OF_BROKERS, EPOCH),
    Method::new("vsm.agent.v1.Agent/Report", OF_BROKERS, ""),
    Method::new("grpc.health.v1.Health/Check", ANYBODY, ""),
    Method::new("grpc.health.v1.Health/Watch", ANYBODY, ""),
    Method::new("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ANYBODY, ""),
];
