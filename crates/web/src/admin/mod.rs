//! The pages for administrators. Who one is the broker says: its socket for administrators has a group. What they see
//! and do goes through that socket, as `vsmctl` does it, and is in the trail under their own name.
//!
//! | module | owns |
//! | --- | --- |
//! | [`way`] | the connection to that socket |
//! | [`view`], [`views`] | the pages that show something |
//! | [`act`] | the pages on which something is done |
//! | [`again`] | logging in again before that |
//! | [`live`] | pages that change by themselves |
//! | [`html`] | what all pages have |
//! | [`fields`] | what stands in addresses and forms |
//! | [`words`] | their texts, in each language |

mod act;
mod again;
mod fields;
mod html;
mod live;
mod view;
mod views;
mod way;
mod words;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use futures_util::stream;
use vsm_proto::admin::v1::ListEventsResponse;

use self::{
    act::{Act, Undone},
    fields::Fields,
    html::Frame,
    view::View,
    views::events,
    way::{NoWay, Way},
};
use crate::{app::App, broker::within, error::Refused, pages::Guest};

/// Longest form: a hundred sessions and a text, twice written as an address.
const BODY_MAX: usize = 64 << 10;

/// All addresses.
pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/admin", get(async || Redirect::permanent("/admin/")))
        .route("/admin/", get(overview))
        .route("/admin/{view}", get(shown))
        .route("/admin/events.jsonl", get(exported))
        .route("/admin/live/{view}", get(live::serve))
        .route("/admin/do/{act}", get(asked).post(done))
        .route("/admin/again", post(again::answer))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(app)
}

async fn overview(State(app): State<Arc<App>>, guest: Guest) -> Response {
    show(&app, &guest, View::Overview, &Fields::default()).await
}

async fn shown(
    State(app): State<Arc<App>>,
    guest: Guest,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(view) = View::at(&path) else { return nothing(&app, &guest) };
    show(&app, &guest, view, &Fields::read(&query.unwrap_or_default())).await
}

async fn show(app: &App, guest: &Guest, view: View, fields: &Fields) -> Response {
    let Some(cookie) = &guest.cookie else { return Redirect::to("/").into_response() };
    let settings = app.settings();
    let frame = Frame::new(&settings, guest.words, &cookie.user);
    let page = async {
        let way = Way::open(app, guest).await?;
        view.page(&way, &frame, fields).await
    };
    match page.await {
        Ok(page) => page.into_response(),
        Err(error) => refuse(app, guest, error),
    }
}

/// The page on which something is done.
async fn asked(
    State(app): State<Arc<App>>,
    guest: Guest,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(act) = Act::at(&path) else { return nothing(&app, &guest) };
    let Some(cookie) = &guest.cookie else { return Redirect::to("/").into_response() };
    let settings = app.settings();
    let frame = Frame::new(&settings, guest.words, &cookie.user);
    let page = async {
        let way = Way::open(&app, &guest).await?;
        act.page(&way, &frame, &Fields::read(&query.unwrap_or_default()), None).await
    };
    match page.await {
        Ok(page) => page.into_response(),
        Err(error) => refuse(&app, &guest, error),
    }
}

/// The form of such a page.
async fn done(
    State(app): State<Arc<App>>,
    guest: Guest,
    Path(path): Path<String>,
    body: String,
) -> Response {
    let Some(act) = Act::at(&path) else { return nothing(&app, &guest) };
    let Some(cookie) = &guest.cookie else { return Redirect::to("/").into_response() };
    let fields = Fields::read(&body);
    let settings = app.settings();
    let frame = Frame::new(&settings, guest.words, &cookie.user);
    let way = match Way::open(&app, &guest).await {
        Ok(way) => way,
        Err(error) => return refuse(&app, &guest, error),
    };
    let run = async {
        if way.may_change() { act.run(&way, &fields).await } else { Err(NoWay::Old.into()) }
    };
    match run.await {
        Ok(done) => {
            tracing::info!(user = cookie.user, address = %guest.address, act = path, "done");
            act.done(&way, &frame, &fields, &done).into_response()
        }
        // Another login would change nothing.
        Err(Undone::NoWay(NoWay::Old)) if way.never_changes() => {
            Redirect::to(&fields.after(&act.path())).into_response()
        }
        Err(Undone::NoWay(NoWay::Old)) => {
            again::ask(&app, &guest, cookie, &fields.after(&act.path())).await
        }
        Err(Undone::NoWay(error)) => refuse(&app, &guest, error),
        Err(why) => match act.page(&way, &frame, &fields, Some(&why)).await {
            Ok(page) => (StatusCode::UNPROCESSABLE_ENTITY, page).into_response(),
            Err(error) => refuse(&app, &guest, error),
        },
    }
}

/// Events as lines of JSON, as `vsmctl events --output json --follow` prints them.
async fn exported(
    State(app): State<Arc<App>>,
    guest: Guest,
    RawQuery(query): RawQuery,
) -> Response {
    let fields = Fields::read(&query.unwrap_or_default());
    let opened = async {
        let way = Way::open(&app, &guest).await?;
        let all = within(way::LONG, events::wanted(&fields, 0));
        let pages = way.admin().list_events(all).await?.into_inner();
        Ok::<_, NoWay>((way, pages))
    };
    let (way, pages) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return refuse(&app, &guest, error),
    };
    let wanted = fields.get("q").to_owned();
    let text = move |page: ListEventsResponse| {
        let found = way::records(page).into_iter().filter(|event| events::has(event, &wanted));
        let lines = found.filter_map(|event| serde_json::to_string(&event).ok());
        lines.map(|line| line + "\n").collect::<String>()
    };
    let parts = stream::unfold((way, pages, text), async |(way, mut pages, text)| {
        let page = pages.message().await.transpose()?;
        Some((page.map(&text), (way, pages, text)))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/jsonl; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"events.jsonl\""),
    ];
    (headers, Body::from_stream(parts)).into_response()
}

fn nothing(app: &App, guest: &Guest) -> Response {
    let page = crate::pages::html::message(&app.settings(), guest.words, guest.words.nothing_here);
    (StatusCode::NOT_FOUND, page).into_response()
}

/// A page that says why something is not shown.
fn refuse(app: &App, guest: &Guest, error: NoWay) -> Response {
    match error {
        NoWay::NotAllowed => {
            let user = guest.user();
            tracing::warn!(user, address = %guest.address, "refused: no administrator");
            let text = words::of(guest.words).not_allowed;
            let page = crate::pages::html::message(&app.settings(), guest.words, text);
            (StatusCode::FORBIDDEN, page).into_response()
        }
        // Whoever may only look is asked before a change, and nothing that is shown is one.
        NoWay::Old => guest.refuse(app, &Refused::LoggedOut),
        NoWay::Refused(error) => guest.refuse(app, &error),
    }
}
