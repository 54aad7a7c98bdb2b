//! The packages as they are on a host: complete, sound, and what they say of themselves is so.

use std::process::Command;

use super::{hosts, install, sh, try_sh};

const HOST: &str = "tlha-primary";
/// What `systemd-analyze security` may say of the broker's unit at most, times ten: docs/packaging.md has the figure.
const EXPOSURE_MAX: &str = "25";

#[test]
fn every_program_and_unit_is_as_it_should_be() {
    let cluster = hosts("pkg-whole");
    install(&cluster, HOST, "now", &["vsm-common", "vsm-server", "vsm-agent", "vsm-client"]);

    let git = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = git
        .ok()
        .filter(|git| git.status.success())
        .map(|git| String::from_utf8(git.stdout).unwrap());
    let commit = commit.unwrap_or_else(|| "unknown".to_owned());
    let programs = sh(&cluster, HOST, "cd /usr/bin && ls vsm*");
    assert_eq!(programs.lines().count(), 9, "{programs}");
    for program in programs.lines() {
        let wanted = format!("{program} {} ({})", env!("CARGO_PKG_VERSION"), commit.trim());
        assert_eq!(sh(&cluster, HOST, &format!("{program} --version")), wanted);
        // man spreads the words of a line, as wide as it thinks the terminal is.
        let page = format!("man --warnings {program} | col -b | tr --squeeze-repeats ' '");
        let page = sh(&cluster, HOST, &page);
        assert!(page.contains("NAME") && page.contains(&format!("{program} - ")), "{page}");
    }
    let completions = "for file in /usr/share/bash-completion/completions/vsm*; do bash -n $file && basename $file; done";
    assert_eq!(sh(&cluster, HOST, completions).lines().count(), 7);

    // Nothing differs from what the packages say; the configuration is one that the tools accept; links lead somewhere.
    assert_eq!(sh(&cluster, HOST, "dpkg --verify vsm-common vsm-server vsm-agent vsm-client"), "");
    assert_eq!(sh(&cluster, HOST, "vsm-config check"), "");
    assert_eq!(
        sh(&cluster, HOST, "dpkg-query --show --showformat='${Conffiles}\\n' vsm-agent | wc -l"),
        "3"
    );
    let (_, unsound) = try_sh(
        &cluster,
        HOST,
        "systemd-analyze verify vsmserver.service vsmagent.service | grep vsm",
    );
    assert_eq!(unsound, "");
    sh(
        &cluster,
        HOST,
        &format!(
            "systemd-analyze security --no-pager --threshold={EXPOSURE_MAX} vsmserver.service"
        ),
    );
    assert!(
        sh(&cluster, HOST, "stat --format='%U %G %a' /run/vsm && getent group vsmadmin")
            .starts_with("root root 755\nvsmadmin:")
    );
}
