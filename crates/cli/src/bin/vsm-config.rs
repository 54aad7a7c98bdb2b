//! `vsm-config`: reads and changes the configuration of VSM. Only the command line lives here; what it does
//! is in `vsm_config::tool`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use vsm_config::tool::{self, ToolError};

const EXAMPLES: &str = "\
Examples:
  vsm-config /vsmagent/master_hostname             print a value
  vsm-config /vsmagent/master_hostname=tlha        set one; several at once are set all or none
  vsm-config '/vsmserver/HA/nodes=tlha-primary tlha-secondary'
  vsm-config -a /vsmserver                         list a folder; -Ra / lists everything
  eval \"$(vsm-config -x -e PORT=/vsm/vsm_server_port)\"
  vsm-config doc /vsmserver/HA                     what the parameters mean
  vsm-config check                                 is the whole configuration sound?

A list is printed as words with blanks between them; a word with blanks of its own stands in quotes, and may \
be given so. Comments and the order of keys in the files are kept; a new key goes to the file named like its \
top folder. Services take changes over with `systemctl reload`, or restart where `doc` says so.

Exit codes: 0 done; 1 no such parameter; 2 bad value or usage; 3 cannot write. Nothing was changed unless it is 0.";

/// Read and change the configuration of VSM.
#[derive(Debug, Parser)]
#[command(name = "vsm-config", version, after_help = EXAMPLES)]
struct Args {
    /// Directory of the configuration files
    #[arg(long, value_name = "DIR", default_value = "/etc/vsm/conf.d", global = true)]
    config: PathBuf,

    /// List the parameters and folders in FOLDER
    #[arg(short, long, value_name = "FOLDER", conflicts_with_all = ["eval", "eval_all", "import", "purge", "parameters"])]
    all_entries: Option<String>,

    /// With -a: everything beneath the folder, by whole paths
    #[arg(short = 'R', long, requires = "all_entries")]
    recursive: bool,

    /// Print a value as a shell assignment to VAR
    #[arg(short, long, value_name = "VAR=/path", conflicts_with_all = ["import", "purge", "parameters"])]
    eval: Vec<String>,

    /// Print every parameter in FOLDER as a shell assignment to its own name
    #[arg(short = 'E', long, value_name = "FOLDER", conflicts_with_all = ["import", "purge", "parameters"])]
    eval_all: Vec<String>,

    /// With -e or -E: export the variables too
    #[arg(short = 'x', long)]
    export: bool,

    /// Take over the parameters of a ThinLinc .hconf tree and tell what became of each
    #[arg(short, long, value_name = "FILE.hconf", conflicts_with_all = ["purge", "parameters"])]
    import: Option<PathBuf>,

    /// Drop from FILE the parameters that other files set too
    #[arg(short, long, value_name = "FILE", conflicts_with = "parameters")]
    purge: Option<PathBuf>,

    /// Parameters to print, and assignments to make
    #[arg(value_name = "/path[=value]")]
    parameters: Vec<String>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the whole configuration and print what is worth a look
    Check,
    /// Tell what parameters mean: type, range, default, when a change takes effect
    Doc {
        /// Parameters or folders
        #[arg(value_name = "/path", required = true)]
        paths: Vec<String>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
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

fn run(args: &Args) -> Result<String, ToolError> {
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
