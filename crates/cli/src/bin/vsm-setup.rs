//! Setting a host up.

use std::process::ExitCode;

use vsm_cli::{args::vsm_setup::Arguments, exit, setup};

fn main() -> ExitCode {
    exit::main("vsm-setup", |arguments: Arguments| setup::run(&arguments))
}
