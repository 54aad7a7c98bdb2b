//! The picture of a desktop, to and from a WebSocket. What the viewer is to be told goes along as text: noVNC passes
//! over that, and our script listens to it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vsm_core::Geometry;
use vsm_daemon::clock;
use vsm_proto::{
    broker::v1::{LoginChoice, LoginRequest},
    session::v1 as pb,
};

use crate::{
    app::App,
    cookie::Cookie,
    door::{self, Door, Visitor},
    error::Refused,
    limit::KeyLogins,
    settings::Settings,
    ssh::{Attached, Heard, Ssh},
    words::Words,
};

/// Longest message of a viewer's: a paste.
pub(crate) const MESSAGE_MAX: usize = 1 << 20;
/// A node that died is noticed by the viewer in this stream alone: any other request is answered by the node that took
/// over.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Longest message to a viewer: on a line of 64 kbit/s it takes a second, and one that takes longer is a silence there.
const PIECE: usize = 8 << 10;
/// What a browser must take in this time, or it is gone.
const SEND_MAX: Duration = Duration::from_secs(30);
/// What the viewer calls itself at the broker.
const CLIENT_NAME: &str = "browser";

/// Whose desktop it is.
pub(crate) struct User {
    pub(crate) cookie: Option<Cookie>,
    pub(crate) address: IpAddr,
    pub(crate) words: &'static Words,
}

/// Which desktop is wanted.
#[derive(Debug, Deserialize)]
pub(crate) struct Wish {
    /// The same for each attempt of one wish.
    request: Uuid,
    /// This one; none = the one that waits, or that there is.
    session: Option<Uuid>,
    /// One more.
    #[serde(default)]
    new: bool,
    /// Profile of a new one, by its key.
    #[serde(default)]
    profile: String,
    /// Size of a new one.
    width: Option<u32>,
    height: Option<u32>,
}

/// What our script is told.
#[derive(Debug, Serialize)]
#[serde(tag = "on", rename_all = "kebab-case")]
enum Told {
    /// This is the desktop; `files` is the number by which its user's files are asked for.
    Session { id: String, files: Uuid },
    /// The user is to choose one.
    Choose,
    /// It did not work. `again`: trying again by itself may help. `login`: the login is over.
    Failed { text: String, reference: String, again: bool, login: bool },
    /// The desktop has ended.
    Ended,
    /// It was opened elsewhere.
    Taken,
    /// The viewer was disconnected: by somebody's word, or as nothing was done for long. The desktop lives on.
    Dropped,
}

enum Opened {
    Desktop(Box<Desktop>),
    Choose,
}

struct Desktop {
    session: String,
    /// By which login it is shown.
    login: Uuid,
    /// Held as long as the picture is wanted.
    _ssh: Ssh,
    attached: Attached,
}

/// Shows a desktop until either side ends.
pub(crate) async fn run(app: Arc<App>, mut socket: WebSocket, user: User, wish: Wish) {
    let settings = app.settings();
    let opening = Box::pin(open(&settings, &app.keys, &user, &wish));
    let Some(opened) = meanwhile(&mut socket, opening).await else { return };
    let told = match opened {
        Ok(Opened::Desktop(desktop)) => {
            let id = desktop.session.clone();
            let who = user.cookie.as_ref().map(|cookie| cookie.user.as_str());
            tracing::info!(user = who, session = id, address = %user.address, "desktop opened");
            let held = app.viewing.enter(desktop.login, &id);
            if send(&mut socket, &Told::Session { id, files: held.id() }).await.is_err() {
                return;
            }
            match relay(&mut socket, desktop.attached).await {
                Some(told) => told,
                None => return,
            }
        }
        Ok(Opened::Choose) => Told::Choose,
        Err(error) => {
            let who = user.cookie.as_ref().map(|cookie| cookie.user.as_str());
            let reference = error.told(user.address, who);
            Told::Failed {
                text: error.words(user.words),
                reference,
                again: error.may_pass(),
                login: matches!(error, Refused::LoggedOut),
            }
        }
    };
    // A browser that is gone needs no word.
    let _ = send(&mut socket, &told).await;
    let _ = socket.send(Message::Close(None)).await;
}

