//! The names and addresses by which a host is known.

/// What two spellings of one host have in common: case and a dot at the end do not tell names apart, and an address has
/// many forms.
pub(crate) fn one_spelling(host: &str) -> String {
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => host.trim_end_matches('.').to_lowercase(),
    }
}
