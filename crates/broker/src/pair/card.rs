//! What this node tells the other of itself, so that each can say where they differ: a digest of each parameter that
//! has to be the same, and the fingerprints of the SSH host keys.

use std::collections::BTreeMap;

use vsm_config::Config;
use vsm_sync::peer::Card;

/// The card of this node as it is configured now.
pub(crate) fn card(config: &Config) -> Card {
    Card {
        software: env!("CARGO_PKG_VERSION").to_owned(),
        parameters: parameters(config),
        host_keys: host_keys(),
    }
}

/// The value of each cluster-wide parameter that is not at its default.
pub(crate) fn shared(config: &Config) -> BTreeMap<String, String> {
    config.effective().into_iter().filter(|(path, _)| !vsm_config::is_nodes_own(path)).collect()
}

/// A digest of each cluster-wide parameter that is not at its default.
fn parameters(config: &Config) -> BTreeMap<String, u64> {
    let all = shared(config).into_iter();
    all.map(|(path, value)| {
        let digest = hash(&format!("{path}={value}"));
        (path, digest)
    })
    .collect()
}

/// FNV-1a: a difference is to be seen, not to be withstood.
pub(crate) fn hash(text: &str) -> u64 {
    hash_bytes(text.as_bytes())
}

/// The same of bytes.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Paths of parameters that differ between two cards.
pub(crate) fn differing(ours: &Card, theirs: &Card) -> Vec<String> {
    let all: std::collections::BTreeSet<&String> =
        ours.parameters.keys().chain(theirs.parameters.keys()).collect();
    all.into_iter()
        .filter(|path| ours.parameters.get(*path) != theirs.parameters.get(*path))
        .cloned()
        .collect()
}

/// The public host keys as they are now, shortened as `TYPE HASH`.
pub(crate) fn host_keys() -> Vec<String> {
    let short = |key: &String| {
        let (kind, blob) = key.split_once(' ')?;
        Some(format!("{kind} {:016x}", hash(blob)))
    };
    vsm_daemon::host_keys::read().iter().filter_map(short).collect()
}

#[cfg(test)]
mod tests {
    use vsm_config::{Kind, keys::PARAMS};

    /// A path that both nodes share, and that one gives the other, names what root runs, or is known to be harmless.
    #[test]
    fn each_shared_path_is_known_to_be_a_program_of_roots_or_none() {
        let paths = PARAMS.iter().filter(|param| {
            matches!(param.kind, Kind::Path | Kind::OptionalPath)
                && !vsm_config::is_nodes_own(param.path)
        });
        let (programs, others): (Vec<_>, Vec<_>) =
            paths.partition(|param| param.names_roots_program());
        assert_eq!(programs.len(), 3);
        let others: Vec<&str> =
            others.into_iter().map(|param: &&vsm_config::Param| param.path).collect();
        // Pictures, what a program without rights reads, and on whose word users are logged in: a broker takes the
        // other one's word for that anyway.
        let harmless = [
            "/vsmserver/openid/keys_file",
            "/vsmserver/openid/ca_file",
            "/sessionstart/background_image",
            "/vsmweb/certificate",
            "/vsmweb/key",
            "/vsmweb/known_hosts",
            "/vsmweb/openid/client_secret_file",
            "/profiles/<key>/icon",
            "/profiles/<key>/screenshot",
        ];
        assert_eq!(others, harmless);
    }
}
