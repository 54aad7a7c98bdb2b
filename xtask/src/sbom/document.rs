//! The document itself: CycloneDX 1.5, which every reader of these files knows.
//!
//! The package is the component that is described, its programs are parts of it, and the crates are what it contains.
//! What is only used to build is there too, with the scope `excluded`: nobody runs it, and still somebody who hears
//! of a malicious macro wants to know whether it took part. Everything is in order of name, and there is no serial
//! number.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::bundled::{self, Library};
use super::graph::{Crate, Graph, Id, reached};
use crate::npm::Package;
use crate::shipped::About;

/// The version of the format, and where its schema is.
const SPEC: &str = "1.5";
const SCHEMA: &str = "http://cyclonedx.org/schema/bom-1.5.schema.json";

/// The document of one package, of whose programs each has its crate beside it; what browsers run of it is `scripts`.
pub(super) fn document(
    package: &str,
    programs: &BTreeMap<String, Id>,
    scripts: &[Package],
    graph: &Graph,
    about: &About,
) -> Result<Value> {
    let linked = reached(&graph.linked, programs.values());
    let all = reached(&graph.all, programs.values());
    let mut components = vec![standard_library(graph)];
    let mut edges = vec![json!({ "ref": std_ref(graph), "dependsOn": [] })];
    for id in all {
        let of =
            graph.crates.get(id).with_context(|| format!("cargo tells nothing of {}", id.name))?;
        components.push(component(id, of, linked.contains(id)));
        let mut uses: BTreeSet<String> =
            graph.all.get(id).into_iter().flatten().map(reference).collect();
        if let Some(library) = bundled::library(id, of)? {
            uses.insert(library_ref(&library));
            edges.push(json!({ "ref": library_ref(&library), "dependsOn": [] }));
            components.push(bundled(&library));
        }
        edges.push(json!({ "ref": reference(id), "dependsOn": uses }));
    }
    for (program, id) in programs {
        let uses = BTreeSet::from([reference(id), std_ref(graph)]);
        edges.push(json!({ "ref": part_ref(package, program), "dependsOn": uses }));
    }
    let mut parts: Vec<String> =
        programs.keys().map(|program| part_ref(package, program)).collect();
    for script in scripts {
        let component = script.component()?;
        let script = component["bom-ref"].as_str().context("a package without a name")?.to_owned();
        edges.push(json!({ "ref": script, "dependsOn": [] }));
        parts.push(script);
        components.push(component);
    }
    edges.push(json!({ "ref": package, "dependsOn": parts }));
    for list in [&mut components, &mut edges] {
        let key = |value: &Value| (value["bom-ref"].to_string(), value["ref"].to_string());
        list.sort_by_key(key);
    }
    Ok(json!({
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": metadata(package, programs, graph, about)?,
        "components": components,
        "dependencies": edges,
    }))
}

fn metadata(
    package: &str,
    programs: &BTreeMap<String, Id>,
    graph: &Graph,
    about: &About,
) -> Result<Value> {
    let part = |program: &String| {
        json!({
            "type": "application",
            "bom-ref": part_ref(package, program),
            "name": program,
            "version": about.version,
        })
    };
    let (version, architecture) = (&about.version, &about.architecture);
    Ok(json!({
        "timestamp": jiff::Timestamp::from_second(about.epoch)?.to_string(),
        "lifecycles": [{ "phase": "build" }],
        "tools": { "components": [
            { "type": "application", "name": "cargo xtask sbom", "version": env!("CARGO_PKG_VERSION") },
            { "type": "application", "name": "rustc", "version": graph.compiler.release },
        ] },
        "component": {
            "type": "application",
            "bom-ref": package,
            "name": package,
            "version": version,
            "licenses": [{ "expression": "Apache-2.0 OR MIT" }],
            "purl": format!("pkg:deb/vsm/{package}@{version}?arch={architecture}"),
            "components": programs.keys().map(part).collect::<Vec<_>>(),
        },
        "properties": [
            { "name": "vsm:commit", "value": about.commit() },
            { "name": "vsm:target", "value": graph.compiler.host },
        ],
    }))
}

fn component(id: &Id, of: &Crate, linked: bool) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(id),
        "name": id.name,
        "version": id.version,
        "scope": if linked { "required" } else { "excluded" },
    });
    let mut set = |key: &str, value: Value| component[key] = value;
    if let Some(licence) = &of.licence {
        set("licenses", json!([{ "expression": licence }]));
    }
    if let Some(description) = &of.description {
        set("description", json!(description));
    }
    if let Some(checksum) = &of.checksum {
        set("hashes", json!([{ "alg": "SHA-256", "content": checksum }]));
        // Ours have none: in the registry a stranger may have the name.
        set("purl", json!(format!("pkg:cargo/{}@{}", id.name, escaped(&id.version))));
    }
    component
}

fn bundled(library: &Library) -> Value {
    let (name, version) = (library.name, &library.version);
    let mut component = json!({
        "type": "library",
        "bom-ref": library_ref(library),
        "name": name,
        "version": version,
        "scope": "required",
        "description": "C library, compiled from the source in the crate that depends on it",
        "licenses": [{ "license": { "id": library.licence } }],
        "purl": format!("pkg:generic/{name}@{}", escaped(version)),
    });
    if let Some(cpe) = library.cpe {
        component["cpe"] = json!(format!("{cpe}:{version}:*:*:*:*:*:*:*"));
    }
    component
}

/// What comes with the compiler and is in each program.
fn standard_library(graph: &Graph) -> Value {
    let version = &graph.compiler.release;
    json!({
        "type": "library",
        "bom-ref": std_ref(graph),
        "name": "rust-std",
        "version": version,
        "scope": "required",
        "description": "Rust's standard library, as it comes with the compiler",
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
        "purl": format!("pkg:generic/rust@{version}"),
        "cpe": format!("cpe:2.3:a:rust-lang:rust:{version}:*:*:*:*:*:*:*"),
    })
}

/// In a purl a `+` would be read as a blank.
fn escaped(version: &str) -> String {
    version.replace('+', "%2B")
}

fn reference(id: &Id) -> String {
    format!("{}@{}", id.name, id.version)
}

fn part_ref(package: &str, program: &str) -> String {
    format!("{package}/{program}")
}

fn library_ref(library: &Library) -> String {
    format!("c:{}@{}", library.name, library.version)
}

fn std_ref(graph: &Graph) -> String {
    format!("rust-std@{}", graph.compiler.release)
}
