//! dm-verity: a slot that is read and checked.

use crate::{
    mapper::{Access, Mapped, SECTOR},
    seal::{BLOCK, Seal},
};
use anyhow::{Context as _, Result};
use std::path::PathBuf;

/// A mapped device, through which a slot is read and checked.
pub struct Verity {
    mapped: Mapped,
    /// Where it is.
    pub device: PathBuf,
}

impl Verity {
    /// Maps a slot that lies on the device `MAJOR:MINOR`.
    ///
    /// # Errors
    /// Says which step the kernel refused.
    pub fn open(seal: &Seal, device: &str) -> Result<Verity> {
        let mapped = Mapped::create("slot")?;
        let verity = Verity { device: mapped.device.clone(), mapped };
        verity.load(seal, device, false)?;
        Ok(verity)
    }

    /// From here on a block that is not what it was restarts the machine.
    ///
    /// # Errors
    /// Says which step the kernel refused.
    pub fn restart_on_damage(&self, seal: &Seal, device: &str) -> Result<()> {
        self.load(seal, device, true)
    }

    fn load(&self, seal: &Seal, device: &str, restarts: bool) -> Result<()> {
        let sectors = seal.data_blocks * BLOCK / SECTOR;
        self.mapped
            .load("verity", sectors, &seal.table(device, restarts), Access::Read)
            .context("dm-verity refused the table: are dm_verity and sha256 among the modules?")
    }

    /// Takes the device away again.
    ///
    /// # Errors
    /// When it is in use.
    pub fn close(self) -> Result<()> {
        self.mapped.remove().context("the device stays mapped")
    }
}
