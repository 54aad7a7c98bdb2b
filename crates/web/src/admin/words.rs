//! All that an administrator reads here, in each language. What the broker and `vsmctl` say is in their own words.

mod de;
mod en;

use std::fmt::Display;

use crate::words::Words as UserWords;

/// The texts of one language; in some there are places for what differs, `{}`.
#[derive(Debug)]
pub(super) struct Words {
    /// As in `lang="…"`.
    code: &'static str,
    /// Roles of nodes, by the broker's words.
    roles: &'static [(&'static str, &'static str)],
    /// Whose a second vote is, by the broker's words.
    second_votes: &'static [(&'static str, &'static str)],
    /// Headings of tables, by those of `vsmctl`; what is missing stays.
    headings: &'static [(&'static str, &'static str)],
    pub(super) abandon: &'static str,
    pub(super) acts: &'static str,
    pub(super) administration: &'static str,
    pub(super) again: &'static str,
    pub(super) again_text: &'static str,
    pub(super) agent: &'static str,
    pub(super) agents: &'static str,
    pub(super) all_desktops: &'static str,
    pub(super) allowed: &'static str,
    pub(super) any: &'static str,
    pub(super) as_root: &'static str,
    pub(super) asked_again: &'static str,
    pub(super) asked_first: &'static str,
    pub(super) back: &'static str,
    pub(super) backlog: &'static str,
    pub(super) bad_age: &'static str,
    pub(super) behind: &'static str,
    pub(super) both_nodes: &'static str,
    pub(super) brokers: &'static str,
    pub(super) cancel: &'static str,
    pub(super) capacity: &'static str,
    pub(super) check: &'static str,
    pub(super) configuration: &'static str,
    pub(super) contains: &'static str,
    pub(super) default: &'static str,
    pub(super) differs: &'static str,
    pub(super) done: &'static str,
    pub(super) down: &'static str,
    pub(super) drain: &'static str,
    pub(super) drain_text: &'static str,
    pub(super) draining: &'static str,
    pub(super) duplicate: &'static str,
    pub(super) empty: &'static str,
    pub(super) end: &'static str,
    pub(super) end_text: &'static str,
    pub(super) enrol: &'static str,
    pub(super) enrol_text: &'static str,
    pub(super) epoch: &'static str,
    pub(super) events: &'static str,
    pub(super) explain: &'static str,
    pub(super) explain_text: &'static str,
    pub(super) explain_whom: &'static str,
    pub(super) export: &'static str,
    pub(super) force_drain: &'static str,
    pub(super) force_revoke: &'static str,
    pub(super) forecast: &'static str,
    pub(super) forget: &'static str,
    pub(super) forget_text: &'static str,
    pub(super) ha: &'static str,
    pub(super) has_address: &'static str,
    pub(super) healthy: &'static str,
    pub(super) here: &'static str,
    pub(super) identities: &'static str,
    pub(super) identity: &'static str,
    pub(super) in_touch: &'static str,
    pub(super) its_events: &'static str,
    pub(super) its_sessions: &'static str,
    pub(super) load: &'static str,
    pub(super) log: &'static str,
    pub(super) log_out: &'static str,
    pub(super) log_out_all: &'static str,
    pub(super) log_out_text: &'static str,
    pub(super) logins: &'static str,
    pub(super) lost: &'static str,
    pub(super) maintenance: &'static str,
    pub(super) message: &'static str,
    pub(super) needs_restart: &'static str,
    pub(super) next: &'static str,
    pub(super) never: &'static str,
    pub(super) no_agent: &'static str,
    pub(super) no_second_vote: &'static str,
    pub(super) no_session: &'static str,
    pub(super) nodes_own: &'static str,
    pub(super) none: &'static str,
    pub(super) not_allowed: &'static str,
    pub(super) not_compared: &'static str,
    pub(super) not_done: &'static str,
    pub(super) not_healthy: &'static str,
    pub(super) not_in_touch: &'static str,
    pub(super) not_ready: &'static str,
    pub(super) nothing_chosen: &'static str,
    pub(super) nothing_to_do: &'static str,
    pub(super) notify: &'static str,
    pub(super) notify_text: &'static str,
    pub(super) of_the_last: &'static str,
    pub(super) older_than: &'static str,
    pub(super) on_the_authority: &'static str,
    pub(super) overview: &'static str,
    pub(super) own_store: &'static str,
    pub(super) pages: &'static str,
    pub(super) parameters: &'static str,
    pub(super) parameters_text: &'static str,
    pub(super) partly_done: &'static str,
    pub(super) previous: &'static str,
    pub(super) push: &'static str,
    pub(super) push_text: &'static str,
    pub(super) reason: &'static str,
    pub(super) reload: &'static str,
    pub(super) reload_text: &'static str,
    pub(super) renew: &'static str,
    pub(super) renew_text: &'static str,
    pub(super) revoke: &'static str,
    pub(super) revoke_text: &'static str,
    pub(super) same: &'static str,
    pub(super) same_configuration: &'static str,
    pub(super) session: &'static str,
    pub(super) sessions: &'static str,
    pub(super) show: &'static str,
    pub(super) skip: &'static str,
    pub(super) state: &'static str,
    pub(super) subcluster: &'static str,
    pub(super) subclusters: &'static str,
    pub(super) take_over: &'static str,
    pub(super) take_over_there: &'static str,
    pub(super) take_over_text: &'static str,
    pub(super) ticked: &'static str,
    pub(super) to_do: &'static str,
    pub(super) undrain: &'static str,
    pub(super) undrain_text: &'static str,
    pub(super) unreachable: &'static str,
    pub(super) until: &'static str,
    pub(super) user: &'static str,
    pub(super) valid: &'static str,
    pub(super) verify: &'static str,
    pub(super) version: &'static str,
    pub(super) votes: &'static str,
    pub(super) votes_for_all: &'static str,
    pub(super) witnesses: &'static str,
    // With places.
    agents_up: &'static str,
    all_agents: &'static str,
    as_user: &'static str,
    changes_for: &'static str,
    chosen: &'static str,
    compared: &'static str,
    differences: &'static str,
    dry_run_later: &'static str,
    events_found: &'static str,
    findings: &'static str,
    forgets: &'static str,
    load_of: &'static str,
    logins_shown: &'static str,
    no_vote_for: &'static str,
    page_of: &'static str,
    sessions_shown: &'static str,
    step: &'static str,
    tick: &'static str,
    users_sessions: &'static str,
    would_be_done: &'static str,
    would_not_be_done: &'static str,
}

