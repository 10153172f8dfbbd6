//! What a process costs, read from `/proc`.

use anyhow::{Context as _, Result};
use std::fs;

/// The kernel's unit of CPU time in `/proc` (proc(5): `sysconf(_SC_CLK_TCK)`, 100 on every Linux).
const TICKS_A_SECOND: f64 = 100.0;

/// Seconds of CPU that a process has used, with all its threads, those that ended too.
pub(crate) fn seconds_of_cpu(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("{path}: did it end?"))?;
    // The name in parentheses may hold anything. Behind it, 14 and 15 are the user's and the system's ticks.
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let ticks = |field: usize| behind.split_ascii_whitespace().nth(field - 3)?.parse::<f64>().ok();
    let both = ticks(14).zip(ticks(15)).with_context(|| format!("{path} has no times"))?;
    Ok((both.0 + both.1) / TICKS_A_SECOND)
}

/// Octets of memory that are the process's own: not those of files it has mapped.
pub(crate) fn own_memory(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("{path}: did it end?"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    Ok((field("RssAnon") + field("RssShmem")) << 10)
}

/// Takes the processors before others do, where the kernel shares them between sessions of terminals first;
/// until this is dropped.
pub(crate) struct First(String);

const SHARE: &str = "/proc/self/autogroup";

impl First {
    /// Begins it. Only root may, and not every kernel has it; then the figures are as noisy as the machine is.
    pub(crate) fn begin() -> First {
        // `/autogroup-NUMBER nice VALUE`
        let before = fs::read_to_string(SHARE).unwrap_or_default();
        let nice = before.trim_end().rsplit(' ').next().unwrap_or("0").to_owned();
        let _ = fs::write(SHARE, "-15");
        First(nice)
    }
}

impl Drop for First {
    fn drop(&mut self) {
        let _ = fs::write(SHARE, &self.0);
    }
}
