//! `vsm-config`: reads and changes the configuration of VSM. What it does is in `vsm_config::tool`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::Parser;
use vsm_cli::args::vsm_config::{Arguments, Command};
use vsm_config::{ToolError, tool};

fn main() -> ExitCode {
    let args = Arguments::parse();
    let result = run(&args).and_then(|text| {
        let written = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
        match written {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => {
                written.map_err(|error| ToolError::Write(format!("standard output: {error}")))
            }
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                // Where standard error is gone too, the exit code still tells.
                let _ = writeln!(io::stderr(), "vsm-config: {line}");
            }
            ExitCode::from(error.code())
        }
    }
}

fn run(args: &Arguments) -> Result<String, ToolError> {
    let dir: &Path = &args.config;
    if let Some(command) = &args.command {
        // Not left to clap: it would also refuse --config before the command.
        let other = args.all_entries.is_some()
            || args.import.is_some()
            || args.purge.is_some()
            || args.export;
        if other
            || !(args.eval.is_empty() && args.eval_all.is_empty() && args.parameters.is_empty())
        {
            return Err(ToolError::Bad(
                "check and doc take no other options than --config".to_owned(),
            ));
        }
        return match command {
            Command::Check => tool::check(dir),
            Command::Doc { paths } => tool::document(paths),
        };
    }
    if let Some(folder) = &args.all_entries {
        return tool::list(dir, folder, args.recursive);
    }
    if !args.eval.is_empty() || !args.eval_all.is_empty() {
        return tool::shell(dir, &args.eval, &args.eval_all, args.export);
    }
    if args.export {
        return Err(ToolError::Bad("--export goes with -e or -E".to_owned()));
    }
    if let Some(file) = &args.import {
        return tool::import(dir, file);
    }
    if let Some(file) = &args.purge {
        return tool::purge(dir, file);
    }
    if args.parameters.is_empty() {
        return Err(ToolError::Bad("nothing to do; see vsm-config --help".to_owned()));
    }
    tool::parameters(dir, &args.parameters)
}
