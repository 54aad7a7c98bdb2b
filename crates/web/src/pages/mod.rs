//! What a browser asks for.

mod files;
pub(crate) mod html;
mod viewer;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Form, Router,
    extract::{
        ConnectInfo, DefaultBodyLimit, FromRequestParts, Query, State, ws::WebSocketUpgrade,
    },
    http::{HeaderMap, StatusCode, Uri, header, request::Parts},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
    routing::{get, post, put},
};
use maud::Markup;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    app::App,
    broker::Broker,
    cookie::{Cookie, is_name},
    desktop::{self, Wish},
    error::Refused,
    login::{Browser, Next},
    openid,
    words::{self, Words},
};

/// Longest body: a form with passwords.
const BODY_MAX: usize = 16 << 10;
/// What is kept of a browser's name for itself.
const AGENT_MAX: usize = 120;

/// All addresses.
pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(start))
        .route("/login", get(log_in_form).post(log_in))
        .route("/answer", post(answer))
        .route("/logout", post(log_out))
        .route("/over", get(over))
        .route("/desktops", get(desktops))
        .route("/desktop", get(desktop_page))
        .route("/end", post(end))
        .route("/extend", post(extend))
        .route("/rfb", get(rfb))
        .route("/files/{id}/list", get(files::list))
        .route("/files/{id}/get", get(files::get))
        .route("/files/{id}/put", put(files::put).layer(DefaultBodyLimit::disable()))
        .route("/openid", get(to_provider))
        .route(openid::BACK, get(from_provider))
        .route("/health", get(async || "ok\n"))
        .route("/own/{*path}", get(viewer::own))
        .route("/novnc/{*path}", get(viewer::novnc))
        .fallback(nothing)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(app)
}

/// Who asks, and in which language.
pub(crate) struct Guest {
    pub(crate) words: &'static Words,
    pub(crate) address: IpAddr,
    agent: String,
    pub(crate) cookie: Option<Cookie>,
}

impl<S: Send + Sync> FromRequestParts<S> for Guest {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // Each connection puts it there.
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let ConnectInfo(address) = address.ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
        Ok(Self {
            words: words::of_request(&parts.headers),
            address: address.ip(),
            agent: text_of(&parts.headers, header::USER_AGENT, AGENT_MAX),
            cookie: Cookie::of(&parts.headers),
        })
    }
}

impl Guest {
    pub(crate) fn browser(&self) -> Browser<'_> {
        Browser { address: self.address, agent: &self.agent }
    }

    pub(crate) async fn broker(&self, app: &App, cookie: &Cookie) -> Result<Broker, Refused> {
        Broker::by(&app.settings(), &app.keys, cookie, self.address).await
    }

    /// Whose login the browser brings, by its own word.
    pub(crate) fn user(&self) -> Option<&str> {
        self.cookie.as_ref().map(|cookie| cookie.user.as_str())
    }

    /// A page that says why something was not done; the log has more under the same number.
    pub(crate) fn refuse(&self, app: &App, error: &Refused) -> Response {
        self.refuse_from(app, error, "/")
    }

    /// The same on a page of which this is the beginning.
    pub(crate) fn refuse_from(&self, app: &App, error: &Refused, back: &str) -> Response {
        let reference = error.told(self.address, self.user());
        let page = html::refused(&app.settings(), self.words, error, &reference, back);
        (status(error), page).into_response()
    }
}

/// What a form of sshd's questions comes back with: the number of its login, and one answer for each, as it was typed;
/// none = it is no such form.
pub(crate) fn answered(fields: Vec<(String, String)>) -> Option<(Uuid, Vec<String>)> {
    let id = fields.iter().find(|(name, _)| name == "id")?.1.parse().ok()?;
    let answers = fields.into_iter().filter(|(name, _)| name == "answer");
    Some((id, answers.map(|(_, answer)| answer).collect()))
}

/// A header as text that is fit for a log.
fn text_of(headers: &HeaderMap, name: header::HeaderName, most: usize) -> String {
    let text = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.chars().filter(|c| matches!(c, ' '..='~')).take(most).collect()
}

