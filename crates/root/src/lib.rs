//! What a broker needs root for, and nothing else: `vsm-root` is a small process of root's beside `vsmserver`, which
//! has none of root's powers. It takes one request for each connection, from the broker's account alone:
//!
//! | request | what it does |
//! | --- | --- |
//! | run a hook | a file of that name in the directory that root's configuration names for that moment |
//! | send a mail | to the program that root's configuration names |
//! | take parameters | from the other node into `conf.d`: none that names what root runs, none of this node's own |
//!
//! It believes no path that it is told: where things are it reads itself, in files that are root's alone to change.
//!
//! | module | owns |
//! | --- | --- |
//! | [`message`] | requests and answers, their bounds, and what a request may hold |
//! | [`server`] | the socket, who may call, one request after another |
//! | `hook`, `process` | one hook as a process |
//! | `mail`, `adopt` | the other two |
//! | `settings` | its own reading of the configuration |
//! | [`client`] | the broker's end |
//! | [`prepare`] | giving the broker's account what is its own |
//! | [`args`] | the command line |

mod adopt;
pub mod args;
pub mod client;
mod hook;
mod mail;
pub mod message;
pub mod prepare;
mod process;
pub mod server;
mod settings;
