//! Waiting for a condition until a deadline: the one place of the rack that reads a clock.
#![allow(clippy::disallowed_methods, reason = "a driver of real processes: somebody must read the clock")]

use anyhow::{Result, bail};
use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

const PAUSE: Duration = Duration::from_millis(20);

/// Asks `condition` again and again until it answers.
///
/// # Errors
/// It did not within `patience`: the error says `what` was awaited. What `condition` itself fails with ends
/// the wait.
pub fn until<T>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = condition()? {
            return Ok(found);
        }
        if start.elapsed() >= patience {
            bail!("waited {} s in vain for {what}", patience.as_secs_f32());
        }
        thread::sleep(PAUSE);
    }
}

/// What is left of a time that began when this was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    pub(super) fn after(patience: Duration) -> Deadline {
        Deadline(Instant::now() + patience)
    }

    /// What is left; `None` once it is over.
    pub(super) fn left(self) -> Option<Duration> {
        self.0.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

/// Milliseconds since 1970, for logs that people compare with other logs.
pub(super) fn milliseconds_since_1970() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis())
}
