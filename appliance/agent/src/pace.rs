//! When the status is to be said.

use sansio::Time;
use std::time::Duration;

/// Progress is said at most four times a second.
const PROGRESS: Duration = Duration::from_millis(250);
/// "at least every five seconds" ([`boot::AgentLine`]).
const ALIVE: Duration = Duration::from_secs(5);

/// What was said last on one connection, and when.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    said: Option<(Time, u64, u64)>,
}

impl Pace {
    /// When it is to be said again, if `steps` changes of weight and `ticks` of progress were counted.
    pub(crate) fn due(&self, steps: u64, ticks: u64) -> Time {
        match self.said {
            None => Time::ZERO,
            Some((_, before, _)) if before != steps => Time::ZERO,
            Some((at, _, before)) if before != ticks => at + PROGRESS,
            Some((at, _, _)) => at + ALIVE,
        }
    }

    /// It was said.
    pub(crate) fn said(&mut self, now: Time, steps: u64, ticks: u64) {
        self.said = Some((now, steps, ticks));
    }
}

/// How long to rest before the next try: 0.2 s, doubled up to 5 s, and from the start after a success.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    tries: u32,
}

impl BackOff {
    /// The next rest.
    pub(crate) fn next(&mut self) -> Duration {
        let rest = Duration::from_millis(200 << self.tries.min(5)).min(Duration::from_secs(5));
        self.tries = self.tries.saturating_add(1);
        rest
    }

    /// Tries since the last success.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests;
