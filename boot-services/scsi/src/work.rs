//! Work on the medium: what a command wants of it, once everything else has been decided.

use std::sync::{Arc, Mutex, PoisonError};

use crate::identity::BlockSize;
use crate::medium::{Medium, MediumError, MediumFault, Provisioning};
use crate::response::Response;
use crate::sense::{Sense, SenseFormat};

/// How many octets of the medium are looked at in one go.
const PIECE: usize = 256 << 10;

/// A range of the medium, in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// What a response to this work needs to know of the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) block_size: BlockSize,
    pub(crate) format: SenseFormat,
}

impl Context {
    fn failed(self, error: MediumError) -> Response {
        Response::check(&error.sense(self.block_size.octets().into()), self.format)
    }
}

/// A plain range to read or to write: the transport may do it in its own way (sendfile, scatter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// From the start of the medium, in octets.
    pub offset: u64,
    /// In octets; never zero, at most [`MOST_TRANSFER`](crate::MOST_TRANSFER).
    pub length: u64,
    /// Force unit access: a write is flushed before it is answered. Also where the write cache is off.
    pub fua: bool,
    pub(crate) context: Context,
}

impl Transfer {
    /// The response where the medium fails; where it does not, it is [`Response::good`].
    pub fn failed(&self, error: impl Into<MediumError>) -> Response {
        self.context.failed(error.into())
    }
}

/// What to do on the medium.
#[derive(Clone, Debug)]
pub enum Work {
    /// Send this range.
    Read(Transfer),
    /// Receive this range, and flush it where `fua` says so. Where the initiator has less to send than
    /// `length`, what it has is written, and the rest is the transport's residual count.
    Write(Transfer),
    /// Everything else: [`Compound::perform`] does it.
    Compound(Compound),
}

impl Work {
    /// How many octets the initiator has to send.
    pub fn data_out(&self) -> u64 {
        match self {
            Work::Read(_) => 0,
            Work::Write(transfer) => transfer.length,
            Work::Compound(compound) => compound.data_out(),
        }
    }

    /// How many octets it is sent, at most.
    pub fn data_in(&self) -> u64 {
        match self {
            Work::Read(transfer) => transfer.length,
            Work::Write(_) => 0,
            Work::Compound(compound) => compound.data_in(),
        }
    }
}

/// How blocks are verified (SBC-4, VERIFY (10): the BYTCHK field).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    /// 00b: that they can be read.
    Medium,
    /// 01b: that they are those of the Data-Out Buffer.
    Data,
    /// 11b: that each is the one of the Data-Out Buffer.
    OneBlock,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    WriteVerify { extent: Extent, against: Against },
    Verify { extent: Extent, against: Against },
    CompareAndWrite { extent: Extent, fua: bool },
    OrWrite { extent: Extent, fua: bool },
    WriteSame { extent: Extent, unmap: bool, no_data: bool, fua: bool },
    Unmap { extents: Vec<Extent>, fua: bool },
    Flush,
    Status { extent: Extent, descriptors: usize, allocation: usize },
}

/// Work of more than one step.
#[derive(Clone, Debug)]
pub struct Compound {
    pub(crate) operation: Operation,
    pub(crate) context: Context,
    pub(crate) atomic: Arc<Mutex<()>>,
}

impl Compound {
    /// How many octets the initiator has to send.
    pub fn data_out(&self) -> u64 {
        let block: u64 = self.context.block_size.octets().into();
        match &self.operation {
            Operation::WriteVerify { extent, .. } | Operation::OrWrite { extent, .. } => extent.length,
            Operation::Verify { extent, against } => match against {
                Against::Medium => 0,
                Against::Data => extent.length,
                Against::OneBlock => block,
            },
            Operation::CompareAndWrite { extent, .. } => extent.length * 2,
            Operation::WriteSame { no_data, .. } => {
                if *no_data {
                    0
                } else {
                    block
                }
            }
            Operation::Unmap { .. } | Operation::Flush | Operation::Status { .. } => 0,
        }
    }

    /// How many octets it is sent, at most.
    pub fn data_in(&self) -> u64 {
        match &self.operation {
            Operation::Status { allocation, .. } => *allocation as u64,
            _ => 0,
        }
    }

