//! Packages of npm's registry, for what browsers run: each pinned by version and hash, and nothing of them in the
//! repository.
//!
//! npm itself fetches them, as it knows the site's registry, proxy and authorities. What it brings is believed only if
//! it has the hash that stands here, and is kept in the target directory, where it is checked again at each use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::command::{capture, command, run, tail};
use crate::compile;

/// How often npm asks a registry that does not answer, and how long it waits before it asks again.
const RETRIES: [&str; 3] =
    ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=1000"];

/// A package as it is pinned.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    name: &'static str,
    version: &'static str,
    /// As `npm view NAME@VERSION dist.integrity` prints it.
    integrity: &'static str,
    licence: &'static str,
}

/// The VNC client that browsers run.
pub const NOVNC: Package = Package {
    name: "@novnc/novnc",
    version: "1.7.0",
    integrity: "sha512-ucEJOx4T2avIRCleodk7YobZj5O2Ga2AeLfQ69A/yjG9HHba2+PDgwSkN3FttrmG+70ZGx21sElNFouK13RzyA==",
    licence: "MPL-2.0",
};

/// Finds in a page what keeps people from using it; for tests alone.
pub const AXE: Package = Package {
    name: "axe-core",
    version: "4.14.0",
    integrity: "sha512-9WTZxEjsZ7b13TH8JPmbV2z8CHbl80/2hm3XPEG4JgNdQLK81IBRXmSxHfMAOkSqQeRxT/0dwNDz2GOm3zzpcQ==",
    licence: "MPL-2.0",
};

impl Package {
    /// The package that is pinned under this name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let known = [NOVNC, AXE].into_iter().find(|package| package.name == name);
        known.with_context(|| format!("{name} is not pinned in xtask/src/npm.rs"))
    }

    /// The directory with its files; fetched if this machine has not got it yet.
    ///
    /// # Errors
    /// When it cannot be had, or is not what is pinned; the error says which.
    pub fn unpacked(&self) -> Result<PathBuf> {
        self.unpacked_in(&cache()?, npm)
    }

    /// The same with another place for what was fetched, and another npm.
    ///
    /// # Errors
    /// As [`Self::unpacked`].
    pub fn unpacked_in(&self, cache: &Path, npm: fn() -> Command) -> Result<PathBuf> {
        let archive = self.archive(cache, npm)?;
        let dir = cache.join(self.file_name());
        if !dir.is_dir() {
            let part = cache.join(format!("{}.{}.part", self.file_name(), std::process::id()));
            self.unpack(&archive, &part)?;
            // Somebody else may have been quicker; theirs is the same.
            if fs::rename(&part, &dir).is_err() {
                fs::remove_dir_all(&part)?;
            }
        }
        Ok(dir)
    }

    /// Puts its files into a directory.
    ///
    /// # Errors
    /// As [`Self::unpacked`].
    pub(crate) fn unpack_into(&self, dir: &Path) -> Result<()> {
        self.unpack(&self.archive(&cache()?, npm)?, dir)
    }

    /// What a bill of materials says of it.
    ///
    /// # Errors
    /// When the hash is none.
    pub(crate) fn component(&self) -> Result<Value> {
        let hash = self.integrity.strip_prefix("sha512-").context("a hash of npm's")?;
        let hash = STANDARD.decode(hash).with_context(|| format!("the hash of {self}"))?;
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let (name, version) = (self.name, self.version);
        Ok(json!({
            "type": "library",
            "bom-ref": format!("npm:{name}@{version}"),
            "name": name,
            "version": version,
            "scope": "required",
            "description": "runs in browsers, as npm's registry has it",
            "licenses": [{ "expression": self.licence }],
            "hashes": [{ "alg": "SHA-512", "content": hash }],
            "purl": format!("pkg:npm/{}@{version}", name.replace('@', "%40")),
        }))
    }

    fn unpack(&self, archive: &Path, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let mut tar = command(&["tar", "--extract", "--gzip", "--strip-components=1"]);
        tar.args(["--no-same-owner", "--file"]).arg(archive).arg("--directory").arg(dir);
        run(&mut tar).with_context(|| self.to_string())?;
        Ok(())
    }

    /// The package as the registry has it, checked.
    fn archive(&self, cache: &Path, npm: fn() -> Command) -> Result<PathBuf> {
        let archive = cache.join(format!("{}.tgz", self.file_name()));
        if archive.is_file() && self.check(&archive).is_ok() {
            return Ok(archive);
        }
        // None, or what is left of one.
        let part = cache.join(format!("{}.{}.fetch", self.file_name(), std::process::id()));
        fs::create_dir_all(&part).with_context(|| part.display().to_string())?;
        let fetched = self.fetch(&part, npm).and_then(|file| {
            self.check(&file)?;
            Ok(fs::rename(file, &archive)?)
        });
        fs::remove_dir_all(&part)?;
        fetched?;
        Ok(archive)
    }

    fn fetch(&self, into: &Path, npm: fn() -> Command) -> Result<PathBuf> {
        let mut pack = npm();
        pack.args(["pack", "--loglevel=error", "--ignore-scripts"]).args(RETRIES);
        pack.arg("--pack-destination").arg(into).arg(format!("{}@{}", self.name, self.version));
        // Not below the workspace: a stranger's .npmrc may lie above it.
        pack.current_dir("/");
        let output = capture(&mut pack).context("is npm there? cargo xtask setup installs it")?;
        if !output.status.success() {
            let said = tail(&[output.stdout, output.stderr].concat());
            bail!("{self} cannot be had from npm's registry: {}: {said}", output.status);
        }
        let mut files = fs::read_dir(into)?.filter_map(|entry| Some(entry.ok()?.path()));
        let file = files.find(|path| path.extension().is_some_and(|ending| ending == "tgz"));
        file.with_context(|| format!("npm pack {self} left no file"))
    }

    /// Whether a file is this package.
    fn check(&self, file: &Path) -> Result<()> {
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        let found = format!("sha512-{}", STANDARD.encode(Sha512::digest(&bytes)));
        if found == self.integrity {
            return Ok(());
        }
        let whole = capture(command(&["gzip", "--test"]).arg(file))?.status.success();
        if !whole {
            bail!("{self} is cut off or damaged: {} bytes, and gzip cannot read them", bytes.len());
        }
        bail!(
            "{self} is not what xtask/src/npm.rs pins, and is not used: it has {found}, not {}",
            self.integrity
        )
    }

    /// `novnc-novnc-1.7.0`.
    fn file_name(&self) -> String {
        format!("{}-{}", self.name.trim_start_matches('@').replace('/', "-"), self.version)
    }
}

