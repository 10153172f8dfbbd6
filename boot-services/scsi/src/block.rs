//! The commands of a block device: what of the medium they want (SBC-4, clause 5).

use crate::cdb::Cdb;
use crate::identity::Geometry;
use crate::opcodes::Kind;
use crate::response::Response;
use crate::sense::Sense;
use crate::work::{Against, Extent, Operation};
use crate::{MOST_COMPARED, MOST_UNMAP_DESCRIPTORS, MOST_UNMAPPED, MOST_WRITTEN_SAME, most_transfer};

/// The logical blocks that a CDB speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) first: u64,
    pub(crate) number: u64,
    /// Where the number is in the CDB.
    at: u16,
}

impl Blocks {
    /// By the length of the CDB, which is in the operation code's group (SPC-5, operation codes).
    pub(crate) fn of(cdb: &Cdb) -> Blocks {
        match cdb.octet(0) >> 5 {
            0 => {
                // SBC-2, READ (6): a TRANSFER LENGTH of zero is 256 logical blocks.
                let number = if cdb.octet(4) == 0 { 256 } else { cdb.octet(4).into() };
                Blocks { first: (cdb.be24(1) & 0x1f_ffff).into(), number, at: 4 }
            }
            1 | 2 => Blocks { first: cdb.be32(2).into(), number: cdb.be16(7).into(), at: 7 },
            5 => Blocks { first: cdb.be32(2).into(), number: cdb.be32(6).into(), at: 6 },
            _ => Blocks { first: cdb.be64(2), number: cdb.be32(10).into(), at: 10 },
        }
    }

    /// Refuses blocks past the end. Zero blocks may begin at the capacity, and nowhere past it (SBC-4: the LBA
    /// plus the transfer length must not exceed the capacity of the medium).
    pub(crate) fn inside(self, geometry: &Geometry) -> Result<Extent, Sense> {
        let shift = geometry.block_size().shift();
        match self.first.checked_add(self.number) {
            Some(end) if end <= geometry.blocks() => {
                Ok(Extent { offset: self.first << shift, length: self.number << shift })
            }
            _ => Err(Sense::LBA_OUT_OF_RANGE),
        }
    }

    /// Also refuses more blocks than a transfer has.
    pub(crate) fn transfer(self, geometry: &Geometry) -> Result<Extent, Sense> {
        let extent = self.inside(geometry)?;
        if self.number > most_transfer(geometry.block_size()).into() {
            return Err(Sense::in_cdb(self.at));
        }
        Ok(extent)
    }
}

/// VERIFY and WRITE AND VERIFY: the BYTCHK field.
fn against(cdb: &Cdb) -> Result<Against, Sense> {
    match cdb.octet(1) >> 1 & 3 {
        0 => Ok(Against::Medium),
        1 => Ok(Against::Data),
        3 => Ok(Against::OneBlock),
        _ => Err(Sense::in_cdb_bit(1, 2)),
    }
}

/// A command other than READ and WRITE; `None` is done without the medium. `data_out` is how much the
/// initiator says it has.
pub(crate) fn operation(
    kind: Kind,
    cdb: &Cdb,
    geometry: &Geometry,
    data_out: u64,
    sync: bool,
) -> Result<Option<Operation>, Sense> {
    let block: u64 = geometry.block_size().octets().into();
    let fua = sync || cdb.bit(1, 0x08);
    let blocks = Blocks::of(cdb);
    Ok(match kind {
        Kind::WriteVerify => {
            let against = against(cdb)?;
            if against == Against::OneBlock {
                return Err(Sense::in_cdb_bit(1, 2));
            }
            let extent = blocks.transfer(geometry)?;
            (extent.length > 0).then_some(Operation::WriteVerify { extent, against })
        }
        Kind::Verify => {
            let against = against(cdb)?;
            let extent = blocks.transfer(geometry)?;
            (extent.length > 0).then_some(Operation::Verify { extent, against })
        }
        Kind::Prefetch => {
            // SBC-4, PRE-FETCH (10): zero blocks are those up to the last. There is no cache of ours to fill.
            blocks.inside(geometry)?;
            None
        }
        Kind::SynchronizeCache => {
            blocks.inside(geometry)?;
            Some(Operation::Flush)
        }
        Kind::OrWrite => {
            let extent = blocks.transfer(geometry)?;
            (extent.length > 0).then_some(Operation::OrWrite { extent, fua })
        }
        Kind::CompareAndWrite => {
            let blocks = Blocks { first: blocks.first, number: cdb.octet(13).into(), at: 13 };
            // SBC-4: more than MAXIMUM COMPARE AND WRITE LENGTH is INVALID FIELD IN CDB.
            if blocks.number > MOST_COMPARED.into() {
                return Err(Sense::in_cdb(13));
            }
            let extent = blocks.inside(geometry)?;
            if data_out != extent.length * 2 {
                return Err(Sense::in_cdb(13));
            }
            (extent.length > 0).then_some(Operation::CompareAndWrite { extent, fua })
        }
        Kind::WriteSame => Some(write_same(cdb, blocks, geometry, data_out, block, sync)?),
        _ => return Err(Sense::INVALID_OPERATION_CODE),
    })
}

