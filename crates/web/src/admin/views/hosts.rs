//! Who is known: browsers that users are logged in with, and hosts by their certificates.

use maud::{Markup, html};
use vsm_cli::{output::Cells, views, web::WebLogin};
use vsm_proto::admin::v1 as pb;

use crate::{
    admin::{
        fields::Fields,
        html::{act, input, rows},
        way::{DEADLINE, NoWay, Way, now},
        words::Words,
    },
    broker::within,
};

/// Logins that one page has; the filter finds others.
const ROWS_MAX: usize = 500;

pub(in crate::admin) fn whose(w: &Words, fields: &Fields) -> Markup {
    html! {
        form.filter method="get" action="/admin/logins" role="search" {
            (input(fields, "user", w.user, ""))
            button type="submit" { (w.show) }
        }
    }
}

pub(in crate::admin) async fn logins(
    way: &Way,
    w: &Words,
    fields: &Fields,
) -> Result<Markup, NoWay> {
    let user = fields.get("user");
    let request = pb::ListWebKeysRequest { user: user.to_owned() };
    let mut pages = way.admin().list_web_keys(within(DEADLINE, request)).await?.into_inner();
    let (mut all, mut count) = (Vec::new(), 0);
    while let Some(page) = pages.message().await? {
        count += page.keys.len();
        let room = ROWS_MAX - all.len();
        all.extend(page.keys.into_iter().take(room).map(WebLogin::from));
    }
    let cells = Cells::of(&all);
    let mut headings = cells.headings.clone();
    headings.push(w.acts.to_owned());
    let row = |(row, login): (&Vec<String>, &WebLogin)| {
        let mut cells: Vec<Markup> = row.iter().map(|cell| html! { (cell) }).collect();
        cells.push(act("log-out", &Fields::one("id", &login.id), w.log_out));
        cells
    };
    let all: Vec<Vec<Markup>> = cells.rows.iter().zip(&all).map(row).collect();
    Ok(html! {
        p { (w.logins_shown(all.len(), count)) }
        (rows(w, w.logins, &headings, &all))
        @if !user.is_empty() && count > 0 { p { (act("log-out", &Fields::one("user", user), w.log_out_all)) } }
    })
}

pub(in crate::admin) async fn identities(way: &Way, w: &Words) -> Result<Markup, NoWay> {
    let request = within(DEADLINE, pb::ListIdentitiesRequest {});
    let all = way.identities().list_identities(request).await?.into_inner().identities;
    let names: Vec<(String, String)> =
        all.iter().map(|one| (one.role.clone(), one.name.clone())).collect();
    let cells = views::identities(all, now());
    let mut headings = cells.headings.clone();
    headings.push(w.acts.to_owned());
    let row = |(row, (role, name)): (&Vec<String>, &(String, String))| {
        let mut cells: Vec<Markup> = row.iter().map(|cell| html! { (cell) }).collect();
        let identity = Fields::one("identity", &format!("{role}/{name}"));
        cells.push(html! {
            @if role == "agent" { (act("renew", &Fields::one("agent", name), w.renew)) " " }
            (act("revoke", &identity, w.revoke))
        });
        cells
    };
    let all: Vec<Vec<Markup>> = cells.rows.iter().zip(&names).map(row).collect();
    Ok(html! {
        p { (act("enrol", &Fields::default(), w.enrol)) }
        (rows(w, w.identities, &headings, &all))
        p.soft { (w.on_the_authority) }
        pre tabindex="0" { code { "vsmctl pki issue HOST …" } "\n" code { "vsmctl pki rotate status" } }
    })
}
