//! The pages that show something: which there are, what each asks the broker, and the command line that shows the same.

use maud::{Markup, html};
use vsm_cli::output::short_id;

use super::{
    fields::{Fields, line},
    html::Frame,
    views::{agents, configuration, events, hosts, overview, pair, sessions},
    way::{NoWay, Way},
    words::Words,
};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Overview,
    Sessions,
    Session,
    Log,
    Agents,
    Agent,
    Explain,
    Capacity,
    Events,
    Logins,
    Identities,
    Configuration,
    Ha,
    Check,
    Verify,
}

/// All, by the last part of their address.
const ALL: [(&str, View); 15] = [
    ("", View::Overview),
    ("sessions", View::Sessions),
    ("session", View::Session),
    ("log", View::Log),
    ("agents", View::Agents),
    ("agent", View::Agent),
    ("explain", View::Explain),
    ("capacity", View::Capacity),
    ("events", View::Events),
    ("logins", View::Logins),
    ("identities", View::Identities),
    ("configuration", View::Configuration),
    ("ha", View::Ha),
    ("check", View::Check),
    ("verify", View::Verify),
];

impl View {
    /// The one at this address.
    pub(super) fn at(path: &str) -> Option<Self> {
        ALL.iter().find(|(own, _)| *own == path).map(|(_, view)| *view)
    }

    fn path(self) -> &'static str {
        ALL.iter().find(|(_, view)| *view == self).map_or("", |(path, _)| path)
    }

    /// To which of the pages that each page leads to it belongs.
    fn place(self) -> &'static str {
        match self {
            Self::Session | Self::Log => "sessions",
            Self::Agent | Self::Explain => "agents",
            Self::Check | Self::Verify => "ha",
            Self::Overview
            | Self::Sessions
            | Self::Agents
            | Self::Capacity
            | Self::Events
            | Self::Logins
            | Self::Identities
            | Self::Configuration
            | Self::Ha => self.path(),
        }
    }

    fn title(self, w: &Words) -> &'static str {
        match self {
            Self::Overview => w.overview,
            Self::Sessions => w.sessions,
            Self::Session => w.session,
            Self::Log => w.log,
            Self::Agents => w.agents,
            Self::Agent => w.agent,
            Self::Explain => w.explain,
            Self::Capacity => w.capacity,
            Self::Events => w.events,
            Self::Logins => w.logins,
            Self::Identities => w.identities,
            Self::Configuration => w.configuration,
            Self::Ha => w.ha,
            Self::Check => w.check,
            Self::Verify => w.verify,
        }
    }

    /// Whether it is shown anew as things change.
    pub(super) const fn is_live(self) -> bool {
        matches!(
            self,
            Self::Overview
                | Self::Sessions
                | Self::Agents
                | Self::Capacity
                | Self::Events
                | Self::Ha
        )
    }

    fn lines(self, fields: &Fields) -> Vec<String> {
        let one = |words: &[&str]| vec![line(words.iter().copied())];
        match self {
            Self::Overview => {
                [one(&["vsmctl", "ha", "status"]), one(&["vsmctl", "agent", "list"])].concat()
            }
            Self::Sessions => sessions::lines(fields),
            Self::Session => one(&["vsmctl", "session", "show", fields.get("id")]),
            Self::Log => one(&["vsmctl", "session", "log", fields.get("id")]),
            Self::Agents => one(&["vsmctl", "agent", "list"]),
            Self::Agent => one(&["vsmctl", "agent", "show", fields.get("name")]),
            Self::Explain => one(&["vsmctl", "explain", or(fields.get("user"), "USER")]),
            Self::Capacity => {
                [one(&["vsmctl", "load", "list"]), one(&["vsmctl", "load", "subclusters"])].concat()
            }
            Self::Events => events::lines(fields),
            Self::Logins if fields.has("user") => {
                one(&["vsmctl", "web", "list", "--user", fields.get("user")])
            }
            Self::Logins => one(&["vsmctl", "web", "list"]),
            Self::Identities => one(&["vsmctl", "pki", "list"]),
            Self::Configuration => configuration::lines(),
            Self::Ha => {
                [one(&["vsmctl", "ha", "status"]), one(&["vsmctl", "ha", "simulate"])].concat()
            }
            Self::Check => one(&["vsmctl", "ha", "check"]),
            Self::Verify => one(&["vsmctl", "ha", "verify"]),
        }
    }

    /// What is above the part that changes: filters.
    fn above(self, w: &Words, fields: &Fields) -> Markup {
        match self {
            Self::Sessions => sessions::filter(w, fields),
            Self::Events => events::filter(w, fields),
            Self::Explain => agents::whom(w, fields),
            Self::Logins => hosts::whose(w, fields),
            Self::Configuration => configuration::search(w, fields),
            Self::Overview
            | Self::Session
            | Self::Log
            | Self::Agents
            | Self::Agent
            | Self::Capacity
            | Self::Identities
            | Self::Ha
            | Self::Check
            | Self::Verify => html! {},
        }
    }

    /// The part that changes.
    pub(super) async fn body(self, way: &Way, w: &Words, fields: &Fields) -> Result<Markup, NoWay> {
        match self {
            Self::Overview => overview::body(way, w).await,
            Self::Sessions => sessions::body(way, w, fields).await,
            Self::Session => sessions::one(way, w, fields).await,
            Self::Log => sessions::log(way, w, fields).await,
            Self::Agents => agents::body(way, w).await,
            Self::Agent => agents::one(way, w, fields).await,
            Self::Explain => agents::explain(way, w, fields).await,
            Self::Capacity => agents::capacity(way, w).await,
            Self::Events => events::body(way, w, fields).await,
            Self::Logins => hosts::logins(way, w, fields).await,
            Self::Identities => hosts::identities(way, w).await,
            Self::Configuration => configuration::body(way, w, fields).await,
            Self::Ha => pair::body(way, w).await,
            Self::Check => pair::check(way, w).await,
            Self::Verify => pair::verify(way, w).await,
        }
    }

    /// The whole page.
    pub(super) async fn page(
        self,
        way: &Way,
        frame: &Frame<'_>,
        fields: &Fields,
    ) -> Result<Markup, NoWay> {
        let w = frame.words;
        let inner = self.body(way, w, fields).await?;
        let live = fields.after(&format!("/admin/live/{}", or(self.path(), "overview")));
        let body = html! {
            (self.above(w, fields))
            div #live data-live=[self.is_live().then_some(live)] { (inner) }
            (super::html::same(w, &self.lines(fields)))
        };
        // Of which thing it is.
        let mut title = self.title(w).to_owned();
        if self == Self::Session {
            title += &format!(" {}", short_id(fields.get("id")));
        }
        if self == Self::Agent {
            title += &format!(" {}", fields.get("name"));
        }
        Ok(frame.page(way, self.place(), &title, &body))
    }
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