/// WRITE SAME (10) and (16).
fn write_same(
    cdb: &Cdb,
    blocks: Blocks,
    geometry: &Geometry,
    data_out: u64,
    block: u64,
    fua: bool,
) -> Result<Operation, Sense> {
    let no_data = cdb.octet(0) == 0x93 && cdb.bit(1, 0x01);
    let unmap = cdb.bit(1, 0x08);
    // SBC-4: with WSNZ zero, zero blocks are all the blocks to the end of the medium; MAXIMUM WRITE SAME LENGTH
    // holds for these too.
    let number =
        if blocks.number == 0 { geometry.blocks().saturating_sub(blocks.first) } else { blocks.number };
    let blocks = Blocks { number, ..blocks };
    let extent = blocks.inside(geometry)?;
    if blocks.number > MOST_WRITTEN_SAME {
        return Err(Sense::in_cdb(blocks.at));
    }
    if !no_data && data_out != block {
        return Err(Sense::in_cdb(blocks.at));
    }
    Ok(Operation::WriteSame { extent, unmap, no_data, fua })
}

/// UNMAP's parameter list.
pub(crate) fn unmap(list: &[u8], geometry: &Geometry, fua: bool) -> Result<Option<Operation>, Sense> {
    let [_, _, high, low, _, _, _, _, descriptors @ ..] = list else {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    };
    let described = usize::from(u16::from_be_bytes([*high, *low]));
    // A last descriptor that is not whole is ignored, whether the data length or the parameter list length cuts it
    // off.
    let descriptors = &descriptors[..described.min(descriptors.len())];
    let descriptors = descriptors.chunks_exact(16);
    if descriptors.len() > usize::from(MOST_UNMAP_DESCRIPTORS) {
        return Err(Sense::in_list(2));
    }
    let mut extents = Vec::new();
    let mut all = 0;
    for (number, descriptor) in descriptors.enumerate() {
        let field = |range: std::ops::Range<usize>| {
            descriptor[range].iter().fold(0u64, |value, octet| value << 8 | u64::from(*octet))
        };
        let blocks = Blocks { first: field(0..8), number: field(8..12), at: 0 };
        // Zero blocks are no error, wherever they are.
        if blocks.number == 0 {
            continue;
        }
        let extent = blocks.inside(geometry)?;
        all += blocks.number;
        if all > MOST_UNMAPPED.into() {
            return Err(Sense::in_list(u16::try_from(16 + 16 * number).unwrap_or(u16::MAX)));
        }
        extents.push(extent);
    }
    Ok((!extents.is_empty()).then_some(Operation::Unmap { extents, fua }))
}

/// GET LBA STATUS.
pub(crate) fn status(cdb: &Cdb, geometry: &Geometry) -> Result<Operation, Sense> {
    let first = cdb.be64(2);
    // A starting LBA that exceeds the capacity is LOGICAL BLOCK ADDRESS OUT OF RANGE.
    if first >= geometry.blocks() {
        return Err(Sense::LBA_OUT_OF_RANGE);
    }
    let extent = Blocks { first, number: geometry.blocks() - first, at: 0 }.inside(geometry)?;
    let allocation = usize::try_from(cdb.be32(10)).unwrap_or(usize::MAX);
    let descriptors = (allocation.saturating_sub(8) / 16).clamp(1, 256);
    Ok(Operation::Status { extent, descriptors, allocation: allocation.min(8 + 16 * descriptors) })
}

/// READ CAPACITY (10) and (16).
pub(crate) fn capacity(kind: Kind, cdb: &Cdb, geometry: &Geometry) -> Result<Response, Sense> {
    let last = geometry.blocks() - 1;
    let size = geometry.block_size().octets();
    if kind == Kind::ReadCapacity10 {
        // SBC-2: without PMI the LOGICAL BLOCK ADDRESS field has to be zero.
        if !cdb.bit(8, 0x01) && cdb.be32(2) != 0 {
            return Err(Sense::in_cdb(2));
        }
        let mut data = u32::try_from(last).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        data.extend_from_slice(&size.to_be_bytes());
        return Ok(Response::data(data, 8));
    }
    if !cdb.bit(14, 0x01) && cdb.be64(2) != 0 {
        return Err(Sense::in_cdb(2));
    }
    let mut data = last.to_be_bytes().to_vec();
    data.extend_from_slice(&size.to_be_bytes());
    data.resize(32, 0);
    data[13] = geometry.physical_exponent;
    if geometry.thin {
        // LBPME, LBPRZ.
        data[14] = 0xc0;
    }
    Ok(Response::data(data, usize::try_from(cdb.be32(10)).unwrap_or(usize::MAX)))
}
