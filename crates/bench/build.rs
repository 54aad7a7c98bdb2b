//! Generates the types of the echo service, and of etcd's as far as they are needed, with protox, as vsm-proto does for
//! the product's.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = protox::compile(["echo.proto", "etcd.proto"], [&root])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
