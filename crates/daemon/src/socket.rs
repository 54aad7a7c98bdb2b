//! Unix sockets: made with the wanted mode, stale ones replaced, live ones left alone; and callers of them answered.

mod descriptors;
mod kept;

use std::{
    fmt, fs, io,
    net::IpAddr,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt, chown},
        net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::{UnixListener, UnixStream},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Extensions,
    transport::{Channel, Endpoint, Uri, server::UdsConnectInfo},
};
use vsm_core::WebKeyId;

use crate::{
    hole::{self, Hole},
    share::{Shares, Who},
};

/// How long a caller may take to say what they want.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Callers of one socket, of all users.
const CALLERS_MAX: usize = 8192;
/// How long a listener that cannot accept rests.
const RETRY: Duration = Duration::from_millis(100);

pub use descriptors::{receive_with, send_with};
pub use kept::{Kept, Plain, keep};

/// What the name of the other end begins with where `vsm-login` tells an address by it.
const ADDRESS_NAME: &str = "vsm-login/";

/// Who may open a socket.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// Mode bits of the socket.
    pub mode: u32,
    /// Group that owns it; none = left as it is.
    pub group: Option<u32>,
}

/// A socket that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers on it.
    #[error("another process serves {0}")]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot open socket {path}: {source}")]
    Io {
        /// Socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Connects without waiting: where the queue of a listener is full a plain connect would wait as long as its owner
/// likes. The connection itself blocks.
///
/// # Errors
/// `TimedOut` if nobody takes connections there; what the system says else.
pub fn connect_now(path: &Path) -> io::Result<StdStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => {}
        Err(Errno::AGAIN) => {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it takes no connections"));
        }
        Err(error) => return Err(error.into()),
    }
    let stream = StdStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Listens on `path`; must be called within a tokio runtime.
///
/// # Errors
/// If another process serves it, a thing that is no socket stands there, or the system refuses.
pub fn listen(path: &Path, access: Access) -> Result<UnixListener, SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(io)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            // A queue that is full is somebody's who lives.
            if connect_now(path).map_or_else(|e| e.kind() == io::ErrorKind::TimedOut, |_| true) {
                return Err(SocketError::InUse(path.to_owned()));
            }
            fs::remove_file(path).map_err(io)?;
        }
        Ok(_) => {
            return Err(io(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is something that is no socket",
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    if access.group.is_some() {
        chown(path, None, access.group).map_err(io)?;
    }
    let mode = if hole::is_open(Hole::SocketMode) { 0o666 } else { access.mode };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io)?;
    Ok(listener)
}

/// How many callers of a socket there may be of one user at a time, and how long a line they may send. Nobody waits in
/// the socket's queue, which is everybody's.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Callers of one user.
    pub each: usize,
    /// Bytes, the end of the line included.
    pub line: u64,
}

/// What a caller has asked for.
#[derive(Debug)]
pub struct Asked {
    /// Who they are, as the kernel says.
    pub uid: u32,
    /// Their line.
    pub line: Vec<u8>,
    /// Where the answer goes: a fresh socket, which has room for a line.
    pub stream: UnixStream,
}

impl Asked {
    async fn read(mut stream: UnixStream, line_max: u64) -> io::Result<Self> {
        let uid = stream.peer_cred()?.uid();
        let mut line = Vec::new();
        BufReader::new((&mut stream).take(line_max)).read_until(b'\n', &mut line).await?;
        Ok(Self { uid, line, stream })
    }
}

/// Answers callers on the socket at `path`, which anybody may open, until `stop`: each sends one line, within 5 s. An
/// answer that fails is of a caller who has gone.
///
/// # Errors
/// If the socket cannot be opened.
pub async fn serve<A>(
    path: &Path,
    bounds: Bounds,
    stop: &CancellationToken,
    answer: impl Fn(Asked) -> A + Clone + Send + 'static,
) -> Result<(), SocketError>
where
    A: Future<Output = io::Result<()>> + Send,
{
    let kept = keep(path, Access { mode: 0o666, group: None })?;
    self::answer(kept, bounds, stop, answer).await;
    Ok(())
}

