//! What `vsm-config` does, apart from reading its command line: each function answers with the text for
//! standard output, or with an error that knows its exit code.

use std::{collections::BTreeSet, fmt::Write, path::Path};

use crate::{
    config::Config,
    doc,
    error::ToolError,
    files, hconf,
    import::{self, Verdict},
    param::{self, canonical},
    schema,
    set::{self, Assignment},
};

/// Prints and sets parameters: `/path` and `/path=value`, in any mix. All are checked first, then all values
/// are set or none, then the others are printed.
///
/// # Errors
/// As the exit codes say; nothing was changed then.
pub fn parameters(dir: &Path, arguments: &[String]) -> Result<String, ToolError> {
    let mut assignments = Vec::new();
    let mut wanted = Vec::new();
    for argument in arguments {
        let path = argument.split_once('=').map_or(argument.as_str(), |(path, _)| path);
        if !path.starts_with('/') {
            return Err(ToolError::Bad(format!(
                "{argument:?} is not a parameter: paths begin with a slash"
            )));
        }
        match argument.split_once('=') {
            Some((path, value)) => assignments.push(Assignment::of(path, value)?),
            None if schema::find(&canonical(path)).is_none() => {
                return Err(ToolError::no_such(&canonical(path)));
            }
            None => wanted.push(canonical(path)),
        }
    }
    if !wanted.is_empty() {
        // One that is not there yet may be among those that are about to be set.
        let config = Config::load(dir)?;
        let set_now = |path: &str| assignments.iter().any(|assignment| assignment.path == path);
        if let Some(missing) =
            wanted.iter().find(|path| config.value(path).is_none() && !set_now(path))
        {
            return Err(unset(missing));
        }
    }
    if !assignments.is_empty() {
        set::apply(dir, &assignments)?;
    }
    if wanted.is_empty() {
        return Ok(String::new());
    }
    let config = Config::load(dir)?;
    wanted
        .iter()
        .map(|path| Ok(format!("{}\n", config.value(path).ok_or_else(|| unset(path))?)))
        .collect()
}

fn unset(path: &str) -> ToolError {
    ToolError::NoSuch(format!("{path}: not set, and has no default"))
}

/// Lists a folder: `key = value` for its parameters, `name/` for its folders; with `recursive` every
/// parameter beneath it by its whole path.
///
/// # Errors
/// No such folder, or a configuration that cannot be used.
pub fn list(dir: &Path, folder: &str, recursive: bool) -> Result<String, ToolError> {
    let folder = checked_folder(folder)?;
    let config = Config::load(dir)?;
    let prefix = format!("{}/", folder.trim_end_matches('/'));
    let mut out = String::new();
    let mut folders = BTreeSet::new();
    for (path, value) in config.entries() {
        let Some(rest) = path.strip_prefix(&prefix) else { continue };
        let shown = one_line(&value.to_string());
        // Writing to a String cannot fail.
        let _ = match rest.split_once('/') {
            _ if recursive => writeln!(out, "{path} = {shown}"),
            None => writeln!(out, "{rest} = {shown}"),
            Some((name, _)) => {
                folders.insert(name.to_owned());
                Ok(())
            }
        };
    }
    for name in folders {
        let _ = writeln!(out, "{name}/");
    }
    Ok(out)
}

fn checked_folder(folder: &str) -> Result<String, ToolError> {
    let path = canonical(folder);
    if schema::is_folder(&path) {
        return Ok(path);
    }
    match schema::find(&path) {
        Some(_) => Err(ToolError::NoSuch(format!("{path}: is a parameter, not a folder"))),
        None => Err(ToolError::no_such(&path)),
    }
}

/// A value with line breaks would break a listing that is one line for each.
fn one_line(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}

/// Shell assignments: `VAR=/path` pairs, then every parameter of `folders` under its own name.
///
/// # Errors
/// A bad variable name, no such parameter, or a configuration that cannot be used.
pub fn shell(
    dir: &Path,
    evals: &[String],
    folders: &[String],
    export: bool,
) -> Result<String, ToolError> {
    let config = Config::load(dir)?;
    let export = if export { "export " } else { "" };
    let mut out = String::new();
    let mut assign = |name: &str, value: &str| {
        let quoted = value.replace('\'', "'\\''");
        let _ = writeln!(out, "{export}{name}='{quoted}'");
    };
    for eval in evals {
        let pair = eval.split_once('=').filter(|(name, _)| param::is_identifier(name));
        let Some((name, path)) = pair else {
            return Err(ToolError::Bad(format!(
                "{eval:?} is not VAR=/path with the name of a shell variable"
            )));
        };
        let path = canonical(path);
        if schema::find(&path).is_none() {
            return Err(ToolError::no_such(&path));
        }
        assign(name, &config.value(&path).ok_or_else(|| unset(&path))?);
    }
    for folder in folders {
        for (key, value) in config.folder(&checked_folder(folder)?) {
            let word: String =
                key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            let name = if word.starts_with(|c: char| c.is_ascii_digit()) {
                format!("_{word}")
            } else {
                word
            };
            assign(&name, &value);
        }
    }
    Ok(out)
}

