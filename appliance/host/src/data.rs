//! The data partition: made at the first boot, mended at later ones, stood in for by memory when neither works.
//!
//! It is made in the kernel's own list of partitions first, then gets its file system, and stands in the
//! disk's table last. So a partition that is in the table has a whole file system, and is never made anew;
//! a power cut before leaves a disk without one, and the next boot begins again.
//!
//! A reset goes the same way back: the partition's name in the table says that it is being emptied, before anything
//! is, and is put right when a new file system is there. Whatever is in between, the next boot goes on with it.
//!
//! A disk that cannot be read, or written, is not written to: what is on it may be all that is left.

use crate::{
    console::say,
    durable::keep,
    gpt::{Partition, SECTOR, Table},
    services,
    slot::{self, Disk},
};
use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statvfs::statvfs,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use uuid::Uuid;

pub mod frozen;

/// Its place in the table, and its name.
const NUMBER: u32 = 5;
const NAME: &str = "data";
/// Its name while it is being emptied.
const ERASED: &str = "data-erased";
/// Where it is mounted.
const PLACE: &str = "/data";
/// In its file system: it is to be emptied.
const MARK: &str = ".reset";
/// So much is emptied between two words of how far it is.
const STRIDE: u64 = 256 << 20;
/// Octets that are held back.
const ROOM: u64 = 32 << 20;
/// Octets that are control's alone, so that its store opens and takes changes on a box that is full, which is how
/// something is removed. The store wants 16 MiB.
const RESERVED: u64 = 48 << 20;
/// A smaller one is of no use.
const LEAST: u64 = 96 << 20;
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
    /// It was emptied and made anew, as was wished.
    Reset,
    /// It is there and can only be read: its disk refuses to be written to, or could not be read everywhere.
    ReadOnly,
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

/// What is to become of what is there.
pub struct Wish<'a> {
    /// Whether all of it is to go.
    pub reset: bool,
    /// Called in the middle of a reset: what is kept elsewhere goes too, before the reset is over.
    pub forget: &'a dyn Fn(&Path) -> Result<()>,
}

impl Wish<'_> {
    /// It stays.
    pub const KEEP: Wish<'static> = Wish { reset: false, forget: &|_| Ok(()) };
}

/// Puts something at `place`, whatever is wrong with the disk.
pub fn bring_up(disk: Option<&Path>, place: &Path, wish: &Wish<'_>) -> Data {
    let attempt = match disk {
        Some(disk) => mount_partition(disk, place, wish),
        None => Err(anyhow::anyhow!("it is not known which disk this is")),
    };
    let mut data = match attempt {
        Ok((device, how)) => {
            let trouble = (how == How::ReadOnly).then(|| {
                format!(
                    "the data partition {} can only be read, and what is new is lost at the next restart: its disk is write-protected or is dying; save what is on it and change the disk",
                    device.display()
                )
            });
            trouble.iter().for_each(|text| say(text));
            Data { how, device: Some(device), size: 0, free: 0, trouble }
        }
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

fn mount_partition(disk: &Path, place: &Path, wish: &Wish<'_>) -> Result<(PathBuf, How)> {
    let (device, how) = partition(disk, wish)?;
    let how = mount_checked(&device, how, place)?;
    if matches!(how, How::ReadOnly) || fs::symlink_metadata(place.join(MARK)).is_err() {
        return Ok((device, how));
    }
    umount2(place, MntFlags::empty()).context("the data partition that is to be emptied is in use")?;
    let (device, how) = partition(disk, &Wish { reset: true, ..*wish })?;
    Ok((device.clone(), mount_checked(&device, how, place)?))
}

/// Holds room back for a box that was filled, so that not everything on it fails at once.
/// Where there is none left it is given back; where there is plenty again, it is taken again.
///
/// # Errors
/// The file system's.
pub fn hold_room(place: &Path) -> Result<()> {
    let ballast = place.join("host/ballast");
    let found = statvfs(place)?;
    let (size, free) =
        (found.blocks() * found.fragment_size(), found.blocks_available() * found.fragment_size());
    let room = ROOM.min(size / 6);
    if free < room / 2 {
        if fs::remove_file(&ballast).is_ok() {
            say(&format!("the data partition is full: {} MiB that were held back are free now", room >> 20));
        }
        return Ok(());
    }
    if free < 4 * room || fs::metadata(&ballast).is_ok_and(|there| there.len() == room) {
        return Ok(());
    }
    fs::create_dir_all(place.join("host"))?;
    let file = File::create(&ballast)?;
    let length = i64::try_from(room).context("more than there is")?;
    nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, length)?;
    file.sync_all()?;
    Ok(())
}

/// What is mounted at `place`: a device, or a word such as `tmpfs`.
fn source(place: &Path) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let line = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = line.into_iter().rfind(|words| words.get(1).is_some_and(|at| Path::new(at) == place))?;
    Some(mount[0].into())
}

/// What is at `place` already, from an earlier start; nothing: nothing is.
pub fn there(place: &Path) -> Option<Data> {
    let device = Some(source(place)?).filter(|device| device.is_absolute());
    let how = if device.is_some() { How::Kept } else { How::StandIn };
    let trouble = device.is_none().then(|| "memory stands in for the data partition".to_owned());
    let mut data = Data { how, device, size: 0, free: 0, trouble };
    data.measure(place);
    Some(data)
}

