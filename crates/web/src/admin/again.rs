//! Logging in again before a change: the same forms as at the start, second factor included, and then back to the page
//! that the user came from, with what they were about to do still filled in. What that was goes along in the forms:
//! nothing is kept here.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use uuid::Uuid;

use super::words;
use crate::{
    app::App,
    cookie::Cookie,
    error::Refused,
    login::Next,
    pages::{Guest, answered, html as page},
    ssh::Prompt,
};

/// Longest address of a page with all that is filled in.
const BACK_MAX: usize = 12 << 10;

/// Asks somebody whose login is too old, who was about to do what is on the page `back`.
pub(super) async fn ask(app: &App, guest: &Guest, cookie: &Cookie, back: &str) -> Response {
    let user = cookie.user.clone();
    let next = app.logins.begin(&app.settings(), guest.browser(), user).await;
    show(app, guest, next, back).await
}

/// A form that comes back.
pub(super) async fn answer(State(app): State<Arc<App>>, guest: Guest, body: String) -> Response {
    let fields: Vec<(String, String)> =
        form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let back = fields.iter().find(|(name, back)| name == "back" && is_own(back));
    let back = back.map_or_else(|| "/admin/".to_owned(), |(_, back)| back.clone());
    let Some((id, answers)) = answered(fields) else {
        return guest.refuse_from(&app, &Refused::TooLate, &back);
    };
    let next = app.logins.answer(&app.settings(), guest.browser(), id, answers).await;
    show(&app, &guest, next, &back).await
}

async fn show(app: &App, guest: &Guest, next: Result<Next, Refused>, back: &str) -> Response {
    match next {
        Ok(Next::Form { id, heading, prompts }) => {
            form(app, guest, (id, &heading, prompts.as_deref()), back).into_response()
        }
        Ok(Next::In(cookie, life)) => {
            replace(app, guest, &cookie).await;
            ([(header::SET_COOKIE, cookie.set(life))], Redirect::to(back)).into_response()
        }
        Err(error) => guest.refuse_from(app, &error, back),
    }
}

/// The new login replaces the old one.
async fn replace(app: &App, guest: &Guest, new: &Cookie) {
    let Some(old) = guest.cookie.as_ref().filter(|old| old.id != new.id) else { return };
    let revoked = async { guest.broker(app, new).await?.revoke(old.id.to_string()).await };
    match revoked.await {
        Ok(()) => tracing::info!(user = new.user, old = %old.id, new = %new.id, "logged in again"),
        Err(error) => {
            tracing::warn!(user = new.user, old = %old.id, %error, "the old login stays until its time is over");
        }
    }
}

fn form(
    app: &App,
    guest: &Guest,
    (id, heading, prompts): (Uuid, &str, Option<&[Prompt]>),
    back: &str,
) -> Markup {
    let (words, w) = (guest.words, words::of(guest.words));
    let inner = html! {
        p { (w.again_text) }
        @for line in heading.lines() { p { (line) } }
        form method="post" action="/admin/again" {
            input type="hidden" name="id" value=(id);
            input type="hidden" name="back" value=(back);
            (page::questions(words, prompts))
            button type="submit" { (words.next) }
        }
        p { a href=(back) { (words.cancel) } }
    };
    page::card(&app.settings(), words, w.again, &inner)
}

/// Whether this is the address of a page of ours: what a form brings back is not to lead elsewhere.
fn is_own(back: &str) -> bool {
    back.len() <= BACK_MAX
        && back.starts_with("/admin/")
        && back.chars().all(|c| c.is_ascii_graphic())
        && !back.contains(['\\', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_back_to_our_own_pages_alone() {
        assert!(is_own("/admin/do/drain?agent=a&reason=b+c%0A"));
        for strange in [
            "",
            "/",
            "//evil.example/admin/",
            "https://evil.example/admin/",
            "/admin/do/x\r\nSet-Cookie: a",
            "/admin\\..\\x",
            "/desktop",
        ] {
            assert!(!is_own(strange), "{strange:?}");
        }
        assert!(!is_own(&format!("/admin/do/end?id={}", "1".repeat(BACK_MAX))));
    }
}
