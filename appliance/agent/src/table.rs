//! The partition table of an image that lies on a larger disk than it was made for.
//!
//! The GPT's copy belongs at the end of the real disk, and a config drive gets a partition there. All of
//! it happens in memory, on the first and last octets of the disk.

use crate::plan::MIB;
use agent_proto::{Failure, FailureKind};
use boot::Digest;
use gptman::{GPT, GPTHeader, GPTPartitionEntry};
use std::{
    io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom, Write},
    ops::Range,
};

/// So much of each end of a disk holds any GPT of up to [`ENTRIES`] entries.
pub(crate) const EDGE: u64 = 128 * 1024;
/// A GPT is taken for one if it has at most so many entries.
const ENTRIES: u32 = 512;
/// The name that cloud-init and Ironic know (OpenStack, "config drive").
const NAME: &str = "config-2";
/// Linux filesystem data, 0FC63DAF-8483-4772-8E79-3D69D8477DE4, as it stands on the disk.
const LINUX: [u8; 16] =
    [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];
/// The MBR's type for Linux.
const MBR_LINUX: u8 = 0x83;
/// The MBR's type for "there is a GPT" (UEFI 2.10, 5.2.3).
const MBR_PROTECTIVE: u8 = 0xee;
/// Where the MBR's four entries stand.
const MBR_ENTRIES: usize = 446;

/// The first and last octets of a disk, and its size.
#[derive(Clone, PartialEq)]
pub(crate) struct Edges {
    pub(crate) head: Vec<u8>,
    pub(crate) tail: Vec<u8>,
    pub(crate) size: u64,
    /// Octets of a sector.
    pub(crate) sector: u64,
}

/// What came of a partition table.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settled {
    /// Where the config drive goes.
    pub(crate) config_drive: Option<Range<u64>>,
    /// The sector of the GPT's copy that is not needed any more.
    pub(crate) stale: Option<Range<u64>>,
    /// A table that was left as it is, and why.
    pub(crate) odd: Option<String>,
}

/// What partition table there is.
enum Table {
    None,
    Mbr,
    Gpt(Box<GPT>),
}

impl Edges {
    /// Puts the GPT's copy at the disk's end and makes a partition for a config drive of so many octets.
    /// `image` octets of the disk are taken already. Done twice is done once.
    pub(crate) fn settle(
        &mut self,
        image: u64,
        config_drive: Option<(u64, Digest)>,
    ) -> Result<Settled, Failure> {
        let bad = |text: String| Failure { kind: FailureKind::BadOrder, text };
        if let Some(other) =
            [512, 4096].into_iter().find(|other| self.has_gpt(*other) && !self.has_gpt(self.sector))
        {
            let own = self.sector;
            return Err(bad(format!(
                "the image's GPT is for sectors of {other} octets and the disk's have {own}; use an image or a disk that fits"
            )));
        }
        let table = match self.table() {
            Ok(table) => table,
            Err(odd) if config_drive.is_none() => {
                return Ok(Settled { odd: Some(odd), ..Settled::default() });
            }
            Err(odd) => {
                return Err(bad(format!(
                    "no place for a config drive: {odd}; use an image with a plain GPT"
                )));
            }
        };
        match (table, config_drive) {
            (Table::Gpt(gpt), drive) => match self.settle_gpt(*gpt, drive) {
                Err(odd) if drive.is_none() => Ok(Settled { odd: Some(odd), ..Settled::default() }),
                other => other.map_err(|odd| bad(format!("no place for a config drive: {odd}"))),
            },
            (Table::Mbr, Some((octets, _))) => self.add_to_mbr(image, octets).map_err(bad),
            (Table::Mbr | Table::None, None) => Ok(Settled::default()),
            (Table::None, Some(_)) => {
                let text = "the image has no partition table, so that there is no place for a config drive; \
                            deploy without user data or use a partitioned image";
                Err(bad(text.to_owned()))
            }
        }
    }

