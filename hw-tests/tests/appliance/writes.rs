//! What QEMU's `blklogwrites` wrote down: every write and flush of a guest, in order (the format of Linux's
//! dm-log-writes). A power cut keeps all that was flushed, and of the rest any part.

use sansio::sim::Dice;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Of dm-log-writes' superblock.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// One line of the log.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// On the disk, in octets.
    offset: u64,
    length: u64,
    flags: u64,
    /// Of the data, in the log.
    data: u64,
}

/// A log that is written no more.
pub(super) struct Log {
    file: File,
    entries: Vec<Entry>,
}

impl Log {
    pub(super) fn open(path: &Path) -> Log {
        let file = File::open(path).unwrap();
        let words = |at: u64| {
            let mut octets = [0; 32];
            file.read_exact_at(&mut octets, at).unwrap();
            let word = |n: usize| u64::from_le_bytes(octets[n * 8..][..8].try_into().unwrap());
            [word(0), word(1), word(2), word(3)]
        };
        let [magic, _, count, _] = words(0);
        assert_eq!(magic, MAGIC, "{} is no log of writes", path.display());
        let mut at = SECTOR;
        let entries = (0..count).map(|_| {
            let [sector, sectors, flags, _] = words(at);
            let (length, data) = (sectors * SECTOR, at + SECTOR);
            at = data + if flags & DISCARD == 0 { length } else { 0 };
            Entry { offset: sector * SECTOR, length, flags, data }
        });
        let entries = entries.collect();
        Log { file, entries }
    }

    /// How many lines it has.
    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Does to a disk what was done before this line, as a power cut there leaves it: what was flushed is there,
    /// of the writes since then some are, the last of them in part.
    pub(super) fn replay(&self, disk: &Path, cut: u64, random: &mut Dice) {
        let disk = File::options().write(true).open(disk).unwrap();
        let before = &self.entries[..usize::try_from(cut).unwrap()];
        let flushed = before.iter().rposition(|entry| entry.flags & FLUSH != 0).map_or(0, |at| at + 1);
        for (at, entry) in before.iter().enumerate() {
            let kept = at < flushed || entry.flags & FUA != 0;
            if !kept && random.below(2) == 0 {
                continue;
            }
            let torn = at + 1 == before.len() && !kept;
            let length = if torn { random.below(entry.length / SECTOR + 1) * SECTOR } else { entry.length };
            let mut octets = vec![0; usize::try_from(length).unwrap()];
            if entry.flags & DISCARD == 0 {
                self.file.read_exact_at(&mut octets, entry.data).unwrap();
            }
            disk.write_all_at(&octets, entry.offset).unwrap();
        }
    }
}
