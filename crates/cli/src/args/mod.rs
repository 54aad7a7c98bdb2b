//! The command lines, apart from the programs so that manual pages and shell completions are made from them too.

pub mod vsm;
pub mod vsm_authorized_keys;
pub mod vsm_config;
pub mod vsm_setup;
pub mod vsm_sync;
pub mod vsmctl;
