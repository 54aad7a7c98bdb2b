//! When the user's last input was: asked of the X server by the screen-saver extension, which counts keys and pointer
//! of viewers as it does those of a real screen.
//!
//! Whoever answers on the display is the user's own process and may do as it likes: nothing here blocks, each question
//! has a deadline, and what does not answer as it should is not asked again over the same connection. The connection
//! stays open, as an X server begins anew when its last client goes.

use std::{
    borrow::Cow,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

use vsm_daemon::socket;
use x11rb_protocol::{
    connect::Connect,
    protocol::{
        screensaver::{QueryInfoReply, QueryInfoRequest, X11_EXTENSION_NAME},
        xproto::{QueryExtensionReply, QueryExtensionRequest},
    },
    x11_utils::TryParse,
};

use super::xserver::{self, COOKIE_NAME};

/// How long the X server may take; it takes less than a millisecond.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Length of everything that an X server sends, at least.
const MESSAGE_LEN: usize = 32;
/// Longest message that is taken; those that are asked for have 32 bytes.
const MESSAGE_MAX: usize = 1 << 16;

/// Bytes that are read until the next question; what nobody asked for are a few events.
const HEARD_MAX: usize = 1 << 20;

#[derive(Debug)]
enum State {
    Off,
    /// The connection is being set up.
    Greeting(UnixStream, Box<Connect>),
    /// It is asked which number the extension has.
    Asking {
        stream: UnixStream,
        root: u32,
    },
    Ready {
        stream: UnixStream,
        root: u32,
        opcode: u8,
    },
}

/// A connection to the session's X server, and the question that is under way.
#[derive(Debug)]
pub(super) struct Meter {
    display: u32,
    /// Whose X server it is.
    uid: u32,
    cookie: Vec<u8>,
    state: State,
    read: Vec<u8>,
    /// Bytes that came since the last question.
    heard: usize,
    asked: Option<Instant>,
}

impl Meter {
    /// For a display of a user's, with its cookie.
    pub(super) const fn new(display: u32, uid: u32, cookie: Vec<u8>) -> Self {
        Self { display, uid, cookie, state: State::Off, read: Vec::new(), heard: 0, asked: None }
    }

    /// What to wait on.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Off => None,
            State::Greeting(stream, _)
            | State::Asking { stream, .. }
            | State::Ready { stream, .. } => Some(stream.as_fd()),
        }
    }

    /// By when the question that is under way is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asked.map(|asked| asked + ANSWER_MAX)
    }

    /// Asks; the answer comes by [`Meter::answer`].
    pub(super) fn ask(&mut self, now: Instant) {
        if self.asked.is_some() {
            return;
        }
        (self.asked, self.heard) = (Some(now), 0);
        let sent = match &mut self.state {
            State::Off => self.dial(),
            State::Ready { stream, root, opcode } => query(stream, *root, *opcode),
            State::Greeting(..) | State::Asking { .. } => Ok(()),
        };
        if sent.is_err() {
            self.state = State::Off;
        }
    }

    /// Takes what has come. The answer once there is one: milliseconds since the last input, or none, where the X
    /// server cannot say.
    pub(super) fn answer(&mut self, now: Instant) -> Option<Option<u64>> {
        let heard = self.hear();
        if heard.is_err() {
            self.state = State::Off;
            self.read.clear();
        }
        self.asked?;
        match heard {
            Ok(Some(idle)) => {
                self.asked = None;
                Some(Some(idle))
            }
            Ok(None) if !matches!(self.state, State::Off) && self.deadline() > Some(now) => None,
            Ok(None) | Err(_) => {
                (self.asked, self.state) = (None, State::Off);
                self.read.clear();
                Some(None)
            }
        }
    }

    fn dial(&mut self) -> io::Result<()> {
        let path = format!("/tmp/.X11-unix/X{}", self.display);
        let mut stream = socket::connect_now(Path::new(&path))?;
        if !xserver::is_served_by(&stream, self.uid)? {
            return Err(io::Error::other("the display's socket is not the user's own"));
        }
        stream.set_nonblocking(true)?;
        let (greeting, hello) =
            Connect::with_authorization(COOKIE_NAME.to_vec(), self.cookie.clone());
        send(&mut stream, &hello)?;
        self.state = State::Greeting(stream, Box::new(greeting));
        Ok(())
    }

    /// Reads all that is there; the answer to the question, if it is among that.
    fn hear(&mut self) -> io::Result<Option<u64>> {
        loop {
            let more = match &mut self.state {
                State::Off => return Ok(None),
                State::Greeting(stream, greeting) => {
                    let Some(count) = receive(stream, greeting.buffer())? else { return Ok(None) };
                    greeting.advance(count)
                }
                State::Asking { stream, .. } | State::Ready { stream, .. } => {
                    let mut buffer = [0; 1024];
                    let Some(count) = receive(stream, &mut buffer)? else { return Ok(None) };
                    self.read.extend(buffer.get(..count).unwrap_or_default());
                    self.heard += count;
                    if self.heard > HEARD_MAX {
                        return Err(io::Error::other("it never stops"));
                    }
                    true
                }
            };
            if !more {
                continue;
            }
            if let State::Greeting(..) = self.state {
                self.greeted()?;
            }
            while let Some(message) = self.message()? {
                if let Some(idle) = self.take(&message)? {
                    return Ok(Some(idle));
                }
            }
        }
    }

    /// The set-up is complete: it is refused, or the extension is asked for.
    fn greeted(&mut self) -> io::Result<()> {
        let State::Greeting(mut stream, greeting) = std::mem::replace(&mut self.state, State::Off)
        else {
            return Ok(());
        };
        let setup = greeting.into_setup().map_err(io::Error::other)?;
        let screen = setup.roots.first().ok_or_else(|| io::Error::other("it has no screen"))?;
        let name = Cow::Borrowed(X11_EXTENSION_NAME.as_bytes());
        let (parts, _) = QueryExtensionRequest { name }.serialize();
        send(&mut stream, &parts.concat())?;
        self.state = State::Asking { stream, root: screen.root };
        Ok(())
    }

    /// The next whole message.
    fn message(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(head) = self.read.get(..MESSAGE_LEN) else { return Ok(None) };
        // Replies and generic events can be longer and say so.
        let further = match head {
            [1 | 35, _, _, _, a, b, c, d, ..] => u32::from_ne_bytes([*a, *b, *c, *d]),
            _ => 0,
        };
        let length = usize::try_from(further).unwrap_or(usize::MAX).saturating_mul(4);
        let length = length.saturating_add(MESSAGE_LEN);
        if length > MESSAGE_MAX {
            return Err(io::Error::other("it says too much"));
        }
        let whole = self.read.len() >= length;
        Ok(whole.then(|| self.read.drain(..length).collect()))
    }

    /// Takes a message; the answer to the question, if it is that.
    fn take(&mut self, message: &[u8]) -> io::Result<Option<u64>> {
        match (message.first(), &mut self.state) {
            (Some(0), _) => Err(io::Error::other("it refuses")),
            (Some(1), State::Asking { .. }) => {
                let (reply, _) =
                    QueryExtensionReply::try_parse(message).map_err(io::Error::other)?;
                let State::Asking { mut stream, root } =
                    std::mem::replace(&mut self.state, State::Off)
                else {
                    return Ok(None);
                };
                if !reply.present {
                    return Err(io::Error::other("it has no screen-saver extension"));
                }
                let opcode = reply.major_opcode;
                query(&mut stream, root, opcode)?;
                self.state = State::Ready { stream, root, opcode };
                Ok(None)
            }
            (Some(1), State::Ready { .. }) => {
                let (reply, _) = QueryInfoReply::try_parse(message).map_err(io::Error::other)?;
                Ok(Some(reply.ms_since_user_input.into()))
            }
            // An event: that the keyboard's map has changed is told to everybody.
            _ => Ok(None),
        }
    }
}

