//! Which program listens on a port of this host, from `/proc`: asked before anything is changed, as a daemon that finds
//! its port taken can only fail.

use std::{fs, path::Path};

/// `/proc/net/tcp` writes this for a socket that listens.
const LISTENS: &str = "0A";

/// A program that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    /// Its name, as `ps` has it; `another program` where it cannot be told.
    pub(super) program: String,
    /// Its process; none = it cannot be told, as without root.
    pub(super) pid: Option<u32>,
}

/// Who listens on this TCP port, if anybody does.
pub(super) fn holder(port: u16) -> Option<Holder> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| listener(&table, port))?;
    let link = format!("socket:[{inode}]");
    let pid = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| holds(Path::new(&format!("/proc/{pid}/fd")), &link));
    let name = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    let program = name.map_or_else(|| "another program".to_owned(), |name| name.trim().to_owned());
    Some(Holder { program, pid })
}

/// The inode of the socket that listens on the port.
fn listener(table: &str, port: u16) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
        let number = local.rsplit_once(':').and_then(|(_, hex)| u16::from_str_radix(hex, 16).ok());
        (number == Some(port) && *state == LISTENS).then(|| (*inode).to_owned())
    })
}

fn holds(fds: &Path, link: &str) -> bool {
    fs::read_dir(fds)
        .into_iter()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|target| target.as_os_str() == link)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_listens_is_found_and_who_does_not_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(holder(port).unwrap().pid, Some(std::process::id()));
        drop(listener);
        assert_eq!(holder(port), None);
    }
}
