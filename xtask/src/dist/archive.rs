//! The tarball: the same files as in the packages, for systems without dpkg.

use anyhow::Result;

use super::{Built, Workshop, file_size, tree};
use crate::command::{command, run};
use crate::shipped::PACKAGES;

/// Packs what the packages have into `vsm-VERSION-ARCHITECTURE.tar.xz`, all under one folder.
pub(super) fn tarball(shop: &Workshop) -> Result<Built> {
    let name = format!("vsm-{}-{}", shop.about.version, shop.about.architecture);
    let dir = shop.scratch.join(&name);
    for package in PACKAGES {
        let packed = shop.scratch.join(package);
        for file in tree::files(&packed)? {
            tree::link(&packed.join(&file), &dir.join(&file))?;
        }
    }
    for licence in ["LICENSE-APACHE", "LICENSE-MIT", "README.md"] {
        tree::write(&dir.join(licence), &std::fs::read(shop.root.join(licence))?, 0o644)?;
    }
    let file = shop.out.join(format!("{name}.tar.xz"));
    let mut tar = command(&["tar", "--create", "--sort=name", "--owner=0", "--group=0"]);
    tar.args(["--numeric-owner", "--format=gnu"]).arg(format!("--mtime=@{}", shop.about.epoch));
    // Whatever the umask was when the folders were made.
    tar.arg("--mode=u=rwX,go=rX");
    let level = if shop.fast { "-0" } else { "-6" };
    // Two threads, wherever that is: one cuts the text into no blocks, and so gives other bytes than several.
    tar.arg(format!("--use-compress-program=xz {level} --threads=2"));
    run(tar.arg("--file").arg(&file).arg("--directory").arg(&shop.scratch).arg(&name))?;
    let bytes = file_size(&file)?;
    Ok(Built { name, file, bytes, installed_kib: None, depends: None })
}
