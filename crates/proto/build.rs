//! Generates the gRPC types with protox, so that no protoc is needed, and keeps the descriptor set for reflection.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message;

const FILES: [&str; 15] = [
    "vsm/session/v1/session.proto",
    "vsm/agent/v1/agent.proto",
    "vsm/broker/v1/broker.proto",
    "vsm/broker/v1/registry.proto",
    "vsm/broker/v1/enrolment.proto",
    "vsm/broker/v1/openid.proto",
    "vsm/admin/v1/admin.proto",
    "vsm/admin/v1/config.proto",
    "vsm/admin/v1/agents.proto",
    "vsm/admin/v1/ha.proto",
    "vsm/admin/v1/identities.proto",
    "vsm/sync/v1/sync.proto",
    "vsm/sync/v1/peer.proto",
    "vsm/sync/v1/witness.proto",
    "vsm/sync/v1/observe.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = protox::compile(FILES, [&root])?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("vsm.bin"), files.encode_to_vec())?;
    // A message's name is what the codec finds its kind by.
    let mut names = prost_build::Config::new();
    names.enable_type_names();
    // In order of key, so that a record is the same bytes wherever it is made.
    tonic_prost_build::configure()
        .btree_map(".")
        .codec_path("crate::codec::Codec")
        .compile_fds_with_config(files, names)?;
    Ok(())
}