impl Data {
    /// Whether what is written there outlives a restart.
    pub fn keeps(&self) -> bool {
        self.device.is_some() && self.how != How::ReadOnly
    }

    fn measure(&mut self, place: &Path) {
        let Ok(found) = statvfs(place) else { return };
        self.size = found.blocks() * found.fragment_size();
        self.free = found.blocks_available() * found.fragment_size();
        if !matches!(self.how, How::StandIn | How::ReadOnly) && self.free < SCARCE.min(self.size / 20) {
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
pub fn partition(disk: &Path, wish: &Wish<'_>) -> Result<(PathBuf, How)> {
    let failed = || format!("{} cannot be opened", disk.display());
    let mut file = File::open(disk).with_context(failed)?;
    let can_write = !ioctl::is_read_only(&file);
    if can_write {
        file = OpenOptions::new().read(true).write(true).open(disk).with_context(failed)?;
    }
    let mut table = Table::read(&mut file).with_context(|| format!("{}", disk.display()))?;
    let there = table.partitions().into_iter().find(|partition| partition.number == NUMBER);
    match there {
        Some(there) if !can_write && there.name == NAME => Ok((known(&file, disk, &there)?, How::ReadOnly)),
        _ if !can_write => bail!("{} is write-protected, and no data partition is on it", disk.display()),
        Some(there) if there.name == ERASED => erase(&file, disk, &there, wish),
        Some(there) if there.name == NAME && wish.reset => {
            table.rename(NUMBER, ERASED);
            slot::perform(&file, &table.steps()?).context("the partition table cannot be written")?;
            erase(&file, disk, &there, wish)
        }
        None if wish.reset => {
            let there = Partition {
                number: NUMBER,
                guid: random_guid()?,
                name: ERASED.to_owned(),
                range: fit(&table, disk)?,
            };
            table.add(&there)?;
            slot::perform(&file, &table.steps()?).context("the partition table cannot be written")?;
            erase(&file, disk, &there, wish)
        }
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

/// Empties the partition, whose name says so already; when this returns it is a new one.
fn erase(file: &File, disk: &Path, there: &Partition, wish: &Wish<'_>) -> Result<(PathBuf, How)> {
    let device = known(file, disk, there)?;
    say(&format!("empties {}: this takes as long as writing all of it may take", device.display()));
    let open = OpenOptions::new().write(true).open(&device);
    let open = open.with_context(|| format!("{} cannot be opened", device.display()))?;
    let size = there.range.end - there.range.start;
    if let Err(e) = ioctl::discard(&open, 0..size) {
        say(&format!("{} discards nothing ({e}): it is written over", device.display()));
    }
    // What a discard leaves to be read again is up to the disk.
    for start in (0..size).step_by(STRIDE as usize) {
        let end = (start + STRIDE).min(size);
        ioctl::zero(&open, start..end).with_context(|| format!("{} cannot be emptied", device.display()))?;
        if start > 0 && start % (64 * STRIDE) == 0 {
            say(&format!("{} of {} GiB are emptied", start >> 30, size >> 30));
        }
    }
    open.sync_all().with_context(|| format!("{} cannot be emptied", device.display()))?;
    drop(open);
    (wish.forget)(disk).context("what is kept beside the data partition cannot be removed")?;
    make_file_system(&device)?;
    let mut reread = File::open(disk)?;
    let mut table = Table::read(&mut reread).with_context(|| format!("{}", disk.display()))?;
    table.rename(NUMBER, NAME);
    slot::perform(file, &table.steps()?).context("the partition table cannot be written")?;
    say("the box is reset: nothing of what it knew is left");
    Ok((device, How::Reset))
}

fn make_file_system(device: &Path) -> Result<()> {
    let size = File::open(device).and_then(|mut made| made.seek(SeekFrom::End(0)));
    let size = size.with_context(|| format!("{} cannot be opened", device.display()))?;
    // mke2fs(8): in hundredths of all blocks, with a fraction.
    let reserved = (RESERVED as f64 * 100.0 / size.max(1) as f64).clamp(0.001, 25.0);
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-L", NAME, "-m", &format!("{reserved:.3}")]).arg(device);
    let (status, said) = run(&mut mke2fs)?;
    ensure!(status == Some(0), "no file system could be made: {}", last_of(&said));
    File::open(device).and_then(|made| made.sync_all()).context("the file system is not on the disk")
}

/// Where there is room for one.
fn fit(table: &Table, disk: &Path) -> Result<Range<u64>> {
    let range = table.rest();
    let size = range.end - range.start;
    ensure!(
        size >= LEAST,
        "behind the system {} MiB of {} are free: a disk of 1 GiB or more is needed",
        size >> 20,
        disk.display()
    );
    Ok(range)
}

fn make(file: &File, disk: &Path, mut table: Table) -> Result<(PathBuf, How)> {
    let range = fit(&table, disk)?;
    let size = range.end - range.start;
    let partition = Partition { number: NUMBER, guid: random_guid()?, name: NAME.to_owned(), range };
    table.add(&partition)?;
    let steps = table.steps()?;
    let device = known(file, disk, &partition)?;
    let how = if was_mounted(file, &partition.range) {
        say("a data file system of an earlier installation is there; it is kept");
        How::Kept
    } else {
        say(&format!("makes the data partition {} of {} MiB", device.display(), size >> 20));
        make_file_system(&device)?;
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
    if how == How::ReadOnly {
        return frozen::mount_read_only(device, place);
    }
    // Mending writes, and a disk that is dying is not to be written to: looked at first.
    let (_, said) = check("-n")?;
    if cannot_be_read(&said) {
        say(&format!("{} cannot be read everywhere: {}", device.display(), last_of(&said)));
        return frozen::mount_read_only(device, place);
    }
    // e2fsck(8), a sum: 1 errors corrected, 2 a restart is wanted, 4 errors left, 8 an operational one.
    let (status, said) = check("-p")?;
    match status {
        Some(0) => {}
        Some(1..=3) => how = How::Mended,
        _ if cannot_be_read(&said) => {
            say(&format!("{} cannot be read everywhere: {}", device.display(), last_of(&said)));
            return frozen::mount_read_only(device, place);
        }
        _ => {
            say(&format!("{} is damaged: {}", device.display(), last_of(&said)));
            say("mends it, and what cannot be saved is lost");
            let (status, said) = check("-y")?;
            let last = last_of(&said);
            ensure!(
                matches!(status, Some(0..=3)),
                "{} is damaged and cannot be mended: {last}; it is left as it is: save what is on it; the box makes another when the disk has no partition {NUMBER} and zeroes where it was",
                device.display()
            );
            how = How::Mended;
        }
    }
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    // What is damaged while it is in use takes no more writes.
    let options = format!("errors=remount-ro,resuid={}", services::CONTROL);
    mount(Some(device), place, Some("ext4"), flags, Some(options.as_str()))
        .with_context(|| format!("{} cannot be mounted", device.display()))?;
    Ok(how)
}

/// Whether the disk, not the file system on it, is at fault, by what e2fsck says (its unix_io and message.c).
fn cannot_be_read(said: &str) -> bool {
    [
        "Input/output error",
        "Error reading block",
        "Attempt to read block from filesystem resulted in short read",
    ]
    .iter()
    .any(|words| said.contains(words))
}

/// A program's exit status and what it said.
fn run(command: &mut Command) -> Result<(Option<i32>, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name} cannot be run"))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((output.status.code(), said))
}

fn last_of(said: &str) -> &str {
    said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it says nothing")
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
/// The file system's, or what is at `/data` is memory, and the partition would stay as it is.
pub fn mark_reset() -> Result<()> {
    ensure!(is_in_use(), "{UNMARKED}");
    keep(&Path::new(PLACE).join(MARK), b"", 0o600).context("the data partition cannot be marked")
}

/// Whether what is at `/data` is the partition itself, and not memory instead of it or over it.
pub fn is_in_use() -> bool {
    source(Path::new(PLACE)).is_some_and(|source| source.is_absolute())
}

/// Why nothing can be marked.
const UNMARKED: &str = "memory stands in for the data partition, or over it, and the partition itself would stay as it is: start the box with the word kiln.reset on the kernel's command line";

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

    const READ_ONLY: u32 = 94;
    const DISCARD: u32 = 119;
    const ZERO_OUT: u32 = 127;

    nix::ioctl_read_bad!(blkroget, request_code_none!(0x12, READ_ONLY), libc::c_int);
    ioctl_write_ptr_bad!(blkdiscard, request_code_none!(0x12, DISCARD), [u64; 2]);
    ioctl_write_ptr_bad!(blkzeroout, request_code_none!(0x12, ZERO_OUT), [u64; 2]);

    /// Whether a block device is write-protected; what is none is not.
    pub(super) fn is_read_only(disk: &File) -> bool {
        let mut is = 0;
        // SAFETY: the kernel writes one int, which lives for the call.
        // JUSTIFICATION: opening it for writing fails for other reasons too.
        unsafe { blkroget(disk.as_raw_fd(), &mut is) }.is_ok() && is != 0
    }

    /// Tells the disk that it need not keep these octets.
    pub(super) fn discard(disk: &File, range: Range<u64>) -> io::Result<()> {
        let range = [range.start, range.end - range.start];
        // SAFETY: the kernel reads two numbers, which live for the call.
        // JUSTIFICATION: there is no other way to discard on a block device.
        unsafe { blkdiscard(disk.as_raw_fd(), &range) }?;
        Ok(())
    }

    /// Makes these octets zero, by whatever way the disk is fastest in.
    pub(super) fn zero(disk: &File, range: Range<u64>) -> io::Result<()> {
        let range = [range.start, range.end - range.start];
        // SAFETY: the kernel reads two numbers, which live for the call.
        // JUSTIFICATION: a disk that can zero by itself takes moments for what writing takes hours for.
        unsafe { blkzeroout(disk.as_raw_fd(), &range) }?;
        Ok(())
    }

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
