//! One YAML file, read: its text becomes a flat list of parameters with the line of each, or problems.
//!
//! Everything that can be judged from one file alone is judged here: YAML syntax, doubled keys, unknown keys,
//! folders where values belong and the other way round, types and ranges.

use std::path::Path;

use serde_yaml::Value as Yaml;

use crate::{
    load::Problem,
    param::{self, Param, canonical},
    scan::{self, Node},
    value::Value,
};

/// Deepest nesting that is followed; the schema needs four.
const DEPTH_MAX: usize = 16;

/// A parameter set in a file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) raw: Value,
    pub(crate) normal: Value,
    /// From 1; 0 where it is not known (inside flow mappings).
    pub(crate) line: usize,
}

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) entries: Vec<Entry>,
    pub(crate) problems: Vec<Problem>,
}

/// Reads the text of `file`, which is only named in problems.
pub(crate) fn parse(file: &Path, text: &str) -> Parsed {
    let nodes = scan::scan(text);
    let mut reader = Reader { file, nodes: &nodes, parsed: Parsed::default() };
    for (earlier, later) in scan::doubled(&nodes) {
        let text =
            format!("given twice in this file: lines {} and {}", earlier.line + 1, later.line + 1);
        reader.problem(later.line + 1, &later.path, text);
    }
    match serde_yaml::from_str::<Yaml>(text) {
        // The parser also refuses doubled keys, after the scan has already named both lines.
        Err(_) if !reader.parsed.problems.is_empty() => {}
        Err(error) => {
            let line = error.location().map_or(0, |at| at.line());
            reader.problem(line, "", format!("not readable as YAML: {error}"));
        }
        Ok(root) => reader.walk("/", &root, 0),
    }
    reader.parsed
}

struct Reader<'a> {
    file: &'a Path,
    nodes: &'a [Node],
    parsed: Parsed,
}

impl Reader<'_> {
    fn problem(&mut self, line: usize, path: &str, text: String) {
        self.parsed.problems.push(Problem {
            file: self.file.to_owned(),
            line,
            path: path.to_owned(),
            text,
        });
    }

    /// The line of the key itself, or of the nearest folder above that has one.
    fn line_of(&self, path: &str) -> usize {
        let mut path = path;
        while path.len() > 1 {
            if let Some(node) = self.nodes.iter().find(|node| node.path == path) {
                return node.line + 1;
            }
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
        }
        0
    }

    fn walk(&mut self, path: &str, yaml: &Yaml, depth: usize) {
        let line = self.line_of(path);
        if let Some(param) = param::find(path) {
            return self.leaf(param, path, yaml, line);
        }
        if !param::is_folder(path) {
            let near = param::nearest(path)
                .map_or_else(String::new, |near| format!("; did you mean {near}?"));
            return self.problem(line, path, format!("no such parameter{near}"));
        }
        if yaml.is_null() {
            return;
        }
        let Some(mapping) = yaml.as_mapping().filter(|_| depth < DEPTH_MAX) else {
            return self.problem(line, path, "is a folder and takes keys, not a value".to_owned());
        };
        for (key, value) in mapping {
            match scalar(key) {
                Some(key) if !key.is_empty() => {
                    self.walk(&canonical(&format!("{path}/{key}")), value, depth + 1)
                }
                _ => self.problem(line, path, "has a key that is not a plain word".to_owned()),
            }
        }
    }

    fn leaf(&mut self, param: &'static Param, path: &str, yaml: &Yaml, line: usize) {
        if yaml.is_null() {
            // A key with nothing after it: as if it were not there.
            return;
        }
        let raw = match yaml.as_sequence() {
            Some(items) => items.iter().map(scalar).collect::<Option<Vec<_>>>().map(Value::List),
            None => scalar(yaml).map(Value::Text),
        };
        let Some(raw) = raw else {
            let text = format!("takes a value, not a structure; allowed: {}", param.kind.allowed());
            return self.problem(line, path, text);
        };
        if let Some(earlier) = self.parsed.entries.iter().find(|entry| entry.path == path) {
            let text = format!("given twice in this file: lines {} and {line}", earlier.line);
            if !self.parsed.problems.iter().any(|problem| problem.path == path) {
                self.problem(line, path, text);
            }
            return;
        }
        match param.normalise(&raw) {
            Ok(normal) => {
                self.parsed.entries.push(Entry { path: path.to_owned(), raw, normal, line });
            }
            Err(text) => self.problem(line, path, text),
        }
    }
}

/// The text of a scalar; an empty one for null.
fn scalar(yaml: &Yaml) -> Option<String> {
    match yaml {
        Yaml::Null => Some(String::new()),
        Yaml::Bool(value) => Some(value.to_string()),
        Yaml::Number(value) => Some(value.to_string()),
        Yaml::String(value) => Some(value.clone()),
        Yaml::Sequence(_) | Yaml::Mapping(_) | Yaml::Tagged(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        parse(Path::new("f.yaml"), text).problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn values_are_read_in_every_spelling() {
        let text = "vsmserver: {HA: {enabled: 1}}\nHA:\n  nodes: [a, b]\nvsmagent:\n  allowed_clients: a b\n  make_homedir_mode: 0750\n";
        let parsed = parse(Path::new("f.yaml"), text);
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        let got: Vec<(String, String)> =
            parsed.entries.iter().map(|e| (e.path.clone(), e.normal.to_string())).collect();
        let want = [
            ("/vsmserver/HA/enabled", "true"),
            ("/vsmserver/HA/nodes", "a b"),
            ("/vsmagent/allowed_clients", "a b"),
            ("/vsmagent/make_homedir_mode", "488"),
        ];
        assert_eq!(got, want.map(|(p, v)| (p.to_owned(), v.to_owned())));
    }

    #[test]
    fn problems_name_file_line_path_and_what_is_allowed() {
        assert_eq!(
            problems("vsmserver:\n  listenport: 1\n"),
            [
                "f.yaml:2: /vsmserver/listenport: no such parameter; did you mean /vsmserver/listen_port?"
            ]
        );
        assert_eq!(
            problems("vsmserver:\n  listen_port: 0\n"),
            [
                "f.yaml:2: /vsmserver/listen_port: \"0\" is not allowed; allowed: a whole number from 1 to 65535"
            ]
        );
        assert_eq!(
            problems("vsm:\n  vsm_agent_port: 1\n  vsm_agent_port: 2\n"),
            ["f.yaml:3: /vsm/vsm_agent_port: given twice in this file: lines 2 and 3"]
        );
        assert_eq!(
            problems("vsm: 3\n"),
            ["f.yaml:1: /vsm: is a folder and takes keys, not a value"]
        );
        assert!(
            problems("vsm:\n  vsm_agent_port: {a: 1}\n")[0]
                .contains("takes a value, not a structure")
        );
        assert!(problems("vsm: [\n")[0].contains("not readable as YAML"));
        assert!(problems("- a\n")[0].contains("is a folder"));
        assert!(problems("vsm:\n  vsm_agent_port: !x 1\n")[0].contains("structure"));
        assert!(problems("").is_empty());
    }
}
