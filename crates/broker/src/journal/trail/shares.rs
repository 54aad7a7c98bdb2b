//! Shares of the ring: nobody who can make as many events as they like pushes out what others did. What is left out is
//! counted, and the trail says how many there were.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use vsm_core::Event;

use super::SELF;

/// So long events that one can make as many of as they like are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(600);
/// Refusals of one kind, of one user, that are recorded within it.
const REFUSED_MAX: u64 = 4;
/// Refusals of all kinds and of all users: an eighth of the ring.
const ALL_REFUSED_MAX: u64 = 1024;
/// Sessions of one agent whose adoption is recorded within it: more came at once, and the first ones tell.
const ADOPTED_MAX: u64 = 64;
/// Other events that concern one user: more than a person makes, and a small part of the ring.
const OF_USER_MAX: u64 = 256;
/// Shares that are counted at a time; those who come then have one together.
const COUNTED_MAX: usize = 32_768;

/// Whose share, and of what.
type Share = (String, &'static str);

/// What is left of each share.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<Share, Counted>);

/// Events of one kind within a window.
#[derive(Debug)]
struct Counted {
    since: Instant,
    recorded: u64,
    left_out: u64,
}

/// The shares that an event takes, each with how large it is; none = it is nobody's who could fill the ring.
fn shares_of(event: &Event) -> Vec<(Share, u64)> {
    let action = event.action.as_str();
    if action.ends_with("-refused") && event.actor != SELF {
        let own = format!("{action} by {}", event.actor);
        return vec![((own, ""), REFUSED_MAX), ((String::new(), "refusals"), ALL_REFUSED_MAX)];
    }
    let share = if action == "session-adopted" {
        event.agent.as_ref().map(|agent| ((agent.to_string(), "adopted sessions of "), ADOPTED_MAX))
    } else {
        event.user.as_ref().map(|user| ((user.to_string(), "events about "), OF_USER_MAX))
    };
    share.into_iter().collect()
}

impl Shares {
    /// Whether there is room for an event in its shares; says in it where it is the last one for now.
    pub(super) fn has_room(&mut self, event: &mut Event, now: Instant) -> bool {
        for (share, max) in shares_of(event) {
            let is_counted = self.0.contains_key(&share);
            let share = match is_counted || self.0.len() < COUNTED_MAX {
                true => share,
                false => (String::new(), "events of all others"),
            };
            let fresh = || Counted { since: now, recorded: 0, left_out: 0 };
            let counted = self.0.entry(share).or_insert_with(fresh);
            if counted.recorded >= max {
                counted.left_out += 1;
                return false;
            }
            counted.recorded += 1;
            if counted.recorded == max {
                event.detail.push_str(" (more of these are counted alone for 10 minutes)");
            }
        }
        true
    }

    /// Ends the windows that are over; how many were left out of each, and of what, the most first.
    pub(super) fn end(&mut self, now: Instant) -> Vec<(u64, String)> {
        let mut left_out = Vec::new();
        self.0.retain(|(whose, what), counted| {
            let is_over = now.saturating_duration_since(counted.since) >= WINDOW;
            if is_over && counted.left_out > 0 {
                left_out.push((counted.left_out, format!("{what}{whose}")));
            }
            !is_over
        });
        left_out.sort_by(|one, other| other.cmp(one));
        left_out
    }
}

#[cfg(test)]
mod tests {
    use vsm_core::UserName;
    use vsm_daemon::clock;

    use super::{super::Note, *};

    /// Who asks a thousand times in vain hides nothing that others did.
    #[test]
    fn one_who_is_refused_again_and_again_has_a_small_share_of_the_ring() {
        let (mut shares, now) = (Shares::default(), clock::now());
        let alice: UserName = "alice".parse().unwrap();
        let mut kept = |actor: &str, action, times: usize, now| {
            let one = |_| {
                let mut event = Note::new(actor, action).user(&alice).event().clone();
                shares.has_room(&mut event, now).then_some(event.detail)
            };
            (0..times).filter_map(one).collect::<Vec<String>>()
        };
        let refused = kept("bob", "shadow-refused", 1000, now);
        assert_eq!(refused.len(), 4);
        assert!(refused[3].contains("counted alone"), "{refused:?}");
        assert_eq!(kept("carol", "shadow-refused", 1, now), [""], "another one has their own");
        assert_eq!(kept("bob", "end-refused", 9, now).len(), 4);
        assert_eq!(kept("alice", "session-disconnected", 9000, now).len(), 256);
        assert_eq!(kept("root", "agent-drained", 1, now).len(), 0, "it concerns alice");
        assert!(shares.end(now + WINDOW - Duration::from_secs(1)).is_empty());
        let wanted = [
            (8745, "events about alice"),
            (996, "shadow-refused by bob"),
            (5, "end-refused by bob"),
        ];
        let left_out = shares.end(now + WINDOW);
        let left_out: Vec<_> = left_out.iter().map(|(n, what)| (*n, what.as_str())).collect();
        assert_eq!(left_out, wanted);
        assert_eq!(shares.0.len(), 0);
    }

    #[test]
    fn many_who_are_refused_have_a_share_together_and_an_administrator_has_none() {
        let (mut shares, now) = (Shares::default(), clock::now());
        let mut kept = |actor: &str, action| {
            let mut event = Note::new(actor, action).event().clone();
            shares.has_room(&mut event, now)
        };
        let refused = (0..40_000).filter(|n| kept(&format!("u{n}"), "access-refused")).count();
        assert_eq!(refused, 1024);
        assert!((0..9000).all(|_| kept("root", "agent-drained")));
        assert!(shares.0.len() <= COUNTED_MAX + 1);
        let left_out = shares.end(now + WINDOW);
        assert_eq!(left_out.iter().map(|(count, _)| count).sum::<u64>(), 40_000 - 1024);
        // Of those beyond the counted ones it is not known who they are.
        let of: Vec<&str> = left_out.iter().map(|(_, what)| what.as_str()).collect();
        assert_eq!(of, ["refusals", "events of all others"]);
    }
}
