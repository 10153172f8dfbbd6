//! The slot the box runs from: its partition among the disks, and the seal in it.

use crate::{
    gpt::{Partition, Step, Table},
    seal::{self, BLOCK, Root, Seal},
};
use anyhow::{Context as _, Result, bail};
use rack::Slot;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};
use uuid::Uuid;

const BLOCKS: &str = "/sys/class/block";
/// Words as on a command line, of the slot that the initramfs chose; in memory.
const FOUND: &str = "/run/kiln/slot";

/// What the kernel's command line says of the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `kiln.slot`: A or B.
    pub slot: String,
    /// `kiln.root`: the GUID of its partition.
    pub root: Uuid,
    /// `kiln.verity`: a root hash that counts instead of the seal's.
    pub verity: Option<Root>,
}

impl Named {
    /// Reads the command line.
    ///
    /// # Errors
    /// Says which word is missing or wrong.
    pub fn read(cmdline: &str) -> Result<Named> {
        let word = |key| word(cmdline, key);
        let slot = word("kiln.slot").unwrap_or_default();
        if slot != "A" && slot != "B" {
            bail!("kiln.slot= on the kernel command line is {slot:?}, not A or B");
        }
        let root = word("kiln.root").context("kiln.root= is not on the kernel command line")?;
        let root = root.parse().with_context(|| format!("kiln.root={root} is not a partition's GUID"))?;
        let verity = word("kiln.verity").map(|text| {
            text.parse().map_err(|()| anyhow::anyhow!("kiln.verity={text} is not a hash of 64 digits"))
        });
        Ok(Named { slot: slot.to_owned(), root, verity: verity.transpose()? })
    }

    /// Of the system that runs: what its command line says, and where that leaves it open, what the initramfs found.
    ///
    /// # Errors
    /// As [`Named::read`]: no slot was started.
    pub fn running() -> Result<Named> {
        let cmdline = fs::read_to_string("/proc/cmdline").context("no /proc/cmdline")?;
        let found = fs::read_to_string(FOUND).unwrap_or_default();
        Named::read(&format!("{cmdline} {found}"))
    }

    /// Leaves what the initramfs found for the system that it starts.
    ///
    /// # Errors
    /// The file system's.
    pub fn leave(&self) -> Result<()> {
        let text = format!("kiln.slot={} kiln.root={}", self.slot, self.root);
        let folder = Path::new(FOUND).parent().context("a file that is in a folder")?;
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(FOUND, text))
            .with_context(|| format!("{FOUND} cannot be written"))
    }
}

/// A word of the command line: KEY=VALUE. A boot loader appends to what its configuration says: the last counts.
pub fn word<'a>(cmdline: &'a str, key: &str) -> Option<&'a str> {
    let words = cmdline.split_ascii_whitespace();
    words.filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')).next_back()
}

/// A partition, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its node in `/dev`.
    pub device: PathBuf,
    /// `MAJOR:MINOR`.
    pub number: String,
    /// The node of its disk.
    pub disk: PathBuf,
}

/// The name of a slot's partition in the table.
pub fn name_of(slot: Slot) -> String {
    format!("system-{slot}").to_ascii_lowercase()
}

/// The disk's table in which such a partition is.
fn table_with(disk: &Path, is_it: impl Fn(&Partition) -> bool) -> Option<(Table, u32)> {
    let table = Table::read(&mut File::open(disk).ok()?).ok()?;
    let number = table.partitions().into_iter().find(is_it)?.number;
    Some((table, number))
}

/// Finds a partition; nothing: its disk is not there yet.
pub fn find(guid: Uuid) -> Option<Place> {
    for disk in disks() {
        let Some((_, number)) = table_with(&disk.device(), |there| there.guid == guid) else { continue };
        if let Some(place) = disk.partition(number) {
            return Some(place);
        }
    }
    None
}

/// What is on the disks, for a kernel image that fits either slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// This slot has its system.
    Here(Named),
    /// There are slots, and their systems are others.
    Others(Vec<String>),
    /// No disk with two slots is there yet.
    Nowhere,
}

