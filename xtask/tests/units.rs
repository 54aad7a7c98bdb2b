//! What systemd makes of the units as they are in the repository, without a systemd that runs.

use std::path::Path;
use std::process::Command;

/// What `systemd-analyze security` may say of each at most; docs/packaging.md has a reason for what remains.
const MOST: [(&str, &str, f64); 4] = [
    ("systemd", "vsmserver", 2.0),
    ("systemd", "vsm-root", 2.5),
    ("systemd", "vsm-agent-net", 2.0),
    ("web", "vsm-web", 2.0),
];

#[test]
fn the_units_are_closed_as_far_as_the_documents_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (dir, unit, most) in MOST {
        let file = root.join("deploy").join(dir).join(format!("{unit}.service"));
        let mut ask = Command::new("systemd-analyze");
        ask.args(["security", "--no-pager", "--offline=true"]).arg(file);
        let output = ask.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let line = said.lines().find(|line| line.contains("Overall exposure level")).unwrap();
        let figure = line.split(": ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(figure.parse::<f64>().unwrap() <= most, "{line}");
        let documented = std::fs::read_to_string(root.join("docs/packaging.md")).unwrap();
        assert!(documented.contains(&format!("| `{unit}` | {figure} |")), "{line}");
    }
}
