//! What a command ends with.

use crate::nexus::Nexus;
use crate::sense::{Sense, SenseFormat};

/// A status (SAM-5, status codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// GOOD.
    Good = 0x00,
    /// CHECK CONDITION: there is sense data.
    CheckCondition = 0x02,
    /// BUSY.
    Busy = 0x08,
    /// RESERVATION CONFLICT.
    ReservationConflict = 0x18,
    /// TASK SET FULL.
    TaskSetFull = 0x28,
    /// TASK ABORTED.
    TaskAborted = 0x40,
}

/// What has to be done before the status of the command that asked for it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Keep these octets where a power cut does not reach them, in place of the ones kept before: they are
    /// what [`LogicalUnit::restore`](crate::LogicalUnit::restore) takes. Where that fails, answer
    /// [`LogicalUnit::unkept`](crate::LogicalUnit::unkept) instead.
    Persist(Vec<u8>),
    /// Abort every task of these nexuses on this logical unit (PREEMPT AND ABORT), except the command itself.
    Abort(Vec<Nexus>),
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: Status,
    /// Sense data as it is sent; empty unless the status is CHECK CONDITION.
    pub sense: Vec<u8>,
    /// The Data-In Buffer, already cut to the allocation length.
    pub data_in: Vec<u8>,
    /// What to do first.
    pub first: Vec<Duty>,
}

impl Response {
    /// GOOD, without data.
    pub const fn good() -> Response {
        Response { status: Status::Good, sense: Vec::new(), data_in: Vec::new(), first: Vec::new() }
    }

    /// GOOD, with data cut to the allocation length, which is no error (SPC-5).
    pub(crate) fn data(mut data: Vec<u8>, allocation: usize) -> Response {
        data.truncate(allocation);
        Response { data_in: data, ..Response::good() }
    }

    /// A status that carries nothing.
    pub const fn status(status: Status) -> Response {
        Response { status, sense: Vec::new(), data_in: Vec::new(), first: Vec::new() }
    }

    /// CHECK CONDITION.
    pub fn check(sense: &Sense, format: SenseFormat) -> Response {
        Response { sense: sense.encode(format), ..Response::status(Status::CheckCondition) }
    }
}
