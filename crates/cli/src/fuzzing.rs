//! Ways into private readers for `vsm-fuzz`.

use std::net::IpAddr;

use serde_json::Value;

use crate::setup::{nft, rule::Rule};

/// What is found in a listing of nft.
#[derive(Debug)]
pub struct Looked {
    /// The chain that filters what comes in, as it is written into commands.
    pub chain: Option<String>,
    /// The number of a rule of ours.
    pub handle: Option<u64>,
    /// Whether firewalld has a table.
    pub is_firewalld: bool,
}

/// Looks a listing of nft through, for a rule that lets this port be reached from there.
#[must_use]
pub fn nft_looked_at(listing: &Value, port: u16, source: Option<IpAddr>) -> Looked {
    Looked {
        chain: nft::input_chain(listing).map(|chain| chain.to_string()),
        handle: nft::handle(listing, &Rule { port, source }),
        is_firewalld: nft::has_table(listing, "inet", "firewalld"),
    }
}
