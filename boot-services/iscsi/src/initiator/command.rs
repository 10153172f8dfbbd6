//! The CDBs that are sent, and what they carry.

use bytes::Bytes;

/// A SCSI command ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) cdb: [u8; 16],
    pub(super) data: Data,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    None,
    /// So many octets are read.
    In(u32),
    Out(Bytes),
}

impl Command {
    fn new(octets: &[u8], data: Data) -> Command {
        let mut cdb = [0; 16];
        cdb[..octets.len()].copy_from_slice(octets);
        Command { cdb, data }
    }

    pub(super) fn test_unit_ready() -> Command {
        Command::new(&[0; 6], Data::None)
    }

    /// A page of vital product data, or the standard data.
    pub(super) fn inquiry(page: Option<u8>) -> Command {
        let length: u16 = if page.is_some() { 512 } else { 96 };
        let [high, low] = length.to_be_bytes();
        Command::new(&[0x12, u8::from(page.is_some()), page.unwrap_or(0), high, low], Data::In(length.into()))
    }

    pub(super) fn read_capacity_10() -> Command {
        Command::new(&[0x25], Data::In(8))
    }

    pub(super) fn read_capacity_16() -> Command {
        let mut command = Command::new(&[0x9e, 0x10], Data::In(32));
        command.cdb[13] = 32;
        command
    }

    /// READ(16).
    pub(super) fn read(block: u64, blocks: u32, octets: u32) -> Command {
        Command::new(&[0x88], Data::In(octets)).at(block, blocks)
    }

    /// WRITE(16).
    pub(super) fn write(block: u64, blocks: u32, data: Bytes) -> Command {
        Command::new(&[0x8a], Data::Out(data)).at(block, blocks)
    }

    /// WRITE SAME(16) of one block; with UNMAP set the target may deallocate, and the blocks read as `pattern` all
    /// the same (SBC-4, 5.50).
    pub(super) fn write_same(block: u64, blocks: u32, unmap: bool, pattern: Bytes) -> Command {
        Command::new(&[0x93, u8::from(unmap) << 3], Data::Out(pattern)).at(block, blocks)
    }

    /// UNMAP with one descriptor.
    pub(super) fn unmap(block: u64, blocks: u32) -> Command {
        let mut list = [0; 24];
        (list[1], list[3]) = (22, 16);
        list[8..16].copy_from_slice(&block.to_be_bytes());
        list[16..20].copy_from_slice(&blocks.to_be_bytes());
        let mut command = Command::new(&[0x42], Data::Out(Bytes::copy_from_slice(&list)));
        command.cdb[8] = 24;
        command
    }

    /// SYNCHRONIZE CACHE(16) of all there is.
    pub(super) fn synchronize_cache() -> Command {
        Command::new(&[0x91], Data::None)
    }

    /// Whether it may take the disk minutes: all that was written may have to go out first.
    pub(super) fn is_slow(&self) -> bool {
        self.cdb[0] == 0x91
    }

    fn at(mut self, block: u64, blocks: u32) -> Command {
        self.cdb[2..10].copy_from_slice(&block.to_be_bytes());
        self.cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
        self
    }

    /// Expected Data Transfer Length.
    pub(super) fn length(&self) -> u32 {
        match &self.data {
            Data::None => 0,
            Data::In(length) => *length,
            Data::Out(data) => u32::try_from(data.len()).unwrap_or(u32::MAX),
        }
    }
}
