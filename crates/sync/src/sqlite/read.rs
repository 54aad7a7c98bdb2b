//! Reading all of a store.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Display,
    path::Path,
    str::FromStr,
};

use prost::Message;
use rusqlite::Connection;
use uuid::Uuid;
use vsm_core::{
    AgentName, Change, Drain, Epoch, Event, Key, Lsn, Row, Session, SessionId, Table, UnixMillis,
    replica::{Disk, Entry, History, Log, Mark},
};
use vsm_proto::{convert::Invalid, session::v1 as pb, sync::v1 as log};

use super::{unsigned, wrap};
use crate::store::{Loaded, StoreError};

/// A reader that names the file in each error.
struct Reader<'a> {
    connection: &'a Connection,
    path: &'a Path,
}

pub(super) fn all(connection: &Connection, path: &Path) -> Result<Loaded, StoreError> {
    let reader = Reader { connection, path };
    let meta: HashMap<String, String> = reader
        .rows("SELECT key, value FROM meta", |row| Ok((row.get(0)?, row.get(1)?)))?
        .into_iter()
        .collect();
    let meta = Meta { reader: &reader, values: meta };
    let table = reader.table(&meta)?;
    let base = meta.position("base")?;
    // The later ones come with their entries.
    let mut history = reader.history()?;
    history.retain(|(_, first)| *first <= base.seq);
    let mut log = Log::at(base, history);
    let entries = reader.entries()?;
    for (entry, expected) in entries.iter().zip(log.base().seq + 1..) {
        if entry.lsn.seq != expected {
            return Err(reader.damaged(format!("changelog: {expected} is missing")));
        }
    }
    log.append(entries);
    let commit = meta.number("commit")?;
    if commit < log.base().seq || commit > log.last().seq {
        return Err(reader.damaged(format!("meta: commit {commit} is outside of the log")));
    }
    let mark = match meta.values.contains_key("mark_seq") {
        true => Some(Mark { base: meta.position("mark")?, keys: reader.mark()? }),
        false => None,
    };
    let disk = Disk {
        joined: meta.number("joined")? == 1,
        promised: meta.epoch("promised")?,
        log,
        commit,
        table,
        mark,
        unsure: meta.number("unsure")? == 1,
        peer_off: meta.number("peer_off")? == 1,
    };
    Ok(Loaded { lineage: meta.parsed("lineage")?, disk })
}

struct Meta<'a> {
    reader: &'a Reader<'a>,
    values: HashMap<String, String>,
}

impl Meta<'_> {
    fn parsed<T: FromStr<Err: Display>>(&self, key: &str) -> Result<T, StoreError> {
        let text = self.values.get(key).map(String::as_str).unwrap_or_default();
        text.parse().map_err(|error| self.reader.damaged(format!("meta: {key}: {error}")))
    }

    fn number(&self, key: &str) -> Result<u64, StoreError> {
        if self.values.contains_key(key) { self.parsed(key) } else { Ok(0) }
    }

    fn epoch(&self, key: &str) -> Result<Epoch, StoreError> {
        let counter = self.number(&format!("{key}_counter"))?;
        if counter == 0 {
            return Ok(Epoch::zero());
        }
        let nonce = u32::try_from(self.number(&format!("{key}_nonce"))?).unwrap_or(0);
        Ok(Epoch { counter, node: self.parsed(&format!("{key}_node"))?, nonce })
    }

    fn position(&self, key: &str) -> Result<Lsn, StoreError> {
        Ok(Lsn { epoch: self.epoch(key)?, seq: self.number(&format!("{key}_seq"))? })
    }
}

