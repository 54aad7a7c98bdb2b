//! The configuration: each parameter with what it means, what is set, where the nodes differ, and what needs a restart.
//! It is shown here and changed by `vsm-config`, which root runs: nobody else may say what root's files have in them.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use vsm_cli::views;
use vsm_config::{Apply, Param, is_nodes_own, keys::PARAMS};
use vsm_proto::admin::v1 as pb;

use crate::{
    admin::{
        fields::{Fields, line},
        html::{act, input, table},
        way::{DEADLINE, NoWay, Way},
        words::Words,
    },
    broker::within,
};

pub(in crate::admin) fn lines() -> Vec<String> {
    let all = ["vsm-config -Ra /", "vsmctl config diff", "vsmctl config push", "vsmctl reload"];
    all.map(str::to_owned).to_vec()
}

pub(in crate::admin) fn search(w: &Words, fields: &Fields) -> Markup {
    html! {
        form.filter method="get" action="/admin/configuration" role="search" {
            (input(fields, "q", w.contains, "/vsmserver/"))
            button type="submit" { (w.show) }
        }
    }
}

pub(in crate::admin) async fn body(way: &Way, w: &Words, fields: &Fields) -> Result<Markup, NoWay> {
    let set = way.parameters().await?;
    let compared = way.configuration().compare(within(DEADLINE, pb::CompareRequest {})).await;
    let differ: BTreeSet<String> = compared
        .iter()
        .flat_map(|answer| answer.get_ref().differences.iter().map(|one| one.path.clone()))
        .collect();
    let found = found(fields.get("q"), &set);
    Ok(html! {
        section aria-labelledby="nodes" {
            h2 #nodes { (w.both_nodes) }
            @match compared {
                Ok(answer) => {
                    @if differ.is_empty() { p.good { (w.same_configuration) } }
                    @else {
                        (table(w, w.both_nodes, &views::differences(answer.into_inner())))
                        p { (act("push", &Fields::default(), w.push)) }
                    }
                }
                Err(status) => { p.soft { (status.message()) } }
            }
            p { (act("reload", &Fields::default(), w.reload)) }
        }
        section aria-labelledby="parameters" {
            h2 #parameters { (w.parameters) }
            p { (w.parameters_text) }
            @if found.is_empty() { p.soft { (w.none) } }
            @for (path, (param, value)) in &found {
                (parameter(w, path, param, value.as_deref(), differ.contains(path)))
            }
        }
    })
}

/// Those with this text in their path or their meaning, each with the value that is set.
fn found(
    text: &str,
    set: &[(String, String)],
) -> BTreeMap<String, (&'static Param, Option<String>)> {
    let text = text.to_lowercase();
    let is_meant = |path: &str, param: &Param| {
        path.to_lowercase().contains(&text) || param.meaning.to_lowercase().contains(&text)
    };
    let mut all = BTreeMap::new();
    for param in PARAMS.iter().copied() {
        all.insert(param.path.to_owned(), (param, None));
    }
    for (path, value) in set {
        if let Some(param) = vsm_config::described(path) {
            all.insert(path.clone(), (param, Some(value.clone())));
        }
    }
    all.retain(|path, (param, _)| is_meant(path, param));
    all
}

fn parameter(w: &Words, path: &str, param: &Param, value: Option<&str>, differs: bool) -> Markup {
    let default = if param.default.is_empty() { w.empty } else { param.default };
    let shown = value.map_or(default, |value| if value.is_empty() { w.empty } else { value });
    let example = format!("{path}={}", value.unwrap_or("VALUE"));
    html! {
        details.parameter {
            summary {
                code { (path) } " "
                @if is_nodes_own(path) { span.soft { (w.nodes_own) } }
                @else if value.is_some() { strong { (shown) } }
                @else if !param.is_pattern() { span.soft { (shown) } }
                @if differs { " " span.badge { (w.differs) } }
                @if param.apply == Apply::Restart { " " span.badge { (w.needs_restart) } }
            }
            p { (param.meaning) }
            dl {
                div { dt { (w.allowed) } dd { (param.kind.allowed()) } }
                div { dt { (w.default) } dd { (default) } }
            }
            p { (w.as_root) " " code { (line(["vsm-config", &example])) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_by_its_path_or_its_meaning() {
        let set = [
            ("/vsmserver/admin_group".to_owned(), "wheel".to_owned()),
            ("/vsmserver/subclusters/lab/agents".to_owned(), "a b".to_owned()),
        ];
        let one = found("/vsmserver/admin_group", &set);
        assert_eq!(one.len(), 1);
        assert_eq!(one["/vsmserver/admin_group"].1.as_deref(), Some("wheel"));
        assert!(found("subclusters/lab", &set).contains_key("/vsmserver/subclusters/lab/agents"));
        assert!(
            found("how long a login by browser lasts", &set).contains_key("/vsmweb/login_lifetime")
        );
        assert!(found("nothing has this", &set).is_empty());
        assert!(found("", &set).len() > 50);
    }
}
