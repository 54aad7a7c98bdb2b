//! The pipe: bytes both ways until one side ends. Nothing is read from one side that the other has no room for, and
//! nothing is copied here.

use std::{
    io,
    net::Shutdown,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};

use vsm_daemon::clock;

use crate::{
    attach::{self, Cause},
    line::Line,
};

/// When nothing was heard from the user for so long, a look is taken at the line, and again after the same time.
const QUIET: Duration = Duration::from_secs(5);
const QUIET_POLL: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// Bytes on their way to the desktop: what a pipe of the kernel takes as it comes.
const ROOM_OUT: usize = 64 << 10;
/// Bytes on their way from it: pictures, which want fewer and longer turns (a fifth less CPU time than with as much as
/// above).
const ROOM_BACK: usize = 256 << 10;

/// One direction. The bytes go from one descriptor to the other by way of a pipe, and never come up to this process.
struct Flow<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    pipe: (OwnedFd, OwnedFd),
    /// What is moved at most at a time.
    room: usize,
    /// Bytes in the pipe.
    waiting: usize,
    /// The source has ended.
    is_over: bool,
    /// When something came last.
    moved: Instant,
}

impl<'a> Flow<'a> {
    fn new(from: BorrowedFd<'a>, to: BorrowedFd<'a>, room: usize) -> io::Result<Self> {
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user who has many pipes already gets none that is larger; then it takes more turns.
        let _ = fcntl_setpipe_size(&pipe.0, room);
        Ok(Self { from, to, pipe, room, waiting: 0, is_over: false, moved: clock::now() })
    }

    const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Throws away what is on its way, as nobody takes it any more.
    const fn give_up(&mut self) {
        (self.is_over, self.waiting) = (true, 0);
    }

    /// Moves what can be moved now; false = the sink is gone.
    fn turn(&mut self) -> io::Result<bool> {
        let (reader, writer) = (&self.pipe.0, &self.pipe.1);
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            if self.waiting == 0 {
                if self.is_over {
                    return Ok(true);
                }
                match splice(self.from, None, writer, None, self.room, flags) {
                    Ok(0) => self.is_over = true,
                    Ok(count) => (self.waiting, self.moved) = (count, clock::now()),
                    Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
                    Err(Errno::CONNRESET) => self.is_over = true,
                    Err(error) => return Err(error.into()),
                }
            }
            if self.waiting == 0 {
                continue;
            }
            match splice(reader, None, self.to, None, self.waiting, flags) {
                Ok(count) => self.waiting -= count.min(self.waiting),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A descriptor made non-blocking, and back when dropped: it may be shared with a terminal's shell.
struct NonBlocking<'a>(BorrowedFd<'a>, OFlags);

impl<'a> NonBlocking<'a> {
    fn new(fd: BorrowedFd<'a>) -> io::Result<Self> {
        let flags = fcntl_getfl(fd)?;
        fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
        Ok(Self(fd, flags))
    }
}

impl Drop for NonBlocking<'_> {
    fn drop(&mut self) {
        // The process is about to end.
        let _ = fcntl_setfl(self.0, self.1);
    }
}

/// Looks at the line while nothing is heard.
struct Watch {
    line: Line,
    looked: Instant,
}

impl Watch {
    /// Whether the line is dead, as far as it is time to say.
    fn is_dead(&mut self, heard: Instant) -> bool {
        let now = clock::now();
        if now.duration_since(heard) < QUIET {
            self.line.lives();
            return false;
        }
        if now.duration_since(self.looked) < QUIET {
            return false;
        }
        self.looked = now;
        self.line.is_dead()
    }
}

/// Joins standard input and output to `target` until either side ends, or the line to the user is dead. `control` tells
/// why a viewer is dropped.
pub(crate) fn run(
    target: &UnixStream,
    control: Option<&UnixStream>,
    line: Line,
    told: impl Fn(Cause),
) -> io::Result<()> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    join((stdin.as_fd(), stdout.as_fd()), target, control, line, told)
}