    fn settle_gpt(&mut self, mut gpt: GPT, drive: Option<(u64, Digest)>) -> Result<Settled, String> {
        let sector = self.sector;
        let old = gpt.header.backup_lba;
        let mut disk = Ends { edges: self, at: 0 };
        let text = |e: gptman::Error| format!("the image's GPT: {e}");
        gpt.header.update_from(&mut disk, sector).map_err(text)?;
        let mut settled = Settled::default();
        if let Some((octets, digest)) = drive {
            let end = (gpt.header.last_usable_lba + 1) * sector;
            let length = octets.next_multiple_of(MIB);
            let start = end.saturating_sub(length) / MIB * MIB;
            let free =
                gpt.iter().filter(|(_, p)| p.is_used()).all(|(_, p)| (p.ending_lba + 1) * sector <= start);
            if !free {
                return Err("a partition of the image reaches to the disk's end".to_owned());
            }
            let Some(number) = gpt.iter().find(|(_, p)| p.is_unused()).map(|(number, _)| number) else {
                return Err(format!(
                    "all {} entries of the image's GPT are used",
                    gpt.header.number_of_partition_entries
                ));
            };
            gpt[number] = GPTPartitionEntry {
                partition_type_guid: LINUX,
                unique_partition_guid: guid(&gpt.header.disk_guid, digest),
                starting_lba: start / sector,
                ending_lba: (start + length) / sector - 1,
                attribute_bits: 0,
                partition_name: NAME.into(),
            };
            settled.config_drive = Some(start..start + length);
        }
        gpt.write_into(&mut disk).map_err(text)?;
        self.cover_with_mbr();
        // What finds the old copy may take it for the disk's end. It lies where no partition is, or it
        // is no copy.
        let new = gpt.header.backup_lba;
        let in_partition = gpt.find_at_sector(old).is_some();
        if old != new && old > gpt.header.first_usable_lba && old < new && !in_partition {
            settled.stale = Some(old * sector..(old + 1) * sector);
        }
        Ok(settled)
    }

    /// "Set to the size of the disk minus one" (UEFI 2.10, 5.2.3, SizeInLBA).
    fn cover_with_mbr(&mut self) {
        let sectors = u32::try_from(self.size / self.sector - 1).unwrap_or(u32::MAX);
        let entry = &mut self.head[MBR_ENTRIES..MBR_ENTRIES + 16];
        if entry[4] == MBR_PROTECTIVE && entry[8..12] == 1u32.to_le_bytes() {
            entry[12..16].copy_from_slice(&sectors.to_le_bytes());
        }
    }

    fn add_to_mbr(&mut self, image: u64, octets: u64) -> Result<Settled, String> {
        let sector = self.sector;
        // An MBR counts sectors in 32 bits.
        let end = self.size.saturating_sub(MIB).min(u64::from(u32::MAX) * sector);
        let length = octets.next_multiple_of(MIB);
        let start = end.saturating_sub(length) / MIB * MIB;
        let used = mbr(&self.head, sector).into_iter().map(|range| range.end).fold(image, u64::max);
        if start < used {
            return Err(
                "no place for a config drive: a partition of the image's MBR reaches to the disk's end"
                    .into(),
            );
        }
        let mut entries = self.head[MBR_ENTRIES..MBR_ENTRIES + 64].chunks_exact_mut(16);
        let Some(entry) = entries.find(|entry| entry[4] == 0) else {
            return Err("no place for a config drive: all four entries of the image's MBR are used; \
                        use an image with a GPT"
                .into());
        };
        // CHS addresses that say "look at the LBA".
        entry[..8].copy_from_slice(&[0, 0xfe, 0xff, 0xff, MBR_LINUX, 0xfe, 0xff, 0xff]);
        entry[8..12].copy_from_slice(&((start / sector) as u32).to_le_bytes());
        entry[12..16].copy_from_slice(&((length / sector) as u32).to_le_bytes());
        Ok(Settled { config_drive: Some(start..start + length), ..Settled::default() })
    }

    /// The partitions, in octets.
    pub(crate) fn partitions(&self) -> Vec<Range<u64>> {
        match self.table() {
            Ok(Table::Gpt(gpt)) => {
                let used = gpt.iter().filter(|(_, partition)| partition.is_used());
                used.map(|(_, p)| p.starting_lba * self.sector..(p.ending_lba + 1) * self.sector).collect()
            }
            Ok(Table::Mbr) => mbr(&self.head, self.sector),
            Ok(Table::None) | Err(_) => Vec::new(),
        }
    }

