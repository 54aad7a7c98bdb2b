//! What can be done: for each act a page that says what it is about to do, with a form, and what the broker is asked
//! when that is sent. The fields of a form can stand in the page's address, so a form comes back filled in after its
//! user was asked to log in again.

use maud::{Markup, html};
use vsm_cli::{desktops::SessionRow, views};
use vsm_proto::admin::v1 as pb;

use super::{
    fields::{Fields, line},
    html::{Frame, check, input, same, table},
    way::{DEADLINE, NoWay, Way},
    words::Words,
};
use crate::broker::within;

mod run;

pub(super) use run::{Done, Undone};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    End,
    Notify,
    Drain,
    Undrain,
    Forget,
    LogOut,
    Enrol,
    Revoke,
    Renew,
    TakeOver,
    Reload,
    Push,
}

/// All, by the last part of their address.
const ALL: [(&str, Act); 12] = [
    ("end", Act::End),
    ("notify", Act::Notify),
    ("drain", Act::Drain),
    ("undrain", Act::Undrain),
    ("forget", Act::Forget),
    ("log-out", Act::LogOut),
    ("enrol", Act::Enrol),
    ("revoke", Act::Revoke),
    ("renew", Act::Renew),
    ("take-over", Act::TakeOver),
    ("reload", Act::Reload),
    ("push", Act::Push),
];

/// Longest text for desktops, in bytes: the broker's own bound.
const TEXT_MAX: usize = 2048;
/// How long an invitation counts where nothing else is said.
const VALID: &str = "1h";

impl Act {
    /// The one at this address.
    pub(super) fn at(path: &str) -> Option<Self> {
        ALL.iter().find(|(own, _)| *own == path).map(|(_, act)| *act)
    }

    /// Its address.
    pub(super) fn path(self) -> String {
        let path = ALL.iter().find(|(_, act)| *act == self).map_or("", |(path, _)| path);
        format!("/admin/do/{path}")
    }

    /// What it is called, the page that it belongs to, and whether something is lost by it.
    fn named(self, w: &Words) -> (&'static str, &'static str, bool) {
        match self {
            Self::End => (w.end, "sessions", true),
            Self::Notify => (w.notify, "sessions", false),
            Self::Drain => (w.drain, "agents", false),
            Self::Undrain => (w.undrain, "agents", false),
            Self::Forget => (w.forget, "agents", true),
            Self::LogOut => (w.log_out, "logins", false),
            Self::Enrol => (w.enrol, "identities", false),
            Self::Revoke => (w.revoke, "identities", true),
            Self::Renew => (w.renew, "identities", false),
            Self::TakeOver => (w.take_over, "ha", true),
            Self::Reload => (w.reload, "configuration", false),
            Self::Push => (w.push, "configuration", true),
        }
    }

