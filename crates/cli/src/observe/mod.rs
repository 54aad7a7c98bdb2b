//! `vsm-sync`: an observer that follows a pair read-only, on a host of its own. It has its own certificate, is named in
//! `/vsmserver/HA/observers`, and goes on with the other node when one dies.

mod node;
mod pair;
mod show;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tokio::time::timeout;
use vsm_config::{Config, keys};
use vsm_core::{Row, SessionId, Table};
use vsm_daemon::{backoff::Backoff, clock, tls::Tls};

pub use node::{Address, Standing};

use self::{
    node::{Following, Told},
    pair::{DISBELIEF, Pair, Seen},
    show::{Dump, Event, NodeRow, What},
};
use crate::{
    exit::{CONFIG, Failure, UNAVAILABLE},
    output::{self, Format},
};

/// How long `dump` tries.
const DUMP_MAX: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// While the node that is followed does not serve, the other one is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where the pair is.
#[derive(Debug, Clone, Args)]
pub struct ObserveOptions {
    /// Directory of the configuration files: for /tls/*, and without --nodes for /vsmserver/HA/nodes
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d", global = true)]
    config: PathBuf,
    /// The nodes of the pair, by the names in their certificates
    #[arg(long, value_name = "HOST[:PORT],...", value_delimiter = ',', global = true)]
    nodes: Vec<Address>,
    /// Output format
    #[arg(long, value_enum, default_value_t, global = true)]
    output: Format,
}

impl ObserveOptions {
    fn pair(&self) -> Result<Pair, Failure> {
        let bad = |error: String| Failure::new(CONFIG, error);
        let config = Config::load(&self.config).map_err(|error| bad(error.to_string()))?;
        let tls = Tls::load(&config).map_err(|error| bad(error.to_string()))?;
        let port = config.get(&keys::vsm::VSM_SERVER_PORT);
        let mut nodes = self.nodes.clone();
        if nodes.is_empty() {
            let named = config.get(&keys::ha::NODES);
            nodes = named.into_iter().map(|host| Address { host, port: None }).collect();
        }
        if nodes.is_empty() {
            return Err(bad("name the nodes: --nodes A,B, or /vsmserver/HA/nodes".into()));
        }
        Ok(Pair { nodes, port, tls })
    }
}

/// `vsm-sync status`: how each node is, and how far it is behind.
///
/// # Errors
/// If no node answers.
pub async fn status(options: &ObserveOptions) -> Result<(), Failure> {
    let rows = NodeRow::list(options.pair()?.standings().await);
    output::list(options.output, &rows)?;
    if rows.iter().any(NodeRow::reached) {
        Ok(())
    } else {
        Err(Failure::new(UNAVAILABLE, "no node answers"))
    }
}

/// `vsm-sync dump`: the whole table once.
///
/// # Errors
/// If no node gives it within a minute.
pub async fn dump(options: &ObserveOptions) -> Result<(), Failure> {
    let mut observer = Observer::new(options.pair()?);
    let mut why = "no node answers".to_owned();
    let whole = timeout(DUMP_MAX, async {
        loop {
            match observer.whole().await {
                Ok(whole) => return whole,
                Err(failed) => why = failed,
            }
            tokio::time::sleep(observer.backoff.next_wait()).await;
        }
    });
    match whole.await {
        Ok((standing, table, commit)) => {
            let dump = Dump::new(standing, &table, commit);
            output::report(options.output, &dump, Dump::text)
        }
        Err(_) => Err(Failure::new(
            UNAVAILABLE,
            format!("no table within {} s: {why}", DUMP_MAX.as_secs()),
        )),
    }
}

/// `vsm-sync follow`: what changes, as it comes, until the reader of standard output goes.
///
/// # Errors
/// If standard output cannot be written.
pub async fn follow(options: &ObserveOptions) -> Result<(), Failure> {
    let format = options.output;
    let mut observer = Observer::new(options.pair()?);
    let mut told = String::new();
    loop {
        let why = match observer.follow(&mut |event| output::write_on(&event.text(format)?)).await {
            Ok(why) => why,
            Err(End::ReaderGone) => return Ok(()),
            Err(End::Failed(failure)) => return Err(failure),
        };
        if told != why {
            output::progress(&format!("{why}; trying again ..."));
            told = why;
        }
        tokio::time::sleep(observer.backoff.next_wait()).await;
    }
}

/// Why following is over for good.
enum End {
    /// Nobody reads what is printed.
    ReaderGone,
    /// It cannot be printed.
    Failed(Failure),
}

/// Prints an event; false = nobody reads it.
type Sink<'a> = &'a mut dyn FnMut(&Event) -> Result<bool, Failure>;

/// What was seen so far.
struct Observer {
    pair: Pair,
    held: Option<(Table, Seen)>,
    /// Since when the node that serves is behind what was seen.
    old_since: Option<std::time::Instant>,
    backoff: Backoff,
}

