//! A data partition that can only be read: what its journal still holds is put in place in memory, and memory is laid
//! over all of it, so that the services find what is there and go on.
//!
//! ```text
//!   /data          overlay, what changes in memory ([`cover`])
//!     └─ ext4, read-only
//!         ├─ the partition, when all that was written is where it belongs
//!         └─ dm-snapshot: the partition, and in memory what the journal's playing back changes ([`settled`])
//! ```
//!
//! A disk that refuses writes while its box runs leaves its journal as it is: nearly every one has something in it.
//! The snapshot is not written to by the services themselves, for one that is full is lost as a whole.

use super::{How, run};
use crate::{
    console::say,
    mapper::{Access, Mapped, SECTOR},
};
use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the memory is that takes what the journal changes.
const ASIDE: &str = "/run/kiln/journal";
/// Octets of it at most; a journal of mke2fs's has 1 GiB at most, of which little is in use.
const MOST: u64 = 256 << 20;
/// Sectors that the snapshot keeps at once: a block of the file system.
const CHUNK: u64 = 8;

/// Mounts what is on a device, without a write to it.
pub(super) fn mount_read_only(device: &Path, place: &Path) -> Result<How> {
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    let source = match is_settled(device) {
        Ok(true) => device.to_owned(),
        _ => settled(device).unwrap_or_else(|e| {
            say(&format!("what the journal of {} holds cannot be put in place: {e:#}", device.display()));
            device.to_owned()
        }),
    };
    // With the journal left alone; what is damaged is read as far as it goes.
    mount(Some(&source), place, Some("ext4"), flags, Some("noload,errors=continue"))
        .with_context(|| format!("{} cannot be mounted, not even to be read", device.display()))?;
    Ok(How::ReadOnly)
}

/// Whether all that was written to an ext4 file system is where it belongs: what is still in its journal is not seen
/// where it can only be read.
///
/// # Errors
/// The device's.
pub fn is_settled(device: &Path) -> Result<bool> {
    // struct ext4_super_block: s_feature_incompat at 0x60, of which EXT4_FEATURE_INCOMPAT_RECOVER.
    const RECOVER: u32 = 0x4;
    let mut octets = [0; 4];
    let read = File::open(device).and_then(|file| file.read_exact_at(&mut octets, 1024 + 0x60));
    read.with_context(|| format!("{} cannot be read", device.display()))?;
    Ok(u32::from_le_bytes(octets) & RECOVER == 0)
}

/// The same file system with its journal played back, in memory; returns its device.
fn settled(device: &Path) -> Result<PathBuf> {
    let size = File::open(device).and_then(|mut file| file.seek(SeekFrom::End(0)));
    let size = size.with_context(|| format!("{} cannot be read", device.display()))?;
    let changes = loop_device(size)?;
    let mapped = Mapped::create("data")?;
    let played = play_back(device, size, &changes, &mapped);
    if played.is_err() {
        // While it is there, nobody else may mount what is below it.
        if let Err(e) = mapped.remove() {
            say(&format!("{} stays mapped: {e}", device.display()));
        }
        return played;
    }
    say(&format!("what the journal of {} holds is put in place in memory", device.display()));
    played
}

/// Makes `mapped` a snapshot of a device, changes kept on another, and plays its journal back there; returns it.
fn play_back(device: &Path, size: u64, changes: &Path, mapped: &Mapped) -> Result<PathBuf> {
    // Documentation/admin-guide/device-mapper/snapshot.rst: N, kept for as long as the machine runs.
    let table = format!("{} {} N {CHUNK}", device.display(), changes.display());
    mapped
        .load("snapshot", size / SECTOR, &table, Access::Write)
        .context("dm-snapshot refused the table: is dm_snapshot among the modules?")?;
    // As on a disk that can be written to: what can be mended is, in memory.
    let mend = |how_much: &str| run(Command::new("e2fsck").arg(how_much).arg(&mapped.device));
    let (mut status, mut said) = mend("-p")?;
    if !matches!(status, Some(0..=3)) {
        (status, said) = mend("-y")?;
    }
    let last = super::last_of(&said);
    ensure!(matches!(status, Some(0..=3)) && is_settled(&mapped.device)?, "e2fsck: {last}");
    Ok(mapped.device.clone())
}

/// A block device that is memory, of so many octets at most.
fn loop_device(size: u64) -> Result<PathBuf> {
    let aside = Path::new(ASIDE);
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    fs::create_dir_all(aside).with_context(|| format!("{ASIDE} cannot be made"))?;
    mount(Some("tmpfs"), aside, Some("tmpfs"), flags, Some("mode=0700")).context("no memory for it")?;
    let file = aside.join("changes");
    File::create(&file).and_then(|made| made.set_len(size.min(MOST))).context("no memory for it")?;
    // busybox's: with -f alone it names one that is free.
    let (status, said) = run(Command::new("losetup").arg("-f"))?;
    let device = PathBuf::from(said.trim());
    ensure!(status == Some(0) && device.is_absolute(), "no loop device is free: {}", said.trim());
    let (status, said) = run(Command::new("losetup").arg(&device).arg(&file))?;
    ensure!(status == Some(0), "{} takes no file: {}", device.display(), said.trim());
    Ok(device)
}

/// Lays memory over what can only be read, so that the services find what is there and go on with it: what they
/// change is lost at the next start. `scratch` is where the memory is mounted.
///
/// # Errors
/// The kernel's, or what is there is older than what was written last: then nothing can be changed.
pub fn cover(place: &Path, scratch: &Path) -> Result<()> {
    let source = super::source(place).with_context(|| format!("nothing is at {}", place.display()))?;
    // Going on from an older state would be worse than not going on.
    ensure!(is_settled(&source)?, "its newest changes are in its journal, which cannot be put in place");
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    fs::create_dir_all(scratch).with_context(|| format!("{} cannot be made", scratch.display()))?;
    mount(Some("tmpfs"), scratch, Some("tmpfs"), flags, Some("mode=0700"))
        .context("no memory to lay over it")?;
    let [upper, work] = ["upper", "work"].map(|name| scratch.join(name));
    for folder in [&upper, &work] {
        fs::create_dir(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let meta = fs::metadata(place).with_context(|| format!("{} is not there", place.display()))?;
    fs::set_permissions(&upper, meta.permissions())?;
    let options =
        format!("lowerdir={},upperdir={},workdir={}", place.display(), upper.display(), work.display());
    mount(Some("overlay"), place, Some("overlay"), flags, Some(options.as_str()))
        .context("memory cannot be laid over it")
}
