//! Events of the trail as `vsmctl events` and `vsm-sync` print them.

use vsm_daemon::event_record::EventRecord;

use crate::{
    exit::Failure,
    output::{self, Columns, Format, or_dash},
};

/// What was done to whom, and why, in one line.
pub(crate) fn words(event: &EventRecord) -> String {
    let about = [("session", &event.session), ("user", &event.user), ("agent", &event.agent)];
    let about = about.iter().filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?)));
    let about = about.collect::<Vec<_>>().join(", ");
    let detail =
        if event.detail.is_empty() { String::new() } else { format!(": {}", event.detail) };
    format!("{} by {}  {about}{detail}", event.action, event.actor)
}

/// What is printed of it while events are followed.
///
/// # Errors
/// If it cannot be written so.
pub(crate) fn line(event: &EventRecord, format: Format) -> Result<String, Failure> {
    match format {
        Format::Table => {
            let time = event.time.as_deref().unwrap_or("-");
            Ok(format!("{time}  {}\n", words(event)))
        }
        Format::Json | Format::Yaml => output::one_of_many(format, event),
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
