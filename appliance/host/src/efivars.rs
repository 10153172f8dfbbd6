//! The firmware's variables (UEFI 2.10, 8.2), by the kernel's efivarfs: mounted for as long as somebody needs them,
//! because one that is written or removed by mistake can brick a box.

use crate::did::Did;
use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

const PLACE: &str = "/sys/firmware/efi/efivars";
/// `EFI_VARIABLE_NON_VOLATILE`, `_BOOTSERVICE_ACCESS` and `_RUNTIME_ACCESS`: what every variable has that is to be
/// there at the next start.
const KEPT: u32 = 7;
/// The attributes come first.
const HEAD: usize = 4;

/// A variable's name and the GUID of who made it up, as efivarfs calls its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub &'static str);

/// Whether Secure Boot is on: one octet.
pub const SECURE_BOOT: Name = Name("SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c");
/// What the firmware trusts: signature lists.
pub const TRUSTED: Name = Name("db-d719b2cb-3d3a-4596-a3bc-dad00e67656f");
/// What it does not, in spite of that.
pub const REVOKED: Name = Name("dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f");

/// What somebody is about to do with the variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read them.
    Read,
    /// Write some of them.
    Write,
}

/// The variables, mounted until this is dropped.
pub struct Variables {
    place: PathBuf,
    mounted: bool,
}

impl Variables {
    /// Mounts them.
    ///
    /// # Errors
    /// The machine was not started by UEFI, or its firmware has no variables once a system runs.
    pub fn open(access: Access) -> Result<Variables> {
        let mut flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        if access == Access::Read {
            flags |= MsFlags::MS_RDONLY;
        }
        mount(Some("efivarfs"), PLACE, Some("efivarfs"), flags, None::<&str>)
            .context("the firmware's variables cannot be reached")?;
        Ok(Variables { place: PLACE.into(), mounted: true })
    }

    /// Whether this machine's firmware has any.
    pub fn are_there() -> bool {
        Path::new(PLACE).exists()
    }

    /// Files of a test in their place.
    #[cfg(test)]
    pub(crate) fn at(place: &Path) -> Variables {
        Variables { place: place.to_owned(), mounted: false }
    }

    fn file(&self, name: Name) -> PathBuf {
        self.place.join(name.0)
    }

    /// A variable's value; none: there is no such variable.
    ///
    /// # Errors
    /// The firmware's.
    pub fn get(&self, name: Name) -> Result<Option<Vec<u8>>> {
        match fs::read(self.file(name)) {
            // One that is being removed is empty.
            Ok(mut octets) => Ok((octets.len() >= HEAD).then(|| octets.split_off(HEAD))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("the firmware's variable {} cannot be read", name.0)),
        }
    }

    /// Gives a variable a value that outlives the machine's being off.
    ///
    /// # Errors
    /// The firmware's: it has no room, or lets nobody write.
    pub fn set(&self, name: Name, value: &[u8]) -> Result<Did> {
        if self.get(name)?.as_deref() == Some(value) {
            return Ok(Did::Already);
        }
        let failed = || format!("the firmware's variable {} cannot be written", name.0);
        self.unlock(name).with_context(failed)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.file(name))
            .with_context(failed)?;
        // The kernel takes one write for one variable.
        let whole = [&KEPT.to_le_bytes(), value].concat();
        let written = file.write(&whole).with_context(failed)?;
        anyhow::ensure!(written == whole.len(), "{}: it took a part", failed());
        Ok(Did::Changed)
    }

    /// Removes a variable.
    ///
    /// # Errors
    /// The firmware's.
    pub fn remove(&self, name: Name) -> Result<Did> {
        let failed = || format!("the firmware's variable {} cannot be removed", name.0);
        self.unlock(name).with_context(failed)?;
        match fs::remove_file(self.file(name)) {
            Ok(()) => Ok(Did::Changed),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Did::Already),
            Err(e) => Err(e).with_context(failed),
        }
    }

    /// efivarfs holds what is there against being written by mistake.
    fn unlock(&self, name: Name) -> io::Result<()> {
        match File::open(self.file(name)) {
            Ok(file) if self.mounted => ioctl::allow_change(&file),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }
}

impl Drop for Variables {
    fn drop(&mut self) {
        if self.mounted {
            // One that stays mounted is there for the next.
            let _ = umount2(&self.place, MntFlags::MNT_DETACH);
        }
    }
}

/// A text as boot loaders keep it: UTF-16 with a zero at its end.
pub fn text(value: &[u8]) -> Option<String> {
    let units = value.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16(&units).ok()
}

/// The value that such a text is.
pub fn octets(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

mod ioctl {
    use nix::{ioctl_write_ptr, libc};
    use std::{fs::File, io, os::fd::AsRawFd};

    // linux/fs.h: #define FS_IOC_SETFLAGS _IOW('f', 2, long)
    ioctl_write_ptr!(setflags, b'f', 2, libc::c_long);

    /// Takes the flag `FS_IMMUTABLE_FL` off a file.
    pub(super) fn allow_change(file: &File) -> io::Result<()> {
        let none: libc::c_long = 0;
        // SAFETY: the kernel reads one number, which lives for the call.
        // JUSTIFICATION: there is no other way to write a variable that is there.
        unsafe { setflags(file.as_raw_fd(), &raw const none) }?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
