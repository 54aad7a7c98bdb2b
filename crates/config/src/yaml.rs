//! One YAML file, read: its text becomes a flat list of parameters with the line of each, or problems.
//!
//! Everything that can be judged from one file alone is judged here: YAML syntax, doubled keys, unknown keys,
//! folders where values belong and the other way round, types and ranges.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use crate::{
    depth,
    param::{Param, canonical},
    problem::Problem,
    scan, schema,
    tree::Tree,
    value::Value,
};

/// Deepest nesting that is followed; the schema needs four.
const DEPTH_MAX: usize = 16;
/// How many unknown keys of a file get a suggestion, which is slow to find.
const NEAREST_MAX: usize = 200;
/// What is said of a key that one file has twice.
const TWICE: &str = "given twice in this file";

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
    if let Some(line) = depth::too_deep(text) {
        let (file, path) = (file.to_owned(), String::new());
        let text = "nests too deep to be a configuration".to_owned();
        let problems = vec![Problem { file, line, path, text }];
        return Parsed { problems, ..Parsed::default() };
    }
    let nodes = scan::scan(text);
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for node in &nodes {
        lines.entry(&node.path).or_insert(node.line + 1);
    }
    let mut reader = Reader { file, lines, seen: HashSet::new(), parsed: Parsed::default() };
    for (earlier, later) in scan::doubled(&nodes) {
        let text = format!("{TWICE}: lines {} and {}", earlier.line + 1, later.line + 1);
        reader.problem(later.line + 1, &later.path, text);
    }
    match serde_yaml::from_str::<Tree>(text) {
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
    /// The line of each key, from 1.
    lines: HashMap<&'a str, usize>,
    /// Parameters met so far.
    seen: HashSet<String>,
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
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
        }
        0
    }

    fn walk(&mut self, path: &str, tree: &Tree, depth: usize) {
        let line = self.line_of(path);
        if let Some(param) = schema::find(path) {
            return self.leaf(param, path, tree, line);
        }
        if !schema::is_folder(path) {
            let near =
                if self.parsed.problems.len() < NEAREST_MAX { schema::nearest(path) } else { None };
            let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            return self.problem(line, path, format!("no such parameter{near}"));
        }
        match tree {
            Tree::Null => {}
            Tree::Mapping(pairs) if depth < DEPTH_MAX => {
                let mut words = HashSet::new();
                for (key, value) in pairs {
                    let Some(word) = key.text().filter(|word| !word.is_empty()) else {
                        self.problem(line, path, "has a key that is not a plain word".to_owned());
                        continue;
                    };
                    let below = canonical(&format!("{path}/{word}"));
                    if !words.insert(word) {
                        self.doubled(&below);
                    }
                    self.walk(&below, value, depth + 1);
                }
            }
            Tree::Mapping(_) | Tree::Scalar(_) | Tree::Sequence(_) => {
                self.problem(line, path, "is a folder and takes keys, not a value".to_owned());
            }
        }
    }

    /// A key given twice that the scan did not see: both are on one line, or in a flow mapping.
    fn doubled(&mut self, path: &str) {
        if !self
            .parsed
            .problems
            .iter()
            .any(|problem| problem.path == path && problem.text.contains(TWICE))
        {
            self.problem(self.line_of(path), path, TWICE.to_owned());
        }
    }

    fn leaf(&mut self, param: &'static Param, path: &str, tree: &Tree, line: usize) {
        let raw = match tree {
            // A key with nothing after it: as if it were not there.
            Tree::Null => return,
            Tree::Sequence(items) => items
                .iter()
                .map(|item| item.text().map(str::to_owned))
                .collect::<Option<_>>()
                .map(Value::List),
            Tree::Scalar(text) => Some(Value::Text(text.clone())),
            Tree::Mapping(_) => None,
        };
        let Some(raw) = raw else {
            let text = format!("takes a value, not a structure; allowed: {}", param.kind.allowed());
            return self.problem(line, path, text);
        };
        if !self.seen.insert(path.to_owned()) {
            return self.doubled(path);
        }
        match param.normalise(&raw) {
            Ok(normal) => {
                self.parsed.entries.push(Entry { path: path.to_owned(), raw, normal, line });
            }
            Err(text) => self.problem(line, path, text),
        }
    }
}

/// The text of a scalar that stands alone in `text`.
pub(crate) fn scalar_text(text: &str) -> Option<String> {
    if depth::too_deep(text).is_some() {
        return None;
    }
    serde_yaml::from_str::<Tree>(text).ok()?.text().map(str::to_owned)
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
        let deep = format!("vsm: {}", "[".repeat(500_000));
        assert_eq!(problems(&deep), ["f.yaml:1: nests too deep to be a configuration"]);
        assert!(problems("vsm: [\n")[0].contains("not readable as YAML"));
        assert!(problems("- a\n")[0].contains("is a folder"));
        assert!(problems("vsm:\n  vsm_agent_port: !x 1\n")[0].contains("without tags"));
        assert_eq!(
            problems("\nvsm: {vsm_agent_port: 1, vsm_agent_port: 2}\n"),
            ["f.yaml:2: /vsm/vsm_agent_port: given twice in this file"]
        );
        assert_eq!(
            problems("vsm: {}\nvsm: {}\n"),
            ["f.yaml:2: /vsm: given twice in this file: lines 1 and 2"]
        );
        assert!(problems("").is_empty());
    }
}
