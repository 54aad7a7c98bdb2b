//! Following an agent's report: what it says is running, against what the table says.
//!
//! The agent owns whether a session exists. So one that the table does not know is
//! adopted, one that the agent does not know is dropped, and what was decided while the agent was away (the end of a
//! session, a start that was given up) is carried out when it is back.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinSet};
use tokio_stream::StreamExt;
use tonic::Status;
use tracing::Instrument as _;
use vsm_core::{
    AgentUse, Ended, Epoch, Proposal, Session, SessionId,
    lifecycle::{self, Burial, Missed, Owed, Reported},
};
use vsm_daemon::{
    backoff::Backoff,
    clock::{self, Since},
    hole::{self, Hole},
    span,
    trouble::Kind,
};
use vsm_proto::{
    agent::v1::{self as pb, report_response::Item},
    session::v1::LiveSession,
};
use vsm_sync::{ProposeError, View};

use crate::{
    hosts::{
        agents::{Away, Link, LinkState, Load, Seen, ShadowedBy, Up, Verdict},
        conduct,
        fleet::Host,
        told::{ids, maintenance, printable, public_name, seen, shadowers, shown, troubles},
    },
    identities,
    journal::trail::{Note, SELF},
    pair::witness,
    sessions::{
        Sessions, ending,
        gone::{bury, gone, log_unless_known},
        limiting, shadow,
    },
};

