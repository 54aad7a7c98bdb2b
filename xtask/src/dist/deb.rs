//! One Debian package: its tree, what dpkg wants to know about it, and the call of dpkg-deb.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Built, Workshop, file_size, tree};
use crate::command::{command, run};

/// The scripts that dpkg runs.
const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];
/// What a folder is counted as, in KiB: as policy wants it for Installed-Size.
const FOLDER_KIB: u64 = 1;

/// Builds the package `name`, which has the document of what is in it.
pub(super) fn package(shop: &Workshop, name: &str, sbom: &str) -> Result<Built> {
    let tree = shop.scratch.join(name);
    let programs = tree::fill(shop, name, &tree)?;
    documents(shop, name, &tree)?;
    // Not compressed: who looks through a host or an image for such documents looks for this ending.
    let document = tree.join("usr/share/doc").join(name).join("sbom.cdx.json");
    tree::write(&document, sbom.as_bytes(), 0o644)?;
    let installed_kib = installed_size(&tree)?;
    let depends = shared_libraries(shop, &programs)?;
    control(shop, name, &tree, installed_kib, &depends)?;
    let file =
        shop.out.join(format!("{name}_{}_{}.deb", shop.about.version, shop.about.architecture));
    let mut build = command(&["dpkg-deb", "--root-owner-group"]);
    // Packing takes longer than all else: tests want it soon, users want it small.
    build.args(if shop.fast { ["-Zgzip", "-z1"] } else { ["-Zxz", "-z6"] });
    build.env("SOURCE_DATE_EPOCH", shop.about.epoch.to_string());
    run(build.arg("--build").arg(&tree).arg(&file))?;
    let bytes = file_size(&file)?;
    let (name, installed_kib) = (name.to_owned(), Some(installed_kib));
    Ok(Built { name, file, bytes, installed_kib, depends: Some(depends) })
}

/// What every package has under /usr/share/doc.
fn documents(shop: &Workshop, name: &str, tree: &Path) -> Result<()> {
    let dir = tree.join("usr/share/doc").join(name);
    let copyright = shop.root.join("deploy/packages/copyright");
    let copyright = fs::read(&copyright).with_context(|| copyright.display().to_string())?;
    tree::write(&dir.join("copyright"), &copyright, 0o644)?;
    tree::write_compressed(shop, &dir.join("changelog"), &changelog(shop)?)
}

/// The changelog in Debian's form; what changed is in CHANGELOG.md, for people, in vsm-common.
fn changelog(shop: &Workshop) -> Result<String> {
    let control = shop.root.join("deploy/packages/vsm-common/control");
    let text = fs::read_to_string(&control).with_context(|| control.display().to_string())?;
    let maintainer = text.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let maintainer = maintainer.context("vsm-common has no maintainer")?;
    let time = jiff::Timestamp::from_second(shop.about.epoch)?.to_zoned(jiff::tz::TimeZone::UTC);
    let time = jiff::fmt::rfc2822::to_string(&time)?;
    Ok(format!(
        "vsm ({}) unstable; urgency=medium\n\n  * See /usr/share/doc/vsm-common/CHANGELOG.md.\n\n -- {maintainer}  {time}\n",
        shop.about.version
    ))
}

/// In KiB, as policy counts: each file rounded up, and one for each folder.
fn installed_size(tree: &Path) -> Result<u64> {
    let mut total = 0;
    let mut folders = std::collections::BTreeSet::new();
    for file in tree::files(tree)? {
        total += file_size(&tree.join(&file))?.div_ceil(1024);
        folders.extend(file.ancestors().skip(1).map(Path::to_path_buf));
    }
    Ok(total + FOLDER_KIB * folders.len() as u64)
}

/// Which packages have the libraries that the programs are linked with, and from which version on.
fn shared_libraries(shop: &Workshop, programs: &[PathBuf]) -> Result<String> {
    // dpkg-shlibdeps works in a source package: as much of one as it asks for.
    let dir = shop.scratch.join("shlibs");
    fs::create_dir_all(dir.join("debian"))?;
    fs::write(dir.join("debian/control"), "Source: vsm\n\nPackage: vsm\nArchitecture: any\n")?;
    let mut ask = command(&["dpkg-shlibdeps", "-O"]);
    for program in programs {
        ask.arg("-e").arg(program);
    }
    let answer = String::from_utf8(run(ask.current_dir(&dir))?.stdout)?;
    let depends = answer.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    Ok(depends.with_context(|| format!("dpkg-shlibdeps says {answer:?}"))?.to_owned())
}

/// The folder `DEBIAN`: control, conffiles, checksums, scripts.
fn control(shop: &Workshop, name: &str, tree: &Path, size: u64, depends: &str) -> Result<()> {
    let source = shop.root.join("deploy/packages").join(name);
    let dir = tree.join("DEBIAN");
    let mut text = fs::read_to_string(source.join("control"))
        .with_context(|| source.join("control").display().to_string())?;
    let size = size.to_string();
    for (word, value) in [
        ("${version}", shop.about.version.as_str()),
        ("${arch}", shop.about.architecture.as_str()),
        ("${size}", size.as_str()),
        ("${shlibs}", depends),
    ] {
        text = text.replace(word, value);
    }
    if text.contains("${") {
        bail!("{}: a ${{word}} that nobody knows", source.join("control").display());
    }
    tree::write(&dir.join("control"), text.as_bytes(), 0o644)?;
    let files = tree::files(tree)?;
    // What lies in /etc is the administrator's: dpkg asks before it changes what they have changed.
    let configuration = files.iter().filter(|file| file.starts_with("etc"));
    let conffiles: String = configuration.map(|file| format!("/{}\n", file.display())).collect();
    if !conffiles.is_empty() {
        tree::write(&dir.join("conffiles"), conffiles.as_bytes(), 0o644)?;
    }
    let sums = run(command(&["md5sum", "--"]).args(&files).current_dir(tree))?.stdout;
    let mut kept = String::new();
    for line in String::from_utf8(sums)?.lines().filter(|line| !line.contains("  etc/")) {
        writeln!(kept, "{line}")?;
    }
    tree::write(&dir.join("md5sums"), kept.as_bytes(), 0o644)?;
    for script in SCRIPTS.map(|script| source.join(script)).iter().filter(|path| path.is_file()) {
        let target = dir.join(script.file_name().unwrap_or_default());
        tree::write(&target, &fs::read(script)?, 0o755)?;
    }
    // Whatever the umask was.
    for path in std::iter::once(tree.to_owned()).chain(folders(tree, &files)) {
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn folders(tree: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let mut all: Vec<_> = files
        .iter()
        .flat_map(|file| file.ancestors().skip(1).map(|dir| tree.join(dir)))
        .chain([tree.join("DEBIAN")])
        .collect();
    all.sort();
    all.dedup();
    all
}
