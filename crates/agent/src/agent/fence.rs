//! The promise: the highest epoch that this agent has served, and, where it is a witness, what it keeps for the pair. A
//! broker below the promise has been replaced and may not act.
//!
//! `STATE_DIR/promise` holds it ([`journal`]), durable before anyone is answered by it. Whoever acts holds a [`Permit`]
//! while they do, so that no higher promise can be given between the check and the deed.
//!
//! A damaged promise, or one that went back in time, is moved to `promise.damaged`, and as long as that file is there
//! the agent changes nothing: what it had promised is unknown, and serving a broker that was replaced is worse than not
//! serving. Desktops go on and look-ups are answered. Where a pair runs, its active broker mends this by itself when it
//! is in sync with the other one: then both are in one reign, and no higher one can have been forgotten. Else the
//! administrator, who knows which broker is active, removes the file and restarts the agent.

pub(crate) mod journal;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{RwLock, RwLockReadGuard};
use vsm_core::{
    Epoch, Fence, LineageId,
    replica::{Living, Witness, WitnessMsg, WitnessReply},
};
use vsm_daemon::{
    clock,
    hole::{self, Hole},
    trouble::{Kind as Wrong, Troubles},
};
use vsm_proto::{
    codec, convert,
    sync::v1::{WitnessRequest, WitnessResponse, witness_record::Kind},
};

use journal::{Journal, Kept};

const FILE: &str = "promise";
const DAMAGED: &str = "promise.damaged";

/// By how much one promise may be above the one before. A pair counts one for each reign, so this is more than a host
/// misses while it is away; and brokers, who follow smaller steps of what an agent names, can still rise above it.
const JUMP_MAX: u64 = 1_000_000;
/// The highest first promise: a pair of any age is below that, which is a reign each second for 136 years.
const FIRST_MAX: u64 = 1 << 32;
/// Other tables whose brokers it has promised to: a site makes a new one when it has lost its own.
const FORMER_MAX: usize = 64;
/// So long it is told that a broker was refused for its epoch.
const TOLD_FOR: Duration = Duration::from_secs(120);

/// What is promised, and to which table's brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) epoch: Option<Epoch>,
    pub(super) lineage: Option<LineageId>,
    /// Records that there ever were in this journal.
    pub(super) position: u64,
    /// Which journal.
    pub(super) journal: u64,
}

#[derive(Debug)]
enum State {
    Known(Box<Kept>),
    Damaged(Box<Loss>),
}

/// What was promised is not known for sure.
#[derive(Debug)]
struct Loss {
    /// The file that was set aside.
    file: PathBuf,
    /// A number drawn for it.
    number: u64,
    /// Whose sessions are here, and what was promised, as the file still says it where it can be read: perhaps more was
    /// promised, but never less.
    said: Said,
}

/// The table that is served, and what was ever promised, by table.
#[derive(Debug, Clone, Default)]
struct Said {
    lineage: Option<LineageId>,
    promises: Vec<(LineageId, Epoch)>,
}

impl Said {
    fn by(kept: &Kept) -> Self {
        Self { lineage: kept.lineage, promises: kept.promises() }
    }
}

impl Loss {
    fn of(file: &Path, kept: Option<&Kept>) -> Self {
        let said = kept.map(Said::by).unwrap_or_default();
        Self { file: file.to_owned(), number: rand::random(), said }
    }
}

