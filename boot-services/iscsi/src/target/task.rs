//! A SCSI command under way.

use super::{TaskId, Unit, targets::Token};
use crate::pdu::{Lun, Residual, Serial, Tag};
use bytes::Bytes;
use scsi::{Compound, Duty, MediumError, Nexus, Response, Transfer, Wants};
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicBool},
};

/// A unit as one session has it.
pub(super) struct Seat<V> {
    pub(super) lun: scsi::Lun,
    pub(super) unit: Arc<Unit<V>>,
    pub(super) nexus: Nexus,
}

impl<V> Clone for Seat<V> {
    fn clone(&self) -> Seat<V> {
        Seat { lun: self.lun, unit: Arc::clone(&self.unit), nexus: self.nexus }
    }
}

pub(super) struct Task<V> {
    pub(super) id: TaskId,
    pub(super) itt: Tag,
    pub(super) lun: Lun,
    /// None where there is nothing behind the LUN.
    pub(super) seat: Option<Seat<V>>,
    /// ORDERED: after all before it, before all after it.
    pub(super) ordered: bool,
    /// It has a place in the window of commands.
    pub(super) numbered: bool,
    /// Expected Data Transfer Length.
    pub(super) expected: u32,
    pub(super) reads: bool,
    pub(super) writes: bool,
    /// What it would have taken of data-out, known once that has come.
    pub(super) needed: u32,
    /// Octets of the session's budget that it holds.
    pub(super) budget: usize,
    pub(super) stage: Stage,
    /// Jobs that the driver has.
    pub(super) jobs: u32,
    /// Of those who wait for these jobs.
    pub(super) tokens: Vec<Arc<Token>>,
}

pub(super) enum Stage {
    /// Others go before it: its CDB, and the data that came unasked.
    Waiting([u8; 16], Vec<u8>),
    Receiving(Incoming),
    /// A compound job is under way.
    Performing,
    /// Everything is written; it is made to last.
    Flushing(Transfer),
    /// What is to be done before the response.
    Duties(Duties),
    Sending(Outgoing),
    /// Its octets are not at hand; others go first.
    Aside(Outgoing),
    /// Nothing is answered any more, but a job of it is not done.
    Aborted,
}

pub(super) struct Duties {
    pub(super) response: Response,
    pub(super) left: VecDeque<Duty>,
    /// The tasks of others are gone when this is set.
    pub(super) gone: Option<Arc<AtomicBool>>,
    pub(super) failed: bool,
}

pub(super) enum Sink {
    /// Straight to the medium.
    Medium(Transfer),
    Compound(Compound, Vec<u8>),
    List(Wants, Vec<u8>),
    /// Not begun yet.
    Waiting([u8; 16], Vec<u8>),
}

/// Data on their way in.
pub(super) struct Incoming {
    pub(super) sink: Sink,
    /// What the command needs, whatever is expected.
    pub(super) needed: u32,
    /// What is taken of it.
    pub(super) total: u32,
    /// The next octet awaited.
    pub(super) next: u32,
    /// Up to where data were asked for.
    pub(super) asked: u32,
    /// Unsolicited Data-Out PDUs are still coming: the next one's number.
    pub(super) unsolicited: Option<Serial>,
    /// Open R2Ts, oldest first; answered in that order (DataSequenceInOrder).
    pub(super) bursts: VecDeque<Burst>,
    pub(super) r2t_sn: Serial,
    /// How it will end, once all that was asked for has come.
    pub(super) failed: Option<Response>,
}

pub(super) struct Burst {
    pub(super) ttt: Tag,
    pub(super) end: u32,
    pub(super) data_sn: Serial,
}

impl Incoming {
    pub(super) fn new(sink: Sink, needed: u32, total: u32) -> Incoming {
        Incoming {
            sink,
            needed,
            total,
            next: 0,
            asked: 0,
            unsolicited: None,
            bursts: VecDeque::new(),
            r2t_sn: Serial(0),
            failed: None,
        }
    }

    pub(super) fn fail(&mut self, response: Response) {
        self.failed.get_or_insert(response);
    }

    pub(super) fn fail_medium(&mut self, error: MediumError) {
        if let Sink::Medium(transfer) = &self.sink {
            let response = transfer.failed(error);
            self.fail(response);
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.sink, Sink::Waiting(..))
    }

    /// Nothing more is on its way.
    pub(super) fn is_complete(&self) -> bool {
        self.unsolicited.is_none()
            && self.bursts.is_empty()
            && (self.failed.is_some() || self.next >= self.total || self.is_waiting())
    }
}

pub(super) enum Source {
    Medium(Transfer),
    Memory(Bytes),
}

/// Data on their way out.
pub(super) struct Outgoing {
    pub(super) source: Source,
    pub(super) length: u32,
    pub(super) sent: u32,
    pub(super) data_sn: Serial,
    pub(super) in_burst: u32,
    pub(super) status: scsi::Status,
    pub(super) sense: Vec<u8>,
    pub(super) residual: Residual,
}

impl<V> Task<V> {
    /// RFC 7143, 11.4.5.2: what is left of the expected length when the command would move so many octets.
    pub(super) fn residual(&self, would_be: u32) -> Residual {
        match would_be.checked_sub(self.expected) {
            Some(0) => Residual::None,
            Some(over) => Residual::Overflow(over),
            None => Residual::Underflow(self.expected - would_be),
        }
    }

    pub(super) fn is_of(&self, unit: &Arc<Unit<V>>) -> bool {
        self.seat.as_ref().is_some_and(|seat| Arc::ptr_eq(&seat.unit, unit))
    }
}
