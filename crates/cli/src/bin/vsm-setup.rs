//! Setting a host up.

use std::process::ExitCode;

use vsm_cli::{args::vsm_setup::Arguments, exit, setup};

fn main() -> ExitCode {
    // It may hold the key of this host.
    vsm_daemon::process::guard_memory();
    exit::main("vsm-setup", |arguments: Arguments| setup::run(&arguments))
}
