//! What tells this node that it should try to be active. Trying is not being: that takes votes.
//!
//! With `address` the state of this host counts, never the message that something changed: such messages get lost. The
//! kernel's messages only make us look at once.

use std::{
    fs, io,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::unix::AsyncFd;
use vsm_config::RoleSource;
use vsm_daemon::trouble::Kind;

use super::{Pair, identity};
use crate::pair::Side;

/// How often the state is looked at without a message.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a resource address that is a name is resolved.
const RESOLVE_EVERY: u32 = 30;
/// How often it is looked whether the program that moves the address runs.
const MOVERS_EVERY: u32 = 5;
/// Programs that move it, by the names of their processes.
const MOVERS: [&str; 2] = ["keepalived", "pacemakerd"];
/// Netlink groups: addresses of both families, and links.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// Follows the role source until the broker stops.
pub(crate) async fn follow(side: Arc<Side>, pair: Arc<Pair>) {
    if pair.resource.is_empty() {
        return;
    }
    let messages = match listen() {
        Ok(messages) => Some(messages),
        Err(error) => {
            tracing::warn!(%error, "the kernel does not tell of addresses; looking every second");
            None
        }
    };
    let mut wanted: Vec<IpAddr> = Vec::new();
    let mut looks = 0_u32;
    let (mut told, mut seen) = (None, None);
    while !side.process.stop.is_cancelled() {
        if looks.is_multiple_of(RESOLVE_EVERY) || wanted.is_empty() {
            wanted = resolved(&side, &pair.resource, wanted).await;
        }
        if looks.is_multiple_of(MOVERS_EVERY) {
            seen = look_for_mover(&side, seen).await;
        }
        looks = looks.wrapping_add(1);
        let holds = identity::local_addresses()
            .is_ok_and(|local| local.iter().any(|address| wanted.contains(address)));
        pair.holds_address.store(holds, Ordering::Relaxed);
        if told != Some(holds) {
            tracing::info!(address = pair.resource, holds, "the resource address");
            told = Some(holds);
        }
        if pair.source == RoleSource::Address && side.authority.table.want(holds).await.is_err() {
            return;
        }
        tokio::select! {
            biased;
            () = side.process.stop.cancelled() => return,
            () = heard(messages.as_ref()) => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Looks whether what was seen to move the address here still runs; what is known of it then. Where none was ever seen
/// it is another program, of which nothing is known.
async fn look_for_mover(side: &Side, seen: Option<&'static str>) -> Option<&'static str> {
    let running = tokio::task::spawn_blocking(mover).await.ok().flatten();
    let what = |name| {
        format!(
            "{name} does not run here any more: the resource address neither comes to this node nor leaves it"
        )
    };
    let gone = if running.is_some() { None } else { seen };
    side.process.troubles.set(Kind::HaSoftware, "", gone.map(what));
    running.or(seen)
}

/// The program that moves the resource address, if one runs.
fn mover() -> Option<&'static str> {
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let mut names =
        processes.filter_map(|process| fs::read_to_string(process.path().join("comm")).ok());
    names.find_map(|name| MOVERS.into_iter().find(|mover| *mover == name.trim()))
}

async fn resolved(side: &Side, resource: &str, before: Vec<IpAddr>) -> Vec<IpAddr> {
    let name = resource.to_owned();
    let found = match tokio::task::spawn_blocking(move || identity::resolve(&name)).await {
        Ok(found) => found.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let what = |error: &String| {
        let still =
            if before.is_empty() { "no node is active by it" } else { "what it was before holds" };
        format!("/vsmserver/HA/resource_address {resource} does not resolve ({error}): {still}")
    };
    side.process.troubles.set(Kind::Address, "", found.as_ref().err().map(what));
    found.unwrap_or(before)
}

#[expect(deprecated, reason = "its successor is unsafe; an OwnedFd is what it says it is")]
fn listen() -> io::Result<AsyncFd<OwnedFd>> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkRoute,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    AsyncFd::new(fd)
}

/// Waits for a message and throws all away that are there: what counts is looked up.
async fn heard(messages: Option<&AsyncFd<OwnedFd>>) {
    let Some(messages) = messages else { return std::future::pending().await };
    let mut buffer = [0_u8; 8192];
    match messages.readable().await {
        Ok(mut ready) => {
            while recv(messages.get_ref().as_raw_fd(), &mut buffer, MsgFlags::empty()).is_ok() {}
            ready.clear_ready();
        }
        Err(_) => std::future::pending().await,
    }
}