    /// Whether it is to be one with respect to writes of the same blocks: COMPARE AND WRITE and ORWRITE.
    /// Two of these never run at once, whoever calls; that no [`Work::Write`] of the same blocks runs beside
    /// one is the transport's to see to.
    pub fn is_atomic(&self) -> bool {
        matches!(self.operation, Operation::CompareAndWrite { .. } | Operation::OrWrite { .. })
    }

    /// Does it. `data_out` is what the initiator sent, of [`Compound::data_out`] octets or, where it had less,
    /// fewer: then of that what there is.
    pub fn perform(&self, medium: &dyn Medium, data_out: &[u8]) -> Response {
        let one = self.is_atomic().then(|| self.atomic.lock().unwrap_or_else(PoisonError::into_inner));
        let response = match self.run(medium, data_out) {
            Ok(response) => response,
            Err(Fault::Medium(error)) => self.context.failed(error),
            Err(Fault::Sense(sense)) => Response::check(&sense, self.context.format),
        };
        drop(one);
        response
    }

    fn run(&self, medium: &dyn Medium, data: &[u8]) -> Result<Response, Fault> {
        let block = self.context.block_size.octets() as usize;
        match &self.operation {
            Operation::WriteVerify { extent, against } => {
                let data = &data[..data.len().min(extent.length as usize)];
                if !data.is_empty() {
                    medium.write_at(extent.offset, data)?;
                }
                // SBC-4, WRITE AND VERIFY (10): the blocks are verified on the medium, so they are on it first.
                medium.flush()?;
                if *against == Against::Medium {
                    readable(medium, Extent { length: data.len() as u64, ..*extent })?;
                } else {
                    same(medium, extent.offset, data).map_err(unplaced)?;
                }
            }
            Operation::Verify { extent, against: Against::Medium } => readable(medium, *extent)?,
            Operation::Verify { extent, against: Against::Data } => {
                let data = &data[..data.len().min(extent.length as usize)];
                same(medium, extent.offset, data).map_err(unplaced)?;
            }
            Operation::Verify { extent, against: Against::OneBlock } => {
                let data = &data[..data.len().min(block)];
                let mut at = 0;
                while at < extent.length && !data.is_empty() {
                    same(medium, extent.offset + at, data).map_err(unplaced)?;
                    at += block as u64;
                }
            }
            Operation::CompareAndWrite { extent, fua } => {
                let length = extent.length as usize;
                let (Some(old), Some(new)) = (data.get(..length), data.get(length..2 * length)) else {
                    return Err(Fault::Sense(Sense::INVALID_FIELD_IN_CDB));
                };
                same(medium, extent.offset, old)?;
                medium.write_at(extent.offset, new)?;
                flush(medium, *fua)?;
            }
            Operation::OrWrite { extent, fua } => {
                let data = &data[..data.len().min(extent.length as usize)];
                let mut piece = vec![0; PIECE.min(data.len())];
                for (at, part) in (extent.offset..).step_by(PIECE).zip(data.chunks(PIECE)) {
                    let piece = &mut piece[..part.len()];
                    medium.read_at(at, piece)?;
                    piece.iter_mut().zip(part).for_each(|(old, new)| *old |= new);
                    medium.write_at(at, piece)?;
                }
                flush(medium, *fua)?;
            }
            Operation::WriteSame { extent, unmap, no_data, fua } => {
                let one = if *no_data { &[][..] } else { data.get(..block).ok_or(SHORT)? };
                // SBC-4: blocks are unmapped only where they then read as the block that was sent.
                if one.iter().all(|octet| *octet == 0) {
                    medium.zero(extent.offset, extent.length, *unmap)?;
                } else {
                    repeat(medium, *extent, one)?;
                }
                flush(medium, *fua)?;
            }
            Operation::Unmap { extents, fua } => {
                for extent in extents {
                    medium.zero(extent.offset, extent.length, true)?;
                }
                flush(medium, *fua)?;
            }
            Operation::Flush => medium.flush()?,
            Operation::Status { extent, descriptors, allocation } => {
                return self.status(medium, *extent, *descriptors, *allocation);
            }
        }
        Ok(Response::good())
    }

