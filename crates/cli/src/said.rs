//! What an administrator is told of an act that was done, a line each: `vsmctl` prints it, and the pages of `vsm-web`
//! show the same.

use crate::output::short_id;

/// An agent is not drained any more by an administrator's word.
#[must_use]
pub fn undrained(agent: &str, by_configuration: bool) -> String {
    if by_configuration {
        format!("{agent} is still drained by the configuration (/vsmserver/agents/draining).")
    } else {
        format!("{agent} takes new sessions again.")
    }
}

/// An agent was forgotten, with so many sessions.
#[must_use]
pub fn forgotten(agent: &str, sessions: u32) -> String {
    format!("{agent} is forgotten, and {sessions} session(s) with it.")
}

/// The certificates of an identity count no more; so many agents know it, and these do not yet.
#[must_use]
pub fn revoked(identity: &str, told: u32, not_told: &[String]) -> Vec<String> {
    let done = format!(
        "Certificates of {identity} count no more, on this cluster's brokers and on {told} agent(s)."
    );
    let later = format!("Told as soon as they can be reached: {}", not_told.join(" "));
    std::iter::once(done).chain((!not_told.is_empty()).then_some(later)).collect()
}

/// So many browsers were logged out.
#[must_use]
pub fn logged_out(count: usize) -> String {
    format!("{count} browser(s) logged out.")
}

/// A text was shown on so many desktops.
#[must_use]
pub fn shown(count: u32) -> String {
    format!("shown on {count} desktop(s)")
}

/// A text was not shown on a desktop.
#[must_use]
pub fn not_shown(session: &str, user: &str, agent: &str, why: &str) -> String {
    format!("not shown on {} of {user} on {agent}: {why}", short_id(session))
}
