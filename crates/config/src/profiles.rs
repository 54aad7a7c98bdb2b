//! The desktops that a user can choose from, as the configuration has them: `/profiles`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{config::Config, keys::profiles as k, problem::Problem};

/// Most profiles: more than anybody looks through.
pub const PROFILES_MAX: usize = 64;
/// Longest key of a profile, in bytes.
pub const PROFILE_KEY_MAX: usize = 64;
/// All texts of all profiles together, in bytes: an agent hands them to each session that starts.
const BYTES_MAX: usize = 128 << 10;

/// One kind of desktop. An agent hands it to a `vsm-session` that may be of another version: fields may be added, never
/// changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Name of its folder.
    pub key: String,
    /// Desktop sessions of which the first one installed is started.
    pub xdg_session: Vec<String>,
    /// Name for people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Picture; empty means none.
    pub icon: PathBuf,
    /// Command that starts the desktop; empty means that of the desktop session.
    pub cmdline: String,
    /// Command that decides whether it is offered; empty means that it is.
    pub testcmd: String,
}

/// Whether a text may be the key of a profile: it becomes the name of a file and a word on command lines.
#[must_use]
pub fn is_profile_key(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    begins && text.len() <= PROFILE_KEY_MAX && text.bytes().all(plain)
}

impl Config {
    /// The profiles in the order in which they are offered: those of `/profiles/order`, then the others by key.
    #[must_use]
    pub fn profiles(&self) -> Vec<Profile> {
        let mut keys: Vec<String> = Vec::new();
        let named = self.names("/profiles");
        let ordered = self.get(&k::ORDER).into_iter().filter(|key| named.contains(key));
        for key in ordered.chain(named.iter().cloned()) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let profile = |key: String| Profile {
            xdg_session: self.get_in(&k::XDG_SESSION, &key),
            name: self.get_in(&k::NAME, &key),
            description: self.get_in(&k::DESCRIPTION, &key),
            icon: self.get_in(&k::ICON, &key),
            cmdline: self.get_in(&k::CMDLINE, &key),
            testcmd: self.get_in(&k::TESTCMD, &key),
            key,
        };
        keys.into_iter().map(profile).collect()
    }
}

/// A parameter that is set in the folder of a profile, to name the line of.
fn some_path(config: &Config, key: &str) -> String {
    let folder = format!("/profiles/{key}");
    let names = ["cmdline", "description", "icon", "name", "screenshot", "testcmd", "xdg_session"];
    let mut paths = names.iter().map(|name| format!("{folder}/{name}"));
    paths.find(|path| config.setting(path).is_some()).unwrap_or(folder)
}

/// Profiles that cannot be, and names of ones that are not there.
pub(crate) fn problems(config: &Config, problems: &mut Vec<Problem>) {
    let named = config.names("/profiles");
    let unknown = |key: &str| {
        let there = if named.is_empty() { "none".to_owned() } else { named.join(", ") };
        format!("there is no profile {key:?}; there are: {there}")
    };
    let default = config.get(&k::DEFAULT);
    if !default.is_empty() && !named.contains(&default) {
        problems.push(config.problem_at(k::DEFAULT.path(), unknown(&default)));
    }
    for key in config.get(&k::ORDER).iter().filter(|key| !named.contains(key)) {
        problems.push(config.problem_at(k::ORDER.path(), unknown(key)));
    }
    for key in named.iter().filter(|key| !is_profile_key(key)) {
        let text = format!(
            "{key:?} cannot be the key of a profile: 1 to {PROFILE_KEY_MAX} of a-z, A-Z, 0-9, _ - ., and a letter or digit first"
        );
        problems.push(config.problem_at(&some_path(config, key), text));
    }
    if let Some(key) = named.get(PROFILES_MAX) {
        let text = format!("there are {} profiles; at most {PROFILES_MAX} may be", named.len());
        problems.push(config.problem_at(&some_path(config, key), text));
    }
    let words = |profile: &Profile| {
        let texts = [&profile.name, &profile.description, &profile.cmdline, &profile.testcmd];
        texts.into_iter().chain(&profile.xdg_session).map(String::len).sum::<usize>()
    };
    let heads = config.get(&k::GREETING).len() + config.get(&k::INTRODUCTION).len();
    let bytes = heads + config.profiles().iter().map(words).sum::<usize>();
    if bytes > BYTES_MAX {
        let text = format!("the texts of /profiles have {bytes} bytes; at most {BYTES_MAX} may be");
        problems.push(config.problem_at(k::INTRODUCTION.path(), text));
    }
}

/// Profiles that nobody will ever see.
pub(crate) fn notes(config: &Config) -> Vec<String> {
    let empty = |profile: &Profile| profile.cmdline.is_empty() && profile.xdg_session.is_empty();
    let profiles = config.profiles().into_iter().filter(empty);
    profiles
        .map(|profile| {
            format!(
                "/profiles/{}: it has neither cmdline nor xdg_session: it is hidden",
                profile.key
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::merged;

    #[test]
    fn they_come_in_their_order_and_the_others_after_them() {
        let text = "profiles:\n  order: z m\n  a: {cmdline: a}\n  m: {cmdline: m}\n  z: {xdg_session: x y}\n";
        let config = Config::of(merged(text));
        let profiles = config.profiles();
        let keys: Vec<&str> = profiles.iter().map(|profile| profile.key.as_str()).collect();
        assert_eq!(keys, ["z", "m", "a"]);
        assert_eq!(profiles[0].xdg_session, ["x", "y"]);
        assert!(merged("profiles:\n  greeting: hello\n").problems.is_empty());
    }

    #[test]
    fn names_of_profiles_that_are_not_there_are_errors_that_name_the_path() {
        let text = "profiles:\n  default: kde\n  order: [xfce, gnome]\n  xfce: {cmdline: a}\n";
        let problems = merged(text).problems;
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 2, "{shown:?}");
        for (text, line, path) in [(&shown[0], 2, "default"), (&shown[1], 3, "order")] {
            assert!(text.starts_with(&format!("f.yaml:{line}: /profiles/{path}")), "{text}");
            assert!(text.contains("there are: xfce"), "{text}");
        }
        assert!(shown[0].contains("\"kde\"") && shown[1].contains("\"gnome\""), "{shown:?}");
    }

    #[test]
    fn keys_number_and_size_are_bounded_and_one_without_a_command_is_noted() {
        for bad in ["-a", ".a", "a b", "ä", ""] {
            assert!(!is_profile_key(bad), "{bad}");
        }
        assert!(is_profile_key("xfce-4.20_x") && !is_profile_key(&"x".repeat(65)));
        let long = "x".repeat(65);
        let bad = merged(&format!("profiles:\n  {long}: {{cmdline: x}}\n")).problems;
        let shown = bad[0].to_string();
        assert!(shown.starts_with(&format!("f.yaml:2: /profiles/{long}/cmdline")), "{shown}");
        let many: String = (0..65).map(|n| format!("  p{n}: {{cmdline: x}}\n")).collect();
        assert!(
            merged(&format!("profiles:\n{many}")).problems[0].to_string().contains("at most 64")
        );
        let long = format!(
            "profiles:\n  introduction: {0}\n  greeting: {0}\n  a: {{cmdline: {0}}}\n",
            "x".repeat(60_000)
        );
        assert!(merged(&long).problems[0].to_string().contains("at most 131072"));
        assert!(merged("profiles:\n  a: {name: x}\n").notes[0].contains("/profiles/a: "));
    }
}
