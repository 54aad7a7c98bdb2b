//! The configuration of VSM: one typed schema of every parameter, YAML files in a `conf.d`, checks with
//! file and line, and the logic of `vsm-config`.
//!
//! Daemons call [`Config::load`] and then [`Config::get`] with a key of [`keys`]; every value they see was
//! checked when it was loaded, so reading one cannot fail. A reload loads a second [`Config`], asks
//! [`Config::diff`] what changed, and drops it whole where it is bad.
//!
//! The table in [`keys`] is the only place where a parameter is described: types, ranges, defaults, the text
//! of `vsm-config doc` and `docs/parameters.md` all come from it.

mod adopt;
mod check;
mod config;
pub mod defaults;
mod depth;
pub mod doc;
mod edit;
mod error;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hconf;
mod host;
mod import;
pub mod keys;
mod kind;
mod limits;
mod load;
mod merge;
mod pair;
mod param;
mod problem;
mod profiles;
pub mod risky;
mod scan;
mod schema;
mod set;
pub mod tool;
mod tree;
mod value;
mod whole;
mod write;
mod yaml;

pub use crate::{
    adopt::{adopt, proposed},
    check::{AGENT_LOGGERS, SERVER_LOGGERS},
    config::{Change, Config, Subcluster},
    error::ToolError,
    files::{Looks, looks},
    kind::{Item, Kind, Unit},
    limits::LimitsFolder,
    param::{Apply, Key, Param, canonical, is_nodes_own},
    problem::{LoadError, Problem},
    profiles::{PROFILE_KEY_MAX, PROFILES_MAX, Profile, is_profile_key},
    schema::find as described,
    value::{
        Geometry, LogLevel, OnHookFailure, Placement, RoleSource, SecondViewer, ShadowingMode,
        SoloCreate, Typed, UnknownChoice, Value, XauthorityLocation,
    },
    whole::pair_fault,
};

/// Writes a value as YAML. Here because this is the one crate that names the YAML library.
///
/// # Errors
/// If the value holds something that YAML cannot, such as a map whose keys are maps.
pub fn to_yaml<T: serde::Serialize>(value: &T) -> Result<String, serde_yaml::Error> {
    serde_yaml::to_string(value)
}
