//! Which program listens on a port of this host, from `/proc`: asked before anything is changed, as a daemon that finds
//! its port taken can only fail.

use std::fs;

use vsm_daemon::sockets::{self, State};

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
    let listens = |it: &sockets::Socket| it.state == State::Listening && it.local.port() == port;
    let inode = sockets::all().find(listens)?.inode;
    let pid = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| sockets::held_by(*pid).iter().any(|(_, held)| *held == inode));
    let name = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    let program = name.map_or_else(|| "another program".to_owned(), |name| name.trim().to_owned());
    Some(Holder { program, pid })
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