/// Takes over an `.hconf` tree, all that fits or nothing, and tells line by line what became of each parameter.
///
/// # Errors
/// A tree that cannot be read, a result that contradicts itself, or files that cannot be written.
pub fn import(dir: &Path, file: &Path) -> Result<String, ToolError> {
    let entries = hconf::read(file).map_err(ToolError::Bad)?;
    let verdicts: Vec<Verdict> = entries.iter().map(import::judge).collect();
    // In the tree, as with us, the later wins.
    let mut assignments: Vec<Assignment> = Vec::new();
    for verdict in &verdicts {
        if let Verdict::Taken(assignment) | Verdict::Changed(assignment, _) = verdict {
            assignments.retain(|earlier| earlier.path != assignment.path);
            assignments.push(assignment.clone());
        }
    }
    let changed = match set::apply(dir, &assignments) {
        Ok(changed) => changed,
        // What was ignored is often what the refusal comes from.
        Err(refusal) => return Err(refusal.with_lines(&ignored(&entries, &verdicts))),
    };
    let mut out = String::new();
    for (entry, verdict) in entries.iter().zip(&verdicts) {
        let place = format!("{}:{}", entry.file.display(), entry.line);
        let line = match verdict {
            Verdict::Ignored(reason) => {
                format!("ignored  {} = {}: {reason}", entry.path, one_line(&entry.value))
            }
            Verdict::Taken(new) | Verdict::Changed(new, _) if !assignments.contains(new) => {
                format!("ignored  {} = {}: set again further on", entry.path, entry.value)
            }
            Verdict::Taken(new) | Verdict::Changed(new, _) if !changed.contains(&new.path) => {
                format!("same     {} = {}", new.path, new.value)
            }
            Verdict::Taken(new) => format!("taken    {} = {}", new.path, new.value),
            Verdict::Changed(new, reason) => {
                format!(
                    "changed  {} = {} -> {} = {}: {reason}",
                    entry.path, entry.value, new.path, new.value
                )
            }
        };
        let _ = writeln!(out, "{line} ({place})");
    }
    let count = |word: &str| out.lines().filter(|line| line.starts_with(word)).count();
    let (taken, other, same, ignored) =
        (count("taken "), count("changed "), count("same "), count("ignored "));
    let _ = writeln!(out, "{taken} taken, {other} changed, {same} already so, {ignored} ignored");
    Ok(out)
}

/// What an import does not take, a line each.
fn ignored(entries: &[hconf::Entry], verdicts: &[Verdict]) -> Vec<String> {
    let line = |(entry, verdict): (&hconf::Entry, &Verdict)| {
        let Verdict::Ignored(reason) = verdict else { return None };
        let (path, value) = (&entry.path, one_line(&entry.value));
        let place = format!("{}:{}", entry.file.display(), entry.line);
        Some(format!("ignored  {path} = {value}: {reason} ({place})"))
    };
    entries.iter().zip(verdicts).filter_map(line).collect()
}

/// Drops from `file` what other files set too.
///
/// # Errors
/// A file that cannot be read, edited safely, or written.
pub fn purge(dir: &Path, file: &Path) -> Result<String, ToolError> {
    let mut out = String::new();
    for (path, gone, kept) in set::purge(dir, file)? {
        let change =
            if gone == kept { String::new() } else { format!(" (elsewhere: {})", one_line(&kept)) };
        let _ = writeln!(out, "dropped  {path} = {}{change}", one_line(&gone));
    }
    Ok(out)
}

/// Checks the whole configuration; the text has its notes, one a line.
///
/// # Errors
/// Every problem, one a line; what a broker cannot do counts too.
pub fn check(dir: &Path) -> Result<String, ToolError> {
    let lines = |notes: &[String]| notes.iter().map(|note| format!("{note}\n")).collect::<String>();
    // What lies in a file that is not read is often what the rest of them lacks.
    let unread = lines(&files::unread(dir));
    let config =
        Config::load(dir).map_err(|refused| ToolError::Bad(format!("{unread}{refused}")))?;
    let Err(refused) = config.check() else {
        return Ok(unread + &lines(config.notes()));
    };
    let said = |note: &String| refused.problems.iter().any(|problem| problem.text == *note);
    let notes: Vec<String> = config.notes().iter().filter(|note| !said(note)).cloned().collect();
    Err(ToolError::Bad(unread + &lines(&notes) + &refused.to_string()))
}

/// What parameters mean.
///
/// # Errors
/// No such parameter or folder.
pub fn document(paths: &[String]) -> Result<String, ToolError> {
    let texts = paths
        .iter()
        .map(|path| doc::text(path).ok_or_else(|| ToolError::no_such(&canonical(path))));
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}