    fn text(self, w: &Words) -> &'static str {
        match self {
            Self::End => w.end_text,
            Self::Notify => w.notify_text,
            Self::Drain => w.drain_text,
            Self::Undrain => w.undrain_text,
            Self::Forget => w.forget_text,
            Self::LogOut => w.log_out_text,
            Self::Enrol => w.enrol_text,
            Self::Revoke => w.revoke_text,
            Self::Renew => w.renew_text,
            Self::TakeOver => w.take_over_text,
            Self::Reload => w.reload_text,
            Self::Push => w.push_text,
        }
    }

    /// The command lines that do the same.
    fn lines(self, fields: &Fields) -> Vec<String> {
        let or = |name, otherwise| if fields.has(name) { fields.get(name) } else { otherwise };
        let mut words: Vec<&str> = match self {
            Self::End => {
                let all = fields.all("id").map(|id| {
                    let give_up = fields.has("abandon").then_some("--allow-abandon");
                    line(["vsmctl", "session", "terminate", "--id", id].into_iter().chain(give_up))
                });
                return all.collect();
            }
            Self::Notify if fields.has("id") => {
                let all = fields.all("id");
                return all
                    .map(|id| line(["vsmctl", "notify", "--id", id, or("text", "TEXT")]))
                    .collect();
            }
            Self::Notify => vec!["vsmctl", "notify"],
            Self::Drain => vec!["vsmctl", "agent", "drain", or("agent", "AGENT")],
            Self::Undrain => vec!["vsmctl", "agent", "undrain", or("agent", "AGENT")],
            Self::Forget => vec!["vsmctl", "agent", "forget", or("agent", "AGENT")],
            Self::LogOut if fields.has("id") => vec!["vsmctl", "web", "revoke", fields.get("id")],
            Self::LogOut => vec!["vsmctl", "web", "revoke"],
            Self::Enrol => vec!["vsmctl", "agent", "enrol", or("agent", "AGENT")],
            Self::Revoke => vec!["vsmctl", "pki", "revoke", or("identity", "ROLE/NAME")],
            Self::Renew => {
                let agent = format!("agent/{}", or("agent", "NAME"));
                return vec![line(["vsmctl", "pki", "renew", &agent])];
            }
            Self::TakeOver => {
                return ["vsmctl ha takeover --dry-run", "vsmctl ha takeover"]
                    .map(str::to_owned)
                    .into();
            }
            Self::Reload => vec!["vsmctl", "reload"],
            Self::Push => {
                return ["vsmctl config diff", "vsmctl config push"].map(str::to_owned).into();
            }
        };
        for (name, option) in self.options() {
            if fields.has(name) {
                words.extend([*option, fields.get(name)]);
            }
        }
        words.extend(fields.has("force").then_some("--force"));
        if self == Self::Notify {
            words.extend(fields.has("all").then_some("--all"));
            words.push(or("text", "TEXT"));
        }
        if self == Self::LogOut && !fields.has("id") && !fields.has("user") {
            words.push("ID");
        }
        vec![line(words)]
    }

    /// Fields that `vsmctl` has as options.
    const fn options(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Notify => {
                &[("user", "--user"), ("agent", "--agent"), ("subcluster", "--subcluster")]
            }
            Self::Drain => &[("reason", "--reason"), ("until", "--until")],
            Self::LogOut => &[("user", "--user")],
            Self::Enrol => &[("valid", "--valid")],
            Self::Revoke => &[("reason", "--reason")],
            Self::End
            | Self::Undrain
            | Self::Forget
            | Self::Renew
            | Self::TakeOver
            | Self::Reload
            | Self::Push => &[],
        }
    }

    /// The page on which it is done. `why`: why it was not done a moment ago.
    pub(super) async fn page(
        self,
        way: &Way,
        frame: &Frame<'_>,
        fields: &Fields,
        why: Option<&Undone>,
    ) -> Result<Markup, NoWay> {
        let w = frame.words;
        let (name, place, loses) = self.named(w);
        let about = self.about(way, w, fields).await?;
        let body = html! {
            @if let Some(why) = why { p #error.notice role="alert" { (why.words(w)) } }
            p { (self.text(w)) }
            (about.shown)
            form.act method="post" action=(self.path()) {
                (about.form)
                @if way.never_changes() { p.notice { (w.never) } }
                @else if !way.may_change() { p.notice { (w.asked_first) } }
                @if about.possible && !way.never_changes() {
                    button type="submit" class=[loses.then_some("danger")] { (name) }
                }
                " " a href={ "/admin/" (place) } { (w.cancel) }
            }
            (same(w, &self.lines(fields)))
        };
        Ok(frame.page(way, place, name, &body))
    }

    /// The page that says what was done.
    pub(super) fn done(self, way: &Way, frame: &Frame<'_>, fields: &Fields, done: &Done) -> Markup {
        let w = frame.words;
        let (name, place, _) = self.named(w);
        let body = html! {
            p #done.good role="status" { (done.words(w)) }
            @for line in done.lines() { p { (line) } }
            @if let Some(cells) = done.cells() { (table(w, name, cells)) }
            @if let Some(code) = done.code() { pre.line tabindex="0" { code { (code) } } }
            p { a href={ "/admin/" (place) } { (w.back) } }
            (same(w, &self.lines(fields)))
        };
        frame.page(way, place, name, &body)
    }

    /// What it is about, and the form's fields.
    async fn about(self, way: &Way, w: &Words, fields: &Fields) -> Result<About, NoWay> {
        let form = self.form(w, fields);
        let (shown, possible) = match self {
            Self::End => {
                let (shown, count) = chosen(way, w, fields).await?;
                (shown, count > 0)
            }
            Self::Notify if fields.has("id") => {
                let (shown, count) = chosen(way, w, fields).await?;
                (shown, count > 0)
            }
            Self::Forget if fields.has("agent") => {
                let of_agent = pb::SessionSelector {
                    agent: fields.get("agent").to_owned(),
                    ..pb::SessionSelector::default()
                };
                let (_, count) = way.sessions(of_agent, 0..0).await?;
                (html! { p { strong { (w.forgets(fields.get("agent"), count)) } } }, true)
            }
            Self::TakeOver => dry_run(way, w).await?,
            Self::Push => return pushed(way, w).await,
            Self::Notify
            | Self::Drain
            | Self::Undrain
            | Self::Forget
            | Self::LogOut
            | Self::Enrol
            | Self::Revoke
            | Self::Renew
            | Self::Reload => (html! {}, true),
        };
        Ok(About { shown, form, possible })
    }

    fn form(self, w: &Words, fields: &Fields) -> Markup {
        let hidden = |name: &'static str| {
            html! { @for value in fields.all(name) { input type="hidden" name=(name) value=(value); } }
        };
        match self {
            Self::End => html! { (hidden("id")) (check(fields, "abandon", w.abandon)) },
            Self::Notify => html! {
                (hidden("id"))
                @if !fields.has("id") {
                    (input(fields, "user", w.user, ""))
                    (input(fields, "agent", w.agent, ""))
                    (input(fields, "subcluster", w.subcluster, ""))
                    (check(fields, "all", w.all_desktops))
                }
                div.field {
                    label for="f-text" { (w.message) }
                    textarea #f-text name="text" rows="3" maxlength=(TEXT_MAX) required { (fields.get("text")) }
                }
            },
            Self::Drain => html! {
                (input(fields, "agent", w.agent, ""))
                (input(fields, "reason", w.reason, ""))
                (input(fields, "until", w.until, "2h"))
                (check(fields, "force", w.force_drain))
            },
            Self::Undrain | Self::Forget | Self::Renew => input(fields, "agent", w.agent, ""),
            Self::LogOut => html! {
                (hidden("id"))
                @if !fields.has("id") { (input(fields, "user", w.user, "")) }
            },
            Self::Enrol => {
                let valid =
                    if fields.has("valid") { fields.clone() } else { fields.with("valid", VALID) };
                html! { (input(fields, "agent", w.agent, "")) (input(&valid, "valid", w.valid, VALID)) }
            }
            Self::Revoke => html! {
                (input(fields, "identity", w.identity, "agent/NAME"))
                (input(fields, "reason", w.reason, ""))
                (check(fields, "force", w.force_revoke))
            },
            Self::TakeOver | Self::Reload | Self::Push => html! {},
        }
    }
}

