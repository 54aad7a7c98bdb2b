//! SHA-256, by the library that TLS uses anyway.

use ring::digest;
use vsm_core::Hash;

/// The hash of these bytes.
#[must_use]
pub fn of(bytes: &[u8]) -> Hash {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    Hash(hash)
}
