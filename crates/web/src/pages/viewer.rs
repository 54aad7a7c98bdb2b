//! Files that a browser loads: our own, which are in the program, and noVNC's, which are as they were published.

use std::{
    path::{Component, Path as FilePath},
    sync::Arc,
};

use axum::{
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::app::App;

const SCRIPT: &str = "text/javascript; charset=utf-8";
const OWN: [(&str, &str, &[u8]); 8] = [
    ("admin.css", "text/css; charset=utf-8", include_bytes!("../../assets/admin.css")),
    ("admin.js", SCRIPT, include_bytes!("../../assets/admin.js")),
    ("clipboard.js", SCRIPT, include_bytes!("../../assets/clipboard.js")),
    ("desktop.js", SCRIPT, include_bytes!("../../assets/desktop.js")),
    ("files.js", SCRIPT, include_bytes!("../../assets/files.js")),
    ("keyboard.js", SCRIPT, include_bytes!("../../assets/keyboard.js")),
    ("quality.js", SCRIPT, include_bytes!("../../assets/quality.js")),
    ("style.css", "text/css; charset=utf-8", include_bytes!("../../assets/style.css")),
];
/// They change with the program alone, and it with a restart, after which pages load again.
const KEEP: &str = "private, max-age=3600";

pub(super) async fn own(Path(name): Path<String>) -> Response {
    let file = OWN.iter().find(|(own, ..)| *own == name);
    file.map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |(_, kind, content)| {
            // With the pages that use them: one is not to meet another version of its script.
            let headers = [(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")];
            (headers, *content).into_response()
        },
    )
}

pub(super) async fn novnc(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    let nothing = || StatusCode::NOT_FOUND.into_response();
    let path = FilePath::new(&name);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let kind = match path.extension().and_then(|end| end.to_str()) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some(_) | None => return nothing(),
    };
    if !is_plain {
        return nothing();
    }
    match tokio::fs::read(app.settings().assets.join("novnc").join(path)).await {
        Ok(content) => {
            ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, KEEP)], content).into_response()
        }
        Err(_) => nothing(),
    }
}