/// Sessions of an inventory that are taken in at a time: what one flush of the table takes.
const ABSORB_TOGETHER: usize = 256;
/// The same of all inventories together. What is proposed waits for the other broker's word behind all that was
/// proposed before: when a thousand agents come at once that must not take as long as a broker that does not answer.
static ABSORBING: Semaphore = Semaphore::const_new(ABSORB_TOGETHER);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// What an agent could not do at once is asked of it again.
const CARRY_OUT_EVERY: Duration = Duration::from_secs(30);
/// Opening a report, first message included.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// Holds the agent's report open until the link or the broker stops.
pub(crate) async fn follow(sessions: Arc<Sessions>, link: Arc<Link>) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, rand::random());
    while !link.stop.is_cancelled() {
        if let Some(aside) = link.aside() {
            set_down(&link, &Away::Aside(aside.clone()));
            tokio::select! {
                biased;
                () = link.stop.cancelled() => return,
                () = tokio::time::sleep(aside.left()) => continue,
            }
        }
        if link.is_back() {
            tracing::info!("this host is heard again");
            sessions.note(Note::new(SELF, "agent-heard-again").agent(&link.name));
        }
        let ended = tokio::select! {
            biased;
            () = link.stop.cancelled() => return,
            ended = Box::pin(report(&sessions, &link)) => ended,
        };
        if link.is_up() {
            backoff.reset();
        }
        match ended {
            // The agent is there; only what it says is to be taken anew.
            End::Anew => continue,
            End::Away(why) => set_down(&link, &why),
        }
        tokio::select! {
            biased;
            () = link.stop.cancelled() => return,
            () = link.wake.notified() => backoff.reset(),
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

/// Why a report ended.
enum End {
    /// The agent, or the way to it, is gone.
    Away(Away),
    /// It is to be opened again: what agents said to a standby was not recorded.
    Anew,
}

impl From<Away> for End {
    fn from(why: Away) -> Self {
        Self::Away(why)
    }
}

/// Keeps the time since which it is down through further attempts; logs the first only.
fn set_down(link: &Link, why: &Away) {
    link.update(|state| {
        let since = match state {
            LinkState::Down { since, .. } => *since,
            LinkState::Up(_) | LinkState::Connecting => {
                tracing::info!(%why, "agent is away");
                Since::now()
            }
        };
        *state = LinkState::Down { why: why.clone(), since };
    });
}

/// Opens the report and follows it to its end; why it ended.
async fn report(sessions: &Arc<Sessions>, link: &Arc<Link>) -> End {
    let mut serving = sessions.table.watch_serving();
    let acts = sessions.acts();
    let mut revoked = sessions.identities.watch_revoked();
    let mut settings = sessions.site.watch_settings();
    let mut settled = Arc::clone(&settings.borrow_and_update());
    // Only sessions that the table had before the inventory was made can be missing from it.
    let before = sessions.table.read(|view| lifecycle::expected(&view.table, &link.name));
    let unvoted = sessions.unvoted_on(&link.name);
    // In boxes: what is only done now and then takes no room while nothing is done, for each of ten thousand hosts.
    let (mut stream, inventory) = match Box::pin(open(sessions, link)).await {
        Ok(opened) => opened,
        Err(end) => return end,
    };
    if acts {
        // Before this host is acted on. It may be another disk than before.
        link.forget_told();
        Box::pin(tell_revoked(sessions, link)).await;
    }
    let told: HashSet<SessionId> = ids(&inventory.sessions).collect();
    unvoted.iter().filter(|id| !told.contains(id)).for_each(|id| sessions.forget_unvoted(*id));
    let missing = before.iter().filter(|id| !told.contains(id)).count();
    Box::pin(take_inventory(sessions, link, inventory, (before, missing), acts)).await;
    sessions.authority.greet(&link.name).await;
    let mut again = tokio::time::interval(CARRY_OUT_EVERY);
    again.reset();
    loop {
        tokio::select! {
            biased;
            () = link.misbehaved.notified() => {
                if let Some(aside) = link.aside() {
                    return Away::Aside(aside).into();
                }
            }
            message = stream.next() => match message {
                Some(Ok(message)) => Box::pin(take(sessions, link, message, acts)).await,
                Some(Err(status)) => return Away::Call(status.into()).into(),
                None => return Away::Closed.into(),
            },
            changed = serving.changed() => {
                if changed.is_err() {
                    return Away::Stopping.into();
                }
                if lifecycle::is_stale(acts, sessions.acts()) {
                    return End::Anew;
                }
            }
            Ok(()) = revoked.changed(), if acts => {
                Box::pin(tell_revoked(sessions, link)).await;
            }
            Ok(()) = settings.changed() => {
                settled = limiting::follow(sessions, link, &settled, &settings.borrow_and_update());
            }
            _ = again.tick() => {
                if link.take_missed(sessions.table.state().replica.commit) {
                    return End::Anew;
                }
                if acts {
                    Box::pin(tell_revoked(sessions, link)).await;
                    if link.take_limits_due() {
                        limiting::begin(sessions, link);
                    }
                    // One that still is at it looks at the same things.
                    if link.carrying_out.try_lock().is_ok() {
                        begin_carry_out(sessions, link);
                    }
                }
            }
        }
    }
}

/// Tells the agent which certificates count no more, if there is news.
async fn tell_revoked(sessions: &Sessions, link: &Link) {
    let now = Arc::clone(&sessions.identities.watch_revoked().borrow());
    if !link.was_told(&now) {
        identities::tell(&sessions.authority, link, &now).await;
    }
}

/// Opens the report: what follows, and the inventory, if it is one that can be.
async fn open(
    sessions: &Sessions,
    link: &Link,
) -> Result<(tonic::Streaming<pb::ReportResponse>, pb::Inventory), End> {
    let opened = tokio::time::timeout(OPEN_DEADLINE, async {
        let mut stream = link.report(sessions.node().as_str()).await?;
        let first = stream
            .next()
            .await
            .ok_or_else(|| Status::unavailable("the report ended at once"))??;
        Ok::<_, Status>((stream, first))
    });
    let (stream, first) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(status)) => return Err(Away::Call(status.into()).into()),
        Err(_) => return Err(Away::NoInventory(OPEN_DEADLINE).into()),
    };
    let Some(Item::Inventory(inventory)) = first.item else {
        return Err(Away::NotBegun.into());
    };
    if set_apart(sessions, link, &inventory).await {
        return Err(Away::SetApart.into());
    }
    if inventory.sessions.len() > conduct::SESSIONS_MAX {
        let why = Away::TooMany(inventory.sessions.len());
        conduct::put_aside(&sessions.agents, link, why.to_string());
        return Err(why.into());
    }
    Ok((stream, inventory))
}