/// Why a broker may not act here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Denied {
    /// To a higher epoch was promised.
    #[error("this agent has promised to another broker ({0})")]
    Fenced(Epoch),
    /// What was promised is not known, which is told in this file.
    #[error("this agent's promise was damaged; see {} and the agent's log", .0.display())]
    Damaged(PathBuf),
    /// It has sessions of another table.
    #[error(
        "this agent has sessions of the brokers with lineage {ours}, and you are of lineage {theirs}"
    )]
    OtherLineage {
        /// Whose sessions it has.
        ours: LineageId,
        /// The caller's.
        theirs: LineageId,
    },
    /// No pair can have come to this epoch.
    #[error("epoch {epoch} is beyond all reason: this agent takes none above {most} now")]
    BeyondReason {
        /// The caller's.
        epoch: Epoch,
        /// The highest counter that is taken.
        most: u64,
    },
    /// It has served so many that no pair has lost its table so often.
    #[error(
        "this agent has promised to the brokers of more than {FORMER_MAX} tables; if none of them acts any more, remove {} and restart it", .0.display()
    )]
    TooManyTables(PathBuf),
    /// The message cannot be read.
    #[error(transparent)]
    Unreadable(#[from] codec::Unreadable),
    /// The message is none.
    #[error(transparent)]
    Invalid(#[from] convert::Invalid),
    /// The disk does not take it.
    #[error("cannot keep the promise: {0}")]
    NotKept(#[from] io::Error),
}

/// The right to act now. Nothing higher is promised while it is held.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    _held: RwLockReadGuard<'a, State>,
}

/// Keeps the promise.
#[derive(Debug)]
pub(super) struct FenceKeeper {
    damaged: PathBuf,
    path: PathBuf,
    host: String,
    began: Instant,
    /// Which reign was heard from lately.
    living: Mutex<Living>,
    journal: Arc<Mutex<Journal>>,
    state: RwLock<State>,
    troubles: Troubles,
}

impl FenceKeeper {
    /// Reads the promise of the host of this name; what is wrong with it goes to `troubles`.
    pub(super) fn load(state_dir: &Path, host: &str, troubles: Troubles) -> io::Result<Self> {
        let (path, damaged) = (state_dir.join(FILE), state_dir.join(DAMAGED));
        let (journal, kept) = Journal::load(&path, host)?;
        let set_aside = |kept: Option<&Kept>| State::Damaged(Box::new(Loss::of(&damaged, kept)));
        let state = match kept {
            // One that cannot be read says nothing, and the host is set apart all the same.
            _ if damaged.exists() => {
                let said = Journal::load(&damaged, host).ok().and_then(|(_, kept)| kept.ok());
                set_aside(said.as_ref())
            }
            Ok(kept) => State::Known(Box::new(own(kept, host))),
            Err(error) => {
                fs::rename(&path, &damaged)?;
                tracing::error!(%error, moved_to = %damaged.display(), "the promise cannot be read");
                set_aside(None)
            }
        };
        if let State::Damaged(loss) = &state {
            troubles.raise(Wrong::Promise, "", apart(&loss.file));
        }
        let journal = Arc::new(Mutex::new(journal));
        let (host, began) = (host.to_owned(), clock::now());
        let living = Mutex::default();
        Ok(Self {
            damaged,
            path,
            host,
            began,
            living,
            journal,
            state: RwLock::new(state),
            troubles,
        })
    }

    /// The promise now.
    pub(super) async fn promise(&self) -> Promise {
        match &*self.state.read().await {
            State::Known(kept) => Promise {
                epoch: kept.witness.promised.clone(),
                lineage: kept.lineage,
                position: kept.position,
                journal: kept.journal,
            },
            State::Damaged(loss) => {
                Promise { epoch: None, lineage: None, position: 0, journal: loss.number }
            }
        }
    }

    /// Lets a broker act, promising to it first if its epoch is higher than any before. `is_empty` tells whether no
    /// session of the old lineage is left, so that another may take the agent over.
    pub(super) async fn admit(
        &self,
        fence: &Fence,
        is_empty: impl Fn() -> bool + Send,
    ) -> Result<Permit<'_>, Denied> {
        // Twice at most in practice; each round that fails means that the promise has grown.
        loop {
            let held = self.state.read().await;
            if hole::is_open(Hole::Epoch) {
                return Ok(Permit { _held: held });
            }
            let kept = known(&held)?;
            if kept.lineage == Some(fence.lineage) {
                kept.witness.may_act(&fence.epoch).map_err(Denied::Fenced)?;
                self.within_reason(kept, &fence.epoch)?;
                if kept.witness.promised.as_ref() == Some(&fence.epoch) {
                    return Ok(Permit { _held: held });
                }
            }
            drop(held);
            let mut state = self.state.write().await;
            let kept = self.of_lineage(&mut state, fence.lineage, &is_empty).await?;
            if kept.witness.may_act(&fence.epoch).is_ok() {
                self.within_reason(kept, &fence.epoch)?;
                // Written while the lock is held: nobody acts by a promise that is not durable.
                self.write(kept, Kind::Admitted((&fence.epoch).into())).await?;
                kept.position += 1;
                // Nothing stands against it, or it would have been said above.
                let _ = kept.witness.admit(&fence.epoch);
                tracing::info!(epoch = %fence.epoch, lineage = %fence.lineage, "promised");
            }
        }
    }

    /// Whether a broker could act now, without promising anything.
    pub(super) async fn check(&self, fence: &Fence) -> Result<(), Denied> {
        let held = self.state.read().await;
        let kept = known(&held)?;
        if let Some(ours) = kept.lineage.filter(|known| *known != fence.lineage) {
            return Err(Denied::OtherLineage { ours, theirs: fence.lineage });
        }
        kept.witness.may_act(&fence.epoch).map_err(Denied::Fenced)?;
        self.within_reason(kept, &fence.epoch)
    }

    /// Takes a broker's message to this host as a witness, as it came; so is the answer, which is durable.
    pub(super) async fn ask(
        &self,
        message: &[u8],
        is_empty: impl Fn() -> bool + Send,
    ) -> Result<Vec<u8>, Denied> {
        let answer = self.ask_message(codec::read(message)?, is_empty).await?;
        Ok(answer.encode_to_vec())
    }

    async fn ask_message(
        &self,
        request: WitnessRequest,
        is_empty: impl Fn() -> bool + Send,
    ) -> Result<WitnessResponse, Denied> {
        let lineage = convert::text("lineage", &request.lineage)?;
        let message = WitnessMsg::try_from(request.clone())?;
        let mut state = self.state.write().await;
        if let State::Damaged(lost) = &*state {
            let loss = lost.number;
            if !matches!(message, WitnessMsg::Clear { loss: by, .. } if by == Some(loss)) {
                return Ok(response(&WitnessReply::Mute { loss }, 0, loss));
            }
            let kept = self.mended(lost, lineage, &is_empty)?;
            self.mend(&mut state, kept).await?;
        }
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let kept = match self.of_lineage(&mut state, lineage, &is_empty).await {
            Ok(kept) => kept,
            Err(Denied::Fenced(promised)) => {
                return Ok((&WitnessReply::Refused { promised }).into());
            }
            Err(denied) => return Err(denied),
        };
        let living = || self.living.lock();
        let answer = kept.witness.answer(&message, &living(), now_ms);
        let reply = if let Some(answer) = answer {
            answer
        } else {
            self.within_reason(kept, message.epoch())?;
            living().heard(&message, now_ms);
            self.write(kept, journal::taken(request)).await?;
            kept.position += 1;
            kept.witness.handle(message)
        };
        Ok(response(&reply, kept.position, kept.journal))
    }

    /// A broker knows of a later position in this journal: if it is so, this host's disk went back in time, and what it
    /// promised since is forgotten. Positions in another journal say nothing of this one.
    pub(super) async fn quarantine(
        &self,
        lineage: LineageId,
        journal: u64,
        position: u64,
    ) -> io::Result<bool> {
        let mut state = self.state.write().await;
        let State::Known(kept) = &*state else { return Ok(false) };
        if kept.lineage.is_some_and(|own| own != lineage)
            || kept.journal != journal
            || kept.position >= position
        {
            return Ok(false);
        }
        tracing::error!(
            position = kept.position,
            known = position,
            "this host's promises went back in time: a disk was restored or copied; nothing is changed from here on"
        );
        self.troubles.raise(Wrong::Promise, "", apart(&self.damaged));
        let loss = Loss::of(&self.damaged, Some(kept));
        if self.path.exists() {
            fs::rename(&self.path, &self.damaged)?;
        } else {
            fs::write(&self.damaged, "")?;
        }
        *state = State::Damaged(Box::new(loss));
        Ok(true)
    }

    /// What is kept once both brokers are in one reign and say so: what was promised to a higher one cannot have been
    /// forgotten here. What is known of the promise holds on: that they say so is the word of whoever speaks with them,
    /// and by such words alone nothing that was promised is undone.
    fn mended(
        &self,
        lost: &Loss,
        lineage: LineageId,
        is_empty: &(impl Fn() -> bool + Send),
    ) -> Result<Kept, Denied> {
        let next = self.succeeding(lost.said.clone(), lineage, is_empty)?;
        let witness = Witness { mute: Some(lost.number), ..next.witness };
        Ok(Kept { witness, journal: lost.number, ..next })
    }

    /// What is kept for a table from here on; another one's is set aside if nothing of it is left. To its own brokers
    /// it is as if nothing had been between: a table that is named in passing undoes no promise.
    fn succeeding(
        &self,
        said: Said,
        lineage: LineageId,
        is_empty: &(impl Fn() -> bool + Send),
    ) -> Result<Kept, Denied> {
        if let Some(ours) = said.lineage.filter(|ours| *ours != lineage)
            && !is_empty()
        {
            return Err(Denied::OtherLineage { ours, theirs: lineage });
        }
        let (own, former): (Vec<_>, Vec<_>) =
            said.promises.into_iter().partition(|(of, _)| *of == lineage);
        if former.len() > FORMER_MAX {
            return Err(Denied::TooManyTables(self.path.clone()));
        }
        let own = own.into_iter().next().filter(|_| !hole::is_open(Hole::Promise));
        let fresh = journal::fresh(&self.host);
        let witness = Witness { promised: own.map(|(_, epoch)| epoch), ..fresh.witness };
        Ok(Kept { lineage: Some(lineage), witness, former, ..fresh })
    }

    async fn mend(&self, state: &mut State, kept: Kept) -> Result<(), Denied> {
        self.rewrite(&kept).await?;
        let old = self.damaged.with_extension("damaged.old");
        fs::rename(&self.damaged, &old)?;
        tracing::warn!(moved_to = %old.display(), "both brokers are in sync: this host acts and votes again");
        self.troubles.over(Wrong::Promise, "");
        *state = State::Known(Box::new(kept));
        Ok(())
    }

    /// What is kept for this table; another table's is dropped if nothing of it is left.
    async fn of_lineage<'a>(
        &self,
        state: &'a mut State,
        lineage: LineageId,
        is_empty: &(impl Fn() -> bool + Send),
    ) -> Result<&'a mut Kept, Denied> {
        let kept = match state {
            State::Known(kept) => kept,
            State::Damaged(loss) => return Err(Denied::Damaged(loss.file.clone())),
        };
        if kept.lineage != Some(lineage) {
            // One that is new keeps the journal that brokers were told of.
            let new = if kept.lineage.is_none() {
                Kept { lineage: Some(lineage), ..(**kept).clone() }
            } else {
                self.succeeding(Said::by(kept), lineage, is_empty)?
            };
            self.rewrite(&new).await?;
            **kept = new;
        }
        Ok(kept)
    }

    /// Refuses an epoch so far above the promise that no pair can have come to it: whoever names it would have this
    /// host serve nobody else.
    fn within_reason(&self, kept: &Kept, epoch: &Epoch) -> Result<(), Denied> {
        let most = match &kept.witness.promised {
            Some(promised) => promised.counter.saturating_add(JUMP_MAX),
            None => FIRST_MAX,
        };
        if epoch.counter <= most {
            return Ok(());
        }
        let denied = Denied::BeyondReason { epoch: epoch.clone(), most };
        // Another broker that is as it should be says nothing of this one.
        self.troubles.raise_for(TOLD_FOR, Wrong::Refused, "epoch", denied.to_string());
        Err(denied)
    }

    async fn rewrite(&self, kept: &Kept) -> Result<(), Denied> {
        let kept = kept.clone();
        self.on_disk(move |journal| journal.rewrite(&kept)).await
    }

    async fn write(&self, before: &Kept, kind: Kind) -> Result<(), Denied> {
        // The state goes along only where the file is to be written anew, which is seldom.
        let journal = Arc::clone(&self.journal);
        let needs = journal.lock().needs_rewrite();
        let before = needs.then(|| before.clone());
        let write = move |journal: &mut Journal| {
            before.as_ref().map_or(Ok(()), |kept| journal.rewrite(kept))?;
            journal.append(kind)
        };
        self.on_disk(write).await
    }

    async fn on_disk(
        &self,
        write: impl FnOnce(&mut Journal) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Denied> {
        let journal = Arc::clone(&self.journal);
        let write = move || write(&mut journal.lock());
        let written = tokio::task::spawn_blocking(write).await;
        let written = written.map_err(io::Error::other).and_then(|done| done);
        let what = |error: &io::Error| {
            format!("promises cannot be written, so nobody is served here: {error}")
        };
        self.troubles.set(Wrong::Disk, "promise", written.as_ref().err().map(what));
        Ok(written?)
    }
}

