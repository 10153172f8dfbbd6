//! A block device that answers CDBs; knows no transport.
//!
//! | standard | what |
//! |---|---|
//! | SAM-5 | unit attentions for each I_T nexus, LUNs, status precedence, effects of resets and nexus loss |
//! | SPC-5 | INQUIRY with VPD pages 00 80 83 86 B0 B1 B2, MODE SENSE and SELECT (caching, control, informational exceptions), REPORT LUNS, REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS, REQUEST SENSE, TEST UNIT READY, sense data in both formats |
//! | SPC-5, reservations | persistent reservations: six types, eight service actions, APTPL, SPEC_I_PT, ALL_TG_PT |
//! | SPC-2, 5.5.1 | RESERVE and RELEASE |
//! | SBC-4 | READ and WRITE (6, 10, 12, 16), WRITE AND VERIFY, VERIFY, COMPARE AND WRITE, ORWRITE, WRITE SAME with UNMAP and NDOB, UNMAP, GET LBA STATUS, PRE-FETCH, SYNCHRONIZE CACHE, READ CAPACITY, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL |
//! | not done, refused as an unknown operation code | FORMAT UNIT, SANITIZE, EXTENDED COPY and RECEIVE COPY RESULTS, WRITE ATOMIC, READ DEFECT DATA, LOG SENSE, diagnostics, target port groups |
//! | not done, refused as a wrong field | protection information, saved mode pages, anchored blocks, NACA |
//!
//! ```text
//!   transport                          LogicalUnit (a value)                  Medium
//!     │ attach(port) ─────────────────► │ a Nexus
//!     │ begin(nexus, CDB, octets) ────► │ Step::Done(Response)
//!     │                                 │ Step::Wants ─► its list: finish(…) ─► Done or Work
//!     │                                 │ Step::Work
//!     │   Read, Write: a plain range, the transport does it ──────────────────► │
//!     │   Compound::perform(medium, data) ─► Response ────────────────────────► │
//!     │ Response::first: Duty ─► then the status goes out
//! ```
//!
//! A logical unit is a value: [`LogicalUnit::begin`] decides and never touches the medium; [`Work`] holds all
//! it needs and is done without the logical unit, on any thread, in any order that the task set allows.
//! A [`Response`] may come with duties: what has to be on disk, or aborted, before its status is sent.
//!
//! A new nexus is told POWER ON, RESET, OR BUS DEVICE RESET OCCURRED by its first command, whether the
//! initiator was here before or not: SPC-5 lets 29h/00h stand for all of its kind.
//!
//! This crate knows nothing of sessions, files or clocks.

mod block;
mod cdb;
mod identity;
mod inquiry;
mod lun;
mod medium;
mod mode;
mod nexus;
mod opcodes;
mod reservations;
mod response;
mod sense;
mod supported;
mod transport;
mod unit;
mod work;

pub use identity::{BlockSize, Designator, Geometry, GeometryError, Identity, VENDOR};
pub use lun::{Lun, absent};
pub use medium::{Medium, MediumError, MediumFault, Provisioning};
pub use nexus::{InitiatorPort, Nexus};
pub use reservations::RestoreError;
pub use response::{Duty, Response, Status};
pub use sense::{Pointer, Sense, SenseFormat, SenseKey};
pub use unit::{LogicalUnit, Step, Wants};
pub use work::{Compound, Transfer, Work};

/// How many octets one command transfers at most: the MAXIMUM TRANSFER LENGTH of the Block Limits VPD page.
pub const MOST_TRANSFER: u32 = 8 << 20;

/// MAXIMUM COMPARE AND WRITE LENGTH, in blocks.
pub(crate) const MOST_COMPARED: u8 = 255;
/// MAXIMUM WRITE SAME LENGTH, in blocks.
pub(crate) const MOST_WRITTEN_SAME: u64 = 1 << 15;
/// MAXIMUM UNMAP LBA COUNT, in blocks.
pub(crate) const MOST_UNMAPPED: u32 = 1 << 20;
/// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT.
pub(crate) const MOST_UNMAP_DESCRIPTORS: u16 = 256;

/// [`MOST_TRANSFER`] in blocks.
pub(crate) fn most_transfer(block_size: BlockSize) -> u32 {
    MOST_TRANSFER / block_size.octets()
}
