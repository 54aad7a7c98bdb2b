//! `cargo xtask sbom`: what is in the packages, held against `Cargo.lock`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates that only tests use, and some that only take part in building.
const FOR_TESTS: [&str; 3] = ["proptest", "turmoil", "xtask"];
const FOR_BUILDING: [&str; 5] = ["syn", "serde_derive", "protox", "cc", "tempfile"];

fn write(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = xtask.arg("sbom").arg("--out").arg(&dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    dir
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The document of a package.
fn document(dir: &Path, package: &str) -> Value {
    let file = files(dir).into_iter().find(|file| {
        file.file_name().unwrap().to_str().unwrap().starts_with(&format!("{package}_"))
    });
    serde_json::from_slice(&fs::read(file.unwrap()).unwrap()).unwrap()
}

fn component<'a>(document: &'a Value, name: &str) -> Option<&'a Value> {
    document["components"].as_array().unwrap().iter().find(|component| component["name"] == name)
}

/// Version and checksum of the one crate of that name in `Cargo.lock`.
fn locked(name: &str) -> (String, String) {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = fs::read_to_string(lock).unwrap();
    let (_, rest) = lock.split_once(&format!("[[package]]\nname = \"{name}\"\n")).unwrap();
    let value = |key: &str| {
        let (_, value) = rest.split_once(&format!("{key} = \"")).unwrap();
        value.split('"').next().unwrap().to_owned()
    };
    (value("version"), value("checksum"))
}

#[test]
fn what_is_linked_is_named_as_it_is_locked() {
    let dir = write("sbom-linked");
    let names: Vec<_> = files(&dir);
    assert_eq!(names.len(), 5, "{names:?}");
    let server = document(&dir, "vsm-server");
    for name in ["rustls", "tonic", "tokio", "rusqlite", "tikv-jemallocator", "ring"] {
        let (version, checksum) = locked(name);
        let component = component(&server, name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(component["version"], version, "{name}");
        assert_eq!(component["hashes"][0]["content"], checksum, "{name}");
        assert_eq!(component["purl"], format!("pkg:cargo/{name}@{version}"));
        assert_eq!(component["scope"], "required", "{name}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
    for name in FOR_TESTS {
        assert_eq!(component(&server, name), None);
    }
    for name in FOR_BUILDING {
        assert_eq!(component(&server, name).unwrap()["scope"], "excluded", "{name}");
    }
    // What lies in crates as C, and the compiler's own library.
    for name in ["sqlite", "jemalloc", "rust-std"] {
        let component = component(&server, name).unwrap_or_else(|| panic!("no {name}"));
        assert!(component["version"].as_str().unwrap().starts_with(|c: char| c.is_ascii_digit()));
    }
    // Users' machines get no store and no memory of ours.
    for name in ["sqlite", "jemalloc", "rusqlite"] {
        assert_eq!(component(&document(&dir, "vsm-client"), name), None);
    }
}

#[test]
fn the_graph_is_whole_and_the_file_is_the_same_each_time() {
    let (dir, again) = (write("sbom-whole"), write("sbom-again"));
    for (file, second) in files(&dir).iter().zip(files(&again)) {
        let text = fs::read_to_string(file).unwrap();
        assert!(text == fs::read_to_string(second).unwrap(), "{}", file.display());
        // No path of this machine.
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(!text.contains(workspace.to_str().unwrap()), "{}", file.display());
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["serialNumber"], Value::Null);
        whole(&document);
    }
}

/// Whoever is named in the graph is described, once, and every program reaches its crates.
fn whole(document: &Value) {
    let list = |value: &Value| value.as_array().unwrap().clone();
    let about = &document["metadata"]["component"];
    let all = list(&document["components"]);
    let described = all.iter().chain(about["components"].as_array().unwrap()).chain([about]);
    let described: Vec<_> = described.map(|of| of["bom-ref"].as_str().unwrap()).collect();
    let known: BTreeSet<_> = described.iter().copied().collect();
    assert_eq!(known.len(), described.len());
    let edges = list(&document["dependencies"]);
    let ends: BTreeSet<_> = edges.iter().map(|edge| edge["ref"].as_str().unwrap()).collect();
    assert_eq!(ends, known);
    let mut reached = BTreeSet::new();
    let mut open = vec![about["bom-ref"].as_str().unwrap()];
    while let Some(end) = open.pop() {
        if reached.insert(end) {
            let edge = edges.iter().find(|edge| edge["ref"] == end).unwrap();
            open.extend(
                edge["dependsOn"].as_array().unwrap().iter().map(|end| end.as_str().unwrap()),
            );
        }
    }
    assert_eq!(reached, known);
}
