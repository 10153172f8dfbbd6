//! Who a logical unit is, and how large.

use std::fmt;

/// The vendor identification of every logical unit (SPC-5, standard INQUIRY data: 8 octets of ASCII).
pub const VENDOR: &str = "KILN";

/// A name of the logical unit that is the world's only one, for VPD page 83h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Designator {
    /// An NAA identifier of 8 octets (NAA 2h, 3h, 5h).
    Naa([u8; 8]),
    /// An NAA identifier of 16 octets (NAA 6h).
    NaaExtended([u8; 16]),
    /// An EUI-64.
    Eui([u8; 8]),
}

impl Designator {
    /// A locally assigned NAA identifier (NAA 3h) of the low 60 bits: for who has no company id.
    pub fn local(value: u64) -> Designator {
        Designator::Naa(((value & 0x0fff_ffff_ffff_ffff) | 0x3000_0000_0000_0000).to_be_bytes())
    }
}

/// Who a logical unit is. Texts are cut to their fields and what is not printable ASCII becomes `_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it is: at most 16 octets.
    pub product: String,
    /// Which version: at most 4 octets.
    pub revision: String,
    /// Its serial number: at most 64 octets.
    pub serial: String,
    /// Its names.
    pub designators: Vec<Designator>,
    /// The name of the target: an IQN.
    pub target: String,
    /// The target portal group, which is also the number of the one target port.
    pub portal_group: u16,
}

/// `text`, cut to `width` and filled up with spaces, printable ASCII only (SPC-5, ASCII data fields).
pub(crate) fn field(text: &str, width: usize) -> Vec<u8> {
    let printable = |octet: u8| if (0x20..=0x7e).contains(&octet) { octet } else { b'_' };
    let mut out: Vec<u8> = text.bytes().take(width).map(printable).collect();
    out.resize(width, b' ');
    out
}

/// The size of a logical block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSize {
    /// 512 octets.
    B512,
    /// 4096 octets.
    B4096,
}

impl BlockSize {
    /// In octets.
    pub const fn octets(self) -> u32 {
        match self {
            BlockSize::B512 => 512,
            BlockSize::B4096 => 4096,
        }
    }

    pub(crate) const fn shift(self) -> u32 {
        self.octets().trailing_zeros()
    }
}

/// Why a geometry cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// No blocks.
    Empty,
    /// More octets than 2^63 - 1.
    TooLarge,
}

impl fmt::Display for GeometryError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            GeometryError::Empty => "a logical unit has at least one block: give it a size",
            GeometryError::TooLarge => "a logical unit has less than 2^63 octets: make it smaller",
        })
    }
}

impl std::error::Error for GeometryError {}

/// How large a logical unit is, and what it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    blocks: u64,
    block_size: BlockSize,
    pub(crate) physical_exponent: u8,
    pub(crate) thin: bool,
    pub(crate) read_only: bool,
}

impl Geometry {
    /// So many blocks; fully provisioned, writable, physical blocks as the logical ones.
    pub fn new(blocks: u64, block_size: BlockSize) -> Result<Geometry, GeometryError> {
        if blocks == 0 {
            return Err(GeometryError::Empty);
        }
        if blocks > i64::MAX as u64 >> block_size.shift() {
            return Err(GeometryError::TooLarge);
        }
        Ok(Geometry { blocks, block_size, physical_exponent: 0, thin: false, read_only: false })
    }

    /// The same with another number of blocks.
    pub(crate) fn resized(self, blocks: u64) -> Result<Geometry, GeometryError> {
        let sized = Geometry::new(blocks, self.block_size)?;
        Ok(Geometry { blocks: sized.blocks, ..self })
    }

    /// Physical blocks of 2^`exponent` logical blocks (at most 2^15).
    pub fn physical_exponent(self, exponent: u8) -> Geometry {
        Geometry { physical_exponent: exponent.min(15), ..self }
    }

    /// Thin provisioned: UNMAP is there.
    pub fn thin(self) -> Geometry {
        Geometry { thin: true, ..self }
    }

    /// Never written.
    pub fn read_only(self) -> Geometry {
        Geometry { read_only: true, ..self }
    }

    /// The number of logical blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The size of one.
    pub fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// All octets.
    pub fn octets(&self) -> u64 {
        self.blocks << self.block_size.shift()
    }
}
