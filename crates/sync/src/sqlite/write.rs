//! A replica's writes as statements.

use prost::Message;
use rusqlite::{Result, Transaction, params};
use vsm_core::{
    AgentName, Epoch, Key, Lsn, Row, Session, SessionId, UnixMillis, UserName, WebKey,
    replica::{Entry, History, Mark, Write},
};
use vsm_proto::{session::v1 as pb, sync::v1 as log};

use super::signed;

/// More are remembered than a replica looks at; the first tells the life of the table.
const FORGET_EPOCHS: &str = "DELETE FROM epoch WHERE first_seq > 1 AND first_seq <
    (SELECT first_seq FROM epoch ORDER BY first_seq DESC LIMIT 1 OFFSET 256)";

pub(super) fn all(on: &Transaction<'_>, writes: &[Write], rows: &[Row]) -> Result<()> {
    for write in writes {
        one(on, write)?;
    }
    if writes.iter().any(|write| write.install.as_ref().is_some_and(|install| install.whole)) {
        on.execute_batch("DELETE FROM session; DELETE FROM tombstone; DELETE FROM agent_failure; DELETE FROM roster;
            DELETE FROM drain; DELETE FROM event; DELETE FROM identity;
            DELETE FROM web_keys; DELETE FROM meta WHERE key = 'roster';")?;
    }
    rows.iter().try_for_each(|row| set_row(on, row))
}

fn one(on: &Transaction<'_>, write: &Write) -> Result<()> {
    if let Some(install) = &write.install {
        on.execute_batch("DELETE FROM changelog; DELETE FROM epoch;")?;
        epochs(on, &install.history)?;
        base(on, &install.at)?;
        meta(on, "commit", install.at.seq)?;
        meta(on, "joined", 1)?;
    }
    if let Some(seq) = write.truncate {
        on.prepare_cached("DELETE FROM changelog WHERE seq > ?1")?.execute([signed(seq)])?;
        on.prepare_cached("DELETE FROM epoch WHERE first_seq > ?1")?.execute([signed(seq)])?;
    }
    append(on, &write.append)?;
    if let Some(commit) = write.commit {
        meta(on, "commit", commit)?;
    }
    if let Some(promised) = &write.promised {
        meta_epoch(on, "promised", promised)?;
    }
    if let Some(mark) = &write.mark {
        set_mark(on, mark.as_ref())?;
    }
    if let Some(seq) = write.trim {
        trim(on, seq)?;
    }
    if let Some(unsure) = write.unsure {
        meta(on, "unsure", u8::from(unsure))?;
    }
    if let Some(off) = write.peer_off {
        meta(on, "peer_off", u8::from(off))?;
    }
    Ok(())
}

fn append(on: &Transaction<'_>, entries: &[Entry]) -> Result<()> {
    let Some(first) = entries.first() else { return Ok(()) };
    meta(on, "joined", 1)?;
    let mut epoch = None;
    for entry in entries {
        let Lsn { epoch: own, seq } = &entry.lsn;
        if epoch != Some(own) {
            // One that is known keeps its first number.
            on.prepare_cached("INSERT OR IGNORE INTO epoch VALUES (?1, ?2, ?3, ?4)")?.execute(
                params![signed(own.counter), own.node.as_str(), own.nonce, signed(*seq)],
            )?;
            on.prepare_cached(FORGET_EPOCHS)?.execute([])?;
            epoch = Some(own);
        }
        let change = log::Change::from(&entry.change).encode_to_vec();
        on.prepare_cached("INSERT INTO changelog VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(
            params![signed(*seq), signed(own.counter), own.node.as_str(), change, own.nonce],
        )?;
    }
    debug_assert!(first.lsn.seq > 0, "numbers begin at 1");
    Ok(())
}

fn epochs(on: &Transaction<'_>, history: &History) -> Result<()> {
    for (epoch, first) in history {
        on.prepare_cached("INSERT OR REPLACE INTO epoch VALUES (?1, ?2, ?3, ?4)")?.execute(
            params![signed(epoch.counter), epoch.node.as_str(), epoch.nonce, signed(*first)],
        )?;
    }
    Ok(())
}

fn base(on: &Transaction<'_>, at: &Lsn) -> Result<()> {
    meta_epoch(on, "base", &at.epoch)?;
    meta(on, "base_seq", at.seq)
}

fn trim(on: &Transaction<'_>, seq: u64) -> Result<()> {
    const LAST: &str = "SELECT counter, node, nonce, seq FROM changelog WHERE seq <= ?1
        ORDER BY seq DESC LIMIT 1";
    let last: Option<(i64, String, u32, i64)> = on
        .prepare_cached(LAST)?
        .query_map([signed(seq)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .next()
        .transpose()?;
    let Some((counter, node, nonce, seq)) = last else { return Ok(()) };
    meta(on, "base_counter", counter)?;
    meta(on, "base_node", node)?;
    meta(on, "base_nonce", nonce)?;
    meta(on, "base_seq", seq)?;
    on.prepare_cached("DELETE FROM changelog WHERE seq <= ?1")?.execute([seq])?;
    Ok(())
}

fn set_mark(on: &Transaction<'_>, mark: Option<&Mark>) -> Result<()> {
    on.execute_batch("DELETE FROM mark;")?;
    let Some(mark) = mark else {
        on.prepare_cached("DELETE FROM meta WHERE key LIKE 'mark_%'")?.execute([])?;
        return Ok(());
    };
    meta_epoch(on, "mark", &mark.base.epoch)?;
    meta(on, "mark_seq", mark.base.seq)?;
    for key in &mark.keys {
        on.prepare_cached("INSERT INTO mark VALUES (?1)")?.execute([key_text(key)])?;
    }
    Ok(())
}

/// A key as text: its kind, a space, its id or name.
fn key_text(key: &Key) -> String {
    match key {
        Key::Session(id) => format!("session {id}"),
        Key::Agent(agent) => format!("agent {agent}"),
        Key::Roster => "roster".to_owned(),
        Key::Drain(agent) => format!("drain {agent}"),
        Key::Event(slot) => format!("event {slot}"),
        Key::Identity(name) => format!("identity {name}"),
        Key::WebKeys(user) => format!("web-keys {user}"),
    }
}

/// Sets a value; one that is the same costs no page.
fn meta(on: &Transaction<'_>, key: &str, value: impl std::fmt::Display) -> Result<()> {
    const SET: &str = "INSERT INTO meta VALUES (?1, ?2)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value";
    on.prepare_cached(SET)?.execute(params![key, value.to_string()])?;
    Ok(())
}

/// An epoch, in three values.
fn meta_epoch(on: &Transaction<'_>, key: &str, epoch: &Epoch) -> Result<()> {
    meta(on, &format!("{key}_counter"), epoch.counter)?;
    meta(on, &format!("{key}_node"), &epoch.node)?;
    meta(on, &format!("{key}_nonce"), epoch.nonce)
}

fn set_row(on: &Transaction<'_>, row: &Row) -> Result<()> {
    match row {
        Row::Session { id, session, tombstone } => {
            set_session(on, *id, session.as_deref())?;
            set_tombstone(on, *id, tombstone.as_ref())
        }
        Row::Agent { agent, failed } => {
            on.prepare_cached("INSERT OR REPLACE INTO agent_failure VALUES (?1, ?2)")?
                .execute(params![agent.as_str(), signed(failed.0)])?;
            Ok(())
        }
        Row::Roster(agents) => {
            on.execute_batch("DELETE FROM roster;")?;
            for (agent, place) in agents.iter().zip(0_i64..) {
                on.prepare_cached("INSERT INTO roster VALUES (?1, ?2)")?
                    .execute(params![place, agent.as_str()])?;
            }
            // An empty list of witnesses is not the same as none: a pair without witnesses is a pair.
            meta(on, "roster", agents.len())
        }
        Row::Drain { agent, mark: Some(mark) } => {
            let record = log::Drain::from(mark.as_ref()).encode_to_vec();
            on.prepare_cached("INSERT OR REPLACE INTO drain VALUES (?1, ?2)")?
                .execute(params![agent.as_str(), record])?;
            Ok(())
        }
        Row::Drain { agent, mark: None } => {
            on.prepare_cached("DELETE FROM drain WHERE agent = ?1")?.execute([agent.as_str()])?;
            Ok(())
        }
        Row::Event(event) => {
            let record = log::Event::from(event.as_ref()).encode_to_vec();
            on.prepare_cached("INSERT OR REPLACE INTO event VALUES (?1, ?2)")?
                .execute(params![signed(event.slot()), record])?;
            Ok(())
        }
        Row::Identity { name, known } => {
            let record = log::Identity::from((name, known.as_ref())).encode_to_vec();
            on.prepare_cached("INSERT OR REPLACE INTO identity VALUES (?1, ?2)")?
                .execute(params![name.as_str(), record])?;
            Ok(())
        }
        Row::WebKeys { user, keys } => set_web_keys(on, user, keys),
    }
}

fn set_web_keys(on: &Transaction<'_>, user: &UserName, keys: &[WebKey]) -> Result<()> {
    let user_text = user.as_str();
    if keys.is_empty() {
        on.prepare_cached("DELETE FROM web_keys WHERE user = ?1")?.execute([user_text])?;
    } else {
        let record = log::WebKeys::from((user, keys)).encode_to_vec();
        on.prepare_cached("INSERT OR REPLACE INTO web_keys VALUES (?1, ?2)")?
            .execute(params![user_text, record])?;
    }
    Ok(())
}

fn set_session(on: &Transaction<'_>, id: SessionId, session: Option<&Session>) -> Result<()> {
    match session {
        Some(session) => on
            .prepare_cached("INSERT OR REPLACE INTO session VALUES (?1, ?2)")?
            .execute(params![id.uuid(), pb::Session::from(session).encode_to_vec()])?,
        None => on.prepare_cached("DELETE FROM session WHERE id = ?1")?.execute([id.uuid()])?,
    };
    Ok(())
}

fn set_tombstone(
    on: &Transaction<'_>,
    id: SessionId,
    tombstone: Option<&(AgentName, UnixMillis)>,
) -> Result<()> {
    match tombstone {
        Some((agent, at)) => on
            .prepare_cached("INSERT OR REPLACE INTO tombstone VALUES (?1, ?2, ?3)")?
            .execute(params![id.uuid(), agent.as_str(), signed(at.0)])?,
        None => on.prepare_cached("DELETE FROM tombstone WHERE id = ?1")?.execute([id.uuid()])?,
    };
    Ok(())
}
