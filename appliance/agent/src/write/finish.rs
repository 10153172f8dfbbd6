//! What is around an image: nothing of an earlier tenant, the partition table's copy, the config drive.

use super::{Tally, Write};
use crate::{
    device::{Buffer, Device, is_zero},
    plan::{around, up},
    source::Halt,
    table::{EDGE, Edges},
};
use agent_proto::{FailureKind, Phase};
use image::EXTENT;
use std::{ops::Range, sync::atomic::Ordering::Relaxed};

impl Write<'_> {
    /// Clears around the image, settles the partition table, writes the config drive, reads it all back.
    pub(super) fn finish(&self, config_drive: Option<&[u8]>, tally: &Tally) -> Result<(), Halt> {
        let total = config_drive.map_or(0, <[u8]>::len) as u64;
        self.say(Phase::Finish, 0, total);
        let (size, block) = (self.device.size(), self.device.block());
        for range in around(self.image.size, size, block) {
            self.clear(range, tally)?;
        }
        let edges = Edges {
            head: self.octets(0..EDGE.min(size))?,
            tail: self.octets(size.saturating_sub(EDGE)..size)?,
            size,
            sector: block,
        };
        let mut settled = edges.clone();
        let drive =
            config_drive.zip(self.config_drive).map(|(octets, drive)| (octets.len() as u64, drive.digest));
        // Where both ends are the same octets there is no room to move anything.
        let done =
            if size >= 2 * EDGE { settled.settle(self.image.size, drive)? } else { Default::default() };
        if let Some(odd) = &done.odd {
            log::warn!(disk = self.device.name(), odd; "partition table left as it is");
        }
        if let (Some(range), Some(octets)) = (&done.config_drive, config_drive) {
            let end = up(range.start + total, block);
            self.put(range.start, octets, tally)?;
            self.clear(end..range.end, tally)?;
            let stored = self.octets(range.start..end)?;
            if !stored.starts_with(octets) {
                return Err(self.differs("the config drive", range));
            }
            self.say(Phase::Finish, total, total);
        }
        let tail = size - settled.tail.len() as u64;
        // The copy first: a power cut in between leaves a table that is whole.
        for (offset, old, new) in [(tail, &edges.tail, &settled.tail), (0, &edges.head, &settled.head)] {
            if old != new {
                self.put(offset, new, tally)?;
            }
        }
        if let Some(stale) = done.stale {
            self.clear(stale, tally)?;
        }
        self.device.flush().map_err(|e| self.fault("flushing", 0..size, &e))?;
        for (offset, new) in [(tail, &settled.tail), (0, &settled.head)] {
            let range = offset..offset + new.len() as u64;
            if self.octets(range.clone())? != *new {
                return Err(self.differs("the partition table", &range));
            }
        }
        Ok(())
    }

    fn differs(&self, what: &str, range: &Range<u64>) -> Halt {
        let name = self.device.name();
        let text =
            format!("disk {name}: {what} at octet {} reads back otherwise; replace the disk", range.start);
        Halt::failed(FailureKind::DiskFault, text)
    }

    fn octets(&self, range: Range<u64>) -> Result<Vec<u8>, Halt> {
        read(self.device, range.clone()).map_err(|e| self.fault("reading", range, &e))
    }

    /// Writes octets, filled with zeroes to the end of their block.
    fn put(&self, offset: u64, octets: &[u8], tally: &Tally) -> Result<(), Halt> {
        let mut buffer = Buffer::new(EXTENT);
        let mut at = offset;
        for chunk in octets.chunks(EXTENT) {
            let length = up(chunk.len() as u64, self.device.block());
            let whole = &mut buffer.octets()[..length as usize];
            whole[..chunk.len()].copy_from_slice(chunk);
            whole[chunk.len()..].fill(0);
            self.device.write_at(whole, at).map_err(|e| self.fault("writing", at..at + length, &e))?;
            tally.written.fetch_add(length, Relaxed);
            at += length;
        }
        Ok(())
    }

    /// Makes octets zero that are not.
    fn clear(&self, range: Range<u64>, tally: &Tally) -> Result<(), Halt> {
        if is_zero(&self.octets(range.clone())?) {
            return Ok(());
        }
        tally.written.fetch_add(range.end - range.start, Relaxed);
        self.device.zero(range.clone()).map_err(|e| self.fault("zeroing", range, &e))
    }
}

/// Reads whole blocks, an extent at a time.
pub(crate) fn read(device: &dyn Device, range: Range<u64>) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::with_capacity((range.end - range.start) as usize);
    let mut buffer = Buffer::new(EXTENT);
    let mut at = range.start;
    while at < range.end {
        let chunk = &mut buffer.octets()[..(range.end - at).min(EXTENT as u64) as usize];
        device.read_at(chunk, at)?;
        octets.extend_from_slice(chunk);
        at += chunk.len() as u64;
    }
    Ok(octets)
}
