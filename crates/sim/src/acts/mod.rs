//! What those in the world do, a file for each part. All are methods of [`World`](crate::world::World), as
//! the others feel at once what one does.

mod agent;
mod broker;
mod client;
mod duties;
mod ending;
mod faults;
mod link;
mod login;
mod plot;
mod stories;
mod unvoted;
