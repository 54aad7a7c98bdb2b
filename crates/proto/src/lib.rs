//! Generated gRPC types, one module per API, and their conversions to and from `vsm-core`.
//!
//! The types stop at the handlers: what comes in is parsed by [`convert`] once, and nothing behind that sees a
//! generated message.

mod audit;
pub mod codec;
pub mod convert;
mod identity;
pub mod replica;
mod web_key;

/// The descriptor set of all services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vsm.bin"));

macro_rules! api {
    ($(#[$doc:meta])* $module:ident, $package:literal) => {
        $(#[$doc])*
        #[allow(
            missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic,
            clippy::wildcard_enum_match_arm, clippy::use_self, clippy::allow_attributes_without_reason,
            reason = "generated code; the proto files hold its documentation"
        )]
        pub mod $module {
            /// Version 1.
            pub mod v1 {
                tonic::include_proto!($package);
            }
        }
    };
}

api!(
    /// Messages shared by the services.
    session, "vsm.session.v1"
);
api!(
    /// Broker to agent.
    agent, "vsm.agent.v1"
);
api!(
    /// User to broker, and agent to broker.
    broker, "vsm.broker.v1"
);
api!(
    /// Administrator to broker.
    admin, "vsm.admin.v1"
);
api!(
    /// The changelog, and what the pair, the witnesses and observers say to each other.
    sync, "vsm.sync.v1"
);
