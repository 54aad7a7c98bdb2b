//! The table as docs/security.md has it.

use std::{fmt::Write as _, fs, path::Path};

use super::{METHODS, Method};

const BEGIN: &str =
    "<!-- The table of crates/daemon/src/access/table.rs: UPDATE=1 cargo test -p vsm-daemon -->\n";
const END: &str = "<!-- end of the table -->\n";

/// Methods of one service with the same callers and conditions are one row.
fn table() -> String {
    let mut rows: Vec<(&str, Vec<&str>, &Method)> = Vec::new();
    for method in METHODS {
        let (service, name) = method.path.split_once('/').unwrap();
        let like = |row: &&mut (&str, Vec<&str>, &Method)| {
            row.0 == service && row.2.callers == method.callers && row.2.also == method.also
        };
        match rows.iter_mut().find(like) {
            Some(row) => row.1.push(name),
            None => rows.push((service, vec![name], method)),
        }
    }
    let mut text = "| service | methods | callers | also |\n| --- | --- | --- | --- |\n".to_owned();
    for (service, names, method) in rows {
        let service = service.trim_start_matches("vsm.").replace(".v1", "");
        let callers: Vec<String> = method.callers.iter().map(ToString::to_string).collect();
        let (names, callers) = (names.join(", "), callers.join(", "));
        writeln!(text, "| {service} | {names} | {callers} | {} |", method.also).unwrap();
    }
    text
}

#[test]
fn the_document_has_the_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let found = fs::read_to_string(&file).unwrap();
    let (before, rest) = found.split_once(BEGIN).expect("the mark");
    let (_, after) = rest.split_once(END).expect("the other mark");
    let wanted = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &wanted).unwrap();
        return;
    }
    assert!(found == wanted, "docs/security.md is stale: UPDATE=1 cargo test -p vsm-daemon");
}
