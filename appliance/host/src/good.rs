//! The end of a boot on trial: the running slot has proved itself, and the boot loader is told.
//!
//! GRUB counts a boot before it makes it (`TRY=1`), and passes over a slot that is being tried. So a system
//! that never comes to say that it is good is left at the next start, by power or by watchdog.

use crate::{
    grubenv::Block,
    slot::{self, Disk, Named},
};
use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// The name of the ESP in the partition table; its number is another on arm64.
const ESP: &str = "esp";
const PLACE: &str = "/run/kiln/esp";
/// Below the ESP.
const FILE: &str = "grub/grubenv";

/// Whether something had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// It was so.
    Already,
    /// It is so now.
    Changed,
}

/// Tells the boot loader that the running slot is good.
///
/// # Errors
/// This is no system that a slot booted, or the ESP cannot be read or written.
pub fn good() -> Result<(String, Did)> {
    let cmdline = fs::read_to_string("/proc/cmdline").context("no /proc/cmdline")?;
    let named = Named::read(&cmdline)?;
    let place = slot::find(named.root).context("the slot's partition is gone")?;
    let esp = Disk::of(&place.disk).and_then(|disk| disk.named(ESP));
    let esp = esp.with_context(|| format!("{} has no ESP", place.disk.display()))?;
    let mounted = Mounted::at(&esp.device, Path::new(PLACE))?;
    let did = mark(&mounted.0.join(FILE), &named.slot)?;
    Ok((named.slot, did))
}

/// Sets a slot's `OK` to 1 and its `TRY` to 0, in place: GRUB knows the file by the sectors it is in.
///
/// # Errors
/// The file system's.
pub fn mark(file: &Path, slot: &str) -> Result<Did> {
    let failed = || format!("the boot loader's {} cannot be changed", file.display());
    let there = fs::read(file).with_context(failed)?;
    // GRUB passes over a block that is none, and boots all the same: it is made anew.
    let mut block = Block::parse(&there).unwrap_or_default();
    block.set(&format!("{slot}_OK"), "1");
    block.set(&format!("{slot}_TRY"), "0");
    let octets = block.octets()?;
    if octets == there {
        return Ok(Did::Already);
    }
    let open = OpenOptions::new().write(true).open(file).with_context(failed)?;
    open.write_all_at(&octets, 0).and_then(|()| open.sync_all()).with_context(failed)?;
    Ok(Did::Changed)
}

/// A file system that is mounted until this is dropped.
struct Mounted<'a>(&'a Path);

impl Mounted<'_> {
    fn at<'a>(device: &Path, place: &'a Path) -> Result<Mounted<'a>> {
        fs::create_dir_all(place).with_context(|| format!("{} cannot be made", place.display()))?;
        // One who was ended in the middle left it.
        let _ = umount2(place, MntFlags::MNT_DETACH);
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_SYNCHRONOUS;
        mount(Some(device), place, Some("vfat"), flags, Some("umask=077"))
            .with_context(|| format!("the ESP {} cannot be mounted", device.display()))?;
        Ok(Mounted(place))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Everything in it is written: what stays mounted does no harm.
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

#[cfg(test)]
mod tests;
