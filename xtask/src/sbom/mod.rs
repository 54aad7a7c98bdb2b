//! `cargo xtask sbom`: for each package, which crates its programs are linked from, as CycloneDX.
//!
//! Cargo itself is asked, in the words in which `dist` has it build (the same crates at once, so with the same
//! features), and nothing else: an index of what is shipped is worth little if it comes from another resolver than
//! the programs, or if making it takes two hundred crates more. docs/packaging.md compares this with
//! `cargo-cyclonedx`.

mod bundled;
mod document;
mod graph;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use self::graph::Graph;
use crate::compile::root;
use crate::npm::Package;
use crate::progress::Progress;
use crate::shipped::{self, About, Entry, PACKAGES};

/// What to write.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Directory for the files, one for each package; target/sbom by default
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The crates behind all packages of one work tree.
#[derive(Debug)]
pub(crate) struct Inventory {
    root: PathBuf,
    graph: Graph,
}

impl Inventory {
    /// Asks cargo.
    ///
    /// # Errors
    /// When cargo refuses, or a crate that is linked has no checksum in `Cargo.lock`.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        Ok(Self { root: root.to_owned(), graph: Graph::read(root)? })
    }

    /// The document of one package, as it is written.
    ///
    /// # Errors
    /// When the package's list names a program that no crate has.
    pub(crate) fn document(&self, package: &str, about: &About) -> Result<String> {
        let (mut programs, mut scripts) = (BTreeMap::new(), Vec::new());
        for (place, entry) in shipped::list(&self.root, package)? {
            match entry {
                Entry::Program(program) => {
                    let of = self.graph.crate_of(&program);
                    let of = of.with_context(|| format!("{place}: no crate has {program}"))?;
                    programs.insert(program, of);
                }
                Entry::Npm { name, .. } => scripts.push(Package::named(&name).context(place)?),
                Entry::Tool(_) | Entry::File { .. } => {}
            }
        }
        let document = document::document(package, &programs, &scripts, &self.graph, about)?;
        Ok(serde_json::to_string_pretty(&document)? + "\n")
    }
}

/// Writes the document of each package.
pub(crate) fn sbom(options: &Options) -> Result<()> {
    let root = root();
    let out = options.out.clone().unwrap_or_else(|| root.join("target/sbom"));
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let progress = Progress::new(true);
    let about = About::of(&root)?;
    let inventory = Inventory::of(&root)?;
    for package in PACKAGES {
        let file = out.join(about.sbom(package));
        fs::write(&file, inventory.document(package, &about)?)
            .with_context(|| file.display().to_string())?;
        progress.step(file.display().to_string());
    }
    Ok(())
}
