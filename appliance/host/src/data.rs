//! The data partition: made at the first boot, mended at later ones, stood in for by memory when neither works.
//!
//! It is made in the kernel's own list of partitions first, then gets its file system, and stands in the
//! disk's table last. So a partition that is in the table has a whole file system, and is never made anew;
//! a power cut before leaves a disk without one, and the next boot begins again.

use crate::{
    console::say,
    gpt::{Partition, SECTOR, Table},
    slot::{self, Disk},
};
use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    mount::{MsFlags, mount},
    sys::statvfs::statvfs,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::Read as _,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use uuid::Uuid;

/// Its place in the table, and its name.
const NUMBER: u32 = 5;
const NAME: &str = "data";
/// A smaller one is of no use.
const LEAST: u64 = 64 << 20;
/// With less left, this is said.
const SCARCE: u64 = 256 << 20;

/// How the data came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// The partition was made now.
    Made,
    /// It was there.
    Kept,
    /// It was there and its file system had to be mended.
    Mended,
    /// There is none that works: memory stands in, and all is lost at the next boot.
    StandIn,
}

/// What is at `/data`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Data {
    /// How it came to be there.
    pub how: How,
    /// Its device; none: memory.
    pub device: Option<PathBuf>,
    /// Octets in all.
    pub size: u64,
    /// Octets that are free.
    pub free: u64,
    /// What is wrong, and what to do.
    pub trouble: Option<String>,
}

/// Puts something at `place`, whatever is wrong with the disk.
pub fn bring_up(disk: Option<&Path>, place: &Path) -> Data {
    let attempt = match disk {
        Some(disk) => partition(disk).and_then(|(device, how)| {
            let how = mount_checked(&device, how, place)?;
            Ok((device, how))
        }),
        None => Err(anyhow::anyhow!("it is not known which disk this is")),
    };
    let mut data = match attempt {
        Ok((device, how)) => Data { how, device: Some(device), size: 0, free: 0, trouble: None },
        Err(e) => {
            let text = format!(
                "the data partition cannot be used: {e:#}; memory stands in for it, and what is kept there is lost at the next restart"
            );
            say(&text);
            let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
            if let Err(e) = mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some("mode=0755")) {
                say(&format!("{} is not mounted: {}", place.display(), e.desc()));
            }
            Data { how: How::StandIn, device: None, size: 0, free: 0, trouble: Some(text) }
        }
    };
    data.measure(place);
    data
}

/// What is at `place` already, from an earlier start; nothing: nothing is.
pub fn there(place: &Path) -> Option<Data> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let line = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = line.into_iter().rfind(|words| words.get(1).is_some_and(|at| Path::new(at) == place))?;
    let device = Some(PathBuf::from(mount[0])).filter(|device| device.is_absolute());
    let how = if device.is_some() { How::Kept } else { How::StandIn };
    let trouble = device.is_none().then(|| "memory stands in for the data partition".to_owned());
    let mut data = Data { how, device, size: 0, free: 0, trouble };
    data.measure(place);
    Some(data)
}

impl Data {
    fn measure(&mut self, place: &Path) {
        let Ok(found) = statvfs(place) else { return };
        self.size = found.blocks() * found.fragment_size();
        self.free = found.blocks_available() * found.fragment_size();
        if self.how != How::StandIn && self.free < SCARCE.min(self.size / 20) {
            let (free, size) = (self.free >> 20, self.size >> 20);
            let text = format!(
                "the data partition is full, with {free} MiB of {size} left: remove images or volumes"
            );
            say(&text);
            self.trouble = Some(text);
        }
    }
}

/// The data partition's device, made if the disk has none.
///
/// # Errors
/// When there is none and none can be made.
pub fn partition(disk: &Path) -> Result<(PathBuf, How)> {
    let file = OpenOptions::new().read(true).write(true).open(disk);
    let mut file = file.with_context(|| format!("{} cannot be opened", disk.display()))?;
    let table = Table::read(&mut file).with_context(|| format!("{}", disk.display()))?;
    let there = table.partitions().into_iter().find(|partition| partition.number == NUMBER);
    match there {
        Some(there) if there.name == NAME => {
            if !table.is_settled() {
                slot::perform(&file, &table.steps()?).context("the partition table cannot be written")?;
            }
            Ok((known(&file, disk, &there)?, How::Kept))
        }
        Some(there) => bail!("partition {NUMBER} of {} is {:?}, not {NAME:?}", disk.display(), there.name),
        None => make(&file, disk, table),
    }
}

fn make(file: &File, disk: &Path, mut table: Table) -> Result<(PathBuf, How)> {
    let range = table.rest();
    let size = range.end - range.start;
    ensure!(
        size >= LEAST,
        "behind the system {} MiB of {} are free: a disk of 1 GiB or more is needed",
        size >> 20,
        disk.display()
    );
    let partition = Partition { number: NUMBER, guid: random_guid()?, name: NAME.to_owned(), range };
    table.add(&partition)?;
    let steps = table.steps()?;
    let device = known(file, disk, &partition)?;
    let how = if was_mounted(file, &partition.range) {
        say("a data file system of an earlier installation is there; it is kept");
        How::Kept
    } else {
        say(&format!("makes the data partition {} of {} MiB", device.display(), size >> 20));
        let (status, said) =
            run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-L", NAME]).arg(&device))?;
        ensure!(status == Some(0), "no file system could be made: {said}");
        File::open(&device).and_then(|made| made.sync_all()).context("the file system is not on the disk")?;
        How::Made
    };
    slot::perform(file, &steps).context("the partition table cannot be written")?;
    Ok((device, how))
}

