//! Checks that need more than one parameter: contradictions are problems, oddities are notes.

use std::collections::BTreeMap;

use crate::{
    config::{Config, Subcluster},
    host::one_spelling,
    keys,
    merge::Merged,
    problem::Problem,
    profiles, risky,
};

/// Parts of the broker whose level of logging can be set apart.
pub const SERVER_LOGGERS: [&str; 6] = ["session", "agents", "ha", "admin", "loadinfo", "extcmd"];
/// Parts of the agent whose level of logging can be set apart.
pub const AGENT_LOGGERS: [&str; 3] = ["session", "broker", "loadinfo"];

/// Adds what the settings are together to the problems and notes of `merged`.
pub(crate) fn cross(merged: &mut Merged) {
    let config = Config::of(Merged { settings: merged.settings.clone(), ..Merged::default() });
    let mut problems = Vec::new();
    displays(&config, &mut problems);
    subclusters(&config, &mut problems);
    spellings(&config, &mut problems);
    profiles::problems(&config, &mut problems);
    openid(&config, &mut problems);
    merged.problems.extend(problems);
    merged.notes.extend(config.pair_problem().map(|problem| problem.text));
    merged.notes.extend(config.moving_agent().map(|moving| moving.to_string()));
    merged.notes.extend(ports(&config));
    merged.notes.extend(strangers(&config));
    merged.notes.extend(empty(&config));
    merged.notes.extend(x_arguments(&config));
    merged.notes.extend(profiles::notes(&config));
    merged.notes.extend(loggers(&config, "/vsmserver/logging/levels", &SERVER_LOGGERS));
    merged.notes.extend(loggers(&config, "/vsmagent/logging/levels", &AGENT_LOGGERS));
}

fn displays(config: &Config, problems: &mut Vec<Problem>) {
    let (min, max) =
        (config.get(&keys::vsmagent::DISPLAY_MIN), config.get(&keys::vsmagent::DISPLAY_MAX));
    if min >= max {
        let keys = [keys::vsmagent::DISPLAY_MIN.path(), keys::vsmagent::DISPLAY_MAX.path()];
        let path = keys.into_iter().find(|path| config.setting(path).is_some()).unwrap_or(keys[0]);
        let text = format!("display_min ({min}) must be below display_max ({max})");
        problems.push(config.problem_at(path, text));
    }
}

