//! The HTML. All of a page's text is escaped by the macro.

use maud::{DOCTYPE, Markup, html};
use uuid::Uuid;
use vsm_daemon::clock;
use vsm_proto::{
    broker::v1::{SessionCondition, SessionView},
    session::v1::Session,
};

use crate::{error::Refused, settings::Settings, ssh::Prompt, words::Words};

fn page(settings: &Settings, words: &Words, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(words.code) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · " (settings.title) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/own/style.css";
            }
            body { (body) }
        }
    }
}

/// A page with one thing on it.
pub(crate) fn card(settings: &Settings, words: &Words, title: &str, inner: &Markup) -> Markup {
    let body = html! {
        main.card {
            p.site { (settings.title) }
            h1 { (title) }
            (inner)
        }
    };
    page(settings, words, title, &body)
}

pub(crate) fn message(settings: &Settings, words: &Words, text: &str) -> Markup {
    let inner = html! {
        p { (text) }
        p { a.button href="/" { (words.again) } }
    };
    card(settings, words, words.failed, &inner)
}

pub(super) fn refused(
    settings: &Settings,
    words: &Words,
    error: &Refused,
    reference: &str,
    back: &str,
) -> Markup {
    let inner = html! {
        p #error role="alert" { (error.words(words)) }
        @if matches!(error, Refused::LoggedOut) {
            p { a.button href="/login" { (words.log_in) } " " a href=(back) { (words.again) } }
        } @else {
            p { a.button href=(back) { (words.again) } }
        }
        p.small { (words.reference) ": " code { (reference) } }
    };
    card(settings, words, words.failed, &inner)
}

pub(super) fn log_in(settings: &Settings, words: &Words) -> Markup {
    let inner = html! {
        @for line in settings.welcome.lines() { p.welcome { (line) } }
        form method="post" action="/login" {
            label for="user" { (words.name) }
            input #user name="user" type="text" autocomplete="username" autocapitalize="none"
                spellcheck="false" maxlength="256" required autofocus;
            button type="submit" { (words.next) }
        }
        @if let Some(openid) = &settings.openid {
            p.other {
                a #openid .button href="/openid" {
                    @if openid.button.is_empty() { (words.openid.button) } @else { (openid.button) }
                }
            }
        }
    };
    card(settings, words, words.log_in, &inner)
}

/// Has the browser come again by itself, from this page.
pub(super) fn once_more(settings: &Settings, words: &Words) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(words.code) {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content="0;url=/";
                title { (settings.title) }
            }
            body { a href="/" { (words.next) } }
        }
    }
}

pub(super) fn form(
    settings: &Settings,
    words: &Words,
    id: Uuid,
    heading: &str,
    prompts: Option<&[Prompt]>,
) -> Markup {
    let inner = html! {
        @for line in heading.lines() { p { (line) } }
        form method="post" action="/answer" {
            input type="hidden" name="id" value=(id);
            (questions(words, prompts))
            button type="submit" { (words.next) }
        }
        p { a href="/" { (words.cancel) } }
    };
    card(settings, words, words.log_in, &inner)
}

/// The fields of a login's form; none = a password.
pub(crate) fn questions(words: &Words, prompts: Option<&[Prompt]>) -> Markup {
    let password = [Prompt { text: words.password.to_owned(), echo: false }];
    let prompts = prompts.unwrap_or(&password);
    html! {
        @for (number, prompt) in prompts.iter().enumerate() {
            @let field = format!("answer{number}");
            label for=(field) { (prompt.text.trim().trim_end_matches(':')) }
            input id=(field) name="answer" type=(if prompt.echo { "text" } else { "password" })
                autocomplete=(completion(prompt)) autocapitalize="none" spellcheck="false"
                maxlength="1024" autofocus[number == 0];
        }
    }
}

/// What a browser may offer to fill in. sshd's question is all that there is to tell by.
fn completion(prompt: &Prompt) -> &'static str {
    let text = prompt.text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if prompt.echo || has(&["code", "token", "otp", "pin"]) {
        "one-time-code"
    } else if has(&["new ", "retype", "neues"]) {
        "new-password"
    } else {
        "current-password"
    }
}

/// What the page of a user's desktops says first: what was done, or nothing. `administers`: the user may open the pages
/// for administrators too.
pub(super) fn desktops(
    settings: &Settings,
    words: &Words,
    sessions: &[SessionView],
    done: Option<&str>,
    administers: bool,
) -> Markup {
    let inner = html! {
        @if let Some(done) = done { p role="status" { (done) } }
        @if sessions.is_empty() { p { (words.no_desktop) } }
        @if sessions.len() > 1 { p { (words.choose_text) } }
        ul.desktops {
            @for view in sessions {
                @if let Some(session) = &view.session { li { (one(words, view, session)) } }
            }
        }
        (new_desktop(settings, words))
        @if administers { p { a href="/admin/" { (words.administration) } } }
        (log_out(words))
    };
    card(settings, words, words.choose, &inner)
}

