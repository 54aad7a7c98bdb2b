//! Packets that get lost: one table of rules at the switch, written anew for the faults in force.
//!
//! The switch drops frames between its ports, so a host cannot tell it from a broken network, and
//! no rule depends on whether the host is on.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};

use super::super::lock::Lock;
use super::super::net;
use super::super::spec::{Layout, SWITCH, netns, state_dir};
use super::{Fault, Traffic};
use crate::command::{command, run};

/// Replaces all rules at once by those of `faults`.
pub(super) fn apply(layout: &Layout, faults: &[Fault], lock: &Lock) -> Result<()> {
    let file = state_dir(&layout.name).join("faults.nft");
    fs::write(&file, script(faults)?).with_context(|| file.display().to_string())?;
    let switch = net::path(&netns(&layout.name, SWITCH));
    let mut nft = command(&["nsenter"]);
    nft.arg(format!("--net={}", switch.display())).args(["nft", "--file"]).arg(&file);
    run(lock.lend(&mut nft)?)?;
    Ok(())
}

/// The table is declared first so that deleting it works also where there is none.
fn script(faults: &[Fault]) -> Result<String> {
    let mut text = "table bridge vsm_faults\ndelete table bridge vsm_faults\n".to_owned();
    let rules: Vec<_> = faults.iter().flat_map(rules).collect();
    if rules.is_empty() {
        return Ok(text);
    }
    text += "table bridge vsm_faults {\nchain forward {\n";
    text += "type filter hook forward priority 0; policy accept;\n";
    for rule in rules {
        writeln!(text, "{rule}")?;
    }
    Ok(text + "}\n}\n")
}

fn rules(fault: &Fault) -> Vec<String> {
    if let Fault::Loss { host, percent } = fault {
        // nft refuses a comparison that is always true.
        let part = match percent {
            ..100 => format!("numgen random mod 100 < {percent} "),
            _ => String::new(),
        };
        let lose = |way: &str| format!("{way} \"{host}\" {part}drop");
        return ["iifname", "oifname"].map(lose).into();
    }
    let Fault::Cut { from, to, traffic } = fault else { return Vec::new() };
    let which: &[_] = match traffic {
        Traffic::All => &[""],
        Traffic::Vrrp => &["ip protocol 112 "],
        // ARP goes through: without it VRRP would end too, some time later.
        Traffic::AllButVrrp => &["ether type ip ip protocol != 112 ", "ether type ip6 "],
    };
    let way = format!("iifname \"{from}\" oifname \"{to}\"");
    which.iter().map(|which| format!("{way} {which}drop")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_those_of_the_faults_in_force() {
        let cut = Fault::partition("a", "b", Traffic::Vrrp);
        let loss = Fault::Loss { host: "c".to_owned(), percent: 30 };
        let text = script(&[&cut[..], &[loss]].concat()).unwrap();
        let drops: Vec<_> = text.lines().filter(|line| line.ends_with(" drop")).collect();
        assert_eq!(
            drops,
            [
                "iifname \"a\" oifname \"b\" ip protocol 112 drop",
                "iifname \"b\" oifname \"a\" ip protocol 112 drop",
                "iifname \"c\" numgen random mod 100 < 30 drop",
                "oifname \"c\" numgen random mod 100 < 30 drop",
            ]
        );
        let none = script(&[Fault::Cable { host: "a".to_owned() }]).unwrap();
        assert!(none.ends_with("delete table bridge vsm_faults\n"), "{none}");
    }
}
