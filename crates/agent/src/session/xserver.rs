//! The X server: its command line, its cookie, and when it is ready.

use std::{
    ffi::OsString,
    fs, io,
    io::{Read, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::{Path, PathBuf},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use vsm_daemon::{
    hole::{self, Hole},
    socket,
};

use super::account::Account;
use crate::{
    refusal::{Refusal, Refused},
    spec::Spec,
};

/// Names of X servers that speak RFB on a unix socket, best first.
const KNOWN: [&str; 2] = ["Xtigervnc", "Xvnc"];
/// Where programs are looked for, and the `PATH` of a session unless something else sets it.
pub(super) const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";
/// Length of an RFB greeting such as `RFB 003.008\n`.
const GREETING_LEN: usize = 12;
/// Lines of the X server that explain its end.
const REASON_LINES: usize = 3;
/// Xauthority's family for an entry that fits every host.
const FAMILY_WILD: u16 = 65535;
pub(super) const COOKIE_NAME: &[u8] = b"MIT-MAGIC-COOKIE-1";
pub(super) const COOKIE_LEN: usize = 16;

/// Finds the X server's program.
pub(super) fn find(configured: Option<&Path>, agent: &str) -> Result<PathBuf, Refused> {
    let missing = |what: String| {
        Refused::new(
            Refusal::XServer,
            format!("{what} is not installed on {agent} (/vsmagent/xserver)"),
        )
    };
    if let Some(path) = configured {
        return if path.is_file() {
            Ok(path.to_owned())
        } else {
            Err(missing(path.display().to_string()))
        };
    }
    let candidates = KNOWN
        .iter()
        .flat_map(|name| SEARCH_PATH.split(':').map(move |dir| Path::new(dir).join(name)));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| missing(KNOWN.join(" or ")))
}

/// Where things of one session are, all owned by its user but for the folder above.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    /// `RUN_DIR/sessions/ID`, owned by root.
    pub(super) dir: PathBuf,
    /// The user's own folder of the session, mode 0700; their `XDG_RUNTIME_DIR` where logind has made none.
    pub(super) user: PathBuf,
    /// The X server's RFB socket.
    pub(super) rfb: PathBuf,
    /// The X cookie.
    pub(super) cookie: PathBuf,
}

impl Paths {
    pub(super) fn new(dir: PathBuf) -> Self {
        let user = dir.join("user");
        Self { rfb: user.join("rfb.sock"), cookie: user.join("Xauthority"), user, dir }
    }
}

/// The X server's arguments. Ours come last, where Xvnc lets the last one win: no setting opens a TCP port.
pub(super) fn arguments(spec: &Spec, paths: &Paths) -> Vec<OsString> {
    let Spec { session, display, settings, .. } = spec;
    let geometry = session.params.geometry.unwrap_or(settings.geometry);
    let mut all = vec![OsString::from(format!(":{display}"))];
    all.extend(settings.xserver_args.iter().map(OsString::from));
    all.extend(["-geometry".into(), geometry.to_string().into(), "-depth".into(), "24".into()]);
    all.extend([
        "-desktop".into(),
        format!("{}@{} :{display}", session.user, session.agent).into(),
    ]);
    all.extend([
        "-rfbunixpath".into(),
        paths.rfb.clone().into(),
        "-rfbunixmode".into(),
        "0600".into(),
    ]);
    all.extend(
        ["-rfbport", "-1", "-SecurityTypes", "None", "-nolisten", "tcp", "-nolisten", "local"]
            .map(OsString::from),
    );
    // Xvnc shuts out whoever comes and goes a few times without a word, as a viewer on a dead line does. Here only its
    // owner comes.
    all.extend(["-BlacklistThreshold", "1000000"].map(OsString::from));
    all.extend(["-auth".into(), paths.cookie.clone().into()]);
    all.extend(settings.bans.iter().map(OsString::from));
    // Who is cut off for whom is the monitor's to say, and no viewer's: one who shadows with control could ask for it.
    all.push("-AlwaysShared".into());
    all
}

