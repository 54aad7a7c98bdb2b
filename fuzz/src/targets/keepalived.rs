//! keepalived's configuration, in which `flush-address` looks for the addresses that it takes away. It is a shell
//! script: nothing tells libFuzzer which of its lines were reached, so this is no more than many variants.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/keepalived/flush-address");
/// In the place of `ip`: notes which address is looked for.
const IP: &str = "#!/bin/sh\n[ \"$3\" = show ] && echo \"$5\" >>\"${0%/*}/seen\"\nexit 0\n";

static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let names_a_file = |line: &str| line.contains("include") && line.contains(['/', '*', '?', '[']);
    // Those would be files of this machine. A shell drops what no text has.
    if text.lines().any(names_a_file) || text.contains('\0') {
        return;
    }
    let dir = FOLDER.get_or_init(folder).path();
    fs::write(dir.join("keepalived.conf"), text).expect("a file");
    let told = looked_for(dir);
    for address in told.lines() {
        let is_address = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
        assert!(address.chars().all(is_address), "{address:?}");
        assert!(text.contains('$') || text.contains(address), "{address:?} is not in {text:?}");
    }
    assert!(told.is_empty() || text.contains("virtual_ipaddress") || text.contains('$'));
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let ip = dir.path().join("ip");
    fs::write(&ip, IP).expect("a program");
    fs::set_permissions(&ip, fs::Permissions::from_mode(0o755)).expect("a program");
    dir
}

/// The addresses that are looked for, a line each.
fn looked_for(dir: &Path) -> String {
    let seen = dir.join("seen");
    fs::write(&seen, "").expect("a file");
    let mut script = Command::new("/bin/sh");
    script.arg(SCRIPT).arg(dir.join("keepalived.conf")).stdin(Stdio::null());
    script.env("PATH", format!("{}:/usr/bin:/bin", dir.display()));
    let out = script.output().expect("a shell");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.is_empty(), "{:?}: {said}", out.status);
    fs::read_to_string(&seen).expect("a file")
}
