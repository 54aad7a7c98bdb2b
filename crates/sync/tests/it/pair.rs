//! Two tables with the real stream between them: what one commits the other has, whatever happens to either.

use vsm_core::State;
use vsm_sync::ProposeError;

use super::{
    id,
    node::{Node, Pair, same, session},
    reserve,
};

/// P1, P6: what was committed is on the other node; one that was away gets what it missed, and one that lost its disk
/// all.
#[tokio::test(flavor = "multi_thread")]
async fn a_pair_forms_and_a_node_that_was_away_gets_what_it_missed() {
    let (pair, a, b) = Pair::new().await;
    a.table.want(true).await.unwrap();
    a.serving().await;
    for n in 1..=10 {
        session(&a, n).await;
    }
    assert!(matches!(b.table.propose(reserve(99, "eve", 1)).await, Err(ProposeError::NotActive)));
    b.has(a.table.read(|view| view.last_seq)).await;
    same(&a, &b);
    b.stop();
    // By the witnesses.
    for n in 11..=20 {
        session(&a, n).await;
    }
    let b = pair.b().await;
    b.has(a.table.read(|view| view.last_seq)).await;
    same(&a, &b);
    b.stop();
    std::fs::remove_dir_all(pair.dir.path().join("b")).unwrap();
    for n in 21..=25 {
        session(&a, n).await;
    }
    let b = pair.b().await;
    b.has(a.table.read(|view| view.last_seq)).await;
    // It had to begin a reign anew before it took in a node that has forgotten what it promised.
    a.serving().await;
    session(&a, 26).await;
    b.has(a.table.read(|view| view.last_seq)).await;
    same(&a, &b);
}

async fn two_sessions_and_the_second_without_b(a: &Node, b: Node) {
    a.table.want(true).await.unwrap();
    a.serving().await;
    session(a, 1).await;
    b.has(a.table.read(|view| view.last_seq)).await;
    b.stop();
    session(a, 2).await;
}

/// The active node is gone: the other one has everything, also what only the witnesses kept.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_node_takes_over_with_everything() {
    let (pair, a, b) = Pair::new().await;
    two_sessions_and_the_second_without_b(&a, b).await;
    a.stop();
    let b = pair.b().await;
    b.table.want(true).await.unwrap();
    b.serving().await;
    let state = |n| b.table.read(|view| view.table.session(id(n)).map(|session| session.state));
    assert_eq!(state(1), Some(State::Running { display: 10 }));
    assert_eq!(state(2), Some(State::Running { display: 10 }), "only the witnesses had it");
    // The former active node comes back and follows.
    let a = pair.a();
    session(&b, 3).await;
    a.has(b.table.read(|view| view.last_seq)).await;
    same(&a, &b);
}

/// A node that is started while it gets no votes shows what was committed, also what only it and witnesses had.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_restarts_without_votes_knows_who_has_a_session() {
    let (pair, a, b) = Pair::new().await;
    assert!(!a.table.is_known(), "a blank node knows of nobody");
    two_sessions_and_the_second_without_b(&a, b).await;
    a.stop();
    // Nobody wants it: it asks for no votes.
    let a = pair.a();
    assert!(a.table.is_known());
    a.table.read(|view| assert!([1, 2].iter().all(|n| view.table.session(id(*n)).is_some())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_hand_over_refuses_nothing_that_was_begun() {
    let (_pair, a, b) = Pair::new().await;
    a.table.want(true).await.unwrap();
    a.serving().await;
    session(&a, 1).await;
    b.table.take_over().await.unwrap();
    b.serving().await;
    session(&b, 2).await;
    assert!(matches!(a.table.propose(reserve(3, "eve", 1)).await, Err(ProposeError::NotActive)));
    a.has(b.table.read(|view| view.last_seq)).await;
    same(&a, &b);
}
