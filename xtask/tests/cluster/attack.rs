//! `cargo xtask attack`, so that it does not rot: some of its attempts on the product as it is, and on a product with a
//! hole, which they find.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::XTASK;

/// The file in which a program with holes looks for its own, as `vsm_daemon::hole` has it.
const SWITCH: &[u8] = b"/etc/vsm/hole";

/// A run of some attempts: its JSON, and whether it ended well.
fn run(options: &[&str]) -> (Value, bool) {
    let mut command = Command::new(XTASK);
    command.args(["attack", "--json", "--no-build", "--quiet", "1", "--name"]);
    command.arg(crate::named("attack"));
    let output = command.args(options).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&said).unwrap_or_else(|error| {
        panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr))
    });
    (json, output.status.success())
}

#[test]
fn some_attempts_are_refused_and_each_of_them_has_a_control() {
    let only = [
        "--only",
        "read-the-cookie",
        "pose-as-the-x-server",
        "end-anothers-desktop",
        "open-the-administrators-socket",
        "mallory-calls-admin",
        "epoch-accept-key",
        "issued-as-a-broker",
        "hold-the-users-socket",
    ];
    let (json, good) = run(&only);
    assert!(good, "{json:#}");
    for (count, wanted) in
        [("attempts", 8), ("refused", 8), ("succeeded", 0), ("disturbed", 0), ("broken", 0)]
    {
        assert_eq!(json[count], wanted, "{count}: {json:#}");
    }
    assert_eq!(json["logins"]["failed"], 0);
    assert!(json["logins"]["made"].as_u64().unwrap() >= 8, "{json:#}");
    for case in json["cases"].as_array().unwrap() {
        assert!(case["control"].as_str().unwrap().starts_with("won"), "{case}");
    }
}

/// The programs with holes are apart; only they have the switch, and with a hole the same attempts end badly.
#[test]
fn a_hole_is_in_programs_of_its_own_and_is_found() {
    let debug = Path::new(XTASK).parent().unwrap();
    let holes = debug.with_file_name("holes");
    let has = |dir: &Path, program: &str| {
        let bytes = fs::read(dir.join(program));
        let bytes = bytes.unwrap_or_else(|error| {
            panic!("{program}: {error}: cargo xtask attack --hole NAME builds those with holes")
        });
        bytes.windows(SWITCH.len()).any(|part| part == SWITCH)
    };
    for program in ["vsmserver", "vsmagent", "vsm-agent-net", "vsm-session"] {
        assert!(!has(debug, program), "{program} has a switch for holes");
        assert!(has(&holes, program), "{program} has no switch for holes");
    }
    let (json, good) = run(&["--hole", "abstract-name"]);
    assert!(!good, "{json:#}");
    assert_eq!(json["hole"], "abstract-name");
    assert_eq!(json["succeeded"], 1, "{json:#}");
    assert_eq!(json["cases"][0]["name"], "pose-as-the-x-server");
}