async fn take_inventory(
    sessions: &Arc<Sessions>,
    link: &Arc<Link>,
    inventory: pb::Inventory,
    (before, missing): (Vec<SessionId>, usize),
    acts: bool,
) {
    begin_anew(link, &inventory);
    // An agent that runs nothing goes over to any table. If each node of an empty pair followed what such agents have
    // heard last, the two could end up with different ones.
    let former =
        !inventory.sessions.is_empty() && take_up_lineage(sessions, link, &inventory.lineage).await;
    let promised = inventory.promised.and_then(|epoch| Epoch::try_from(epoch).ok());
    if let Some(promised) = &promised {
        link.set_promised(promised.clone());
    }
    let kin = inventory.lineage == sessions.table.fence().lineage.to_string();
    if let Some(promised) = promised.filter(|_| acts && kin) {
        // A broker that lost its disk may count up to an epoch of its own former life: one that it has promises of
        // already is not its own any more.
        if conduct::believes(&sessions.agents, link, &promised) {
            let above = if former { promised.next(sessions.node().clone(), 0) } else { promised };
            sessions.authority.rise_above(above).await;
        }
    }
    let mut present = HashSet::new();
    let (mut all, mut shadowed) = (HashMap::new(), ShadowedBy::new());
    let mut running = inventory.sessions.into_iter();
    loop {
        // Together, so that adopting thousands costs few disk flushes.
        let mut together = JoinSet::new();
        for live in running.by_ref().take(ABSORB_TOGETHER) {
            let (sessions, link) = (Arc::clone(sessions), Arc::clone(link));
            // It is never closed; were it, all would only be taken in at once.
            let turn = ABSORBING.acquire().await;
            let work = async move {
                let _turn = turn;
                let (seen, shadowers) = (seen(&live), shadowers(&live));
                absorb(&sessions, &link, live, acts, missing).await.map(|id| (id, seen, shadowers))
            };
            together.spawn(work.in_current_span());
        }
        if together.is_empty() {
            break;
        }
        for (id, seen, shadowers) in together.join_all().await.into_iter().flatten() {
            present.insert(id);
            shadowed.extend(Some((id, shadowers)).filter(|(_, by)| !by.is_empty()));
            all.extend(Some((id, seen)).filter(|(_, seen)| !seen.is_nothing()));
        }
    }
    tracing::info!(sessions = present.len(), version = inventory.version, "agent is here");
    let up = Up {
        host: Host {
            journal: inventory.journal_id,
            public_name: public_name(link, &inventory.public_name).into(),
        },
        version: printable(&inventory.version),
        since: clock::unix_millis(),
        seen: all,
        allowed_brokers: inventory.allowed_brokers.iter().map(|name| printable(name)).collect(),
        master_hostname: printable(&inventory.master_hostname),
        load: None,
        maintenance: maintenance(inventory.maintenance),
        troubles: troubles(inventory.troubles),
    };
    link.update(|state| *state = LinkState::Up(Arc::new(up)));
    let shadowed_before = link.note_all_shadowers(shadowed.clone());
    if !acts {
        // The active node records it.
        return;
    }
    if let Some(before) = shadowed_before {
        shadow::all_changed(sessions, &before, &shadowed);
    }
    for id in before.into_iter().filter(|id| !present.contains(id)) {
        drop_missing(sessions, link, id).await;
    }
    begin_carry_out(sessions, link);
    limiting::begin(sessions, link);
}

/// What was refused of an agent's former report says nothing of this one.
fn begin_anew(link: &Link, inventory: &pb::Inventory) {
    link.troubles.over(Kind::Refused, "sessions");
    if inventory.sessions.is_empty() {
        link.troubles.over(Kind::Refused, "lineage");
    }
}

