//! The configuration as the agent uses it: the one place that reads parameters.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use vsm_config::{Config, XauthorityLocation, keys};
use vsm_core::Geometry;

use crate::spec::{FileRules, Profiles, SecondViewer, SessionSettings, ShadowMode};

/// Size of a desktop where even the configured one is out of Xvnc's range.
const FALLBACK_GEOMETRY: (u32, u32) = (1280, 800);

/// What the administrator set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Lowest display number.
    pub display_min: u32,
    /// Highest display number.
    pub display_max: u32,
    /// How long a display number rests after use.
    pub display_quarantine: Duration,
    /// Most sessions; 0 = no limit but the display numbers.
    pub max_sessions: u32,
    /// How many ended sessions are remembered.
    pub ended_keep: u32,
    /// Shows a text on a desktop.
    pub notify_program: PathBuf,
    /// Asks the user of a desktop whether it may be shadowed.
    pub ask_program: PathBuf,
    /// How sessions are run.
    pub session: SessionSettings,
}

fn second_viewer(configured: vsm_config::SecondViewer) -> SecondViewer {
    match configured {
        vsm_config::SecondViewer::Replace => SecondViewer::Replace,
        vsm_config::SecondViewer::Share => SecondViewer::Share,
        vsm_config::SecondViewer::Refuse => SecondViewer::Refuse,
    }
}

const fn shadowing(configured: vsm_config::ShadowingMode) -> ShadowMode {
    match configured {
        vsm_config::ShadowingMode::Reject => ShadowMode::Reject,
        vsm_config::ShadowingMode::Silent => ShadowMode::Silent,
        vsm_config::ShadowingMode::Notify => ShadowMode::Notify,
        vsm_config::ShadowingMode::Ask => ShadowMode::Ask,
    }
}

impl Settings {
    /// What only a start changes stays as the running agent has it: its sessions are where they are.
    pub(super) fn keep(&mut self, running: &Self) {
        self.session.state_dir.clone_from(&running.session.state_dir);
        self.session.run_dir.clone_from(&running.session.run_dir);
    }

    /// Reads all that the agent needs.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        use keys::vsmagent as k;
        Self {
            display_min: config.get(&k::DISPLAY_MIN),
            display_max: config.get(&k::DISPLAY_MAX),
            display_quarantine: config.get(&k::DISPLAY_QUARANTINE),
            max_sessions: config.get(&k::MAX_SESSIONS),
            ended_keep: config.get(&k::ENDED_KEEP),
            notify_program: config.get(&k::NOTIFY_PROGRAM),
            ask_program: config.get(&k::ASK_PROGRAM),
            session: session_settings(config),
        }
    }
}

/// Variables for every session: what `/sessionstart` says, for the session script, and the administrator's own.
fn environment(config: &Config) -> BTreeMap<String, String> {
    use keys::sessionstart as k;
    let image = config.get(&k::BACKGROUND_IMAGE).display().to_string();
    let start = [
        ("VSM_BACKGROUND_COLOR", config.get(&k::BACKGROUND_COLOR)),
        ("VSM_BACKGROUND_IMAGE", image),
        ("VSM_KEYBOARD_LAYOUT", config.get(&k::KEYBOARD_LAYOUT)),
    ];
    let mut all: BTreeMap<String, String> =
        start.map(|(name, value)| (name.to_owned(), value)).into();
    all.extend(config.folder("/vsmagent/default_environment"));
    all
}

/// What a viewer may not do, as Xvnc is told.
fn bans(config: &Config) -> Vec<String> {
    use keys::vsmagent as k;
    let all = [
        (config.get(&k::CLIPBOARD_TO_CLIENT), "-SendCutText=0"),
        (config.get(&k::CLIPBOARD_FROM_CLIENT), "-AcceptCutText=0"),
    ];
    all.into_iter().filter(|(allowed, _)| !allowed).map(|(_, ban)| ban.to_owned()).collect()
}

/// The administrator's arguments for X servers, but for those that would let others in.
fn xserver_args(config: &Config) -> Vec<String> {
    vsm_config::risky::x_arguments(&config.get(&keys::vsmagent::XSERVER_ARGS)).0
}

/// Which of them are not followed, and why.
pub(super) fn left_out(config: &Config) -> Option<String> {
    let (_, refused) = vsm_config::risky::x_arguments(&config.get(&keys::vsmagent::XSERVER_ARGS));
    let what = || {
        format!(
            "/vsmagent/xserver_args: {} left out, as it would open desktops to others or close them to their users",
            refused.join(", ")
        )
    };
    (!refused.is_empty()).then(what)
}

fn profiles(config: &Config) -> Profiles {
    use keys::profiles as k;
    let introduction = config.get(&k::INTRODUCTION);
    Profiles {
        default: config.get(&k::DEFAULT),
        greeting: config.get(&k::GREETING),
        introduction: if config.get(&k::SHOW_INTRO) { introduction } else { String::new() },
        all: config.profiles(),
    }
}

fn session_settings(config: &Config) -> SessionSettings {
    use keys::vsmagent as k;
    let geometry = config.get(&k::DEFAULT_GEOMETRY);
    let (width, height) = FALLBACK_GEOMETRY;
    let geometry = Geometry::new(geometry.width, geometry.height)
        .or_else(|_| Geometry::new(width, height))
        .expect("the fall-back is in range");
    SessionSettings {
        state_dir: config.get(&k::STATE_DIR),
        run_dir: config.get(&k::RUN_DIR),
        pam_service: config.get(&k::PAM_SERVICE),
        make_home_mode: config.get(&k::MAKE_HOMEDIR).then(|| config.get(&k::MAKE_HOMEDIR_MODE)),
        xserver: Some(config.get(&k::XSERVER)).filter(|path| !path.as_os_str().is_empty()),
        xserver_args: xserver_args(config),
        cookie_in_home: config.get(&k::XAUTHORITY_LOCATION) == XauthorityLocation::Homedir,
        x_timeout_ms: u64::try_from(config.get(&k::XVNC_START_TIMEOUT).as_millis())
            .unwrap_or(u64::MAX),
        script: config.get(&k::SESSION_SCRIPT),
        second_viewer: second_viewer(config.get(&k::SECOND_VIEWER)),
        shadowing: shadowing(config.get(&keys::shadowing::SHADOWING_MODE)),
        geometry,
        environment: environment(config),
        notify_program: config.get(&k::NOTIFY_PROGRAM),
        bans: bans(config),
        files: FileRules {
            to_client: config.get(&k::FILES_TO_CLIENT),
            from_client: config.get(&k::FILES_FROM_CLIENT),
        },
        require_limits: config.get(&k::REQUIRE_LIMITS),
        profiles: profiles(config),
    }
}