/// What a form is about.
struct About {
    shown: Markup,
    form: Markup,
    /// Whether it can be done at all.
    possible: bool,
}

/// The sessions that were chosen, and how many of them there still are.
async fn chosen(way: &Way, w: &Words, fields: &Fields) -> Result<(Markup, usize), NoWay> {
    let ids: Vec<&str> = fields.all("id").collect();
    let mut found: Vec<SessionRow> = Vec::new();
    if let [id] = ids.as_slice() {
        let one = pb::SessionSelector { id: (*id).to_owned(), ..pb::SessionSelector::default() };
        found.extend(way.sessions(one, 0..1).await?.0.into_iter().map(SessionRow::from));
    } else if !ids.is_empty() {
        let (all, _) = way.sessions(pb::SessionSelector::default(), 0..usize::MAX).await?;
        let all = all.into_iter().map(SessionRow::from);
        found.extend(all.filter(|row| ids.contains(&row.session.as_str())));
    }
    let shown = html! {
        @if found.is_empty() { p.notice { (w.no_session) } }
        @else {
            p { strong { (w.chosen(found.len())) } }
            ul { @for row in &found { li { (row.words()) " (" (row.age) ")" } } }
        }
    };
    Ok((shown, found.len()))
}

/// What a take-over would do. Asking is a change for the broker, so an old login is not told.
async fn dry_run(way: &Way, w: &Words) -> Result<(Markup, bool), NoWay> {
    let node = &way.status.node;
    if !way.may_change() {
        return Ok((html! { p { (w.dry_run_later(node)) } }, true));
    }
    let request = within(DEADLINE, pb::TakeOverRequest { dry_run: true });
    let answer = way.ha().take_over(request).await?.into_inner();
    if way.status.role == "active" {
        // It would be "done".
        return Ok((html! { p { strong { (answer.detail) } } p { (w.take_over_there) } }, false));
    }
    let word = if answer.done { w.would_be_done(node) } else { w.would_not_be_done(node) };
    let shown = html! {
        p.(if answer.done { "good" } else { "bad" }) { strong { (word) } ": " (answer.detail) }
        p.soft { (w.take_over_there) }
    };
    Ok((shown, answer.done))
}

