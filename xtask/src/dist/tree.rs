//! Putting a package's files where they belong below a folder, from the list in `deploy/packages/NAME/install`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Workshop;
use crate::command::{command, run};
use crate::npm::Package;
use crate::shipped::{self, Entry};

/// Where shells look for the completions that a package brings.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions"),
    ("zsh", "usr/share/zsh/vendor-completions"),
    ("fish", "usr/share/fish/vendor_completions.d"),
];

const FILE: u32 = 0o644;
const RUNNABLE: u32 = 0o755;

/// Fills `tree` with the files of a package; returns its programs.
pub(super) fn fill(shop: &Workshop, package: &str, tree: &Path) -> Result<Vec<PathBuf>> {
    let mut programs = Vec::new();
    for (place, entry) in shipped::list(&shop.root, package)? {
        let place = || place;
        match entry {
            Entry::Program(name) => {
                programs.push(program(shop, &name, tree).with_context(place)?);
            }
            Entry::Tool(name) => {
                let target = tree.join("usr/bin").join(&name);
                copy(&shop.root.join("deploy/tools").join(&name), &target, RUNNABLE)?;
                manual(shop, &name, tree).with_context(place)?;
            }
            Entry::File { source, target, mode } => {
                file(shop, &source, &tree.join(&target), target.ends_with('/'), mode)
                    .with_context(place)?;
            }
            Entry::Npm { name, target } => {
                npm(&name, &tree.join(target)).with_context(place)?;
            }
        }
    }
    Ok(programs)
}

fn program(shop: &Workshop, name: &str, tree: &Path) -> Result<PathBuf> {
    let target = tree.join("usr/bin").join(name);
    copy(&shop.binaries.join(name), &target, RUNNABLE)?;
    run(command(&["strip", "--strip-unneeded", "--remove-section=.comment"]).arg(&target))?;
    manual(shop, name, tree)?;
    for (shell, target) in COMPLETIONS {
        let names = [name.to_owned(), format!("_{name}"), format!("{name}.fish")];
        for file in names {
            let source = shop.made.join("completions").join(shell).join(&file);
            if source.is_file() {
                copy(&source, &tree.join(target).join(file), FILE)?;
            }
        }
    }
    Ok(target)
}

/// Puts a program's manual pages into place.
fn manual(shop: &Workshop, name: &str, tree: &Path) -> Result<()> {
    let mut pages = Vec::new();
    for dir in [shop.made.join("man"), shop.root.join("deploy/man")] {
        pages.extend(manual_pages(&dir, name)?);
    }
    let tools = shop.root.join("deploy/tools");
    // `vsm-env` is no command of `vsm`.
    let mut kept = Vec::new();
    for page in pages {
        let stem = page.file_stem().unwrap_or_default().display().to_string();
        let is_program = |dir: &Path| dir.join(&stem).is_file();
        let other = stem != name && (is_program(&shop.binaries) || is_program(&tools));
        let dir = page.parent().unwrap_or_else(|| Path::new(""));
        if !other || own_page(&listing(dir)?, &stem) != Some(&page) {
            kept.push(page);
        }
    }
    let pages = kept;
    if pages.is_empty() {
        bail!("{name} has no manual page");
    }
    for page in pages {
        let section = page.extension().unwrap_or_default().display().to_string();
        let file = page.file_name().unwrap_or_default();
        compressed(&page, &tree.join(format!("usr/share/man/man{section}")).join(file))?;
    }
    Ok(())
}

/// The program's page and, in the same section, those of its commands.
fn manual_pages(dir: &Path, program: &str) -> Result<Vec<PathBuf>> {
    let files = listing(dir)?;
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().display().to_string();
    let Some(own) = own_page(&files, program) else { return Ok(Vec::new()) };
    let belongs = |path: &&PathBuf| {
        *path == own
            || (name(path).starts_with(&format!("{program}-"))
                && path.extension() == own.extension())
    };
    Ok(files.iter().filter(belongs).cloned().collect())
}

