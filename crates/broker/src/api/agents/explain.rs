//! Why a user would get which agent: what a login asks, asked without having anything done.
//!
//! The answer comes from the code that decides: the subcluster from [`crate::site::subclusters`], the agents from the
//! fleet, what they are compared by from [`consider`], and the outcome from the check of the very
//! proposal that a login makes.

use std::{sync::Arc, time::Duration};

use nix::unistd::User;
use tokio::sync::Semaphore;
use tonic::Status;
use uuid::Uuid;
use vsm_core::{
    AgentName, Draft, Eligible, Out, Placement, Rank, Rejected, RequestId, Rule, SessionId,
    StartParams, UserName, consider,
};
use vsm_daemon::clock;
use vsm_proto::admin::v1 as pb;

use crate::{
    api::{Edge, caller, view::Viewer},
    error::Refusal,
    sessions::{
        login,
        placing::{self, reservation},
    },
    site::{members::Because, settings::Settings},
    users::{Identity, LookupError, nss},
};

/// How long NSS may take to find a user by name.
const DEADLINE: Duration = Duration::from_secs(10);
/// Look-ups by name at a time: a directory that hangs keeps at most so many threads.
static LOOKUPS: Semaphore = Semaphore::const_new(4);
/// Groups that are told; more would not help anybody.
const GROUPS_MAX: usize = 256;

pub(super) async fn explain(
    edge: &Arc<Edge>,
    user: UserName,
) -> Result<pb::ExplainResponse, Status> {
    let (who, groups) = identity(edge, user).await?;
    let settings = edge.site.settings();
    let own = edge.sessions.of_user(&who.user);
    let mut viewer = Viewer::new(edge);
    let mut told = pb::ExplainResponse {
        node: edge.process.node.to_string(),
        user: who.user.to_string(),
        groups,
        allowed: settings.allows(&who),
        allowed_by: settings
            .allowed_groups
            .iter()
            .find(|group| who.groups.contains(group))
            .cloned()
            .unwrap_or_default(),
        allowed_groups: settings.allowed_groups.clone(),
        sessions: own.iter().map(|session| viewer.view(session)).collect(),
        max_sessions: settings.max_sessions_per_user,
        placement: settings.placement.to_string(),
        ..pb::ExplainResponse::default()
    };
    let refusal = new_session(edge, &settings, &who, &mut told).err();
    let refusal = if told.allowed { refusal } else { Some(Refusal::NotAllowed(who.user.clone())) };
    if let Some(refusal) = refusal {
        told.chosen.clear();
        refusal.code().0.clone_into(&mut told.refused_reason);
        told.refused = refusal.to_string();
    }
    Ok(told)
}

/// Where a new session would go; why it would be refused.
fn new_session(
    edge: &Edge,
    settings: &Settings,
    who: &Identity,
    told: &mut pb::ExplainResponse,
) -> Result<(), Refusal> {
    login::for_new(who)?;
    let (subcluster, because) = settings.subclusters.of(who)?;
    told.subcluster.clone_from(&subcluster.name);
    let (rule, group) = match because {
        Because::User => ("user", ""),
        Because::Group(group) => ("group", group),
        // A subcluster is never by itself.
        Because::Subcluster(_) | Because::Default => ("default", ""),
    };
    (told.subcluster_rule, told.subcluster_group) = (rule.to_owned(), group.to_owned());
    let eligible = edge.agents.fleet.eligible_for(&subcluster.name, &who.user);
    let rule = settings.rule(clock::unix_millis(), 0);
    agents(edge, who, &eligible, rule, told);
    others(edge, &subcluster.name, &eligible, told);
    let draft = Draft {
        id: SessionId::new(Uuid::now_v7()),
        user: who.user.clone(),
        request: RequestId::new(Uuid::new_v4()),
        params: StartParams::default(),
    };
    let proposal = reservation(&edge.sessions, settings, draft, eligible, rule);
    match edge.table.read(|view| view.table.check(proposal)) {
        Ok(_) => Ok(()),
        Err(Rejected::NoAgent) => {
            Err(Refusal::NoAgent(placing::why_none(&edge.sessions, &subcluster.name)))
        }
        Err(Rejected::AtLimit { user, cap }) => Err(Refusal::AtLimit { user, cap }),
        Err(
            other @ (Rejected::Repeated(_)
            | Rejected::UnknownSession(_)
            | Rejected::GivenUp(_)
            | Rejected::AlreadyRunning(_)
            | Rejected::IdUsed(_)
            | Rejected::NotGiven { .. }
            | Rejected::TooManyWebKeys
            | Rejected::UnknownWebKey { .. }),
        ) => Err(Refusal::Internal(other.to_string())),
    }
}

