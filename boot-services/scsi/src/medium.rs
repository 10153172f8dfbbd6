//! The medium under a logical unit, as the driver gives it.

use crate::sense::{Sense, SenseKey};

/// What a range of the medium is (SBC-4, provisioning states).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioning {
    /// Something is kept for it.
    Mapped,
    /// Nothing is kept for it; it reads as zeros.
    Deallocated,
}

/// Why the medium could not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediumFault {
    /// Octets cannot be read, or are not those that were written.
    UnrecoveredRead,
    /// Octets cannot be written, or not be made to last.
    WriteFault,
    /// There is no room for what would be written.
    NoSpace,
    /// The medium is not there now and may be later.
    NotReady,
}

/// A fault, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediumError {
    /// What.
    pub fault: MediumFault,
    /// The first octet at fault, counted from the start of the medium, where it is known.
    pub offset: Option<u64>,
}

impl From<MediumFault> for MediumError {
    fn from(fault: MediumFault) -> MediumError {
        MediumError { fault, offset: None }
    }
}

impl MediumError {
    pub(crate) fn sense(self, block_size: u64) -> Sense {
        let sense = match self.fault {
            MediumFault::UnrecoveredRead => Sense::new(SenseKey::MediumError, 0x11, 0x00),
            MediumFault::WriteFault => Sense::new(SenseKey::MediumError, 0x0c, 0x00),
            // SPACE ALLOCATION FAILED WRITE PROTECT: SBC-4, resource exhaustion of thin provisioning.
            MediumFault::NoSpace => Sense::new(SenseKey::DataProtect, 0x27, 0x07),
            // LOGICAL UNIT IS IN PROCESS OF BECOMING READY: initiators come again.
            MediumFault::NotReady => Sense::new(SenseKey::NotReady, 0x04, 0x01),
        };
        match self.offset {
            Some(offset) => sense.about(offset / block_size),
            None => sense,
        }
    }
}

/// A medium of a fixed number of octets. All offsets and lengths are in octets, and inside the medium.
pub trait Medium: Send + Sync {
    /// Reads all of `into`.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), MediumError>;
    /// Writes all of `from`; it may stay in a volatile cache until [`Medium::flush`].
    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), MediumError>;
    /// Makes everything written before outlast a power cut.
    fn flush(&self) -> Result<(), MediumError>;
    /// Makes a range read as zeros; with `unmap`, may free what was kept for it.
    fn zero(&self, offset: u64, length: u64, unmap: bool) -> Result<(), MediumError>;
    /// What is at `offset`, and for how many octets from there on at least (not zero; it may reach past the
    /// end of the medium).
    fn provisioned(&self, offset: u64) -> Result<(Provisioning, u64), MediumError>;
}
