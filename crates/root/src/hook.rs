//! One hook: found by its name in the directory that root's configuration names, and run with a clean environment.

use std::{collections::BTreeMap, time::Duration};

use vsm_config::{Config, keys};

use crate::{
    message::{Answer, Hook, Moment},
    process,
};

/// Runs it, until nobody waits for it any more.
pub(crate) async fn run(config: &Config, hook: Hook, unwanted: impl Future<Output = ()>) -> Answer {
    let dir = match hook.moment {
        Moment::Start => config.get(&keys::hooks::STARTUP_DIR),
        Moment::Reconnect => config.get(&keys::hooks::RECONNECT_DIR),
    };
    let timeout: Duration = config.get(&keys::hooks::TIMEOUT);
    let environment = environment(hook.moment, hook.variables);
    // Its name is no path, and every step of the way to it is root's alone: that is checked when it is run.
    let ended = process::run(&dir.join(&hook.name), &environment, timeout, unwanted).await;
    let failed = ended.result.err().map(|why| why.to_string());
    if let Some(why) = &failed {
        tracing::info!(hook = hook.name, moment = hook.moment.word(), why, "a hook failed");
    }
    Answer::Ran { said: ended.said.told(), failed }
}

/// What the broker tells, and what is the helper's to say.
fn environment(moment: Moment, told: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let own = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("LANG", "C.UTF-8"),
        ("VSM_EVENT", moment.word()),
    ];
    let mut all = told;
    all.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
        path::Path,
    };

    use super::*;

    fn program(path: &Path, mode: u32) {
        fs::write(path, "#!/bin/sh\necho ran $VSM_EVENT\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    async fn answer(config: &Config, name: &str) -> Answer {
        let variables = BTreeMap::new();
        let hook = Hook { moment: Moment::Start, name: name.to_owned(), variables };
        run(config, hook, std::future::pending()).await
    }

    async fn refused(config: &Config, name: &str, why: &str) {
        let Answer::Ran { said, failed: Some(failed) } = answer(config, name).await else {
            panic!("{name} was run")
        };
        assert!(said.lines.is_empty() && failed.contains(why), "{name}: {failed}");
    }

    /// Whatever name is asked for: a file of the directory that is root's alone, or nothing.
    #[tokio::test]
    async fn what_is_not_roots_alone_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let (hooks, open) = (dir.path().join("hooks"), dir.path().join("open"));
        for path in [&hooks, &open] {
            fs::create_dir(path).unwrap();
        }
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let text = format!("vsmserver: {{hooks: {{startup_dir: {}}}}}", hooks.display());
        let conf = dir.path().join("conf.d");
        fs::create_dir(&conf).unwrap();
        fs::write(conf.join("a.yaml"), text).unwrap();
        let config = Config::load(&conf).unwrap();
        program(&hooks.join("good"), 0o755);
        program(&hooks.join("writable"), 0o777);
        program(&open.join("target"), 0o755);
        symlink(open.join("target"), hooks.join("link")).unwrap();
        fs::create_dir(hooks.join("folder")).unwrap();
        let Answer::Ran { said, failed: None } = answer(&config, "good").await else {
            panic!("it was not run")
        };
        assert_eq!(said.lines, ["ran start\n"]);
        refused(&config, "writable", "others may write").await;
        refused(&config, "link", "others may change").await;
        refused(&config, "folder", "not a file").await;
        refused(&config, "missing", "No such file").await;
        fs::set_permissions(&hooks, fs::Permissions::from_mode(0o777)).unwrap();
        refused(&config, "good", "others may change").await;
    }

    #[test]
    fn what_is_the_helpers_to_say_cannot_be_told() {
        let told = BTreeMap::from([("VSM_EVENT".to_owned(), "lie".to_owned())]);
        let all = environment(Moment::Reconnect, told);
        assert_eq!(all["VSM_EVENT"], "reconnect");
        assert_eq!(all.len(), 3);
    }
}