/// Those of this language.
pub(super) fn of(words: &UserWords) -> &'static Words {
    let all = [&en::WORDS, &de::WORDS];
    all.into_iter().find(|own| own.code == words.code).unwrap_or(&en::WORDS)
}

/// The text with these in its places.
fn filled(text: &str, with: &[&dyn Display]) -> String {
    let mut parts = text.split("{}");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    let mut with = with.iter();
    for part in parts {
        whole += &with.next().map(ToString::to_string).unwrap_or_default();
        whole += part;
    }
    whole
}

fn found<'a>(all: &[(&str, &'a str)], word: &'a str) -> &'a str {
    all.iter().find(|(own, _)| *own == word).map_or(word, |(_, text)| text)
}

impl Words {
    pub(super) fn role<'a>(&self, role: &'a str) -> &'a str {
        found(self.roles, role)
    }

    pub(super) fn vote<'a>(&self, second: &'a str) -> &'a str {
        found(self.second_votes, second)
    }

    /// A heading of `vsmctl`'s, as a word.
    pub(super) fn heading(&self, heading: &str) -> String {
        let heading = heading.trim();
        if let Some((_, text)) = self.headings.iter().find(|(own, _)| *own == heading) {
            return (*text).to_owned();
        }
        if heading.chars().any(char::is_lowercase) {
            return heading.to_owned();
        }
        let mut letters = heading.chars();
        let first: String = letters.next().into_iter().collect();
        first + &letters.as_str().to_lowercase().replace('-', " ")
    }

    pub(super) fn agents_up(&self, up: usize, of: usize, sessions: u32) -> String {
        filled(self.agents_up, &[&up, &of, &sessions])
    }

    pub(super) fn all_agents(&self, count: usize) -> String {
        filled(self.all_agents, &[&count])
    }

    pub(super) fn as_user(&self, user: &str, node: &str) -> String {
        filled(self.as_user, &[&user, &node])
    }

    pub(super) fn changes_for(&self, minutes: u64) -> String {
        filled(self.changes_for, &[&minutes])
    }

    pub(super) fn chosen(&self, count: usize) -> String {
        filled(self.chosen, &[&count])
    }

    pub(super) fn compared(&self, commit: u64, sessions: u32, agents: u32) -> String {
        filled(self.compared, &[&commit, &sessions, &agents])
    }

    pub(super) fn differences(&self, count: usize) -> String {
        filled(self.differences, &[&count])
    }

    pub(super) fn dry_run_later(&self, node: &str) -> String {
        filled(self.dry_run_later, &[&node])
    }

    pub(super) fn events_found(&self, shown: usize, found: usize) -> String {
        filled(self.events_found, &[&shown, &found])
    }

    pub(super) fn findings(&self, bad: usize, all: usize) -> String {
        filled(self.findings, &[&bad, &all])
    }

    pub(super) fn forgets(&self, agent: &str, sessions: usize) -> String {
        filled(self.forgets, &[&agent, &sessions])
    }

    pub(super) fn load_of(&self, agent: &str) -> String {
        filled(self.load_of, &[&agent])
    }

    pub(super) fn logins_shown(&self, shown: usize, count: usize) -> String {
        filled(self.logins_shown, &[&shown, &count])
    }

    pub(super) fn no_vote_for(&self, node: &str) -> String {
        filled(self.no_vote_for, &[&node])
    }

    pub(super) fn page_of(&self, page: usize, last: usize) -> String {
        filled(self.page_of, &[&page, &last])
    }

    pub(super) fn sessions_shown(&self, shown: usize, count: usize) -> String {
        filled(self.sessions_shown, &[&shown, &count])
    }

    pub(super) fn step(&self, step: u32) -> String {
        filled(self.step, &[&step])
    }

    pub(super) fn tick(&self, id: &str) -> String {
        filled(self.tick, &[&id])
    }

    pub(super) fn users_sessions(&self, users: u32, sessions: u32) -> String {
        filled(self.users_sessions, &[&users, &sessions])
    }

    pub(super) fn would_be_done(&self, node: &str) -> String {
        filled(self.would_be_done, &[&node])
    }

    pub(super) fn would_not_be_done(&self, node: &str) -> String {
        filled(self.would_not_be_done, &[&node])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_its_places_in_each_language() {
        for words in [&en::WORDS, &de::WORDS] {
            assert!(words.page_of(3, 7).contains('3') && words.page_of(3, 7).contains('7'));
            assert!(!words.agents_up(1, 2, 3).contains("{}"));
            assert!(!words.compared(1, 2, 3).contains("{}"));
        }
        assert_eq!(en::WORDS.heading("  BY-CAP"), "By cap");
        assert_eq!(en::WORDS.heading("CPU"), "CPU");
        assert_eq!(de::WORDS.heading("USER"), "Benutzer");
        assert_eq!(en::WORDS.heading("tlha-primary (here)"), "tlha-primary (here)");
        assert_eq!(de::WORDS.role("active"), "aktiv");
        assert_eq!(de::WORDS.role("new"), "new");
    }
}
