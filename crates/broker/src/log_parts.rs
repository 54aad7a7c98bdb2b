//! What of this program's log can have a level of its own: `/vsmserver/logging/levels/PART`. Each module that logs
//! belongs to one part, which `cargo xtask ci` checks.

use vsm_daemon::log::Parts;

/// The parts.
pub const PARTS: &Parts = &[
    (
        "session",
        &[
            "vsm_broker::ending",
            "vsm_broker::gone",
            "vsm_broker::limiting",
            "vsm_broker::login",
            "vsm_broker::one_login",
            "vsm_broker::relay",
            "vsm_broker::start",
            "vsm_broker::unvoted",
            "vsm_broker::user_api",
            "vsm_broker::users",
        ],
    ),
    (
        "agents",
        &[
            "vsm_broker::agents",
            "vsm_broker::agents_api",
            "vsm_broker::conduct",
            "vsm_broker::reconcile",
            "vsm_broker::registry",
            "vsm_broker::told",
        ],
    ),
    ("ha", &["vsm_broker::broker", "vsm_broker::ha", "vsm_sync"]),
    ("admin", &["vsm_broker::admin_api", "vsm_broker::reload", "vsm_broker::trail"]),
    ("loadinfo", &["vsm_broker::fleet", "vsm_broker::upkeep"]),
    ("extcmd", &["vsm_broker::hooks"]),
];

#[cfg(test)]
mod tests {
    use super::PARTS;

    /// Each part that can be named is known where the configuration is checked too.
    #[test]
    fn parts_are_those_of_the_schema() {
        let names: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
        assert_eq!(names, vsm_config::SERVER_LOGGERS);
    }
}
