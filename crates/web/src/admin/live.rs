//! Pages that are shown anew as things change, by server-sent events: each has the part of the page that changes, made
//! by the server. What changes is heard from the broker's own streams where there is one.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use tonic::Streaming;
use vsm_daemon::{
    clock,
    share::{self, Share, Who},
};
use vsm_proto::admin::v1 as pb;

use super::{
    fields::Fields,
    view::View,
    views::{events, sessions},
    way::{NoWay, Way},
    words::{self, Words},
};
use crate::{app::App, pages::Guest};

/// What has no stream is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After a change so long no other one is shown: many come at once.
const REST: Duration = Duration::from_secs(1);
/// A page is served for so long; then its browser asks again.
const LIFE: Duration = Duration::from_secs(600);
/// So often something is said, so that a browser that has gone is noticed.
const BEAT: Duration = Duration::from_secs(15);
/// How long to wait for a browser's next attempt.
const RETRY: Duration = Duration::from_secs(2);

/// What is heard of changes by.
enum Ear {
    Sessions(Streaming<pb::WatchSessionsResponse>),
    Events(Streaming<pb::ListEventsResponse>),
    Clock,
}

/// One page that is served.
struct Live {
    way: Way,
    ear: Ear,
    view: View,
    fields: Fields,
    words: &'static Words,
    shown: String,
    since: std::time::Instant,
    _place: Share,
}

pub(super) async fn serve(
    State(app): State<Arc<App>>,
    guest: Guest,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let path = if path == "overview" { "" } else { &path };
    let Some(view) = View::at(path).filter(|view| view.is_live()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let who = Who::Address(share::network(guest.address));
    let Some(place) = app.live.take(who) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let fields = Fields::read(&query.unwrap_or_default());
    let opened = async {
        let way = Way::open(&app, &guest).await?;
        let ear = Ear::open(&way, view, &fields).await?;
        Ok::<_, NoWay>((way, ear))
    };
    let (way, ear) = match opened.await {
        Ok(opened) => opened,
        // The page says that it is not shown anew, and a reload why.
        Err(NoWay::NotAllowed | NoWay::Old) => return StatusCode::FORBIDDEN.into_response(),
        Err(NoWay::Refused(_)) => return StatusCode::BAD_GATEWAY.into_response(),
    };
    let live = Live {
        way,
        ear,
        view,
        fields,
        words: words::of(guest.words),
        shown: String::new(),
        since: clock::now(),
        _place: place,
    };
    let parts = stream::unfold(live, async |mut live| {
        let part = live.next().await?;
        let event = Event::default().retry(RETRY).data(part);
        Some((Ok::<_, Infallible>(event), live))
    });
    Sse::new(Box::pin(parts)).keep_alive(KeepAlive::new().interval(BEAT)).into_response()
}

impl Ear {
    async fn open(way: &Way, view: View, fields: &Fields) -> Result<Self, NoWay> {
        if view == View::Sessions {
            let selector = sessions::selector(fields);
            return Ok(Self::Sessions(way.admin().watch_sessions(selector).await?.into_inner()));
        }
        if view == View::Events {
            let wanted = pb::ListEventsRequest { follow: true, ..events::wanted(fields, 1) };
            return Ok(Self::Events(way.admin().list_events(wanted).await?.into_inner()));
        }
        Ok(Self::Clock)
    }

    /// Waits until something may be another one; none = the broker has ended it.
    async fn change(&mut self) -> Option<()> {
        match self {
            Self::Sessions(changes) => drop(changes.message().await.ok()??),
            Self::Events(changes) => drop(changes.message().await.ok()??),
            Self::Clock => tokio::time::sleep(LOOK_EVERY).await,
        }
        Some(())
    }
}

impl Live {
    /// The part as it is once it is another one; none = the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if !self.shown.is_empty() {
                self.ear.change().await?;
                // What else comes meanwhile is shown with it.
                let rest = tokio::time::sleep(REST);
                tokio::pin!(rest);
                loop {
                    tokio::select! {
                        biased;
                        () = &mut rest => break,
                        more = self.ear.change(), if !matches!(self.ear, Ear::Clock) => more?,
                    }
                }
            }
            if self.since.elapsed() > LIFE {
                return None;
            }
            let body = self.view.body(&self.way, self.words, &self.fields).await.ok()?;
            // A carriage return would end a line of the stream.
            let part = body.into_string().replace('\r', " ");
            if part != self.shown {
                self.shown.clone_from(&part);
                return Some(part);
            }
        }
    }
}