impl Observer {
    fn new(pair: Pair) -> Self {
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, seed);
        Self { pair, held: None, old_since: None, backoff }
    }

    /// Opens a stream to the best node.
    async fn open(&mut self) -> Result<(Address, Following, Standing), String> {
        if let (Some((_, seen)), Some(since)) = (&mut self.held, self.old_since) {
            seen.yields = since.elapsed() >= DISBELIEF;
        }
        let seen = self.held.as_ref().map(|(_, seen)| seen);
        match self.pair.follow(seen).await {
            Ok(opened) => {
                self.old_since = None;
                Ok(opened)
            }
            Err(nobody) => {
                if nobody.stale {
                    self.old_since.get_or_insert_with(clock::now);
                }
                Err(nobody.why)
            }
        }
    }

    async fn whole(&mut self) -> Result<(Standing, Table, u64), String> {
        let (_, mut following, mut standing) = self.open().await?;
        loop {
            match following.next().await? {
                Told::Standing(now) => standing = now,
                Told::Whole(table, commit) => return Ok((standing, *table, commit)),
                Told::Changed(..) => {}
            }
        }
    }

    /// Follows one node until it breaks, or the other one serves; why, in one line.
    async fn follow(&mut self, sink: Sink<'_>) -> Result<String, End> {
        let (address, mut following, mut standing) = match self.open().await {
            Ok(opened) => opened,
            Err(why) => return Ok(why),
        };
        self.say(sink, &standing, standing.commit, following_event(&standing))?;
        let mut looked = clock::now();
        loop {
            match following.next().await {
                Err(why) => return Ok(format!("{address}: {why}")),
                Ok(Told::Standing(now)) => {
                    if (&now.role, now.ready) != (&standing.role, standing.ready) {
                        self.say(sink, &now, now.commit, following_event(&now))?;
                    }
                    standing = now;
                    if !pair::serves(&standing) && looked.elapsed() > LOOK_EVERY {
                        looked = clock::now();
                        if self.another_serves(&address).await {
                            return Ok(format!(
                                "{address} does not serve, and the other node does"
                            ));
                        }
                    }
                }
                Ok(Told::Whole(table, commit)) => {
                    self.backoff.reset();
                    self.take(sink, &standing, *table, commit)?;
                }
                Ok(Told::Changed(rows, commit)) => self.change(sink, &standing, &rows, commit)?,
            }
        }
    }

    async fn another_serves(&self, than: &Address) -> bool {
        let answers = self.pair.standings().await;
        let seen = self.held.as_ref().map(|(_, seen)| seen);
        pair::best(&answers, seen).is_ok_and(|best| best != than)
    }

    /// A whole table: all of it is news at first, and then what is not as before.
    fn take(
        &mut self,
        sink: Sink<'_>,
        standing: &Standing,
        table: Table,
        commit: u64,
    ) -> Result<(), End> {
        match &self.held {
            None => {
                let sessions = table.sessions().len();
                self.say(sink, standing, commit, What::Table { sessions })?;
            }
            Some((before, _)) => {
                for row in difference(before, &table) {
                    self.say(sink, standing, commit, (&row).into())?;
                }
            }
        }
        let lineage = standing.lineage.clone();
        self.held = Some((table, Seen { lineage, commit, yields: false }));
        Ok(())
    }

    fn change(
        &mut self,
        sink: Sink<'_>,
        standing: &Standing,
        rows: &[Row],
        commit: u64,
    ) -> Result<(), End> {
        if let Some((table, seen)) = &mut self.held {
            rows.iter().for_each(|row| table.set_row(row));
            seen.commit = commit;
        }
        rows.iter().try_for_each(|row| self.say(sink, standing, commit, row.into()))
    }

    fn say(&self, sink: Sink<'_>, standing: &Standing, commit: u64, what: What) -> Result<(), End> {
        let at = output::time(clock::unix_millis().0);
        let event = Event { at, node: standing.node.clone(), commit, what };
        match sink(&event) {
            Ok(true) => Ok(()),
            Ok(false) => Err(End::ReaderGone),
            Err(failure) => Err(End::Failed(failure)),
        }
    }
}

fn following_event(standing: &Standing) -> What {
    What::Following { role: standing.role.clone(), epoch: standing.epoch.clone() }
}

/// The rows that make `new` of `old`, where rows can say it.
fn difference(old: &Table, new: &Table) -> Vec<Row> {
    let gone = |id: &SessionId| new.session(*id).is_none() && new.tombstone(*id).is_none();
    let known = old.sessions().map(|session| session.id);
    let buried = old.tombstones().map(|(id, ..)| id).filter(|id| old.session(*id).is_none());
    let went = known.chain(buried).filter(gone);
    let went = went.map(|id| Row::Session { id, session: None, tombstone: None });
    let came = new.rows().filter(|row| old.row(&row.key()).as_ref() != Some(row));
    came.chain(went).collect()
}

#[cfg(test)]
mod tests {
    use vsm_core::{Change, UnixMillis};

    use super::*;

    #[test]
    fn a_table_from_the_other_node_is_news_only_where_it_differs() {
        let stone = |n: u128| Change::Tombstone {
            id: SessionId::new(uuid::Uuid::from_u128(n)),
            agent: "agent1".parse().unwrap(),
            at: UnixMillis(1),
        };
        let table = |changes: &[Change]| {
            let mut table = Table::default();
            changes.iter().for_each(|change| table.apply(change));
            table
        };
        let old = table(&[stone(1), stone(2), Change::Roster(["w".parse().unwrap()].into())]);
        let new = table(&[stone(2), stone(3), Change::Roster(["w".parse().unwrap()].into())]);
        assert_eq!(difference(&new, &new), []);
        let rows = difference(&old, &new);
        assert_eq!(rows.len(), 2, "one came and one went: {rows:?}");
        let mut made = old;
        rows.iter().for_each(|row| made.set_row(row));
        assert!(made.tombstones().eq(new.tombstones()));
    }
}
