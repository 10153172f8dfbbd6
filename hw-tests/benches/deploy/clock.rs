//! The bench's one reader of the clock.

use sansio::Time;
use std::time::{Duration, SystemTime};

/// The moment, counted from 1970 as the appliance's events count it.
#[allow(clippy::disallowed_methods, reason = "a bench measures time")]
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time::ZERO + since
}

/// The middle one of several durations; of an even number the later one of the two in the middle.
pub(crate) fn median(of: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<Duration> = of.collect();
    all.sort();
    all.get(all.len() / 2).copied().unwrap_or_default()
}
