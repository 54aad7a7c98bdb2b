//! Parameters of the other node, put into this node's files: none by which a broker could have root run something, or
//! change where this node's own things are.

use std::{collections::BTreeMap, path::Path};

use vsm_config::{ToolError, keys::PARAMS};

use crate::message::Answer;

/// Why a parameter is not taken from another node.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("{0} is a parameter of each node's own")]
    Own(String),
    #[error(
        "{0} names what root runs, and a broker has no say in that: set it by hand on each node (vsm-config, then vsmctl reload)"
    )]
    Program(String),
}

/// Takes them, all or none.
pub(crate) fn adopt(dir: &Path, set: &BTreeMap<String, String>, drop: &[String]) -> Answer {
    if let Some(why) = set.keys().chain(drop).find_map(|path| unfit(path)) {
        return Answer::Refused(why.to_string());
    }
    let accept = |new: &vsm_config::Config| new.check().map_err(|error| error.to_string());
    match vsm_config::adopt(dir, set, drop, accept) {
        Ok(_) => Answer::Done,
        Err(ToolError::Write(why)) => Answer::Unwritten(why),
        Err(error) => Answer::Failed(error.to_string()),
    }
}

/// A path is compared as the files have it: the same one in other words is none.
fn unfit(path: &str) -> Option<Unfit> {
    let path = vsm_config::canonical(path);
    if vsm_config::is_nodes_own(&path) {
        return Some(Unfit::Own(path));
    }
    let is_program = PARAMS.iter().any(|param| param.path == path && param.names_roots_program());
    is_program.then_some(Unfit::Program(path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn nothing_that_root_runs_or_that_is_the_nodes_own_comes_from_another_node() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("vsmserver.yaml");
        let before = "vsmserver:\n  login_timeout: 55s\n  mail_program: /usr/sbin/sendmail\n";
        fs::write(&file, before).unwrap();
        let good = ("/vsmserver/login_timeout", "66s");
        let taken = |set: &[(&str, &str)], drop: &[&str]| {
            let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let drop: Vec<String> = drop.iter().map(|path| (*path).to_owned()).collect();
            adopt(dir.path(), &set, &drop)
        };
        for bad in [
            "/vsmserver/mail_program",
            "vsmserver/mail_program",
            "/vsmserver/mail_program/",
            "//vsmserver///mail_program",
            "/vsmserver/hooks/startup_dir",
            "/vsmserver/hooks/reconnect_dir",
            "/tls/key_file",
            "/vsmagent/xserver_args",
            "/vsmserver/state_dir",
            "/vsmserver/user_socket",
            "/vsmserver/logging/logfile",
        ] {
            let set = taken(&[good, (bad, "/tmp/x")], &[]);
            let dropped = taken(&[good], &[bad]);
            for answer in [set, dropped] {
                assert!(
                    matches!(answer, Answer::Refused(_) | Answer::Failed(_)),
                    "{bad}: {answer:?}"
                );
            }
            assert_eq!(fs::read_to_string(&file).unwrap(), before, "{bad}");
        }
        let refused = taken(&[("/vsmserver/mail_program", "/tmp/x")], &[]);
        assert!(matches!(refused, Answer::Refused(why) if why.contains("root runs")));
        assert!(matches!(taken(&[("/vsmserver/nonsense", "1")], &[]), Answer::Failed(_)));
        assert_eq!(taken(&[good], &[]), Answer::Done);
        assert!(fs::read_to_string(&file).unwrap().contains("66s"));
        let nowhere = adopt(Path::new("/proc/nowhere"), &BTreeMap::new(), &[]);
        assert!(matches!(nowhere, Answer::Unwritten(_)), "{nowhere:?}");
    }
}