fn query(stream: &mut UnixStream, root: u32, opcode: u8) -> io::Result<()> {
    let (parts, _) = QueryInfoRequest { drawable: root }.serialize(opcode);
    send(stream, &parts.concat())
}

/// Sends what fits into any socket's buffer; if it does not, the other side reads nothing.
fn send(stream: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)
}

/// Reads what is there; none = nothing now.
fn receive(stream: &mut UnixStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(buffer) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command, Stdio},
        thread,
    };

    use vsm_daemon::clock;

    use super::*;
    use crate::session::xserver;

    /// An X server on a display that nothing else here uses.
    struct Server(Child);

    impl Drop for Server {
        fn drop(&mut self) {
            // It may have ended.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// The answer to one question.
    fn ask(meter: &mut Meter) -> Option<u64> {
        meter.ask(clock::now());
        loop {
            if let Some(answer) = meter.answer(clock::now()) {
                return answer;
            }
            thread::yield_now();
        }
    }

    fn own() -> u32 {
        nix::unistd::getuid().as_raw()
    }

    #[test]
    fn nobody_on_the_display_is_no_answer() {
        let mut meter = Meter::new(65_000, 0, vec![0; 16]);
        assert_eq!(ask(&mut meter), None);
        assert!(meter.fd().is_none() && meter.deadline().is_none());
    }

    #[test]
    fn one_that_hangs_or_speaks_something_else_is_given_up() {
        // There already, where an X server has run.
        let _ = std::fs::create_dir("/tmp/.X11-unix");
        let display = 60_000 + std::process::id() % 4_000;
        let path = format!("/tmp/.X11-unix/X{display}");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut meter = Meter::new(display, own(), vec![0; 16]);
        meter.ask(clock::now());
        assert_eq!(meter.answer(clock::now()), None);
        assert_eq!(meter.answer(clock::now() + ANSWER_MAX), Some(None), "its time is over");
        meter.ask(clock::now());
        // The first of them was given up.
        drop(listener.accept().unwrap());
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&[7; 4096]).unwrap();
        assert_eq!(ask(&mut meter), None);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_real_x_server_tells_of_keys() {
        let dir = tempfile::tempdir().unwrap();
        let cookie = dir.path().join("cookie");
        let display = 64_000 + std::process::id() % 900;
        let mut entry = xserver::write_cookie(&cookie, display).unwrap();
        let key = entry.split_off(entry.len() - xserver::COOKIE_LEN);
        let program = xserver::find(None, "here").unwrap();
        let mut command = Command::new(program);
        command.arg(format!(":{display}")).arg("-auth").arg(&cookie);
        command.args(["-rfbport", "-1", "-SecurityTypes", "None", "-nolisten", "tcp"]);
        command.arg("-rfbunixpath").arg(dir.path().join("rfb"));
        let _server = Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let until = clock::now() + Duration::from_secs(20);
        let mut meter = Meter::new(display, own(), key);
        let first = loop {
            match ask(&mut meter) {
                Some(idle) => break idle,
                None => assert!(clock::now() < until, "it never answers"),
            }
        };
        let later = loop {
            let idle = ask(&mut meter).unwrap();
            if idle > first + 20 {
                break idle;
            }
        };
        let typed = Command::new("xdotool")
            .args(["key", "a"])
            .env("DISPLAY", format!(":{display}"))
            .env("XAUTHORITY", &cookie)
            .status();
        assert!(typed.unwrap().success());
        let after = loop {
            let idle = ask(&mut meter).unwrap();
            if idle < later {
                break idle;
            }
            assert!(clock::now() < until, "the key does not count");
        };
        assert!(after < later);
        let wrong = Meter::new(display, own(), vec![1; 16]);
        assert_eq!(ask(&mut { wrong }), None, "a wrong cookie");
    }
}
