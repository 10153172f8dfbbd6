//! Which disk is meant.

use agent_proto::{Disk, Failure, FailureKind};
use boot::DiskHint;

/// The disk for an image that needs `needed` octets: all of the hint must match, and exactly one disk
/// must. An empty hint means the only disk that is not removable, or of several the smallest that is
/// big enough, if no other is as small.
pub(crate) fn choose<'a>(disks: &'a [Disk], hint: &DiskHint, needed: u64) -> Result<&'a Disk, Failure> {
    let meant = matching(disks, hint);
    if meant.is_empty() {
        return Err(no_disk(disks, hint));
    }
    if !hint.is_empty() && meant.len() > 1 {
        return Err(ambiguous(&meant, "all match the hint; add the serial number or the WWN"));
    }
    let enough = || meant.iter().copied().filter(|disk| disk.size >= needed);
    let Some(smallest) = enough().min_by_key(|disk| disk.size) else {
        let largest = meant.iter().max_by_key(|disk| disk.size).copied().unwrap_or(meant[0]);
        return Err(too_small(&describe(largest), largest.size, needed));
    };
    let same: Vec<&Disk> = enough().filter(|disk| disk.size == smallest.size).collect();
    if same.len() > 1 {
        return Err(ambiguous(
            &same,
            "are the same size; name one by serial number or WWN as the node's root disk",
        ));
    }
    Ok(smallest)
}

/// The disks that match all of the hint; for an empty one, all that are not removable.
pub(crate) fn matching<'a>(disks: &'a [Disk], hint: &DiskHint) -> Vec<&'a Disk> {
    disks.iter().filter(|disk| disk.size > 0 && fits(disk, hint)).collect()
}

fn fits(disk: &Disk, hint: &DiskHint) -> bool {
    if hint.is_empty() {
        return !disk.removable;
    }
    hint.serial.as_ref().is_none_or(|serial| !serial.trim().is_empty() && serial.trim() == disk.serial.trim())
        && hint.wwn.as_ref().is_none_or(|wwn| !wwn.is_empty() && plain(wwn) == plain(&disk.wwn))
        && hint.name.as_ref().is_none_or(|name| name.strip_prefix("/dev/").unwrap_or(name) == disk.name)
}

/// A WWN without what different tools put before it: `naa.5000…`, `0x5000…`, `wwn-0x5000…`, `eui.…`.
fn plain(wwn: &str) -> String {
    let mut rest = wwn.trim().to_ascii_lowercase();
    for prefix in ["wwn-", "naa.", "eui.", "0x"] {
        if let Some(after) = rest.strip_prefix(prefix) {
            rest = after.to_owned();
        }
    }
    rest
}

/// No disk is what the hint says.
pub(crate) fn no_disk(disks: &[Disk], hint: &DiskHint) -> Failure {
    let there: Vec<String> = disks.iter().map(describe).collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    let wanted = [("serial", &hint.serial), ("wwn", &hint.wwn), ("name", &hint.name)];
    let wanted: Vec<String> =
        wanted.iter().filter_map(|(key, value)| Some(format!("{key} {:?}", value.as_ref()?))).collect();
    let text = if wanted.is_empty() {
        format!(
            "the machine shows no disk that is not removable; disks: {there}; look at its controller and cables"
        )
    } else {
        format!("no disk with {}; disks: {there}; correct the node's root disk", wanted.join(" and "))
    };
    Failure { kind: FailureKind::NoDisk, text }
}

fn ambiguous(disks: &[&Disk], why: &str) -> Failure {
    let names: Vec<String> = disks.iter().map(|disk| describe(disk)).collect();
    Failure { kind: FailureKind::AmbiguousDisk, text: format!("{} {why}", names.join(", ")) }
}

/// The disk is smaller than what goes on it, both in octets.
pub(crate) fn too_small(disk: &str, size: u64, needed: u64) -> Failure {
    let text = format!(
        "{disk} has {size} octets and the image with its config drive and partition table needs {needed}; \
         take another disk or a smaller image"
    );
    Failure { kind: FailureKind::DiskTooSmall, text }
}

fn describe(disk: &Disk) -> String {
    let mut text = disk.name.clone();
    for (key, value) in [("model", &disk.model), ("serial", &disk.serial), ("wwn", &disk.wwn)] {
        if !value.is_empty() {
            text += &format!(" {key} {value}");
        }
    }
    let removable = if disk.removable { ", removable" } else { "" };
    format!("{text} ({} MB{removable})", disk.size / 1_000_000)
}

#[cfg(test)]
mod tests;
