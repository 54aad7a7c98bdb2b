//! A user's files, beside their desktop: the desktop's page asks for them by the number of its connection.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Guest, status};
use crate::{
    app::App,
    door::Visitor,
    error::Refused,
    files::{self, Files},
    viewing::Shown,
};

/// A browser that sends nothing of a file for so long is gone.
const PART_MAX: Duration = Duration::from_secs(60);
/// What is taken of a file that is refused: so many bytes, and for so long.
const REST_MAX: usize = 64 << 20;
const REST_TIME: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
pub(super) struct Where {
    #[serde(default)]
    path: String,
    /// Also in the place of a file that there is.
    #[serde(default)]
    replace: bool,
}

/// Why something was not done, for the page's script.
#[derive(Serialize)]
struct Why {
    text: String,
    reference: String,
    /// There is one of this name.
    exists: bool,
}

impl Guest {
    /// The desktop with this number, if this browser shows it.
    async fn shown(&self, app: &App, id: Uuid) -> Result<(Arc<Shown>, Arc<Files>), Refused> {
        let cookie = self.cookie.as_ref().ok_or(Refused::LoggedOut)?;
        let shown = app.viewing.find(id, cookie.id).ok_or(Refused::NotShown)?;
        let visitor = Visitor { cookie, address: self.address };
        let files = shown.files(&app.settings(), &app.keys, visitor).await?;
        Ok((shown, files))
    }

    fn why(&self, error: &Refused) -> Response {
        let reference = error.told(self.address, self.user());
        let exists = matches!(error, Refused::FileExists);
        (status(error), Json(Why { text: error.words(self.words), reference, exists }))
            .into_response()
    }
}

fn checked(path: &str) -> Result<&str, Refused> {
    if path.len() > files::PATH_MAX || path.contains('\0') {
        return Err(Refused::NoSuchFile);
    }
    Ok(path)
}

/// What is in a folder.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    guest: Guest,
    Path(id): Path<Uuid>,
    Query(Where { path, .. }): Query<Where>,
) -> Response {
    let listed = async {
        let (shown, files) = guest.shown(&app, id).await?;
        until(&shown.gone, files.list(checked(&path)?)).await
    };
    match listed.await {
        Ok(folder) => Json(folder).into_response(),
        Err(error) => guest.why(&error),
    }
}

/// A file's content, for the browser to save; never to show, as it would be a page of this site's.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    guest: Guest,
    Path(id): Path<Uuid>,
    Query(Where { path, .. }): Query<Where>,
) -> Response {
    let opened = async {
        let (shown, files) = guest.shown(&app, id).await?;
        let place = Arc::clone(&shown.fetches).try_acquire_owned();
        let place = place.map_err(|_| Refused::ManyFiles)?;
        let fetched = until(&shown.gone, files.fetch(checked(&path)?)).await?;
        Ok((shown, place, fetched))
    };
    match opened.await {
        Ok((shown, place, fetched)) => {
            let user = guest.user();
            tracing::info!(user, path, bytes = fetched.length, "a file goes to the browser");
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, fetched.length.to_string()),
                (header::CONTENT_DISPOSITION, saved_as(files::name(&path))),
            ];
            let content = cut(shown.gone.clone(), fetched.content, place);
            (headers, Body::from_stream(content)).into_response()
        }
        Err(error) => guest.why(&error),
    }
}

/// Takes a file. In a task of its own: what is begun is taken back also where its browser has gone.
pub(super) async fn put(
    State(app): State<Arc<App>>,
    guest: Guest,
    Path(id): Path<Uuid>,
    Query(to): Query<Where>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    let taken =
        tokio::spawn(async move { take(&app, &guest, id, &to, received(body, length)).await });
    taken.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn take(
    app: &App,
    guest: &Guest,
    id: Uuid,
    Where { path, replace }: &Where,
    content: impl Stream<Item = Result<Bytes, Refused>> + Send,
) -> Response {
    let mut content = std::pin::pin!(content);
    let stored = async {
        let (shown, files) = guest.shown(app, id).await?;
        let path = checked(path)?;
        let _place = shown.transfers.acquire().await.map_err(|_| Refused::NotShown)?;
        until(&shown.gone, files.store(path, *replace, content.as_mut())).await
    };
    let stored = stored.await;
    if stored.is_err() {
        pass_over(content.as_mut()).await;
    }
    match stored {
        Ok(()) => {
            let user = guest.user();
            tracing::info!(user, path, "a file came from the browser");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => guest.why(&error),
    }
}

/// Takes what is still to come of a file that is refused, within bounds: a browser that is cut off while it sends reads
/// no answer.
async fn pass_over(mut content: impl Stream<Item = Result<Bytes, Refused>> + Unpin) {
    let rest = async {
        let mut bytes = 0;
        while let Some(Ok(piece)) = content.next().await {
            bytes += piece.len();
            if bytes > REST_MAX {
                return;
            }
        }
    };
    // Whatever has come by then.
    let _ = tokio::time::timeout(REST_TIME, rest).await;
}

/// What comes of a file, and an error where it is less than was announced.
fn received(body: Body, length: Option<u64>) -> impl Stream<Item = Result<Bytes, Refused>> + Send {
    let broke = |why: &str| Refused::Broke(why.to_owned());
    let pieces = Box::pin(body.into_data_stream());
    futures_util::stream::unfold((pieces, 0, false), move |(mut pieces, got, over)| async move {
        if over {
            return None;
        }
        let next = match tokio::time::timeout(PART_MAX, pieces.next()).await {
            Ok(Some(Ok(piece))) => Ok(piece),
            Ok(Some(Err(error))) => Err(broke(&error.to_string())),
            Ok(None) if length.is_none_or(|length| length == got) => return None,
            Ok(None) => Err(broke("the browser sent less than it announced")),
            Err(_) => Err(broke("the browser sends nothing more")),
        };
        let got = got + next.as_ref().map_or(0, |piece| piece.len() as u64);
        let over = next.is_err();
        Some((next, (pieces, got, over)))
    })
}

/// Does something as long as the desktop is shown.
async fn until<T>(
    gone: &CancellationToken,
    what: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    gone.run_until_cancelled(what).await.unwrap_or(Err(Refused::NotShown))
}

/// The same of what a file brings: it breaks off with the desktop.
fn cut(
    gone: CancellationToken,
    content: impl Stream<Item = Result<Bytes, Refused>> + Send + Unpin,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, Refused>> + Send {
    futures_util::stream::unfold(Some((gone, content, place)), async |state| {
        let (gone, mut content, place) = state?;
        match gone.run_until_cancelled(content.next()).await {
            Some(next) => Some((next?, Some((gone, content, place)))),
            None => Some((Err(Refused::NotShown), None)),
        }
    })
}

/// What stands in a header's value as it is (RFC 5987, attr-char, of which the letters that nobody needs are left out).
const CODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The header that gives a file its name, as RFC 6266 has it.
fn saved_as(name: &str) -> String {
    format!("attachment; filename*=UTF-8''{}", utf8_percent_encode(name, CODED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_header() {
        assert_eq!(saved_as("plan.txt"), "attachment; filename*=UTF-8''plan.txt");
        assert_eq!(saved_as("a\"\r\nX: ü"), "attachment; filename*=UTF-8''a%22%0D%0AX%3A%20%C3%BC");
    }

    #[test]
    fn a_path_has_bounds() {
        assert!(checked("/home/alice").is_ok());
        assert!(checked("/a\0b").is_err());
        assert!(checked(&"x".repeat(files::PATH_MAX + 1)).is_err());
    }
}
