//! What each process does the same way: TLS identities, gRPC settings, sockets, logs, clocks, stopping, telling
//! systemd.

pub mod access;
pub mod account;
pub mod at_start;
pub mod authorities;
pub mod backoff;
pub mod cause;
pub mod certificates;
pub mod clock;
pub mod descriptors;
pub mod duty;
pub mod event_record;
pub mod files;
pub mod grant;
pub mod grpc;
mod guest;
pub mod hole;
pub mod host_keys;
pub mod https;
pub mod log;
pub mod nologin;
pub mod notify;
pub mod one_time;
pub mod open;
pub mod openid;
pub mod pki;
pub mod process;
pub mod program;
mod role;
pub mod share;
pub mod shown;
pub mod socket;
pub mod sockets;
pub mod span;
pub mod sshd;
pub mod stop;
pub mod tls;
pub mod trouble;
pub mod trusted;
mod verifier;
pub mod web_key;

/// The version and the commit that it was built from, for `--version` of every program; the commit is `unknown` where
/// the build had no git.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("VSM_COMMIT"), ")");
