//! The packages as they are on a host: complete, sound, and what they say of themselves is so.

use std::process::Command;

use super::{hosts, install, sh, try_sh};

const HOST: &str = "tlha-primary";
/// Programs that are a few lines of shell.
const SCRIPTS: [&str; 3] = ["vsm-memberof-group", "vsm-single-app", "vsm-support"];
/// What `systemd-analyze security` may say of a unit at most, times ten: docs/packaging.md has the figures.
const EXPOSURE_MAX: [(&str, &str); 3] =
    [("vsmserver", "20"), ("vsm-root", "25"), ("vsm-agent-net", "20")];

#[test]
fn every_program_and_unit_is_as_it_should_be() {
    let cluster = hosts("pkg-whole");
    install(&cluster, HOST, "now", &["vsm-common", "vsm-server", "vsm-agent", "vsm-client"]);

    let programs = sh(&cluster, HOST, "cd /usr/bin && ls vsm*");
    assert_eq!(programs.lines().count(), 20, "{programs}");
    // What one says all say; it is a commit of this history, or unknown where there is no git.
    let said = sh(&cluster, HOST, "vsm --version");
    let build = said.strip_prefix("vsm ").unwrap();
    let commit =
        build.strip_prefix(concat!(env!("CARGO_PKG_VERSION"), " (")).unwrap().trim_end_matches(')');
    let known = Command::new("git").args(["merge-base", "--is-ancestor", commit, "HEAD"]).status();
    assert!(commit == "unknown" || known.unwrap().success(), "{said}");
    for program in programs.lines() {
        if !SCRIPTS.contains(&program) {
            let said = sh(&cluster, HOST, &format!("{program} --version"));
            assert_eq!(said, format!("{program} {build}"));
        }
        let page = sh(&cluster, HOST, &format!("man --warnings {program} | col -b"));
        // Blanks are stretched to fill the lines.
        let words = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(&format!("NAME {program} ")), "{page}");
    }
    let completions = "for file in /usr/share/bash-completion/completions/vsm*; do bash -n $file && basename $file; done";
    assert_eq!(sh(&cluster, HOST, completions).lines().count(), 15);

    // Nothing differs from what the packages say; the configuration is one that the tools accept; links lead somewhere.
    assert_eq!(sh(&cluster, HOST, "dpkg --verify vsm-common vsm-server vsm-agent vsm-client"), "");
    assert_eq!(sh(&cluster, HOST, "vsm-config check"), "");
    assert_eq!(
        sh(
            &cluster,
            HOST,
            "dpkg-query --show --showformat='${Conffiles}\\n' vsm-agent | grep -c ' /etc/'"
        ),
        "5"
    );
    let (_, unsound) = try_sh(
        &cluster,
        HOST,
        "systemd-analyze verify vsmserver.service vsm-root.service vsmagent.service vsm-agent-net.service | grep vsm",
    );
    assert_eq!(unsound, "");
    for (unit, most) in EXPOSURE_MAX {
        let ask = format!("systemd-analyze security --no-pager --threshold={most} {unit}.service");
        sh(&cluster, HOST, &ask);
    }
    the_unit_can_take_what_the_other_node_gives(&cluster);
    assert!(
        sh(&cluster, HOST, "stat --format='%U %G %a' /run/vsm && getent group vsmadmin")
            .starts_with("root vsmserver 1775\nvsmadmin:")
    );
}

/// In the helper's sandbox a file of the configuration can be edited, as `vsmctl config push` on the other node has it
/// done, and nothing else of `/etc`.
fn the_unit_can_take_what_the_other_node_gives(cluster: &xtask::cluster::Cluster) {
    let of_unit = |key: &str| format!("-p \"$(systemctl show -p {key} vsm-root)\" ");
    let sandbox: String =
        ["ProtectSystem", "ReadWritePaths", "CapabilityBoundingSet", "NoNewPrivileges", "UMask"]
            .map(of_unit)
            .concat();
    let inside = format!("run() {{ systemd-run --quiet --wait --pipe {sandbox} \"$@\"; }}; ");
    sh(cluster, HOST, &format!("{inside} run vsm-config /vsmserver/start_attempts=4"));
    assert_eq!(sh(cluster, HOST, "vsm-config /vsmserver/start_attempts"), "4");
    sh(cluster, HOST, &format!("{inside} ! run touch /etc/vsm/other"));
    sh(cluster, HOST, "vsm-config /vsmserver/start_attempts=3");
}
