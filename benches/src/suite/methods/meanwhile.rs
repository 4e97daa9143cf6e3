//! What somebody else does during a trial.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::error::{Result, RigError};

/// Something that is done again and again, by a thread on the generator's CPU: what the generator
/// misses for that is not counted as lost.
#[derive(Debug)]
pub struct Meanwhile {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u32>>,
}

impl Meanwhile {
    /// Begins; it is done once at least.
    pub fn start(work: impl Fn() -> Result<()> + Send + 'static) -> Meanwhile {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut times = 0;
            loop {
                work()?;
                times += 1;
                if stopped.load(Ordering::Relaxed) {
                    return Ok(times);
                }
            }
        });
        Meanwhile { stop, thread }
    }

    /// Ends it; says how often it was done.
    ///
    /// # Errors
    /// That of the work, which ended it.
    pub fn stop(self) -> Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| RigError::new("what was done during a trial panicked"))?
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_counted_until_it_is_stopped_and_what_fails_is_an_error() {
        let counted = Meanwhile::start(|| {
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        });
        std::thread::sleep(Duration::from_millis(30));
        assert!(counted.stop().unwrap() > 0);
        let refused = Meanwhile::start(|| Err(RigError::new("no")));
        assert!(refused.stop().is_err());
    }
}