/// With what status a page says it.
pub(crate) const fn status(error: &Refused) -> StatusCode {
    match error {
        Refused::OpenId { why, .. } => why.status(),
        Refused::NoRoute { .. }
        | Refused::Broke(_)
        | Refused::Subsystem(_)
        | Refused::StrangeHost { .. }
        | Refused::NoKey(_)
        | Refused::Broker { .. } => StatusCode::BAD_GATEWAY,
        Refused::NotLetIn | Refused::LoggedOut => StatusCode::UNAUTHORIZED,
        Refused::TooLate | Refused::NotShown => StatusCode::GONE,
        Refused::NoSuchFile => StatusCode::NOT_FOUND,
        Refused::NoPermission => StatusCode::FORBIDDEN,
        Refused::FileExists => StatusCode::CONFLICT,
        Refused::File(_) => StatusCode::BAD_GATEWAY,
        Refused::TooOften | Refused::ManyFiles => StatusCode::TOO_MANY_REQUESTS,
        Refused::Busy => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn nothing(State(app): State<Arc<App>>, guest: Guest) -> (StatusCode, Markup) {
    let page = html::message(&app.settings(), guest.words, guest.words.nothing_here);
    (StatusCode::NOT_FOUND, page)
}

async fn start(State(app): State<Arc<App>>, headers: HeaderMap, guest: Guest) -> Response {
    if guest.cookie.is_some() {
        return Redirect::to("/desktop").into_response();
    }
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        // A link on another site: the browser keeps the cookie back, and brings it along from here.
        return html::once_more(&app.settings(), guest.words).into_response();
    }
    html::log_in(&app.settings(), guest.words).into_response()
}

/// For somebody whose login is over, whatever the browser brings.
async fn log_in_form(State(app): State<Arc<App>>, guest: Guest) -> Markup {
    html::log_in(&app.settings(), guest.words)
}

#[derive(Deserialize)]
struct LogIn {
    user: String,
}

async fn log_in(
    State(app): State<Arc<App>>,
    guest: Guest,
    Form(LogIn { user }): Form<LogIn>,
) -> Response {
    let user = user.trim().to_owned();
    if !is_name(&user) {
        // As one that nobody has.
        return guest.refuse(&app, &Refused::NotLetIn);
    }
    let next = app.logins.begin(&app.settings(), guest.browser(), user).await;
    show(&app, &guest, next)
}

async fn answer(
    State(app): State<Arc<App>>,
    guest: Guest,
    Form(fields): Form<Vec<(String, String)>>,
) -> Response {
    let Some((id, answers)) = answered(fields) else {
        return guest.refuse(&app, &Refused::TooLate);
    };
    let next = app.logins.answer(&app.settings(), guest.browser(), id, answers).await;
    show(&app, &guest, next)
}

fn show(app: &App, guest: &Guest, next: Result<Next, Refused>) -> Response {
    match next {
        Ok(Next::Form { id, heading, prompts }) => {
            html::form(&app.settings(), guest.words, id, &heading, prompts.as_deref())
                .into_response()
        }
        Ok(Next::In(cookie, life)) => {
            let set = [(header::SET_COOKIE, cookie.set(life))];
            (set, Redirect::to("/desktop")).into_response()
        }
        Err(error) => guest.refuse(app, &error),
    }
}

/// The broker forgets the key, and the browser the cookie.
async fn log_out(State(app): State<Arc<App>>, guest: Guest) -> Response {
    if let Some(cookie) = &guest.cookie {
        let revoke = async || {
            let mut broker = guest.broker(&app, cookie).await?;
            broker.revoke(cookie.id.to_string()).await
        };
        let mut revoked = revoke().await;
        if revoked.is_err() {
            // The key's end cuts its own connections, at times before the answer. Whether it is over shows now.
            revoked = revoke().await;
        }
        match revoked {
            Ok(()) | Err(Refused::LoggedOut) => {
                tracing::info!(user = cookie.user, id = %cookie.id, "logged out");
            }
            // The key would stay good: the user is told, and may try again.
            Err(error) => return guest.refuse(&app, &error),
        }
    }
    ([(header::SET_COOKIE, Cookie::unset())], Redirect::to("/")).into_response()
}

/// Where a desktop's page goes whose login is said to be over: it is looked at once more.
async fn over(State(app): State<Arc<App>>, guest: Guest) -> Response {
    let Some(cookie) = &guest.cookie else { return Redirect::to("/").into_response() };
    match guest.broker(&app, cookie).await {
        Ok(_) => Redirect::to("/desktop").into_response(),
        Err(error) => guest.refuse(&app, &error),
    }
}

async fn desktops(State(app): State<Arc<App>>, guest: Guest) -> Response {
    of_user(&app, &guest, async |_| Ok(String::new())).await
}

#[derive(Deserialize)]
struct OfSession {
    id: Uuid,
}

/// Ends a desktop.
async fn end(
    State(app): State<Arc<App>>,
    guest: Guest,
    Form(OfSession { id }): Form<OfSession>,
) -> Response {
    let words = guest.words;
    of_user(&app, &guest, async |broker| {
        let done = broker.end(id.to_string()).await?;
        tracing::info!(session = %id, "desktop ended by its user");
        Ok(if done { words.was_ended } else { words.will_be_ended }.to_owned())
    })
    .await
}

/// Puts off what a limit would do to a desktop.
async fn extend(
    State(app): State<Arc<App>>,
    guest: Guest,
    Form(OfSession { id }): Form<OfSession>,
) -> Response {
    let words = guest.words;
    of_user(&app, &guest, async |broker| {
        let left = broker.extend(id.to_string()).await?;
        Ok(format!("{} {} {}.", words.extended, left.as_secs().div_ceil(60), words.minutes))
    })
    .await
}

/// Does something at the broker, says so, and shows the user's desktops.
async fn of_user(
    app: &App,
    guest: &Guest,
    what: impl AsyncFnOnce(&mut Broker) -> Result<String, Refused>,
) -> Response {
    let Some(cookie) = &guest.cookie else { return Redirect::to("/").into_response() };
    let done = async {
        let mut broker = guest.broker(app, cookie).await?;
        let said = what(&mut broker).await?;
        Ok((said, broker.sessions().await?, broker.may_administer().await))
    };
    match done.await {
        Ok((said, sessions, administers)) => {
            let said = Some(said.as_str()).filter(|said| !said.is_empty());
            html::desktops(&app.settings(), guest.words, &sessions, said, administers)
                .into_response()
        }
        Err(error) => guest.refuse(app, &error),
    }
}

async fn desktop_page(State(app): State<Arc<App>>, guest: Guest) -> Response {
    if guest.cookie.is_none() {
        return Redirect::to("/").into_response();
    }
    html::desktop(&app.settings(), guest.words).into_response()
}

/// What a user sees, and does, goes through here.
async fn rfb(
    State(app): State<Arc<App>>,
    guest: Guest,
    uri: Uri,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Ok(Query(wish)) = Query::<Wish>::try_from_uri(&uri) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Guest { words, address, cookie, .. } = guest;
    // Why it is refused is said over the socket: a page is not told with what status an upgrade ended.
    let upgrade = upgrade
        .protocols(["binary"])
        .max_message_size(desktop::MESSAGE_MAX)
        // A frame is read whole before the message that it is a part of is measured.
        .max_frame_size(desktop::MESSAGE_MAX);
    upgrade.on_upgrade(move |socket| {
        desktop::run(app, socket, desktop::User { cookie, address, words }, wish)
    })
}

/// The way to the site's OpenID provider.
async fn to_provider(State(app): State<Arc<App>>, headers: HeaderMap, guest: Guest) -> Response {
    if !app.logins.may_come(guest.address) {
        return guest.refuse(&app, &Refused::TooOften);
    }
    match app.openid.begin(&app.settings(), &headers).await {
        Ok((cookie, there)) => {
            ([(header::SET_COOKIE, cookie)], Redirect::to(&there)).into_response()
        }
        Err(error) => guest.refuse(&app, &error),
    }
}

/// And back from there. Whatever comes of it, the login is not under way any more.
async fn from_provider(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
    guest: Guest,
) -> Response {
    if !app.logins.may_come(guest.address) {
        return guest.refuse(&app, &Refused::TooOften);
    }
    // What cannot be read is no answer to any login.
    let answer = Query::try_from_uri(&uri).map(|Query(answer)| answer).unwrap_or_default();
    let settings = app.settings();
    let unset = (header::SET_COOKIE, openid::unset());
    match app.openid.end(&settings, guest.browser(), &headers, answer).await {
        Ok((cookie, life)) => {
            let set = AppendHeaders([(header::SET_COOKIE, cookie.set(life)), unset]);
            // The browser comes from the provider's page: it brings the cookie along from a page of this site alone.
            (set, html::once_more(&settings, guest.words)).into_response()
        }
        Err(error) => ([unset], guest.refuse(&app, &error)).into_response(),
    }
}
