//! The command-line programs' parts: `vsm` for users, `vsmctl` for administrators, `vsm-sync` for observers.
//!
//! | module | owns |
//! | --- | --- |
//! | [`args`] | the command lines |
//! | [`ssh`] | the pipe through ssh to a broker or to a session |
//! | [`retry`] | asking again while a broker takes over |
//! | [`broker`] | calls to the broker and what they print |
//! | [`connect`] | `vsm connect` |
//! | [`choose`] | which of several desktops |
//! | [`client`], [`screen`] | what a client tells of itself |
//! | [`door`], [`one_time`] | the way to a session host, and the key for it |
//! | [`viewer`], [`forward`] | a local socket for a viewer |
//! | [`shadow`] | somebody else's desktop |
//! | [`web`] | browsers that a user is logged in with |
//! | [`rfb`] | a picture of a desktop |
//! | [`admin`] | `vsmctl` on the admin socket |
//! | [`ha`] | `vsmctl ha`: the pair |
//! | [`observe`] | `vsm-sync`: following a pair read-only |
//! | [`pki`] | the cluster's certificates |
//! | [`setup`] | `vsm-setup` |
//! | [`views`] | what an administrator is shown, also by `vsm-web` |
//! | [`output`] | tables, JSON, times |
//! | [`exit`] | errors and exit codes |

pub mod admin;
pub mod args;
pub mod broker;
pub mod choose;
pub mod client;
pub mod connect;
pub mod desktops;
pub mod door;
pub mod exit;
pub mod forward;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod ha;
pub mod life;
pub mod observe;
pub mod one_time;
pub mod output;
pub mod patience;
pub mod pki;
pub mod retry;
pub mod rfb;
pub mod said;
pub mod screen;
pub mod setup;
pub mod shadow;
pub mod ssh;
mod trail;
mod trouble;
pub mod viewer;
pub mod views;
pub mod web;
