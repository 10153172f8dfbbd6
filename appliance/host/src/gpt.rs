//! The partition table of the disk the box runs from.
//!
//! Its image is smaller than the disk it is written to: the table's copy is moved to the disk's end, and a
//! partition for data is made in the rest. What is to be written is a list in an order such that, wherever
//! it is cut, one of the two tables is whole; [`Table::read`] finds it.

use gptman::{GPT, GPTHeader, GPTPartitionEntry};
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
};
use uuid::Uuid;

/// Octets of a sector: those of the disks that the image is for.
pub const SECTOR: u64 = 512;
/// Partitions begin and end at multiples of so many sectors: 1 MiB.
const ALIGN: u64 = 2048;
/// A table is taken for one if it has at most so many entries.
const ENTRIES: u32 = 512;
/// Linux filesystem data.
const LINUX: Uuid = Uuid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4);
/// The MBR's type for "there is a GPT" (UEFI 2.10, 5.2.3).
const MBR_PROTECTIVE: u8 = 0xee;
/// Where the MBR's first entry stands.
const MBR_ENTRY: usize = 446;

/// Why a table is not one, or cannot have a partition more.
#[derive(Debug)]
pub struct Odd(String);

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Odd {}

fn odd(why: impl fmt::Display) -> Odd {
    Odd(why.to_string())
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its place in the table, from 1.
    pub number: u32,
    /// Its own GUID: PARTUUID.
    pub guid: Uuid,
    /// Its name: PARTLABEL.
    pub name: String,
    /// Where it is, in octets.
    pub range: Range<u64>,
}

/// A step of writing; done in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Octets to an offset.
    Write(u64, Vec<u8>),
    /// All that came before is on the medium.
    Flush,
}

/// A partition table, and the size of its disk in octets.
pub struct Table {
    gpt: GPT,
    mbr: [u8; SECTOR as usize],
    size: u64,
}

/// A disk whose first header is not shown.
struct WithoutFirst<'a, D>(&'a mut D);

impl<D: Read + Seek> Read for WithoutFirst<'_, D> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let at = self.0.stream_position()?;
        let length = self.0.read(into)?;
        let hidden = SECTOR..2 * SECTOR;
        for (octet, place) in into[..length].iter_mut().zip(at..) {
            if hidden.contains(&place) {
                *octet = 0;
            }
        }
        Ok(length)
    }
}

