//! Agents: the list, one of them, how busy they are, and which one a user would get.

use maud::{Markup, html};
use vsm_cli::views;
use vsm_proto::admin::v1 as pb;

use crate::{
    admin::{
        fields::Fields,
        html::{act, input, record, rows, table, to_do},
        way::{DEADLINE, NoWay, Way, now},
        words::Words,
    },
    broker::within,
};

pub(in crate::admin) async fn body(way: &Way, w: &Words) -> Result<Markup, NoWay> {
    let agents = way.agents().await?;
    let is_drained: Vec<bool> = agents.iter().map(|agent| agent.drain.is_some()).collect();
    let (cells, lines) = views::agents(agents, now());
    let mut headings = cells.headings.clone();
    headings.push(w.acts.to_owned());
    let row = |(row, drained): (&Vec<String>, &bool)| {
        let name = row.first().cloned().unwrap_or_default();
        let mut cells: Vec<Markup> = row.iter().skip(1).map(|cell| html! { (cell) }).collect();
        cells.insert(
            0,
            html! { a href=(Fields::one("name", &name).after("/admin/agent")) { (name) } },
        );
        cells.push(acts(w, &name, *drained));
        cells
    };
    let all: Vec<Vec<Markup>> = cells.rows.iter().zip(&is_drained).map(row).collect();
    Ok(html! {
        @if !lines.is_empty() { (to_do(w, &lines)) }
        (rows(w, w.agents, &headings, &all))
        p { a href="/admin/explain" { (w.explain_whom) } }
    })
}

fn acts(w: &Words, name: &str, drained: bool) -> Markup {
    let agent = Fields::one("agent", name);
    html! {
        @if drained { (act("undrain", &agent, w.undrain)) } @else { (act("drain", &agent, w.drain)) }
    }
}

pub(in crate::admin) async fn one(way: &Way, w: &Words, fields: &Fields) -> Result<Markup, NoWay> {
    let found = way.agents().await?.into_iter().find(|agent| agent.name == fields.get("name"));
    let Some(agent) = found else { return Ok(html! { p { (w.no_agent) } }) };
    let (name, drained) = (Fields::one("agent", &agent.name), agent.drain.is_some());
    Ok(html! {
        p.acts {
            (acts(w, &agent.name, drained)) " " (act("forget", &name, w.forget))
            " " (act("renew", &name, w.renew))
            " " a href=(name.after("/admin/sessions")) { (w.its_sessions) }
            " " a href=(name.after("/admin/events")) { (w.its_events) }
        }
        (record(&views::agent(agent, now())))
    })
}

pub(in crate::admin) fn whom(w: &Words, fields: &Fields) -> Markup {
    html! {
        p { (w.explain_text) }
        form.filter method="get" action="/admin/explain" role="search" {
            (input(fields, "user", w.user, ""))
            button type="submit" { (w.explain) }
        }
    }
}

pub(in crate::admin) async fn explain(
    way: &Way,
    w: &Words,
    fields: &Fields,
) -> Result<Markup, NoWay> {
    if !fields.has("user") {
        return Ok(html! {});
    }
    let request = pb::ExplainRequest { user: fields.get("user").to_owned() };
    let told = way.of_agents().explain(within(DEADLINE, request)).await?.into_inner();
    let told = views::Explanation::from(told);
    Ok(html! {
        p { (told.who) }
        ol.steps { @for step in &told.steps { li { (step) } } }
        @if !told.agents.rows.is_empty() { (table(w, w.agents, &told.agents)) }
        p { strong { (told.outcome) } }
    })
}

pub(in crate::admin) async fn capacity(way: &Way, w: &Words) -> Result<Markup, NoWay> {
    let request = within(DEADLINE, pb::ListSubclustersRequest {});
    let subclusters = way.of_agents().list_subclusters(request).await?.into_inner().subclusters;
    let agents = way.agents().await?;
    Ok(html! {
        section aria-labelledby="subclusters" {
            h2 #subclusters { (w.subclusters) }
            (table(w, w.subclusters, &views::subclusters(subclusters)))
        }
        section aria-labelledby="load" {
            h2 #load { (w.load) }
            (table(w, w.load, &views::load(agents)))
        }
    })
}
