//! Tables that were set aside: damaged ones, and those that gave way to one of another life of the pair. They lie in
//! `/vsmserver/state_dir` until somebody has looked at them and takes them away, and so long that is told.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use vsm_daemon::trouble::Kind;

use crate::process::Process;

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How their names begin.
const FILE: &str = "vsm.db.";
/// What is said of a file whose name goes on like this.
const SAID: [(&str, &str); 2] = [
    ("damaged-", "the table was damaged, was moved to"),
    (
        "replaced-",
        "the table here was of another life of the pair than the other node's and gave way to it: what was done \
                   here alone counts no more; a copy is",
    ),
];

/// Tells of them until the broker stops.
pub(crate) async fn follow(process: Arc<Process>, dir: PathBuf) {
    loop {
        process.troubles.only(Kind::Table, FILE, &found(&dir));
        if process.stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return;
        }
    }
}

/// The names, each with what is said of it.
fn found(dir: &Path) -> Vec<(String, String)> {
    let names = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let said = |name: String| {
        let rest = name.strip_prefix(FILE)?;
        let (_, said) = SAID.iter().find(|(kind, _)| rest.starts_with(kind))?;
        let what = format!("{said} {}", dir.join(&name).display());
        Some((name, what))
    };
    names.filter_map(said).collect()
}