/// An agent whose promises are fewer than it told of before has a disk that went back in time; it is told to act no
/// more. Whether it was.
async fn set_apart(sessions: &Sessions, link: &Link, inventory: &pb::Inventory) -> bool {
    let lineage = sessions.table.fence().lineage.to_string();
    inventory.lineage == lineage
        && witness::set_apart(&sessions.authority, link, inventory.journal_id, inventory.journal)
            .await
}

/// Whether this table, which is new, took up the lineage that the agent knows.
async fn take_up_lineage(sessions: &Sessions, link: &Link, lineage: &str) -> bool {
    if lineage.is_empty() {
        return false;
    }
    let before = sessions.table.fence().lineage;
    let done = match lineage.parse() {
        Ok(lineage) => sessions.table.take_up(lineage).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match done {
        Ok(true) => {
            link.troubles.over(Kind::Refused, "lineage");
            sessions.table.fence().lineage != before
        }
        Ok(false) => {
            let what = format!(
                "it serves the brokers of another table ({lineage}): it takes no new sessions from here while it has sessions of theirs"
            );
            link.troubles.raise(Kind::Refused, "lineage", what);
            false
        }
        Err(error) => {
            link.troubles.raise(
                Kind::Refused,
                "lineage",
                format!("its lineage cannot be taken up: {error}"),
            );
            false
        }
    }
}

/// A session that the table has and the inventory has not: asked once more for the reason, then dropped.
async fn drop_missing(sessions: &Sessions, link: &Link, id: SessionId) {
    let (is_there, ended) = match link.verify(id, None).await {
        Ok(Verdict::Alive) => (Some(true), None),
        Ok(Verdict::Gone(ended)) => (Some(false), ended),
        Err(error) => {
            tracing::info!(session = %id, %error, "cannot verify; asking again later");
            (None, None)
        }
    };
    match lifecycle::missed(is_there) {
        Missed::Drop => gone(sessions, id, ended).await,
        Missed::Keep => {}
        Missed::Later => sessions.agents.mark_missed(),
    }
}

/// The report goes on meanwhile.
fn begin_carry_out(sessions: &Arc<Sessions>, link: &Arc<Link>) {
    let work = carry_out(Arc::clone(sessions), Arc::clone(link));
    drop(tokio::spawn(work.in_current_span()));
}

/// Does what was decided while the agent was away.
async fn carry_out(sessions: Arc<Sessions>, link: Arc<Link>) {
    let _turn = link.carrying_out.lock().await;
    let owed = sessions
        .table
        .read(|view| lifecycle::owed(&view.table, &link.name, |id| sessions.is_starting(id)));
    for owed in owed {
        match owed {
            // It has logged why not; the next inventory tries again.
            Owed::End(session) => {
                let span = span::session(&session);
                ending::carry_out(&sessions, &session).instrument(span).await;
            }
            // A login may have taken it up since.
            Owed::GiveUp(session) if sessions.is_starting(session.id) => {}
            Owed::GiveUp(session) => {
                let span = span::session(&session);
                span.in_scope(|| tracing::info!("giving up an unfinished start"));
                let burial = Burial::giving_up(session.id);
                bury(&sessions, &link, session.id, burial).instrument(span).await;
            }
            Owed::Bury(id) => bury(&sessions, &link, id, Burial::of(id)).await,
        }
    }
}

async fn take(sessions: &Arc<Sessions>, link: &Arc<Link>, message: pb::ReportResponse, acts: bool) {
    match message.item {
        Some(Item::Changed(live)) => {
            let (now, shadowers) = (seen(&live), shadowers(&live));
            if let Some(id) = absorb(sessions, link, live, acts, 0).await {
                let limits = now.limits();
                let shadowed = link.note_shadowers(id, shadowers.clone());
                let mut before = Seen::default();
                modify(link, |up| before = up.note(id, now));
                if before.limits() != limits {
                    // As this broker wants it, unless it was another one that said so.
                    link.mark_limits_due();
                }
                if acts {
                    shadow::changed(sessions, id, &shadowed, &shadowers);
                }
            }
        }
        Some(Item::Ended(ended)) => match Ended::try_from(ended) {
            Ok(ended) => {
                modify(link, |up| drop(up.seen.remove(&ended.id)));
                let shadowed = link.note_shadowers(ended.id, Vec::new());
                let session = sessions.session(ended.id);
                let is_its_own = |session: &Session| {
                    session.agent == link.name || hole::is_open(Hole::OthersSession)
                };
                if acts && session.is_some_and(|session| is_its_own(&session)) {
                    shadow::changed(sessions, ended.id, &shadowed, &[]);
                    gone(sessions, ended.id, Some(ended)).await;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot read an end"),
        },
        Some(Item::Load(told)) => {
            let of = |view: &View| view.table.agent_use(&link.name).map_or(0, AgentUse::sessions);
            link.note_clock(told.clock_unix_ms);
            let load = Load { told, at: clock::unix_millis(), sessions: sessions.table.read(of) };
            modify(link, |up| up.load = Some(load));
        }
        Some(Item::Maintenance(told)) => {
            let now = maintenance(told.text);
            modify(link, |up| up.maintenance = now);
        }
        Some(Item::Troubles(told)) => {
            let now = troubles(told.troubles);
            modify(link, |up| up.troubles = now);
        }
        Some(Item::Inventory(_)) => {
            tracing::warn!("a second inventory in one report");
        }
        // An item of a newer agent: it changes no session, or it would be one of the above.
        None => {}
    }
}

fn modify(link: &Link, change: impl FnOnce(&mut Up)) {
    link.update(|state| {
        if let LinkState::Up(up) = state {
            change(Arc::make_mut(up));
        }
    });
}

/// Brings the table into line with a session that the agent runs; its id if it is to stay. `missing` = how many of what
/// the table has there the agent's report lacks.
async fn absorb(
    sessions: &Arc<Sessions>,
    link: &Arc<Link>,
    live: LiveSession,
    acts: bool,
    missing: usize,
) -> Option<SessionId> {
    let mut session = match live.session.map(Session::try_from) {
        Some(Ok(session)) => session,
        Some(Err(error)) => {
            link.troubles.raise(
                Kind::Refused,
                "sessions",
                format!("a session of it cannot be read: {error}"),
            );
            return None;
        }
        None => return None,
    };
    let id = session.id;
    // One that still starts has none.
    session.state.display()?;
    if !acts {
        return Some(id);
    }
    session.params = shown(session.params);
    let reported = sessions.table.read(|view| {
        lifecycle::reported(&view.table, &link.name, &session, sessions.is_starting(id))
    });
    let proposal = match reported {
        Reported::Known => return Some(id),
        Reported::Commit(display) => Proposal::Running { id, display },
        Reported::Bury => {
            bury(sessions, link, id, Burial::of(id)).await;
            return None;
        }
        Reported::Elsewhere(of) => {
            let what = format!("it tells of session {id}, which {of} has, and is not believed");
            link.troubles.raise(Kind::Refused, "sessions", what);
            return None;
        }
        Reported::Adopt(_) if !conduct::may_adopt(&sessions.agents, link, id, missing) => {
            return None;
        }
        Reported::Adopt(session) => {
            span::session(&session).in_scope(|| tracing::info!("adopting a session"));
            Proposal::Adopt(session)
        }
    };
    let adopted = if let Proposal::Adopt(session) = &proposal {
        Some(Note::new(SELF, "session-adopted").session(session))
    } else {
        None
    };
    let error = sessions.table.propose(proposal).await.err();
    match (adopted, &error) {
        (Some(note), None) => sessions.note(note),
        (Some(_), Some(error)) if !matches!(error, ProposeError::Rejected(_)) => {
            link.not_adopted(id);
        }
        _ => {}
    }
    log_unless_known(sessions, error, id);
    Some(id)
}
