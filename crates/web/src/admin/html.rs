//! What all pages for administrators have: the frame around them, tables, records, and the command line that does the
//! same. All of a page's text is escaped by the macro.

use maud::{DOCTYPE, Markup, html};
use vsm_cli::views::Cells;

use super::{
    fields::Fields,
    way::Way,
    words::{self, Words},
};
use crate::{settings::Settings, words::Words as UserWords};

/// What a page is made with.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) settings: &'a Settings,
    pub(super) user_words: &'static UserWords,
    pub(super) words: &'static Words,
    pub(super) user: &'a str,
}

/// What a page is called.
type Name = fn(&Words) -> &'static str;

/// The pages that each page leads to.
const NAVIGATION: [(&str, Name); 9] = [
    ("", |w| w.overview),
    ("sessions", |w| w.sessions),
    ("agents", |w| w.agents),
    ("capacity", |w| w.capacity),
    ("events", |w| w.events),
    ("logins", |w| w.logins),
    ("identities", |w| w.identities),
    ("configuration", |w| w.configuration),
    ("ha", |w| w.ha),
];

impl<'a> Frame<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        user_words: &'static UserWords,
        user: &'a str,
    ) -> Self {
        Self { settings, user_words, words: words::of(user_words), user }
    }

    /// A page. `place`: which of those that each page leads to it belongs to.
    pub(super) fn page(&self, way: &Way, place: &str, title: &str, body: &Markup) -> Markup {
        let w = self.words;
        html! {
            (DOCTYPE)
            html lang=(self.user_words.code) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · " (w.administration) " · " (self.settings.title) }
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href="/own/admin.css";
                    script defer src="/own/admin.js" {}
                }
                body {
                    a.skip href="#main" { (w.skip) }
                    header {
                        p.site { a href="/desktops" { (self.settings.title) } " · " (w.administration) }
                        nav aria-label=(w.administration) {
                            @for (path, name) in NAVIGATION {
                                @let current = (path == place).then_some("page");
                                a href={ "/admin/" (path) } aria-current=[current] { (name(w)) }
                            }
                        }
                    }
                    main #main {
                        h1 { (title) }
                        @if let Some(why) = way.stale() { p.notice role="status" { (why) } }
                        (body)
                    }
                    footer {
                        p { (w.as_user(self.user, &way.status.node)) " " (freshness(w, way)) }
                        p #lost hidden role="status" data-text=(w.lost) {}
                    }
                }
            }
        }
    }
}

/// How long changes are let through without another login.
fn freshness(words: &Words, way: &Way) -> Markup {
    html! {
        @match way.left() {
            None => {}
            Some(_) if way.never_changes() => { (words.never) }
            Some(_) if !way.may_change() => { (words.asked_again) }
            Some(left) => { (words.changes_for(left.as_secs().div_ceil(60))) }
        }
    }
}

/// The command lines that do the same.
pub(super) fn same(words: &Words, lines: &[String]) -> Markup {
    html! {
        section.same aria-label=(words.same) {
            h2 { (words.same) }
            pre tabindex="0" { @for line in lines { code { (line) } "\n" } }
        }
    }
}

/// What is to do, each with the command that mends it.
pub(super) fn to_do(words: &Words, lines: &[String]) -> Markup {
    html! {
        section.todo aria-labelledby="todo" {
            h2 #todo { (words.to_do) }
            @if lines.is_empty() { p.good { (words.nothing_to_do) } }
            @else { ul { @for line in lines { li { (line) } } } }
        }
    }
}

/// A link to the page on which something is done.
pub(super) fn act(name: &str, fields: &Fields, text: &str) -> Markup {
    html! { a.act href=(fields.after(&format!("/admin/do/{name}"))) { (text) } }
}

/// A cell of a table: a text, or more than that.
pub(super) type Cell = Markup;

/// A table; each row's first cell names it.
pub(super) fn rows(words: &Words, label: &str, headings: &[String], rows: &[Vec<Cell>]) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label=(label) {
            table {
                thead { tr { @for heading in headings { th scope="col" { (words.heading(heading)) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (place, cell) in row.iter().enumerate() {
                                @if place == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
        @if rows.is_empty() { p.soft { (words.none) } }
    }
}

/// A table of texts.
pub(super) fn table(words: &Words, label: &str, cells: &Cells) -> Markup {
    let texts = |row: &Vec<String>| row.iter().map(|cell| html! { (cell) }).collect();
    let all: Vec<Vec<Cell>> = cells.rows.iter().map(texts).collect();
    rows(words, label, &cells.headings, &all)
}

/// A thing's fields.
pub(super) fn record(fields: &[(String, String)]) -> Markup {
    html! { dl { @for (name, value) in fields { div { dt { (name) } dd { (value) } } } } }
}

/// A field of a filter or a form.
pub(super) fn input(fields: &Fields, name: &str, label: &str, hint: &str) -> Markup {
    html! {
        div.field {
            label for={ "f-" (name) } { (label) }
            input id={ "f-" (name) } name=(name) type="text" value=(fields.get(name)) placeholder=[some(hint)]
                maxlength="512" autocapitalize="none" spellcheck="false" autocomplete="off";
        }
    }
}

/// One of several.
pub(super) fn choice(fields: &Fields, name: &str, label: &str, all: &[(&str, &str)]) -> Markup {
    html! {
        div.field {
            label for={ "f-" (name) } { (label) }
            select id={ "f-" (name) } name=(name) {
                @for (value, text) in all {
                    option value=(value) selected[fields.get(name) == *value] { (text) }
                }
            }
        }
    }
}

/// Something that can be ticked.
pub(super) fn check(fields: &Fields, name: &str, label: &str) -> Markup {
    html! {
        div.field.tick {
            input id={ "f-" (name) } name=(name) type="checkbox" value="yes" checked[fields.has(name)];
            label for={ "f-" (name) } { (label) }
        }
    }
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
