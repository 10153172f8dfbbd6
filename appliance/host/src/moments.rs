//! How long each part of coming up took: for whoever waits for a box, and for whoever makes it faster.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::Write as _,
    time::Duration,
};

/// Lines of hundredths of a second since the kernel began, and what was done by then. `/init` writes the first.
const FILE: &str = "/run/moments";

/// What was done, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moments(Vec<Moment>);

/// Something was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Moment {
    what: String,
    /// Since the kernel began.
    at: Duration,
}

/// This was done just now.
pub fn mark(what: &str) {
    let Some(up) = up() else { return };
    // Nothing hangs on it.
    let _ = OpenOptions::new()
        .create(true)
        .append(true)
        .open(FILE)
        .and_then(|mut file| file.write_all(format!("{} {what}\n", up.as_millis() / 10).as_bytes()));
}

/// Since the kernel began.
fn up() -> Option<Duration> {
    // proc(5): seconds with two digits behind the point.
    let text = fs::read_to_string("/proc/uptime").ok()?;
    text.split(' ').next()?.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

impl Moments {
    /// All that were marked.
    pub fn read() -> Moments {
        Moments::parse(&fs::read_to_string(FILE).unwrap_or_default())
    }

    fn parse(text: &str) -> Moments {
        let moment = |line: &str| {
            let (at, what) = line.split_once(' ')?;
            let at = Duration::from_millis(at.parse::<u64>().ok()?.checked_mul(10)?);
            Some(Moment { what: what.to_owned(), at })
        };
        Moments(text.lines().filter_map(moment).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = Duration::ZERO;
        for (number, Moment { what, at }) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{what} {:.2}", at.saturating_sub(before).as_secs_f64())?;
            before = *at;
        }
        write!(f, " s")
    }
}

#[cfg(test)]
mod tests;
