//! Waiting for what happens elsewhere.

use std::time::{Duration, Instant};

use super::error::{BedError, Result};

/// Far longer than anything waited for takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_millis(20);

/// Asks again and again until the answer is yes.
///
/// # Errors
/// If it is still no after 20 s.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !happened() {
        if Instant::now() > end {
            return Err(BedError::new(format_args!("{what}: not after {PATIENCE:?}")));
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}