/// The same on a socket that is open already.
pub async fn answer<A, E: fmt::Display>(
    mut kept: Kept<impl Fn() -> Result<UnixListener, E>>,
    bounds: Bounds,
    stop: &CancellationToken,
    answer: impl Fn(Asked) -> A + Clone + Send + 'static,
) where
    A: Future<Output = io::Result<()>> + Send,
{
    let path = kept.path().to_owned();
    let shares = Shares::new(path.display().to_string(), bounds.each, CALLERS_MAX);
    while let Some(accepted) = stop.run_until_cancelled(kept.accept()).await {
        match accepted {
            Ok(stream) => {
                let Some(share) = shares.take(Who::of_unix(&stream)) else { continue };
                let answer = answer.clone();
                tokio::spawn(async move {
                    // One who does not speak gets no answer.
                    let asked = tokio::time::timeout(ASK_MAX, Asked::read(stream, bounds.line));
                    if let Ok(Ok(asked)) = asked.await {
                        let _ = answer(asked).await;
                    }
                    drop(share);
                });
            }
            Err(error) => {
                tracing::warn!(socket = %path.display(), %error, "a caller cannot be heard");
                // Out of descriptors, most likely: they come back as others end.
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// The abstract name that `vsm-login` gives its own end of a connection, so that the broker learns where the user is
/// without a word of its own in the stream. `unique` makes it so on the host.
#[must_use]
pub fn address_name(address: IpAddr, unique: u32) -> String {
    format!("{ADDRESS_NAME}{address}/{unique:x}")
}

/// The same of a login by this web key; none = the address is not known.
#[must_use]
pub fn web_name(address: Option<IpAddr>, unique: u32, id: WebKeyId) -> String {
    let address = address.map_or_else(|| "-".to_owned(), |address| address.to_string());
    format!("{ADDRESS_NAME}{address}/{unique:x}/{id}")
}

/// The address in a name that [`address_name`] has made; none = it is another name.
#[must_use]
pub fn named_address(name: &[u8]) -> Option<IpAddr> {
    let rest = std::str::from_utf8(name).ok()?.strip_prefix(ADDRESS_NAME)?;
    rest.split('/').next()?.parse().ok()
}

/// A gRPC channel over the socket at `path`, dialled when it is first used.
#[must_use]
pub fn channel(path: PathBuf) -> Channel {
    // The name is never looked up: the connector goes to the socket.
    let endpoint = Endpoint::from_static("http://vsm.local");
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    }))
}

/// The web key in a name that [`web_name`] has made; none = it is another name.
#[must_use]
pub fn named_web_key(name: &[u8]) -> Option<WebKeyId> {
    let rest = std::str::from_utf8(name).ok()?.strip_prefix(ADDRESS_NAME)?;
    rest.split('/').nth(2)?.parse().ok()
}

/// The web key by which the caller at one of this host's sockets has logged in, as their `vsm-login` says it.
#[must_use]
pub fn web_key(extensions: &Extensions) -> Option<WebKeyId> {
    let info = extensions.get::<UdsConnectInfo>()?;
    named_web_key(info.peer_addr.as_ref()?.as_abstract_name()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_a_web_key_beside_the_address() {
        let id = WebKeyId::new(uuid::Uuid::from_u128(7));
        let address = "2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap();
        let name = web_name(Some(address), u32::MAX, id);
        assert!(name.len() <= 107, "{name}");
        assert_eq!(named_address(name.as_bytes()), Some(address));
        assert_eq!(named_web_key(name.as_bytes()), Some(id));
        let name = web_name(None, 7, id);
        assert_eq!(named_address(name.as_bytes()), None);
        assert_eq!(named_web_key(name.as_bytes()), Some(id));
        assert_eq!(named_web_key(address_name(address, 7).as_bytes()), None);
    }

    #[test]
    fn a_name_tells_an_address_and_nothing_else_does() {
        for text in ["10.0.0.9", "fd00::1"] {
            let address = text.parse().unwrap();
            assert_eq!(named_address(address_name(address, 7).as_bytes()), Some(address));
        }
        for other in ["", "vsm-login/", "vsm-login/x/1", "10.0.0.9", "vsm-login/10.0.0.9 /1"] {
            assert_eq!(named_address(other.as_bytes()), None, "{other}");
        }
        assert_eq!(named_address(b"vsm-login/\xff"), None);
    }

    #[tokio::test]
    async fn a_socket_that_is_taken_away_is_there_again() {
        use tokio::io::AsyncWriteExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (path, stop) = (dir.path().join("deep/a.sock"), CancellationToken::new());
        let (at, until) = (path.clone(), stop.clone());
        let serving = tokio::spawn(async move {
            let echo = |Asked { line, mut stream, .. }: Asked| async move {
                stream.write_all(&line).await
            };
            serve(&at, Bounds { each: 4, line: 100 }, &until, echo).await
        });
        for _ in 0..2 {
            let mut stream = loop {
                if let Ok(stream) = UnixStream::connect(&path).await {
                    break stream;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            stream.write_all(b"x\n").await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "x\n");
            fs::remove_dir_all(path.parent().unwrap()).unwrap();
        }
        stop.cancel();
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/a.sock");
        let access = Access { mode: 0o600, group: None };
        let live = listen(&path, access).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path, access), Err(SocketError::InUse(_))));
        drop(live);
        listen(&path, access).unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "data").unwrap();
        assert!(listen(&file, access).is_err());
        assert_eq!(fs::read_to_string(file).unwrap(), "data");
    }
}