/// The page of a program, of a folder's files in order. Of two, that in the earlier section is a command's of another
/// program: `vsm web` has `vsm-web(1)`, and the daemon `vsm-web(8)`.
fn own_page<'a>(files: &'a [PathBuf], program: &str) -> Option<&'a PathBuf> {
    files.iter().rfind(|path| path.file_stem().is_some_and(|stem| stem == program))
}

fn file(shop: &Workshop, source: &str, target: &Path, into: bool, mode: u32) -> Result<()> {
    let source = match source.strip_prefix("made/") {
        Some(made) => shop.made.join(made),
        None => shop.root.join(source),
    };
    let name = source.file_name().unwrap_or_default().display().to_string();
    let sources = match (name.split_once('*'), source.parent()) {
        (Some((before, after)), Some(dir)) => {
            let fits = |path: &PathBuf| {
                let name = path.file_name().unwrap_or_default().display().to_string();
                path.is_file() && name.starts_with(before) && name.ends_with(after)
            };
            listing(dir)?.into_iter().filter(fits).collect()
        }
        _ => vec![source.clone()],
    };
    if sources.is_empty() {
        bail!("nothing is called {}", source.display());
    }
    for source in sources {
        let file = source.file_name().unwrap_or_default();
        copy(&source, &if into { target.join(file) } else { target.to_owned() }, mode)?;
    }
    Ok(())
}

/// Puts a package of npm's registry into place, with the modes that packages have.
fn npm(name: &str, target: &Path) -> Result<()> {
    Package::named(name)?.unpack_into(target)?;
    for file in files(target)? {
        let file = target.join(file);
        fs::set_permissions(&file, Permissions::from_mode(FILE))
            .with_context(|| file.display().to_string())?;
    }
    Ok(())
}

fn listing(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut files: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}

/// Copies a file and makes the folders above it, with the modes that packages have whatever the umask is.
fn copy(source: &Path, target: &Path, mode: u32) -> Result<()> {
    write(target, &fs::read(source).with_context(|| source.display().to_string())?, mode)
}

/// A compressed copy, as Debian has manual pages and changelogs.
fn compressed(source: &Path, target: &Path) -> Result<()> {
    // Without name and time: the same text gives the same bytes.
    let text = run(command(&["gzip", "--no-name", "-9", "--stdout"]).arg(source))?.stdout;
    let name = target.file_name().unwrap_or_default().display().to_string();
    write(&target.with_file_name(format!("{name}.gz")), &text, FILE)
}

/// Writes a file as [`copy`] does.
pub(super) fn write(target: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let context = || target.display().to_string();
    if let Some(dir) = target.parent() {
        fs::create_dir_all(dir).with_context(context)?;
    }
    fs::write(target, bytes).with_context(context)?;
    fs::set_permissions(target, Permissions::from_mode(mode)).with_context(context)
}

/// Makes a file appear in a second place as well, and the folders above it.
pub(super) fn link(source: &Path, target: &Path) -> Result<()> {
    let context = || target.display().to_string();
    if let Some(dir) = target.parent() {
        fs::create_dir_all(dir).with_context(context)?;
    }
    fs::hard_link(source, target).with_context(context)
}

/// Writes text compressed, as [`compressed`] does.
pub(super) fn write_compressed(shop: &Workshop, target: &Path, text: &str) -> Result<()> {
    let plain = shop.scratch.join("plain");
    fs::write(&plain, text)?;
    compressed(&plain, target)
}

/// Every file below `dir`, sorted, as paths relative to it; folders and what is under `DEBIAN` are left out.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        for path in listing(&dir.join(&below))? {
            let relative = path.strip_prefix(dir)?.to_owned();
            if path.is_dir() {
                if relative != Path::new("DEBIAN") {
                    open.push(relative);
                }
            } else {
                found.push(relative);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_and_a_daemon_may_have_one_name() {
        let files = ["vsm-env.1", "vsm-web-logins.1", "vsm-web.1", "vsm-web.8", "vsm.1"];
        let files = files.map(PathBuf::from);
        assert_eq!(own_page(&files, "vsm-web"), Some(&files[3]));
        assert_eq!(own_page(&files, "vsm-env"), Some(&files[0]));
        assert_eq!(own_page(&files, "vsm"), Some(&files[4]));
        assert_eq!(own_page(&files, "vsmctl"), None);
    }
}
