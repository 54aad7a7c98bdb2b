//! What nft tells of a host's rules, which are whatever an administrator, or a program of theirs, has made of them.
//!
//! The first two bytes are the port of the rule that is looked for, and whether it has a source.

use serde_json::Value;
use vsm_cli::fuzzing::nft_looked_at;

pub(crate) fn run(bytes: &[u8]) {
    let Some((port, text)) = bytes.split_first_chunk::<2>() else { return };
    let Ok(listing) = serde_json::from_slice::<Value>(text) else { return };
    let port = u16::from_le_bytes(*port);
    let source = [None, Some("10.0.0.2"), Some("fe80::1")][usize::from(port) % 3];
    let source = source.and_then(|source| source.parse().ok());
    let looked = nft_looked_at(&listing, 904, source);
    let all = || listing["nftables"].as_array().into_iter().flatten();
    if let Some(chain) = looked.chain {
        assert!(all().any(|item| item["chain"]["hook"] == "input"));
        assert!(!chain.contains('\0'));
    }
    if let Some(handle) = looked.handle {
        let ours = |item: &&Value| item["rule"]["comment"] == "vsm-setup";
        assert!(all().filter(ours).any(|item| item["rule"]["handle"] == handle));
    }
}
