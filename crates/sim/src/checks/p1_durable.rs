//! P1: a change that was acknowledged is never lost, and at the moment of its commit it is on stable storage of two of
//! three voters. The chain of committed entries is kept here, and the table that they make.

use std::collections::BTreeMap;

use vsm_core::{
    Change, Epoch, Lsn, Table,
    replica::{Disk, Replica, Standing, Write},
};

use crate::state::{
    agent::Agent,
    broker::{Broker, rows},
};

/// What is acknowledged was committed at most so many entries ago.
const LOOK_BACK: usize = 256;

/// Every entry ever written, what it follows, and which of them are committed.
#[derive(Debug)]
pub(crate) struct Durable {
    written: BTreeMap<Lsn, (Lsn, Change)>,
    tails: [Lsn; 2],
    tip: Lsn,
    chain: Vec<Lsn>,
    table: Table,
    compared: [Option<Epoch>; 2],
    /// The last reign of each process.
    reigned: [Option<Epoch>; 2],
    two_writers: Option<String>,
}

impl Default for Durable {
    fn default() -> Self {
        Self {
            written: BTreeMap::new(),
            tails: [Lsn::zero(), Lsn::zero()],
            tip: Lsn::zero(),
            chain: vec![Lsn::zero()],
            table: Table::default(),
            compared: [None, None],
            reigned: [None, None],
            two_writers: None,
        }
    }
}

impl Durable {
    /// The last committed position.
    pub(crate) const fn tip(&self) -> &Lsn {
        &self.tip
    }

    pub(super) const fn table(&self) -> &Table {
        &self.table
    }

    /// Nothing is committed any more; what was written was written all the same, in reigns that never come back.
    pub(super) fn lost_all(&mut self) {
        let written = std::mem::take(&mut self.written);
        *self = Self { written, ..Self::default() };
    }

    /// What readers of a broker see is committed.
    pub(super) fn published(&self, id: usize, brokers: &[Broker; 2]) -> Option<String> {
        let replica = brokers[id].replica.as_ref()?;
        let at = replica.log().lsn(replica.commit())?;
        let index = usize::try_from(at.seq).ok()?;
        let hidden = !replica.is_sure() || brokers[id].is_old;
        (!hidden && self.chain.get(index) != Some(at))
            .then(|| format!("P1: broker{id} shows its table at {at}, which is not committed"))
    }

    pub(crate) fn restarted(&mut self, id: usize, disk: &Disk) {
        self.tails[id] = disk.log.last().clone();
        self.compared[id] = None;
        self.reigned[id] = None;
    }

    /// A broker writes.
    pub(crate) fn writes(&mut self, id: usize, write: &Write, _now: u64) {
        let mut tail = self.tails[id].clone();
        if let Some(install) = &write.install {
            tail = install.at.clone();
        }
        if let Some(seq) = write.truncate {
            while tail.seq > seq
                && let Some((before, _)) = self.written.get(&tail)
            {
                tail = before.clone();
            }
        }
        for entry in &write.append {
            let new = (tail.clone(), entry.change.clone());
            let known = self.written.entry(entry.lsn.clone()).or_insert_with(|| new.clone());
            if *known != new {
                self.two_writers =
                    Some(format!("P2: two entries at {}: {known:?} {new:?}", entry.lsn));
            }
            tail = entry.lsn.clone();
        }
        self.tails[id] = tail;
    }

    /// A caller is told that a change is committed.
    pub(crate) fn acknowledged(
        &mut self,
        id: usize,
        change: &Change,
        brokers: &[Broker; 2],
        _now: u64,
    ) {
        let Some(replica) = &brokers[id].replica else { return };
        // Not by its log, of which it may have forgotten some.
        let mut at = replica.log().lsn(replica.commit()).cloned();
        let mut found = false;
        for _ in 0..LOOK_BACK {
            let Some((before, one)) = at.as_ref().and_then(|at| self.written.get(at)) else {
                break;
            };
            found |= one == change;
            at = Some(before.clone());
        }
        if !found {
            self.two_writers =
                Some(format!("P1: {change:?} was acknowledged and is not committed"));
        }
    }

