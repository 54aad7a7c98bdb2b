//! The life of a session: logins and what they start, what agents report of sessions, and ends. It uses the hosts, the
//! pair and the journal; it knows no request of an API, and answers with outcomes and refusals. What is to be done is for
//! [`vsm_core::lifecycle`] to decide; what is here does it.
//!
//! | module | owns |
//! | --- | --- |
//! | [`login`] | the login flow |
//! | `find` | what a user has, and whether it lives |
//! | `placing` | what a new session is proposed with |
//! | `start` | having an agent start a session |
//! | `hooks` | programs that root provides for logins |
//! | `one_login` | letting the client in at the agent without a second login |
//! | `relay` | the way to session hosts that users cannot reach by themselves |
//! | `shadow` | who may shadow other users' desktops |
//! | `unvoted` | desktops made without votes, where the administrator allows that |
//! | [`reconcile`] | comparing the table with what an agent says is running |
//! | `limiting` | telling agents the limits of a session's life |
//! | [`ending`], `gone` | ending sessions, and what is over |
//! | `upkeep` | what the active node looks after by itself |

pub mod ending;
pub(crate) mod find;
pub(crate) mod gone;
pub(crate) mod hooks;
pub(crate) mod limiting;
pub mod login;
pub(crate) mod one_login;
pub(crate) mod placing;
pub mod reconcile;
pub(crate) mod relay;
pub(crate) mod shadow;
mod start;
mod unvoted;
pub(crate) mod upkeep;
