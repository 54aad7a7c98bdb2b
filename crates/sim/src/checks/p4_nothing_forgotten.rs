//! P4: after everything is whole again, each session that runs is in the active broker's table.

use crate::world::World;

pub(super) fn check(world: &World) -> Option<String> {
    let replica = world.brokers[world.active()?].replica.as_ref()?;
    world.agents.iter().flat_map(|agent| agent.sessions.keys()).find_map(|id| {
        let known = replica.table().session(*id).is_some();
        (!known).then(|| format!("P4: session {id} runs and is in no table"))
    })
}
