//! The OCF agent by itself, as Pacemaker calls it: `ocf-tester`, and what it says when a parameter is wrong. How
//! Pacemaker uses it is looked at in `pacemaker`.

use std::process::Output;

use xtask::pair::NODES;

use crate::pair_of_brokers::{Pair, with_source};

const AGENT: &str = include_str!("../../../deploy/pacemaker/vsmserver");
const CONFIGURED: i32 = 6;
const INSTALLED: i32 = 5;
const NOT_RUNNING: i32 = 7;

/// A pair whose first node leaves its broker to the agent.
fn with_agent(name: &str) -> Pair {
    xtask::setup::pacemaker().unwrap();
    let pair = Pair::up(name);
    for node in NODES {
        pair.stop_daemon(node, "keepalived").unwrap();
    }
    with_source(&pair, "cluster", "");
    pair.stop_daemon(NODES[0], "vsmserver").unwrap();
    let write =
        format!("cat > /tmp/agent <<'OF_THE_AGENT'\n{AGENT}\nOF_THE_AGENT\nchmod 755 /tmp/agent");
    pair.sh(NODES[0], &write);
    pair
}

/// One call of the agent, with variables as Pacemaker gives them.
fn call(pair: &Pair, variables: &str, action: &str) -> Output {
    let line = format!("OCF_ROOT=/usr/lib/ocf {variables} /tmp/agent {action}");
    pair.exec(NODES[0], "root", &["sh", "-c", &line]).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_agent_passes_ocf_tester() {
    let pair = with_agent("ocf-tester");
    let told = pair.exec(NODES[0], "root", &["ocf-tester", "-v", "-n", "vsmserver", "/tmp/agent"]);
    let told = told.unwrap();
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{text}{}", said(&told));
    assert!(text.contains("/tmp/agent passed all tests"), "{text}");
    assert!(!text.contains("does not support promotable"), "{text}");
}

#[test]
fn a_missing_or_wrong_parameter_is_named() {
    let pair = with_agent("ocf-parameters");
    let cases = [
        ("OCF_RESKEY_binary=", CONFIGURED, "parameter binary is empty"),
        ("OCF_RESKEY_config=", CONFIGURED, "parameter config is empty"),
        ("OCF_RESKEY_config=etc/vsm", CONFIGURED, "parameter config=etc/vsm is not an absolute"),
        ("OCF_RESKEY_promote_wait=soon", CONFIGURED, "parameter promote_wait=soon is not a number"),
        ("OCF_RESKEY_binary=/usr/bin/nothing", INSTALLED, "parameter binary: there is no program"),
        ("OCF_RESKEY_ctl=/usr/bin/nothing", INSTALLED, "parameter ctl: there is no program"),
        ("OCF_RESKEY_config=/nowhere", INSTALLED, "parameter config: there is no directory"),
        ("OCF_RESKEY_crm_feature_set=3.16.2", CONFIGURED, "meta attribute promotable"),
    ];
    for (variables, code, words) in cases {
        for action in ["validate-all", "start"] {
            let told = call(&pair, variables, action);
            assert_eq!(told.status.code(), Some(code), "{variables} {action}: {}", said(&told));
            assert!(said(&told).contains(words), "{variables} {action}: {}", said(&told));
        }
    }
    // A node that is not to run it need not have it: a probe and a stop there are no errors.
    let missing = "OCF_RESKEY_CRM_meta_interval=0 OCF_RESKEY_binary=/usr/bin/nothing";
    assert_eq!(call(&pair, missing, "monitor").status.code(), Some(NOT_RUNNING));
    assert_eq!(call(&pair, missing, "stop").status.code(), Some(0));
    assert_eq!(call(&pair, "OCF_RESKEY_binary=", "notify").status.code(), Some(0), "never fails");
    assert_eq!(call(&pair, "", "nonsense").status.code(), Some(3));

    // What is wrong in the configuration itself is told in its own words.
    pair.sh(NODES[0], "echo 'vsmserver: {HA: {enabled: perhaps}}' > /etc/vsm/conf.d/99-bad.yaml");
    let told = call(&pair, "", "start");
    assert_eq!(told.status.code(), Some(CONFIGURED), "{}", said(&told));
    assert!(
        said(&told).contains("parameter config") && said(&told).contains("HA/enabled"),
        "{told:?}"
    );
    pair.sh(NODES[0], "rm /etc/vsm/conf.d/99-bad.yaml");

    // A broker that decides by itself cannot be promoted.
    pair.sh(NODES[0], "vsm-config /vsmserver/HA/role_source=address");
    assert_eq!(call(&pair, "", "start").status.code(), Some(0));
    let told = call(&pair, "", "promote");
    assert_eq!(told.status.code(), Some(CONFIGURED), "{}", said(&told));
    assert!(said(&told).contains("role_source"), "{}", said(&told));
    assert_eq!(call(&pair, "", "stop").status.code(), Some(0));
}
