//! `vsm-web`: a client of the broker that speaks HTTPS at its other side, for users with nothing but a browser.
//!
//! It has no rights of its own: no root, no capability once it listens, no certificate of the cluster, no list of
//! users. sshd on the broker decides who somebody is. What `ssh -s HOST vsm` cannot do cannot be done with it.
//!
//! | module | owns |
//! | --- | --- |
//! | [`server`] | connections: TLS, their bounds, and what stands before all pages |
//! | [`app`] | what all requests share |
//! | [`pages`] | what a browser asks for, and the HTML |
//! | [`admin`] | the pages for administrators |
//! | [`login`] | logins under way: sshd's prompts as forms |
//! | [`cookie`] | a login that is done: all of it is in the browser |
//! | [`openid`] | logins by way of the site's OpenID provider |
//! | [`limit`] | how often somebody may try |
//! | [`desktop`] | the picture of a desktop, to and from a WebSocket |
//! | [`files`] | the user's files on the desktop's host |
//! | [`viewing`] | desktops that are shown now, to which files belong |
//! | [`door`] | the way to a session's host |
//! | [`broker`] | asking the broker, as the user |
//! | [`ssh`] | connections to sshd |
//! | [`words`] | all that a user reads, in each language |

mod admin;
mod app;
pub mod args;
mod broker;
mod cookie;
mod desktop;
mod door;
mod error;
mod files;
mod limit;
mod login;
mod openid;
mod pages;
pub mod server;
mod settings;
mod ssh;
mod viewing;
mod words;

pub use settings::{BadSetting, Settings};
