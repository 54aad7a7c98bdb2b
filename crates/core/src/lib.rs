//! The domain, without input or output: ids, sessions, the session table and its rules, placement.
//!
//! Nothing here is async, reads a clock, draws a random number or opens a file: `now`, seeds and ids are arguments.
//! So the same code is driven by the broker, by tests and by the simulation.

mod audit;
mod capacity;
mod chain;
mod change;
mod choice;
mod epoch;
mod id;
mod identity;
pub mod lifecycle;
mod lifetime;
mod load;
mod place;
mod printable;
pub mod replica;
mod session;
mod ssh_key;
mod table;
mod web_key;

pub use audit::{Drain, EVENTS_MAX, Event};
pub use capacity::{Bound, Level, Room};
pub use chain::{Broken, Walk};
pub use change::{Change, Draft, Key, Proposal, Rejected, Row};
pub use choice::{Candidate, Choice, Chosen};
pub use epoch::{Epoch, Fence, Incarnation, Lsn};
pub use id::{AgentName, InvalidId, LineageId, NodeName, RequestId, SessionId, UserName, WebKeyId};
pub use identity::{
    AllIdentities, Asked, Hash, Identity, IdentityName, Invitation, Issued, NotGiven, Revocation,
    revocation,
};
pub use lifetime::{
    CannotExtend, Deadline, Ends, Extension, Facts, Input, LIMIT_MAX_MS, Life, Limit, Limits,
    ORIGIN_MAX, Standing, Step, Tick, Viewed, Words,
};
pub use load::{Busy, Measured, Need};
pub use place::{Eligible, Out, Placement, Rank, Rule, Strategy, consider, place};
pub use printable::{is_unprintable, printable, printable_lines};
pub use session::{
    CLIENT_BYTES_MAX, CLIENT_KEY_MAX, CLIENT_PARAMS_MAX, CLIENT_VALUE_MAX, EndReason, Ended,
    Geometry, InvalidClientParam, InvalidGeometry, PROFILE_KEY_MAX, Resources, Session,
    StartParams, State, UnixMillis, Viewer, check_client_params,
};
pub use ssh_key::{InvalidKey, SshKey};
pub use table::{AgentUse, Table};
pub use web_key::{
    ASKED_BY_MAX, InvalidWebKey, OF_USER_MAX, WEB_KEYS_MAX, WebKey, WebKeys, WebKeysAsked,
};
