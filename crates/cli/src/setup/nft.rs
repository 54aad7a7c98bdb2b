//! Rules of nft, as it tells them in JSON (libnftables-json(5)).

use std::fmt;

use serde_json::{Value, json};

use super::rule::{COMMENT, Rule};

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    family: String,
    table: String,
    name: String,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

/// What a listing holds of one kind.
fn all<'a>(listing: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    listing["nftables"].as_array().into_iter().flatten().filter_map(move |item| item.get(kind))
}

/// Whether a listing of all chains has one in this table.
pub(crate) fn has_table(listing: &Value, family: &str, table: &str) -> bool {
    all(listing, "chain").any(|chain| chain["family"] == family && chain["table"] == table)
}

/// The first chain that filters what comes in.
pub(crate) fn input_chain(listing: &Value) -> Option<Chain> {
    let filters = |chain: &&Value| chain["type"] == "filter" && chain["hook"] == "input";
    let chain = all(listing, "chain").find(filters)?;
    let text = |key: &str| chain[key].as_str().map(str::to_owned);
    Some(Chain { family: text("family")?, table: text("table")?, name: text("name")? })
}

/// The number of a rule of ours in the listing of its chain, if it is there.
pub(crate) fn handle(listing: &Value, rule: &Rule) -> Option<u64> {
    let is = |protocol: &str, field: &str, right: Value| {
        let left = json!({ "payload": { "protocol": protocol, "field": field } });
        json!({ "match": { "op": "==", "left": left, "right": right } })
    };
    let source = rule.source.map(|source| is(family(rule), "saddr", source.to_string().into()));
    let port = is("tcp", "dport", rule.port.into());
    let wanted: Value = source.into_iter().chain([port, json!({ "accept": null })]).collect();
    let ours = |it: &&Value| it["comment"] == COMMENT && it["expr"] == wanted;
    all(listing, "rule").find(ours)?["handle"].as_u64()
}

/// How nft names the family of the addresses of a rule.
pub(super) fn family(rule: &Rule) -> &'static str {
    if rule.source.is_some_and(|source| source.is_ipv6()) { "ip6" } else { "ip" }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 prints it.
    const LISTING: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
        {"chain": {"family": "inet", "table": "filter", "name": "forward", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
        {"chain": {"family": "inet", "table": "filter", "name": "jumped", "handle": 9}},
        {"chain": {"family": "inet", "table": "filter", "name": "in", "handle": 2, "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
        {"rule": {"family": "inet", "table": "filter", "chain": "in", "handle": 3, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 905}}, {"accept": null}]}},
        {"rule": {"family": "inet", "table": "filter", "chain": "in", "handle": 4, "comment": "vsm-setup", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "saddr"}}, "right": "fe80::1"}}, {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 904}}, {"accept": null}]}},
        {"rule": {"family": "inet", "table": "filter", "chain": "in", "handle": 5, "comment": "vsm-setup", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 906}}, {"accept": null}]}}]}"#;

    #[test]
    fn the_chain_for_what_comes_in_is_found() {
        let listing = serde_json::from_str(LISTING).unwrap();
        assert_eq!(input_chain(&listing).unwrap().to_string(), "inet filter in");
        assert!(has_table(&listing, "inet", "filter"));
        assert!(!has_table(&listing, "inet", "firewalld"));
        assert_eq!(input_chain(&Value::Null), None);
    }

    #[test]
    fn a_rule_is_known_by_what_it_does_and_by_its_mark() {
        let listing = serde_json::from_str(LISTING).unwrap();
        let rule = |port, source: Option<&str>| Rule {
            port,
            source: source.map(|source| source.parse().unwrap()),
        };
        assert_eq!(handle(&listing, &rule(904, Some("fe80::1"))), Some(4));
        assert_eq!(handle(&listing, &rule(906, None)), Some(5));
        for other in [rule(904, None), rule(904, Some("fe80::2")), rule(905, None)] {
            assert_eq!(handle(&listing, &other), None, "{other:?}");
        }
    }
}
