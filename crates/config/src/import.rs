//! What of an `.hconf` tree of ThinLinc we take over, under which path, and why the rest is left.
//!
//! Each parameter of the tree gives one [`Verdict`], so that the report can be read beside the old files.

use crate::{hconf::Entry, kind::Kind, param::canonical, risky, schema, set::Assignment};

/// Where the other product keeps its own files, which do not exist here.
const FOREIGN_FILES: &str = "/opt/thinlinc/";

/// Variables for every session.
const ENVIRONMENT: &str = "/vsmagent/default_environment/";

/// Folders and parameters that have no counterpart, by prefix, with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("/webaccess", "there is no such web client here"),
    ("/tlwebadm", "there is no web administration here"),
    ("/utils", "belongs to tools that do not exist here"),
    ("/printeraccess", "printing is not part of this system"),
    ("/nearestprinter", "printing is not part of this system"),
    ("/appservergroups", "Windows terminal servers are not supported"),
    ("/vsmserver/bogomips_per_user", "agents are chosen by users per weight, or by measured load"),
    (
        "/vsmserver/ram_per_user",
        "it was an estimate for desktops of its time; set it to what one needs today",
    ),
    (
        "/vsmserver/existing_users_weight",
        "agents are chosen by users per weight, or by measured load",
    ),
    ("/vsmserver/load_update_cycle", "agents report by themselves; nothing is polled"),
    ("/vsmserver/unbind_ports_at_login", "sessions have no TCP ports"),
    ("/vsmserver/explicit_agentselection", "bind users and groups with /vsmserver/subclusters"),
    ("/vsm/vnc_port_base", "sessions have no TCP ports"),
    ("/vsm/tunnel_bind_base", "sessions have no TCP ports"),
    ("/vsm/tunnelslots_per_session", "sessions have no TCP ports"),
    ("/vsm/tunnelservices", "sessions have no TCP ports"),
    ("/vsmagent/max_session_port", "sessions have no TCP ports"),
    ("/vsmagent/lowest_user_port", "sessions have no TCP ports"),
    ("/vsmagent/single_signon", "no password ever reaches this system"),
    (
        "/vsmagent/xvnc_start_timeout",
        "its unit there is not known; see `vsm-config doc /vsmagent/xvnc_start_timeout`",
    ),
    ("/vsmserver/logging/syslog_host", "only the local syslog is written to"),
    ("/vsmagent/logging/syslog_host", "only the local syslog is written to"),
];

/// What becomes of one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Under the same path with the same value.
    Taken(Assignment),
    /// Under another path or with another value, for this reason.
    Changed(Assignment, String),
    /// Left, for this reason.
    Ignored(String),
}

/// Judges one parameter of the tree.
pub(crate) fn judge(entry: &Entry) -> Verdict {
    let stripped = entry
        .path
        .strip_prefix("/thinlinc")
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(&entry.path);
    let old = canonical(stripped);
    let below = |prefix: &str| {
        old == prefix || old.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
    };
    if let Some((_, reason)) = LEFT_OUT.iter().find(|(prefix, _)| below(prefix)) {
        return Verdict::Ignored((*reason).to_owned());
    }
    let mut reasons: Vec<String> = Vec::new();
    let mut path = old.clone();
    if old == "/vsmserver/terminalservers" {
        "/vsmserver/subclusters/Default/agents".clone_into(&mut path);
        reasons.push("agents are listed by subcluster".to_owned());
    } else if canonical(&entry.path) != entry.path || stripped != entry.path {
        reasons.push("the path is spelled so here".to_owned());
    }
    let Some(param) = schema::find(&path) else {
        let near =
            schema::nearest(&path).map_or_else(String::new, |near| format!("; nearest: {near}"));
        return Verdict::Ignored(format!("there is no such parameter{near}"));
    };
    let (value, reason) = translate(&path, param.kind, &entry.value);
    reasons.extend(reason);
    if let Some(variable) = path.strip_prefix(ENVIRONMENT) {
        if risky::is_variable(variable) {
            return Verdict::Ignored(format!(
                "{variable} makes every program of every desktop run code; set it by hand if it must be"
            ));
        }
        if variable == "PATH" {
            reasons
                .push("every desktop's programs come from there: look at each folder".to_owned());
        }
    }
    if value.is_empty() && !entry.value.is_empty() {
        return Verdict::Ignored(reasons.join("; "));
    }
    if value.contains(FOREIGN_FILES) {
        return Verdict::Ignored(format!("names a file of the other product: {value}"));
    }
    match Assignment::of(&path, &value) {
        Ok(assignment) if reasons.is_empty() => Verdict::Taken(assignment),
        Ok(assignment) => Verdict::Changed(assignment, reasons.join("; ")),
        Err(error) => Verdict::Ignored(error.to_string()),
    }
}

/// The value as we write it, and why it differs.
fn translate(path: &str, kind: Kind, value: &str) -> (String, Option<String>) {
    let words = |separator: &str, keep: &dyn Fn(&str) -> bool| -> String {
        value
            .split(separator)
            .filter(|word| !word.is_empty() && keep(word))
            .collect::<Vec<_>>()
            .join(separator)
    };
    let (new, reason) = if path == "/vsmagent/xserver_args" {
        return x_arguments(value);
    } else if path == "/vsmagent/default_environment/PATH" {
        let keep = |word: &str| {
            !format!("{word}/").starts_with(FOREIGN_FILES) && risky::is_program_folder(word)
        };
        (
            words(":", &keep),
            "folders of the other product, and such as others can write to, are dropped",
        )
    } else if path.starts_with(ENVIRONMENT) {
        (
            words(":", &|word| !format!("{word}/").starts_with(FOREIGN_FILES)),
            "folders of the other product are dropped",
        )
    } else if path.contains("/logging/") && matches!(kind, Kind::Choice(_)) {
        let level = match value.to_ascii_uppercase().as_str() {
            "WARNING" => "warn".to_owned(),
            "DEBUG2" => "trace".to_owned(),
            other => other.to_ascii_lowercase(),
        };
        (level, "levels are named so here")
    } else {
        (value.to_owned(), "")
    };
    let differs = new != value;
    if differs { (new, Some(reason.to_owned())) } else { (value.to_owned(), None) }
}

