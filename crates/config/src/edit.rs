//! Changing one key in the text of a YAML file, everything else left as it stands: other values, the order of
//! keys, comments, blank lines, line ends.
//!
//! The editor works on lines that [`crate::scan`] understands and refuses all others. Its callers read the
//! result with the YAML parser and compare before they use it ([`crate::set`]), so a line that was
//! misunderstood can only make an edit fail, never make it wrong.

use crate::{
    param::segments,
    scan::{self, Node, Shape},
    value::Value,
    yaml,
};

/// Why a key cannot be edited safely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The line, from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// `text` with the parameter at the canonical `path` set to `value`.
pub(crate) fn set(text: &str, path: &str, value: &Value) -> Result<String, Refusal> {
    let nodes = scan::scan(text);
    let mut lines = Lines::of(text);
    match nodes.iter().find(|node| node.path == path) {
        Some(node) => replace(&mut lines, node, value)?,
        None => insert(&mut lines, &nodes, path, value)?,
    }
    Ok(lines.join())
}

/// `text` without the parameter at `path`, and without the folders that this leaves empty.
pub(crate) fn remove(text: &str, path: &str) -> Result<String, Refusal> {
    let nodes = scan::scan(text);
    let node = nodes.iter().find(|node| node.path == path).ok_or_else(|| no_block(&nodes, path))?;
    if node.shape == Shape::Other || (node.shape == Shape::Empty && node.end > node.line + 1) {
        return Err(refuse(node));
    }
    let mut lines = Lines::of(text);
    for line in (node.line..node.end).rev() {
        lines.drop_content(line);
    }
    let mut text = lines.join();
    let mut folder = path;
    while let Some((above, _)) = folder.rsplit_once('/').filter(|(above, _)| !above.is_empty()) {
        folder = above;
        let left = scan::scan(&text);
        let Some(node) = left.iter().find(|node| node.path == folder) else { continue };
        if node.shape != Shape::Empty || node.end > node.line + 1 {
            break;
        }
        let mut lines = Lines::of(&text);
        lines.drop_content(node.line);
        text = lines.join();
    }
    Ok(text)
}

fn refuse(node: &Node) -> Refusal {
    let text = format!(
        "{} is written in a way that cannot be edited safely; edit the file by hand",
        node.path
    );
    Refusal { line: node.line + 1, text }
}

/// The key is there for the parser but not as a line of its own: name the line that holds it.
fn no_block(nodes: &[Node], path: &str) -> Refusal {
    ancestor(nodes, path).map_or_else(
        || Refusal {
            line: 1,
            text: format!("{path} cannot be edited safely; edit the file by hand"),
        },
        |(node, _)| refuse(node),
    )
}

fn replace(lines: &mut Lines, node: &Node, value: &Value) -> Result<(), Refusal> {
    let line = &mut lines.all[node.line];
    match (node.shape, value) {
        (Shape::Inline, _) => line.replace_range(node.value.0..node.value.1, &render(value)),
        (Shape::Empty, _) if node.end == node.line + 1 => {
            line.insert_str(node.colon, &format!(" {}", render(value)));
        }
        (Shape::Block, Value::List(items)) => replace_items(lines, node, items)?,
        (Shape::Block | Shape::Empty | Shape::Other, _) => return Err(refuse(node)),
    }
    Ok(())
}

/// Items that stay keep their lines; a comment beside one that goes stays as a line of its own.
fn replace_items(lines: &mut Lines, node: &Node, items: &[String]) -> Result<(), Refusal> {
    let old: Vec<(usize, String)> = (node.line + 1..node.end)
        .filter_map(|line| Some((line, item_text(&lines.all[line])?)))
        .collect();
    // The place in `items` of each old item that stays.
    let mut kept: Vec<Option<usize>> = vec![None; old.len()];
    let mut from = 0;
    for (place, item) in items.iter().enumerate() {
        if let Some(found) = old[from..].iter().position(|(_, text)| text == item) {
            kept[from + found] = Some(place);
            from += found + 1;
        }
    }
    // None is one word: `- ? x` is a mapping.
    let Some((first, _)) = old.first() else { return Err(refuse(node)) };
    let first = &lines.all[*first];
    let indent = first[..first.len() - first.trim_start().len()].to_owned();
    let fresh = |item: &String| format!("{indent}- {}{}", scalar(item), lines.newline);
    let mut next = 0;
    let mut edits: Vec<(usize, Vec<String>, bool)> = Vec::new();
    for ((line, _), kept) in old.iter().zip(&kept) {
        let before =
            kept.map_or_else(Vec::new, |place| items[next..place].iter().map(fresh).collect());
        next = kept.map_or(next, |place| place + 1);
        edits.push((*line, before, kept.is_some()));
    }
    let after: Vec<String> = items[next..].iter().map(fresh).collect();
    lines.insert(node.end, after);
    for (line, before, stays) in edits.into_iter().rev() {
        if !stays {
            lines.drop_content(line);
        }
        lines.insert(line, before);
    }
    if items.is_empty() {
        lines.all[node.line].insert_str(node.colon, " []");
    }
    Ok(())
}

