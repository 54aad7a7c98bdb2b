//! Which entry of `/vsmserver/HA/nodes` is this host? Step 8 of the guide that this follows, decisions 14 to 16.
//!
//! An entry is local if one of its addresses is on an interface of this host, or if it is what `uname -n` prints.
//! Loopback addresses never count: Debian gives a host's own name 127.0.1.1. Exactly one local and one other entry is
//! safe; anything else is not, and says what was tried.

use std::{
    fmt::Write as _,
    io,
    net::{IpAddr, ToSocketAddrs},
};

use vsm_core::NodeName;

/// The two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// This host.
    pub own: NodeName,
    /// The other one.
    pub peer: NodeName,
}

/// What a host knows of itself.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Addresses of its interfaces, loopback left out.
    pub addresses: Vec<IpAddr>,
    /// What `uname -n` prints.
    pub name: String,
}

impl Host {
    /// Asks the system.
    ///
    /// # Errors
    /// If it does not tell.
    pub fn of_system() -> io::Result<Self> {
        Ok(Self {
            addresses: local_addresses()?,
            name: hostname::get()?.to_string_lossy().into_owned(),
        })
    }
}

/// Addresses on this host's interfaces, loopback left out.
///
/// # Errors
/// If the system does not tell.
pub fn local_addresses() -> io::Result<Vec<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs()?;
    Ok(interfaces.iter().map(if_addrs::Interface::ip).filter(|ip| !ip.is_loopback()).collect())
}

/// Resolves a name, or takes an address as it is.
///
/// # Errors
/// If the name is not known.
pub fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![address]);
    }
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip().to_canonical()).collect())
}

/// Why it is not known which node of the pair this host is.
#[derive(Debug, thiserror::Error)]
pub enum NotOfPair {
    /// The host does not tell its name or its addresses.
    #[error("this host does not tell of itself: {0}")]
    Host(#[source] io::Error),
    /// The names are no pair, whoever this host is.
    #[error("{0}")]
    Names(String),
    /// Each entry is this host.
    #[error("both entries of /vsmserver/HA/nodes are this host ({0})")]
    Both(String),
    /// No entry is this host.
    #[error("no entry of /vsmserver/HA/nodes is this host ({0})")]
    Neither(String),
}

/// Which entry is this host, and which is the other node.
///
/// # Errors
/// If that is not clear, with what was tried.
pub fn nodes(
    entries: &[String],
    resource: &str,
    host: &Host,
    resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>>,
) -> Result<Nodes, NotOfPair> {
    let [one, two] = vsm_config::pair_fault(entries, resource).map_err(NotOfPair::Names)?;
    let found = [&one, &two].map(|entry| look_at(entry.as_str(), host, &resolve));
    let mut tried = String::new();
    for (entry, (_, what)) in entries.iter().zip(&found) {
        let separator = if tried.is_empty() { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(tried, "{separator}{entry}: {what}");
    }
    let (name, addresses) = (&host.name, list(&host.addresses));
    let tried = format!("{tried}; uname -n is {name}, local addresses are {addresses}");
    match (found[0].0, found[1].0) {
        (true, false) => Ok(Nodes { own: one, peer: two }),
        (false, true) => Ok(Nodes { own: two, peer: one }),
        (true, true) => Err(NotOfPair::Both(tried)),
        (false, false) => Err(NotOfPair::Neither(tried)),
    }
}

/// Whether an entry is this host, and what was found.
fn look_at(
    entry: &str,
    host: &Host,
    resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>>,
) -> (bool, String) {
    if entry.eq_ignore_ascii_case(&host.name) {
        return (true, "is what uname -n prints".to_owned());
    }
    match resolve(entry) {
        Err(error) => (false, format!("cannot be resolved ({error})")),
        Ok(addresses) => {
            let real: Vec<_> = addresses.into_iter().filter(|ip| !ip.is_loopback()).collect();
            match real.iter().find(|address| host.addresses.contains(address)) {
                Some(address) => (true, format!("has the local address {address}")),
                None if real.is_empty() => (false, "has loopback addresses only".to_owned()),
                None => (false, format!("is {}, not local", list(&real))),
            }
        }
    }
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, addresses: &[&str]) -> Host {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Host { addresses, name: name.to_owned() }
    }

    /// A small name service: Debian's 127.0.1.1 for a host's own name, several addresses, IPv6.
    fn dns(name: &str) -> io::Result<Vec<IpAddr>> {
        let known: &[&str] = match name {
            "own-loopback" => &["127.0.1.1"],
            "one" => &["10.0.0.2"],
            "one-too" => &["10.0.0.2", "10.1.0.2"],
            "two" => &["10.0.0.3"],
            "two-six" => &["fd00::3"],
            "one-six" => &["fd00::2", "192.0.2.7"],
            address => match address.parse::<IpAddr>() {
                Ok(_) => return resolve(address),
                Err(_) => return Err(io::Error::other("not known")),
            },
        };
        Ok(known.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn ask(entries: &[&str], host: &Host) -> Result<(String, String), String> {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        let nodes = nodes(&entries, "tlha", host, dns).map_err(|error| error.to_string())?;
        Ok((nodes.own.to_string(), nodes.peer.to_string()))
    }

    fn ok(entries: &[&str], host: &Host, own: &str, peer: &str) {
        assert_eq!(ask(entries, host), Ok((own.to_owned(), peer.to_owned())));
    }

    #[test]
    fn one_entry_is_local_by_address_or_by_name() {
        let primary = host("primary", &["10.0.0.2"]);
        ok(&["one", "two"], &primary, "one", "two");
        ok(&["two", "one"], &primary, "one", "two");
        ok(&["10.0.0.3", "10.0.0.2"], &primary, "10.0.0.2", "10.0.0.3");
        ok(&["one-too", "two"], &host("x", &["10.1.0.2"]), "one-too", "two");
        ok(&["one-six", "two-six"], &host("x", &["fd00::3"]), "two-six", "one-six");
        // By `uname -n` alone: in DNS it is nowhere, or 127.0.1.1.
        ok(&["PRIMARY", "two"], &primary, "PRIMARY", "two");
        ok(&["own-loopback", "two"], &host("own-loopback", &["10.0.0.2"]), "own-loopback", "two");
        // A peer that cannot be resolved now is no reason to be without HA.
        ok(&["one", "gone"], &primary, "one", "gone");
    }

    #[test]
    fn what_is_not_safe_says_what_was_tried() {
        let primary = host("primary", &["10.0.0.2", "10.0.0.3"]);
        let fails = |entries: &[&str], host: &Host, word: &str| {
            let error = ask(entries, host).unwrap_err();
            assert!(error.contains(word), "{error}");
        };
        fails(&["one", "two"], &primary, "both entries of /vsmserver/HA/nodes are this host");
        fails(&["own-loopback", "two"], &host("x", &["127.0.1.1"]), "has loopback addresses only");
        fails(&["two", "gone"], &host("x", &["10.0.0.2"]), "cannot be resolved (not known)");
        fails(&["two", "two-six"], &host("x", &["10.0.0.2"]), "no entry");
        fails(&["one"], &primary, "has 1 entries and needs exactly 2");
        fails(&["one", "two", "x"], &primary, "has 3 entries");
        fails(&["one", "ONE"], &primary, "both entries of /vsmserver/HA/nodes are one");
        fails(&["one", "tlha"], &primary, "the resource address and not a node");
    }
}