fn one(words: &Words, view: &SessionView, session: &Session) -> Markup {
    let place = format!("{} :{}", session.agent, session.display);
    let runs = matches!(
        view.condition(),
        SessionCondition::Connected | SessionCondition::Disconnected | SessionCondition::Starting
    );
    let standing = view.standing.as_ref();
    let deadline = standing.and_then(|standing| standing.deadline.as_ref());
    let more = standing.is_some_and(|standing| {
        let most = standing.limits.as_ref().map_or(0, |limits| limits.extensions);
        standing.extensions_used < most
    });
    html! {
        @if runs {
            a.button href={ "/desktop?session=" (session.id) } aria-label={ (words.open) " " (place) } { (words.open) }
        }
        span { (place) " " em { (condition(words, view)) } }
        @if let Some(deadline) = deadline {
            p.small {
                (words.ends_in) " " (minutes(deadline.at_unix_ms)) " " (words.minutes) " (" (deadline.limit) ") "
                @if more {
                    form method="post" action="/extend" {
                        input type="hidden" name="id" value=(session.id);
                        button.plain type="submit" { (words.extend) }
                    }
                }
            }
        }
        @if view.condition() != SessionCondition::Abandoned {
            details {
                summary { (words.end) }
                p { (words.end_text) }
                form method="post" action="/end" {
                    input type="hidden" name="id" value=(session.id);
                    button type="submit" { (words.end_it) }
                }
            }
        }
    }
}

fn condition(words: &Words, view: &SessionView) -> &'static str {
    match view.condition() {
        SessionCondition::Connected => words.connected,
        SessionCondition::Ending | SessionCondition::Abandoned => words.ending,
        SessionCondition::Unreachable => words.unreachable,
        SessionCondition::Starting => words.starting,
        SessionCondition::Disconnected | SessionCondition::Unspecified => words.disconnected,
    }
}

/// From now to then, rounded up.
fn minutes(at_unix_ms: u64) -> u64 {
    at_unix_ms.saturating_sub(clock::unix_millis().0).div_ceil(60_000)
}

/// With the profiles that there are, if any.
fn new_desktop(settings: &Settings, words: &Words) -> Markup {
    html! {
        form method="get" action="/desktop" {
            input type="hidden" name="new" value="true";
            @if settings.profiles.len() > 1 {
                label for="profile" { (words.profile) }
                select #profile name="profile" {
                    option value="" { (words.profile_later) }
                    @for profile in &settings.profiles { option value=(profile.key) { (profile.name) } }
                }
                " "
            }
            button type="submit" { (words.new_desktop) }
        }
    }
}

fn log_out(words: &Words) -> Markup {
    html! {
        form method="post" action="/logout" { button.plain type="submit" { (words.log_out) } }
    }
}

/// Keys that a touch screen has not: what is sent, or held for the next key, and what stands on it.
const PAD: [(&str, &str, &str); 9] = [
    ("data-key", "Escape", "Esc"),
    ("data-key", "Tab", "Tab"),
    ("data-hold", "Control", "Ctrl"),
    ("data-hold", "Alt", "Alt"),
    ("data-hold", "Super", "Super"),
    ("data-key", "Left", "←"),
    ("data-key", "Up", "↑"),
    ("data-key", "Down", "↓"),
    ("data-key", "Right", "→"),
];

fn pad(words: &Words) -> Markup {
    html! {
        div #pad role="toolbar" aria-label=(words.keys) hidden {
            button type="button" aria-label=(words.keyboard) { "⌨" }
            @for (kind, name, label) in PAD {
                @if kind == "data-hold" {
                    button type="button" data-hold=(name) aria-pressed="false" { (label) }
                } @else {
                    // A name for what is a sign alone.
                    @let sign = label.is_ascii().then_some("");
                    button type="button" data-key=(name) aria-label=[sign.map_or(Some(name), |_| None)] { (label) }
                }
            }
        }
    }
}

fn files(words: &Words) -> Markup {
    html! {
        section #files aria-label=(words.files) tabindex="-1" hidden data-failed=(words.file_failed)
            data-more=(words.more_files) data-sent=(words.sent) data-replace=(words.replace)
            data-cancel=(words.cancel) data-exists=(words.file_exists) data-up=(words.up) {
            header {
                h2 { (words.files) }
                button #files-closed type="button" { (words.close) }
            }
            p #where {}
            div.tools {
                label.button for="chosen" { (words.send_files) }
                input #chosen.unseen type="file" multiple;
                label { input #hidden type="checkbox"; (words.hidden_files) }
            }
            ul #entries {}
            ul #doing aria-live="polite" {}
        }
    }
}

/// The texts that the page's script needs go with it as data.
pub(super) fn desktop(settings: &Settings, words: &Words) -> Markup {
    let body = html! {
        noscript { p role="alert" { (words.no_script) } }
        div #bar role="toolbar" aria-label=(words.desktop) {
            button #full type="button" { (words.full_screen) }
            button #pad-shown type="button" aria-expanded="false" aria-controls="pad" { (words.keys) }
            button #files-shown type="button" aria-expanded="false" aria-controls="files" { (words.files) }
            a href="/desktops" { (words.sessions) }
            (log_out(words))
        }
        textarea #keys aria-label=(words.keyboard) autocapitalize="none" autocomplete="off" spellcheck="false" {}
        div #screen data-connecting=(words.connecting) data-reconnecting=(words.reconnecting)
            data-ended=(words.ended) data-taken=(words.taken) data-dropped=(words.dropped)
            data-again=(words.again) data-sessions=(words.sessions) {}
        (files(words))
        (pad(words))
        div #notice role="status" aria-live="polite" { p #text { (words.connecting) } p #actions {} }
        script type="module" src="/own/desktop.js" {}
    };
    page(settings, words, words.desktop, &html! { div.viewer { (body) } })
}
