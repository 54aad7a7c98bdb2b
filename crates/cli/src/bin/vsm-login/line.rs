//! The line to the user: whether anything still gets across.
//!
//! sshd asks by itself (`ClientAliveInterval`), but some versions only while nothing else happens: a desktop on which a
//! clock ticks keeps them from it, and what is sent to a network that is gone is taken by the kernel for a quarter of
//! an hour. So the kernel is asked whether the other end has acknowledged anything. A viewer that only rests, or takes
//! nothing for a while, is none of that: its kernel answers for it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The kernel's tables of TCP connections.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// `ESTABLISHED` in them.
const ESTABLISHED: &str = "01";
/// So many looks in a row that find nothing acknowledged, and the line is dead.
const LOOKS_MAX: u32 = 6;

/// The TCP connection on which the user has come.
pub(crate) struct Line {
    /// Here, and there; none = not known, and then it is taken for good.
    ends: Option<(SocketAddr, SocketAddr)>,
    looks: u32,
    /// What the last look found.
    unanswered: u32,
}

impl Line {
    /// From what sshd tells in `SSH_CONNECTION`: address and port there, and here.
    pub(crate) fn new(ssh_connection: &str) -> Self {
        let mut words = ssh_connection.split(' ');
        let mut end = || {
            // An address of one link has the link's name behind it.
            let address = words.next()?.split('%').next()?.parse().ok()?;
            Some(SocketAddr::new(plain(address), words.next()?.parse().ok()?))
        };
        let there = end();
        let here = end();
        Self { ends: here.zip(there), looks: 0, unanswered: 0 }
    }

    /// Looks once, which is to be done at even times while nothing is heard; whether the line is dead.
    pub(crate) fn is_dead(&mut self) -> bool {
        let Some(ends) = self.ends else { return false };
        let found =
            TABLES.iter().find_map(|table| unanswered(&fs::read_to_string(table).ok()?, ends));
        self.judge(found.unwrap_or(0))
    }

    fn judge(&mut self, unanswered: u32) -> bool {
        // It only grows until something is acknowledged.
        let stands = unanswered > 0 && unanswered >= self.unanswered;
        self.looks = if stands { self.looks + 1 } else { 0 };
        self.unanswered = unanswered;
        self.looks >= LOOKS_MAX
    }

    /// Something was heard.
    pub(crate) const fn lives(&mut self) {
        (self.looks, self.unanswered) = (0, 0);
    }
}

/// How often in a row the kernel has sent on this connection again, or probed it, without an answer; none = it is not
/// there.
fn unanswered(table: &str, (here, there): (SocketAddr, SocketAddr)) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, remote, ESTABLISHED, _, _, again, _, probes, ..] = words.as_slice() else {
            return None;
        };
        let fits = end(local)? == here && end(remote)? == there;
        let again = u32::from_str_radix(again, 16).ok()?;
        fits.then_some(again.saturating_add(probes.parse().ok()?))
    })
}

/// An address as the kernel prints it: words of 32 bits as they are in memory.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => Ipv4Addr::from(four).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(SocketAddr::new(plain(address), u16::from_str_radix(port, 16).ok()?))
}

/// An IPv4 address on a socket for both kinds is one.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_found_in_the_kernels_table() {
        for (host, to) in
            [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::1]:0", "::1")]
        {
            let listener = TcpListener::bind(host).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect((to, port)).unwrap();
            let (_server, _) = listener.accept().unwrap();
            let there = client.local_addr().unwrap();
            let mut line = Line::new(&format!("{} {} {to} {port}", there.ip(), there.port()));
            let ends = line.ends.unwrap();
            let read = |table: &&str| unanswered(&fs::read_to_string(table).unwrap(), ends);
            assert_eq!(TABLES.iter().find_map(read), Some(0), "{host}");
            assert!(!line.is_dead());
        }
    }

    #[test]
    fn it_is_dead_when_nothing_is_acknowledged_for_many_looks_in_a_row() {
        const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0C00000A:0016 6400000A:85E8 01 0000003C:00000000 01:00000410 0000000B     0        2 10 1 0 420 4 30 31 1 -1
   1: 0C00000A:0016 6400000A:85E9 01 0000003C:00000000 01:00000410 00000000     0        0 10 1 0 420 4 30 31 1 -1";
        let of = |port| Line::new(&format!("10.0.0.100 {port} 10.0.0.12 22")).ends.unwrap();
        assert_eq!(
            [34280, 34281, 1].map(|port| unanswered(TABLE, of(port))),
            [Some(13), Some(0), None]
        );

        let mut line = Line::new("");
        let looks = |line: &mut Line, found: &[u32]| found.iter().any(|&count| line.judge(count));
        assert!(looks(&mut line, &[1, 3, 4, 4, 5, 6]));
        // A line that loses much, and that something is heard on.
        line.lives();
        assert!(!looks(&mut line, &[1, 3, 4, 4, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0]));
        assert!(!looks(&mut line, &[1, 3, 4, 4, 5]));
        line.lives();
        assert!(!looks(&mut line, &[6, 7]));
    }
}