/// What would be changed on the other node.
async fn pushed(way: &Way, w: &Words) -> Result<About, NoWay> {
    let answer = way.configuration().compare(within(DEADLINE, pb::CompareRequest {})).await?;
    let answer = answer.into_inner();
    let (token, differ) = (answer.token.clone(), !answer.differences.is_empty());
    let shown = html! {
        @if differ { (table(w, w.both_nodes, &views::differences(answer))) }
        @else { p.good { (w.same_configuration) } }
    };
    let form = html! { input type="hidden" name="token" value=(token); };
    Ok(About { shown, form, possible: differ })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(act: Act, fields: &str) -> Vec<String> {
        act.lines(&Fields::read(fields))
    }

    #[test]
    fn each_act_has_its_line() {
        assert_eq!(
            said(Act::Drain, "agent=a1&reason=new+kernel&until=2h&force=yes"),
            ["vsmctl agent drain a1 --reason 'new kernel' --until 2h --force"]
        );
        assert_eq!(
            said(Act::End, "id=1&id=2&abandon=yes"),
            [
                "vsmctl session terminate --id 1 --allow-abandon",
                "vsmctl session terminate --id 2 --allow-abandon"
            ]
        );
        assert_eq!(said(Act::Notify, "id=1&text=a+b"), ["vsmctl notify --id 1 'a b'"]);
        assert_eq!(said(Act::Notify, "user=ann&text=a"), ["vsmctl notify --user ann a"]);
        assert_eq!(said(Act::Notify, "all=yes&text=a"), ["vsmctl notify --all a"]);
        assert_eq!(said(Act::LogOut, "id=7"), ["vsmctl web revoke 7"]);
        assert_eq!(said(Act::LogOut, "user=ann"), ["vsmctl web revoke --user ann"]);
        assert_eq!(said(Act::Renew, "agent=a1"), ["vsmctl pki renew agent/a1"]);
        assert_eq!(
            said(Act::Revoke, "identity=agent/a1&reason=stolen"),
            ["vsmctl pki revoke agent/a1 --reason stolen"]
        );
        assert_eq!(said(Act::Enrol, "agent=a1&valid=1h"), ["vsmctl agent enrol a1 --valid 1h"]);
        for (path, act) in ALL {
            assert_eq!(Act::at(path), Some(act));
            assert_eq!(act.path(), format!("/admin/do/{path}"));
        }
    }
}