    /// A broker may have committed something: each change is one that `rule` allows on the table before it.
    pub(super) fn committed(
        &mut self,
        id: usize,
        brokers: &[Broker; 2],
        agents: &[Agent],
        mut rule: impl FnMut(&Table, &Change) -> Option<String>,
    ) -> Option<String> {
        if let Some(found) = self.two_writers.take() {
            return Some(found);
        }
        let replica = brokers[id].replica.as_ref()?;
        let at = replica.log().lsn(replica.commit())?.clone();
        // Whoever reigns commits by an entry of its own reign, before it is ready to serve too.
        if let Standing::Active { epoch, .. } = replica.standing() {
            self.reigned[id] = Some(epoch);
        }
        // It may have stood down in the step in which it committed.
        let epoch = self.reigned[id].clone().filter(|epoch| *epoch == at.epoch)?;
        if at.seq <= self.tip.seq {
            let index = usize::try_from(at.seq).ok()?;
            if self.chain.get(index) != Some(&at) {
                return Some(format!(
                    "P1: broker{id} committed {at} where {:?} was",
                    self.chain.get(index)
                ));
            }
        } else {
            let mut path = Vec::new();
            let mut from = at.clone();
            while from.seq > self.tip.seq {
                let Some((before, change)) = self.written.get(&from) else { break };
                path.push((from.clone(), change.clone()));
                from = before.clone();
            }
            if from != self.tip {
                return Some(format!("P1: broker{id} committed {at}, without {} before", self.tip));
            }
            for (lsn, change) in path.into_iter().rev() {
                if let Some(found) = rule(&self.table, &change) {
                    return Some(found);
                }
                self.table.apply(&change);
                self.chain.push(lsn);
            }
            self.tip = at.clone();
            if let Some(found) = twice(id, &epoch, &at, brokers, agents) {
                return Some(found);
            }
        }
        if self.compared[id].as_ref() != Some(&epoch) && at == self.tip {
            self.compared[id] = Some(epoch);
            if rows(replica.table()) != rows(&self.table) {
                return Some(format!(
                    "P1: broker{id} serves another table than was committed at {at}"
                ));
            }
        }
        None
    }
}

/// Whether it is durable here and at a second voter, unless that one has gone on to another reign or lost its disk.
fn twice(
    id: usize,
    epoch: &Epoch,
    at: &Lsn,
    brokers: &[Broker; 2],
    agents: &[Agent],
) -> Option<String> {
    let has = |disk: &Disk| disk.log.base().seq >= at.seq || disk.log.contains(at);
    if !has(&brokers[id].disk) {
        return Some(format!("P1: broker{id} committed {at} before it was on its own disk"));
    }
    if brokers[id].single || brokers[id].replica.as_ref().is_some_and(Replica::counts_peer_off) {
        // The other one is off, and cannot act before it is brought up to date.
        return None;
    }
    let peer = &brokers[1 - id];
    let peer_has = has(&peer.disk) || peer.lost_ms.is_some() || peer.disk.promised > *epoch;
    let roster = brokers[id].replica.as_ref().and_then(|replica| replica.table().roster().cloned());
    let roster = roster.unwrap_or_default();
    let is_witness = |agent: &&Agent| roster.contains(&agent.name);
    let kept = agents.iter().filter(is_witness).filter(|agent| {
        agent.lost.is_some()
            || agent.witness.window().is_some_and(|window| window.last >= *at)
            || agent.witness.promised().is_some_and(|promised| promised > epoch)
    });
    (!peer_has && kept.count() <= roster.len() / 2)
        .then(|| format!("P1: broker{id} committed {at}, which no second voter has"))
}