fn join(
    (input, output): (BorrowedFd<'_>, BorrowedFd<'_>),
    target: &UnixStream,
    control: Option<&UnixStream>,
    line: Line,
    told: impl Fn(Cause),
) -> io::Result<()> {
    let mut watch = Watch { line, looked: clock::now() };
    let _restored =
        [NonBlocking::new(input)?, NonBlocking::new(output)?, NonBlocking::new(target.as_fd())?];
    let mut out = Flow::new(input, target.as_fd(), ROOM_OUT)?;
    let mut back = Flow::new(target.as_fd(), output, ROOM_BACK)?;
    let mut listening = control;
    let mut was_shut = false;
    loop {
        if !out.turn()? {
            // It takes no more, but what it has said is still to be passed on.
            out.give_up();
        }
        if !back.turn()? || back.is_over && back.is_empty() {
            // The reason of a drop may have come together with the end.
            if let Some(control) = listening {
                listen(control, &told);
            }
            return Ok(());
        }
        if out.is_over && out.is_empty() && !was_shut {
            was_shut = true;
            // It may have ended in the same moment, which the next turn sees.
            let _ = target.shutdown(Shutdown::Write);
        }
        let wants = |flow: &Flow<'_>| flow.is_empty() && !flow.is_over;
        let when = |wanted: bool, flag| if wanted { flag } else { PollFlags::empty() };
        let (read_out, read_back) =
            (when(wants(&out), PollFlags::IN), when(wants(&back), PollFlags::IN));
        let (write_out, write_back) =
            (when(!out.is_empty(), PollFlags::OUT), when(!back.is_empty(), PollFlags::OUT));
        let (target_fd, target_wants) = (target.as_fd(), read_back | write_out);
        let mut fds = vec![PollFd::new(&output, write_back)];
        // One that is not waited for could wake us for ever by its end alone.
        if !target_wants.is_empty() {
            fds.push(PollFd::new(&target_fd, target_wants));
        }
        if wants(&out) {
            fds.push(PollFd::new(&input, read_out));
        }
        let control_at = fds.len();
        if let Some(control) = listening {
            fds.push(PollFd::new(control, PollFlags::IN));
        }
        match poll(&mut fds, Some(&QUIET_POLL)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if watch.is_dead(out.moved) {
            return Ok(());
        }
        // Whoever reads our output is gone, though there is nothing to write.
        if fds.first().is_some_and(|fd| fd.revents().intersects(PollFlags::ERR)) {
            return Ok(());
        }
        let heard = fds.get(control_at).is_some_and(|fd| !fd.revents().is_empty());
        if heard
            && let Some(control) = listening
            && !listen(control, &told)
        {
            listening = None;
        }
    }
}

/// Reads what the session says; false = it says no more.
fn listen(control: &UnixStream, told: &impl Fn(Cause)) -> bool {
    let mut buffer = [0; 4096];
    match rustix::net::recv(control, &mut buffer, rustix::net::RecvFlags::DONTWAIT) {
        Ok((0, _)) => false,
        Ok((count, _)) => {
            buffer
                .get(..count)
                .unwrap_or_default()
                .split(|byte| *byte == b'\n')
                .filter_map(attach::cause)
                .for_each(told);
            true
        }
        Err(error) => error == Errno::AGAIN || error == Errno::INTR,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        sync::Mutex,
        thread,
    };

    use super::*;

    #[test]
    fn bytes_flow_both_ways_and_ends_are_passed_on() {
        let (input, mut feed) = io::pipe().unwrap();
        let (mut result, output) = io::pipe().unwrap();
        let (target, mut far) = UnixStream::pair().unwrap();
        let pump = thread::spawn(move || {
            join((input.as_fd(), output.as_fd()), &target, None, Line::new(""), |_| {})
        });
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let copy = sent.clone();
        let echo = thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            far.write_all(&all).unwrap();
        });
        let writer = thread::spawn(move || feed.write_all(&copy).unwrap());
        let mut got = Vec::new();
        result.read_to_end(&mut got).unwrap();
        assert!(got == sent);
        writer.join().unwrap();
        echo.join().unwrap();
        pump.join().unwrap().unwrap();
    }

    #[test]
    fn it_ends_with_its_reader_and_tells_why_it_was_dropped() {
        let (input, _feed) = io::pipe().unwrap();
        let (result, output) = io::pipe().unwrap();
        let (target, _far) = UnixStream::pair().unwrap();
        drop(result);
        join((input.as_fd(), output.as_fd()), &target, None, Line::new(""), |_| {}).unwrap();

        let (_result, output) = io::pipe().unwrap();
        let (target, far) = UnixStream::pair().unwrap();
        let (control, mut session) = UnixStream::pair().unwrap();
        session.write_all(b"{\"event\":\"dropped\",\"cause\":\"replaced\"}\n").unwrap();
        drop(far);
        let heard = Mutex::new(Vec::new());
        join((input.as_fd(), output.as_fd()), &target, Some(&control), Line::new(""), |why| {
            heard.lock().unwrap().push(why);
        })
        .unwrap();
        assert_eq!(*heard.lock().unwrap(), [Cause::Replaced]);
    }
}
