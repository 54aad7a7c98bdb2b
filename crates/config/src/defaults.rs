//! The commented default configuration that packages install: every parameter with its meaning and default, and nothing
//! set. It takes up the keys' order and nesting; without the first `#` of each line it is what a host without any
//! configuration has.

use crate::{
    keys::PARAMS,
    param::{self, Apply, Param},
};

/// Widest line of the file, in characters.
const WIDTH: usize = 110;

const HEAD: &str = "\
## Every parameter of VSM, with its meaning and default. Nothing is set here, and nothing needs to be.
##
##   vsm-config /vsmserver/listen_port=9000    sets one, in a file of its own that wins over this one
##   vsm-config doc /vsmserver/listen_port     explains it: allowed values, and when a change takes effect
##   vsm-config check                          checks the whole configuration
##
## Files here are read in name order. If you set a parameter in this file, by removing the first '#' of its line
## and of each folder above it, every upgrade asks which version of the file to keep.
";

/// The text of the file.
#[must_use]
pub fn text() -> String {
    let mut out = HEAD.to_owned();
    folder(&[], false, &mut out);
    out
}

/// What is in a folder: its parameters, then the folders below. `named` = a part of its path stands for any name, so
/// that it can only be shown.
fn folder(path: &[&str], named: bool, out: &mut String) {
    let depth = path.len();
    let below: Vec<(&Param, Vec<&str>)> = PARAMS
        .iter()
        .map(|param| (*param, param::segments(param.path).collect::<Vec<_>>()))
        .filter(|(_, parts)| parts.len() > depth && parts[..depth] == *path)
        .collect();
    for (param, parts) in below.iter().filter(|(_, parts)| parts.len() == depth + 1) {
        let named = named || is_name(parts[depth]);
        describe(param, depth, out);
        line(depth, named, &format!("{}: {}", parts[depth], scalar(param.default)), out);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (_, parts) in below.iter().filter(|(_, parts)| parts.len() > depth + 1) {
        let name = parts[depth];
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let named = named || is_name(name);
        out.push('\n');
        line(depth, named, &format!("{name}:"), out);
        let mut inner = path.to_vec();
        inner.push(name);
        folder(&inner, named, out);
    }
}

fn is_name(part: &str) -> bool {
    part.starts_with('<')
}

fn describe(param: &Param, depth: usize, out: &mut String) {
    let applies = match param.apply {
        Apply::Reload => "a reload",
        Apply::Restart => "a restart",
    };
    let text =
        format!("{} Allowed: {}. Takes effect at {applies}.", param.meaning, param.kind.allowed());
    let room = WIDTH - 4 - 2 * depth;
    let mut row = String::new();
    out.push('\n');
    for word in text.split(' ') {
        if !row.is_empty() && row.chars().count() + 1 + word.chars().count() > room {
            line(depth, true, &row, out);
            row.clear();
        }
        if !row.is_empty() {
            row.push(' ');
        }
        row += word;
    }
    line(depth, true, &row, out);
}

/// One line that is a comment; `remark` = it stays one when the first `#` is taken away.
fn line(depth: usize, remark: bool, text: &str, out: &mut String) {
    let mark = if remark { "## " } else { "" };
    *out += &format!("#{:1$}{mark}{text}\n", "", 2 * depth);
}

fn scalar(default: &str) -> String {
    if default.is_empty() || default.starts_with(['#', '-']) {
        format!("'{default}'")
    } else {
        default.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;
    use crate::{Config, tool};

    fn loaded(text: &str) -> BTreeMap<String, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("00-defaults.yaml"), text).unwrap();
        tool::check(dir.path()).unwrap();
        let config = Config::load(dir.path()).unwrap();
        let set = |path: &str| config.setting(path).map(|setting| setting.raw.to_string());
        PARAMS.iter().filter_map(|param| Some((param.path.to_owned(), set(param.path)?))).collect()
    }

    #[test]
    fn it_is_accepted_and_sets_nothing() {
        assert_eq!(loaded(&text()), BTreeMap::new());
        assert!(text().lines().all(|line| line.is_empty() || line.starts_with('#')));
    }

    #[test]
    fn without_its_marks_it_sets_every_default() {
        let bare: String = text()
            .lines()
            .map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or("")))
            .collect();
        let wanted = PARAMS
            .iter()
            .filter(|param| !param.is_pattern())
            .map(|param| (param.path.to_owned(), param.default.to_owned()));
        assert_eq!(loaded(&bare), wanted.collect());
    }

    #[test]
    fn every_parameter_is_told_of() {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let told = words(&text().replace('#', ""));
        for param in PARAMS {
            assert!(told.contains(&words(&param.meaning.replace('#', ""))), "{}", param.path);
        }
    }
}
