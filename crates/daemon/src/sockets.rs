//! The TCP sockets of this host as its kernel shows them in `/proc` (proc(5)): who listens, and whether the other end
//! of a connection still acknowledges what is sent.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::RawFd,
    time::Duration,
};

use rustix::{
    net::sockopt,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

/// Of the asking process itself: another one's may not be shown to a service.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// As many as tcp(7) allows.
const PROBES_MAX: u32 = 127;

/// What a socket is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits for connections.
    Listening,
    /// It is a connection.
    Established,
    /// It is about to be one, or was one.
    Other,
}

/// A TCP socket in the network namespace of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// This end. An IPv4 address on a socket for both kinds is one.
    pub local: SocketAddr,
    /// The other end; unspecified = none.
    pub remote: SocketAddr,
    /// What it is about.
    pub state: State,
    /// How often in a row the kernel has sent again, or probed, without an answer.
    pub unanswered: u32,
    /// Names it among the open files of a process.
    pub inode: u64,
}

/// All of them, those of IPv4 first; none where there is no `/proc`. A table is read once one comes to it.
pub fn all() -> impl Iterator<Item = Socket> {
    let tables = TABLES.iter().filter_map(|path| fs::read_to_string(path).ok());
    tables.flat_map(|table| parse(&table))
}

/// The processes that a process has begun, of its first thread; none where that is not shown.
#[must_use]
pub fn children_of(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Sockets of any kind that a process holds, each with its inode; none where that is not shown.
#[must_use]
pub fn held_by(pid: u32) -> Vec<(RawFd, u64)> {
    let files =
        fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    let socket = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, inode))
    };
    files.filter_map(socket).collect()
}

/// Has the kernel ask the other end of another process's connection whether it is there, whenever nothing was heard
/// from it for so long (whole seconds). It never ends the connection in less than two minutes.
///
/// # Errors
/// If the process is gone, is not ours to look into (ptrace(2)), or holds no such connection.
pub fn probe_every(pid: u32, fd: RawFd, interval: Duration) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = pidfd_open(pid.ok_or(io::ErrorKind::InvalidInput)?, PidfdFlags::empty())?;
    let socket = pidfd_getfd(process, fd, PidfdGetfdFlags::empty())?;
    sockopt::set_tcp_keepidle(&socket, interval)?;
    sockopt::set_tcp_keepintvl(&socket, interval)?;
    sockopt::set_tcp_keepcnt(&socket, PROBES_MAX)?;
    Ok(sockopt::set_socket_keepalive(&socket, true)?)
}

fn parse(table: &str) -> Vec<Socket> {
    table.lines().skip(1).filter_map(socket).collect()
}

fn socket(line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, local, remote, state, _, _, again, _, probes, inode, ..] = words.as_slice() else {
        return None;
    };
    let again = u32::from_str_radix(again, 16).ok()?;
    Some(Socket {
        local: end(local)?,
        remote: end(remote)?,
        state: match *state {
            "01" => State::Established,
            "0A" => State::Listening,
            _ => State::Other,
        },
        unanswered: again.saturating_add(probes.parse().ok()?),
        inode: inode.parse().ok()?,
    })
}

/// An address as the kernel prints it: words of 32 bits as they are in memory.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let address: IpAddr = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => Ipv4Addr::from(four).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(SocketAddr::new(address.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
    };

    use super::*;

    #[test]
    fn both_ends_of_a_connection_and_who_listens_are_found() {
        for (host, to) in
            [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::1]:0", "::1")]
        {
            let listener = TcpListener::bind(host).unwrap();
            let here = listener.local_addr().unwrap();
            let client = TcpStream::connect((to, here.port())).unwrap();
            let (server, _) = listener.accept().unwrap();
            let all: Vec<_> = all().collect();
            let held = held_by(std::process::id());
            let ours: Vec<u64> = held.iter().map(|(_, inode)| *inode).collect();
            let find = |local: SocketAddr, state| {
                all.iter().find(|it| it.local == local && it.state == state).unwrap()
            };
            assert!(ours.contains(&find(here, State::Listening).inode), "{host}");
            let (there, here) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            for (local, remote) in [(there, here), (here, there)] {
                let end = find(local, State::Established);
                assert_eq!((end.remote, end.unanswered), (remote, 0), "{host}");
                assert!(ours.contains(&end.inode), "{host}");
            }
            let fd = client.as_raw_fd();
            assert!(held.iter().any(|(held, _)| *held == fd), "{host}");
            probe_every(std::process::id(), fd, Duration::from_secs(3)).unwrap();
            assert!(sockopt::socket_keepalive(&client).unwrap(), "{host}");
            assert_eq!(sockopt::tcp_keepidle(&client).unwrap(), Duration::from_secs(3), "{host}");
            drop(server);
        }
        assert!(probe_every(std::process::id(), 1_000_000, Duration::from_secs(3)).is_err());
        assert!(probe_every(u32::MAX, 0, Duration::from_secs(3)).is_err());
    }

    #[test]
    fn what_is_sent_again_or_probed_without_an_answer_is_counted() {
        const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0C00000A:0016 6400000A:85E8 01 0000003C:00000000 01:00000410 0000000B     0        2 10 1 0 420 4 30 31 1 -1
   1: 0C00000A:0016 6400000A:85E9 06 0000003C:00000000 01:00000410 00000000     0        0 11 1 0 420 4 30 31 1 -1
   no line of a table";
        let found: Vec<_> =
            parse(TABLE).iter().map(|it| (it.remote.port(), it.unanswered, it.inode)).collect();
        assert_eq!(found, [(34280, 13, 10), (34281, 0, 11)]);
    }
}