/// One Xauthority entry: MIT-MAGIC-COOKIE-1 for a display on any host name.
fn entry(display: u32, cookie: [u8; COOKIE_LEN]) -> Vec<u8> {
    let display = display.to_string();
    let mut entry = FAMILY_WILD.to_be_bytes().to_vec();
    for field in [b"".as_slice(), display.as_bytes(), COOKIE_NAME, &cookie] {
        entry.extend(u16::try_from(field.len()).unwrap_or(0).to_be_bytes());
        entry.extend(field);
    }
    entry
}

/// Writes a new cookie for the display.
pub(super) fn write_cookie(path: &Path, display: u32) -> io::Result<Vec<u8>> {
    let entry = entry(display, rand::random());
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&entry)?;
    Ok(entry)
}

/// Opens a connection to the X server for a viewer. The folder is the user's, who could have put another socket
/// there: only one that the user's own process listens on is good, and none is waited for.
pub(super) fn connect(paths: &Paths, account: &Account) -> io::Result<UnixStream> {
    let stream = socket::connect_now(&paths.rfb)?;
    if is_served_by(&stream, account.uid)? {
        Ok(stream)
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the RFB socket is not the user's own"))
    }
}

/// Whether a user's own process listens at the other end.
pub(super) fn is_served_by(stream: &UnixStream, uid: u32) -> io::Result<bool> {
    Ok(getsockopt(stream, PeerCredentials)?.uid() == uid || hole::is_open(Hole::PeerUid))
}

/// Waits for the greeting without blocking: to be asked again and again until it answers.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    stream: Option<UnixStream>,
    got: usize,
}

impl Greeting {
    /// The connection to wait on; none = there is none yet.
    pub(super) const fn stream(&self) -> Option<&UnixStream> {
        self.stream.as_ref()
    }

    /// Whether the whole greeting has come. A connect alone proves nothing: it succeeds long before.
    pub(super) fn is_complete(&mut self, paths: &Paths, account: &Account) -> bool {
        if self.stream.is_none() {
            self.got = 0;
            let Ok(stream) = connect(paths, account) else { return false };
            if stream.set_nonblocking(true).is_err() {
                return false;
            }
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else { return false };
        let mut buffer = [0; GREETING_LEN];
        match stream.read(&mut buffer) {
            // Closed without a greeting: try a new connection.
            Ok(0) => self.stream = None,
            Ok(count) => self.got += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.stream = None,
        }
        self.got >= GREETING_LEN
    }
}

/// Whether the X server's last words mean that somebody else has the display.
pub(super) fn says_display_taken(words: &str) -> bool {
    [
        "already active for display",
        "server already running",
        "Cannot establish any listening sockets",
    ]
    .iter()
    .any(|text| words.contains(text))
}

/// Why the X server ended, of what it has said: what it calls fatal, else its last lines.
pub(super) fn reason(words: &str) -> String {
    let lines = words.lines().map(|line| line.trim().trim_start_matches("(EE)").trim());
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let fatal = lines.iter().rposition(|line| *line == "Fatal server error:");
    let from = fatal.map_or_else(|| lines.len().saturating_sub(REASON_LINES), |at| at + 1);
    lines.into_iter().skip(from).take(REASON_LINES).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_in_what_an_x_server_says() {
        let full = "(EE) \nFatal server error:\n(EE) Could not write pid to lock file in /tmp/.tX10-lock\n(EE) \n";
        assert_eq!(reason(full), "Could not write pid to lock file in /tmp/.tX10-lock");
        assert_eq!(reason("a\nb\n\nc\nd\n"), "b | c | d");
        assert_eq!(reason(""), "");
    }

    #[test]
    fn a_cookie_entry_is_as_xauth_writes_it() {
        let written = entry(10, [7; 16]);
        let expected =
            [b"\xff\xff\0\0\0\x0210\0\x12MIT-MAGIC-COOKIE-1\0\x10".as_slice(), &[7; 16]].concat();
        assert_eq!(written, expected);
    }

    #[test]
    fn a_missing_x_server_is_named() {
        let refused = find(Some(Path::new("/no/Xvnc")), "agent1").unwrap_err();
        assert_eq!(refused.detail, "/no/Xvnc is not installed on agent1 (/vsmagent/xserver)");
    }
}
