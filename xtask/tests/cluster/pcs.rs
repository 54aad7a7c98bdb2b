//! The configuration of Pacemaker for pcs says the same as the one for crmsh, with which the tests run.
//!
//! pcs writes it into a file instead of the cluster. Then both are compared as facts: which element stands in which
//! resource with which attributes. The tools name elements and order them each in its way, and one writes what is the
//! default anyway.

use std::collections::BTreeSet;

use xtask::pair::NODES;

use crate::pair_of_brokers::Pair;

/// Runs vsm.pcs with a pcs that works on a file, which holds the two nodes and nothing else. pcs looks at the agents'
/// meta-data too, so what it does not refuse exists.
const MAKE: &str = "set -e
    mkdir -p /tmp/pcs; cd /tmp/pcs
    cibadmin --empty > cib.xml
    for node in 1:tlha-primary 2:tlha-secondary; do
        CIB_file=cib.xml cibadmin --create --scope nodes --xml-text \"<node id='${node%:*}' uname='${node#*:}'/>\"
    done
    printf '#!/bin/sh\\nexec /usr/sbin/pcs -f /tmp/pcs/cib.xml \"$@\"\\n' > pcs; chmod 755 pcs
    PATH=/tmp/pcs:$PATH sh /etc/vsm.pcs >&2
    CIB_file=cib.xml cibadmin --query --scope configuration";
/// Without nodes that run, the check warns of that. What is wrong in the configuration itself is an error.
const CHECK: &str = "crm_verify --verbose --xml-file /tmp/pcs/cib.xml 2>&1 | grep error: || true";

/// On a pair whose configuration was loaded by crmsh.
pub(crate) fn makes_the_same(pair: &Pair) {
    let crm = facts(&pair.sh(NODES[0], "cibadmin --query --scope configuration"));
    let pcs = facts(&pair.sh(NODES[0], MAKE));
    let lacks: Vec<_> = crm.difference(&pcs).collect();
    let has: Vec<_> = pcs.difference(&crm).collect();
    assert!(lacks.is_empty() && has.is_empty(), "vsm.pcs lacks {lacks:#?}, and has {has:#?}");
    // 2 properties, 5 resources, 12 operations, 2 fencing levels, 4 constraints and what is between them.
    assert!(crm.len() > 40, "{crm:#?}");
    assert_eq!(pair.sh(NODES[0], CHECK), "");
}

/// What Pacemaker and the tools write by themselves: properties of the running cluster, defaults, and an operation that
/// only serves to document that the agent has it.
const BY_THEMSELVES: [&str; 8] = [
    "name=have-watchdog",
    "name=dc-version",
    "name=cluster-infrastructure",
    "name=cluster-name",
    "name=last-lrm-refresh",
    "name=reload",
    "<node ",
    "<!--",
];
const DEFAULTS: [&str; 2] = ["rsc-role=Started", "kind=Mandatory"];
/// Elements whose ids are ours.
const NAMED: [&str; 2] = ["primitive", "clone"];

/// Each element with its attributes, below the resources that it stands in.
fn facts(xml: &str) -> BTreeSet<String> {
    let (mut facts, mut above) = (BTreeSet::new(), Vec::<String>::new());
    for line in xml.lines().map(str::trim).filter(|line| line.starts_with('<')) {
        if line.starts_with("</") {
            above.pop();
            continue;
        }
        let end = line.find([' ', '>', '/']).unwrap_or(line.len());
        let tag = &line[1..end];
        let mut attributes: Vec<_> = line
            .split("=\"")
            .collect::<Vec<_>>()
            .windows(2)
            .map(|pair| {
                let name = pair[0].rsplit(' ').next().unwrap();
                format!("{name}={}", pair[1].split('"').next().unwrap())
            })
            .filter(|it| NAMED.contains(&tag) || !it.starts_with("id="))
            .collect();
        attributes.retain(|it| !DEFAULTS.contains(&it.as_str()));
        attributes.sort();
        let fact = format!("{} <{tag} {}", above.join(" "), attributes.join(" "));
        if !line.ends_with("/>") && !line.ends_with("-->") {
            let id = attributes.iter().find(|it| it.starts_with("id="));
            above.push(id.map_or(tag, |id| &id[3..]).to_owned());
        }
        if !BY_THEMSELVES.iter().any(|it| fact.contains(it)) {
            facts.insert(fact);
        }
    }
    facts
}
