//! Taking new inputs into the corpora of the repository, which stay small.

use std::fs;

use anyhow::Result;

use super::engine::{Engine, Target, files};
use super::{corpus, folder};
use crate::command::run;

/// Bytes of a target's corpus.
const CORPUS_MAX: u64 = 64 << 10;
/// Inputs that are taken in at once.
const NEW_MAX: usize = 40;
/// Longest input that is taken in, in bytes.
const INPUT_MAX: u64 = 2048;

/// Adds inputs to a target's corpus that reach what it does not; how many.
pub(super) fn keep(engine: &Engine, target: &Target) -> Result<usize> {
    let (kept, found) = (folder(&corpus(target))?, engine.found(target)?);
    let merged = found.with_extension("merged");
    // What an earlier merge has left.
    drop(fs::remove_dir_all(&merged));
    for file in files(&kept)? {
        fs::copy(&file, folder(&merged)?.join(file.file_name().unwrap_or_default()))?;
    }
    run(engine.command(target).arg("-merge=1").args([folder(&merged)?, found]))?;
    let mut room = CORPUS_MAX.saturating_sub(size(&files(&kept)?)?);
    let mut new = Vec::new();
    for file in files(&merged)? {
        let length = fs::metadata(&file)?.len();
        if length <= INPUT_MAX && !kept.join(file.file_name().unwrap_or_default()).exists() {
            new.push((length, file));
        }
    }
    new.sort();
    let mut count = 0;
    for (length, file) in new.into_iter().take(NEW_MAX) {
        if length > room {
            break;
        }
        fs::copy(&file, kept.join(file.file_name().unwrap_or_default()))?;
        room -= length;
        count += 1;
    }
    fs::remove_dir_all(&merged)?;
    Ok(count)
}

fn size(files: &[std::path::PathBuf]) -> Result<u64> {
    files.iter().map(|file| Ok(fs::metadata(file)?.len())).sum()
}
