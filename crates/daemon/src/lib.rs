//! What each process does the same way: TLS identities, gRPC settings, sockets, logs, clocks, stopping, telling
//! systemd.

pub mod backoff;
pub mod clock;
pub mod grpc;
pub mod log;
pub mod notify;
pub mod socket;
pub mod stop;
pub mod tls;
