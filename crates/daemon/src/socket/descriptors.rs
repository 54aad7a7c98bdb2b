//! Connections that are handed to another process, with a line that says what they are.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Descriptors that go with one line: a control connection, and the one that it is about.
const DESCRIPTORS_MAX: usize = 2;
/// Longest line that is received with them.
const LINE_MAX: usize = 4096;

/// Sends a line in one piece, with at most two descriptors. The socket is one that has room for a line, or the line is
/// cut.
///
/// # Errors
/// If the other side has gone, or there is no room.
pub fn send_with(socket: impl AsFd, line: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(io::Error::other("too many descriptors for one line"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("there is no room for the descriptors"));
    }
    sendmsg(socket, &[IoSlice::new(line)], &mut rights, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a line that was sent in one piece, and the descriptors that came with it.
///
/// # Errors
/// `UnexpectedEof` if the other side has gone; what the socket's own time for reading gives where that is over.
pub fn receive_with(socket: impl AsFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut buffer = vec![0; LINE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut buffer)];
    let count = recvmsg(socket, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    buffer.truncate(count);
    let mut descriptors = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(given) = part {
            descriptors.extend(given);
        }
    }
    Ok((buffer, descriptors))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn a_line_brings_the_descriptors_that_were_sent_with_it() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send_with(&one, b"two\n", &[reader.as_fd(), writer.as_fd()]).unwrap();
        let (line, mut descriptors) = receive_with(&other).unwrap();
        assert_eq!((line.as_slice(), descriptors.len()), (&b"two\n"[..], 2));
        let mut theirs = io::PipeWriter::from(descriptors.remove(1));
        theirs.write_all(b"x").unwrap();
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        send_with(&one, b"none\n", &[]).unwrap();
        assert!(receive_with(&other).unwrap().1.is_empty());
        let three = [reader.as_fd(), writer.as_fd(), one.as_fd()];
        assert!(send_with(&one, b"three\n", &three).is_err());
        drop(one);
        assert_eq!(receive_with(&other).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
