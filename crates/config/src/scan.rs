//! Where things stand in a YAML file: a line-based look at its block mappings.
//!
//! The YAML parser gives values without positions. This scanner gives positions without judging values: the
//! line of each key for error messages, and what the editor must touch to change one. It follows block
//! mappings, block lists of plain items and one-line values; anything else it marks as [`Shape::Other`], which
//! the editor refuses to touch. It is never trusted alone: files are read, and edits verified, by the parser.

use std::collections::HashMap;

use crate::{param::canonical, schema};

/// How a key's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nothing after the colon: a folder, or no value.
    Empty,
    /// A scalar or flow list that ends on the key's line.
    Inline,
    /// `- item` lines, one line each.
    Block,
    /// Flow mapping, anchor, multi-line scalar, tag, ...
    Other,
}

/// One key of a block mapping.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The path as the schema spells it.
    pub(crate) path: String,
    /// Index of the key's line.
    pub(crate) line: usize,
    /// Blanks before the key.
    pub(crate) indent: usize,
    /// Byte in the line right after the colon.
    pub(crate) colon: usize,
    /// Bytes of the value in the line, for [`Shape::Inline`].
    pub(crate) value: (usize, usize),
    /// How the value is written.
    pub(crate) shape: Shape,
    /// Index of the line after the last one with content of this key, its children included.
    pub(crate) end: usize,
}

/// Every key of the block mappings of `text`, in order. Keys beneath [`Shape::Other`] are left out.
pub(crate) fn scan(text: &str) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    // Indexes into `nodes` of the mappings that are open, outermost first.
    let mut open: Vec<usize> = Vec::new();
    for (line, content) in text.lines().enumerate() {
        let content = content.trim_end();
        let indent = content.len() - content.trim_start_matches(' ').len();
        let body = &content[indent..];
        if body.is_empty()
            || body.starts_with('#')
            || (indent == 0 && (body == "---" || body.starts_with('%')))
        {
            continue;
        }
        let item = body == "-" || body.starts_with("- ");
        // A list may stand at the indentation of its key.
        while open.last().is_some_and(|&top| {
            nodes[top].indent > indent || (nodes[top].indent == indent && !item)
        }) {
            open.pop();
        }
        for &above in &open {
            nodes[above].end = line + 1;
        }
        let parent = open.last().copied();
        if let Some(top) = parent {
            let has_key = nodes.last().is_some_and(|last| last.line > nodes[top].line);
            let node = &mut nodes[top];
            if item && !has_key && matches!(node.shape, Shape::Empty | Shape::Block) {
                node.shape = if is_plain_item(&body[1..]) { Shape::Block } else { Shape::Other };
                continue;
            }
            if node.shape != Shape::Empty {
                // A continuation of a value, or what is inside one that is not followed.
                node.shape = Shape::Other;
                continue;
            }
        }
        let Some((key, colon)) = key_of(body) else { continue };
        let above = parent.map_or("", |top| nodes[top].path.as_str());
        let path = canonical(&format!("{above}/{key}"));
        let (shape, value) = value_of(content, indent + colon);
        nodes.push(Node { path, line, indent, colon: indent + colon, value, shape, end: line + 1 });
        open.push(nodes.len() - 1);
    }
    nodes
}

/// Keys that are given again, each with the first place of the same key.
pub(crate) fn doubled(nodes: &[Node]) -> Vec<(&Node, &Node)> {
    let mut pairs = Vec::new();
    let mut seen: HashMap<&str, &Node> = HashMap::new();
    for later in nodes {
        let earlier = *seen.entry(&later.path).or_insert(later);
        // The same folder may stand under its old and its new spelling; the same mapping key may not.
        let same = earlier.indent == later.indent || schema::find(&later.path).is_some();
        if earlier.line != later.line && same {
            pairs.push((earlier, later));
        }
    }
    pairs
}

/// The key of a mapping line and the byte after its colon.
fn key_of(body: &str) -> Option<(String, usize)> {
    if let Some(quote) = body.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let close = body[1..].find(quote)? + 1;
        let rest = &body[close + 1..];
        let colon = rest.len() - rest.trim_start().len();
        let after = rest.trim_start().strip_prefix(':')?;
        let ends = after.is_empty() || after.starts_with(' ');
        return ends.then(|| (body[1..close].to_owned(), close + 2 + colon));
    }
    if body.starts_with(['{', '[', '&', '*', '!', '|', '>', '?', '@', '`']) {
        return None;
    }
    let colon = body.find(": ").or_else(|| body.ends_with(':').then(|| body.len() - 1))?;
    Some((body[..colon].trim_end().to_owned(), colon + 1))
}

