//! Which watchdog the supervisor is to feed: the machine's own, or the kernel's stand-in.

use crate::modules::Modules;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the kernel lists them.
pub const LIST: &str = "/sys/class/watchdog";
/// The kernel's stand-in calls itself so.
const SOFTWARE: &str = "Software Watchdog";
/// Its module; only whoever finds no other loads it, for it does not outlive a kernel that hangs.
const STAND_IN: &str = "softdog";

/// The watchdog there is, the stand-in loaded where the machine has none.
pub fn bring_up(modules: Option<&mut Modules>) -> Option<PathBuf> {
    let list = Path::new(LIST);
    if device(list).is_none()
        && let Some(modules) = modules
    {
        modules.load(STAND_IN);
    }
    device(list)
}

/// The device of the first watchdog that is the machine's own, or else of the stand-in.
pub fn device(list: &Path) -> Option<PathBuf> {
    let mut found: Vec<(bool, u32, String)> = fs::read_dir(list)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix("watchdog")?.parse().ok()?;
            let identity = fs::read_to_string(entry.path().join("identity")).unwrap_or_default();
            Some((identity.trim() == SOFTWARE, number, name))
        })
        .collect();
    found.sort();
    Some(Path::new("/dev").join(&found.first()?.2))
}

#[cfg(test)]
mod tests;
