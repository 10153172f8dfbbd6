//! Wiping what tells a system that a disk holds something: partition tables, file systems, RAID members.

use crate::{
    device::{Device, is_zero},
    plan::{MIB, up},
    source::Halt,
    table::{EDGE, Edges},
    write::{fault, read},
};
use agent_proto::{FailureKind, Phase, Progress};
use std::{io, ops::Range};

/// So much at each end of a disk and of a partition: what every signature known to blkid lies within.
const END: u64 = 4 * MIB;
/// Discarded at once, so that it can be stopped.
const DISCARD: u64 = 1 << 30;

/// Wipes the disks.
pub(crate) fn erase(
    disks: &[&dyn Device],
    progress: &dyn Fn(Progress),
    stopped: &dyn Fn() -> bool,
) -> Result<(), Halt> {
    let mut plans = Vec::new();
    for disk in disks {
        let ranges = ranges(*disk).map_err(|e| fault(*disk, "reading", 0..disk.size(), &e))?;
        plans.push((*disk, ranges));
    }
    let wiped = |ranges: &[Range<u64>]| ranges.iter().map(|range| range.end - range.start).sum::<u64>();
    let total = plans.iter().map(|(disk, ranges)| disk.size() + wiped(ranges)).sum();
    let mut done = 0;
    let mut say = |octets: u64| {
        done += octets;
        progress(Progress { phase: Phase::Erase, done, total });
    };
    say(0);
    for (disk, ranges) in plans {
        let mut at = 0;
        let mut can_discard = true;
        while at < disk.size() {
            if stopped() {
                return Err(Halt::Stopped);
            }
            let end = (at + DISCARD).min(disk.size());
            // Where the disk cannot, the wiping below is all there is.
            can_discard = can_discard && disk.discard(at..end).is_ok();
            say(end - at);
            at = end;
        }
        for range in &ranges {
            if stopped() {
                return Err(Halt::Stopped);
            }
            disk.zero(range.clone()).map_err(|e| fault(disk, "zeroing", range.clone(), &e))?;
            say(range.end - range.start);
        }
        disk.flush().map_err(|e| fault(disk, "flushing", 0..disk.size(), &e))?;
        for range in &ranges {
            let there = read(disk, range.clone()).map_err(|e| fault(disk, "reading", range.clone(), &e))?;
            if !is_zero(&there) {
                let text = format!(
                    "disk {}: octets {} to {} are not zero after they were zeroed; replace the disk",
                    disk.name(),
                    range.start,
                    range.end
                );
                return Err(Halt::failed(FailureKind::DiskFault, text));
            }
        }
        log::info!(disk = disk.name(), discarded = can_discard; "disk wiped");
    }
    Ok(())
}

/// The ends of the disk and of its partitions, without overlaps, in order.
fn ranges(disk: &dyn Device) -> io::Result<Vec<Range<u64>>> {
    let size = disk.size();
    let edges = Edges {
        head: read(disk, 0..EDGE.min(size))?,
        tail: read(disk, size.saturating_sub(EDGE)..size)?,
        size,
        sector: disk.block(),
    };
    let mut ends = Vec::new();
    for part in edges.partitions().into_iter().chain(std::iter::once(0..size)) {
        let part = part.start.min(size)..part.end.min(size);
        ends.push(part.start..part.start.saturating_add(END).min(part.end));
        ends.push(part.end.saturating_sub(END).max(part.start)..part.end);
    }
    // A partition of an odd table may begin within a block.
    let block = disk.block();
    let mut ends: Vec<Range<u64>> =
        ends.into_iter().map(|end| end.start / block * block..up(end.end, block).min(size)).collect();
    ends.sort_by_key(|end| end.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for end in ends.into_iter().filter(|end| !end.is_empty()) {
        match joined.last_mut() {
            Some(last) if end.start <= last.end => last.end = last.end.max(end.end),
            _ => joined.push(end),
        }
    }
    Ok(joined)
}

#[cfg(test)]
mod tests;
