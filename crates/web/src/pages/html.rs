//! The HTML. All of a page's text is escaped by the macro.

use maud::{DOCTYPE, Markup, html};
use uuid::Uuid;
use vsm_proto::broker::v1::{SessionCondition, SessionView};

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

fn card(settings: &Settings, words: &Words, title: &str, inner: &Markup) -> Markup {
    let body = html! {
        main.card {
            p.site { (settings.title) }
            h1 { (title) }
            (inner)
        }
    };
    page(settings, words, title, &body)
}

pub(super) fn message(settings: &Settings, words: &Words, text: &str) -> Markup {
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
) -> Markup {
    let inner = html! {
        p #error role="alert" { (error.words(words)) }
        @if matches!(error, Refused::LoggedOut) {
            p { a.button href="/login" { (words.log_in) } " " a href="/" { (words.again) } }
        } @else {
            p { a.button href="/" { (words.again) } }
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
    let password = [Prompt { text: words.password.to_owned(), echo: false }];
    let prompts = prompts.unwrap_or(&password);
    let inner = html! {
        @for line in heading.lines() { p { (line) } }
        form method="post" action="/answer" {
            input type="hidden" name="id" value=(id);
            @for (number, prompt) in prompts.iter().enumerate() {
                @let field = format!("answer{number}");
                label for=(field) { (prompt.text.trim().trim_end_matches(':')) }
                input id=(field) name="answer" type=(if prompt.echo { "text" } else { "password" })
                    autocomplete=(completion(prompt)) autocapitalize="none" spellcheck="false"
                    maxlength="1024" autofocus[number == 0];
            }
            button type="submit" { (words.next) }
        }
        p { a href="/" { (words.cancel) } }
    };
    card(settings, words, words.log_in, &inner)
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

pub(super) fn desktops(settings: &Settings, words: &Words, sessions: &[SessionView]) -> Markup {
    let inner = html! {
        @if sessions.len() > 1 { p { (words.choose_text) } }
        ul.desktops {
            @for view in sessions {
                @if let Some(session) = &view.session {
                    li {
                        a.button href={ "/desktop?session=" (session.id) } { (words.open) }
                        span {
                            (session.agent) " :" (session.display) " "
                            @if view.condition() == SessionCondition::Connected {
                                em { (words.connected) }
                            } @else {
                                em { (words.disconnected) }
                            }
                        }
                    }
                }
            }
        }
        p { a.button href="/desktop?new=true" { (words.new_desktop) } }
        (log_out(words))
    };
    card(settings, words, words.choose, &inner)
}

fn log_out(words: &Words) -> Markup {
    html! {
        form method="post" action="/logout" { button.plain type="submit" { (words.log_out) } }
    }
}

/// The texts that the page's script needs go with it as data.
pub(super) fn desktop(settings: &Settings, words: &Words) -> Markup {
    let body = html! {
        noscript { p role="alert" { (words.no_script) } }
        div #bar role="toolbar" aria-label=(words.desktop) {
            button #full type="button" { (words.full_screen) }
            a href="/desktops" { (words.sessions) }
            (log_out(words))
        }
        div #screen data-connecting=(words.connecting) data-reconnecting=(words.reconnecting)
            data-ended=(words.ended) data-taken=(words.taken) data-dropped=(words.dropped)
            data-again=(words.again) data-sessions=(words.sessions) {}
        div #notice role="status" aria-live="polite" { p #text { (words.connecting) } p #actions {} }
        script type="module" src="/own/desktop.js" {}
    };
    page(settings, words, words.desktop, &html! { div.viewer { (body) } })
}
