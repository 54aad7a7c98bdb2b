//! The line to the user: whether anything still gets across.
//!
//! sshd asks by itself (`ClientAliveInterval`), but some versions only while nothing else happens: a desktop on which a
//! clock ticks keeps them from it, and what is sent to a network that is gone is taken by the kernel for a quarter of
//! an hour. So the kernel is asked whether the other end has acknowledged anything. A viewer that only rests, or takes
//! nothing for a while, is none of that: its kernel answers for it.

use std::net::{IpAddr, SocketAddr};

use vsm_daemon::sockets::{self, State};

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
            let address: IpAddr = words.next()?.split('%').next()?.parse().ok()?;
            Some(SocketAddr::new(address.to_canonical(), words.next()?.parse().ok()?))
        };
        let there = end();
        let here = end();
        Self { ends: here.zip(there), looks: 0, unanswered: 0 }
    }

    /// Looks once, which is to be done at even times while nothing is heard; whether the line is dead.
    pub(crate) fn is_dead(&mut self) -> bool {
        let Some(ends) = self.ends else { return false };
        self.judge(unanswered(ends).unwrap_or(0))
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

/// How often in a row the kernel has sent on this connection without an answer; none = it is not there.
fn unanswered(ends: (SocketAddr, SocketAddr)) -> Option<u32> {
    let mut open = sockets::all().filter(|socket| socket.state == State::Established);
    open.find(|socket| (socket.local, socket.remote) == ends).map(|socket| socket.unanswered)
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
            assert_eq!(unanswered(ends), Some(0), "{host}");
            assert!(!line.is_dead());
        }
    }

    #[test]
    fn it_is_dead_when_nothing_is_acknowledged_for_many_looks_in_a_row() {
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