fn subclusters(config: &Config, problems: &mut Vec<Problem>) {
    let all = config.subclusters();
    let folder = |name: &str| format!("/vsmserver/subclusters/{name}");
    let defaults: Vec<&Subcluster> =
        all.iter().filter(|subcluster| subcluster.is_default()).collect();
    for pair in defaults.windows(2) {
        let path = format!("{}/agents", folder(&pair[1].name));
        let text = format!(
            "{} and {} both have neither users nor groups: only one default subcluster may be",
            folder(&pair[0].name),
            folder(&pair[1].name)
        );
        problems.push(config.problem_at(&path, text));
    }
    for (key, members) in
        [("users", (|s| &s.users) as fn(&Subcluster) -> &Vec<String>), ("groups", |s| &s.groups)]
    {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for subcluster in &all {
            for member in members(subcluster) {
                match seen.insert(member, &subcluster.name) {
                    Some(earlier) if earlier != subcluster.name => {
                        let (one, other) = (folder(earlier), folder(&subcluster.name));
                        let text = format!("{member} is bound to both {one} and {other}");
                        problems.push(config.problem_at(&format!("{other}/{key}"), text));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// A host that is spelled in two ways would be two agents: drained as the one it is used as the other, and counted
/// twice.
fn spellings(config: &Config, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<String, (String, String)> = BTreeMap::new();
    let lists = config.subclusters().into_iter().map(|subcluster| {
        let path = format!("/vsmserver/subclusters/{}/agents", subcluster.name);
        (path, subcluster.agents)
    });
    for (path, hosts) in lists {
        for host in hosts {
            let (first, there) =
                seen.entry(one_spelling(&host)).or_insert_with(|| (host.clone(), path.clone()));
            if *first != host {
                let text = format!(
                    "{host} is the same host as {first} (in {there}): spell it in one way everywhere"
                );
                problems.push(config.problem_at(&path, text));
            }
        }
    }
}

/// What a token could never fit.
fn openid(config: &Config, problems: &mut Vec<Problem>) {
    use keys::openid as k;
    let issuer = config.get(&k::ISSUER);
    if issuer.is_empty() {
        return;
    }
    let mut bad = |path: &str, text: String| problems.push(config.problem_at(path, text));
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@');
    if !issuer
        .strip_prefix("https://")
        .is_some_and(|rest| !rest.is_empty() && rest.chars().all(is_plain))
    {
        let text = format!(
            "{issuer:?} is no address of an OpenID provider: https://, a host, and a path at most"
        );
        bad(k::ISSUER.path(), text);
    }
    for key in [&k::CLIENT_ID, &k::CLAIM] {
        if config.get(key).trim().is_empty() {
            let text =
                format!("{} must not be empty where there is {}", key.path(), k::ISSUER.path());
            bad(key.path(), text);
        }
    }
    let domain = config.get(&k::DOMAIN);
    if domain.contains(|c: char| c == '@' || c.is_whitespace()) {
        bad(
            k::DOMAIN.path(),
            format!("{domain:?} is no domain: it stands behind the @ and has none itself"),
        );
    }
}

fn ports(config: &Config) -> Vec<String> {
    let pairs = [
        (&keys::vsmserver::LISTEN_PORT, &keys::vsm::VSM_SERVER_PORT),
        (&keys::vsmagent::LISTEN_PORT, &keys::vsm::VSM_AGENT_PORT),
    ];
    let differ = pairs.into_iter().filter_map(|(listen, connect)| {
        let (here, there) = (config.get(listen), config.get(connect));
        (here != there)
            .then(|| format!("{}: {here} differs from {} = {there}", listen.path(), connect.path()))
    });
    differ.collect()
}

/// Not an error: a configuration that was taken over may name parts that only the described system has.
fn loggers(config: &Config, folder: &str, known: &[&str]) -> Vec<String> {
    let strangers =
        config.folder(folder).into_keys().filter(|part| !known.contains(&part.as_str()));
    strangers
        .map(|part| format!("{folder}/{part}: has no effect; there are {}", known.join(", ")))
        .collect()
}

/// Subclusters whose users get no desktop, which may be meant for a while.
fn empty(config: &Config) -> Vec<String> {
    let empty = config.subclusters().into_iter().filter(|subcluster| subcluster.agents.is_empty());
    let line = |subcluster: Subcluster| {
        format!(
            "/vsmserver/subclusters/{}: it has no agents: its users get no new desktop",
            subcluster.name
        )
    };
    empty.map(line).collect()
}

/// What is said of agents that are none.
fn strangers(config: &Config) -> Vec<String> {
    let agents: Vec<String> =
        config.subclusters().into_iter().flat_map(|subcluster| subcluster.agents).collect();
    let weights = config.folder("/vsmserver/agents/weights").into_keys();
    let weights = weights.map(|host| (format!("/vsmserver/agents/weights/{host}"), host));
    let draining = config.draining().into_iter();
    let draining = draining.map(|host| (keys::agents::DRAINING.path().to_owned(), host));
    weights
        .chain(draining)
        .filter(|(_, host)| !agents.contains(host))
        .map(|(path, host)| format!("{path}: {host} is in no agents list"))
        .collect()
}

/// Agents leave these out at each start of a desktop, which nobody sees who checks a configuration.
fn x_arguments(config: &Config) -> Option<String> {
    let (_, refused) = risky::x_arguments(&config.get(&keys::vsmagent::XSERVER_ARGS));
    let all = refused.join(", ");
    (!refused.is_empty()).then(|| {
        format!(
            "{}: left out, as it would open desktops to others or close them to their users: {all}",
            keys::vsmagent::XSERVER_ARGS.path()
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::load::merged;

    #[test]
    fn two_spellings_of_a_host_are_an_error_that_names_both() {
        for (one, other) in [
            ("agent1", "AGENT1"),
            ("agent1", "agent1."),
            ("a.example.org", "A.Example.org."),
            ("::1", "0:0:0:0:0:0:0:1"),
            ("10.0.0.11", "::ffff:10.0.0.11"),
        ] {
            let text = format!(
                "subclusters:\n  a:\n    agents: ['{one}']\n  b:\n    groups: x\n    agents: [z, '{other}']\n"
            );
            let problems = merged(&text).problems;
            assert_eq!(problems.len(), 1, "{one} {other}: {problems:?}");
            let shown = problems[0].to_string();
            let wanted =
                format!("{other} is the same host as {one} (in /vsmserver/subclusters/a/agents)");
            assert!(shown.contains(&wanted), "{shown}");
        }
        let twice =
            "subclusters:\n  a:\n    agents: [x]\n  b:\n    groups: g\n    agents: [x, y]\n";
        assert_eq!(merged(twice).problems, []);
    }

    #[test]
    fn contradictions_name_both_folders() {
        let text = "subclusters:\n  a:\n    agents: x\n  b:\n    agents: y\n";
        let problems = merged(text).problems;
        assert_eq!(problems.len(), 1);
        let shown = problems[0].to_string();
        assert!(
            shown.starts_with("f.yaml:5: ")
                && shown.contains("/a and ")
                && shown.contains("/b both"),
            "{shown}"
        );

        let text =
            "subclusters:\n  a: {agents: x, users: [u, v]}\n  b: {agents: y, users: [w, u]}\n";
        let shown = merged(text).problems[0].to_string();
        assert!(
            shown.contains(
                "u is bound to both /vsmserver/subclusters/a and /vsmserver/subclusters/b"
            ),
            "{shown}"
        );
    }

    #[test]
    fn a_provider_has_an_address_and_a_name_for_this_site() {
        let good =
            "vsmserver: {openid: {issuer: 'https://login.example.org/realms/a', client_id: vsm}}\n";
        assert_eq!(merged(good).problems, []);
        for (text, wanted) in [
            (
                "vsmserver: {openid: {issuer: 'http://login.example.org', client_id: vsm}}\n",
                "no address of an OpenID provider",
            ),
            (
                "vsmserver: {openid: {issuer: 'https://', client_id: vsm}}\n",
                "no address of an OpenID provider",
            ),
            (
                "vsmserver: {openid: {issuer: 'https://x/?a', client_id: vsm}}\n",
                "no address of an OpenID provider",
            ),
            ("vsmserver: {openid: {issuer: 'https://x'}}\n", "client_id must not be empty"),
            (
                "vsmserver: {openid: {issuer: 'https://x', client_id: vsm, domain: '@x'}}\n",
                "is no domain",
            ),
        ] {
            let problems = merged(text).problems;
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].to_string().contains(wanted), "{}", problems[0]);
        }
    }

    #[test]
    fn display_range_must_not_be_empty() {
        let shown = merged("vsmagent:\n  display_min: 2000\n").problems[0].to_string();
        assert!(shown.contains("f.yaml:2: ") && shown.contains("display_min (2000)"), "{shown}");
    }

    #[test]
    fn what_is_said_and_left_out_is_told() {
        let text = "agents: {draining: x, weights: {y: 5}}\nsubclusters: {e: {users: u}}\nvsmagent: {xserver_args: -br -ac}\n";
        let notes = merged(text).notes;
        for (note, wanted) in notes.iter().zip([
            "/vsmserver/agents/weights/y: y is in no agents list",
            "/vsmserver/agents/draining: x is in no agents list",
            "/vsmserver/subclusters/e: it has no agents",
            "/vsmagent/xserver_args: left out, as it would open desktops",
        ]) {
            assert!(note.starts_with(wanted), "{notes:?}");
        }
        assert_eq!(notes.len(), 4, "{notes:?}");
    }

    #[test]
    fn a_pair_needs_two_nodes_and_no_loopback_agents_but_loads() {
        let half = merged("HA:\n  enabled: 1\nsubclusters:\n  d: {agents: 127.0.0.1}\n");
        assert!(half.problems.is_empty());
        assert_eq!(half.notes.len(), 2, "{:?}", half.notes);
        let whole = merged("HA:\n  enabled: 1\n  nodes: a b\nsubclusters:\n  d: {agents: x}\n");
        assert!(whole.notes.is_empty(), "{:?}", whole.notes);
        let twice = merged("HA:\n  enabled: 1\n  nodes: a a\nsubclusters:\n  d: {agents: x}\n");
        assert!(twice.notes[0].contains("two different nodes"));
    }
}
