//! One file for each target.

pub(crate) mod agent_calls;
pub(crate) mod config_edit;
pub(crate) mod config_paths;
pub(crate) mod config_yaml;
pub(crate) mod hconf;
pub(crate) mod journal;
pub(crate) mod keepalived;
pub(crate) mod lifecycle;
pub(crate) mod login_line;
pub(crate) mod messages;
pub(crate) mod mountinfo;
pub(crate) mod nft;
pub(crate) mod one_time_key;
pub(crate) mod peer_words;
pub(crate) mod records;
pub(crate) mod replica;
pub(crate) mod rfb_filter;
pub(crate) mod root_request;
pub(crate) mod services;
pub(crate) mod trail;
pub(crate) mod xauthority;