/// Which slot is started, of those whose seal has the root hash that was signed. The hash decides, because it is
/// signed, and because a system must never run from a slot that another one's kernel image is for; the word of the
/// boot loader, which anybody can write, only where both slots hold the same system.
pub fn choose(holding: &[Slot], said: Option<Slot>) -> Option<Slot> {
    said.filter(|slot| holding.contains(slot)).or_else(|| holding.first().copied())
}

/// Looks for the slot whose seal has a root hash; `said`: the one that the boot loader says it started.
pub fn sealed(root: &Root, said: Option<Slot>) -> Sealed {
    let mut others = Vec::new();
    for disk in disks() {
        let Some(slots) = disk.slots() else { continue };
        let seals: Vec<(Slot, Result<Seal>)> =
            slots.iter().map(|(slot, _, place)| (*slot, seal_of(place))).collect();
        let holding: Vec<Slot> = seals
            .iter()
            .filter(|(_, seal)| seal.as_ref().is_ok_and(|seal| seal.root == *root))
            .map(|(slot, _)| *slot)
            .collect();
        let chosen = choose(&holding, said);
        if let Some((slot, guid, _)) = slots.iter().find(|(slot, ..)| Some(*slot) == chosen) {
            return Sealed::Here(Named { slot: slot.to_string(), root: *guid, verity: Some(root.clone()) });
        }
        others.extend(slots.iter().zip(seals).map(|((slot, _, place), (_, seal))| {
            let what = match seal {
                Ok(seal) => format!("another system, version {}", seal.version),
                Err(e) => format!("none: {e:#}"),
            };
            format!("slot {slot} on {} has {what}", place.device.display())
        }));
    }
    if others.is_empty() { Sealed::Nowhere } else { Sealed::Others(others) }
}

/// The slot that runs, and where it is.
///
/// # Errors
/// This is no system that a slot booted.
pub fn running() -> Result<(Slot, Place)> {
    let named = Named::running()?;
    let place = find(named.root).context("the slot's partition is gone")?;
    Ok((Slot::named(&named.slot).context("kiln.slot= is neither A nor B")?, place))
}

/// The disks that have such a partition: more than one when two were flashed with the same image.
pub fn twins(guid: Uuid) -> Vec<PathBuf> {
    let has_it = |disk: &PathBuf| table_with(disk, |there| there.guid == guid).is_some();
    disks().into_iter().map(|disk| disk.device()).filter(has_it).collect()
}

/// A power cut while the partition table was written leaves its copy at the disk's end whole; Linux looks
/// only at the first. Puts it back where the copy has such a partition; returns the disk.
pub fn mend(is_it: impl Fn(&Partition) -> bool) -> Option<Result<PathBuf>> {
    for disk in disks() {
        let device = disk.device();
        let is_cut = |table: &Table| !table.is_primary() && table.is_protected();
        let Some((table, _)) = table_with(&device, &is_it).filter(|(table, _)| is_cut(table)) else {
            continue;
        };
        let mend = || -> Result<PathBuf> {
            let file = OpenOptions::new().read(true).write(true).open(&device)?;
            perform(&file, &table.steps()?)?;
            ioctl::reread(&file)?;
            Ok(device.clone())
        };
        return Some(
            mend().with_context(|| format!("{}: its partition table cannot be mended", device.display())),
        );
    }
    None
}

/// Writes what a table tells to.
///
/// # Errors
/// The disk's.
pub fn perform(disk: &File, steps: &[Step]) -> io::Result<()> {
    for step in steps {
        match step {
            Step::Write(at, octets) => disk.write_all_at(octets, *at)?,
            Step::Flush => disk.sync_all()?,
        }
    }
    Ok(())
}

/// A disk in `/sys/class/block`.
pub struct Disk(String);

