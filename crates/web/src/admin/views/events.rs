//! The trail: who did what when.

use maud::{Markup, html};
use vsm_daemon::event_record::EventRecord;
use vsm_proto::admin::v1 as pb;

use crate::admin::{
    fields::{Fields, line},
    html::{choice, input, rows},
    way::{NoWay, Way},
    words::Words,
};

/// How many of the last ones are looked at; the first is what is taken where nothing is said.
const LAST: [(&str, &str); 4] =
    [("100", "100"), ("500", "500"), ("2000", "2000"), ("10000", "10000")];
/// Rows that are shown of what is found.
const ROWS_MAX: usize = 500;

/// Which events the broker is asked for; 0 = all that are kept.
pub(in crate::admin) fn wanted(fields: &Fields, last: u32) -> pb::ListEventsRequest {
    pb::ListEventsRequest {
        last,
        session: fields.get("session").to_owned(),
        user: fields.get("user").to_owned(),
        agent: fields.get("agent").to_owned(),
        ..pb::ListEventsRequest::default()
    }
}

fn last(fields: &Fields) -> u32 {
    let found = LAST.iter().find(|(value, _)| *value == fields.get("last")).unwrap_or(&LAST[0]);
    found.0.parse().unwrap_or(100)
}

pub(in crate::admin) fn lines(fields: &Fields) -> Vec<String> {
    let last = last(fields).to_string();
    let mut words = vec!["vsmctl", "events", "--last", &last];
    for (name, option) in [("user", "--user"), ("agent", "--agent"), ("session", "--session")] {
        if fields.has(name) {
            words.extend([option, fields.get(name)]);
        }
    }
    vec![line(words)]
}

pub(in crate::admin) fn filter(w: &Words, fields: &Fields) -> Markup {
    html! {
        form.filter method="get" action="/admin/events" role="search" {
            (input(fields, "q", w.contains, ""))
            (input(fields, "user", w.user, ""))
            (input(fields, "agent", w.agent, ""))
            (input(fields, "session", w.session, ""))
            (choice(fields, "last", w.of_the_last, &LAST))
            button type="submit" { (w.show) }
            " " a href=(fields.after("/admin/events.jsonl")) download="events.jsonl" { (w.export) }
        }
    }
}

/// Whether an event has this text in it.
pub(in crate::admin) fn has(event: &EventRecord, text: &str) -> bool {
    let text = text.to_lowercase();
    let others = [&event.user, &event.agent, &event.session];
    let all = [&event.actor, &event.action, &event.detail].into_iter();
    let mut all = all.chain(others.into_iter().flatten());
    text.is_empty() || all.any(|own| own.to_lowercase().contains(&text))
}

pub(in crate::admin) async fn body(way: &Way, w: &Words, fields: &Fields) -> Result<Markup, NoWay> {
    let mut all = way.events(wanted(fields, last(fields))).await?;
    all.retain(|event| has(event, fields.get("q")));
    let count = all.len();
    let headings = ["TIME", "ACTOR", "ACTION", "USER", "AGENT", "DETAIL"].map(str::to_owned);
    // The newest first.
    let cells: Vec<Vec<Markup>> = all.iter().rev().take(ROWS_MAX).map(cells).collect();
    Ok(html! {
        p { (w.events_found(count.min(ROWS_MAX), count)) }
        (rows(w, w.events, &headings, &cells))
    })
}

fn cells(event: &EventRecord) -> Vec<Markup> {
    let time = event.time.as_deref().map(vsm_cli::output::to_the_second).unwrap_or_default();
    let session = event.session.as_deref().unwrap_or_default();
    vec![
        html! { time datetime=(time) { (time.replace('T', " ").trim_end_matches('Z')) } },
        html! { (plain(&event.actor)) },
        html! { span.word { (plain(&event.action)) } },
        html! { (plain(event.user.as_deref().unwrap_or("–"))) },
        html! { (plain(event.agent.as_deref().unwrap_or("–"))) },
        html! {
            @if !session.is_empty() {
                a href=(Fields::one("session", session).after("/admin/events")) { (vsm_cli::output::short_id(session)) } " "
            }
            (plain(&event.detail))
        },
    ]
}

/// What hosts and users say of themselves is in some of them.
fn plain(text: &str) -> String {
    vsm_core::printable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_found_by_any_of_its_words() {
        let event = EventRecord {
            number: 1,
            time: None,
            unix_ms: 0,
            actor: "ann".to_owned(),
            action: "agent-drained".to_owned(),
            session: None,
            user: None,
            agent: Some("agent1".to_owned()),
            detail: "New kernel".to_owned(),
            chain: None,
        };
        for text in ["", "ANN", "drained", "agent1", "kernel"] {
            assert!(has(&event, text), "{text}");
        }
        assert!(!has(&event, "bob"));
    }

    #[test]
    fn only_so_many_are_looked_at_as_the_page_offers() {
        assert_eq!(last(&Fields::read("last=2000")), 2000);
        assert_eq!(last(&Fields::read("last=4000000000")), 100);
        assert_eq!(lines(&Fields::read("user=ann")), ["vsmctl events --last 100 --user ann"]);
    }
}
