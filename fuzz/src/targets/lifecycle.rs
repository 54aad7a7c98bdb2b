//! One broker, its table and two agents that tell the truth, with whatever may happen to calls, answers and proposals.
//!
//! Each login, end, report and return of an agent takes its luck from the bytes; where they end, all goes well.

mod world;

use vsm_core::{
    Choice, RequestId, SessionId, StartParams,
    lifecycle::{
        End,
        ending::IfSilent,
        login::{Login, Terms, Wanted, Wish},
    },
};
use world::World;

/// Acts that are taken of one input.
const ACTS_MAX: usize = 60;

pub(crate) fn run(bytes: &[u8]) {
    let mut world = World::new(bytes);
    for _ in 0..ACTS_MAX {
        if world.luck.is_empty() {
            break;
        }
        match world.luck.below(8) {
            0..=3 => login(&mut world),
            4 => end(&mut world),
            5 => world.report(),
            6 => world.restart_broker(),
            _ => world.desktop_ends(),
        }
        world.check();
    }
    world.heal();
}

fn login(world: &mut World<'_>) {
    let request = RequestId::new(uuid::Uuid::from_u128(world.luck.below(4).into()));
    let wish = match world.luck.below(4) {
        0 => Wish::Any(Choice::Ask),
        1 => Wish::Any(Choice::New),
        2 => world.some_session().map_or(Wish::Any(Choice::New), Wish::This),
        _ => Wish::Any(Choice::SingleDisconnected),
    };
    let params = match world.luck.below(3) {
        0 => StartParams { start_command: "xterm".into(), ..StartParams::default() },
        _ => StartParams::default(),
    };
    let want = Wanted { user: World::user(), request, params, wish };
    let attempts = u32::from(world.luck.below(3)) + 1;
    let terms = Terms { cap: World::CAP, attempts, solo_create: world.luck.below(2) == 1 };
    let login = match world.luck.below(4) {
        0 => Login::find(want, terms),
        _ => Login::find_or_make(want, terms),
    };
    world.log_in(login);
}

fn end(world: &mut World<'_>) {
    let Some(id): Option<SessionId> = world.some_session() else { return };
    let Some(session) = world.table.session(id).cloned() else { return };
    let if_silent = if world.luck.below(2) == 0 { IfSilent::Leave } else { IfSilent::Abandon };
    world.end(id, End::wanted(id, session.state, if_silent));
}