/// The X server's arguments as we take them, and why they differ.
fn x_arguments(value: &str) -> (String, Option<String>) {
    let words: Vec<String> = value.split_ascii_whitespace().map(str::to_owned).collect();
    let is_local = |word: &String| word == "-localhost";
    let mut reasons = Vec::new();
    if words.iter().any(is_local) {
        reasons.push("sessions have no TCP ports, so -localhost is dropped".to_owned());
    }
    let words: Vec<String> = words.into_iter().filter(|word| !is_local(word)).collect();
    let (good, refused) = risky::x_arguments(&words);
    if !refused.is_empty() {
        let refused = refused.join(", ");
        reasons.push(format!("refused, as it would open desktops to others: {refused}"));
    }
    (good.join(" "), Some(reasons.join("; ")).filter(|reasons| !reasons.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn judged(path: &str, value: &str) -> Verdict {
        judge(&Entry {
            path: path.to_owned(),
            value: value.to_owned(),
            file: PathBuf::from("f"),
            line: 1,
        })
    }

    fn assignment(path: &str, value: &str) -> Assignment {
        Assignment::of(path, value).unwrap()
    }

    #[test]
    fn parameters_of_the_same_name_are_taken() {
        for (path, value) in [
            ("/vsmagent/default_geometry", "1024 768"),
            ("/vsmserver/subclusters/Default/agents", "127.0.0.1"),
            ("/shadowing/allowed_shadowers", "root +staff"),
            ("/vsmagent/make_homedir_mode", "0700"),
        ] {
            assert_eq!(judged(path, value), Verdict::Taken(assignment(path, value)));
        }
    }

    #[test]
    fn names_and_values_that_differ_are_changed_and_say_why() {
        for (path, value, new_path, new_value) in [
            ("/thinlinc/vsmserver/listen_port", "9000", "/vsmserver/listen_port", "9000"),
            ("/HA/nodes", "a b", "/vsmserver/HA/nodes", "a b"),
            (
                "/vsmserver/terminalservers",
                "t1 t2",
                "/vsmserver/subclusters/Default/agents",
                "t1 t2",
            ),
            (
                "/vsmagent/xserver_args",
                "-br -localhost -verbose 3",
                "/vsmagent/xserver_args",
                "-br -verbose 3",
            ),
            (
                "/vsmserver/logging/defaultlevel",
                "DEBUG2",
                "/vsmserver/logging/defaultlevel",
                "trace",
            ),
            (
                "/vsmagent/default_environment/PATH",
                "/opt/thinlinc/bin:/bin",
                "/vsmagent/default_environment/PATH",
                "/bin",
            ),
        ] {
            match judged(path, value) {
                Verdict::Changed(got, reason) => {
                    assert_eq!(got, assignment(new_path, new_value));
                    assert!(!reason.is_empty());
                }
                other @ (Verdict::Taken(_) | Verdict::Ignored(_)) => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_would_open_desktops_is_never_simply_taken() {
        let changed = |path: &str, value: &str| match judged(path, value) {
            Verdict::Changed(got, reason) => (got, reason),
            other @ (Verdict::Taken(_) | Verdict::Ignored(_)) => panic!("{path}: {other:?}"),
        };
        let path = "/vsmagent/xserver_args";
        let (got, reason) = changed(path, "-br -ac -listen tcp");
        assert_eq!(got, assignment(path, "-br"));
        assert!(reason.contains("refused") && reason.contains("-ac, -listen tcp"), "{reason}");
        assert!(matches!(judged(path, "-ac"), Verdict::Ignored(reason) if reason.contains("-ac")));
        let path = "/vsmagent/default_environment/PATH";
        let (got, reason) = changed(path, "/usr/bin:.:/tmp/bin:/bin");
        assert_eq!(got, assignment(path, "/usr/bin:/bin"));
        assert!(reason.contains("look at each folder"), "{reason}");
        changed(path, "/usr/bin");
        for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "PYTHONPATH"] {
            let path = format!("/vsmagent/default_environment/{name}");
            let verdict = judged(&path, "/usr/lib/x.so");
            assert!(matches!(&verdict, Verdict::Ignored(why) if why.contains(name)), "{verdict:?}");
        }
    }

    #[test]
    fn the_rest_is_ignored_with_a_reason() {
        for (path, value) in [
            ("/webaccess/cert", "/x"),
            ("/vsmserver/ram_per_user", "100"),
            ("/vsmserver/nonsense", "1"),
            ("/vsmagent/display_min", "many"),
            ("/sessionstart/background_image", "/opt/thinlinc/share/b.png"),
            (
                "/vsmagent/default_environment/LD_LIBRARY_PATH",
                "/opt/thinlinc/lib:/opt/thinlinc/lib64",
            ),
        ] {
            assert!(
                matches!(judged(path, value), Verdict::Ignored(reason) if reason.len() > 10),
                "{path}"
            );
        }
    }
}
