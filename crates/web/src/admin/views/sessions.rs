//! Sessions: the list with its filter, one of them, and the end of its log.

use maud::{Markup, html};
use vsm_cli::{desktops::SessionRow, output::short_id, views};
use vsm_proto::{admin::v1 as pb, broker::v1::SessionCondition};

use crate::{
    admin::{
        fields::{Fields, line},
        html::{act, choice, input, record, rows},
        way::{DEADLINE, NoWay, Way},
        words::Words,
    },
    broker::within,
};

/// Rows of one page.
pub(in crate::admin) const ROWS: usize = 100;
/// Most of a log that is shown, in bytes.
const LOG_MAX: u64 = 256 << 10;
const STATES: [(&str, SessionCondition); 6] = [
    ("starting", SessionCondition::Starting),
    ("connected", SessionCondition::Connected),
    ("disconnected", SessionCondition::Disconnected),
    ("ending", SessionCondition::Ending),
    ("unreachable", SessionCondition::Unreachable),
    ("abandoned", SessionCondition::Abandoned),
];

/// The fields of the filter, with the options of `vsmctl` that they are.
const FILTER: [(&str, &str); 5] = [
    ("user", "--user"),
    ("agent", "--agent"),
    ("subcluster", "--subcluster"),
    ("state", "--state"),
    ("older", "--older-than"),
];

pub(in crate::admin) fn lines(fields: &Fields) -> Vec<String> {
    let given = FILTER.iter().filter(|(name, _)| fields.has(name));
    let options = given.flat_map(|(name, option)| [*option, fields.get(name)]);
    vec![line(["vsmctl", "session", "list"].into_iter().chain(options))]
}

/// Which sessions are meant. An age that is none is left out, and the page says so.
pub(in crate::admin) fn selector(fields: &Fields) -> pb::SessionSelector {
    let state = STATES.iter().find(|(word, _)| *word == fields.get("state"));
    pb::SessionSelector {
        id: fields.get("id").to_owned(),
        user: fields.get("user").to_owned(),
        agent: fields.get("agent").to_owned(),
        subcluster: fields.get("subcluster").to_owned(),
        condition: state.map_or(SessionCondition::Unspecified, |(_, state)| *state).into(),
        older_than_seconds: views::seconds(fields.get("older")).unwrap_or(0),
        ..pb::SessionSelector::default()
    }
}

pub(in crate::admin) fn filter(w: &Words, fields: &Fields) -> Markup {
    let mut states = vec![("", w.any)];
    states.extend(STATES.iter().map(|(word, _)| (*word, *word)));
    html! {
        form.filter method="get" action="/admin/sessions" role="search" {
            (input(fields, "user", w.user, ""))
            (input(fields, "agent", w.agent, ""))
            (input(fields, "subcluster", w.subcluster, ""))
            (choice(fields, "state", w.state, &states))
            (input(fields, "older", w.older_than, "12h"))
            button type="submit" { (w.show) }
        }
    }
}

pub(in crate::admin) async fn body(way: &Way, w: &Words, fields: &Fields) -> Result<Markup, NoWay> {
    let page = fields.number("page", 1).clamp(1, usize::MAX / ROWS);
    let first = (page - 1) * ROWS;
    let (shown, count) = way.sessions(selector(fields), first..first + ROWS).await?;
    let all: Vec<SessionRow> = shown.into_iter().map(SessionRow::from).collect();
    let bad_age = fields.has("older") && views::seconds(fields.get("older")).is_err();
    Ok(html! {
        @if bad_age { p.notice role="alert" { (w.bad_age) } }
        p { (w.sessions_shown(all.len(), count)) }
        form method="get" {
            (list(w, &all))
            @if !all.is_empty() {
                p.acts {
                    button type="submit" formaction="/admin/do/end" { (w.end) }
                    " " button type="submit" formaction="/admin/do/notify" { (w.notify) }
                    " " span.soft { (w.ticked) }
                }
            }
        }
        (pager(w, fields, page, count))
    })
}

