//! How what was written comes to be on the disk.

use super::{Layer, LayerFile, VolumeError, offset_of};
use crate::volume::page::{self, HEAD_PAGE, PAGE, WORDS};
use core::sync::atomic::Ordering;
use std::io;

/// Pages that one flush writes between two syncs at most: 4 MiB of memory.
const BATCH: usize = 1024;

struct Dirty {
    number: u32,
    sequence: u64,
    octets: Vec<u8>,
}

/// Why a flush failed, and whether it makes sense to try again.
pub(in crate::volume) struct Unflushed {
    pub(in crate::volume) error: VolumeError,
    /// A sync failed: the kernel may have dropped what it could not write, and will not say so again.
    pub(in crate::volume) lost: bool,
}

impl Unflushed {
    fn lost(doing: &'static str, offset: u64, source: io::Error) -> Unflushed {
        Unflushed { error: VolumeError::Io { doing, offset, source }, lost: true }
    }

    fn later(doing: &'static str, offset: u64, source: io::Error) -> Unflushed {
        Unflushed { error: VolumeError::io(doing, offset)(source), lost: false }
    }
}

impl<F: LayerFile> Layer<F> {
    /// Sees to it that all that was written before this call is on the disk. One at a time.
    ///
    /// What the map says of a block is copied before the data is synced: so it says of none that it is here
    /// before it is.
    pub(in crate::volume) fn flush(&self) -> Result<(), Unflushed> {
        loop {
            let batch = self.take_dirty();
            let done = self.flush_batch(&batch);
            if done.is_err() {
                self.changes().dirty.extend(batch.iter().map(|dirty| dirty.number));
            }
            done?;
            if batch.len() < BATCH {
                return Ok(());
            }
        }
    }

    /// Flushes so that both copies of each page say the same: from then on damage to one of them is harmless,
    /// where otherwise the older would be taken for the truth.
    pub(in crate::volume) fn settle(&self) -> Result<(), Unflushed> {
        self.flush()?;
        let mut changes = self.changes();
        let uneven = core::mem::take(&mut changes.uneven);
        changes.dirty.extend(&uneven);
        drop(changes);
        self.flush()?;
        self.changes().uneven.retain(|number| !uneven.contains(number));
        Ok(())
    }

    fn take_dirty(&self) -> Vec<Dirty> {
        let mut changes = self.changes();
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(number) = changes.dirty.pop_first()
        {
            let sequence = changes.sequences.get(&number).map_or(1, |sequence| sequence + 1);
            if let Some(words) = self.pages[number as usize].get() {
                batch.push(Dirty { number, sequence, octets: page::octets(words, 0..WORDS) });
            }
        }
        batch
    }

    fn flush_batch(&self, batch: &[Dirty]) -> Result<(), Unflushed> {
        self.files.data.sync().map_err(|e| Unflushed::lost("sync", 0, e))?;
        if batch.is_empty() {
            return Ok(());
        }
        for Dirty { number, sequence, octets } in batch {
            let put = |sequence, page: &[u8]| {
                let written = self.files.map.write_at(page::copy_place(*number, sequence), page);
                written.map_err(|e| Unflushed::later("write the map", offset_of(*number), e))
            };
            put(*sequence, &page::encode(&self.id, *sequence, *number, octets))?;
            if !self.is_written(*number) {
                // So that the file system need not allocate for its second copy in the next flush.
                put(sequence + 1, &[0; PAGE])?;
            }
        }
        self.files.map.sync().map_err(|e| Unflushed::lost("sync the map", 0, e))?;
        let mut fresh = false;
        let head = {
            let mut changes = self.changes();
            for dirty in batch {
                changes.sequences.insert(dirty.number, dirty.sequence);
                changes.uneven.insert(dirty.number);
                fresh |= !self.is_written(dirty.number);
            }
            changes.sequences.get(&HEAD_PAGE).map_or(1, |sequence| sequence + 1)
        };
        if fresh {
            for dirty in batch {
                let bit = 1 << (dirty.number % 64);
                self.written[dirty.number as usize / 64].fetch_or(bit, Ordering::AcqRel);
            }
            self.write_head(head).map_err(|error| Unflushed { error, lost: true })?;
            self.changes().sequences.insert(HEAD_PAGE, head);
        }
        Ok(())
    }

    pub(super) fn write_head(&self, sequence: u64) -> Result<(), VolumeError> {
        let words = page::empty();
        words[0].store(self.size, Ordering::Relaxed);
        for (to, from) in words[1..].iter().zip(&self.written) {
            to.store(from.load(Ordering::Acquire), Ordering::Relaxed);
        }
        let page = page::encode(&self.id, sequence, HEAD_PAGE, &page::octets(&words, 0..WORDS));
        let map = &self.files.map;
        map.write_at(page::copy_place(HEAD_PAGE, sequence), &page)
            .map_err(VolumeError::io("write the map", 0))?;
        map.sync().map_err(VolumeError::io("sync the map", 0))
    }
}