/// The shape and place of the value that follows a colon.
fn value_of(content: &str, colon: usize) -> (Shape, (usize, usize)) {
    let rest = &content[colon..];
    let start = colon + rest.len() - rest.trim_start().len();
    match inline_end(&content[start..]) {
        Some(0) => (Shape::Empty, (colon, colon)),
        Some(len) => (Shape::Inline, (start, start + len)),
        None => (Shape::Other, (start, content.len())),
    }
}

/// Length of the scalar or flow list that `text` begins with, comment left out; `None` where it is something
/// else or does not end in `text`.
pub(crate) fn inline_end(text: &str) -> Option<usize> {
    let end = match text.chars().next() {
        None | Some('#') => return Some(0),
        Some(quote @ ('"' | '\'')) => quoted_end(text, quote)?,
        Some('[') => {
            let mut at = 1;
            loop {
                match text[at..].chars().next()? {
                    ']' => break at + 1,
                    quote @ ('"' | '\'') => at += quoted_end(&text[at..], quote)?,
                    '[' | '{' | '&' | '*' | '!' | '#' => return None,
                    other => at += other.len_utf8(),
                }
            }
        }
        Some('{' | '&' | '*' | '!' | '|' | '>' | '@' | '`' | '%') => return None,
        Some(_) => {
            return Some(text.find(" #").map_or(text, |comment| &text[..comment]).trim_end().len());
        }
    };
    let rest = text[end..].trim_start();
    (rest.is_empty() || rest.starts_with('#')).then_some(end)
}

fn quoted_end(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if quote == '"' && c == '\\' {
            chars.next();
        } else if c == quote {
            if quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == '\'') {
                chars.next();
                continue;
            }
            return Some(at + 1);
        }
    }
    None
}

/// Whether what follows the dash of a list item is one plain or quoted scalar.
fn is_plain_item(text: &str) -> bool {
    let text = text.trim();
    let mapping = key_of(text).is_some();
    let nested = text == "-" || text.starts_with("- ") || text.starts_with('[');
    !mapping && !nested && inline_end(text).is_some_and(|len| len > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(text: &str) -> Vec<(String, usize, Shape, usize)> {
        scan(text).into_iter().map(|n| (n.path, n.line, n.shape, n.end)).collect()
    }

    #[test]
    fn keys_are_found_with_their_lines_and_ends() {
        let text = "# top\nvsmserver:\n  HA: # pair\n    nodes:\n    - a\n    - b # two\n\n  # last\n  listen_port: 9000\n";
        assert_eq!(
            shapes(text),
            [
                ("/vsmserver".to_owned(), 1, Shape::Empty, 9),
                ("/vsmserver/HA".to_owned(), 2, Shape::Empty, 6),
                ("/vsmserver/HA/nodes".to_owned(), 3, Shape::Block, 6),
                ("/vsmserver/listen_port".to_owned(), 8, Shape::Inline, 9),
            ]
        );
    }

    #[test]
    fn what_is_not_followed_is_marked() {
        let text = "a: |\n  x: 1\nb: &x 1\nc: {d: 1}\ne: one\n  two\nf:\n- g: 1\nh: [a,\n  b]\n";
        for (path, _, shape, _) in shapes(text) {
            assert_eq!(shape, Shape::Other, "{path}");
        }
        assert_eq!(scan(text).len(), 6);
    }

    #[test]
    fn values_end_before_their_comment() {
        for (text, value) in [
            ("k: a#b # c", "a#b"),
            ("k: \"a # \\\" b\" # c", "\"a # \\\" b\""),
            ("k: 'it''s' # c", "'it''s'"),
            ("'k' : [a, 'b]'] # c", "[a, 'b]']"),
        ] {
            let node = &scan(text)[0];
            assert_eq!(&text[node.value.0..node.value.1], value);
            assert_eq!(node.shape, Shape::Inline);
        }
    }

    #[test]
    fn doubled_keys_are_found_also_under_an_alias() {
        let nodes = scan("vsmserver:\n  HA:\n    enabled: 1\nHA:\n  enabled: 0\n");
        let pairs = doubled(&nodes);
        assert_eq!(pairs.iter().map(|(a, b)| (a.line, b.line)).collect::<Vec<_>>(), [(2, 4)]);
    }
}
