//! A rule that this host's firewall needs, whichever firewall that is.

use std::net::IpAddr;

/// The mark on rules of ours.
pub(super) const COMMENT: &str = "vsm-setup";

/// Lets one host, or every one, reach a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// TCP port.
    pub port: u16,
    /// From where; none = from everywhere.
    pub source: Option<IpAddr>,
}
