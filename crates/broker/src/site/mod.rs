//! What the configuration means: values made of it as a whole, asked without waiting for anything. It knows neither
//! the table nor any host.
//!
//! | module | owns |
//! | --- | --- |
//! | [`settings`] | all of it, replaced as a whole on reload |
//! | [`subclusters`] | which subcluster a user belongs to |
//! | [`lifetimes`] | which limits a user's desktops have |
//! | [`members`] | who is named by a list of users and groups |

pub mod lifetimes;
pub mod members;
pub mod settings;
pub mod subclusters;
