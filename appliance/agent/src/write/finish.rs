//! What is around an image: nothing of an earlier tenant, the partition table's copy, the config drive.

use super::fault;
use crate::{
    cmdline::Appliance,
    device::{Buffer, Device, is_zero},
    plan::{around, up},
    source::{Halt, Source},
    table::{EDGE, Edges},
};
use agent_proto::{ConfigDrive, FailureKind, Phase, Progress};
use boot::Digest;
use image::EXTENT;
use std::{
    io,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// A disk that an image is on, to be finished.
pub(crate) struct Finish<'a> {
    /// Octets that the image describes.
    pub(crate) size: u64,
    /// A config drive's octets and their digest.
    pub(crate) config_drive: Option<(&'a [u8], Digest)>,
    pub(crate) device: &'a dyn Device,
    /// Is told how far it is.
    pub(crate) progress: &'a (dyn Fn(Progress) + Sync),
    /// Counts octets that are written.
    pub(crate) written: &'a AtomicU64,
}

impl Finish<'_> {
    /// Clears around the image, settles the partition table, writes the config drive, reads it all back.
    /// Done twice is done once.
    pub(crate) fn run(&self) -> Result<(), Halt> {
        let config_drive = self.config_drive.map(|(octets, _)| octets);
        let total = config_drive.map_or(0, <[u8]>::len) as u64;
        self.say(0, total);
        let (size, block) = (self.device.size(), self.device.block());
        for range in around(self.size, size, block) {
            self.clear(range)?;
        }
        let edges = Edges {
            head: self.octets(0..EDGE.min(size))?,
            tail: self.octets(size.saturating_sub(EDGE)..size)?,
            size,
            sector: block,
        };
        let mut settled = edges.clone();
        let drive = self.config_drive.map(|(octets, digest)| (octets.len() as u64, digest));
        // Where both ends are the same octets there is no room to move anything.
        let done = if size >= 2 * EDGE { settled.settle(self.size, drive)? } else { Default::default() };
        if let Some(odd) = &done.odd {
            log::warn!(disk = self.device.name(), odd; "partition table left as it is");
        }
        if let (Some(range), Some(octets)) = (&done.config_drive, config_drive) {
            let end = up(range.start + total, block);
            self.put(range.start, octets)?;
            self.clear(end..range.end)?;
            let stored = self.octets(range.start..end)?;
            if !stored.starts_with(octets) {
                return Err(self.differs("the config drive", range));
            }
            self.say(total, total);
        }
        let tail = size - settled.tail.len() as u64;
        // The copy first: a power cut in between leaves a table that is whole.
        for (offset, old, new) in [(tail, &edges.tail, &settled.tail), (0, &edges.head, &settled.head)] {
            if old != new {
                self.put(offset, new)?;
            }
        }
        if let Some(stale) = done.stale {
            self.clear(stale)?;
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

    fn say(&self, done: u64, total: u64) {
        (self.progress)(Progress { phase: Phase::Finish, done, total });
    }

    fn fault(&self, doing: &str, range: Range<u64>, error: &io::Error) -> Halt {
        fault(self.device, doing, range, error)
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
    fn put(&self, offset: u64, octets: &[u8]) -> Result<(), Halt> {
        let mut buffer = Buffer::new(EXTENT);
        let mut at = offset;
        for chunk in octets.chunks(EXTENT) {
            let length = up(chunk.len() as u64, self.device.block());
            let whole = &mut buffer.octets()[..length as usize];
            whole[..chunk.len()].copy_from_slice(chunk);
            whole[chunk.len()..].fill(0);
            self.device.write_at(whole, at).map_err(|e| self.fault("writing", at..at + length, &e))?;
            self.written.fetch_add(length, Relaxed);
            at += length;
        }
        Ok(())
    }

    /// Makes octets zero that are not.
    fn clear(&self, range: Range<u64>) -> Result<(), Halt> {
        if is_zero(&self.octets(range.clone())?) {
            return Ok(());
        }
        self.written.fetch_add(range.end - range.start, Relaxed);
        self.device.zero(range.clone()).map_err(|e| self.fault("zeroing", range, &e))
    }
}

/// Fetches a config drive and checks it.
pub(crate) fn fetch(
    appliance: &Appliance,
    source: &mut Source<'_>,
    drive: Option<&ConfigDrive>,
) -> Result<Option<Vec<u8>>, Halt> {
    let Some(drive) = drive else { return Ok(None) };
    let path = format!("/agent/{}/config-drive", appliance.attempt);
    let octets = source.whole(&path, drive.size, "config drive")?;
    let found = image::digest(&octets);
    if octets.len() as u64 != drive.size || found != drive.digest {
        let (length, want, size) = (octets.len(), drive.digest, drive.size);
        let text = format!(
            "config drive: {length} octets with digest {found} came, not {size} with {want}; deploy again"
        );
        return Err(Halt::failed(FailureKind::CorruptImage, text));
    }
    Ok(Some(octets))
}

/// Reads whole blocks, an extent at a time.
pub(crate) fn read(device: &dyn Device, range: Range<u64>) -> io::Result<Vec<u8>> {
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
