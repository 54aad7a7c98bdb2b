//! `vsm-manual DIR`: what a package has beside its programs and is made from them: manual pages and shell completions
//! from the command lines, the commented default configuration from the schema. No product; `cargo xtask dist` runs it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory, Parser};
use clap_complete::Shell;

/// Section of the manual for users' programs, and for those of administrators and daemons.
const USERS: &str = "1";
const ADMINISTRATORS: &str = "8";

/// Writes manual pages, shell completions and the default configuration.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to; made if it is missing
    dir: PathBuf,
}

/// Every program with a command line, and the section that its manual page is in.
fn programs() -> [(Command, &'static str); 16] {
    [
        (vsm_cli::args::vsm::Arguments::command(), USERS),
        (vsm_cli::args::vsmctl::Arguments::command(), ADMINISTRATORS),
        (vsm_cli::args::vsm_config::Arguments::command(), ADMINISTRATORS),
        (vsm_cli::args::vsm_setup::Arguments::command(), ADMINISTRATORS),
        (vsm_cli::args::vsm_sync::Arguments::command(), ADMINISTRATORS),
        (vsm_broker::args::Arguments::command(), ADMINISTRATORS),
        (vsm_root::args::Arguments::command(), ADMINISTRATORS),
        (vsm_agent::args::Arguments::command(), ADMINISTRATORS),
        (vsm_agent::args::NetArguments::command(), ADMINISTRATORS),
        (vsm_agent::args::ParamArguments::command(), USERS),
        (vsm_agent::args::DisconnectArguments::command(), USERS),
        (vsm_agent::args::ExtendArguments::command(), USERS),
        (vsm_agent::args::EnvArguments::command(), USERS),
        (vsm_agent::args::WhileArguments::command(), USERS),
        (vsm_cli::args::vsm_authorized_keys::Arguments::command(), ADMINISTRATORS),
        (vsm_web::args::Arguments::command(), ADMINISTRATORS),
    ]
}

fn main() -> Result<()> {
    let Arguments { dir } = Arguments::parse();
    for (program, section) in programs() {
        manual(&dir.join("man"), program.clone(), section)?;
        completions(&dir.join("completions"), &program)?;
    }
    let defaults = dir.join("00-defaults.yaml");
    fs::write(&defaults, vsm_config::defaults::text())
        .with_context(|| defaults.display().to_string())
}

/// A page for the program and one for each of its commands.
fn manual(dir: &Path, program: Command, section: &str) -> Result<()> {
    make(dir)?;
    let mut program = program.disable_help_subcommand(true);
    program.build();
    pages(dir, &program, section)
}

fn pages(dir: &Path, command: &Command, section: &str) -> Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(dir, below, section)?;
    }
    let page = clap_mangen::Man::new(command.clone()).section(section).manual("VSM").source("VSM");
    let path = dir.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// A file for each shell, where and as packages name them: `bash/vsm`, `zsh/_vsm`, `fish/vsm.fish`.
fn completions(dir: &Path, program: &Command) -> Result<()> {
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let dir = dir.join(name);
        make(&dir)?;
        let mut command = program.clone();
        let name = command.get_name().to_owned();
        let path = clap_complete::generate_to(shell, &mut command, &name, &dir)?;
        if shell == Shell::Bash {
            // bash-completion looks for the program's bare name.
            fs::rename(&path, path.with_file_name(&name))?;
        }
    }
    Ok(())
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())
}
