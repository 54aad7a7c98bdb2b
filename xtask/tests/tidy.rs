//! The workspace keeps its own rules.

use std::path::Path;

#[test]
fn the_workspace_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let findings = xtask::tidy::check(root).unwrap();
    for hint in &findings.hints {
        eprintln!("hint: {hint}");
    }
    assert!(findings.errors.is_empty(), "\n{}", findings.errors.join("\n"));
}