/// The value of a `- item` line.
fn item_text(line: &str) -> Option<String> {
    let body = line.trim().strip_prefix('-')?.trim_start();
    yaml::scalar_text(&body[..scan::inline_end(body)?])
}

fn insert(lines: &mut Lines, nodes: &[Node], path: &str, value: &Value) -> Result<(), Refusal> {
    let parts: Vec<&str> = segments(path).collect();
    let (at, mut indent, known) = match ancestor(nodes, path) {
        None => (lines.all.len(), 0, 0),
        Some((node, known)) => {
            let child = nodes.iter().find(|child| child.line > node.line && child.line < node.end);
            if node.shape != Shape::Empty || (child.is_none() && node.end > node.line + 1) {
                return Err(refuse(node));
            }
            (node.end, child.map_or(node.indent + 2, |child| child.indent), known)
        }
    };
    let mut fresh = Vec::new();
    for (i, part) in parts.iter().enumerate().skip(known) {
        let rest = if i + 1 == parts.len() { format!(" {}", render(value)) } else { String::new() };
        fresh.push(format!("{:indent$}{}:{rest}{}", "", key(part), lines.newline));
        indent += 2;
    }
    lines.insert(at, fresh);
    Ok(())
}

/// The deepest folder above `path` that the file has, and how many parts of `path` it covers.
fn ancestor<'a>(nodes: &'a [Node], path: &str) -> Option<(&'a Node, usize)> {
    let parts: Vec<&str> = segments(path).collect();
    (1..parts.len()).rev().find_map(|known| {
        let above = format!("/{}", parts[..known].join("/"));
        Some((nodes.iter().find(|node| node.path == above)?, known))
    })
}

/// Lines with their ends.
struct Lines {
    all: Vec<String>,
    newline: &'static str,
}

impl Lines {
    fn of(text: &str) -> Self {
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        Self { all: text.split_inclusive('\n').map(str::to_owned).collect(), newline }
    }

    fn join(self) -> String {
        self.all.concat()
    }

    fn insert(&mut self, at: usize, fresh: Vec<String>) {
        if let Some(before) =
            at.checked_sub(1).filter(|_| !fresh.is_empty()).and_then(|i| self.all.get_mut(i))
            && !before.ends_with('\n')
        {
            before.push_str(self.newline);
        }
        self.all.splice(at..at, fresh);
    }

    /// Takes a key or an item off a line; blank lines and comments stay.
    fn drop_content(&mut self, at: usize) {
        let line = &self.all[at];
        let body = line.trim();
        if body.is_empty() || body.starts_with('#') {
            return;
        }
        match comment(line) {
            Some(comment) => {
                let indent = &line[..line.len() - line.trim_start().len()];
                self.all[at] = format!("{indent}{}{}", comment.trim_end(), self.newline);
            }
            None => drop(self.all.remove(at)),
        }
    }
}

/// The comment after the content of a line.
fn comment(line: &str) -> Option<&str> {
    let body = line.trim_start();
    let value = match body.strip_prefix("- ") {
        Some(item) => item.trim_start(),
        None => &line[scan::scan(line).first()?.colon..],
    };
    let value = value.trim_start();
    let rest = &value[scan::inline_end(value.trim_end())?..];
    rest.find('#').map(|at| &rest[at..])
}

