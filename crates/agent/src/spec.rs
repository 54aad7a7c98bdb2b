//! What `vsmagent` hands to a new `vsm-session` on its standard input, and the one line that comes back.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use vsm_config::Profile;
use vsm_core::{Geometry, Limits, Resources, Session};

use crate::{record::Record, refusal::Refused};

/// The line before the spec, which brings the hold on the display's name.
pub const DISPLAY_LINE: &[u8] = b"display\n";

/// How the host runs sessions; the same for all that start now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionSettings {
    /// Where records and logs are kept.
    pub state_dir: PathBuf,
    /// Where the sockets are.
    pub run_dir: PathBuf,
    /// PAM service name.
    pub pam_service: String,
    /// Mode of a home directory that is made; none = none is made.
    pub make_home_mode: Option<u32>,
    /// X server; none = the first of `Xtigervnc`, `Xvnc` on the search path.
    pub xserver: Option<PathBuf>,
    /// Its further arguments.
    pub xserver_args: Vec<String>,
    /// Whether the X cookie is added to `~/.Xauthority` also.
    pub cookie_in_home: bool,
    /// How long the X server may take, in milliseconds.
    pub x_timeout_ms: u64,
    /// The script that is the session.
    pub script: PathBuf,
    /// What a second viewer means.
    pub second_viewer: SecondViewer,
    /// What is made of somebody who wants to shadow the desktop.
    #[serde(default)]
    pub shadowing: ShadowMode,
    /// Size of the desktop if the client asks for none.
    pub geometry: Geometry,
    /// Variables for every session.
    pub environment: BTreeMap<String, String>,
    /// Arguments of the X server that are the administrator's bans.
    #[serde(default)]
    pub bans: Vec<String>,
    /// Which files may go between the desktop's page in a browser and this host.
    #[serde(default)]
    pub files: FileRules,
    /// Shows a text on the desktop.
    #[serde(default = "notify_program")]
    pub notify_program: PathBuf,
    /// Whether it is refused where the host cannot hold it to its limits.
    #[serde(default)]
    pub require_limits: bool,
    /// The desktops that there are to choose from.
    #[serde(default)]
    pub profiles: Profiles,
}

/// What a vsmagent that does not say has.
fn notify_program() -> PathBuf {
    "/etc/vsm/notify".into()
}

/// In which directions the files of a desktop's user may go. What a vsmagent that does not say means: in none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRules {
    /// From this host.
    pub to_client: bool,
    /// To this host.
    pub from_client: bool,
}

/// What `/profiles` says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Profiles {
    /// Key of the one that is started where none is asked for; empty = the user chooses.
    pub default: String,
    /// Heading of the choice; empty = its own.
    pub greeting: String,
    /// Shown before the choice; empty = nothing is.
    pub introduction: String,
    /// In the order in which they are offered.
    pub all: Vec<Profile>,
}

/// What happens when a viewer comes and there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecondViewer {
    /// The older is dropped and told why.
    Replace,
    /// Both see the desktop.
    Share,
    /// The newer is refused.
    Refuse,
}

/// What is made of somebody who wants to shadow a desktop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShadowMode {
    /// Nothing.
    Reject,
    /// They may look; the user is not told.
    Silent,
    /// They may look; the user is told.
    Notify,
    /// The user is asked.
    #[default]
    Ask,
}

/// One session to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// What the broker asked for; its state is set once it runs.
    pub session: Session,
    /// Display number to use.
    pub display: u32,
    /// How.
    pub settings: SessionSettings,
    /// Limits of its life.
    #[serde(default)]
    pub limits: Limits,
    /// What it may take of the host.
    #[serde(default)]
    pub resources: Resources,
    /// Soft limit of open files, which the agent has raised for itself; none = no limit. PAM may set another.
    #[serde(default = "descriptors")]
    pub descriptors: Option<u64>,
}

/// What systemd gives a service, for a vsmagent that does not say.
#[expect(clippy::unnecessary_wraps, reason = "it is the value of a field")]
fn descriptors() -> Option<u64> {
    Some(1024)
}

/// The answer of a new `vsm-session`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Reply {
    /// The desktop can be viewed.
    Ready {
        /// The record, which is on disk.
        record: Box<Record>,
        /// What an administrator should know, a line each.
        #[serde(default)]
        notes: Vec<String>,
    },
    /// Somebody else uses the display number; nothing is left of the attempt.
    DisplayTaken,
    /// It did not start; nothing is left of it.
    Refused(Refused),
}

impl From<Refused> for Reply {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}