/// The rows, each to be ticked.
fn list(w: &Words, all: &[SessionRow]) -> Markup {
    let headings =
        ["SESSION", "USER", "AGENT", "DISPLAY", "STATE", "AGE", "VIEWER"].map(str::to_owned);
    let cells: Vec<Vec<Markup>> = all.iter().map(|row| cells(w, row)).collect();
    rows(w, w.sessions, &headings, &cells)
}

fn cells(w: &Words, row: &SessionRow) -> Vec<Markup> {
    let agent = Fields::one("name", &row.agent).after("/admin/agent");
    vec![
        html! {
            input type="checkbox" name="id" value=(row.session) aria-label=(w.tick(&short_id(&row.session)));
            " " a href=(Fields::one("id", &row.session).after("/admin/session")) { (short_id(&row.session)) }
        },
        html! { (row.user) },
        html! { a href=(agent) { (row.agent) } },
        html! { @if row.display > 0 { ":" (row.display) } @else { "–" } },
        html! {
            span.state.(row.state) { (row.state) }
            @if row.possible_duplicate { ", " (w.duplicate) }
        },
        html! { (row.age) },
        html! { (row.viewer.as_deref().unwrap_or("–")) },
    ]
}

fn pager(w: &Words, fields: &Fields, page: usize, count: usize) -> Markup {
    let last = count.div_ceil(ROWS).max(1);
    let to = |page: usize| fields.with("page", &page.to_string()).after("/admin/sessions");
    html! {
        @if last > 1 {
            nav.pager aria-label=(w.pages) {
                @if page > 1 { a rel="prev" href=(to(page.min(last + 1) - 1)) { (w.previous) } }
                span { (w.page_of(page, last)) }
                @if page < last { a rel="next" href=(to(page + 1)) { (w.next) } }
            }
        }
    }
}

/// The session with this id, or the end of it.
async fn found(way: &Way, fields: &Fields) -> Result<Option<SessionRow>, NoWay> {
    if !fields.has("id") {
        return Ok(None);
    }
    let id =
        pb::SessionSelector { id: fields.get("id").to_owned(), ..pb::SessionSelector::default() };
    let (mut all, _) = way.sessions(id, 0..1).await?;
    Ok(all.pop().map(SessionRow::from))
}

pub(in crate::admin) async fn one(way: &Way, w: &Words, fields: &Fields) -> Result<Markup, NoWay> {
    let Some(row) = found(way, fields).await? else { return Ok(html! { p { (w.no_session) } }) };
    let id = Fields::one("id", &row.session);
    let of_user = Fields::one("user", &row.user);
    let of_session = Fields::one("session", &row.session);
    Ok(html! {
        p.acts {
            (act("end", &id, w.end)) " " (act("notify", &id, w.notify))
            " " a href=(id.after("/admin/log")) { (w.log) }
            " " a href=(of_session.after("/admin/events")) { (w.its_events) }
            " " a href=(of_user.after("/admin/explain")) { (w.explain) }
        }
        (record(&views::session(&row)))
    })
}

pub(in crate::admin) async fn log(way: &Way, w: &Words, fields: &Fields) -> Result<Markup, NoWay> {
    let request = pb::SessionLogRequest { id: fields.get("id").to_owned(), bytes: LOG_MAX };
    let answer = way.admin().session_log(within(DEADLINE, request)).await?.into_inner();
    let text = views::log_text(&answer.text);
    Ok(html! {
        p { a href=(Fields::one("id", &answer.id).after("/admin/session")) { (short_id(&answer.id)) } " · " (answer.agent) }
        @if text.is_empty() { p.soft { (w.none) } }
        @else { pre.log tabindex="0" aria-label=(w.log) { (text) } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_what_vsmctl_is_told() {
        let fields = Fields::read("user=o'brien&state=connected&older=12h&page=3");
        assert_eq!(
            lines(&fields),
            [r"vsmctl session list --user 'o'\''brien' --state connected --older-than 12h"]
        );
        let selector = selector(&fields);
        assert_eq!((selector.user.as_str(), selector.older_than_seconds), ("o'brien", 43_200));
        assert_eq!(selector.condition(), SessionCondition::Connected);
        assert_eq!(
            super::selector(&Fields::read("older=soon&state=x")),
            pb::SessionSelector::default()
        );
    }
}
