//! Events of the trail as `vsmctl events` and `vsm-sync` print them.

use serde::Serialize;
use vsm_core::Event;

use crate::{
    exit::Failure,
    output::{self, Columns, Format, or_dash},
};

/// An event; the JSON fields are stable.
#[derive(Debug, Serialize)]
pub(crate) struct EventRecord {
    number: u64,
    time: Option<String>,
    actor: String,
    action: String,
    session: Option<String>,
    user: Option<String>,
    agent: Option<String>,
    detail: String,
}

impl From<&Event> for EventRecord {
    fn from(event: &Event) -> Self {
        Self {
            number: event.number,
            time: output::time(event.at.0),
            actor: event.actor.clone(),
            action: event.action.clone(),
            session: event.session.map(|id| id.to_string()),
            user: event.user.as_ref().map(ToString::to_string),
            agent: event.agent.as_ref().map(ToString::to_string),
            detail: event.detail.clone(),
        }
    }
}

impl EventRecord {
    /// What was done to whom, and why, in one line.
    pub(crate) fn words(&self) -> String {
        let about = [("session", &self.session), ("user", &self.user), ("agent", &self.agent)];
        let about =
            about.iter().filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?)));
        let about = about.collect::<Vec<_>>().join(", ");
        let detail =
            if self.detail.is_empty() { String::new() } else { format!(": {}", self.detail) };
        format!("{} by {}  {about}{detail}", self.action, self.actor)
    }
}

impl EventRecord {
    /// What is printed of it while events are followed.
    ///
    /// # Errors
    /// If it cannot be written so.
    pub(crate) fn line(&self, format: Format) -> Result<String, Failure> {
        match format {
            Format::Table => {
                let time = self.time.as_deref().unwrap_or("-");
                Ok(format!("{time}  {}\n", self.words()))
            }
            Format::Json | Format::Yaml => output::one_of_many(format, self),
        }
    }
}

impl Columns for EventRecord {
    const HEADINGS: &'static [&'static str] =
        &["TIME", "ACTOR", "ACTION", "USER", "AGENT", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        vec![
            or_dash(self.time.as_deref().map(output::to_the_second)),
            self.actor.clone(),
            self.action.clone(),
            or_dash(self.user.clone()),
            or_dash(self.agent.clone()),
            self.detail.clone(),
        ]
    }
}