fn render(value: &Value) -> String {
    match value {
        Value::Text(text) => scalar(text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| scalar(item)).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

/// A scalar: plain where every YAML parser reads it as just this text or number, else in double quotes.
pub(crate) fn scalar(text: &str) -> String {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_');
    let chars_fit = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./+@%= ".contains(c));
    let reads_back = yaml::scalar_text(text).as_deref() == Some(text);
    if starts_well && chars_fit && reads_back && !text.ends_with(' ') {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A key: in quotes where it could be taken for something else than a word.
fn key(part: &str) -> String {
    let word =
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !part.contains(':');
    let reserved = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    if word && !reserved.contains(&part.to_ascii_lowercase().as_str()) {
        part.to_owned()
    } else {
        format!("\"{part}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    fn list(items: &[&str]) -> Value {
        Value::List(items.iter().map(|item| (*item).to_owned()).collect())
    }

    const FILE: &str = "# head\nvsmserver: # broker\n  listen_port: 9000   # port\n  # before HA\n  HA:\n    nodes:\n      - a # first\n      # between\n      - b\n\n# tail\n";

    #[test]
    fn one_value_changes_and_nothing_else() {
        let got = set(FILE, "/vsmserver/listen_port", &text("9001")).unwrap();
        assert_eq!(got, FILE.replace("9000 ", "9001 "));
        let got =
            set("vsm:\r\n  vsm_agent_port: # x\r\n", "/vsm/vsm_agent_port", &text("1")).unwrap();
        assert_eq!(got, "vsm:\r\n  vsm_agent_port: 1 # x\r\n");
    }

    #[test]
    fn new_keys_go_to_the_end_of_their_folder() {
        let got = set(FILE, "/vsmserver/HA/enabled", &text("1")).unwrap();
        assert_eq!(got, FILE.replace("      - b\n", "      - b\n    enabled: 1\n"));
        let got = set(FILE, "/vsmagent/default_environment/PATH", &text("a: b")).unwrap();
        assert_eq!(got, format!("{FILE}vsmagent:\n  default_environment:\n    PATH: \"a: b\"\n"));
        assert_eq!(
            set("vsm:", "/vsm/vsm_agent_port", &text("1")).unwrap(),
            "vsm:\n  vsm_agent_port: 1\n"
        );
        let got = set("HA:\n    enabled: 1", "/vsmserver/HA/nodes", &list(&["a", "b"])).unwrap();
        assert_eq!(got, "HA:\n    enabled: 1\n    nodes: [a, b]\n");
        let got = set("", "/vsmserver/agents/weights/10.0.0.1", &text("5")).unwrap();
        assert_eq!(got, "vsmserver:\n  agents:\n    weights:\n      \"10.0.0.1\": 5\n");
    }

    #[test]
    fn block_lists_keep_the_lines_of_items_that_stay() {
        let at = |items: &[&str]| set(FILE, "/vsmserver/HA/nodes", &list(items)).unwrap();
        assert_eq!(at(&["a", "b"]), FILE);
        assert_eq!(
            at(&["a", "c", "b", "d"]),
            FILE.replace("      - b\n", "      - c\n      - b\n      - d\n")
        );
        assert_eq!(at(&["b"]), FILE.replace("- a # first", "# first"));
        assert_eq!(
            at(&["b", "a"]),
            FILE.replace("- a # first", "# first").replace("- b\n", "- b\n      - a\n")
        );
        assert_eq!(
            at(&[]),
            FILE.replace("nodes:", "nodes: []")
                .replace("- a # first", "# first")
                .replace("      - b\n", "")
        );
    }

    #[test]
    fn removal_keeps_comments_and_drops_empty_folders() {
        assert_eq!(
            remove(FILE, "/vsmserver/listen_port").unwrap(),
            FILE.replace("listen_port: 9000   # port", "# port")
        );
        let got = remove(
            "vsm:\n  vsm_agent_port: 1\nvsmagent:\n  display_min: 3\n",
            "/vsm/vsm_agent_port",
        )
        .unwrap();
        assert_eq!(got, "vsmagent:\n  display_min: 3\n");
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (file, line) in [
            ("a: 1\nvsm: {vsm_agent_port: 1}\n", 2),
            ("vsm:\n  vsm_agent_port: &x 1\n", 2),
            ("vsm:\n  vsm_agent_port: >\n    1\n", 2),
            ("vsm:\n  vsm_agent_port: 1\n   2\n", 2),
        ] {
            assert_eq!(
                set(file, "/vsm/vsm_agent_port", &text("2")).unwrap_err().line,
                line,
                "{file}"
            );
            assert_eq!(remove(file, "/vsm/vsm_agent_port").unwrap_err().line, line, "{file}");
        }
        let mappings = "HA:\n  nodes:\n    - ? x\n";
        assert_eq!(set(mappings, "/vsmserver/HA/nodes", &list(&["a"])).unwrap_err().line, 2);
    }
}