/// The disks there are.
pub fn disks() -> Vec<Disk> {
    let entries = fs::read_dir(BLOCKS).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| {
        let here = Path::new(BLOCKS).join(name);
        let is_empty = fs::read_to_string(here.join("size")).map_or(true, |size| size.trim() == "0");
        let is_virtual = ["ram", "zram", "dm-", "nbd", "fd"].iter().any(|kind| name.starts_with(kind));
        !here.join("partition").exists() && !is_empty && !is_virtual
    });
    names.sort();
    names.into_iter().map(Disk).collect()
}

impl Disk {
    /// A disk by its node.
    pub fn of(device: &Path) -> Option<Disk> {
        Some(Disk(device.file_name()?.to_str()?.to_owned()))
    }

    /// Its node.
    pub fn device(&self) -> PathBuf {
        Path::new("/dev").join(&self.0)
    }

    /// One of its partitions, by its name.
    pub fn named(&self, name: &str) -> Option<Place> {
        let table = Table::read(&mut File::open(self.device()).ok()?).ok()?;
        let there = table.partitions().into_iter().find(|partition| partition.name == name)?;
        self.partition(there.number)
    }

    /// Its slots, their partitions' GUIDs and places; nothing: they are not both there.
    fn slots(&self) -> Option<Vec<(Slot, Uuid, Place)>> {
        let partitions = Table::read(&mut File::open(self.device()).ok()?).ok()?.partitions();
        let slot = |slot| {
            let there = partitions.iter().find(|partition| partition.name == name_of(slot))?;
            let place = self.partition(there.number).filter(|place| place.device.exists())?;
            Some((slot, there.guid, place))
        };
        Slot::ALL.into_iter().map(slot).collect()
    }

    /// One of its partitions, if the kernel knows it.
    pub fn partition(&self, number: u32) -> Option<Place> {
        let entries = fs::read_dir(Path::new(BLOCKS).join(&self.0)).ok()?;
        for entry in entries.flatten() {
            let said = fs::read_to_string(entry.path().join("partition")).unwrap_or_default();
            if said.trim() == number.to_string() {
                return Some(Place {
                    device: Path::new("/dev").join(entry.file_name()),
                    number: fs::read_to_string(entry.path().join("dev")).ok()?.trim().to_owned(),
                    disk: self.device(),
                });
            }
        }
        None
    }
}

/// Reads a slot's seal; a root hash on the command line counts instead of its own.
///
/// # Errors
/// Says what is wrong with the slot.
pub fn seal(place: &Place, named: &Named) -> Result<Seal> {
    let damaged = || format!("slot {} on {} is damaged", named.slot, place.device.display());
    let mut seal = seal_of(place).with_context(damaged)?;
    if let Some(root) = &named.verity {
        seal.root = root.clone();
    }
    Ok(seal)
}

/// Reads the seal of what is in a partition.
///
/// # Errors
/// Says what is wrong with it.
pub fn seal_of(place: &Place) -> Result<Seal> {
    let device = place.device.display();
    let mut file = File::open(&place.device).with_context(|| format!("{device} cannot be opened"))?;
    let mut head = [0; seal::HEAD];
    file.read_exact(&mut head).with_context(|| format!("{device} cannot be read"))?;
    let blocks = seal::data_blocks(&head)?;
    let mut block = vec![0; BLOCK as usize];
    let at = blocks.checked_mul(BLOCK).context("its squashfs says it is endless")?;
    file.read_exact_at(&mut block, at).context("it ends before its seal")?;
    Ok(Seal::parse(&block, blocks)?)
}

mod ioctl {
    use nix::{ioctl_none_bad, request_code_none};
    use std::{fs::File, io, os::fd::AsRawFd};

    // linux/fs.h: #define BLKRRPART _IO(0x12,95)
    ioctl_none_bad!(blkrrpart, request_code_none!(0x12, 95));

    /// Has the kernel read the partition table again; no partition may be in use.
    pub(super) fn reread(disk: &File) -> io::Result<()> {
        // SAFETY: the call has no argument.
        // JUSTIFICATION: there is no other way to have the kernel look at a table that was mended.
        unsafe { blkrrpart(disk.as_raw_fd()) }?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
