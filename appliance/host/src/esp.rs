//! The ESP, for as long as somebody needs it: the boot loader's state is on it.

use crate::{did::Did, grubenv::Block, slot::Disk};
use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, MsFlags, mount, umount2},
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// The name of the ESP in the partition table; its number is another on arm64.
const NAME: &str = "esp";
/// Where it is mounted; etc/rauc/system.conf has the same.
const PLACE: &str = "/run/kiln/esp";
const LOCK: &str = "/run/kiln/esp.lock";
/// What systemd-boot reads, below the ESP.
pub const SYSTEMD_BOOT: &str = "loader/loader.conf";
/// Below the ESP.
const FILE: &str = "grub/grubenv";

/// How a boot loader comes to start a slot that is on trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// GRUB: by the variables, in which it counts.
    Counting,
    /// systemd-boot: it is told to, once ([`crate::loader`]).
    Once,
}

/// The ESP, mounted until this is dropped. One process has it at a time; the others wait.
pub struct Esp {
    _lock: Flock<File>,
    can_write: bool,
}

impl Esp {
    /// Mounts the ESP of a disk.
    ///
    /// # Errors
    /// The disk has none, or it cannot be mounted.
    pub fn on(disk: &Path) -> Result<Esp> {
        let esp = Disk::of(disk).and_then(|disk| disk.named(NAME));
        let device = esp.with_context(|| format!("{} has no ESP", disk.display()))?.device;
        fs::create_dir_all(PLACE).with_context(|| format!("{PLACE} cannot be made"))?;
        let file = File::create(LOCK).with_context(|| format!("{LOCK} cannot be made"))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).context(LOCK)?;
        // One who was ended in the middle left it.
        let _ = umount2(PLACE, MntFlags::MNT_DETACH);
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_SYNCHRONOUS;
        let there = |flags| mount(Some(&device), PLACE, Some("vfat"), flags, Some("umask=077"));
        let can_write = match there(flags) {
            // A disk that is write-protected: the boot loader could count nothing on it either.
            Err(Errno::EACCES | Errno::EROFS) => there(flags | MsFlags::MS_RDONLY).map(|()| false),
            done => done.map(|()| true),
        };
        let can_write =
            can_write.with_context(|| format!("the ESP {} cannot be mounted", device.display()))?;
        Ok(Esp { _lock: lock, can_write })
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        Path::new(PLACE)
    }

    /// The boot loader that is on it.
    pub fn loader(&self) -> Loader {
        // systemd-boot, and not GRUB.
        if self.root().join(SYSTEMD_BOOT).exists() { Loader::Once } else { Loader::Counting }
    }

    /// Whether its disk takes writes, and what is kept of the slots is on it.
    pub fn counts(&self) -> bool {
        self.can_write && self.grubenv().exists()
    }

    /// The file that GRUB keeps its variables in.
    pub fn grubenv(&self) -> PathBuf {
        self.root().join(FILE)
    }
}

impl Drop for Esp {
    fn drop(&mut self) {
        // Everything in it is written: what stays mounted does no harm.
        let _ = umount2(PLACE, MntFlags::MNT_DETACH);
    }
}

/// GRUB's variables. GRUB passes over a block that is none, and boots all the same: so does this. Without a file
/// there are none: another boot loader counts nothing.
///
/// # Errors
/// The file system's.
pub fn variables(file: &Path) -> Result<Block> {
    match fs::read(file) {
        Ok(there) => Ok(Block::parse(&there).unwrap_or_default()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Block::default()),
        Err(e) => Err(e).with_context(|| format!("the boot loader's {} cannot be read", file.display())),
    }
}

/// Changes GRUB's variables, in place: GRUB knows the file by the sectors it is in.
///
/// # Errors
/// The file system's.
pub fn change(file: &Path, change: impl FnOnce(&mut Block)) -> Result<Did> {
    let failed = || format!("the boot loader's {} cannot be changed", file.display());
    let there = fs::read(file).with_context(failed)?;
    let mut block = Block::parse(&there).unwrap_or_default();
    change(&mut block);
    let octets = block.octets()?;
    if octets == there {
        return Ok(Did::Already);
    }
    let open = OpenOptions::new().write(true).open(file).with_context(failed)?;
    open.write_all_at(&octets, 0).and_then(|()| open.sync_all()).with_context(failed)?;
    Ok(Did::Changed)
}