/// Waits for something while the browser hears that somebody is there; none = it has gone.
async fn meanwhile<T>(
    socket: &mut WebSocket,
    mut what: impl Future<Output = T> + Unpin,
) -> Option<T> {
    let mut beats = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            biased;
            done = &mut what => return Some(done),
            _ = beats.tick() => socket.send(beat()).await.ok()?,
            got = socket.recv() => match got {
                // Nothing is to be said before the desktop has.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            },
        }
    }
}

/// Says that somebody is there, and when this was said: the page sees by it how long the line holds things up.
fn beat() -> Message {
    Message::Text(format!("h{}", clock::unix_millis().0).into())
}

async fn send(socket: &mut WebSocket, told: &Told) -> Result<(), axum::Error> {
    let text = serde_json::to_string(told).map_err(axum::Error::new)?;
    socket.send(Message::Text(text.into())).await
}

async fn open(
    settings: &Settings,
    keys: &KeyLogins,
    user: &User,
    wish: &Wish,
) -> Result<Opened, Refused> {
    let cookie = user.cookie.as_ref().ok_or(Refused::LoggedOut)?;
    let visitor = Visitor { cookie, address: user.address };
    let door = door::open(settings, keys, visitor, |key| wish.request(key)).await?;
    let Some(Door { session, ssh }) = door else { return Ok(Opened::Choose) };
    let attached = ssh.attach(&format!("session {}", session.id)).await?;
    let desktop = Desktop { session: session.id, login: cookie.id, _ssh: ssh, attached };
    Ok(Opened::Desktop(Box::new(desktop)))
}

impl Wish {
    fn request(&self, public_key: String) -> LoginRequest {
        let size = self.width.zip(self.height);
        let size = size.filter(|(width, height)| Geometry::new(*width, *height).is_ok());
        let geometry = size.map(|(width, height)| pb::Geometry { width, height });
        let choice = if self.new { LoginChoice::New } else { LoginChoice::SingleDisconnected };
        LoginRequest {
            request_id: self.request.to_string(),
            params: Some(pb::StartParams {
                geometry,
                client_name: CLIENT_NAME.to_owned(),
                profile: self.profile.clone(),
                ..pb::StartParams::default()
            }),
            session_id: self.session.map(|id| id.to_string()).unwrap_or_default(),
            choice: self.session.is_none().then_some(choice.into()),
            public_key,
        }
    }
}

/// Passes bytes both ways; what the browser is to be told when the desktop's side has ended. None = the browser has
/// gone, or is to come again by itself.
async fn relay(
    socket: &mut WebSocket,
    Attached { mut hear, say, first }: Attached,
) -> Option<Told> {
    let (mut to_browser, mut from_browser) = socket.split();
    let down = async {
        let mut beats = tokio::time::interval(HEARTBEAT);
        let mut next = first;
        let mut code = None;
        loop {
            let message = if next.is_empty() {
                tokio::select! {
                    heard = hear.next() => match heard {
                        Heard::Bytes(bytes) => { next = bytes; continue }
                        Heard::Exit(exit) => { code = Some(exit); continue }
                        Heard::End => return code,
                    },
                    _ = beats.tick() => beat(),
                }
            } else {
                Message::Binary(next.split_to(next.len().min(PIECE)))
            };
            match tokio::time::timeout(SEND_MAX, to_browser.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    };
    let up = async {
        while let Some(Ok(message)) = from_browser.next().await {
            match message {
                Message::Binary(bytes) => {
                    if say.bytes(bytes).await.is_err() {
                        return;
                    }
                }
                Message::Close(_) => return,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    };
    // What `vsm-login` ends with says why.
    let code = tokio::select! {
        code = down => code?,
        () = up => return None,
    };
    match code {
        3 | 6 => Some(Told::Dropped),
        4 => Some(Told::Taken),
        // 0: who logs out of the desktop is told no more.
        0 | 5 => Some(Told::Ended),
        _ => None,
    }
}
