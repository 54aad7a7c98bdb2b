//! The socket: who may call, and one request for each connection.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{io::AsyncWriteExt, net::UnixStream};
use tokio_util::sync::CancellationToken;
use vsm_config::{Config, LoadError};
use vsm_daemon::{
    account::Account,
    notify,
    socket::{self, Access, Asked, Bounds, Kept, SocketError},
};

use crate::{
    adopt, hook, mail,
    message::{Act, Answer, REQUEST_MAX},
    prepare,
    settings::Settings,
};

/// The folder of the socket, which the broker's account alone can enter.
pub const DIR: &str = "/run/vsm-root";
/// The socket in it.
pub const SOCKET: &str = "vsm-root.sock";
/// Requests at a time; for an account of the system there are sixteen times as many. Hooks of 64 logins run at a time.
const EACH: usize = 8;

/// Why the helper does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is bad.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The folder of the socket cannot be made.
    #[error("cannot make {0}: {1}")]
    Dir(PathBuf, #[source] io::Error),
    /// The socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

impl ServeError {
    /// What the process ends with.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Socket(SocketError::InUse(_)) => 75,
            Self::Dir(..) | Self::Socket(_) => 1,
        }
    }
}

/// Serves the broker's account until `stop`.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(
    account: Account,
    config: &Path,
    dir: &Path,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let settings = Arc::new(Settings::load(config)?);
    let path = dir.join(SOCKET);
    let open = || {
        folder(dir, account).map_err(|error| ServeError::Dir(dir.to_owned(), error))?;
        let access = Access { mode: 0o660, group: Some(account.gid) };
        Ok::<_, ServeError>(socket::listen(&path, access)?)
    };
    let listener = open()?;
    notify::ready("waiting for vsmserver");
    tracing::info!(socket = %path.display(), "vsm-root waits for vsmserver");
    let keys = Arc::new(Keys { account, told: Mutex::default() });
    let answer = move |asked: Asked| answer(asked, Arc::clone(&keys), Arc::clone(&settings));
    let bounds = Bounds { each: EACH, line: REQUEST_MAX };
    socket::answer(Kept::new(listener, path.clone(), open), bounds, &stop, answer).await;
    notify::stopping();
    Ok(())
}

/// Keys that the broker is to read. One that is copied here while it runs is root's.
#[derive(Debug)]
struct Keys {
    account: Account,
    /// What was wrong at the last look.
    told: Mutex<String>,
}

impl Keys {
    fn look(&self, config: &Config) {
        let looked = prepare::own_keys(config, self.account);
        let wrong = looked.err().map(|error| error.to_string()).unwrap_or_default();
        let mut told = self.told.lock();
        if !wrong.is_empty() && wrong != *told {
            tracing::warn!("{wrong}");
        }
        *told = wrong;
    }
}

/// Whatever stands there was made by root, as the folder above is root's.
fn folder(dir: &Path, account: Account) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o710).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    chown(dir, None, Some(account.gid))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o710))
}

async fn answer(asked: Asked, keys: Arc<Keys>, settings: Arc<Settings>) -> io::Result<()> {
    let Asked { uid, line, mut stream } = asked;
    // The broker looks whether anybody is here, which it does every few seconds, or is about to take files.
    if line.is_empty() {
        return tokio::task::spawn_blocking(move || keys.look(&settings.now()))
            .await
            .map_err(io::Error::other);
    }
    let answer = if uid == keys.account.uid {
        act(&line, &settings, &stream).await
    } else {
        tracing::warn!(uid, "refused: only vsmserver may ask");
        Answer::Refused("only vsmserver may ask".to_owned())
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    stream.write_all(&text).await
}

async fn act(line: &[u8], settings: &Arc<Settings>, stream: &UnixStream) -> Answer {
    let act = match Act::parse(line) {
        Ok(act) => act,
        Err(why) => {
            tracing::warn!(%why, "refused: this is no request");
            return Answer::Refused(why.to_string());
        }
    };
    let own = Arc::clone(settings);
    let config = match tokio::task::spawn_blocking(move || own.now()).await {
        Ok(config) => config,
        Err(error) => return Answer::Failed(error.to_string()),
    };
    match act {
        Act::Hook(hook) => hook::run(&config, hook, closed(stream)).await,
        Act::Mail { text } => mail::send(&config, &text).await,
        Act::Adopt { set, drop } => {
            let own = Arc::clone(settings);
            let work = move || adopt::adopt(own.dir(), &set, &drop);
            let answer = tokio::task::spawn_blocking(work).await;
            let answer = answer.unwrap_or_else(|error| Answer::Failed(error.to_string()));
            tracing::info!(?answer, "the broker asked for parameters of the other node");
            answer
        }
    }
}

/// Returns when nobody waits for an answer any more.
async fn closed(stream: &UnixStream) {
    let mut rest = [0; 64];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut rest) {
            Ok(0) => return,
            // There is nothing more to say.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
