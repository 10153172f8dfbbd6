//! The exported disk, as the SCSI commands see it.

use crate::device::{Buffer, Device, is_zero};
use image::EXTENT;
use scsi::{MediumError, MediumFault, Provisioning};
use std::{
    io,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A disk behind a logical unit.
///
/// What is zero already is not written when it is to be zeroed, and counts as not provisioned: so holes of
/// an image cost a look at the disk, not a write, and who reads back can ask instead of having zeros sent.
pub(super) struct Medium<'a> {
    device: &'a dyn Device,
    /// Aligned memory, for those that have none; and who holds it alone changes parts of blocks.
    buffer: Mutex<Buffer>,
}

impl<'a> Medium<'a> {
    pub(super) fn new(device: &'a dyn Device) -> Medium<'a> {
        Medium { device, buffer: Mutex::new(Buffer::new(EXTENT)) }
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        // It is filled anew by whoever takes it.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whole blocks of aligned memory go straight to the disk.
    pub(super) fn write_aligned(&self, offset: u64, from: &[u8]) -> Result<(), MediumError> {
        let range = offset..offset + from.len() as u64;
        let whole =
            offset.is_multiple_of(self.device.block()) && range.end.is_multiple_of(self.device.block());
        if !whole {
            return scsi::Medium::write_at(self, offset, from);
        }
        self.device.write_at(from, offset).map_err(|e| self.fault("writing", &range, &e))
    }

    /// Whole blocks straight from the disk to aligned memory.
    pub(super) fn read_aligned(&self, offset: u64, into: &mut [u8]) -> Result<(), MediumError> {
        let range = offset..offset + into.len() as u64;
        let whole =
            offset.is_multiple_of(self.device.block()) && range.end.is_multiple_of(self.device.block());
        if !whole {
            return scsi::Medium::read_at(self, offset, into);
        }
        self.device.read_at(into, offset).map_err(|e| self.fault("reading", &range, &e))
    }

    fn fault(&self, doing: &'static str, range: &Range<u64>, error: &io::Error) -> MediumError {
        let (disk, offset, end) = (self.device.name(), range.start, range.end);
        log::warn!(disk, doing, offset, end, error:%; "disk returned an error");
        let fault = match (doing, error.kind()) {
            ("reading", _) => MediumFault::UnrecoveredRead,
            (_, io::ErrorKind::StorageFull) => MediumFault::NoSpace,
            _ => MediumFault::WriteFault,
        };
        MediumError { fault, offset: Some(range.start) }
    }

    /// The blocks that hold octets from `offset` on, and where these begin in them; at most a buffer full.
    fn cover(&self, offset: u64, length: usize) -> (Range<u64>, usize) {
        let block = self.device.block();
        let start = offset / block * block;
        let end = (offset + length as u64).next_multiple_of(block).min(start + EXTENT as u64);
        (start..end, (offset - start) as usize)
    }

    fn load<'b>(&self, buffer: &'b mut Buffer, range: &Range<u64>) -> Result<&'b mut [u8], MediumError> {
        let octets = &mut buffer.octets()[..(range.end - range.start) as usize];
        self.device.read_at(octets, range.start).map_err(|e| self.fault("reading", range, &e))?;
        Ok(octets)
    }
}

impl scsi::Medium for Medium<'_> {
    fn read_at(&self, mut offset: u64, mut into: &mut [u8]) -> Result<(), MediumError> {
        let mut buffer = self.lock();
        while !into.is_empty() {
            let (range, skip) = self.cover(offset, into.len());
            let octets = &self.load(&mut buffer, &range)?[skip..];
            let count = octets.len().min(into.len());
            let (part, rest) = into.split_at_mut(count);
            part.copy_from_slice(&octets[..count]);
            into = rest;
            offset += count as u64;
        }
        Ok(())
    }

    fn write_at(&self, mut offset: u64, mut from: &[u8]) -> Result<(), MediumError> {
        let mut buffer = self.lock();
        while !from.is_empty() {
            let (range, skip) = self.cover(offset, from.len());
            let count = ((range.end - range.start) as usize - skip).min(from.len());
            let (part, rest) = from.split_at(count);
            let partial = skip > 0 || count < (range.end - range.start) as usize;
            if partial {
                self.load(&mut buffer, &range)?;
            }
            let octets = &mut buffer.octets()[..(range.end - range.start) as usize];
            octets[skip..skip + count].copy_from_slice(part);
            self.device.write_at(octets, range.start).map_err(|e| self.fault("writing", &range, &e))?;
            from = rest;
            offset += count as u64;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), MediumError> {
        self.device.flush().map_err(|e| self.fault("flushing", &(0..self.device.size()), &e))
    }

    fn zero(&self, offset: u64, length: u64, _: bool) -> Result<(), MediumError> {
        let mut buffer = self.lock();
        let (mut at, end) = (offset, offset + length);
        // What is to be zeroed, so far: the disk may be quicker at much of it at once.
        let mut dirty = offset..offset;
        while at < end {
            let range = at..(at / EXTENT as u64 * EXTENT as u64 + EXTENT as u64).min(end);
            at = range.end;
            if !is_zero(self.load(&mut buffer, &range)?) {
                if dirty.end != range.start {
                    self.zero_blocks(&dirty)?;
                    dirty.start = range.start;
                }
                dirty.end = range.end;
            }
        }
        self.zero_blocks(&dirty)
    }

    fn provisioned(&self, offset: u64) -> Result<(Provisioning, u64), MediumError> {
        let mut buffer = self.lock();
        let left = self.device.size().saturating_sub(offset).min(EXTENT as u64);
        let (range, skip) = self.cover(offset, left as usize);
        let octets = &self.load(&mut buffer, &range)?[skip..];
        let what = if is_zero(octets) { Provisioning::Deallocated } else { Provisioning::Mapped };
        Ok((what, octets.len() as u64))
    }
}

impl Medium<'_> {
    fn zero_blocks(&self, range: &Range<u64>) -> Result<(), MediumError> {
        if range.is_empty() {
            return Ok(());
        }
        self.device.zero(range.clone()).map_err(|e| self.fault("zeroing", range, &e))
    }
}

#[cfg(test)]
mod tests;
