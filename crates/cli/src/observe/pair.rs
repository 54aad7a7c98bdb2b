//! Both nodes: which one an observer is to follow. The one that serves, else the one that has most; never one that is
//! behind what was seen already, as that would show old states as new.

use std::time::Duration;

use tokio::task::JoinSet;
use vsm_daemon::tls::Tls;

use super::node::{Address, Following, Standing};

/// How far an observer has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) lineage: String,
    pub(super) commit: u64,
    /// A node that serves is believed even where it is behind this.
    pub(super) yields: bool,
}

/// Why no node can be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nobody {
    /// One serves, and is behind what was seen.
    pub(super) stale: bool,
    /// In one line.
    pub(super) why: String,
}

/// How long a node that serves and is behind what was seen is not believed: by then the rest would have come.
pub(super) const DISBELIEF: Duration = Duration::from_secs(10);

/// Where the nodes are and who we are.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) nodes: Vec<Address>,
    pub(super) port: u16,
    pub(super) tls: Tls,
}

/// What a node said when it was asked how it is.
pub(super) type Answer = (Address, Result<Standing, String>);

impl Pair {
    /// Asks all nodes at once how they are; in the order in which they were named.
    pub(super) async fn standings(&self) -> Vec<Answer> {
        let mut asked = JoinSet::new();
        for (number, address) in self.nodes.iter().cloned().enumerate() {
            let (tls, port) = (self.tls.clone(), self.port);
            asked.spawn(async move {
                let answer = Following::open(&address, port, &tls, true).await;
                (number, (address, answer.map(|(_, standing)| standing)))
            });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(number, _)| *number);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Follows the best node, with its address; on failure why there is none.
    pub(super) async fn follow(
        &self,
        seen: Option<&Seen>,
    ) -> Result<(Address, Following, Standing), Nobody> {
        let answers = self.standings().await;
        let address = best(&answers, seen)?.clone();
        let opened = Following::open(&address, self.port, &self.tls, false).await;
        let (following, standing) =
            opened.map_err(|why| Nobody { stale: false, why: format!("{address}: {why}") })?;
        Ok((address, following, standing))
    }
}

/// Whether it says that it serves users.
pub(super) fn serves(standing: &Standing) -> bool {
    standing.ready && matches!(standing.role.as_str(), "active" | "standalone")
}

/// The node to follow; on failure why none.
pub(super) fn best<'a>(answers: &'a [Answer], seen: Option<&Seen>) -> Result<&'a Address, Nobody> {
    let candidates = answers.iter().filter_map(|(address, answer)| {
        let standing = answer.as_ref().ok()?;
        Some((address, standing))
    });
    let old = |standing: &Standing| {
        seen.is_some_and(|seen| {
            let behind = seen.lineage == standing.lineage && standing.commit < seen.commit;
            behind && !(seen.yields && serves(standing))
        })
    };
    let rank = |standing: &Standing| (serves(standing), standing.commit);
    // The first of equals, so that nothing goes back and forth.
    let chosen = candidates
        .filter(|(_, standing)| !old(standing))
        .reduce(|one, other| if rank(other.1) > rank(one.1) { other } else { one });
    if let Some((address, _)) = chosen {
        return Ok(address);
    }
    let why = |(address, answer): &Answer| match answer {
        Ok(standing) => format!("{address} is at {} only", standing.commit),
        Err(why) => format!("{address}: {why}"),
    };
    let why = answers.iter().map(why).collect::<Vec<_>>().join("; ");
    let stale = answers.iter().any(|(_, answer)| answer.as_ref().is_ok_and(serves));
    Err(Nobody { stale, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(host: &str, role: &str, commit: u64) -> Answer {
        let standing = Standing {
            node: host.into(),
            role: role.into(),
            ready: role == "active",
            commit,
            lineage: "l".into(),
            ..Standing::default()
        };
        (host.parse().unwrap(), Ok(standing))
    }

    fn dead(host: &str) -> Answer {
        (host.parse().unwrap(), Err("refused".into()))
    }

    #[test]
    fn the_node_that_serves_is_followed_else_the_one_that_has_most() {
        let chosen = |answers: &[Answer]| best(answers, None).map(|address| address.host.clone());
        assert_eq!(chosen(&[answer("a", "standby", 9), answer("b", "active", 9)]), Ok("b".into()));
        assert_eq!(chosen(&[answer("a", "standby", 8), answer("b", "standby", 9)]), Ok("b".into()));
        assert_eq!(chosen(&[answer("a", "standby", 9), answer("b", "standby", 9)]), Ok("a".into()));
        assert_eq!(chosen(&[dead("a"), answer("b", "standby", 1)]), Ok("b".into()));
        let nobody = Nobody { stale: false, why: "a: refused; b: refused".into() };
        assert_eq!(chosen(&[dead("a"), dead("b")]), Err(nobody));
    }

    #[test]
    fn nobody_is_followed_back_in_time() {
        let seen = Seen { lineage: "l".into(), commit: 9, yields: false };
        let answers = [answer("a", "active", 8), answer("b", "standby", 9)];
        assert_eq!(best(&answers, Some(&seen)).unwrap().host, "b");
        let nobody = best(&answers[..1], Some(&seen)).unwrap_err();
        assert!(nobody.stale && nobody.why.contains("a is at 8 only"), "{nobody:?}");
        let yields = Seen { yields: true, ..seen };
        assert_eq!(best(&answers[..1], Some(&yields)).unwrap().host, "a", "it serves all the same");
        let standby = [answer("a", "standby", 8)];
        assert!(!best(&standby, Some(&yields)).unwrap_err().stale);
        let other = Seen { lineage: "another".into(), commit: 9, yields: false };
        assert_eq!(best(&answers, Some(&other)).unwrap().host, "a", "another table starts anew");
    }
}
