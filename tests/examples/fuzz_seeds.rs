//! Writes the seeds of the fuzz targets to `tests/fuzz/seeds`.

use std::fs;
use std::path::Path;

use hairpin_tests::fuzz::seeds;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (target, name, bytes) in seeds::all() {
        fs::create_dir_all(root.join(target))?;
        fs::write(root.join(target).join(name), bytes)?;
    }
    Ok(())
}
