//! The program's one reader of the clock.

use sansio::Time;
use std::{sync::OnceLock, time::Instant};

/// The moment, counted from the first call, which `main` makes.
#[allow(clippy::disallowed_methods, reason = "the driver's clock; everybody else is handed a Time")]
pub fn now() -> Time {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    Time::ZERO + start.elapsed()
}