    /// GET LBA STATUS parameter data.
    fn status(
        &self,
        medium: &dyn Medium,
        extent: Extent,
        descriptors: usize,
        allocation: usize,
    ) -> Result<Response, Fault> {
        let shift = self.context.block_size.shift();
        let last = extent.offset + extent.length;
        let most = u64::from(u32::MAX) << shift;
        let mut data = vec![0; 8];
        let mut at = extent.offset;
        for _ in 0..descriptors {
            if at >= last {
                break;
            }
            let (what, length) = provisioned(medium, at, last, 1 << shift)?;
            let end = at.saturating_add(length.min(most)).min(last);
            data.extend_from_slice(&(at >> shift).to_be_bytes());
            data.extend_from_slice(&u32::try_from((end - at) >> shift).unwrap_or(u32::MAX).to_be_bytes());
            let status = if what == Provisioning::Mapped { 0 } else { 1 };
            data.extend_from_slice(&[status, 0, 0, 0]);
            at = end;
        }
        // PARAMETER DATA LENGTH counts what follows it.
        let length = u32::try_from(data.len() - 4).unwrap_or(u32::MAX);
        data[..4].copy_from_slice(&length.to_be_bytes());
        Ok(Response::data(data, allocation))
    }
}

enum Fault {
    Medium(MediumError),
    Sense(Sense),
}

impl From<MediumError> for Fault {
    fn from(error: MediumError) -> Fault {
        Fault::Medium(error)
    }
}

const SHORT: Fault = Fault::Sense(Sense::INVALID_FIELD_IN_CDB);

/// Only COMPARE AND WRITE says where the data differ (SBC-4).
fn unplaced(fault: Fault) -> Fault {
    match fault {
        Fault::Sense(sense) => Fault::Sense(Sense { information: None, ..sense }),
        other => other,
    }
}

fn flush(medium: &dyn Medium, fua: bool) -> Result<(), MediumError> {
    if fua { medium.flush() } else { Ok(()) }
}

/// Reads a range and lets it go.
fn readable(medium: &dyn Medium, extent: Extent) -> Result<(), MediumError> {
    let mut piece = vec![0; PIECE.min(extent.length as usize)];
    let end = extent.offset + extent.length;
    let mut at = extent.offset;
    while at < end {
        let length = (end - at).min(PIECE as u64);
        medium.read_at(at, &mut piece[..length as usize])?;
        at += length;
    }
    Ok(())
}

/// Whether the medium has this data there.
fn same(medium: &dyn Medium, offset: u64, data: &[u8]) -> Result<(), Fault> {
    let mut piece = vec![0; PIECE.min(data.len())];
    for (number, part) in data.chunks(PIECE).enumerate() {
        let start = number as u64 * PIECE as u64;
        let piece = &mut piece[..part.len()];
        medium.read_at(offset + start, piece)?;
        if piece != part {
            let first = piece.iter().zip(part).position(|(one, other)| one != other).unwrap_or(0);
            return Err(Fault::Sense(Sense::MISCOMPARE.about(start + first as u64)));
        }
    }
    Ok(())
}

/// Writes one block again and again.
fn repeat(medium: &dyn Medium, extent: Extent, one: &[u8]) -> Result<(), MediumError> {
    let length = extent.length.min(PIECE as u64) as usize;
    let piece = one.repeat(length / one.len());
    let end = extent.offset + extent.length;
    let mut at = extent.offset;
    while at < end {
        let length = (end - at).min(piece.len() as u64);
        medium.write_at(at, &piece[..length as usize])?;
        at += length;
    }
    Ok(())
}

/// What is at `at`, up to where it changes but at most 16 pieces on, in whole blocks: a block of which a part
/// is mapped is mapped.
fn provisioned(
    medium: &dyn Medium,
    at: u64,
    last: u64,
    block: u64,
) -> Result<(Provisioning, u64), MediumError> {
    let mut found = None;
    let mut end = at;
    for _ in 0..16 {
        if end >= last {
            break;
        }
        let (mut what, length) = medium.provisioned(end)?;
        if length == 0 {
            return Err(MediumFault::UnrecoveredRead.into());
        }
        let mut whole = length / block * block;
        if whole == 0 {
            what = Provisioning::Mapped;
            whole = block;
        } else if what == Provisioning::Mapped {
            whole = length.div_ceil(block).saturating_mul(block);
        }
        if found.is_some_and(|before| before != what) {
            break;
        }
        found = Some(what);
        end = end.saturating_add(whole);
    }
    Ok((found.unwrap_or(Provisioning::Mapped), end - at))
}