impl<D: Seek> Seek for WithoutFirst<'_, D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Table {
    /// Reads the table at the disk's beginning, or its copy at the disk's end when that is not whole.
    ///
    /// # Errors
    /// When neither is whole, or they are not like those of an image of ours.
    pub fn read(disk: &mut (impl Read + Seek)) -> Result<Table, Odd> {
        let size = disk.seek(SeekFrom::End(0)).map_err(odd)?;
        let sectors = size / SECTOR;
        // gptman multiplies and asserts what it reads, and a disk may hold anything: looked at first.
        let whole = |disk: &mut _, at| Self::is_whole(disk, at, sectors).unwrap_or(false);
        if sectors < ALIGN || !(whole(disk, 1) || whole(disk, sectors - 1)) {
            return Err(odd("neither at the disk's beginning nor at its end is there a whole GPT"));
        }
        let mut mbr = [0; SECTOR as usize];
        disk.seek(SeekFrom::Start(0)).and_then(|_| disk.read_exact(&mut mbr)).map_err(odd)?;
        // It tries the first one first.
        let gpt = match whole(disk, 1) {
            true => GPT::read_from(disk, SECTOR),
            false => GPT::read_from(&mut WithoutFirst(disk), SECTOR),
        };
        Ok(Table { gpt: gpt.map_err(odd)?, mbr, size })
    }

    fn is_whole(disk: &mut (impl Read + Seek), at: u64, sectors: u64) -> Result<bool, Odd> {
        disk.seek(SeekFrom::Start(at * SECTOR)).map_err(odd)?;
        let header = GPTHeader::read_from(disk).map_err(odd)?;
        if header.size_of_partition_entry != 128
            || !(1..=ENTRIES).contains(&header.number_of_partition_entries)
            || header.primary_lba != at
            || header.partition_entry_lba >= sectors
        {
            return Ok(false);
        }
        let partitions = header.read_partitions(disk, SECTOR).map_err(odd)?;
        let array = u64::from(header.number_of_partition_entries) * 128 / SECTOR;
        Ok(partitions.iter().filter(|partition| partition.is_used()).all(|partition| {
            let (first, last) = (partition.starting_lba, partition.ending_lba);
            first >= 2 + array && last >= first && last < sectors
        }))
    }

    /// Whether it is the one at the disk's beginning, the only one that Linux looks at.
    pub fn is_primary(&self) -> bool {
        self.gpt.header.primary_lba == 1
    }

    /// The partitions.
    pub fn partitions(&self) -> Vec<Partition> {
        let used = self.gpt.iter().filter(|(_, entry)| entry.is_used());
        used.map(|(number, entry)| Partition {
            number,
            guid: Uuid::from_bytes_le(entry.unique_partition_guid),
            name: entry.partition_name.as_str().to_owned(),
            range: entry.starting_lba * SECTOR..(entry.ending_lba + 1) * SECTOR,
        })
        .collect()
    }

    /// Where a partition for data may be: behind all others, up to the table's copy at the disk's real end. The
    /// image ends with a copy too, close behind its last partition: that place stays free, or flashing it again
    /// would write over the data's beginning.
    pub fn rest(&self) -> Range<u64> {
        let end = self.partitions().into_iter().map(|partition| partition.range.end).max().unwrap_or(0);
        let array = u64::from(self.gpt.header.number_of_partition_entries) * 128 / SECTOR;
        let start = ((end / SECTOR).max(2 + array) + array + 1).next_multiple_of(ALIGN);
        let last = (self.size / SECTOR).saturating_sub(1 + array) / ALIGN * ALIGN;
        start * SECTOR..last.max(start) * SECTOR
    }

    /// Gives an unused entry to a partition.
    ///
    /// # Errors
    /// When the entry is used, or there is none.
    pub fn add(&mut self, partition: &Partition) -> Result<(), Odd> {
        let Partition { number, guid, name, range } = partition;
        if !(1..=self.gpt.header.number_of_partition_entries).contains(number) {
            return Err(odd(format!("the GPT has no entry {number}")));
        }
        if let Some(there) = self.partitions().into_iter().find(|there| there.number == *number) {
            return Err(odd(format!("entry {number} of the GPT is a partition {:?}", there.name)));
        }
        self.gpt[*number] = GPTPartitionEntry {
            partition_type_guid: LINUX.to_bytes_le(),
            unique_partition_guid: guid.to_bytes_le(),
            starting_lba: range.start / SECTOR,
            ending_lba: range.end / SECTOR - 1,
            attribute_bits: 0,
            partition_name: name.as_str().into(),
        };
        Ok(())
    }

    /// Gives a partition another name.
    pub fn rename(&mut self, number: u32, name: &str) {
        if (1..=self.gpt.header.number_of_partition_entries).contains(&number) {
            self.gpt[number].partition_name = name.into();
        }
    }

    /// What is to be written so that this is the disk's table, with its copy at the real end. The
    /// copy is whole on the medium before the first table is touched.
    ///
    /// # Errors
    /// When it cannot be a table, with overlapping partitions.
    pub fn steps(mut self) -> Result<Vec<Step>, Odd> {
        let sectors = self.size / SECTOR;
        let header = &mut self.gpt.header;
        (header.primary_lba, header.backup_lba, header.partition_entry_lba) = (1, sectors - 1, 2);
        let mut paper = Paper { sectors: BTreeMap::new(), at: 0, size: self.size };
        self.gpt.header.update_from(&mut paper, SECTOR).map_err(odd)?;
        self.gpt.write_into(&mut paper).map_err(odd)?;
        let array = u64::from(self.gpt.header.number_of_partition_entries) * 128 / SECTOR;
        let tail = sectors - 1 - array;
        let octets = |lbas: Range<u64>| {
            let sector = |lba| paper.sectors.get(&lba).copied().unwrap_or([0; SECTOR as usize]);
            lbas.flat_map(sector).collect::<Vec<u8>>()
        };
        let mut steps = vec![
            Step::Write(tail * SECTOR, octets(tail..sectors)),
            Step::Flush,
            Step::Write(SECTOR, octets(1..2 + array)),
            Step::Flush,
        ];
        // "Set to the size of the disk minus one" (UEFI 2.10, 5.2.3, SizeInLBA).
        let entry = &mut self.mbr[MBR_ENTRY..MBR_ENTRY + 16];
        let covers = u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes();
        if entry[4] == MBR_PROTECTIVE && entry[8..12] == 1u32.to_le_bytes() && entry[12..16] != covers {
            entry[12..16].copy_from_slice(&covers);
            steps.push(Step::Write(0, self.mbr.to_vec()));
        }
        steps.push(Step::Flush);
        Ok(steps)
    }

    /// Whether the disk's first sector says that there is a GPT: a disk with something else on it may still have
    /// a copy of an old table at its end.
    pub fn is_protected(&self) -> bool {
        let kinds = (0..4).map(|entry| self.mbr[MBR_ENTRY + 16 * entry + 4]);
        self.mbr[510..] == [0x55, 0xaa] && kinds.into_iter().any(|kind| kind == MBR_PROTECTIVE)
    }

    /// Whether the table's copy is at the disk's end.
    pub fn is_settled(&self) -> bool {
        self.is_primary() && self.gpt.header.backup_lba == self.size / SECTOR - 1
    }
}

/// What gptman writes, by sector.
struct Paper {
    sectors: BTreeMap<u64, [u8; SECTOR as usize]>,
    at: u64,
    size: u64,
}

impl Write for Paper {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let from = (self.at % SECTOR) as usize;
        let length = octets.len().min(SECTOR as usize - from);
        let sector = self.sectors.entry(self.at / SECTOR).or_insert([0; SECTOR as usize]);
        sector[from..from + length].copy_from_slice(&octets[..length]);
        self.at += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Paper {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests;
