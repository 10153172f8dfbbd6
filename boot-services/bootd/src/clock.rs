//! The clock of the hands: one of the two places that read one.

use sansio::Time;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Counts microseconds since 1970 from the moment it was started, and never goes back: what the operating
/// system does to its clock afterwards is not seen.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    at: Time,
}

impl Clock {
    /// Starts it at the operating system's time of day.
    #[allow(clippy::disallowed_methods, reason = "the driver of the hands: somebody must read the clock")]
    pub fn start() -> Clock {
        let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { began: Instant::now(), at: Time::ZERO + day }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.at + self.began.elapsed()
    }

    /// The same moment, for the runtime's timers; more than a year away is a year away.
    pub fn instant(&self, at: Time) -> Instant {
        const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
        self.began + at.since(self.at).min(FAR)
    }

    /// Returns at that moment; never without one.
    pub async fn until(&self, at: Option<Time>) {
        match at {
            Some(at) => tokio::time::sleep_until(self.instant(at)).await,
            None => core::future::pending().await,
        }
    }
}
