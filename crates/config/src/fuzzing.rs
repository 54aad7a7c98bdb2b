//! Ways into the readers for `vsm-fuzz`, without a directory: texts in, what was made of them out.

use std::{collections::BTreeMap, path::Path};

use crate::{
    Config, ToolError, depth, edit,
    files::Source,
    hconf,
    import::{self, Verdict},
    load::checked,
    param, schema,
    set::{self, Assignment},
    value::Value,
    yaml,
};

/// The file that a text stands for.
const FILE: &str = "/f.yaml";

fn source(text: &str) -> Source {
    Source { file: FILE.into(), text: text.to_owned() }
}

/// The configuration that one file makes, or all that is wrong: the line, 0 = not known, and what.
///
/// # Errors
/// As [`Config::load`].
pub fn read(text: &str) -> Result<Config, Vec<(usize, String)>> {
    let merged = checked(&[source(text)]);
    if merged.problems.is_empty() {
        return Ok(Config::of(merged));
    }
    Err(merged.problems.iter().map(|problem| (problem.line, problem.to_string())).collect())
}

/// What one file sets, as written; none = it cannot be read as YAML.
#[must_use]
pub fn values(text: &str) -> Option<BTreeMap<String, String>> {
    set::raw_values(&source(text)).ok()
}

/// Whether a text nests deeper than anything that is read.
#[must_use]
pub fn is_too_deep(text: &str) -> bool {
    depth::too_deep(text).is_some()
}

/// The text with a parameter set, as `vsm-config` sets it; the path as the schema spells it comes with it.
///
/// # Errors
/// No such parameter, a bad value, or a text that cannot be edited safely.
pub fn set(text: &str, path: &str, value: &str) -> Result<(String, String), ToolError> {
    let assignment = Assignment::of(path, value)?;
    let mut source = source(text);
    set::assign(&mut source, &assignment)?;
    Ok((source.text, assignment.path))
}

/// The text without a parameter; none = the editor does not touch it. Nothing has compared the result yet.
#[must_use]
pub fn removed(text: &str, path: &str) -> Option<String> {
    edit::remove(text, &param::canonical(path)).ok()
}

/// A file in which all of these are set, as where one node takes over the parameters of another.
///
/// # Errors
/// As [`set()`].
pub fn written(parameters: &BTreeMap<String, String>) -> Result<String, ToolError> {
    let mut all = source("");
    for (path, value) in parameters {
        set::assign(&mut all, &Assignment::of(path, value)?)?;
    }
    Ok(all.text)
}

/// What becomes of an `.hconf` file: the lines of a file in which all that is taken is set, and how many were not.
///
/// # Errors
/// One line with file, line and reason; also where what is taken over cannot be written down.
pub fn imported(text: &str) -> Result<(String, usize), ToolError> {
    let entries = hconf::parse(Path::new("/nowhere/f.hconf"), text).map_err(ToolError::Bad)?;
    let mut all = source("");
    let mut ignored = 0;
    for entry in &entries {
        match import::judge(entry) {
            Verdict::Taken(assignment) | Verdict::Changed(assignment, _) => {
                set::assign(&mut all, &assignment)?;
            }
            Verdict::Ignored(_) => ignored += 1,
        }
    }
    Ok((all.text, ignored))
}

/// Whether a name fits a pattern of `%mount`.
#[must_use]
pub fn fits(pattern: &[u8], name: &[u8]) -> bool {
    hconf::matches(pattern, name)
}

/// What a path leads to.
#[derive(Debug)]
pub struct Place {
    /// As the schema spells it.
    pub canonical: String,
    /// A parameter of the schema.
    pub is_parameter: bool,
    /// A folder of the schema.
    pub is_folder: bool,
    /// The known path that is spelled most like it.
    pub nearest: Option<String>,
}

/// Looks a path up.
#[must_use]
pub fn place(path: &str) -> Place {
    let canonical = param::canonical(path);
    Place {
        is_parameter: schema::find(&canonical).is_some(),
        is_folder: schema::is_folder(&canonical),
        nearest: schema::nearest(&canonical),
        canonical,
    }
}

/// The value of a parameter as it is read; none = it is not allowed, or there is no such parameter.
#[must_use]
pub fn normal(path: &str, value: &str) -> Option<String> {
    let param = schema::find(&param::canonical(path))?;
    let normal = param.normalise(&Value::Text(value.to_owned())).ok()?;
    Some(normal.to_string())
}

/// The text of a scalar that is written as `vsm-config` writes it; none = it is not read back as YAML at all.
#[must_use]
pub fn scalar_read_back(text: &str) -> Option<String> {
    yaml::scalar_text(&edit::scalar(text))
}
