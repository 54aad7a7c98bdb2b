//! `vsm-session-param`: what a program in a session can learn of it and of its client.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};

use vsm_agent::{
    args::ParamArguments,
    control,
    inside::{self, Failure, NO_SESSION, USAGE},
    params::{self, Params},
};

/// No such parameter.
const NO_PARAMETER: u8 = 1;

fn main() -> ExitCode {
    inside::main("vsm-session-param", |arguments: ParamArguments| {
        // Whoever reads has seen enough, or is gone.
        let _ = io::stdout().write_all(run(&arguments)?.as_bytes());
        Ok(ExitCode::SUCCESS)
    })
}

fn run(arguments: &ParamArguments) -> Result<String, Failure> {
    let nothing = arguments.all_entries.is_none() && arguments.eval.is_empty();
    if nothing && arguments.paths.is_empty() {
        return Err((USAGE, "name a parameter; see vsm-session-param --help".to_owned()));
    }
    let id = inside::meant(arguments.session.id)?;
    let dir = control::session_dir(&arguments.session.run_dir, id);
    let mut all =
        params::read(&dir).map_err(|error| (NO_SESSION, format!("session {id}: {error}")))?;
    all.insert(params::PROFILE.to_owned(), params::profile(&dir));
    match &arguments.all_entries {
        Some(folder) => list(&all, folder),
        None if arguments.eval.is_empty() => print(&all, &arguments.paths),
        None => assign(&all, &arguments.eval),
    }
}

fn value<'a>(all: &'a Params, path: &str) -> Result<&'a str, Failure> {
    let missing = || (NO_PARAMETER, format!("there is no parameter {path}"));
    all.get(path).map(String::as_str).ok_or_else(missing)
}

fn print(all: &Params, paths: &[String]) -> Result<String, Failure> {
    paths.iter().map(|path| Ok(format!("{}\n", value(all, path)?))).collect()
}

/// `key = value` for the parameters of a folder, `name/` for its folders.
fn list(all: &Params, folder: &str) -> Result<String, Failure> {
    let prefix = format!("{}/", folder.trim_end_matches('/'));
    let (mut text, mut folders) = (String::new(), BTreeSet::new());
    for (path, value) in all {
        let Some(rest) = path.strip_prefix(&prefix) else { continue };
        match rest.split_once('/') {
            Some((name, _)) => drop(folders.insert(name)),
            // Writing to a String cannot fail.
            None => drop(writeln!(text, "{rest} = {value}")),
        }
    }
    for name in folders {
        let _ = writeln!(text, "{name}/");
    }
    if text.is_empty() {
        Err((NO_PARAMETER, format!("there is no folder {folder}")))
    } else {
        Ok(text)
    }
}

fn assign(all: &Params, pairs: &[String]) -> Result<String, Failure> {
    let mut text = String::new();
    for pair in pairs {
        let bad =
            || (USAGE, format!("{pair:?} is not VAR=/path with the name of a shell variable"));
        let (name, path) =
            pair.split_once('=').filter(|(name, _)| is_variable(name)).ok_or_else(bad)?;
        let quoted = value(all, path)?.replace('\'', "'\\''");
        let _ = writeln!(text, "{name}='{quoted}'");
    }
    Ok(text)
}

fn is_variable(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().all(plain) && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Params {
        [("/client/name", "it's"), ("/client/params/room", "12"), ("/session/user", "ann")]
            .map(|(path, value)| (path.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn values_folders_and_assignments() {
        let all = all();
        let words =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(print(&all, &words(&["/client/name", "/session/user"])).unwrap(), "it's\nann\n");
        assert_eq!(print(&all, &words(&["/client/nam"])).unwrap_err().0, NO_PARAMETER);
        assert_eq!(list(&all, "/").unwrap(), "client/\nsession/\n");
        assert_eq!(list(&all, "/client/").unwrap(), "name = it's\nparams/\n");
        assert_eq!(list(&all, "/cli").unwrap_err().0, NO_PARAMETER);
        assert_eq!(assign(&all, &words(&["A_1=/client/name"])).unwrap(), "A_1='it'\\''s'\n");
        for bad in ["/client/name", "1A=/client/name", "A B=/client/name", "=/client/name"] {
            assert_eq!(assign(&all, &words(&[bad])).unwrap_err().0, USAGE, "{bad}");
        }
    }
}