/// The partition's device; the kernel is told of it if it does not know it.
fn known(file: &File, disk: &Path, partition: &Partition) -> Result<PathBuf> {
    let found = Disk::of(disk).with_context(|| format!("{} is no disk", disk.display()))?;
    if found.partition(partition.number).is_none() {
        ioctl::add(file, partition.number, &partition.range)
            .context("the kernel does not take the partition")?;
    }
    let place = found.partition(partition.number).context("the kernel does not know the partition")?;
    ensure!(place.device.exists(), "{} is not there", place.device.display());
    Ok(place.device)
}

/// Whether there is an ext4 file system with our label that was in use: one that was never mounted holds
/// nothing, and may be half made.
fn was_mounted(disk: &File, range: &Range<u64>) -> bool {
    // struct ext4_super_block: s_mtime at 0x2c, s_magic at 0x38, s_volume_name at 0x78.
    let mut block = [0; 1024];
    if disk.read_exact_at(&mut block, range.start + 1024).is_err() {
        return false;
    }
    block[0x38..0x3a] == [0x53, 0xef] && block[0x78..].starts_with(b"data\0") && block[0x2c..0x30] != [0; 4]
}

fn mount_checked(device: &Path, how: How, place: &Path) -> Result<How> {
    let check = |how_much: &str| run(Command::new("e2fsck").arg(how_much).arg(device));
    let mut how = how;
    // e2fsck(8), a sum: 1 errors corrected, 2 a restart is wanted, 4 errors left, 8 an operational one.
    let (status, said) = check("-p")?;
    match status {
        Some(0) => {}
        Some(1..=3) => how = How::Mended,
        _ => {
            say(&format!("{} is damaged: {said}", device.display()));
            say("mends it, and what cannot be saved is lost");
            let (status, said) = check("-y")?;
            ensure!(
                matches!(status, Some(0..=3)),
                "{} is damaged and cannot be mended: {said}; it is left as it is: save what is on it; the box makes another when the disk has no partition {NUMBER} and zeroes where it was",
                device.display()
            );
            how = How::Mended;
        }
    }
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    // What is damaged while it is in use takes no more writes.
    mount(Some(device), place, Some("ext4"), flags, Some("errors=remount-ro"))
        .with_context(|| format!("{} cannot be mounted", device.display()))?;
    Ok(how)
}

/// A program's exit status and the last of what it said.
fn run(command: &mut Command) -> Result<(Option<i32>, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name} cannot be run"))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it says nothing");
    Ok((output.status.code(), last.to_owned()))
}

fn random_guid() -> Result<Uuid> {
    let mut octets = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut octets))
        .context("no randomness")?;
    Ok(uuid::Builder::from_random_bytes(octets).into_uuid())
}

/// The box is to be as it was flashed from its next start on.
///
/// # Errors
/// The file system's.
pub fn mark_reset() -> std::io::Result<()> {
    keep(Path::new("/data/.reset"), b"", 0o600)
}

/// Writes a file so that after a power cut it is the old one or the new one.
///
/// # Errors
/// The file system's.
pub fn keep(path: &Path, text: &[u8], mode: u32) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let aside = path.with_extension("new");
    let _ = fs::remove_file(&aside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    match path.parent() {
        Some(above) => File::open(above)?.sync_all(),
        None => Ok(()),
    }
}

mod ioctl {
    use super::{Range, SECTOR};
    use nix::{ioctl_write_ptr_bad, libc, request_code_none};
    use std::{fs::File, io, os::fd::AsRawFd, ptr};

    /// struct blkpg_partition (linux/blkpg.h).
    #[repr(C)]
    struct Partition {
        start: libc::c_longlong,
        length: libc::c_longlong,
        number: libc::c_int,
        names: [[u8; 64]; 2],
    }

    /// struct blkpg_ioctl_arg.
    #[repr(C)]
    pub(super) struct Arg {
        op: libc::c_int,
        flags: libc::c_int,
        length: libc::c_int,
        data: *mut Partition,
    }

    const ADD: libc::c_int = 1;

    ioctl_write_ptr_bad!(blkpg, request_code_none!(0x12, 105), Arg);

    /// Tells the kernel of a partition, while others of the disk are in use.
    pub(super) fn add(disk: &File, number: u32, range: &Range<u64>) -> io::Result<()> {
        debug_assert!(range.start.is_multiple_of(SECTOR));
        let (start, length) = (range.start as i64, (range.end - range.start) as i64);
        let mut partition = Partition { start, length, number: number as i32, names: [[0; 64]; 2] };
        let length = size_of::<Partition>() as i32;
        let arg = Arg { op: ADD, flags: 0, length, data: ptr::from_mut(&mut partition) };
        // SAFETY: both structures are the kernel's, of the length that is given, and live for the call.
        // JUSTIFICATION: reading the whole table again (BLKRRPART) is refused while a partition is in use,
        // as the slot's is.
        unsafe { blkpg(disk.as_raw_fd(), &arg) }?;
        Ok(())
    }
}
