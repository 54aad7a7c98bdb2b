//! Keeps the folders of the machine that builds out of the programs.
//!
//! Compilers write paths into what they build: where a panic is, where generated code lies, what a C file is called.
//! Here the workspace becomes `/vsm`, cargo's home `/cargo`, and the library's source what the compiler's own
//! builders called it. Cargo leaves `--remap-path-prefix` out of the names that it makes from flags, so these are the
//! same too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::run;
use crate::compile::{Compiler, rustc};

/// What the workspace and its target directory are called in the programs, and cargo's home.
const WORKSPACE: &str = "/vsm";
const TARGET: &str = "/vsm/target";
const CARGO: &str = "/cargo";
/// Between flags in `CARGO_ENCODED_RUSTFLAGS`.
const FLAG_END: &str = "\u{1f}";

/// Where cargo keeps the sources of others.
pub(super) fn cargo_home() -> Result<PathBuf> {
    let given = std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty());
    let own = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    given.map(PathBuf::from).or_else(own).context("neither CARGO_HOME nor HOME is set")
}

/// Has the compilers that this call of cargo runs write other folders for these.
pub(super) fn rename(build: &mut Command, root: &Path, target: &Path, home: &Path) -> Result<()> {
    let compiler = Compiler::of(root)?;
    let sysroot = run(rustc(root).args(["--print", "sysroot"]))?.stdout;
    let library = Path::new(String::from_utf8(sysroot)?.trim()).join("lib/rustlib/src/rust");
    let names = names(&[
        (&library, &format!("/rustc/{}", compiler.commit)),
        (home, CARGO),
        (root, WORKSPACE),
        (target, TARGET),
    ]);
    let (mut rust, mut c) = (given("CARGO_ENCODED_RUSTFLAGS", FLAG_END), given("CFLAGS", " "));
    if rust.is_empty() {
        rust = given("RUSTFLAGS", " ");
    }
    for (from, to) in names {
        rust.push(format!("--remap-path-prefix={}={to}", from.display()));
        c.push(format!("-ffile-prefix-map={}={to}", from.display()));
    }
    build.env("CARGO_ENCODED_RUSTFLAGS", rust.join(FLAG_END)).env("CFLAGS", c.join(" "));
    // What is built bit by bit is cut into other pieces than what is built at once.
    build.env("CARGO_INCREMENTAL", "0");
    Ok(())
}

/// Folders and what they are called instead, also as they are without links. Of two that fit compilers take the last.
fn names(wanted: &[(&Path, &str)]) -> Vec<(PathBuf, String)> {
    let mut names = Vec::new();
    for (from, to) in wanted {
        let whole = from.canonicalize().unwrap_or_else(|_| from.to_path_buf());
        for from in [from.to_path_buf(), whole] {
            let name = (from, (*to).to_owned());
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names.sort_by_key(|(from, _)| from.components().count());
    names
}

/// The flags that whoever calls us has set.
fn given(variable: &str, end: &str) -> Vec<String> {
    let flags: Option<OsString> = std::env::var_os(variable);
    let flags = flags.unwrap_or_default().to_string_lossy().into_owned();
    flags.split(end).filter(|flag| !flag.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_within_another_wins() {
        let names = names(&[
            (Path::new("/nowhere/a/b/target"), "/vsm/target"),
            (Path::new("/nowhere/a/b"), "/vsm"),
            (Path::new("/nowhere/a/b/home"), "/cargo"),
        ]);
        let order: Vec<_> = names.iter().map(|(_, to)| to.as_str()).collect();
        assert_eq!(order, ["/vsm", "/vsm/target", "/cargo"]);
    }
}
