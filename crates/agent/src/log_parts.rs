//! What of this program's log can have a level of its own: `/vsmagent/logging/levels/PART`. Each module that logs
//! belongs to one part, which `cargo xtask ci` checks.

use vsm_daemon::log::Parts;

/// The parts.
pub const PARTS: &Parts = &[
    (
        "session",
        &[
            "vsm_agent::agent::adopt",
            "vsm_agent::agent::client",
            "vsm_agent::agent::keys",
            "vsm_agent::agent::life",
            "vsm_agent::agent::link",
            "vsm_agent::agent::shadow",
            "vsm_agent::agent::start",
        ],
    ),
    (
        "broker",
        &[
            "vsm_agent::agent::fence",
            "vsm_agent::agent::identity",
            "vsm_agent::agent::maintenance",
            "vsm_agent::agent::order",
            "vsm_agent::agent::report",
            "vsm_agent::agent::server",
            "vsm_agent::net",
        ],
    ),
    ("loadinfo", &["vsm_agent::agent::load"]),
];

#[cfg(test)]
mod tests {
    use super::PARTS;

    /// Each part that can be named is known where the configuration is checked too.
    #[test]
    fn parts_are_those_of_the_schema() {
        let names: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
        assert_eq!(names, vsm_config::AGENT_LOGGERS);
    }
}
