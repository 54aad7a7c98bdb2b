//! What of this program's log can have a level of its own: `/vsmserver/logging/levels/PART`. Each module that logs
//! belongs to one part, which `cargo xtask ci` checks.

use vsm_daemon::log::Parts;

/// The parts.
pub const PARTS: &Parts = &[
    (
        "session",
        &[
            "vsm_broker::api::openid",
            "vsm_broker::api::user",
            "vsm_broker::openid::keys",
            "vsm_broker::sessions::ending",
            "vsm_broker::sessions::gone",
            "vsm_broker::sessions::limiting",
            "vsm_broker::sessions::login",
            "vsm_broker::sessions::one_login",
            "vsm_broker::sessions::relay",
            "vsm_broker::sessions::start",
            "vsm_broker::sessions::unvoted",
            "vsm_broker::users",
            "vsm_broker::web_keys",
        ],
    ),
    (
        "agents",
        &[
            "vsm_broker::api::agents",
            "vsm_broker::api::registry",
            "vsm_broker::hosts::agents",
            "vsm_broker::hosts::conduct",
            "vsm_broker::hosts::told",
            "vsm_broker::identities",
            "vsm_broker::sessions::reconcile",
        ],
    ),
    ("ha", &["vsm_broker::api::pair", "vsm_broker::authority", "vsm_broker::pair", "vsm_sync"]),
    (
        "admin",
        &[
            "vsm_broker::api::admin",
            "vsm_broker::journal::export",
            "vsm_broker::journal::trail",
            "vsm_broker::reload",
        ],
    ),
    ("loadinfo", &["vsm_broker::hosts::fleet", "vsm_broker::upkeep"]),
    ("extcmd", &["vsm_broker::sessions::hooks"]),
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