impl Reader<'_> {
    fn damaged(&self, why: String) -> StoreError {
        StoreError::Damaged { path: self.path.to_owned(), why }
    }

    fn rows<T>(
        &self,
        query: &str,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.connection.prepare(query)?;
            statement.query_map([], read)?.collect()
        };
        rows().map_err(|error| wrap(self.path, error))
    }

    fn parse<T: FromStr<Err: Display>>(&self, table: &str, text: &str) -> Result<T, StoreError> {
        text.parse().map_err(|error| self.damaged(format!("{table}: {error}")))
    }

    fn history(&self) -> Result<History, StoreError> {
        let query = "SELECT counter, node, nonce, first_seq FROM epoch ORDER BY first_seq";
        let rows: Vec<(i64, String, u32, i64)> =
            self.rows(query, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        rows.into_iter()
            .map(|(counter, node, nonce, first)| {
                let node = self.parse("epoch", &node)?;
                Ok((Epoch { counter: unsigned(counter), node, nonce }, unsigned(first)))
            })
            .collect()
    }

    fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let query = "SELECT counter, node, nonce, seq, change FROM changelog ORDER BY seq";
        let rows: Vec<(i64, String, u32, i64, Vec<u8>)> = self.rows(query, |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?;
        rows.into_iter()
            .map(|(counter, node, nonce, seq, change)| {
                let node = self.parse("changelog", &node)?;
                let epoch = Epoch { counter: unsigned(counter), node, nonce };
                let change = log::Change::decode(change.as_slice())
                    .map_err(|error| self.damaged(format!("changelog: {error}")))?;
                let change = Change::try_from(change)
                    .map_err(|error| self.damaged(format!("changelog: {error}")))?;
                Ok(Entry { lsn: Lsn { epoch, seq: unsigned(seq) }, change })
            })
            .collect()
    }

    fn mark(&self) -> Result<BTreeSet<Key>, StoreError> {
        let keys: Vec<String> = self.rows("SELECT key FROM mark", |row| row.get(0))?;
        keys.iter()
            .map(|text| match text.split_once(' ') {
                Some(("session", id)) => Ok(Key::Session(self.parse("mark", id)?)),
                Some(("agent", agent)) => Ok(Key::Agent(self.parse("mark", agent)?)),
                Some(("drain", agent)) => Ok(Key::Drain(self.parse("mark", agent)?)),
                Some(("event", slot)) => Ok(Key::Event(self.parse("mark", slot)?)),
                Some(("identity", name)) => Ok(Key::Identity(self.parse("mark", name)?)),
                Some(("web-keys", user)) => Ok(Key::WebKeys(self.parse("mark", user)?)),
                _ if text == "roster" => Ok(Key::Roster),
                _ => Err(self.damaged(format!("mark: {text:?} is no key"))),
            })
            .collect()
    }

    fn audit(&self, table: &mut Table) -> Result<(), StoreError> {
        let drains: Vec<(String, Vec<u8>)> =
            self.rows("SELECT agent, record FROM drain", |row| Ok((row.get(0)?, row.get(1)?)))?;
        for (agent, record) in drains {
            let mark = log::Drain::decode(record.as_slice())
                .map_err(|error| self.damaged(format!("drain: {error}")))?;
            let mark =
                Drain::try_from(mark).map_err(|error| self.damaged(format!("drain: {error}")))?;
            let agent = self.parse("drain", &agent)?;
            table.set_row(&Row::Drain { agent, mark: Some(mark.into()) });
        }
        let events: Vec<Vec<u8>> = self.rows("SELECT record FROM event", |row| row.get(0))?;
        for record in events {
            let event = log::Event::decode(record.as_slice())
                .map_err(|error| self.damaged(format!("event: {error}")))?;
            let event =
                Event::try_from(event).map_err(|error| self.damaged(format!("event: {error}")))?;
            table.set_row(&Row::Event(event.into()));
        }
        let identities: Vec<Vec<u8>> =
            self.rows("SELECT record FROM identity", |row| row.get(0))?;
        for record in identities {
            let identity = log::Identity::decode(record.as_slice())
                .map_err(|error| self.damaged(format!("identity: {error}")))?;
            let (name, known) = identity
                .try_into()
                .map_err(|error: Invalid| self.damaged(format!("identity: {error}")))?;
            table.set_row(&Row::Identity { name, known });
        }
        Ok(())
    }

    fn web_keys(&self, table: &mut Table) -> Result<(), StoreError> {
        let lists: Vec<Vec<u8>> = self.rows("SELECT record FROM web_keys", |row| row.get(0))?;
        for record in lists {
            let keys = log::WebKeys::decode(record.as_slice())
                .map_err(|error| self.damaged(format!("web_keys: {error}")))?;
            let (user, keys) = keys
                .try_into()
                .map_err(|error: Invalid| self.damaged(format!("web_keys: {error}")))?;
            table.set_row(&Row::WebKeys { user, keys });
        }
        Ok(())
    }

    fn table(&self, meta: &Meta<'_>) -> Result<Table, StoreError> {
        let mut table = Table::default();
        let sessions: Vec<Vec<u8>> = self.rows("SELECT record FROM session", |row| row.get(0))?;
        for record in sessions {
            let session = pb::Session::decode(record.as_slice())
                .map_err(|error| self.damaged(format!("session: {error}")))?;
            let session = Session::try_from(session)
                .map_err(|error| self.damaged(format!("session: {error}")))?;
            table.apply(&Change::Adopted(session.into()));
        }
        let query = "SELECT agent, at_unix_ms, id FROM tombstone";
        let stones: Vec<(String, i64, Uuid)> =
            self.rows(query, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        for (agent, at, id) in stones {
            let (id, agent) = (SessionId::new(id), self.parse("tombstone", &agent)?);
            // A tombstone stands for a session that is not there.
            table.apply(&Change::Tombstone { id, agent, at: UnixMillis(unsigned(at)) });
        }
        let failures: Vec<(String, i64)> = self
            .rows("SELECT agent, at_unix_ms FROM agent_failure", |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        for (agent, at) in failures {
            let agent = self.parse("agent_failure", &agent)?;
            table.set_row(&Row::Agent { agent, failed: UnixMillis(unsigned(at)) });
        }
        if meta.values.contains_key("roster") {
            let agents: Vec<String> =
                self.rows("SELECT agent FROM roster ORDER BY place", |row| row.get(0))?;
            let agents: Vec<AgentName> =
                agents.iter().map(|agent| self.parse("roster", agent)).collect::<Result<_, _>>()?;
            table.set_row(&Row::Roster(agents.into()));
        }
        self.audit(&mut table)?;
        self.web_keys(&mut table)?;
        Ok(table)
    }
}
