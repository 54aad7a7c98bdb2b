//! PID 1 of a host in miniature, and the short-lived program that starts it.
//!
//! `host-launch` moves into the host's network namespace and control group, makes the other namespaces and starts
//! `host-init` in them as their PID 1. That mounts the host's own view of the machine ([`boot`]), then looks after its
//! daemons as systemd would ([`supervise`]) and answers on a control socket ([`control`]). On a fresh host it hands
//! over to Debian's systemd ([`debian`]). Killing it is a power cut: the kernel ends the whole host.

pub(crate) mod boot;
pub(crate) mod control;
pub(crate) mod daemon;
pub(crate) mod debian;
pub(crate) mod fence;
pub(crate) mod launch;
mod supervise;

pub(crate) use supervise::init;

/// Where a host sees its own state directory.
pub(crate) const HOST_DIR: &str = "/run/host";