    /// Reads the table at the disk's beginning. gptman asserts and multiplies what it reads, and an image
    /// is anybody's: only what it can handle is handed to it.
    fn table(&self) -> Result<Table, String> {
        if !self.has_gpt(self.sector) {
            return Ok(if is_mbr(&self.head) { Table::Mbr } else { Table::None });
        }
        let odd = |what: &str| format!("the image's GPT {what}");
        let mut at = Cursor::new(&self.head);
        at.set_position(self.sector);
        let header = GPTHeader::read_from(&mut at).map_err(|e| odd(&format!("has a wrong header: {e}")))?;
        if header.size_of_partition_entry != 128
            || !(1..=ENTRIES).contains(&header.number_of_partition_entries)
        {
            return Err(odd("has entries of an unusual size or number"));
        }
        if header.partition_entry_lba != 2 || header.primary_lba != 1 {
            return Err(odd("is not where it usually is"));
        }
        let partitions = header.read_partitions(&mut at, self.sector).map_err(|e| odd(&e.to_string()))?;
        let sectors = self.size / self.sector;
        let array = u64::from(header.number_of_partition_entries) * 128 / self.sector;
        for partition in partitions.iter().filter(|partition| partition.is_used()) {
            let (first, last) = (partition.starting_lba, partition.ending_lba);
            if first < 2 + array || last < first || last >= sectors {
                return Err(odd("has a partition outside the disk"));
            }
        }
        let ends = &mut Ends { edges: &mut self.clone(), at: 0 };
        GPT::read_from(ends, self.sector)
            .map(|gpt| Table::Gpt(Box::new(gpt)))
            .map_err(|e| odd(&e.to_string()))
    }

    fn has_gpt(&self, sector: u64) -> bool {
        self.head.get(sector as usize..).is_some_and(|at| at.starts_with(b"EFI PART"))
    }
}

/// Whether the first sector is an MBR, and not the boot sector of a file system, which ends like one.
fn is_mbr(head: &[u8]) -> bool {
    let Some(entries) = head.get(MBR_ENTRIES..MBR_ENTRIES + 64) else { return false };
    head.get(510..512) == Some(&[0x55, 0xaa])
        && entries.chunks_exact(16).all(|entry| entry[0] & 0x7f == 0)
        && entries.chunks_exact(16).any(|entry| entry[4] != 0)
}

fn mbr(head: &[u8], sector: u64) -> Vec<Range<u64>> {
    let number = |octets: &[u8]| octets.iter().rev().fold(0u64, |sum, octet| sum << 8 | u64::from(*octet));
    let entries = head.get(MBR_ENTRIES..MBR_ENTRIES + 64).unwrap_or(&[]).chunks_exact(16);
    let used = entries.filter(|entry| entry[4] != 0);
    used.map(|entry| {
        let start = number(&entry[8..12]) * sector;
        start..start + number(&entry[12..16]) * sector
    })
    .collect()
}

/// A partition's GUID that is the same when the same is done again (RFC 9562, 5.8: version 8).
fn guid(disk: &[u8; 16], drive: Digest) -> [u8; 16] {
    let mut named = disk.to_vec();
    named.extend_from_slice(&drive.0);
    let digest = image::digest(&named);
    let mut guid = [0; 16];
    guid.copy_from_slice(&digest.0[..16]);
    // The third group is little-endian on the disk.
    guid[7] = guid[7] & 0x0f | 0x80;
    guid[8] = guid[8] & 0x3f | 0x80;
    guid
}

/// The two ends of a disk as one file with a gap that cannot be read.
struct Ends<'a> {
    edges: &'a mut Edges,
    at: u64,
}

impl Ends<'_> {
    fn here(&mut self, length: usize) -> io::Result<&mut [u8]> {
        let tail = self.edges.size - self.edges.tail.len() as u64;
        let (side, from) = if self.at >= tail {
            (&mut self.edges.tail, self.at - tail)
        } else {
            (&mut self.edges.head, self.at)
        };
        let from = usize::try_from(from).map_err(|_| ErrorKind::UnexpectedEof)?;
        let here = side.get_mut(from..).ok_or(ErrorKind::UnexpectedEof)?;
        let length = length.min(here.len());
        self.at += length as u64;
        Ok(&mut here[..length])
    }
}

impl Read for Ends<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let here = self.here(buffer.len())?;
        buffer[..here.len()].copy_from_slice(here);
        Ok(here.len())
    }
}

impl Write for Ends<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let here = self.here(buffer.len())?;
        here.copy_from_slice(&buffer[..here.len()]);
        Ok(here.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Ends<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.edges.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
pub(crate) mod tests;