/// What is promised, if that is known.
fn known(state: &State) -> Result<&Kept, Denied> {
    match state {
        State::Known(kept) => Ok(kept),
        State::Damaged(loss) => Err(Denied::Damaged(loss.file.clone())),
    }
}

/// What is told while the promise is not known.
fn apart(file: &Path) -> String {
    format!(
        "it starts and ends nothing and has no vote, as its promises were damaged or went back in time ({})",
        file.display()
    )
}

/// A promise that another host made is a copy: that host votes by it, and this one would vote a second time. It keeps
/// to the promise and begins a journal of its own, as one that lost what it held.
fn own(mut kept: Kept, host: &str) -> Kept {
    let copied = !kept.host.is_empty() && kept.host != host;
    if copied {
        tracing::error!(
            of = kept.host,
            host,
            "this promise was copied from another host; it counts for nothing until both brokers are in sync"
        );
    }
    if copied || kept.journal == 0 {
        kept.journal = rand::random();
        let loss = kept.journal;
        kept.witness.mute = if copied { Some(loss) } else { kept.witness.mute.map(|_| loss) };
        kept.position = 0;
        if copied {
            kept.witness.kept = None;
        }
    }
    host.clone_into(&mut kept.host);
    kept
}

fn response(reply: &WitnessReply, position: u64, journal: u64) -> WitnessResponse {
    WitnessResponse { journal: position, journal_id: journal, ..reply.into() }
}

#[cfg(test)]
mod tests;