impl std::fmt::Display for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

fn npm() -> Command {
    command(&["npm"])
}

fn cache() -> Result<PathBuf> {
    Ok(compile::target()?.join("npm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: Package =
        Package { name: "@a/b", version: "1.0.0", integrity: "sha512-x", licence: "MIT" };
    /// Stands for npm: the last word but one is where the package goes.
    const BEFORE: &str = "shift $(($# - 2)); cd \"$1\"; mkdir package; seq 5000 > package/file; ";

    fn shell(script: &str) -> Command {
        command(&["sh", "-c", &format!("{BEFORE}{script}"), "npm"])
    }

    /// What comes of a package that npm brings so; nothing may be left of it.
    fn refused(npm: fn() -> Command) -> String {
        let dir = tempfile::tempdir().unwrap();
        let error = OTHER.unpacked_in(dir.path(), npm).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "something is left");
        format!("{error:#}")
    }

    #[test]
    fn another_package_than_the_pinned_one_is_not_used() {
        let error = refused(|| shell("tar -czf a-b-1.0.0.tgz package"));
        assert!(error.starts_with("@a/b 1.0.0 is not what xtask/src/npm.rs pins"), "{error}");
        assert!(error.ends_with("not sha512-x"), "{error}");
    }

    #[test]
    fn half_a_package_is_not_used() {
        let error = refused(|| shell("tar -cz package | head -c 1000 > a-b-1.0.0.tgz"));
        assert!(error.starts_with("@a/b 1.0.0 is cut off or damaged: 1000 bytes"), "{error}");
    }

    #[test]
    fn npm_that_fails_or_is_not_there_is_told() {
        let error = refused(|| shell("echo npm ERR! code E404 >&2; exit 1"));
        assert!(error.starts_with("@a/b 1.0.0 cannot be had from npm's registry"), "{error}");
        assert!(error.ends_with("npm ERR! code E404"), "{error}");
        let error = refused(|| shell("true"));
        assert!(error.contains("left no file"), "{error}");
        let error = refused(|| command(&["/nonexistent/npm"]));
        assert!(error.contains("cargo xtask setup installs it"), "{error}");
    }

    #[test]
    fn only_what_is_pinned_has_a_name() {
        assert_eq!(Package::named("@novnc/novnc").unwrap().file_name(), "novnc-novnc-1.7.0");
        assert!(Package::named("@novnc/other").is_err());
        let component = NOVNC.component().unwrap();
        assert_eq!(component["purl"], "pkg:npm/%40novnc/novnc@1.7.0");
        assert_eq!(component["hashes"][0]["content"].as_str().unwrap().len(), 128);
        assert!(OTHER.component().is_err());
    }
}
