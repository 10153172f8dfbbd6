//! The device-mapper's ioctls (linux/dm-ioctl.h).
//!
//! Rejected: the crate `devicemapper`, whose bindings are made from the kernel's headers by libclang at
//! build time, for four calls.

use anyhow::{Context as _, Result};
use std::{
    fs::{File, OpenOptions},
    io,
    path::PathBuf,
};

/// Octets of struct dm_ioctl.
const HEAD: usize = 312;
/// Octets of struct dm_target_spec.
const TARGET: usize = 40;
const READ_ONLY: u32 = 1;
const CONTROL: &str = "/dev/mapper/control";
/// What the device-mapper counts in.
pub const SECTOR: u64 = 512;

/// Whether a mapped device takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It does not.
    Read,
    /// It does.
    Write,
}

/// A mapped device.
pub struct Mapped {
    control: File,
    name: &'static str,
    /// Where it is.
    pub device: PathBuf,
}

impl Mapped {
    /// Makes a device that is nothing yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create(name: &'static str) -> Result<Mapped> {
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open(CONTROL)
            .with_context(|| format!("{CONTROL} cannot be opened: is dm_mod among the modules?"))?;
        let mut message = message(name, 0, &[]);
        ioctl::create(&control, &mut message).context("no device could be mapped")?;
        let minor = minor(&message);
        Ok(Mapped { control, name, device: format!("/dev/dm-{minor}").into() })
    }

    /// Makes it one target of so many sectors, from here on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn load(&self, kind: &str, sectors: u64, parameters: &str, access: Access) -> io::Result<()> {
        let flags = if access == Access::Read { READ_ONLY } else { 0 };
        let target = target(kind, sectors, parameters);
        ioctl::load(&self.control, &mut message(self.name, flags, &target))?;
        // Without the flag for suspending, this resumes with the table that was loaded.
        ioctl::resume(&self.control, &mut message(self.name, 0, &[]))
    }

    /// Takes the device away again.
    ///
    /// # Errors
    /// When it is in use.
    pub fn remove(self) -> io::Result<()> {
        ioctl::remove(&self.control, &mut message(self.name, 0, &[]))
    }
}

/// struct dm_ioctl with its data behind it.
fn message(name: &str, flags: u32, targets: &[u8]) -> Vec<u8> {
    let mut message = vec![0; HEAD];
    let mut put = |at: usize, octets: &[u8]| message[at..at + octets.len()].copy_from_slice(octets);
    for (at, number) in [
        (0, 4), // version[0]; the kernel asks for no more
        (12, (HEAD + targets.len()) as u32),
        (16, HEAD as u32),
        (20, u32::from(!targets.is_empty())),
        (28, flags),
    ] {
        put(at, &number.to_ne_bytes());
    }
    put(48, name.as_bytes());
    message.extend(targets);
    message
}

/// struct dm_target_spec with its parameters behind it, ended by a zero octet and filled up to eight.
fn target(kind: &str, sectors: u64, parameters: &str) -> Vec<u8> {
    let length = (TARGET + parameters.len() + 1).next_multiple_of(8);
    let mut target = vec![0; 8];
    target.extend(sectors.to_ne_bytes());
    target.extend(0u32.to_ne_bytes());
    target.extend((length as u32).to_ne_bytes());
    target.extend(kind.as_bytes());
    target.resize(TARGET, 0);
    target.extend(parameters.as_bytes());
    target.resize(length, 0);
    target
}

/// The minor number of the device that the kernel put into its answer (huge_encode_dev).
fn minor(message: &[u8]) -> u64 {
    let dev = message[40..48].iter().rev().fold(0u64, |sum, octet| sum << 8 | u64::from(*octet));
    dev & 0xff | dev >> 12 & 0xfff00
}

mod ioctl {
    use super::HEAD;
    use nix::{ioctl_readwrite, libc};
    use std::{fs::File, io, os::fd::AsRawFd};

    ioctl_readwrite!(dm_dev_create, 0xfd, 3, [u8; HEAD]);
    ioctl_readwrite!(dm_dev_remove, 0xfd, 4, [u8; HEAD]);
    ioctl_readwrite!(dm_dev_suspend, 0xfd, 6, [u8; HEAD]);
    ioctl_readwrite!(dm_table_load, 0xfd, 9, [u8; HEAD]);

    type Call = unsafe fn(libc::c_int, *mut [u8; HEAD]) -> nix::Result<libc::c_int>;

    pub(super) fn create(control: &File, message: &mut [u8]) -> io::Result<()> {
        call(dm_dev_create, control, message)
    }

    pub(super) fn remove(control: &File, message: &mut [u8]) -> io::Result<()> {
        call(dm_dev_remove, control, message)
    }

    pub(super) fn resume(control: &File, message: &mut [u8]) -> io::Result<()> {
        call(dm_dev_suspend, control, message)
    }

    pub(super) fn load(control: &File, message: &mut [u8]) -> io::Result<()> {
        call(dm_table_load, control, message)
    }

    fn call(call: Call, control: &File, message: &mut [u8]) -> io::Result<()> {
        assert!(message.len() >= HEAD, "message() makes the head first");
        // SAFETY: the kernel reads and writes as many octets as the message's data_size says, which
        // message() sets to its length, and the head is in it; it lives for the call.
        // JUSTIFICATION: nothing but these ioctls makes a device-mapper device, and no safe wrapper of
        // them builds without the kernel's headers.
        unsafe { call(control.as_raw_fd(), message.as_mut_ptr().cast()) }?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
