//! `flush-address` with a program in the place of `ip`: which addresses it takes for keepalived's.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::{env, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/keepalived/flush-address");

/// The addresses that are looked for, with these files.
fn looked_for(files: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (name, text) in files {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), text).unwrap();
    }
    let ip = at("bin/ip");
    fs::create_dir_all(ip.parent().unwrap()).unwrap();
    fs::write(&ip, "#!/bin/sh\n[ \"$3\" = show ] && echo \"$5\" >> \"${0%/*}/../seen\"\nexit 0\n")
        .unwrap();
    fs::set_permissions(&ip, fs::Permissions::from_mode(0o755)).unwrap();
    let path = env::join_paths([at("bin").as_path(), Path::new("/usr/bin"), Path::new("/bin")]);
    let out = Command::new("sh")
        .arg(SCRIPT)
        .arg(at("keepalived.conf"))
        .env("PATH", path.unwrap())
        .output()
        .unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    let seen = fs::read_to_string(at("seen")).unwrap_or_default();
    seen.lines().map(str::to_owned).collect()
}

#[test]
fn all_ways_in_which_people_write_it_are_understood() {
    for text in [
        "vrrp_instance A {\n  virtual_ipaddress {\n    10.0.0.4/24 dev eth0 label x\n    fd00::4/64\n  }\n}\n",
        "vrrp_instance A\n{\n  virtual_ipaddress\n  {\n    10.0.0.4/24\n    fd00::4\n  }\n  virtual_routes {\n 10.9.9.9\n }\n}",
        "vrrp_instance A { virtual_ipaddress { 10.0.0.4 }\n virtual_ipaddress_excluded { fd00::4 } }",
        "$VIP=10.0.0.4/24\n$SIX = fd00::4\nvrrp_instance A {\n virtual_ipaddress {\n $VIP dev eth0\n ${SIX}\n }\n}\n",
        "$ALL=\\\n 10.0.0.4/24 \\\n fd00::4\nvrrp_instance A {\n virtual_ipaddress { # of us\n $ALL\n ! 10.1.1.1\n }\n}\n",
        "include vrrp/*.conf\ninclude keepalived.conf\n",
        "include \"vrrp/a.conf\"\n",
    ] {
        let files = [
            ("keepalived.conf", text),
            ("vrrp/a.conf", "include deep\n"),
            (
                "vrrp/deep",
                "vrrp_instance A {\nvirtual_ipaddress\n{\n10.0.0.4/24\n}\nvirtual_ipaddress_excluded {\nfd00::4\n}\n}",
            ),
        ];
        let mut found = looked_for(&files);
        found.dedup();
        found.truncate(2);
        assert_eq!(found, ["10.0.0.4", "fd00::4"], "{text}");
    }
}

#[test]
fn nothing_else_is_taken() {
    let text = "global_defs {\n smtp_server 10.0.0.1\n}\nvrrp_instance A {\n unicast_peer {\n 10.0.0.2\n }\n}\n";
    assert_eq!(looked_for(&[("keepalived.conf", text)]), Vec::<String>::new());
}
