//! What systemd makes of the units as they are in the repository, without a systemd that runs.

use std::path::Path;
use std::process::Command;

/// What `systemd-analyze security` may say of each at most; docs/packaging.md has a reason for what remains.
const MOST: [(&str, f64); 3] = [("vsmserver", 2.0), ("vsm-root", 2.5), ("vsm-agent-net", 2.0)];

#[test]
fn the_units_are_closed_as_far_as_the_documents_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/systemd");
    for (unit, most) in MOST {
        let file = dir.join(format!("{unit}.service"));
        let mut ask = Command::new("systemd-analyze");
        ask.args(["security", "--no-pager", "--offline=true"]).arg(file);
        let output = ask.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let line = said.lines().find(|line| line.contains("Overall exposure level")).unwrap();
        let figure = line.split(": ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(figure.parse::<f64>().unwrap() <= most, "{line}");
        let documented = std::fs::read_to_string(dir.join("../../docs/packaging.md")).unwrap();
        assert!(documented.contains(&format!("| `{unit}` | {figure} |")), "{line}");
    }
}