/// Those that placement looks at, the best first; and those of them between which chance decides.
fn agents(
    edge: &Edge,
    who: &Identity,
    eligible: &[Eligible],
    rule: Rule,
    told: &mut pb::ExplainResponse,
) {
    let mut ranks: Vec<Rank<'_>> = Vec::new();
    let mut out: Vec<pb::ExplainedAgent> = Vec::new();
    edge.table.read(|view| {
        let found = consider(&view.table, eligible, Placement { user: &who.user, rule });
        for (candidate, found) in eligible.iter().zip(found) {
            match found {
                Ok(rank) => ranks.push(rank),
                Err(why) => out.push(explained_out(candidate, why)),
            }
        }
    });
    let by_name =
        |one: &Rank<'_>, other: &Rank<'_>| one.candidate.agent.cmp(&other.candidate.agent);
    ranks.sort_by(|one, other| one.order_but_chance(other).then(by_name(one, other)));
    if let Some(best) = ranks.first() {
        let equal = ranks.iter().take_while(|rank| best.order_but_chance(rank).is_eq());
        told.chosen = equal.map(|rank| rank.candidate.agent.to_string()).collect();
    }
    told.agents = ranks.iter().map(explained).collect();
    told.agents.extend(out);
}

fn explained(rank: &Rank<'_>) -> pb::ExplainedAgent {
    pb::ExplainedAgent {
        agent: rank.candidate.agent.to_string(),
        out: String::new(),
        failed: rank.failed,
        has_user: !rank.stranger,
        users: rank.users,
        weight: rank.candidate.weight,
        sessions: rank.sessions,
        busy: rank.busy.map(|busy| pb::BusyView {
            memory_milli: busy.memory,
            cpu_milli: busy.cpu,
            stall_milli: busy.stall,
            total_milli: busy.total(),
            steps: busy.steps(),
        }),
    }
}

fn explained_out(candidate: &Eligible, why: Out) -> pb::ExplainedAgent {
    let out = match why {
        Out::Drained(drain) if drain.why.is_empty() => format!("drained by {}", drain.by),
        Out::Drained(drain) => format!("drained by {}: {}", drain.by, drain.why),
        Out::Full { users } => format!("full: {users} of {} users", candidate.max_users),
    };
    pb::ExplainedAgent {
        agent: candidate.agent.to_string(),
        out,
        weight: candidate.weight,
        ..pb::ExplainedAgent::default()
    }
}

/// Those of the subcluster that placement is not even asked about.
fn others(edge: &Edge, subcluster: &str, eligible: &[Eligible], told: &mut pb::ExplainResponse) {
    let mut members = edge.agents.fleet.members_of(subcluster);
    // Both are by name.
    let by_name = |agent: &AgentName| eligible.binary_search_by(|known| known.agent.cmp(agent));
    members.retain(|member| by_name(&member.agent).is_err());
    told.agents.extend(members.iter().map(|member| {
        pb::ExplainedAgent {
            agent: member.agent.to_string(),
            // It may have come back this moment.
            out: placing::why_not(&edge.sessions, member)
                .unwrap_or_else(|| "it has just come".to_owned()),
            weight: member.settings.weight,
            ..pb::ExplainedAgent::default()
        }
    }));
}

/// Who the user is, by the same way as a login, and all of their groups.
async fn identity(edge: &Edge, user: UserName) -> Result<(Arc<Identity>, Vec<String>), Status> {
    let Some((uid, groups)) = by_name(&user).await.map_err(Refusal::from)? else {
        return Err(caller::no_such_user(edge, &user));
    };
    Ok((edge.site.identity(uid).await.map_err(Refusal::from)?, groups))
}

/// A user's uid and groups, asked of NSS by name on a blocking thread; none = there is no such user.
///
/// # Errors
/// If NSS fails or does not answer in time.
async fn by_name(user: &UserName) -> Result<Option<(u32, Vec<String>)>, LookupError> {
    let name = user.to_string();
    let asked = async {
        let turn = LOOKUPS.acquire().await;
        // The turn goes with the thread, not with the caller: one that gives up frees no thread.
        let look_up = move || {
            let _turn = turn;
            let Some(found) = User::from_name(&name)? else { return Ok(None) };
            let groups = nss::groups(&found, GROUPS_MAX)?;
            Ok::<_, nix::Error>(Some((found.uid.as_raw(), groups)))
        };
        tokio::task::spawn_blocking(look_up).await
    };
    let found = tokio::time::timeout(DEADLINE, asked).await;
    let down = |why: &dyn std::fmt::Display| LookupError::Down(why.to_string());
    let found =
        found.map_err(|_| down(&format_args!("no answer within {} s", DEADLINE.as_secs())))?;
    found.map_err(|error| down(&error))?.map_err(|error| down(&error))
}
