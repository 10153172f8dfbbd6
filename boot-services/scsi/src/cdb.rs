//! A command descriptor block's fields; decides nothing.

/// The 16 octets of a CDB, zeros after its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cdb([u8; 16]);

impl Cdb {
    /// Of at most 16 octets; `None` is an empty or a longer one.
    pub(crate) fn new(octets: &[u8]) -> Option<Cdb> {
        if octets.is_empty() {
            return None;
        }
        let mut cdb = [0; 16];
        cdb.get_mut(..octets.len())?.copy_from_slice(octets);
        Some(Cdb(cdb))
    }

    pub(crate) fn octet(&self, at: usize) -> u8 {
        self.0[at]
    }

    pub(crate) fn bit(&self, at: usize, mask: u8) -> bool {
        self.0[at] & mask != 0
    }

    pub(crate) fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    pub(crate) fn be24(&self, at: usize) -> u32 {
        u32::from_be_bytes([0, self.0[at], self.0[at + 1], self.0[at + 2]])
    }

    pub(crate) fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    pub(crate) fn be64(&self, at: usize) -> u64 {
        u64::from(self.be32(at)) << 32 | u64::from(self.be32(at + 4))
    }

    /// The service action, of the commands that have one in the low bits of octet 1.
    pub(crate) fn action(&self) -> u8 {
        self.0[1] & 0x1f
    }

    pub(crate) fn octets(&self) -> &[u8; 16] {
        &self.0
    }
}
