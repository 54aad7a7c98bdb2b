//! libFuzzer's program: runs the target that `VSM_FUZZ_TARGET` names; without one it prints the table of targets. Its
//! arguments are libFuzzer's.
#![no_main]
#![expect(clippy::print_stdout, reason = "the table of targets is data for `cargo xtask fuzz`")]

use std::sync::OnceLock;

use vsm_fuzz::{TARGETS, Target};

static TARGET: OnceLock<&Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: choose(),
    |bytes: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(bytes);
        }
    }
);

/// Notes which target is meant, or tells which there are.
fn choose() {
    let name = std::env::var("VSM_FUZZ_TARGET").unwrap_or_default();
    if let Some(target) = TARGETS.iter().find(|target| target.name == name) {
        // It is set once.
        let _ = TARGET.set(target);
        return;
    }
    for Target { name, length_max, holds, .. } in TARGETS {
        println!("{name}\t{length_max}\t{holds}");
    }
    std::process::exit(i32::from(!name.is_empty()));
}
