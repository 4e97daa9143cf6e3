//! Compiles the API's definition without protoc, and keeps it for reflection.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=hairpin");
    let files = protox::compile(["hairpin/v1/switch.proto"], ["."])?;
    let kept = PathBuf::from(std::env::var("OUT_DIR")?).join("hairpin.v1.bin");
    std::fs::write(kept, files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
