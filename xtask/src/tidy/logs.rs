//! Each module that logs belongs to one part of the log, and each part has modules that log.

use std::collections::BTreeMap;

/// Where a program has its table of parts, the crates whose modules are in it, and the modules that are in no part: the
/// level of how a program starts and stops is the default one.
const TABLES: [(&str, &[&str], &str); 2] = [
    ("crates/broker/src/log_parts.rs", &["broker", "sync"], "vsm_broker::server"),
    ("crates/agent/src/log_parts.rs", &["agent"], "vsm_agent::agent"),
];

/// Checks all tables against these sources, by path below the workspace.
pub(super) fn check(sources: &BTreeMap<String, String>, errors: &mut Vec<String>) {
    for (table, crates, no_part) in TABLES {
        let Some(text) = sources.get(table) else {
            errors.push(format!("{table}: there is no table of the parts of the log"));
            continue;
        };
        let modules = crates.iter().flat_map(|name| logging(sources, name)).collect::<Vec<_>>();
        against(table, text, &modules, no_part, errors);
    }
}

/// The modules of a crate that log.
fn logging(sources: &BTreeMap<String, String>, name: &str) -> Vec<String> {
    let folder = format!("crates/{name}/src/");
    let below = sources.iter().filter_map(|(path, text)| Some((path.strip_prefix(&folder)?, text)));
    let logs = below.filter(|(path, text)| {
        let macros = ["error!", "warn!", "info!", "debug!", "trace!"];
        !path.starts_with("bin/")
            && macros.iter().any(|name| text.contains(&format!("tracing::{name}(")))
    });
    logs.map(|(path, _)| {
        let path = path.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
        let path = if path == "lib" { String::new() } else { format!("::{path}") };
        format!("vsm_{name}{path}")
    })
    .collect()
}

fn against(table: &str, text: &str, modules: &[String], no_part: &str, errors: &mut Vec<String>) {
    let parts: Vec<String> =
        text.split('"').filter(|word| word.starts_with("vsm_")).map(str::to_owned).collect();
    let is = |part: &String, module: &String| {
        module
            .strip_prefix(part.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    for module in modules {
        let of = parts.iter().filter(|part| is(part, module)).count();
        if of + usize::from(module == no_part) != 1 {
            errors.push(format!("{table}: {module} logs, and belongs to {of} parts, not to one"));
        }
    }
    for part in parts.iter().filter(|part| !modules.iter().any(|module| is(part, module))) {
        errors.push(format!("{table}: no module that logs is {part}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_that_logs_is_named_once_and_nothing_else_is() {
        let table = "(\"a\", &[\"vsm_x::a\", \"vsm_x::gone\"])";
        let modules = ["vsm_x", "vsm_x::a::b", "vsm_x::ab"].map(str::to_owned);
        let mut errors = Vec::new();
        against("t", table, &modules, "vsm_x", &mut errors);
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].contains("vsm_x::ab logs") && errors[1].contains("vsm_x::gone"));
    }

    #[test]
    fn modules_are_found_by_what_they_say() {
        let says = "tracing::info!(\"x\")".to_owned();
        let paths = [
            "crates/x/src/lib.rs",
            "crates/x/src/a/mod.rs",
            "crates/x/src/a/b.rs",
            "crates/x/src/bin/p.rs",
        ];
        let mut sources: BTreeMap<_, _> = paths.map(|path| (path.to_owned(), says.clone())).into();
        sources.insert("crates/x/src/quiet.rs".to_owned(), String::new());
        assert_eq!(logging(&sources, "x"), ["vsm_x::a::b", "vsm_x::a", "vsm_x"]);
    }
}
