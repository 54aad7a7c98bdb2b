//! The pair in figures: how each node sees it, what would become of it, its setup, and whether both tables are alike.

use maud::{Markup, html};
use vsm_cli::views::{self, NotShown};
use vsm_proto::admin::v1 as pb;

use crate::{
    admin::{
        fields::Fields,
        html::{act, table, to_do},
        way::{LONG, NoWay, Way, now},
        words::Words,
    },
    broker::within,
};

const SOLO_CREATE: &str = "/vsmserver/HA/solo_create";

pub(in crate::admin) async fn body(way: &Way, w: &Words) -> Result<Markup, NoWay> {
    let (nodes, agents) = (way.nodes().await?, way.agents().await?);
    let set = way.parameters().await?;
    let solo = set.iter().any(|(path, value)| path == SOLO_CREATE && value == "allow_and_mark");
    let forecast = views::forecast(nodes.clone(), &agents, solo);
    let shown = views::pair(nodes, now());
    Ok(html! {
        (to_do(w, &shown.to_do))
        p.acts {
            a href="/admin/check" { (w.check) } " " a href="/admin/verify" { (w.verify) }
            " " (act("take-over", &Fields::default(), w.take_over))
        }
        section aria-labelledby="nodes" { h2 #nodes { (w.both_nodes) } (table(w, w.both_nodes, &shown.nodes)) }
        @if !shown.witnesses.rows.is_empty() {
            section aria-labelledby="witnesses" {
                h2 #witnesses { (w.witnesses) }
                (table(w, w.witnesses, &shown.witnesses))
            }
        }
        section aria-labelledby="forecast" {
            h2 #forecast { (w.forecast) }
            @match forecast {
                Ok(cells) => (table(w, w.forecast, &cells)),
                Err(NotShown(why)) => { p { (why) } }
            }
        }
    })
}

pub(in crate::admin) async fn check(way: &Way, w: &Words) -> Result<Markup, NoWay> {
    let request = within(LONG, pb::CheckRequest { local_only: false });
    let mut all = way.ha().check(request).await?.into_inner().findings;
    all.sort_by_key(|one| (one.step, one.ok));
    let bad = all.iter().filter(|one| !one.ok).count();
    Ok(html! {
        p.(if bad == 0 { "good" } else { "bad" }) { (w.findings(bad, all.len())) }
        ul.findings {
            @for one in &all {
                li.(if one.ok { "good" } else { "bad" }) {
                    span aria-hidden="true" { @if one.ok { "✓ " } @else { "✗ " } }
                    (w.step(one.step)) ": " (one.text)
                    @if !one.remedy.is_empty() { p { strong { (w.to_do) ": " (one.remedy) } } }
                }
            }
        }
    })
}

pub(in crate::admin) async fn verify(way: &Way, w: &Words) -> Result<Markup, NoWay> {
    let request = within(LONG, pb::VerifyRequest {});
    let answer = way.ha().verify(request).await?.into_inner();
    let differences = answer.differences.len();
    Ok(html! {
        p { (w.compared(answer.commit, answer.sessions, answer.agents)) }
        p.(if differences == 0 { "good" } else { "bad" }) { (w.differences(differences)) }
        @if differences > 0 { ul { @for one in &answer.differences { li { (one) } } } }
        @if !answer.skipped.is_empty() {
            h2 { (w.not_compared) }
            ul { @for one in &answer.skipped { li { (one) } } }
        }
    })
}
