//! Whether there is the PAM service that desktops are opened with. Without it PAM takes the service `other`, which lets
//! in nobody or everybody, and either is not what was meant.

use std::path::Path;

use vsm_daemon::trouble::Kind;

use super::Agent;

/// Where services are: the administrator's, and those that come with packages where PAM is built so.
const DIRS: [&str; 3] = ["/etc/pam.d", "/usr/lib/pam.d", "/usr/etc/pam.d"];

/// Tells whether it is missing. These are local files: looked at on the spot.
pub(super) fn look(agent: &Agent) {
    let missing = missing(&DIRS, &agent.settings().session.pam_service);
    agent.troubles.set(Kind::Pam, "", missing);
}

fn missing(dirs: &[&str], service: &str) -> Option<String> {
    // As PAM takes it.
    let name = service.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    // Without the first PAM reads /etc/pam.conf.
    let first = dirs.first().map(Path::new).filter(|dir| dir.is_dir())?;
    // Where it cannot be looked at it may be there.
    let is_gone = |dir: &&str| matches!(Path::new(dir).join(&name).try_exists(), Ok(false));
    let what = || {
        format!(
            "{} is missing (/vsmagent/pam_service): PAM takes the service other in its place, which as a rule refuses everybody",
            first.join(&name).display()
        )
    };
    dirs.iter().all(is_gone).then(what)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_service_that_is_nowhere_is_told_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["etc", "usr"].map(|name| dir.path().join(name).display().to_string());
        let dirs = [paths[0].as_str(), paths[1].as_str()];
        assert_eq!(missing(&dirs, "vsm"), None, "a host that has /etc/pam.conf");
        for dir in dirs {
            fs::create_dir(dir).unwrap();
        }
        let told = missing(&dirs, "VSM").unwrap();
        assert!(told.starts_with(&format!("{}/vsm is missing", dirs[0])), "{told}");
        for place in dirs {
            fs::write(format!("{place}/vsm"), "").unwrap();
            assert_eq!(missing(&dirs, "vsm"), None);
            fs::remove_file(format!("{place}/vsm")).unwrap();
        }
    }
}
